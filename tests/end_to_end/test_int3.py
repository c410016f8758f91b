# SPDX-License-Identifier: MIT
"""Functions in which no jump finds room: refused, or on request hooked by int3.

tiny.rs has 80 of them, one behind the other; it counts its polls itself.
"""
import json
import os
import pathlib
import shutil
import subprocess

import pytest

import life
from conftest import LIBRARY, last_json

SHORT = "too short for a jump, and no padding near it"
SOURCE = pathlib.Path(__file__).parent / "tiny.rs"
TINY = 80
DIED = 128 + 5

RUSTC = [rustc for rustc in dict.fromkeys([shutil.which("rustc"), "/usr/bin/rustc"])
         if rustc and os.path.exists(rustc)]

# argv: the library. SIGTRAP is handled before it is loaded.
LOADING = """
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>
static int caught;
static volatile int over;
static void *spin(void *x) { while (!over) usleep(20); return x; }
static void handler(int signal) { caught++; }
int main(int argc, char **argv)
{
    pthread_t spinning;
    unsigned long polls = 0;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    pthread_create(&spinning, NULL, spin, NULL);
    signal(SIGTRAP, handler);
    for (int i = 0; i < 3; i++) {
        void *library = dlopen(argv[1], RTLD_NOW);
        uint64_t (*run)(uintptr_t) = dlsym(library, "tiny_run");
        polls += run((uintptr_t)handler);
        dlclose(library);
    }
    over = 1;
    pthread_join(spinning, NULL);
    printf("{\\"polls\\": %lu, \\"caught\\": %d}\\n", polls, caught);
    return 5;
}
"""

# argv: a program to be traced, all signals of which are passed on.
TRACER = """
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    int status, pid = fork();
    if (!pid) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        return execv(argv[1], argv + 1);
    }
    waitpid(pid, &status, 0);
    while (WIFSTOPPED(status)) {
        long signal = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
        ptrace(PTRACE_CONT, pid, 0, signal);
        waitpid(pid, &status, 0);
    }
    return WEXITSTATUS(status);
}
"""


@pytest.fixture(scope="module", params=RUSTC)
def rustc(request, tmp_path_factory):
    """rustc(*flags): tiny.rs, compiled once for each kind."""
    directory = tmp_path_factory.mktemp("tiny")

    def compile_tiny(name, *flags):
        path = directory / name
        if not path.exists():
            subprocess.run([request.param, "--edition=2021", "-g", "-Copt-level=z", "-Ccodegen-units=1",
                            *flags, "-o", path, SOURCE], check=True)
        return path

    return compile_tiny


@pytest.fixture
def tiny(rustc):
    return rustc("tiny")


def polls_of(trace):
    return [event for event in trace.polls if event["name"].startswith("tiny::Tiny<")]


def needing(asyncflame, tiny):
    """The map's polls that need an int3."""
    polls = json.loads(asyncflame("map", tiny).out)["polls"]
    return {poll["name"] for poll in polls if poll["site"] and poll["site"]["patch"] == 1}


def test_the_map_and_doctor_know_them(asyncflame, tiny):
    polls = json.loads(asyncflame("map", tiny).out)["polls"]
    wanted = [poll for poll in polls if poll["site"]["patch"] == 1]
    assert len(polls) == TINY and len(wanted) >= TINY - 20
    assert {poll["refusal"] for poll in wanted} == {SHORT}
    # More is displaced than is written: nobody else comes to the byte behind an int3.
    assert {poll["site"]["displaced"] for poll in wanted} == {2}
    assert {poll["refusal"] for poll in polls if poll["site"]["patch"] != 1} <= {None}
    doctor = asyncflame("doctor", tiny).out
    assert f"{TINY - len(wanted):8}  can be hooked\n" in doctor
    assert f"{len(wanted):8}  cannot: {SHORT}\n" in doctor
    assert f"{len(wanted):8}  of these can with run --int3" in doctor


