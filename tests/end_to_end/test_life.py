# SPDX-License-Identifier: MIT
"""Ends, threads and locked-up processes: the program is as it is without us, and its trace holds
exactly the polls that it has counted."""
import json
import mmap
import os
import random
import shutil
import signal
import struct
import subprocess
import time

import pytest

import trace_check
from conftest import LIBRARY, PROFILES, PROGRAM, clean_environment, fixture
from life import check_exact, lead, own_namespace, ticks, told

ENDINGS = {"exit": 7, "_exit": 7, "quick-exit": 7, "abort": 128 + signal.SIGABRT,
           "sigterm": 128 + signal.SIGTERM, "sigkill": 128 + signal.SIGKILL}
MODES = ["plain", "outlive-main", "short-threads", "thread-locals", "signals", "stacks",
         "backtrace", "close-all", "chdir", "setuid", "rlimits", "seccomp", "seccomp-child",
         "mdwe", "own-handlers"]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("mode", ENDINGS)
def test_every_end(run, engine, profile, mode):
    """From within a poll, which is shown as open."""
    bare = run(fixture(profile, "life"), mode)
    ended = lead(run, profile, mode)
    assert ended.status == bare.status == ENDINGS[mode]
    check_exact(ended.directory, told(ended.out))
    results = [event["args"]["result"] for event in ended.trace("t.json").polls]
    assert results.count("open") == 1


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("mode", MODES)
def test_polls_equal_the_account(run, engine, profile, mode):
    bare = run(fixture(profile, "life"), mode)
    if "no PR_SET_MDWE" in bare.out:
        pytest.skip("this kernel has no PR_SET_MDWE")
    ended = lead(run, profile, mode)
    assert ended.status == bare.status == 0, ended.err
    assert len(told(ended.out)) == len(told(bare.out))
    check_exact(ended.directory, told(ended.out))


@pytest.mark.parametrize("profile", ["debug", "release"])
@pytest.mark.parametrize("mode", ["pthread-exit", "pthread-cancel"])
def test_forced_unwinding_closes_every_poll(run, engine, profile, mode):
    ended = lead(run, profile, mode)
    assert ended.status == 0, ended.err
    check_exact(ended.directory, told(ended.out))
    results = [event["args"]["result"] for event in ended.trace("t.json").polls]
    assert results.count("panicked") == 11 and "open" not in results


@pytest.mark.parametrize("profile", ["debug", "release"])
def test_deep_recursion(run, engine, profile):
    ended = lead(run, profile, "stacks")
    polls = ended.trace("t.json").polls
    assert sum(event["name"].startswith("life::Inside") for event in polls) == 20_001


@pytest.mark.parametrize("profile", PROFILES)
def test_sampling_profiler_in_the_program(run, engine, profile):
    """Through hooked frames its unwinder comes as far as without them."""
    ended = lead(run, profile, "sampling")
    assert ended.status == 0
    samples = json.loads(ended.out.splitlines()[0])
    assert samples["whole"] >= samples["samples"] * 99 // 100


@pytest.mark.parametrize("profile", ["debug", "release"])
def test_debugger_sees_through_hooked_frames(run, engine, profile):
    if not shutil.which("gdb"):
        pytest.skip("no gdb")
    ended = run("gdb", "-nx", "-batch", "-ex", "set startup-with-shell off", "-ex", "run", "-ex",
                "bt", "--args", "env", f"LD_PRELOAD={LIBRARY}", "ASYNCFLAME_OUTPUT=t.json",
                fixture(profile, "life"), "abort")
    stack = [line for line in ended.out.splitlines() if line.startswith("#")]
    assert "raise" in " ".join(stack[:4]) or "pthread_kill" in " ".join(stack[:4]), ended.out
    hooked = [at for at, line in enumerate(stack) if "af_stub_" in line]
    assert hooked and "main" in " ".join(stack[hooked[0]:]), ended.out


