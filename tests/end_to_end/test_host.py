# SPDX-License-Identifier: MIT
"""In somebody else's process: what the host can notice of us, and what is left when it dies."""
import json
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

import trace_check
from conftest import LIBRARY, PROFILES, PROGRAM, clean_environment, fixture, last_json

LONG = ["--repeat", "2000", "--quiet"]


def dynamic_needs(path):
    text = subprocess.run(["readelf", "-dW", path], capture_output=True, text=True,
                          check=True).stdout
    return re.findall(r"\(NEEDED\).*\[(.*)\]", text)


def test_library_needs_libc_only(engine):
    assert [name.split(".")[0] for name in dynamic_needs(LIBRARY)] == ["libc"]


def test_library_exports_its_own_and_what_it_stands_before(engine):
    text = subprocess.run(["nm", "-D", "--defined-only", LIBRARY], capture_output=True, text=True,
                          check=True).stdout
    names = {line.split()[-1] for line in text.splitlines()}
    assert {name for name in names if not name.startswith("asyncflame_")} == {
        "prctl", "sigaction", "signal", "pthread_sigmask", "sigprocmask"}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", ["ledger-own", "ledger-tokio", "sleepy"])
def test_plain_preload(run, engine, tmp_path, profile, name):
    ended = run(fixture(profile, name), env={"LD_PRELOAD": str(LIBRARY),
                                             "ASYNCFLAME_OUTPUT": "own.json"})
    assert ended.status == 0
    trace = ended.trace("own.json")
    assert trace.polls and "polls of" in ended.err


def test_plain_preload_without_output(run, engine):
    ended = run(fixture("release", "ledger-own"), env={"LD_PRELOAD": str(LIBRARY)})
    assert ended.traces() == ["ledger-own.trace.json"]


def test_plain_preload_quiet(run, engine):
    ended = run(fixture("release", "ledger-own"),
                env={"LD_PRELOAD": str(LIBRARY), "ASYNCFLAME_QUIET": "1"})
    assert ended.err == "" and ended.traces()


def test_plain_preload_filter(run, engine):
    ended = run(fixture("debug", "ledger-own"),
                env={"LD_PRELOAD": str(LIBRARY), "ASYNCFLAME_OUTPUT": "f.json",
                     "ASYNCFLAME_FILTER": "ledger_own::work::byte"})
    assert set(ended.trace("f.json").counts()) == {"ledger_own::work::byte"}


@pytest.mark.parametrize("words", [["sh", "-c", "echo a; ls / >/dev/null; exit 5"], ["ls", "/"],
                                   ["python3", "-c", "print(1)"]])
def test_strangers_are_left_alone(run, engine, words):
    bare = run(*words)
    ended = run(*words, env={"LD_PRELOAD": str(LIBRARY)})
    assert (ended.status, ended.out, ended.err) == (bare.status, bare.out, bare.err)
    assert not ended.traces()


def test_stripped_runs_on_under_plain_preload(run, engine, tmp_path):
    program = tmp_path / "stripped"
    subprocess.run(["strip", "-o", program, fixture("release", "ledger-own")], check=True)
    # A cache of its own: with the map of the same build-id at hand it would be traced.
    ended = run(program, "--quiet", env={"LD_PRELOAD": str(LIBRARY),
                                         "ASYNCFLAME_CACHE": str(tmp_path / "empty")})
    assert ended.status == 0
    assert "CARGO_PROFILE_RELEASE_DEBUG=full" in ended.err
    assert len(ended.err.splitlines()) == 1 and not ended.traces()


def wait_for_child(parent):
    """The process that the wrapper has started, once it has become another program."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with open(f"/proc/{parent}/task/{parent}/children", encoding="ascii") as file:
            for pid in file.read().split():
                if os.readlink(f"/proc/{pid}/exe") != os.readlink(f"/proc/{parent}/exe"):
                    return int(pid)
        time.sleep(0.002)
    raise AssertionError("the program was not started")


def has_polled(pid, recording, cache):
    """Whether it has, for certain: the recording holds more than a map, or async-io's thread is there,
    which the first poll of a timer starts. That there is a recording says only that it soon will."""
    maps = max((path.stat().st_size for path in cache.glob("*.afmap")), default=0)
    if recording.exists() and recording.stat().st_size > maps + (64 << 10):
        return True
    names = [path.read_text().strip() for path in pathlib.Path(f"/proc/{pid}/task").glob("*/comm")]
    return "async-io" in names


@pytest.mark.parametrize("profile", ["debug", "release"])
@pytest.mark.parametrize("delay", [0.05, 0.06, 0.1])
def test_killed_program_leaves_its_trace(engine, cache, tmp_path, profile, delay):
    """Under the wrapper: it ends like the program does, and the trace is there by then."""
    environment = clean_environment(tmp_path)
    environment["ASYNCFLAME_CACHE"] = str(cache)
    cache.chmod(0o700)
    wrapper = subprocess.Popen([PROGRAM, "-q", "-o", "k.json", fixture(profile, "sleepy" if
                                delay == 0.05 else "ledger-own"), *([] if delay == 0.05 else LONG)],
                               cwd=tmp_path, env=environment)
    child = wait_for_child(wrapper.pid)
    recording = tmp_path / "k.json.recording"
    while not has_polled(child, recording, cache):
        assert wrapper.poll() is None
        time.sleep(0.002)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    assert wrapper.wait(timeout=300) == 128 + signal.SIGKILL
    trace = trace_check.check(tmp_path / "k.json")
    assert trace.polls


def test_the_host_sees_no_child(run, engine):
    """wait() of the host meets nobody that it did not start."""
    program = fixture("release", "ledger-own")
    script = (f"{program} --quiet & wait $!; echo own $?; wait; echo all $?; jobs | wc -l")
    ended = run("sh", "-c", script, env={"LD_PRELOAD": str(LIBRARY), "ASYNCFLAME_QUIET": "1"})
    assert ended.out.split() == ["own", "0", "all", "0", "0"]


def test_pipe_closes_with_the_program(run, engine):
    """The companion keeps no descriptor but stderr: the reader of stdout sees its end."""
    program = fixture("release", "ledger-own")
    ended = run("sh", "-c", f"{program} | wc -c", env={"LD_PRELOAD": str(LIBRARY),
                                                       "ASYNCFLAME_QUIET": "1"})
    assert int(ended.out) > 100


def test_single_thread_stays_single(run, engine, compile_c):
    """No thread of ours in the host: the ledger's own count of its tasks is all there is."""
    ended = run(fixture("release", "ledger-tokio-current"),
                env={"LD_PRELOAD": str(LIBRARY), "ASYNCFLAME_OUTPUT": "s.json"})
    trace = ended.trace("s.json")
    assert len({event["tid"] for event in trace.polls}) == 1
    assert last_json(ended.out)["variant"]


