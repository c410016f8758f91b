# SPDX-License-Identifier: MIT
"""Where tasks wait, and what `block_on` drives, as the trace says, against the program's own ledger of its
pending futures."""
import collections
import json

import pytest

from conftest import FIXTURES, PROFILES, fixture

RUNTIMES = ["tokio", "tokio-current", "async-std", "smol"]
DRIVERS = RUNTIMES + ["futures", "own"]


def innermost_line(stack):
    """The line of waits.rs at which a stack ends that ends at a pending future of the ledger."""
    above = [level for level in stack[:-1] if "waits.rs:" in level]
    return above[-1].rpartition(":")[2] if stack[-1] == "waits::Yields" and above else None


def waits_of(trace, lines):
    """{line of waits.rs: times} of the innermost future of every branch, over the tasks that wait at any of
    `lines`; the stacks of these tasks that end elsewhere; and the tasks."""
    found, elsewhere, tasks = collections.Counter(), collections.defaultdict(list), set()
    for wait in trace.waits:
        task = wait["args"]["task"]
        for stack in [wait["args"].get("stack", ["?"])] + wait["args"].get("also", []):
            line = innermost_line(stack)
            if line in lines:
                found[line] += 1
                tasks.add(task)
            elif not line:
                elsewhere[task].append(stack)
    return found, [stack for task in tasks for stack in elsewhere[task]], tasks


def run_waits(asyncflame, program, runtime):
    ended = asyncflame("run", "-o", "t.json", program, runtime)
    assert ended.status == 0 and "LOST" not in ended.err
    return json.loads(ended.out), ended.trace("t.json")


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("profile", PROFILES)
def test_waits(asyncflame, profile, runtime):
    told, trace = run_waits(asyncflame, FIXTURES / profile / "waits", runtime)
    found, strange, _ = waits_of(trace, told["waits"])
    assert found == told["waits"]
    assert not strange


@pytest.mark.parametrize("runtime", DRIVERS)
@pytest.mark.parametrize("profile", PROFILES + ["lto", "debian-lto"])
def test_what_block_on_drives(asyncflame, profile, runtime):
    """Its waits, each once and on one track, whether its polls are functions or inlined in the driver."""
    told, trace = run_waits(asyncflame, fixture(profile, "waits"), runtime)
    found, elsewhere, tasks = waits_of(trace, told["driven"])
    assert found == told["driven"]
    assert sum(found.values()) > 20
    assert len(tasks) == 1
    # What it awaits besides are the program's tasks.
    if runtime in ("futures", "own"):
        assert not elsewhere
    # None of the futures that it awaits, and that may have polls of their own, has a track.
    tracks = {task["name"] for task in trace.tasks}
    assert not {name for name in tracks if name.startswith("waits::driven_")}


@pytest.mark.parametrize("profile", PROFILES)
def test_runtimes_that_shut_down(asyncflame, request, profile):
    """A runtime drops the futures of its tasks while their memory is read."""
    rounds = 2000 if request.config.getoption("--all-tests") else 60
    ended = asyncflame("run", "--format", "raw", "-o", "t.raw", FIXTURES / profile / "waits",
                       "shutdown", rounds, timeout=120 + rounds)
    assert ended.status == 0
    assert ended.out == f"{rounds} runtimes\n"


@pytest.mark.parametrize("profile", PROFILES)
def test_doctor_says_how_much_is_seen(asyncflame, profile):
    program = FIXTURES / profile / "waits"
    known = json.loads(asyncflame("map", program).out)
    polled = {future["name"] for future in known["futures"] if future["polls"]}
    stays = [int(stay["address"], 16) for stay in known["stays"]]
    drivers = [driver for driver in known["drivers"] if "block_on" in driver["name"]]
    own = sum(driver["future"] in polled for driver in drivers)
    between = sum(driver["future"] not in polled and
                  any(0 < stay - int(driver["address"], 16) <= driver["size"] for stay in stays) for driver in drivers)
    doctor = asyncflame("doctor", program).out
    assert f"futures that block_on drives: {len(drivers)}\n" in doctor and drivers
    assert f"{own:8}  are polled by functions of their own\n" in doctor
    assert f"{between:8}  are polled in inlined code: seen while their thread waits\n" in doctor
    rest = len(drivers) - own - between
    assert (f"{rest:8}  are seen only where they stand now and then" in doctor) == (rest > 0)
