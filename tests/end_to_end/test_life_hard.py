# SPDX-License-Identifier: MIT
"""What is done to a program from outside: its whole group killed, the disk full, the directory gone; and what it
brings along: allocators of its own, backtraces of its own."""
import contextlib
import json
import mmap
import os
import re
import shutil
import signal
import struct
import subprocess
import time

import pytest

import trace_check
from conftest import FIXTURES, LIBRARY, PROGRAM, clean_environment, fixture
from life import check_exact, ticks, told
from parked import parked
from test_life_alone import companion_of
from test_life_fork import wait_for


# --- a service whose whole group is killed

@contextlib.contextmanager
def service(cache, directory, profile, wrapper, output):
    """`life accounted` as the leader of a session of its own, polling; and its account."""
    environment = clean_environment(directory)
    environment["ASYNCFLAME_CACHE"] = str(cache)
    cache.chmod(0o700)
    account = directory / "account"
    account.write_bytes(bytes(4096))
    words = [fixture(profile, "life"), "accounted", account]
    if wrapper:
        words = [PROGRAM, "-q", "-o", output, *words]
    else:
        environment.update(LD_PRELOAD=str(LIBRARY), ASYNCFLAME_OUTPUT=str(output), ASYNCFLAME_QUIET="1")
    process = subprocess.Popen(words, env=environment, cwd=directory, start_new_session=True)
    with open(account, "r+b") as file, mmap.mmap(file.fileno(), 4096) as words:
        def noted():
            return [counts for counts in (struct.unpack_from("<3Q", words, 24 * n) for n in range(2))
                    if counts[0]]
        while not noted() or not noted()[0][1]:
            assert process.poll() is None
            time.sleep(0.001)
        try:
            yield process, noted
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def check_account(trace, noted):
    for tid, begun, ended in noted:
        polls = [event for event in trace.polls if event["tid"] == tid]
        opened = sum(event["args"]["result"] == "open" for event in polls)
        assert begun <= len(polls) <= begun + 1
        assert ended <= len(polls) - opened <= ended + 1


@pytest.mark.parametrize("wrapper", [True, False])
@pytest.mark.parametrize("profile", ["debug", "release"])
def test_whole_group_is_killed(engine, cache, tmp_path, profile, wrapper):
    """kill -9 of the group, as a service manager does: the companion has a session of its own, and
    the trace is there, to the last committed record."""
    output = tmp_path / "g.json"
    with service(cache, tmp_path, profile, wrapper, output) as (process, noted):
        time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait(timeout=60) == -signal.SIGKILL
        wait_for(output)
        check_account(trace_check.check(output), noted())


@pytest.mark.parametrize("wrapper", [True, False])
def test_killed_with_the_companion(engine, cache, tmp_path, run, wrapper):
    """Who kills all processes of a service leaves nobody to make the trace: what was drained is
    whole, and there are no polls that were none."""
    with service(cache, tmp_path, "release", wrapper, tmp_path / "g.json") as (process, noted):
        recording = tmp_path / "g.json.recording"
        # Several chunks have been drained.
        while not recording.exists() or recording.stat().st_size < 1 << 20:
            assert process.poll() is None
            time.sleep(0.002)
        os.kill(companion_of(tmp_path), signal.SIGKILL)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=60)
        told_polls = noted()
    assert not (tmp_path / "g.json").exists()
    ended = run(PROGRAM, "convert", recording)
    assert ended.status == 0 and "the recording was cut off" in ended.err
    trace = trace_check.check(tmp_path / "g.json")
    for tid, begun, _ in told_polls:
        polls = [event for event in trace.polls if event["tid"] == tid]
        assert len(polls) <= begun + 1
        assert not any(event["args"]["result"] == "lost" for event in polls)
    assert len(trace.polls) > 10_000


# --- disks and directories

