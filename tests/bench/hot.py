# SPDX-License-Identifier: MIT
"""The cost of an entry and an exit on a hot poll function, and what others take for the same."""
import json
import re
import shutil
import subprocess

from common import PROGRAM, Failed, environment, fixture, median, progress, run, spread

METHOD = """
`hot N` polls one future N times in a tight loop, in 15 rounds, and in turn with it a function of the
same shape that nobody hooks (base) and two time stamps with two 16-byte stores into a ring (floor),
all in one process. pair = hooked - base. The records are drained to a file on disk while it runs (32
bytes per poll). Processes with and without asyncflame alternate; medians over processes (least to most).
A pair can cost less than the floor: what the function itself does goes on behind the time stamps. A
debug build shows this most.
"""


def measure(words, env, out, err=None):
    run(words, env, out, err)
    figures = json.loads(out.read_text())
    figures["ratio"] = figures["pair_ns"] / figures["floor_ns"]
    return figures


def traced(program, polls, work):
    """Runs it under asyncflame; returns its figures, having seen that no poll is missing."""
    out, raw, said = work / "hot.json", work / "hot.raw", work / "hot.err"
    words = [PROGRAM, "run", "--format", "raw", "-o", raw, program, polls]
    figures = measure(words, environment(work / "cache"), out, said)
    raw.unlink()
    # The summary is made after the program's end, from the recording.
    summary = said.read_text()
    seen = re.search(r"([\d,]+) polls of", summary)
    if not seen or int(seen.group(1).replace(",", "")) != polls or "LOST" in summary:
        raise Failed(f"not all of {polls:,} polls are in the recording:\n{summary}")
    return figures


def hot(report, settings, work):
    report.section("Hot pair", METHOD)
    rows = []
    for profile in ("release", "debug"):
        program = fixture("hot", profile)
        polls = settings.polls
        traced(program, polls, work)  # makes the map
        plain, under = [], []
        for count in range(settings.processes):
            progress(f"hot, {profile}: {count + 1} of {settings.processes}")
            plain.append(measure([program, polls], environment(work / "cache"), work / "hot.json"))
            under.append(traced(program, polls, work))
        progress("")
        rows.append(
            [
                profile,
                spread(f["floor_ns"] for f in under),
                spread(f["base_ns"] for f in under),
                spread(f["pair_ns"] for f in under),
                spread(f["pair_ns"] for f in plain),
                spread(f["ratio"] for f in under),
                "<= 2, later <= 1.15" if profile == "release" else "",
            ]
        )
    report.table(
        ["build", "floor, ns", "base, ns", "pair, ns", "untraced", "pair / floor", "aim"], rows
    )
    report.line(
        f"\n{settings.processes} processes of {settings.polls:,} polls each; every recording"
        " holds every poll (checked against its summary)."
    )


UFTRACE_METHOD = """
The same function under `uftrace record -P 'Hot.*poll'` (dynamic patching, no argument capture), both
to files, processes alternating.
"""


def uftrace(report, settings, work):
    report.section("Against uftrace", UFTRACE_METHOD)
    if not shutil.which("uftrace"):
        report.line("Left out: uftrace is not installed.")
        return
    program = fixture("hot")
    polls, data, out = settings.polls // 2, work / "uftrace", work / "hot.json"
    words = ["uftrace", "record", "-P", "Hot.*poll", "-d", data, program, polls]
    ours, theirs = [], []
    for count in range(settings.processes):
        progress(f"uftrace: {count + 1} of {settings.processes}")
        ours.append(traced(program, polls, work))
        theirs.append(measure(words, environment(work / "cache"), out))
        shutil.rmtree(data, ignore_errors=True)
    progress("")
    if median(f["pair_ns"] for f in theirs) < 5:
        raise Failed("uftrace has not patched the function")
    version = subprocess.run(["uftrace", "--version"], capture_output=True, text=True, check=False)
    ratios = [t["pair_ns"] / o["pair_ns"] for o, t in zip(ours, theirs)]
    report.table(
        ["tracer", "pair, ns", "pair / floor", "times ours", "aim"],
        [
            [
                "asyncflame",
                spread(f["pair_ns"] for f in ours),
                spread(f["ratio"] for f in ours),
                "1",
                "",
            ],
            [
                " ".join(version.stdout.split()[:2]) or "uftrace",
                spread(f["pair_ns"] for f in theirs),
                spread(f["ratio"] for f in theirs),
                spread(ratios, "{:.1f}"),
                "later >= 5",
            ],
        ],
    )
