# SPDX-License-Identifier: MIT
"""Reading debug info, and what is left of it at a program's start once the map is kept."""
import os
import re
import shutil
import signal
import struct
import subprocess
import time

import services
from common import (
    BUILD,
    FIXTURES,
    LIBRARY,
    PROGRAM,
    REPOSITORY,
    Failed,
    environment,
    finish,
    fixture,
    median,
    progress,
    run,
    spawn,
    spread,
)

BARE_WALK = BUILD / "tests" / "tools" / "bare_walk"
INDEX_PASS = BUILD / "tests" / "tools" / "index_pass"

MAP_METHOD = """
`asyncflame map --filter '!*' OBJECT`, which reads everything and prints next to nothing, as a whole process;
it never takes a kept map. Objects in the page cache. CPU = user and system time, which other work on the
machine changes less than wall time. bare walk = build/tests/tools/bare_walk on the same file in the same round:
decodes the abbreviations, passes over every DIE, does nothing else. index pass = tools/index_pass: the
analysis up to where the linear pass over .debug_info ends. peak = the most RssAnon seen, so
without pages of mapped files. gdb, where installed: `gdb -batch -ex 'info functions poll'` on the same file, once,
its CPU against ours. services is generated (tests/bench/services.py); what lies in build/bench/real/bin is measured as well.
"""


def debug_info(path):
    """Bytes of .debug_info in a 64-bit little-endian ELF file, as they lie in it."""
    data = path.read_bytes()
    (start,) = struct.unpack_from("<Q", data, 40)
    size, count, names = struct.unpack_from("<HHH", data, 58)
    heads = [struct.unpack_from("<IIQQQQIIQQ", data, start + size * at) for at in range(count)]
    for head in heads:
        name = heads[names][4] + head[0]
        if data[name : data.index(b"\0", name)] == b".debug_info":
            return head[5]
    return 0


def objects():
    """The fixture with the most debug info, the generated program, and real ones that are there."""
    fixtures = list(FIXTURES.glob("*/shop"))
    if not fixtures:
        raise Failed("there are no fixtures")
    biggest = max(fixtures, key=debug_info)
    yield str(biggest.relative_to(FIXTURES)), biggest
    yield "services", services.build()
    for path in sorted((REPOSITORY / "build" / "bench" / "real" / "bin").glob("*")):
        yield path.name, path