def kill_at_random(engine, cache, directory, profile, rounds):
    """Kills a program that accounts for each poll in shared memory; returns nothing if every
    trace was exact: each thread had at most one poll that it had begun, or ended, and not
    noted yet."""
    environment = clean_environment(directory)
    environment["ASYNCFLAME_CACHE"] = str(cache)
    cache.chmod(0o700)
    luck = random.Random(4)
    for at in range(rounds):
        account = directory / f"account{at}"
        account.write_bytes(bytes(4096))
        output = directory / f"k{at}.json"
        wrapper = subprocess.Popen([PROGRAM, "-q", "-o", output, fixture(profile, "life"),
                                    "accounted", account], env=environment)
        with open(account, "r+b") as file, mmap.mmap(file.fileno(), 4096) as words:
            while not struct.unpack_from("<2Q", words, 8)[0]:
                assert wrapper.poll() is None
                time.sleep(0.001)
            time.sleep(luck.random() * 0.004)
            for child in open(f"/proc/{wrapper.pid}/task/{wrapper.pid}/children").read().split():
                os.kill(int(child), signal.SIGKILL)
            assert wrapper.wait(timeout=120) == 128 + signal.SIGKILL
            noted = [struct.unpack_from("<3Q", words, 24 * n) for n in range(2)]
        trace = trace_check.check(output)
        for tid, begun, ended in noted:
            if not tid:
                continue
            polls = [event for event in trace.polls if event["tid"] == tid]
            opened = sum(event["args"]["result"] == "open" for event in polls)
            assert begun <= len(polls) <= begun + 1, f"round {at}: begun"
            assert ended <= len(polls) - opened <= ended + 1, f"round {at}: ended"
            assert opened <= 1, f"round {at}"
        output.unlink()


@pytest.mark.parametrize("profile", ["debug", "release"])
def test_killed_at_random_moments(engine, cache, tmp_path, profile, request):
    """12 moments; 200 with --all-tests."""
    kill_at_random(engine, cache, tmp_path, profile,
                   100 if request.config.getoption("--all-tests") else 6)


@pytest.mark.parametrize("mode", ["plain", "fork", "exit"])
def test_first_process_of_a_namespace(run, engine, mode):
    """PID 1 itself: the companion ends with it, so it must have been waited for."""
    ended = run(*own_namespace(), fixture("release", "life"), mode,
                env={"LD_PRELOAD": str(LIBRARY), "ASYNCFLAME_OUTPUT": "t.json"})
    assert ended.status == ENDINGS.get(mode, 0)
    expected = told(ended.out)
    if mode == "fork" and len(list(ended.directory.glob("t*.json"))) == 1:
        del expected[:-1]  # PID 1 does not wait for the child's companion, which then ends with it
    check_exact(ended.directory, expected, output="t.json")


def test_wrapper_as_first_process(run, engine):
    ended = run(*own_namespace(), PROGRAM, "-o", "t.json", fixture("release", "life"), "plain")
    assert ended.status == 0
    check_exact(ended.directory, told(ended.out))


@pytest.mark.parametrize("library", ["libjemalloc.so.2", "libmimalloc.so.2.0"])
def test_other_malloc_by_preload(run, engine, library):
    path = f"/usr/lib/x86_64-linux-gnu/{library}"
    if not os.path.exists(path):
        pytest.skip(f"{library} is not installed")
    for mode in ("short-threads", "signals", "fork-threads"):
        ended = run(PROGRAM, "-o", f"{mode}.json", fixture("release", "life"), mode,
                    env={"LD_PRELOAD": path})
        assert ended.status == 0 and "LOST" not in ended.err
        check_exact(ended.directory, told(ended.out), output=f"{mode}.json")


@pytest.mark.parametrize("wrapper", [True, False])
def test_file_size_limit(run, engine, wrapper):
    """RLIMIT_FSIZE as a full disk: the program ends as ever, and somebody says what is lost."""
    words = ["prlimit", f"--fsize={4 << 20}:{4 << 20}"]
    env = {} if wrapper else {"LD_PRELOAD": str(LIBRARY), "ASYNCFLAME_OUTPUT": "t.json"}
    program = [fixture("release", "life"), "signals"]
    ended = run(*words, *([PROGRAM, "-o", "t.json"] if wrapper else []), *program, env=env)
    assert ended.status == 0
    assert "File too large" in ended.err and ".recording" in ended.err
    recording, = ended.directory.glob("*.recording")
    assert run(PROGRAM, "convert", recording).status == 0
    assert len(ticks(ended.trace("t.json"))) <= told(ended.out)[0][1]


def test_output_directory_goes_away(run, engine, tmp_path):
    """While it runs: nobody minds but the user, who is told."""
    (tmp_path / "there").mkdir()
    script = f'rm -r there; exec "{fixture("release", "life")}" plain'
    ended = run(PROGRAM, "-o", "there/t.json", "sh", "-c", script)
    assert ended.status == 0 and told(ended.out)[0][1] == 10_000
    assert "there/t.json" in ended.err
