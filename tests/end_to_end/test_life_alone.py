# SPDX-License-Identifier: MIT
"""No companion: none can be started, or somebody kills it. The program records by itself, the
recording is kept, nothing is lost; where something must be lost, the end says what."""
import os
import pathlib
import random
import re
import signal
import subprocess
import time

import pytest

from conftest import LIBRARY, PROGRAM, clean_environment, fixture
from life import check_exact, lead, own_namespace, ticks, told

NOWHERE = {"ASYNCFLAME_PROGRAM": "/nowhere/asyncflame"}
MODES = ["plain", "fork-exit", "many-children", "short-threads", "signals", "close-all", "chdir",
         "outlive-main", "exit", "thread-locals", "vfork"]


@pytest.fixture
def cached(run):
    """With the map in the cache: without a companion nobody can make one."""
    for profile in ("debug", "release"):
        assert run(PROGRAM, "-q", "-o", "warm.json", fixture(profile, "life"), "plain").status == 0


def convert_all(run, directory):
    """Makes a trace of every recording that was left behind; what they said."""
    said = ""
    for recording in directory.glob("*.recording"):
        ended = run(PROGRAM, "convert", recording)
        assert ended.status == 0, ended.err
        assert recording.with_suffix("").exists()
        said += ended.err
    return said


@pytest.mark.parametrize("profile", ["debug", "release"])
@pytest.mark.parametrize("mode", MODES)
def test_nobody_beside_it(run, engine, cached, profile, mode):
    bare = run(fixture(profile, "life"), mode)
    ended = lead(run, profile, mode, wrapper=False, env=NOWHERE)
    assert ended.status == bare.status
    if mode != "close-all":  # who has no stderr cannot be told
        assert f"asyncflame convert {ended.directory}/t.json.recording\n" in ended.err
    assert "LOST" not in convert_all(run, ended.directory)
    check_exact(ended.directory, told(ended.out))


@pytest.mark.parametrize("mode", ["_exit", "abort", "sigkill"])
def test_nobody_beside_it_and_killed(run, engine, cached, mode):
    """What was in the last chunk is lost; what was written before can be converted."""
    ended = lead(run, "release", mode, wrapper=False, env=NOWHERE)
    said = convert_all(run, ended.directory)
    assert "the recording was cut off" in said
    assert len(ticks(ended.trace("t.json"))) == 10_010 // 2046 * 2046


def test_nobody_beside_it_and_exec(run, engine, cached):
    """What the process was before keeps its file, but for its last chunk: exec is no end that is seen."""
    ended = lead(run, "release", "exec", wrapper=False, env=NOWHERE)
    assert convert_all(run, ended.directory).count("the recording was cut off") == 1
    (pid, first), (again, second) = told(ended.out)
    assert pid == again
    assert len(ticks(ended.trace("t.json"))) == first // 2046 * 2046
    assert len(ticks(ended.trace(f"t.life-{pid}.json"))) == second


def test_nobody_beside_it_and_the_same_number(run, engine, cached):
    """What a container's first process left is not what this one was before an exec."""
    for _ in range(3):
        ended = run(*own_namespace(), fixture("release", "life"), "plain",
                    env={"LD_PRELOAD": str(LIBRARY), "ASYNCFLAME_OUTPUT": "t.json", **NOWHERE})
        assert ended.status == 0
        assert [path.name for path in ended.directory.glob("t*")] == ["t.json.recording"]
        time.sleep(0.05)  # processes are told apart by their start, which is known to a tick of 10 ms
    convert_all(run, ended.directory)
    check_exact(ended.directory, told(ended.out))


def test_raw_stays_as_it_is(run, engine, cached):
    ended = run(fixture("release", "life"), "plain",
                env={"LD_PRELOAD": str(LIBRARY), "ASYNCFLAME_OUTPUT": "t.raw", **NOWHERE})
    assert "asyncflame convert" in ended.err
    assert run(PROGRAM, "convert", "t.raw").status == 0
    check_exact(ended.directory, told(ended.out))