def test_not_asked_for_they_are_refused(asyncflame, engine, tiny):
    refused = needing(asyncflame, tiny)
    ended = asyncflame("-o", "t.json", tiny, "plain")
    assert ended.status == 0
    assert f"hooked {TINY - len(refused)} of {TINY} poll functions" in ended.err
    assert f"{len(refused):7}  {SHORT}" in ended.err and "by int3" not in ended.err
    if len(refused) < TINY:
        assert not refused & {event["name"] for event in polls_of(ended.trace("t.json"))}


@pytest.mark.parametrize("wrapper", [True, False], ids=["run", "preload"])
def test_exact_and_labelled(run, asyncflame, engine, tiny, wrapper):
    trapped = needing(asyncflame, tiny)
    if wrapper:
        ended = asyncflame("--int3", "-o", "t.json", tiny, "plain")
    else:
        ended = run(tiny, "plain", env={"LD_PRELOAD": str(LIBRARY), "ASYNCFLAME_INT3": "1",
                                        "ASYNCFLAME_OUTPUT": "t.json"})
    polls = polls_of(ended.trace("t.json"))
    assert ended.status == 0 and len(polls) == last_json(ended.out)["polls"]
    assert {event["args"]["result"] for event in polls} == {"ready"}
    assert {event["name"] for event in polls if event["args"].get("hook") == "int3"} == trapped
    assert all(event["name"] in trapped for event in polls if "hook" in event["args"])
    assert f"hooked {TINY} of {TINY} poll functions\n    {len(trapped)} of them by int3" in ended.err


@pytest.mark.parametrize("mode", ["threads", "signals", "masked", "own-handler", "sent", "borrow", "fork"])
def test_the_host_goes_on_as_ever(run, asyncflame, engine, tiny, tmp_path, mode):
    assert run(tiny, mode).status == 0
    ended = asyncflame("--int3", "-o", "t.json", tiny, mode)
    assert ended.status == 0, ended.err
    assert "LOST" not in ended.err
    found = []
    for path in tmp_path.glob("t*.json"):
        polls = polls_of(ended.trace(path.name))
        found.append((polls[0]["pid"], len(polls)))
    assert sorted(found) == sorted(life.told(ended.out))


@pytest.mark.parametrize("mode", ["masked", "own-handler", "borrow", "fork"])
def test_not_asked_for_libc_does_as_ever(asyncflame, engine, tiny, mode):
    ended = asyncflame("-o", "t.json", tiny, mode)
    assert ended.status == 0, ended.err


@pytest.mark.parametrize("mode", ["raise", "kill", "breakpoint", "ignored"])
def test_it_ends_as_ever(run, asyncflame, engine, tiny, mode):
    assert run(tiny, mode).status == DIED
    ended = asyncflame("--int3", "-o", "t.json", tiny, mode)
    assert ended.status == DIED
    assert len(polls_of(ended.trace("t.json"))) == last_json(ended.out)["polls"] == TINY


def test_a_library_that_comes_and_goes(run, asyncflame, engine, rustc, compile_c):
    """While another thread runs, with SIGTRAP handled and all signals blocked before it comes."""
    library = rustc("libtiny.so", "--crate-type=cdylib", "--crate-name=tiny")
    program = compile_c("loading", "-pthread", source=LOADING)
    ended = asyncflame("--int3", "-o", "t.json", program, library)
    told = last_json(ended.out)
    assert ended.status == 5 and told["polls"] == 3 * 100 * TINY, ended.err
    assert told["caught"] == 3 * 2 * 100
    assert len(polls_of(ended.trace("t.json"))) == told["polls"]


def test_a_debugged_program_is_left_alone(asyncflame, engine, tiny, compile_c):
    """A debugger would take the traps for its own."""
    refused = needing(asyncflame, tiny)
    ended = asyncflame("--int3", "-o", "t.json", compile_c("tracer", source=TRACER), tiny, "plain")
    assert ended.status == 0
    assert f"hooked {TINY - len(refused)} of {TINY} poll functions" in ended.err
    assert "by int3" not in ended.err
