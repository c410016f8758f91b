# SPDX-License-Identifier: MIT
"""Processes that become two, or another program: each has its own trace, exact."""
import os
import re
import time

import pytest

from conftest import LIBRARY, PROFILES, PROGRAM, clean_environment, fixture
from life import check_exact, lead, told

PARENT = 20_000
CHILD = 30_000
MODES = {  # mode: polls of each process
    "fork": [PARENT, CHILD],
    "fork-exit": [PARENT, CHILD],
    "bare-fork": [PARENT, CHILD],
    "clone": [PARENT, CHILD],
    "fork-few": [PARENT, 3],
    "bare-fork-few": [PARENT, 3],
    "fork-threads": [PARENT, 5 * CHILD],
    "bare-fork-threads": [PARENT, 5 * CHILD],
    "fork-within": [23, 18],
    "clone-within": [23, 18],
    "grandchildren": [PARENT, 100, 200],
    "quiet-children": [PARENT],
    "many-children": [100] + [1000 + n for n in range(10)],
    "vfork": [PARENT + 100],
    "exec": [10_000, 10_000],
}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("mode", MODES)
def test_every_process_has_its_own_trace(run, engine, profile, mode):
    ended = lead(run, profile, mode)
    assert ended.status == 0, ended.err
    processes = told(ended.out)
    assert sorted(polls for _, polls in processes) == sorted(MODES[mode])
    check_exact(ended.directory, processes)


@pytest.mark.parametrize("profile", ["debug", "release"])
def test_polls_open_at_the_fork_are_no_loss(run, engine, profile):
    ended = lead(run, profile, "fork-within")
    assert ended.err.count("1 poll had begun before the fork, in process") == 1
    assert "have no begin" not in ended.err


@pytest.mark.parametrize("profile", ["debug", "release"])
@pytest.mark.parametrize("wrapper", [True, False])
def test_exec_when_the_first_trace_is_there(run, engine, profile, wrapper):
    """The second program's is none the less a file of its own."""
    ended = lead(run, profile, "exec-later", wrapper=wrapper)
    first, second = told(ended.out)
    assert first[0] == second[0]
    check_exact(ended.directory, [first, second])
    again = lead(run, profile, "exec-later", wrapper=wrapper)
    assert len(list(ended.directory.glob("t*.json"))) == 3, "t.json was written anew"
    check_exact(ended.directory, [*told(again.out), second])


@pytest.mark.parametrize("profile", ["debug", "release"])
def test_exec_without_the_preload(run, engine, profile):
    """The second program is nobody's business; the first one's trace is whole."""
    ended = lead(run, profile, "exec-bare")
    first, second = told(ended.out)
    assert first == second and first[1] == 10_000
    check_exact(ended.directory, [first])


def wait_for(path, seconds=60):
    deadline = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert path.exists(), f"{path} does not appear"


@pytest.mark.parametrize("wrapper", [True, False])
@pytest.mark.parametrize("profile", ["debug", "release"])
def test_daemon(run, engine, profile, wrapper, tmp_path):
    """It lives on when its parent has ended, without a descriptor and in another directory."""
    ended = lead(run, profile, "daemonise", tmp_path / "told", wrapper=wrapper)
    assert ended.status == 0
    wait_for(tmp_path / "told")
    daemon, = told((tmp_path / "told").read_text())
    assert daemon[1] == CHILD
    wait_for(tmp_path / f"t.life-{daemon[0]}.json")
    check_exact(tmp_path, told(ended.out) + [daemon])


@pytest.mark.parametrize("profile", ["debug", "release"])
def test_children_that_do_not_poll_have_no_companion(engine, cache, tmp_path, profile):
    """Nothing is started for a child that execs at once or does nothing: no trace, and no
    process more than those that the program has started. strace would show it; so does the
    number of sessions that were ever made."""
    runtime = tmp_path / "sessions"
    runtime.mkdir()
    environment = clean_environment(tmp_path)
    environment.update(LD_PRELOAD=str(LIBRARY), ASYNCFLAME_CACHE=str(cache), ASYNCFLAME_QUIET="1",
                       ASYNCFLAME_RUN=str(runtime), ASYNCFLAME_OUTPUT=str(tmp_path / "t.json"))
    cache.chmod(0o700)
    pid = os.posix_spawn(fixture(profile, "life"), ["life", "quiet-children"], environment,
                         file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)])
    assert os.waitpid(pid, 0)[1] == 0
    assert [path.name for path in runtime.iterdir()] == [f"{pid}-0.session"]


@pytest.mark.parametrize("profile", ["debug", "release"])
def test_soak(run, engine, profile, request):
    """Threads and children that come and go, for 5 minutes each with --all-tests."""
    seconds = 300 if request.config.getoption("--all-tests") else 3
    ended = run(PROGRAM, "-o", "s.raw", fixture(profile, "life"), "soak", seconds,
                timeout=seconds + 120)
    assert ended.status == 0 and "LOST" not in ended.err
    recorded = [int(polls.replace(",", ""))
                for polls in re.findall(r"^asyncflame: ([0-9,]+) polls", ended.err, re.M)]
    assert sorted(recorded) == sorted(polls for _, polls in told(ended.out))
    assert len(recorded) > seconds
