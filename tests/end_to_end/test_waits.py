# SPDX-License-Identifier: MIT
"""Where tasks wait, as the trace says, against the program's own ledger of its pending futures."""
import collections
import json

import pytest

from conftest import FIXTURES, PROFILES

RUNTIMES = ["tokio", "tokio-current", "async-std", "smol"]


def waits_of(trace):
    """{line of waits.rs: times} of the innermost future of every branch, over the tasks that wait for
    any; and the stacks of these tasks that end elsewhere."""
    found, elsewhere, tasks = collections.Counter(), collections.defaultdict(list), set()
    for wait in trace.waits:
        task = wait["args"]["task"]
        for stack in [wait["args"].get("stack", ["?"])] + wait["args"].get("also", []):
            above = [level for level in stack[:-1] if "waits.rs:" in level]
            if stack[-1] == "waits::Yields" and above:
                found[above[-1].rpartition(":")[2]] += 1
                tasks.add(task)
            else:
                elsewhere[task].append(stack)
    return found, [stack for task in tasks for stack in elsewhere[task]]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("profile", PROFILES)
def test_waits(asyncflame, profile, runtime):
    ended = asyncflame("run", "-o", "t.json", FIXTURES / profile / "waits", runtime)
    assert ended.status == 0 and "LOST" not in ended.err
    found, strange = waits_of(ended.trace("t.json"))
    assert found == json.loads(ended.out)["waits"]
    assert not strange


@pytest.mark.parametrize("profile", PROFILES)
def test_runtimes_that_shut_down(asyncflame, request, profile):
    """A runtime drops the futures of its tasks while their memory is read."""
    rounds = 2000 if request.config.getoption("--all-tests") else 60
    ended = asyncflame("run", "--format", "raw", "-o", "t.raw", FIXTURES / profile / "waits",
                       "shutdown", rounds, timeout=120 + rounds)
    assert ended.status == 0
    assert ended.out == f"{rounds} runtimes\n"
