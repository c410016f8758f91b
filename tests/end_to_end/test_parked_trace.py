# SPDX-License-Identifier: MIT
"""Where tasks wait when the program ends, as the trace says, against what the program itself says (parked.py):
nothing wrong, and what is missing written down."""
import collections
import os
import re
import signal
import time

import pytest

import trace_check
from conftest import PROGRAM, clean_environment, fixture
from parked import PARTS, once, parked, tail, trace_of, without_generics

BUILDS = ["debug", "release", "debian-debug", "debian-release"]
RUNS = [(build, variant) for build in BUILDS + ["lto", "debian-lto"]
        for variant in ("tokio", "tokio-current", "smol", "async-std", "own")]

LEAF = "leaf"


class Account:
    """The program's own: ways from the task to each leaf, as tuples of (function, file, line)."""

    def __init__(self, tasks):
        self.kinds = {label: task["kind"] for label, task in tasks.items()}
        self.lines = collections.defaultdict(set)
        self.expected = {}
        for label, task in tasks.items():
            if task["kind"] != "blocking":
                self.expected[label] = [summed_up([way for node in task["stack"]
                                                   for way in self.ways(node, hides)])
                                        for hides in (False, True)]

    def ways(self, node, hides):
        if "leaf" in node:
            return [(LEAF,)]
        frame = (node["function"], tail(node["file"]), node["line"])
        self.lines[frame[0]].add((node["line"], node["last_line"]))
        below = [way for child in node["children"] for way in self.ways(child, hides)]
        if not below or hides and node["opaque"]:
            below = [()]
        return [(frame,) + way for way in below]

    def line(self, function, line):
        """An await that is written on several lines is called by its first."""
        return next((first for first, last in self.lines[function] if first <= line <= last), line)


def summed_up(ways):
    """The ways to leaves, each as often as there is one; of those that end at something else, the longest."""
    leaves = collections.Counter(way for way in ways if way[-1] == LEAF)
    ends = {way for way in ways if way and way[-1] != LEAF}
    longest = {way for way in ends
               if not any(other[:len(way)] == way and other != way for other in ends | set(leaves))}
    return (frozenset(leaves.items()), frozenset(longest))


def way_of(stack, crate, account):
    """A stack of the trace with only the program's own frames and leaves."""
    way = []
    for level in stack:
        if level.startswith(f"{crate}::oracle::Never"):
            return tuple(way) + (LEAF,)
        name, _, place = level.partition(" at ")
        if name.startswith((f"{crate}::", f"<{crate}::")) and place and "(not started)" not in name:
            path, _, line = place.rpartition(":")
            function = without_generics(name)
            way.append((function, tail(path), account.line(function, int(line))))
    return tuple(way)


def seen_in(trace, crate, account, which="open"):
    """Of every wait that ended so, and has frames of the program's own."""
    for wait in trace.waits:
        args = wait["args"]
        if args.get(which):
            assert "more" not in args
            stacks = [args["stack"]] + args.get("also", []) if "stack" in args else []
            ways = [way_of(stack, crate, account) for stack in stacks]
            seen = summed_up([way for way in ways if way])
            if seen != summed_up([]):
                yield args["task"], seen


def compare(tasks, trace, crate):
    """What was expected and not seen: {label: (kind, ways)}; what was seen of nobody; how many agree. Where several
    stand alike, those are missing that may be."""
    account = Account(tasks)
    left = dict(account.expected)
    wrong, right = [], 0
    for number, seen in seen_in(trace, crate, account):
        label = next((label for label, either in left.items() if seen in either), None)
        if label is None:
            wrong.append((number, seen))
        else:
            del left[label]
            right += 1
    return {label: (account.kinds[label], ways[0]) for label, ways in left.items()}, wrong, right


def is_part(seen, expected):
    """Whether all ways that were seen are on the way to something that was expected."""
    ends = {way for way, _ in expected[0]} | expected[1]
    return all(any(end[:len(way)] == way for end in ends)
               for way in {way for way, _ in seen[0]} | seen[1])


def run_parked(tmp_path, tmp_path_factory, cache, build, variant, end, words=(), trace="t.json", arguments=(),
               **more):
    name = "parked-" + variant.removesuffix("-current")
    env = clean_environment(tmp_path_factory.mktemp("runtime"))
    env.update(more, ASYNCFLAME_CACHE=str(cache))
    if variant.endswith("-current"):
        env["PARKED_CURRENT_THREAD"] = "1"
    under = [PROGRAM, "-q", *words, "-o", tmp_path / "t.json"]
    with parked(fixture(build, name), *arguments, env=env, under=under) as program:
        end(program)
        program.process.wait(timeout=120)
    return program.tasks, trace_check.check(tmp_path / trace), name.replace("-", "_")


def end_in_order(program):
    program.process.stdin.close()


@pytest.mark.parametrize("build, variant", RUNS)
def test_open_waits_agree(tmp_path, tmp_path_factory, cache, build, variant):
    tasks, trace, crate = run_parked(tmp_path, tmp_path_factory, cache, build, variant, end_in_order)
    missing, wrong, right = compare(tasks, trace, crate)
    assert not wrong and not missing
    assert right > 150


@pytest.mark.parametrize("build, least", [("debug", 5), ("release", 3)])
def test_what_block_on_drives(tmp_path, tmp_path_factory, cache, build, least):
    """With nothing hooked, as where all is inlined: the futures of block_on have lines of their own."""
    tasks, trace, crate = run_parked(tmp_path, tmp_path_factory, cache, build, "tokio", end_in_order,
                                     ["--filter", "nothing::at_all"])
    driven = {label: task for label, task in tasks.items() if task["kind"] == "block_on"}
    missing, wrong, right = compare(driven, trace, crate)
    assert not wrong and right == len(driven) - len(missing) >= least and not trace.polls
    # Where it waits for the first time, the wait's begin is known, too.
    assert all(wait["args"]["open"] for wait in trace.waits if "unknown_begin" in wait["args"])


