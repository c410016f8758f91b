# SPDX-License-Identifier: MIT
"""asyncflame dump of a process that is recorded at the moment: when each task was polled last, against what the
trace says of it afterwards."""
import json
import time

import pytest

import trace_check
from conftest import PROGRAM, clean_environment, fixture
from parked import parked
from test_parked_trace import host_of

LEAST = 150  # tasks of the program, on each runtime


class Looked:
    """The parked program, recorded: dumps of it, and then its trace."""

    def __init__(self, run, tmp_path, environment, build, variant, words=(), options=()):
        under = [PROGRAM, "-q", "-o", tmp_path / "t.json"]
        self.began = time.monotonic()
        with parked(fixture(build, f"parked-{variant}"), *words, env=environment, under=under) as program:
            self.parked = time.monotonic()
            time.sleep(0.5)
            self.before = time.monotonic()
            done = run(PROGRAM, "dump", "--format", "json", *options, str(host_of(program)))
            self.after = time.monotonic()
            assert done.status == 0, done.err
            self.tasks = json.loads(done.out)["tasks"]
            program.process.stdin.close()
            program.process.wait(timeout=120)
        self.trace = trace_check.check(tmp_path / "t.json")

    def ages(self):
        """Of the tasks that stand still, in seconds."""
        known = [task for task in self.tasks if task["executor"] in ("tokio", "async-task")
                 and not task["blocking"] and task["state"] == "parked" and not task["moving"]]
        assert len(known) > LEAST
        assert all(task["polled_ns_ago"] is not None for task in known)
        return [task["polled_ns_ago"] / 1e9 for task in known]


@pytest.fixture
def looked(run, tmp_path, tmp_path_factory, cache):
    environment = clean_environment(tmp_path_factory.mktemp("runtime"))
    environment["ASYNCFLAME_CACHE"] = str(cache)
    return lambda *what, **how: Looked(run, tmp_path, environment, *what, **how)


RUNS = [("debug", "tokio"), ("release", "tokio"), ("release", "smol")]


@pytest.mark.parametrize("build, variant", RUNS)
def test_last_polls_are_those_of_the_trace(looked, build, variant):
    """Each task was polled before all of them were parked; and at the very time that the trace has."""
    seen = looked(build, variant)
    ages = sorted(seen.ages(), reverse=True)
    assert all(seen.before - seen.parked <= age <= seen.after - seen.began for age in ages)
    waits = {wait["args"]["task"] for wait in seen.trace.waits if wait["args"].get("open")}
    last = {}
    for root in seen.trace.roots:
        task = root["args"]["task"]
        last[task] = max(last.get(task, 0), float(root["ts"]) / 1e6)
    polled = sorted(ts for task, ts in last.items() if task in waits)
    # Both count from some moment: the one from the dump backwards, the other from the start.
    moments = [age + ts for age, ts in zip(ages, polled[:len(ages)])]
    assert len(polled) == len(ages)
    assert max(moments) - min(moments) < 0.005


def test_what_was_drained_is_known(looked):
    """So many tasks that their polls have filled chunk after chunk, which were drained."""
    seen = looked("release", "tokio", words=["--many", "10000"])
    assert len(seen.trace.polls) * 2 > 4 * 4092, "with a begin and an end each, of two threads at most"
    assert all(seen.before - seen.parked <= age <= seen.after - seen.began for age in seen.ages())


def test_frozen(looked):
    seen = looked("release", "tokio", options=["--freeze"])
    assert all(seen.before - seen.parked <= age <= seen.after - seen.began for age in seen.ages())


def test_text_and_who_is_not_recorded(run, tmp_path, tmp_path_factory, cache):
    environment = clean_environment(tmp_path_factory.mktemp("runtime"))
    environment["ASYNCFLAME_CACHE"] = str(cache)
    under = [PROGRAM, "-q", "-o", tmp_path / "t.json"]
    path = fixture("release", "parked-tokio")
    with parked(path, env=environment, under=under) as program:
        text = run(PROGRAM, "dump", str(host_of(program))).out
    assert text.count(", parked, last polled ") > LEAST
    with parked(path, env=environment) as program:
        text = run(PROGRAM, "dump", str(program.pid)).out
        document = json.loads(run(PROGRAM, "dump", "--format", "json", str(program.pid)).out)
    assert ", parked" in text and "last polled" not in text
    assert {task["polled_ns_ago"] for task in document["tasks"]} == {None}
