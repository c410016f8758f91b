# SPDX-License-Identifier: MIT
"""Futures in shared libraries: linked, loaded while other threads poll, unloaded and loaded again.

The libraries count the polls of their `Tick` themselves; `plugin-host` counts its own.
"""
import json
import os
import re
import subprocess
import time

import pytest

from conftest import FIXTURES, LIBRARY, PROFILES, PROGRAM, clean_environment, fixture, last_json

DRIVE, TASKS, PANIC, THREADS, PARK = range(5)
PLUGINS = ["plugin_one", "plugin_two"]

LINKED = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
uint64_t plugin_one_call(uint32_t what, uint64_t n), plugin_two_call(uint32_t what, uint64_t n);
int main(int argc, char **argv)
{
    unsigned long one = 0, two = 0;
    for (int i = 1; i + 2 < argc; i += 3)
        if (argv[i][0] == '1')
            one += plugin_one_call(atoi(argv[i + 1]), atoi(argv[i + 2]));
        else
            two += plugin_two_call(atoi(argv[i + 1]), atoi(argv[i + 2]));
    printf("{\\"plugin_one\\": %lu, \\"plugin_two\\": %lu}\\n", one, two);
    return 3;
}
"""

# argv: how often, library, function; with FORK in the environment a child does it.
LOADING = """
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
static volatile int over;
static uint64_t (*function)(uint32_t what, uint64_t n);
static unsigned long polls;
static void *spin(void *x) { while (!over) usleep(20); return x; }
static void *call(void *x) { for (int what = 0; what < 4; what++) polls += function(what, 5); return x; }
int main(int argc, char **argv)
{
    pthread_t spinning, calling;
    int unloaded = 0, status;
    if (getenv("FORK") && fork())
        return wait(&status) < 0 ? 99 : WEXITSTATUS(status);
    if (getenv("CLEAR"))
        clearenv();
    pthread_create(&spinning, NULL, spin, NULL);
    for (int i = 0; i < atoi(argv[1]); i++) {
        void *library = dlopen(argv[2], RTLD_NOW);
        if (!library)
            return puts(dlerror()), 1;
        function = dlsym(library, argv[3]);
        pthread_create(&calling, NULL, call, NULL);
        pthread_join(calling, NULL);
        dlclose(library);
        unloaded += !dlopen(argv[2], RTLD_NOW | RTLD_NOLOAD);
    }
    over = 1;
    pthread_join(spinning, NULL);
    printf("{\\"polls\\": %lu, \\"unloaded\\": %d}\\n", polls, unloaded);
    return 5;
}
"""


def library(profile, name):
    return fixture(profile, f"lib{name}.so")


def ticks(trace):
    """{module that Tick is of: (polls, file name of its library)}."""
    found = {}
    for event in trace.polls:
        if event["name"].endswith("::Tick"):
            count, where = found.get(event["name"], (0, event["args"].get("library")))
            assert where == event["args"].get("library")
            found[event["name"]] = (count + 1, where)
    return found


def expected(**polls):
    return {f"{name}::work::Tick": (n, f"lib{name}.so") for name, n in polls.items() if n}


def compile_linked(compile_c, tmp_path, profile):
    """Linked with both libraries; where they have names of their own (rustc 1.63), by these."""
    for name in PLUGINS:
        path = library(profile, name)
        text = subprocess.run(["readelf", "-d", path], capture_output=True, text=True,
                              check=True).stdout
        name_in_it = re.search(r"SONAME.*\[(.*)\]", text)
        if name_in_it:
            (tmp_path / name_in_it[1]).symlink_to(path)
    return compile_c("linked", "-x", "none", *[library(profile, name) for name in PLUGINS],
                     f"-Wl,-rpath,{tmp_path}:{FIXTURES / profile}", source=LINKED)


@pytest.mark.parametrize("profile", PROFILES)
def test_linked(run, asyncflame, engine, compile_c, tmp_path, profile):
    """Both libraries of a program that holds no futures itself."""
    program = compile_linked(compile_c, tmp_path, profile)
    words = [w for what in (DRIVE, TASKS, PANIC, THREADS) for w in (1, what, 5, 2, what, 7)]
    bare = run(program, *words)
    ended = asyncflame("-q", "-o", "t.json", program, *words)
    assert (ended.status, ended.out, ended.err) == (bare.status, bare.out, "") == (3, bare.out, "")
    told = last_json(ended.out)
    trace = ended.trace("t.json")
    assert ticks(trace) == expected(**told)
    for name in PLUGINS:
        panicked = [event for event in trace.polls if event["args"]["result"] == "panicked" and
                    event["name"] == f"{name}::work::Tick"]
        assert len(panicked) == 1


@pytest.mark.parametrize("profile", PROFILES)
def test_linked_without_a_wrapper(run, engine, compile_c, tmp_path, profile):
    program = compile_linked(compile_c, tmp_path, profile)
    ended = run(program, 1, TASKS, 4, env={"LD_PRELOAD": str(LIBRARY), "ASYNCFLAME_QUIET": "1",
                                           "ASYNCFLAME_OUTPUT": "t.json"})
    assert ended.status == 3
    assert ticks(ended.trace("t.json")) == expected(**last_json(ended.out))


def check_waits(trace, name, n):
    """Task i of n waits for Tick i - 1 times, behind a `dyn`."""
    waits = [wait["args"]["stack"] for wait in trace.waits
             if any("::work::task" in level for level in wait["args"].get("stack", []))]
    innermost = [stack[-1] for stack in waits if f"{name}::work::Tick" in stack[-1]]
    assert len(innermost) == n * (n - 1) // 2, waits


@pytest.mark.parametrize("profile", PROFILES)
def test_waits(asyncflame, engine, compile_c, tmp_path, profile):
    """Where the tasks of libraries stand is read through boxes and dyn, of the second one too."""
    program = compile_linked(compile_c, tmp_path, profile)
    for name, number in (("plugin_one", 1), ("plugin_two", 2)):
        ended = asyncflame("-q", "-o", f"{name}.json", program, number, TASKS, 6)
        check_waits(ended.trace(f"{name}.json"), name, 6)


@pytest.mark.parametrize("profile", PROFILES)
def test_waits_in_what_was_loaded(asyncflame, engine, compile_c, tmp_path, profile):
    """The same where vtables are guarded before the library is relocated."""
    source = LOADING.replace("for (int what = 0; what < 4; what++) polls += function(what, 5)",
                             f"polls += function({TASKS}, 6)")
    program = compile_c("loading", source=source)
    ended = asyncflame("-q", "-o", "t.json", program, 1, library(profile, "plugin_one"),
                       "plugin_one_call")
    assert ended.status == 5
    check_waits(ended.trace("t.json"), "plugin_one", 6)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("repeat, plugins", [(1, ["plugin_one"]), (50, ["plugin_one"]),
                                             (50, PLUGINS)])
def test_loaded_while_others_poll(asyncflame, engine, profile, repeat, plugins):
    """Hooked when it comes, while three threads are in hooked functions of the program; unloaded
    and loaded again, another one at the same address in between."""
    host = fixture(profile, "plugin-host")
    ended = asyncflame("-q", "-o", "t.json", host, "--repeat", repeat,
                       *[library(profile, name) for name in plugins])
    assert (ended.status, ended.err) == (0, "")
    told = last_json(ended.out)
    assert told["unloaded"] == repeat * len(plugins)
    trace = ended.trace("t.json")
    found = ticks(trace)
    assert found.pop("plugin_host::Tick") == (told["host"], None)
    assert found == expected(**told["plugins"])
    # Each library's tokio begins to number its tasks at 1, each time.
    spawned = sum(2 * (3 + number % 5) for number in range(repeat))
    for name in plugins:
        assert len([task for task in trace.tasks if task["name"] == f"{name}::work::task"]) == spawned


@pytest.mark.parametrize("environment", [{}, {"CLEAR": "1"}, {"FORK": "1"}])
@pytest.mark.parametrize("profile", PROFILES)
def test_program_without_futures(run, asyncflame, engine, compile_c, profile, environment):
    """Nothing is recorded until a library with futures comes; which the loader finds by the
    caller's own RUNPATH; where the program has cleared its environment; and in a child."""
    program = compile_c("loading", "-Wl,--enable-new-dtags,-rpath," + str(FIXTURES / profile),
                        source=LOADING)
    words = [program, 10, "libplugin_one.so", "plugin_one_call"]
    bare = run(*words, env=environment)
    assert bare.status == 5
    ended = asyncflame("-q", "-o", "t.json", *words, env=environment)
    assert (ended.status, ended.out, ended.err) == (5, bare.out, "")
    names = ended.traces()
    assert len(names) == 1 and (names[0] != "t.json") == ("FORK" in environment)
    assert ticks(ended.trace(names[0])) == expected(plugin_one=last_json(ended.out)["polls"])


