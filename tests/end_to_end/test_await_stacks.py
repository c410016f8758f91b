# SPDX-License-Identifier: MIT
"""Hundreds of tasks parked at known awaits: what `dump` shows of them, alive and dead, against what the
program itself says (see parked.py): nothing wrong, nothing missing."""
import json
import os
import re
import resource
import subprocess
import time
from collections import Counter

import pytest

from conftest import PROGRAM, fixture
from parked import PARTS, Comparison, Seen, once, parked, trace_of, without_generics

BUILDS = ["debug", "release", "debian-debug", "debian-release"]
RUNS = [(build, variant) for build in BUILDS + ["lto", "debian-lto"]
        for variant in ("tokio", "tokio-current", "smol", "async-std", "own")]


def program_of(build, variant):
    """The program, its environment, and how the crate is called."""
    name = "parked-" + variant.removesuffix("-current")
    env = dict(os.environ)
    if variant.endswith("-current"):
        env["PARKED_CURRENT_THREAD"] = "1"
    return fixture(build, name), env, name.replace("-", "_")


@pytest.fixture
def dump(run):
    """dump(*words): what `asyncflame dump` has printed as JSON."""

    def run_dump(*words):
        ended = run(PROGRAM, "dump", "--format", "json", *words)
        assert ended.status == 0, ended.err
        return json.loads(ended.out)

    return run_dump


def assert_agrees(program, document, crate):
    compared = Comparison(program.tasks, document, crate)
    assert not compared.wrong and not compared.missing, compared.report()
    known = [task for task in program.tasks.values() if task["kind"] != "blocking"]
    assert compared.right["tasks"] >= len(known)
    return compared


@pytest.mark.parametrize("build, variant", RUNS)
def test_dump_agrees(dump, build, variant):
    path, env, crate = program_of(build, variant)
    with parked(path, env=env) as program:
        compared = assert_agrees(program, dump(str(program.pid)), crate)
        assert compared.right["leaves"] > 380
        assert compared.right["awaited types"] > 30
        assert_agrees(program, dump("--freeze", str(program.pid)), crate)


def values_of(document, function):
    """The variables of a function by name, wherever it stands."""
    found = {}

    def walk(node):
        if without_generics(node["name"]) == function:
            found.update((value["name"], value) for value in node["values"])
        for child in node["children"]:
            walk(child)

    for task in document["tasks"]:
        if task["tree"]:
            walk(task["tree"])
    return found


@pytest.mark.parametrize("variant", ["tokio", "own"])
@pytest.mark.parametrize("build", BUILDS)
def test_what_was_given_on_is_marked(dump, build, variant):
    """Moved into what is awaited, or to another task, which leaves the bytes and no flag: the drop glue knows,
    where it is a function of its own; else two own one memory."""
    path, env, crate = program_of(build, variant)
    with parked(path, env=env) as program:
        document = dump("--values", str(program.pid))
    lives = {
        ("by_hand::by_hand_queue", "list"): "moved",  # into All { list }
        ("traps::block_argument", "future"): "moved",  # into an async move block
        ("traps::moved_box", "future"): "moved",  # a task by now
        ("traps::kept_box", "future"): "alive",
        ("traps::kept_unpolled", "later"): "alive",
        ("traps::held_in_struct", "keeps"): "alive",
        ("traps::keeps_argument", "future"): "alive",
    }
    for (function, name), life in lives.items():
        value = values_of(document, f"{crate}::{function}")[name]
        if life == "moved" and build.endswith("release") and value["life"] == "doubtful":
            assert value["value"].endswith("(moved?)"), (function, value)
            continue
        assert value["life"] == life, (function, value)
        assert (value["value"] == "<moved>") == (life == "moved"), value
        assert not value["value"].endswith("(moved?)"), value


@pytest.mark.parametrize("variant, timer", [("tokio", "tokio::time::sleep::Sleep"),
                                            ("smol", "async_io::Timer")])