def own_mounts():
    """The words that give a program mounts of its own; skips where that is not allowed."""
    for words in (["unshare", "-m"], ["unshare", "-Urm"]):
        if not subprocess.run([*words, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True,
                              check=False).returncode:
            return words
    pytest.skip("no mounts are allowed here")


@pytest.mark.parametrize("profile", ["debug", "release"])
@pytest.mark.parametrize("wrapper", [True, False])
def test_disk_full(run, engine, tmp_path, profile, wrapper):
    """ENOSPC in the middle: the program ends as ever, what there was room for can be converted, and the
    end says that something is lost."""
    words, life = own_mounts(), fixture(profile, "life")
    bare = run(life, "signals")
    (tmp_path / "small").mkdir()
    script = ('mount -t tmpfs -o size=3m none small && cd small && "$@"; status=$?; '
              'cp *.recording .. && exit $status')
    traced = [PROGRAM, "-o", "t.json", life] if wrapper else [
        "env", f"LD_PRELOAD={LIBRARY}", "ASYNCFLAME_OUTPUT=t.json", life]
    ended = run(*words, "sh", "-c", script, "sh", *traced, "signals")
    assert ended.status == bare.status == 0, ended.err
    assert "No space left on device" in ended.err and ".recording" in ended.err, ended.err
    assert run(PROGRAM, "convert", tmp_path / "t.json.recording").status == 0
    found = len(ticks(ended.trace("t.json")))
    assert 10_000 < found < told(ended.out)[0][1]


@pytest.mark.parametrize("wrapper", [True, False])
def test_directory_goes_while_it_runs(engine, cache, tmp_path, wrapper):
    """The program never hears of it; whoever reads stderr does."""
    (tmp_path / "there").mkdir()
    environment = clean_environment(tmp_path)
    environment["ASYNCFLAME_CACHE"] = str(cache)
    cache.chmod(0o700)
    output = tmp_path / "there" / "t.json"
    words = [fixture("release", "life"), "until-eof"]
    if wrapper:
        words = [PROGRAM, "-o", output, *words]
    else:
        environment.update(LD_PRELOAD=str(LIBRARY), ASYNCFLAME_OUTPUT=str(output))
    program = subprocess.Popen(words, cwd=tmp_path, env=environment, text=True, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert program.stdout.readline() == "ready\n"
    wait_for(tmp_path / "there" / "t.json.recording")
    shutil.rmtree(tmp_path / "there")
    out, err = program.communicate(timeout=120)
    assert program.returncode == 0 and told(out)[0][1] > 10_000
    assert re.search(r"asyncflame: .*there", err), err


# --- what the program brings along

FRAME = re.compile(r"^ *\d+: (.*)$", re.M)


@pytest.mark.parametrize("profile", ["debug", "release"])
def test_std_backtrace_within_polls(run, engine, profile):
    """std's own backtrace shows the frames that it shows without us; ours stand between, with a name."""
    bare = FRAME.findall(run(fixture(profile, "life"), "std-backtrace").out)
    ended = run(PROGRAM, "-o", "t.json", fixture(profile, "life"), "std-backtrace")
    seen = FRAME.findall(ended.out)
    ours = [name for name in seen if name.startswith("af_")]
    assert [name for name in seen if name not in ours] == bare
    assert "_start" in bare[-1] and sum("Inside" in name for name in bare) == len(ours) == 2
    check_exact(ended.directory, told(ended.out))


def with_allocator(allocator, name):
    path = FIXTURES / allocator / name
    if not path.exists():
        pytest.skip("./dev test --all builds the programs with allocators of their own")
    return path


ALLOCATORS = [f"{name}-{profile}" for name in ("jemalloc", "mimalloc") for profile in ("debug", "release")]
LIVES = ["plain", "short-threads", "signals", "thread-locals", "outlive-main", "fork-threads", "fork", "exit",
         "abort", "exec", "vfork", "stacks", "seccomp-child"]


@pytest.mark.parametrize("allocator", ALLOCATORS)
@pytest.mark.parametrize("mode", LIVES)
def test_global_allocator(run, engine, allocator, mode):
    """Rust's #[global_allocator] is jemalloc or mimalloc."""
    life = with_allocator(allocator, "life")
    bare = run(life, mode)
    ended = run(PROGRAM, "-o", "t.json", life, mode)
    assert ended.status == bare.status and "LOST" not in ended.err
    assert len(told(ended.out)) == len(told(bare.out))
    check_exact(ended.directory, told(ended.out))


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_tasks_in_another_allocators_heap(run, engine, allocator):
    """dump finds the tasks in it."""
    program = with_allocator(allocator, "parked-tokio")
    with parked(program) as found:
        ended = run(PROGRAM, "dump", "--format", "json", found.pid)
        assert ended.status == 0, ended.err

        tasks = json.loads(ended.out)["tasks"]
        assert len(tasks) >= len(found.tasks)
