# SPDX-License-Identifier: MIT
"""What tracing costs a server under load."""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass

from common import (
    PROGRAM,
    Failed,
    environment,
    finish,
    fixture,
    median,
    progress,
    spawn,
    spread,
)

METHOD = """
The shop fixture (release, 2 workers) under wrk on the same machine, so that load generator, server and
companion share its cores. Each turn starts a server of its own, warms it up for 1 s and measures it;
the three ways (plain; recording everything into a raw file; `--filter '!*'`, which hooks nothing) take
turns, each round in another order. lost = 1 - traced / plain within a round. CPU is that of all processes but
wrk's, from start to end, per request served: start-up included.
"""

HERE = pathlib.Path(__file__).resolve().parent
LOADS = [
    ("/", ["-t1", "-c16"]),
    ("mix", ["-t1", "-c64", "-s", str(HERE / "mix.lua")]),
]


@dataclass
class Turn:
    rate: float
    cpu: float  # microseconds per request
    companion: float  # of these, the companion's
    raw: int
    served: int


def listening(out, pid):
    """The address, once the server has printed it."""
    for _ in range(4000):
        found = re.match(r"listening on (\S+)\n", out.read_text() if out.exists() else "")
        if found:
            return found.group(1)
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
        time.sleep(0.005)
    raise Failed("the server has not come up")


def wrk(words, address, seconds):
    line = ["wrk", *words, f"-d{seconds}s", f"http://{address}/"]
    ended = subprocess.run(line, capture_output=True, text=True, check=False)
    said = ended.stdout
    if ended.returncode or "Non-2xx" in said or "Socket errors" in said:
        raise Failed(f"wrk met errors:\n{said}{ended.stderr}")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", said).group(1))


def turn(way, load, settings, work):
    out, raw = work / "shop.out", work / "shop.raw"
    out.unlink(missing_ok=True)
    raw.unlink(missing_ok=True)
    words = [fixture("shop"), "--workers", "2"]
    if way != "plain":
        options = ["-q", "--format", "raw", "-o", raw]
        options += ["--filter", "!*"] if way == "no hooks" else []
        words = [PROGRAM, "run", *options, "--", *words]
    start = time.perf_counter()
    pid = spawn(words, environment(work / "cache"), out)
    try:
        address = listening(out, pid)
        wrk(load, address, 1)
        rate = wrk(load, address, settings.seconds)
    finally:
        os.kill(pid, signal.SIGTERM)
        ended = finish(pid, start)
    if ended.status != 0:
        raise Failed(f"the server ended with status {ended.status}")
    served = int(re.search(r"served (\d+) requests", out.read_text()).group(1))
    size = raw.stat().st_size if raw.exists() else 0
    raw.unlink(missing_ok=True)
    each = 1e6 / served
    return Turn(rate, (ended.cpu + ended.orphans_cpu) * each, ended.orphans_cpu * each, size, served)


def shop(report, settings, work):
    report.section("A server under load", METHOD)
    if not shutil.which("wrk"):
        report.line("Left out: wrk is not installed.")
        return
    ways = ["plain", "recording", "no hooks"]
    turn("recording", LOADS[0][1], settings, work)  # makes the map
    rows = []
    for name, load in LOADS:
        turns = {way: [] for way in ways}
        for count in range(settings.pairs):
            shift = count % len(ways)
            for way in ways[shift:] + ways[:shift]:
                progress(f"shop, {name}: round {count + 1} of {settings.pairs}, {way}")
                turns[way].append(turn(way, load, settings, work))
        progress("")
        for way in ways:
            lost = [100 - 100 * t.rate / p.rate for t, p in zip(turns[way], turns["plain"])]
            more = [100 * t.cpu / p.cpu - 100 for t, p in zip(turns[way], turns["plain"])]
            rows.append(
                [
                    name,
                    way,
                    spread([t.rate for t in turns[way]], "{:,.0f}"),
                    "" if way == "plain" else spread(lost, "{:+.1f}"),
                    spread([t.cpu for t in turns[way]], "{:.2f}"),
                    "" if way == "plain" else spread(more, "{:+.1f}"),
                    f"{median(t.companion for t in turns[way]):.2f}",
                    f"{median(t.raw / t.served for t in turns[way]):,.0f}",
                    {"plain": "", "recording": "<= 5, later <= 2", "no hooks": "<= 0.5"}[way],
                ]
            )
    report.table(
        [
            "load",
            "way",
            "requests/s",
            "lost, %",
            "CPU/request, us",
            "CPU more, %",
            "companion, us",
            "raw bytes/request",
            "aim (lost, %)",
        ],
        rows,
    )
    report.line(f"\n{settings.pairs} rounds, {settings.seconds} s each.")
