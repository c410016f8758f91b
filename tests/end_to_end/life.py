# SPDX-License-Identifier: MIT
"""Running the fixture `life` and comparing what each of its processes tells with its trace."""
import json
import pathlib
import subprocess
import time

import pytest

import trace_check
from conftest import PROGRAM, fixture


def told(text):
    """[(pid, polls)] of every line that a process has told."""
    lines = [json.loads(line) for line in text.splitlines() if line.startswith('{"pid"')]
    return [(line["pid"], line["polls"]) for line in lines]


def ticks(trace):
    """The polls of the future that counts itself."""
    return [event for event in trace.polls if event["name"] == "life::Tick"]


def check_exact(directory, expected, output="t.json"):
    """Every process that has polled has one trace (two, if it has become another program), and
    it holds exactly the polls that it told: nothing lost, nobody else's."""
    found = []
    for path in directory.glob(output.replace(".json", "*.json")):
        trace = trace_check.check(path)
        pids = {event["pid"] for event in trace.polls}
        assert len(pids) <= 1, f"{path.name} is of several processes"
        assert not any(event["args"]["result"] == "lost" for event in trace.polls), path.name
        if pids:
            found.append((pids.pop(), len(ticks(trace))))
    assert sorted(found) == sorted(pair for pair in expected if pair[1])


def own_namespace():
    """The words that make a program PID 1 of a namespace; skips where that is not allowed."""
    words = ["unshare", "-pf", "--mount-proc"]
    if subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare -p is not allowed here")
    return words


def lead(run, profile, mode, *words, wrapper=True, **how):
    """Runs a life, with the wrapper or without it; what it told must be what was recorded."""
    program = fixture(profile, "life")
    if wrapper:
        ended = run(PROGRAM, "-o", "t.json", program, mode, *words, **how)
    else:
        from conftest import LIBRARY
        how["env"] = {"LD_PRELOAD": str(LIBRARY), "ASYNCFLAME_OUTPUT": "t.json",
                      **dict(how.get("env", ()))}
        ended = run(program, mode, *words, **how)
    assert "LOST" not in ended.err, ended.err
    return ended


def companion_of(pid):
    """The companion: the process of asyncflame that shares the session with this one. Waits for it."""

    def session(pid):
        for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
            if "memfd:asyncflame-session" in line:
                return line.split()[4]
        return None

    def is_it(path):
        try:
            return (path / "comm").read_text() == "asyncflame\n" and session(path.name) == wanted
        except OSError:
            return False

    wanted = session(pid)
    assert wanted
    for _ in range(600):
        found = [int(path.name) for path in pathlib.Path("/proc").glob("[0-9]*") if is_it(path)]
        if found:
            break
        time.sleep(0.1)
    assert len(found) == 1, found
    return found[0]