def test_read_only_cache_and_no_cache(run, engine, tmp_path):
    locked = tmp_path / "locked"
    locked.write_text("a file, where a directory is wanted")
    ended = run(fixture("release", "ledger-own"), "--quiet",
                env={"LD_PRELOAD": str(LIBRARY), "ASYNCFLAME_OUTPUT": "c.json",
                     "ASYNCFLAME_CACHE": str(locked)})
    assert ended.status == 0
    assert ended.trace("c.json").polls


def test_companion_that_cannot_begin(run, engine, tmp_path):
    """With the map in the cache the host does not wait at its start; nor for ever at its end."""
    program = fixture("release", "ledger-own")
    preload = {"LD_PRELOAD": str(LIBRARY), "ASYNCFLAME_OUTPUT": "n.json"}
    assert run(program, "--quiet", env=preload).status == 0
    broken = tmp_path / "broken"
    broken.write_text("#!/nowhere/at/all\n")
    broken.chmod(0o755)
    ended = run(program, "--quiet", env={**preload, "ASYNCFLAME_PROGRAM": str(broken)}, timeout=30)
    assert ended.status == 0


def test_output_to_a_device(run, engine):
    ended = run(PROGRAM, "-q", "-o", "/dev/null", fixture("release", "ledger-own"), "--quiet")
    assert ended.status == 0 and not ended.err
    assert not os.path.exists("/dev/null.recording")


# Forbids itself something, then becomes the program.
LAUNCHER = """
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    struct sock_filter all[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog filter = {1, all};
    if (*argv[1] == 'm' && prctl(65 /* PR_SET_MDWE */, 1, 0, 0, 0))
        return 77;
    if (*argv[1] == 's' && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
                prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter)))
        return 77;
    return execv(argv[2], argv + 2);
}
"""
TELLS_MAPPINGS = """
#include <stdio.h>
__attribute__((destructor)) static void tell(void)
{
    char line[4096];
    FILE *maps = fopen("/proc/self/maps", "r"), *to = fopen("mappings", "w");
    while (fgets(line, sizeof(line), maps))
        fputs(line, to);
    fclose(to);
}
"""


@pytest.mark.parametrize("forbidden", ["nothing", "mdwe", "seccomp"])
def test_many_pages_of_text(run, engine, asyncflame, compile_c, forbidden):
    """Where many pages are patched their text is opened, or not, and looks the same afterwards."""
    program = fixture("debug", "waits")
    polls = [p for p in json.loads(asyncflame("map", program).out)["polls"] if p["site"]]
    pages = {int(str(p["site"]["address"]), 0) // 4096 for p in polls}
    assert len(pages) >= 50  # PAGES_TO_OPEN
    launcher = compile_c("launcher", source=LAUNCHER)
    teller = compile_c("teller.so", "-shared", "-fPIC", source=TELLS_MAPPINGS)
    ended = run(launcher, forbidden, program, "tokio",
                env={"LD_PRELOAD": f"{LIBRARY}:{teller}", "ASYNCFLAME_OUTPUT": "t.json"})
    if ended.status == 77:
        pytest.skip(f"this kernel does not know {forbidden}")
    assert ended.status == 0 and f"hooked {len(polls)} of {len(polls)}" in ended.err
    mappings = (ended.directory / "mappings").read_text().splitlines()
    assert not [line for line in mappings if line.split()[1].startswith("rwx")]
    assert [line.split()[1] for line in mappings
            if line.endswith("/waits") and "x" in line.split()[1]] == ["r-xp"]
    assert ended.trace("t.json").polls
