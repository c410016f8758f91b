# SPDX-License-Identifier: MIT
"""Reading debug info, and what is left of it at a program's start once the map is kept."""
import os
import re
import shutil
import signal
import struct
import time

from common import (
    FIXTURES,
    LIBRARY,
    PROGRAM,
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

MAP_METHOD = """
`asyncflame map --filter '!*' OBJECT`, which reads everything and prints next to nothing, from the start of the
process to its end; it never takes a kept map. Object in the page cache. first start = the same program
(a server) under `asyncflame run` until it listens, with an empty cache; later start = with the map kept.
gdb, where installed: `gdb -batch -ex 'info functions poll'` on the same file, once.
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


def fresh(cache):
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir(mode=0o700)


def map_speed(report, settings, work):
    report.section("Reading debug info", MAP_METHOD)
    objects = list(FIXTURES.glob("*/shop"))
    if not objects:
        raise Failed("there are no fixtures")
    biggest = max(objects, key=debug_info)
    size = debug_info(biggest) / 1e6
    words = [PROGRAM, "map", "--filter", "!*", biggest]
    cache, raw = work / "map-cache", work / "map.raw"
    served = [PROGRAM, "run", "-q", "--format", "raw", "-o", raw, biggest]
    gdb = None
    if shutil.which("gdb"):
        progress("gdb")
        line = ["gdb", "-nx", "-batch", "-ex", "info functions poll", biggest]
        gdb = run(line, environment(cache), err=os.devnull).wall
    every = os.sched_getaffinity(0)
    rows = []
    for cores in sorted({1, len(every)}):
        os.sched_setaffinity(0, sorted(every)[-cores:])
        try:
            whole, first, later = [], [], []
            for count in range(settings.maps):
                progress(f"map, {cores} core(s): {count + 1} of {settings.maps}")
                whole.append(run(words, environment(cache)).wall)
                fresh(cache)
                first.append(until_listening(served, environment(cache), work))
                later.append(until_listening(served, environment(cache), work))
                raw.unlink(missing_ok=True)
        finally:
            os.sched_setaffinity(0, every)
        progress("")
        rows.append(
            [
                cores,
                spread([1e3 * w for w in whole], "{:.1f}"),
                spread([size / w for w in whole], "{:.0f}"),
                f"{gdb / median(whole):.0f} x" if gdb and cores == 1 else "",
                spread([1e3 * f for f in first], "{:.1f}"),
                spread([1e3 * e for e in later], "{:.1f}"),
                ">= 200 MB/s, gdb >= 40 x" if cores == 1 else "",
            ]
        )
    report.table(
        ["cores", "map, ms", "MB/s", "gdb takes", "first start, ms", "later start, ms", "aim"], rows
    )
    where = biggest.relative_to(FIXTURES)
    gdb_says = f"gdb took {gdb:.2f} s" if gdb else "gdb is not installed"
    report.line(f"\n{where}: {size:.1f} MB of .debug_info; {gdb_says}. {settings.maps} rounds.")


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
    report.table(
        ["program", "debug info, MB", "way", "plain, ms", "traced, ms", "added, ms", "aim"], rows
    )
    report.line(f"\n{settings.starts} rounds.")
