# SPDX-License-Identifier: MIT
"""What tracing costs a server under load."""
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass

from common import PROGRAM, Failed, environment, fixture, median, progress, spawn, spread

METHOD = """
The shop fixture (release, 2 workers) under wrk on the same machine. Servers of all ways live at the same time; wrk
visits them in turns of 1 s, each round in another order; some rounds later all are started anew. Requests per second are
too noisy where others work on the same cores, CPU time is not: of each turn, the CPU time of server, companion and wrk by the kernel's
clocks of these processes, over the requests served in it. Where the cores are saturated, requests per second are cores / CPU time of a
request, so lost = 1 - plain / traced, of the CPU time of all three. "more" is the server's alone. Each is paired within its round; median over rounds, in
brackets the 95 % interval of that median (bootstrap). "hooks only" was started paused, and never
resumed; "no hooks" (--filter '!*') has nothing patched. by wrk: what wrk itself saw lost, from the least to the most.
"""

HERE = pathlib.Path(__file__).resolve().parent
LOADS = [
    ("/", ["-t1", "-c16"]),
    ("mix", ["-t1", "-c64", "-s", str(HERE / "mix.lua")]),
]
WAYS = {
    "plain": None,
    "recording": [],
    "hooks only": ["--paused"],
    "no hooks": ["--filter", "!*"],
}
AIMS = {"recording": "<= 2", "hooks only": "<= 0.5"}
ROUNDS_OF_A_START = 4


@dataclass
class Turn:
    """One second of one server; CPU times in microseconds per request."""

    rate: float
    server: float
    companion: float
    wrk: float

    @property
    def all(self):
        return self.server + self.companion + self.wrk


def cpu_of(pid):
    """Seconds that a process and all its threads, living and dead, have computed: CPUCLOCK_SCHED."""
    return time.clock_gettime(~pid << 3 | 2) if pid else 0.0


def children(pid):
    try:
        return [int(p) for p in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


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


class Server:
    """A shop, in one of the ways, until end()."""

    def __init__(self, way, work):
        self.out, self.raw = work / f"{way}.out", work / f"{way}.raw"
        self.out.unlink(missing_ok=True)
        words, options = [fixture("shop"), "--workers", "2"], WAYS[way]
        if options is not None:
            words = [PROGRAM, "run", "-q", "--format", "raw", "-o", self.raw, *options, "--", *words]
        before = set(children(os.getpid()))
        self.start = time.perf_counter()
        self.pid = spawn(words, environment(work / "cache"), self.out)
        self.address = listening(self.out, self.pid)
        self.server, self.companion = self.pid, 0
        if options is not None:
            self.server = children(self.pid)[0]
            # Orphans are ours (adopt_orphans).
            self.companion = next(iter(set(children(os.getpid())) - before - {self.pid}), 0)
        if options is not None and not self.companion:
            raise Failed("the server has no companion")

    def turn(self, load):
        before = cpu_of(self.server), cpu_of(self.companion), wrks_cpu()
        served, rate = wrk(load, self.address, 1)
        after = cpu_of(self.server), cpu_of(self.companion), wrks_cpu()
        return Turn(rate, *(1e6 * (b - a) / served for a, b in zip(before, after)))

    def end(self):
        os.kill(self.pid, signal.SIGTERM)
        _, status, _ = os.wait4(self.pid, 0)
        if status:
            raise Failed(f"the server ended with status {status:#x}")
        if self.companion:
            os.waitpid(self.companion, 0)
        served = int(re.search(r"served (\d+) requests", self.out.read_text()).group(1))
        size = self.raw.stat().st_size if self.raw.exists() else 0
        self.raw.unlink(missing_ok=True)
        return size / served


def wrks_cpu():
    """Of all children that have been waited for: only differences mean something."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def wrk(words, address, seconds):
    """How many requests were served, and how many per second."""
    line = ["wrk", *words, f"-d{seconds}s", f"http://{address}/"]
    ended = subprocess.run(line, capture_output=True, text=True, check=False)
    said = ended.stdout
    if ended.returncode or "Non-2xx" in said or "Socket errors" in said:
        raise Failed(f"wrk met errors:\n{said}{ended.stderr}")
    return (int(re.search(r"(\d+) requests in", said).group(1)),
            float(re.search(r"Requests/sec:\s+([\d.]+)", said).group(1)))


def interval(values, form="{:+.1f}"):
    """The median and the 95 % interval of it, by bootstrap."""
    luck = random.Random(1)
    medians = sorted(median(luck.choices(values, k=len(values))) for _ in range(2000))
    return f"{form.format(median(values))}  ({form.format(medians[50])} to {form.format(medians[1949])})"


def rounds(load, count, work, name):
    """{way: turns}, and the bytes of raw trace per request."""
    turns, sizes = {way: [] for way in WAYS}, {way: [] for way in WAYS}
    for first in range(0, count, ROUNDS_OF_A_START):
        servers = {}
        try:
            for way in WAYS:
                servers[way] = Server(way, work)
                servers[way].turn(load)  # not counted: it warms up
            for at in range(first, min(first + ROUNDS_OF_A_START, count)):
                order = list(WAYS)[at % len(WAYS):] + list(WAYS)[:at % len(WAYS)]
                progress(f"shop, {name}: round {at + 1} of {count}")
                for way in order if at % 2 else order[::-1]:
                    turns[way].append(servers[way].turn(load))
        finally:
            for way, server in servers.items():
                sizes[way].append(server.end())
    progress("")
    return turns, sizes


def shop(report, settings, work):
    report.section("A server under load", METHOD)
    if not shutil.which("wrk"):
        report.line("Left out: wrk is not installed.")
        return
    first = Server("recording", work)  # makes the map
    first.turn(LOADS[0][1])
    first.end()
    rows = []
    for name, load in LOADS:
        turns, sizes = rounds(load, settings.turns, work, name)
        for way in WAYS:
            pairs = list(zip(turns[way], turns["plain"]))
            lost = [100 - 100 * p.all / t.all for t, p in pairs]
            more = [100 * t.server / p.server - 100 for t, p in pairs]
            seen = [100 - 100 * t.rate / p.rate for t, p in pairs]
            other = way != "plain"
            rows.append([name, way, f"{median(t.server for t in turns[way]):.2f}",
                         f"{median(t.companion for t in turns[way]):.2f}",
                         f"{median(t.wrk for t in turns[way]):.2f}", interval(more) if other else "",
                         interval(lost) if other else "", AIMS.get(way, ""),
                         spread(seen, "{:+.0f}") if other else "",
                         f"{median(sizes[way]):,.0f}"])
    report.table(["load", "way", "server, us", "companion, us", "wrk, us", "server more, %", "lost, %",
                  "aim (lost)", "by wrk, %", "raw bytes/request"], rows)
    report.line(f"\n{settings.turns} rounds.")
