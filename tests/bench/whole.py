# SPDX-License-Identifier: MIT
"""What a poll costs from end to end: until the file that holds the recording is complete."""
import json

from common import PROGRAM, Failed, environment, fixture, progress, run, spread

METHOD = """
`hot` with few and with many polls (a ninth), alone and recorded into a raw file on disk; the wall time is that from the start
of `asyncflame` to its end, when the file is complete (written, not forced to the medium by fsync, which no tracer waits for). Per poll:
what the larger run takes longer than the smaller, traced less untraced, so start and end cancel out. The four
take turns; medians over rounds. Every file is as large as its polls (32 bytes each and what describes them).
"""


def wall(words, env, out, err):
    """Seconds by the clock, of CPU, and the floor that the program has measured meanwhile."""
    ended = run(words, env, out, err)
    return (ended.wall, ended.cpu + ended.orphans_cpu), json.loads(out.read_text())["floor_ns"]


def whole(report, settings, work):
    report.section("End to end", METHOD)
    program, many = fixture("hot"), settings.polls * 3
    few = many // 9
    env, out, raw = environment(work / "cache"), work / "hot.json", work / "whole.raw"
    under = [PROGRAM, "run", "-q", "--format", "raw", "-o", raw]
    each, cpu, floors, ratios = [], [], [], []
    for count in range(settings.processes + 1):
        progress(f"end to end: {count} of {settings.processes}")
        seconds, floor = {}, 0
        for polls in few, many:
            for way, words in ("plain", []), ("traced", under):
                seconds[way, polls], floor = wall([*words, program, polls], env, out, work / "whole.err")
                if words:
                    size = raw.stat().st_size
                    raw.unlink()
                    if not 32 * polls <= size < 33 * polls + 100_000:
                        raise Failed(f"the recording of {polls:,} polls has {size:,} bytes")
        if not count:  # the first makes the map
            continue
        added = [sum(sign * seconds[way, polls][clock] for way, polls, sign in (
            ("traced", many, 1), ("plain", many, -1), ("traced", few, -1), ("plain", few, 1)))
                 / (many - few) * 1e9 for clock in (0, 1)]
        each.append(added[0])
        cpu.append(added[1])
        floors.append(floor)
        ratios.append(each[-1] / floor)
    progress("")
    report.table(["polls", "floor, ns", "pair, ns", "pair / floor", "CPU of all processes, ns", "aim"],
                 [[f"{many:,}", spread(floors), spread(each), spread(ratios), spread(cpu), "<= 1.4"]])
