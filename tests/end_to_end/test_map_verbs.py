# SPDX-License-Identifier: MIT
"""What map, deps and doctor print of a map: filters, sizes, graphs, progress, errors."""
import json
import os
import pathlib
import pty
import re
import shutil
import signal
import subprocess

import pytest

from conftest import PROGRAM, fixture
from maps import BUILDS, built, ledger, read_map, run


def test_filter_and_generated_only(ledger):
    every = read_map(ledger)["futures"]
    some = read_map(ledger, "--filter", "tokio::*")["futures"]
    rest = read_map(ledger, "--filter", "!tokio::*")["futures"]
    assert some and rest
    assert {f["name"] for f in some} == {
        f["name"] for f in every if f["name"].startswith("tokio::")
    }
    assert len(some) + len(rest) == len(every)
    generated = read_map(ledger, "--generated-only")["futures"]
    assert {f["kind"] for f in every} > {f["kind"] for f in generated}
    assert all(f["kind"] != "hand-written" for f in generated)


def test_text_names_the_await_points(ledger):
    result = run(PROGRAM, "map", "--format", "text", ledger)
    assert result.returncode == 0
    assert re.search(r"^ +3 await at /.*\.rs:\d+  \S", result.stdout, re.M)


def test_sizes_say_what_each_await_holds(ledger):
    futures = {f["name"]: f for f in read_map(ledger)["futures"]}
    sizes = read_map(ledger, "--sizes", "--format", "json")["futures"]
    assert [f["size"] for f in sizes] == sorted((f["size"] for f in sizes), reverse=True)
    assert {f["name"] for f in sizes} == set(futures)
    for future in sizes:
        for state in future["states"]:
            assert sum(h["awaited"] for h in state["held"]) <= 1
            for held in state["held"]:
                assert held["offset"] + held["size"] <= future["size"]
    text = run(PROGRAM, "map", "--sizes", ledger).stdout
    assert re.match(rf" +{sizes[0]['size']}  {re.escape(sizes[0]['name'])}  /", text)


def read_deps(path, *options):
    result = run(PROGRAM, "deps", *options, path)
    assert result.returncode == 0, result.stderr
    graph = json.loads(result.stdout)
    names = {f["id"]: f["name"] for f in graph["futures"]}
    return {(names[a["from"]], names.get(a["to"])) for a in graph["awaits"]}, set(names.values())


@pytest.mark.parametrize("build", BUILDS)
def test_deps_of_a_handler(build):
    path = built(build, "shop")
    awaits, names = read_deps(path, "--root", "shop::handlers::checkout")
    assert ("shop::handlers::checkout", "shop::handlers::ask") in awaits
    assert "shop::handlers::sleep" not in names
    # join! drives what it was given through types of tokio's, which a filter hides.
    awaits, names = read_deps(path, "--filter", "shop")
    assert ("shop::handlers::join", "shop::handlers::price_of") in awaits
    assert all(name.startswith("shop::") for name in names)
    dot = run(PROGRAM, "deps", "--format", "dot", "--filter", "shop", path).stdout
    assert dot.startswith("digraph") and dot.count("->") == len(
        [a for a in json.loads(run(PROGRAM, "deps", "--filter", "shop", path).stdout)["awaits"]]
    )


def test_doctor(ledger, tmp_path):
    result = run(PROGRAM, "doctor", ledger)
    assert result.returncode == 0
    assert "can be traced" in result.stdout
    stripped = tmp_path / "stripped"
    run("strip", "-o", stripped, ledger)
    result = run(PROGRAM, "doctor", stripped)
    assert result.returncode == 1
    assert "CARGO_PROFILE_RELEASE_DEBUG=full" in result.stdout
    assert run(PROGRAM, "doctor", "/bin/true").returncode == 1


def test_doctor_keeps_to_the_filter(ledger):
    every = re.search(r"^futures: (\d+)", run(PROGRAM, "doctor", ledger).stdout, re.M)
    result = run(PROGRAM, "doctor", "--filter", "tokio::*", ledger)
    some = re.search(r"^futures: (\d+)", result.stdout, re.M)
    assert int(some[1]) == len(read_map(ledger, "--filter", "tokio::*")["futures"])
    assert 0 < int(some[1]) < int(every[1])
    result = run(PROGRAM, "doctor", "--generated-only", "--filter", "!*", ledger)
    assert "futures: 0\n" in result.stdout and "poll functions: 0," in result.stdout


# Each look at the clock finds it three seconds later: the analysis takes long, as far as it knows.
SLOW = """
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *t)
{
    static long more;
    long failed = syscall(SYS_clock_gettime, clock, t);
    t->tv_sec += more += 3;
    return (int)failed;
}
"""


def on_a_terminal(words, env):
    """What a program writes to the terminal that is its stderr."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=theirs, env=env)
    os.close(theirs)
    out = process.communicate(timeout=60)[0]
    text = b""
    try:
        while more := os.read(ours, 65536):
            text += more
    except OSError:  # EIO: the other end is closed
        pass
    os.close(ours)
    return process.returncode, out, text.decode()


@pytest.mark.parametrize("verb", ["map", "deps", "doctor"])
def test_progress_on_a_terminal_when_it_takes_long(ledger, tmp_path, verb):
    library = tmp_path / "slow.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", library], input=SLOW,
                   text=True, check=True)
    slow = dict(os.environ, LD_PRELOAD=str(library))
    status, out, text = on_a_terminal([PROGRAM, verb, ledger], slow)
    assert status == 0 and out
    steps = re.findall(r"\rasyncflame: reading debug info \[#* *\] +(\d+) %", text)
    assert len(steps) > 1 and [int(s) for s in steps] == sorted(int(s) for s in steps)
    # The line is taken away, and nothing else was written.
    assert re.sub(r"\rasyncflame: reading debug info \[#* *\] +\d+ %", "", text) == "\r\x1b[K"
    # In time, or not on a terminal: silence.
    assert on_a_terminal([PROGRAM, verb, "/bin/true"], dict(os.environ))[2] == ""
    assert run(PROGRAM, verb, ledger, env=slow).stderr == ""


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["/nonexistent"], "No such file"),
        (["/etc/passwd"], "not an ELF file"),
        (["/"], "not a regular file"),
        (["--filter", "a,,b", "/bin/true"], "--filter"),
        (["--format", "xml", "/bin/true"], "--format"),
    ],
)
def test_errors(arguments, message):
    result = run(PROGRAM, "map", *arguments)
    assert result.returncode == 125
    assert message in result.stderr
    assert result.stdout == ""


def test_file_that_becomes_shorter(tmp_path):
    """What is mapped and is no longer there: a line, and no signal."""
    path = tmp_path / "parked"
    shutil.copy(fixture("debug", "parked-tokio"), path)
    process = subprocess.Popen([PROGRAM, "map", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "ASYNCFLAME_CACHE": str(tmp_path / "cache")})
    while str(path) not in pathlib.Path(f"/proc/{process.pid}/maps").read_text("utf-8"):
        assert process.poll() is None
    process.send_signal(signal.SIGSTOP)
    os.truncate(path, 4096)
    process.send_signal(signal.SIGCONT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 125 and out == ""
    assert err.splitlines() == ["asyncflame: a file became shorter while it was read; nothing more can be said of it"]