def test_tokio_says_the_same(tmp_path, tmp_path_factory, cache):
    """Against tokio's own Handle::dump of the same tasks: each of its stacks is one that a task waits at, or its
    outer part."""
    theirs = []

    def ask(program):
        program.command("taskdump")
        theirs.extend(program.answer()["tasks"])
        program.process.stdin.close()

    tasks, trace, crate = run_parked(tmp_path, tmp_path_factory, cache, "taskdump", "tokio", ask)
    account = Account(tasks)
    ours = collections.Counter()
    for wait in trace.waits:
        if wait["args"].get("open") and "stack" in wait["args"]:
            stacks = [wait["args"]["stack"]] + wait["args"].get("also", [])
            ways = {tuple(once((PARTS.sub("", frame[0]), frame[2]) for frame in way if frame != LEAF))
                    for way in (way_of(stack, crate, account) for stack in stacks)}
            ours.update({way[:n] for way in ways for n in range(1, len(way) + 1)})
    told = collections.Counter()
    for task in theirs:
        told.update({trace_of(frames, crate) for frames in task["traces"]} - {()})
    assert sum(told.values()) > 30
    assert not told - ours


def host_of(program):
    """The process that the wrapper has started."""
    with open(f"/proc/{program.pid}/task/{program.pid}/children", encoding="ascii") as children:
        return int(children.read().split()[0])


def seen_some_time(run):
    """What is looked at while the program runs, and nothing moves: how long that takes, depends."""
    for seconds in (1, 4, 16, 64):
        missing, wrong, right = compare(*run(seconds))
        assert not wrong
        if right > 150 and not missing:
            return
    assert not missing


@pytest.mark.parametrize("build, variant", [("debug", "tokio"), ("release", "smol")])
def test_killed(tmp_path, tmp_path_factory, cache, build, variant):
    def run(seconds):
        def kill(program):
            time.sleep(seconds)
            os.kill(host_of(program), signal.SIGKILL)

        return run_parked(tmp_path, tmp_path_factory, cache, build, variant, kill)

    seen_some_time(run)


def test_snapshot(tmp_path, tmp_path_factory, cache):
    """What was seen is in a flight recorder's snapshots too."""
    def run(seconds):
        def ask(program):
            (tmp_path / "t.1.json").unlink(missing_ok=True)
            time.sleep(seconds)
            program.process.send_signal(signal.SIGUSR2)
            while not (tmp_path / "t.1.json").exists():
                time.sleep(0.05)
            program.process.stdin.close()

        return run_parked(tmp_path, tmp_path_factory, cache, "release", "own", ask,
                          ["--flight-recorder", "16M"], "t.1.json")

    seen_some_time(run)


@pytest.mark.parametrize("build", BUILDS + ["lto", "debian-lto"])
@pytest.mark.parametrize("variant", ["tokio", "tokio-current"])
def test_dropped_tasks(tmp_path, tmp_path_factory, cache, build, variant):
    """A runtime that is dropped: where each task stood then. Futures in lists and behind shared pointers are not
    followed, and not more than 8 branches; but none is taken for another's."""

    def shut_down(program):
        program.command("shutdown")

    tasks, trace, crate = run_parked(tmp_path, tmp_path_factory, cache, build, variant, shut_down,
                                     PARKED_UNTIL="1")
    account = Account(tasks)
    left = {label: ways for label, ways in account.expected.items() if account.kinds[label] == "tokio"}
    right, strange = 0, []
    for number, seen in seen_in(trace, crate, account, "dropped"):
        label = (next((label for label, either in left.items() if seen in either), None) or
                 next((label for label, either in left.items() if is_part(seen, either[0])), None))
        if label is None:
            strange.append((number, seen))
        else:
            right += seen in left.pop(label)
    assert not strange
    assert not left and right > 170


def shape_of(way):
    """A stack as the program itself writes it."""
    return " ".join(f"{frame[0]}:{frame[2]}" for frame in way if frame != LEAF)


@pytest.mark.parametrize("build", ["debug", "release", "debian-debug"])
@pytest.mark.parametrize("end", ["shutdown", "exit"])
def test_no_torn_stack(tmp_path, tmp_path_factory, cache, build, end):
    """Tasks that never stand still, whose runtime is dropped while its threads poll them, or that are read while
    the program ends: whatever is shown is a stack that there has been, or its outer part where that is all that is
    known."""
    shapes = set()

    def stop(program):
        time.sleep(0.5)
        program.command("shapes")
        shapes.update(program.answer()["shapes"])
        if end == "shutdown":
            program.command("shutdown")
        else:
            program.process.stdin.close()

    _, trace, crate = run_parked(tmp_path, tmp_path_factory, cache, build, "tokio", stop,
                                 ["--flight-recorder", "4M"], arguments=["--churn", "40"], PARKED_UNTIL="1")
    account = Account({})
    stacks = collections.Counter(
        shape_of(way_of(stack, crate, account)) for wait in trace.waits
        for stack in [wait["args"].get("stack", [])] + wait["args"].get("also", []))
    stacks = {stack: n for stack, n in stacks.items() if f"{crate}::many::moves:" in stack}
    assert len(shapes) > 5 and sum(stacks.values()) > 20
    whole = [stack for stack in stacks if stack in shapes]
    assert len(whole) > 5
    parts = [shape[:end.start()] for shape in shapes for end in re.finditer(" |$", shape)]
    assert not set(stacks) - set(parts), "never stood so"
