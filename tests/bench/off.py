# SPDX-License-Identifier: MIT
"""What hooks cost while recording is off."""
import json

from common import PROGRAM, environment, median, progress, run, spread
from many import build

METHOD = """
The programs and the way of "Many hot functions", in turns started paused (--paused) and recording. What a server loses to hooks
that are off is too little to be seen among its noise: polls per request * off / CPU time per request says it.
"""


def off(report, settings, work):
    report.section("Hooks while recording is off", METHOD)
    program, rows = build(), []
    env, out = environment(work / "cache"), work / "off.json"
    for used in 1, 64, 1_000, 20_000:
        figures = {"off": [], "on": []}
        for count in range(settings.processes + 1):
            progress(f"{used} functions: {count} of {settings.processes}")
            for way, options in ("off", ["--paused"]), ("on", []):
                words = [PROGRAM, "run", "-q", "--format", "raw", "-o", work / "off.raw", *options, program,
                         used, settings.polls // 15]
                run(words, env, out, work / "off.err")
                if count:  # the first makes the map
                    figures[way].append(json.loads(out.read_text()))
        progress("")
        base = median(f["base_ns"] for f in figures["off"])
        rows.append([f"{used:,}", f"{base:.2f}", spread(f["pair_ns"] for f in figures["off"]),
                     spread(f["pair_ns"] for f in figures["on"])])
    report.table(["functions", "base, ns", "off, ns over base", "on, ns over base"], rows)