@pytest.mark.parametrize("build", BUILDS)
def test_timers_say_when_they_wake(run, build, variant, timer):
    """Those of the program were set to 100,000 s when it began."""
    path, env, _ = program_of(build, variant)
    began = time.monotonic()
    with parked(path, env=env) as program:
        text = run(PROGRAM, "dump", str(program.pid)).out
        grouped = run(PROGRAM, "dump", "--group", str(program.pid)).out
    took = time.monotonic() - began
    lines = [line for line in text.splitlines() if f" {timer}, waits for timer" in line]
    left = [float(re.search(r", wakes in ([0-9]+(\.[0-9])?)s$", line)[1]) for line in lines]
    assert any(100_000 - took - 0.1 <= seconds <= 100_000 for seconds in left), lines
    assert "wakes in" not in grouped


@pytest.mark.parametrize("build", BUILDS)
def test_the_text_says_what_a_name_is_of_where_nothing_below_does(run, dump, build):
    """And whose closure a thread runs; without what registries put in front of a path."""
    path, env, _ = program_of(build, "tokio")
    with parked(path, env=env) as program:
        text = run(PROGRAM, "dump", str(program.pid)).out
        grouped = run(PROGRAM, "dump", "--group", str(program.pid)).out
        document = dump(str(program.pid))
    blocking = re.findall(r"^task .* tokio \(blocking\), .*$", text, re.M)
    assert len(blocking) == sum(task["blocking"] for task in document["tasks"]) > 0
    assert "BlockingTask" not in text and all("{closure" in line for line in blocking)
    assert "/registry/src/" not in text and "/rustc/" not in text
    own = {task["tree"]["file"] for task in document["tasks"]
           if task["tree"] and task["tree"]["kind"] == "async fn"} - {None}
    assert own and all(re.search(rf"(?<![^ ]){re.escape(file)}:\d+", text) or "/registry/src/" in file
                       for file in own)
    assert " tokio::sync::oneshot::Receiver<u64>, waits for channel\n" in text
    assert "waits for never" not in text
    assert not re.search(r"^(\d\d+|[2-9]) x .* on thread", grouped, re.M)


@pytest.mark.parametrize("build", BUILDS + ["lto", "debian-lto"])
def test_core_agrees(dump, tmp_path, build):
    path, env, crate = program_of(build, "tokio")
    with parked(path, env=env) as program:
        subprocess.run(["gcore", "-o", tmp_path / "core", str(program.pid)], check=True,
                       capture_output=True, timeout=120)
        program.process.kill()
        assert_agrees(program, dump(str(tmp_path / f"core.{program.pid}")), crate)


def test_core_of_an_abort(dump, tmp_path):
    """As the kernel writes it: without the pages of files that were not changed."""
    with open("/proc/sys/kernel/core_pattern", encoding="utf-8") as pattern:
        name = pattern.read().strip()
    if name != "core":
        pytest.skip(f"cores go to {name!r} here")
    path, env, crate = program_of("debug", "tokio")
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    if limits[1] != resource.RLIM_INFINITY:
        pytest.skip("no core may be written")
    here = os.getcwd()
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (limits[1], limits[1]))
        os.chdir(tmp_path)
        with parked(path, env=env) as program:
            program.command("abort")
            program.process.wait(timeout=60)
    finally:
        os.chdir(here)
        resource.setrlimit(resource.RLIMIT_CORE, limits)
    cores = list(tmp_path.glob("core*"))
    assert len(cores) == 1
    assert_agrees(program, dump(str(cores[0])), crate)