def as_somebody(directory):
    """The words that run a program as a user who has no other process."""
    if os.getuid() != 0:
        pytest.skip("needs root, to be a user who has no other process")
    user = random.randrange(100_000, 2_000_000)
    os.chmod(directory, 0o777)
    # pytest's own directories are for its user alone.
    for parent in directory.parents:
        if parent == pathlib.Path("/tmp"):
            break
        parent.chmod(0o755)
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]


@pytest.mark.parametrize("profile", ["debug", "release"])
@pytest.mark.parametrize("mode, processes", [("plain", 2), ("exit", 2), ("signals", 3)])
def test_process_limit(run, engine, cached, cache, tmp_path, profile, mode, processes):
    """RLIMIT_NPROC: the wrapper and the program, and no process more. The wrapper converts."""
    words = as_somebody(tmp_path)
    runtime, own_cache = tmp_path / "runtime", tmp_path / "cache"
    for path in (runtime, own_cache):
        path.mkdir()
    for path in cache.iterdir():
        (own_cache / path.name).write_bytes(path.read_bytes())
    subprocess.run(["chown", "-R", words[1].partition("=")[2], runtime, own_cache], check=True)
    own_cache.chmod(0o700)
    env = {"XDG_RUNTIME_DIR": str(runtime), "ASYNCFLAME_CACHE": str(own_cache)}
    ended = run(*words, "prlimit", f"--nproc={processes}:{processes}", PROGRAM, "-o", "t.json",
                fixture(profile, "life"), mode, env=env)
    assert "no companion process" in ended.err and "LOST" not in ended.err
    check_exact(ended.directory, told(ended.out))
    assert not list(tmp_path.glob("*.recording")) and not list(runtime.iterdir())


def companion_of(runtime):
    """The companion's pid: who holds a file in this run directory open."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if (path / "cmdline").read_bytes().startswith(b"asyncflame\0companion\0") and any(
                        os.readlink(fd).startswith(f"{runtime}/") for fd in (path / "fd").iterdir()):
                    return int(path.name)
            except OSError:
                continue
        time.sleep(0.01)
    raise AssertionError("there is no companion")


@pytest.mark.parametrize("profile, before, after, output", [
    ("debug", 0, 0.02, "t.json"), ("release", 0.02, 0.02, "t.json"),
    # More than the buffers hold: the program takes over while it runs, not at its end.
    ("release", 0.05, 1.5, "t.raw")])
def test_companion_is_killed(engine, cache, tmp_path, profile, before, after, output):
    """In the middle of all: the program goes on where the companion was, to the record."""
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    environment = clean_environment(runtime)
    environment["ASYNCFLAME_CACHE"] = str(cache)
    cache.chmod(0o700)
    program = subprocess.Popen([PROGRAM, "-o", output, fixture(profile, "life"), "until-eof"],
                               cwd=tmp_path, env=environment, text=True, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert program.stdout.readline() == "ready\n"
    time.sleep(before)
    os.kill(companion_of(runtime), signal.SIGKILL)
    time.sleep(after)
    out, err = program.communicate(timeout=300)
    assert program.returncode == 0
    assert "no companion process to the end" in err and "LOST" not in err
    (pid, polls), = told(out)
    summary = re.search(r"asyncflame: ([0-9,]+) polls", err)
    assert int(summary[1].replace(",", "")) == polls
    if output == "t.json":
        check_exact(tmp_path, [(pid, polls)])


def test_companion_is_killed_without_a_wrapper(engine, cache, tmp_path, run):
    """The same, and the program says what to do."""
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    environment = clean_environment(runtime)
    environment.update(ASYNCFLAME_CACHE=str(cache), ASYNCFLAME_OUTPUT=str(tmp_path / "t.json"),
                       LD_PRELOAD=str(LIBRARY))
    cache.chmod(0o700)
    program = subprocess.Popen([fixture("release", "life"), "until-eof"], cwd=tmp_path,
                               env=environment, text=True, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert program.stdout.readline() == "ready\n"
    os.kill(companion_of(tmp_path), signal.SIGKILL)
    out, err = program.communicate(timeout=60)
    assert program.returncode == 0
    assert f"asyncflame convert {tmp_path}/t.json.recording" in err
    said = convert_all(run, tmp_path)
    (_, polls), = told(out)
    assert int(re.search(r"([0-9,]+) polls", said)[1].replace(",", "")) == polls
    assert "LOST" not in said