def test_no_cache(asyncflame, engine, compile_c, tmp_path):
    """The map of a library comes through memory where it cannot be kept."""
    (tmp_path / "shared").mkdir(mode=0o755)
    program = compile_c("loading", source=LOADING)
    ended = asyncflame("-q", "-o", "t.json", program, 3, library("debug", "plugin_one"),
                       "plugin_one_call", env={"ASYNCFLAME_CACHE": str(tmp_path / "shared")})
    assert ended.status == 5
    assert ticks(ended.trace("t.json")) == expected(plugin_one=last_json(ended.out)["polls"])
    assert not list((tmp_path / "shared").iterdir())


def test_no_companion(run, asyncflame, engine, tmp_path):
    """The host writes what it records, and the maps of libraries that come, itself."""
    words = [fixture("debug", "plugin-host"), "--repeat", 3,
             *[library("debug", name) for name in PLUGINS]]
    assert asyncflame("-q", "-o", "warm.json", *words).status == 0
    ended = run(*words, env={"LD_PRELOAD": str(LIBRARY), "ASYNCFLAME_OUTPUT": "t.json",
                             "ASYNCFLAME_PROGRAM": "/nowhere/asyncflame"})
    assert ended.status == 0
    assert run(PROGRAM, "convert", "-o", "t.json", tmp_path / "t.json.recording").status == 0
    told = last_json(ended.out)
    found = ticks(ended.trace("t.json"))
    assert found.pop("plugin_host::Tick") == (told["host"], None)
    assert found == expected(**told["plugins"])