@pytest.mark.parametrize("build", ["debug", "release", "debian-release"])
def test_no_torn_stack(dump, request, build):
    """Tasks that never stand still: whatever is shown is a stack that there has been."""
    path, env, crate = program_of(build, "tokio")
    shown = Counter()
    with parked(path, "--churn", "40", env=env) as program:
        for _ in range(300 if request.config.getoption("--all-tests") else 10):
            document = dump(str(program.pid))
            for task in document["tasks"]:
                if task["tree"] is not None:
                    seen = Seen(crate)
                    shown.update(stack_of(tree) for tree in seen.shown(task["tree"]))
                    assert not seen.errors
        # Whatever was seen last has been polled again by now.
        time.sleep(0.2)
        program.command("shapes")
        shapes = set(program.answer()["shapes"])
    stacks = {stack: n for stack, n in shown.items() if f"{crate}::many::moves:" in stack}
    assert len(shapes) > 5 and sum(stacks.values()) > 20
    assert not set(stacks) - shapes, "never stood so"


def stack_of(tree):
    """A stack without branches, as the program writes it."""
    if tree[0] == "leaf":
        return ""
    below = [stack_of(child) for child in tree[3]]
    assert len(below) <= 1, f"{tree[0]} awaits two at once"
    return f"{tree[0]}:{tree[2]} {''.join(below)}".strip()


def assert_groups(program, document, crate):
    """Of --many tasks: as many as the program has made, at its lines."""
    told = {line["function"]: line for line in program.many}
    groups = {}
    for group in document["groups"]:
        tree = group["tree"]
        frames = Seen(crate).shown(tree) if tree else []
        if frames and frames[0][0] in told:
            assert frames[0][0] not in groups, "one stack, two groups"
            groups[frames[0][0]] = (group["count"], frames[0])
    assert len(groups) == 4
    for function, (count, frame) in groups.items():
        assert (count, frame[2]) == (told[function]["many"], told[function]["line"])
        while frame[3]:
            frame = frame[3][0]
        assert (frame[0], frame[2]) == (f"{crate}::many::rests", told[function]["rests"])


@pytest.mark.parametrize("build, variant", [("debug", "tokio"), ("release", "tokio"),
                                            ("release", "smol")])
def test_many_in_groups(dump, request, build, variant):
    path, env, crate = program_of(build, variant)
    number = "100000" if request.config.getoption("--all-tests") else "2000"
    with parked(path, "--many", number, env=env) as program:
        assert_groups(program, dump("--group", str(program.pid)), crate)


def test_of_much_memory_one_moment(dump):
    """More than is copied while a process stands still: then what was looked at just before comes first."""
    path, env, crate = program_of("release", "tokio")
    with parked(path, "--many", "400000", env=env) as program:
        document = dump("--group", "--freeze", str(program.pid))
        with open(f"/proc/{program.pid}/status", encoding="utf-8") as status:
            resident = int(re.search(r"VmRSS:\s+(\d+) kB", status.read())[1])
        assert resident > 160 << 10, "not that much"
        assert document["frozen_ns"] > 0
        assert_groups(program, document, crate)


def paths_of(tree):
    """The ways from the root to each leaf, in the same form."""
    if tree[0] == "leaf":
        return [[]]
    below = [path for child in tree[3] for path in paths_of(child)] or [[]]
    return [[(PARTS.sub("", tree[0]), tree[2])] + path for path in below]


def test_tokio_says_the_same(dump):
    """Against tokio's own Handle::dump, which polls every task once more to see where it goes."""
    path = fixture("taskdump", "parked-tokio")
    with parked(path) as program:
        document = dump(str(program.pid))
        program.command("taskdump")
        theirs = program.answer()
    ours = {}
    for task in document["tasks"]:
        if task["tree"] is not None and task["executor"] == "tokio":
            trees = Seen("parked_tokio").shown(task["tree"])
            ours[str(task["id"])] = {tuple(once(path)) for tree in trees for path in paths_of(tree)}
    compared = 0
    for task in theirs["tasks"]:
        for frames in task["traces"]:
            trace = trace_of(frames, "parked_tokio")
            if trace:
                # A timer or socket beside others, in a select!, ends the trace above the longer ones.
                assert any(path[:len(trace)] == trace for path in ours[task["id"]]), task
                compared += 1
    assert compared > 30