def anonymous_peak(words, env):
    """MB of the process's own memory, at most; looked at often."""
    peak = 0
    with subprocess.Popen([str(w) for w in words], env=env, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            try:
                with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
                    for line in status:
                        if line.startswith("RssAnon:"):
                            peak = max(peak, int(line.split()[1]))
            except OSError:
                pass
            time.sleep(0.0005)
    return peak / 1024


def map_speed(report, settings, work):
    report.section("Reading debug info", MAP_METHOD)
    every = sorted(os.sched_getaffinity(0))
    env = environment(work / "map-cache")
    rows = []
    for name, path in objects():
        size = debug_info(path) / 1e6
        words = [PROGRAM, "map", "--filter", "!*", path]
        bare, index, one, all_cores = [], [], [], []
        run([BARE_WALK, path], env)
        for count in range(settings.maps):
            progress(f"map, {name}: {count + 1} of {settings.maps}")
            os.sched_setaffinity(0, every[-1:])
            try:
                bare.append(run([BARE_WALK, path], env))
                index.append(run([INDEX_PASS, path], env))
                one.append(run(words, env))
            finally:
                os.sched_setaffinity(0, every)
            all_cores.append(run(words, env))
        gdb = ""
        if shutil.which("gdb"):
            progress(f"gdb, {name}")
            line = ["gdb", "-nx", "-batch", "-ex", "info functions poll", path]
            cpu = run(line, env, err=os.devnull).cpu
            gdb = f"{cpu / median(r.cpu for r in one):.0f} x ({cpu:.1f} s)"
        progress("")
        rows.append(
            [
                name,
                f"{size:.1f}",
                spread([1e3 * r.wall for r in one], "{:.0f}"),
                spread([1e3 * r.cpu for r in one], "{:.0f}"),
                spread([size / r.cpu for r in one], "{:.0f}"),
                spread([1e3 * r.cpu for r in bare], "{:.0f}"),
                spread([i.cpu / b.cpu for i, b in zip(index, bare)], "{:.2f}"),
                spread([o.cpu / b.cpu for o, b in zip(one, bare)], "{:.2f}"),
                spread([1e3 * r.wall for r in all_cores], "{:.0f}"),
                f"{anonymous_peak(words, env):.0f}",
                gdb,
            ]
        )
    report.table(
        ["object", "MB", "1 core: wall, ms", "CPU, ms", "MB/s of CPU", "bare walk CPU, ms",
         "index pass / bare", "map / bare", f"{len(every)} cores: wall, ms", "peak, MB", "gdb takes"],
        rows,
    )
    report.line(f"\nAims: >= 200 MB/s, map / bare <= 2.5, peak <= 100 MB, gdb >= 40 x. {settings.maps} rounds.")


START_METHOD = """
Wall time of `ledger-own --tasks 1 --rounds 1` (ends at once), and of the shop until it listens; map kept;
processes in turn. added = the median difference within a round. preload = LD_PRELOAD and variables
only; wrapper = `asyncflame run`, which looks at the program first, waits for it and for the recording
to be complete. "To its end" holds the end of the process as well as its start.
"""


def until_listening(words, env, work):
    out = work / "start.out"
    out.unlink(missing_ok=True)
    start = time.perf_counter()
    pid = spawn(words, env, out)
    try:
        while not re.match(r"listening on \S+\n", out.read_text() if out.exists() else ""):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                raise Failed("the server has not come up")
            time.sleep(0.0002)
        return time.perf_counter() - start
    finally:
        os.kill(pid, signal.SIGTERM)
        finish(pid, start)


def start_up(report, settings, work):
    report.section("Start", START_METHOD)
    cache, raw = work / "cache", work / "start.raw"
    plain = environment(cache)
    preload = environment(
        cache,
        LD_PRELOAD=str(LIBRARY),
        ASYNCFLAME_OUTPUT=str(raw),
        ASYNCFLAME_QUIET="1",
    )
    wrapper = [PROGRAM, "run", "-q", "--format", "raw", "-o", raw, "--"]
    rows = []

    def compare(name, info, time_of, words, aim):
        ways = {
            "plain": (words, plain),
            "preload": (words, preload),
            "wrapper": (wrapper + words, plain),
        }
        times = {way: [] for way in ways}
        time_of(*ways["wrapper"])  # makes the map
        for count in range(settings.starts):
            progress(f"start, {name}: {count + 1} of {settings.starts}")
            for way in list(ways) if count % 2 else list(ways)[::-1]:
                raw.unlink(missing_ok=True)
                times[way].append(1e3 * time_of(*ways[way]))
        progress("")
        for way in ("preload", "wrapper"):
            added = [t - p for t, p in zip(times[way], times["plain"])]
            rows.append(
                [
                    name,
                    f"{info:.1f}",
                    way,
                    f"{median(times['plain']):.2f}",
                    f"{median(times[way]):.2f}",
                    spread(added),
                    aim if way == "preload" else "",
                ]
            )

    for profile in ("release", "debug"):
        program = fixture("ledger-own", profile)
        words = [program, "--tasks", "1", "--rounds", "1", "--quiet"]
        compare(
            f"{profile}/ledger-own, to its end",
            debug_info(program) / 1e6,
            lambda words, env: run(words, env).wall,
            words,
            "<= 5",
        )
    for profile in ("release", "debug"):
        program = fixture("shop", profile)
        compare(
            f"{profile}/shop, listening",
            debug_info(program) / 1e6,
            lambda words, env: until_listening(words, env, work),
            [program],
            "<= 5",
        )
    program = services.build()
    compare(
        "services, listening",
        debug_info(program) / 1e6,
        lambda words, env: until_listening(words, env, work),
        [program],
        "<= 5",
    )
    report.table(
        ["program", "debug info, MB", "way", "plain, ms", "traced, ms", "added, ms", "aim"], rows
    )
    report.line(f"\n{settings.starts} rounds.")