@pytest.mark.parametrize("options", [["--max-size", "64M"], ["--flight-recorder", "64M"]])
def test_kept_newest(asyncflame, engine, options):
    """What comes late has its names, though the recording has slots that are written in turn."""
    words = [fixture("release", "plugin-host"), "--repeat", 20,
             *[library("release", name) for name in PLUGINS]]
    ended = asyncflame("-q", *options, "-o", "t.json", *words)
    assert ended.status == 0, ended.err
    told = last_json(ended.out)
    found = ticks(ended.trace("t.json"))
    assert found.pop("plugin_host::Tick") == (told["host"], None)
    assert found == expected(**told["plugins"])


def test_confined(asyncflame, engine, compile_c):
    """Who has forbidden itself system calls is left alone."""
    source = LOADING.replace("#include <stdlib.h>", "#include <stdlib.h>\n#include <sys/prctl.h>") \
                    .replace("pthread_create(&spinning", "prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);\n"
                             "    pthread_create(&spinning", 1)
    program = compile_c("confined", source=source)
    ended = asyncflame("-o", "t.json", program, 2, library("release", "plugin_one"),
                       "plugin_one_call")
    assert ended.status == 5
    assert not ended.traces()


def test_stripped_library(asyncflame, engine, compile_c, tmp_path):
    """Said once, with the mend; the program runs as ever."""
    subprocess.run(["strip", "-o", tmp_path / "bare.so", library("release", "plugin_one")],
                   check=True)
    program = compile_c("loading", source=LOADING)
    ended = asyncflame("-o", "t.json", program, 2, tmp_path / "bare.so", "plugin_one_call",
                       env={"ASYNCFLAME_CACHE": str(tmp_path / "cache")})
    assert ended.status == 5
    assert "bare.so is not traced: async Rust without debug info" in ended.err
    assert not ended.traces()


def test_doctor(asyncflame, engine, compile_c, tmp_path):
    program = compile_linked(compile_c, tmp_path, "debug")
    ended = asyncflame("doctor", program)
    assert ended.status == 0
    for name in PLUGINS:
        assert re.search(rf"lib{name}\S*\.so: can be traced: \d+ futures, \d+ poll functions",
                         ended.out)


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("profile", ["debug", "release", "debian-debug"])
def test_dump(run, engine, tmp_path, cache, profile, traced):
    """The tasks of libraries, in a process that was never prepared, and in one that is traced."""
    host = fixture(profile, "plugin-host")
    environment = {**clean_environment(tmp_path), "ASYNCFLAME_CACHE": str(cache)}
    if traced:
        environment.update(LD_PRELOAD=str(LIBRARY), ASYNCFLAME_QUIET="1",
                           ASYNCFLAME_OUTPUT=str(tmp_path / "t.json"))
    process = subprocess.Popen([host, "--park", "3", *[library(profile, n) for n in PLUGINS]],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    try:
        assert process.stdout.readline() == b"parked\n"
        for _ in range(100):
            ended = run(PROGRAM, "dump", "--format", "json", process.pid)
            assert ended.status == 0, ended.err
            tasks = [task for task in json.loads(ended.out)["tasks"]
                     if task["future"] and task["future"]["name"].endswith("::parked")]
            if all(task["state"] == "parked" for task in tasks):
                break
            time.sleep(0.1)
        process.stdin.close()
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    for name in PLUGINS:
        trees = [task["tree"] for task in tasks if task["future"]["name"].startswith(f"{name}::")]
        assert len(trees) == 3
        for tree in trees:
            inner = tree["children"][0]
            assert (tree["name"], inner["name"]) == (f"{name}::work::parked", f"{name}::work::forever")
            assert inner["children"][0]["waits_for"] == "never"
