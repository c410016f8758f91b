# SPDX-License-Identifier: MIT
"""Recording off and on: what was polled meanwhile is not in the trace, all else is, and the trace says when.

The fixture `pauses` counts the polls that begin while it is on.
"""
import json
import re
import subprocess

import pytest

import trace_check
from conftest import FIXTURES, LIBRARY, PROFILES, PROGRAM, clean_environment, fixture

PLUGIN = "plugin_one"


def told(text):
    """{pid: (ticks, inside)}, by what each process has said."""
    lines = [json.loads(line) for line in text.splitlines() if line.startswith('{"pid"')]
    return {line["pid"]: (line["ticks"], line["inside"]) for line in lines}


def recorded(directory):
    """The same, by the traces; and {pid: trace}."""
    counts, traces = {}, {}
    for path in directory.glob("t*.json"):
        trace = trace_check.check(path)
        names = [poll["name"] for poll in trace.polls]
        pid = trace.by_phase["M"][0]["pid"]
        assert pid not in traces, "one trace for each process"
        assert not any(poll["args"]["result"] in ("lost", "open") for poll in trace.polls)
        counts[pid] = (names.count("pauses::Tick"),
                       sum(name.startswith("pauses::Inside<") for name in names))
        traces[pid] = trace
    return counts, traces


def switch(asyncflame, profile, *words, options=(), **how):
    ended = asyncflame(*options, "-o", "t.json", fixture(profile, "pauses"), *words, **how)
    assert "LOST" not in ended.err, ended.err
    return ended


def pauses(trace):
    assert all(event["name"] == "recording paused" for event in trace.off)
    return len(trace.off)


def said_pauses(err):
    found = re.search(r"recording was off for \S+ \S+: (\d+) pauses? of the program's", err)
    return int(found.group(1)) if found else 0


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("threads", [1, 8])
def test_polls_while_it_is_on(asyncflame, profile, threads):
    ended = switch(asyncflame, profile, "rounds", threads)
    assert ended.status == 0, ended.err
    counts, traces = recorded(ended.directory)
    assert counts == told(ended.out)
    trace, = traces.values()
    assert pauses(trace) == said_pauses(ended.err) == 20
    # The fixture's words are true of every single pause: all polls lie outside.
    for off in trace.off:
        assert not any(off["begin"] < poll["begin"] < off["end"] for poll in trace.polls)


@pytest.mark.parametrize("profile", PROFILES)
def test_polls_that_are_open_at_the_switch(asyncflame, profile):
    ended = switch(asyncflame, profile, "open")
    assert ended.status == 0, ended.err
    counts, traces = recorded(ended.directory)
    assert counts == told(ended.out)
    trace, = traces.values()
    assert pauses(trace) == said_pauses(ended.err) == 50
    # Begun before the pause, ended after it: with the polls of both times in it.
    outermost = [p for p in trace.polls if p["name"].startswith("pauses::Inside<")]
    assert len(outermost) == 50
    for off, poll in zip(trace.off, sorted(outermost, key=lambda poll: poll["begin"])):
        assert poll["begin"] < off["begin"] < off["end"] < poll["end"]


@pytest.mark.parametrize("profile, threads", [*[(profile, 1) for profile in PROFILES], ("debug", 8),
                                              ("release", 8)])
def test_panics_through_polls_of_both_kinds(asyncflame, profile, threads):
    ended = switch(asyncflame, profile, "panics", threads)
    assert ended.status == 0, ended.err
    counts, traces = recorded(ended.directory)
    assert counts == told(ended.out)
    trace, = traces.values()
    panicked = [poll for poll in trace.polls if poll["args"]["result"] == "panicked"]
    # Of each round the outermost poll, and in every third the innermost one.
    assert len(panicked) == 200 + 67
    assert pauses(trace) == said_pauses(ended.err) == 200 + 10 * 20


@pytest.mark.parametrize("profile", ["debug", "release"])
def test_switched_at_any_moment(asyncflame, profile):
    """From threads and a signal handler: every begin that is recorded has its end."""
    ended = switch(asyncflame, profile, "storm", 3)
    assert ended.status == 0, ended.err
    counts, traces = recorded(ended.directory)
    assert len(counts) == 1 and pauses(*traces.values()) > 100


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("mode", ["fork", "bare-fork"])
def test_fork_while_it_is_off(asyncflame, profile, mode):
    ended = switch(asyncflame, profile, mode)
    assert ended.status == 0, ended.err
    counts, traces = recorded(ended.directory)
    assert counts == told(ended.out)
    assert sorted(pauses(trace) for trace in traces.values()) == [1, 2]


@pytest.mark.parametrize("profile", ["debug", "release"])
def test_a_child_that_stays_off_has_no_trace(asyncflame, profile):
    ended = switch(asyncflame, profile, "fork-silent")
    assert ended.status == 0, ended.err
    processes = told(ended.out)
    assert sorted(ticks for ticks, _ in processes.values()) == [0, 11_000]
    counts, _ = recorded(ended.directory)
    assert list(counts.values()) == [(11_000, 0)]


@pytest.mark.parametrize("profile", PROFILES)
def test_in_a_sandbox(asyncflame, profile):
    ended = switch(asyncflame, profile, "confined")
    assert ended.status == 0, ended.err
    counts, traces = recorded(ended.directory)
    assert counts == told(ended.out) and list(counts.values()) == [(20_500, 0)]
    assert pauses(*traces.values()) == 10


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("wrapper", [True, False])
def test_started_paused(run, profile, wrapper, tmp_path):
    program = fixture(profile, "pauses")
    words, env = [PROGRAM, "--paused", "-o", "t.json", program], {}
    if not wrapper:
        words = [program]
        env = {"LD_PRELOAD": str(LIBRARY), "ASYNCFLAME_OUTPUT": "t.json", "ASYNCFLAME_PAUSED": "1"}
    ended = run(*words, "started-paused", env=env)
    assert ended.status == 0 and "LOST" not in ended.err
    counts, traces = recorded(tmp_path)
    assert counts == told(ended.out) and list(counts.values()) == [(10_077, 0)]
    assert pauses(*traces.values()) == said_pauses(ended.err) == 1


def test_never_resumed(asyncflame):
    """Nothing was recorded, which is no mistake, and there is a trace that says so."""
    ended = asyncflame("--paused", "-o", "t.json", FIXTURES / "release" / "hot", 100_000)
    assert ended.status == 0 and said_pauses(ended.err) == 1
    trace = ended.trace("t.json")
    assert not trace.polls and not trace.waits and pauses(trace) == 1
    assert trace.off[0]["args"]["open"] is True


def test_killed_while_it_is_off(asyncflame):
    ended = switch(asyncflame, "release", "killed")
    assert ended.status == 9
    counts, traces = recorded(ended.directory)
    assert counts == told(ended.out) and list(counts.values()) == [(5_000, 0)]
    assert pauses(*traces.values()) == 1


def test_nobody_to_ask(run, asyncflame):
    pauses_ = FIXTURES / "release" / "pauses"
    assert run(pauses_, "untraced").out == '{"pause":false,"resume":false}\n'
    ended = asyncflame("-o", "t.json", pauses_, "untraced")
    assert ended.out == '{"pause":true,"resume":true}\n'


@pytest.mark.parametrize("profile", PROFILES)
def test_a_wait_is_cut(asyncflame, profile):
    """The task is polled while it is off, and stands at another await afterwards: what is shown of it ends
    with the pause's begin, and begins with its end. A task that waits on is not said to, either."""
    ended = switch(asyncflame, profile, "waits")
    assert ended.status == 0, ended.err
    trace = ended.trace("t.json")
    off, = trace.off
    assert off["end"] - off["begin"] >= 60_000_000
    task, other = [t["args"]["task"] for t in sorted(trace.tasks, key=lambda task: task["begin"])
                   if t["name"].startswith("pauses::waiting")]
    waits = [wait for wait in trace.waits if wait["args"]["task"] == task
             and wait["begin"] < wait["end"]]
    first, second = waits
    assert first["end"] == off["begin"] and first["args"]["recording_off"] is True
    assert second["begin"] == off["end"] and second["args"]["unknown_begin"] is True
    lines = [int(wait["args"]["at"].rpartition(":")[2]) for wait in waits if "at" in wait["args"]]
    if len(lines) == 2:
        assert lines[1] == lines[0] + 1
    assert lines, "where it stood is known once at least"
    first, *_ = [wait for wait in trace.waits if wait["args"]["task"] == other]
    assert first["end"] == off["begin"]


@pytest.mark.parametrize("profile", ["debug", "release"])
def test_a_dump_says_nothing_of_polls_that_nobody_saw(run, profile, cache, tmp_path):
    """When a task was polled last: known only if it has been on since then."""
    environment = clean_environment(tmp_path)
    environment["ASYNCFLAME_CACHE"] = str(cache)
    cache.chmod(0o700)
    program = subprocess.Popen([PROGRAM, "-q", "-o", tmp_path / "t.json", fixture(profile, "pauses"), "told"],
                               env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    pid = program.stdout.readline().strip()

    def known_after(word):
        program.stdin.write(f"{word}\n")
        program.stdin.flush()
        assert program.stdout.readline() == "done\n"
        done = run(PROGRAM, "dump", "--format", "json", pid)
        assert done.status == 0, done.err
        task, = [t for t in json.loads(done.out)["tasks"] if t["future"]["name"] == "pauses::woken"]
        return task["polled_ns_ago"] is not None

    words = ["wake", "pause", "wake", "resume", "wake"]
    assert [known_after(word) for word in words] == [True, False, False, False, True]
    program.stdin.close()
    assert program.wait(60) == 0


LIMIT = 3 << 20


@pytest.mark.parametrize("profile", ["release", "debian-release"])
@pytest.mark.parametrize("mode", ["full", "full-bare", "full-within"])
def test_the_oldest_is_kept(asyncflame, profile, mode, tmp_path):
    """Nothing more is recorded, at all; and what is there is told to have ended. A child begins anew."""
    ended = asyncflame("--max-size", "3M", "--keep", "oldest", "-o", "t.raw", fixture(profile, "pauses"),
                       mode)
    assert ended.status == 0, ended.err
    assert '{"resumed":false}' in ended.out
    child, = told(ended.out).items()
    found = {}
    for raw in tmp_path.glob("*.raw"):
        assert raw.stat().st_size <= LIMIT + 4096
        converted = asyncflame("convert", raw, "-o", "c.json")
        assert converted.status == 0, converted.err
        trace = trace_check.check(tmp_path / "c.json")
        found[trace.by_phase["M"][0]["pid"]] = (trace, converted.err)
    assert len(found) == 2
    trace, said = found.pop(child[0])
    assert len([p for p in trace.polls if p["name"] == "pauses::Tick"]) == child[1][0] == 12_345
    assert "LOST" not in said and not trace.off
    (trace, said), = found.values()
    assert "LOST: all that came after the recording had reached its --max-size" in said
    stopped, = trace.off
    assert stopped["name"] == "recording stopped"
    assert all(poll["begin"] <= stopped["begin"] for poll in trace.polls)
    assert all(wait["end"] <= stopped["begin"] for wait in trace.waits)
    # 3 MB hold 98,304 polls, the fixture makes 5,000,000.
    assert 50_000 < len(trace.polls) < 98_304


# argv: library, function. Off, the library is loaded and called; on, it is called again.
LOADING = """
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
static unsigned long calls(const char *path, const char *name)
{
    unsigned long polls = 0;
    uint64_t (*function)(uint32_t what, uint64_t n) = 0;
    void *library = dlopen(path, RTLD_NOW);
    if (!library || !(function = dlsym(library, name)))
        return puts(dlerror()), exit(1), 0;
    for (int what = 0; what < 3; what++)
        polls += function(what, 5);
    if (getenv("UNLOAD"))
        dlclose(library);
    return polls;
}
int main(int argc, char **argv)
{
    int (*pause)(void) = dlsym(RTLD_DEFAULT, "asyncflame_pause");
    int (*resume)(void) = dlsym(RTLD_DEFAULT, "asyncflame_resume");
    if (!getenv("ASYNCFLAME_PAUSED") && pause())
        return 2;
    unsigned long off = calls(argv[1], argv[2]);
    if (resume())
        return 3;
    unsigned long on = calls(argv[1], argv[2]);
    if (pause())
        return 4;
    off += calls(argv[1], argv[2]);
    resume();
    printf("{\\"on\\": %lu, \\"off\\": %lu}\\n", on, off);
    return 5;
}
"""


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("how", [{}, {"ASYNCFLAME_PAUSED": "1"}, {"UNLOAD": "1"}])
def test_a_library_that_is_loaded_while_it_is_off(run, compile_c, profile, how, tmp_path):
    """By a program without futures, whose session begins with that library, and where it was unloaded it
    comes back to cells that are there already."""
    program = compile_c("loading", source=LOADING)
    library = fixture(profile, f"lib{PLUGIN}.so")
    ended = run(PROGRAM, *(["--paused"] if "ASYNCFLAME_PAUSED" in how else []), "-o", "t.json", program,
                library, f"{PLUGIN}_call", env=how)
    assert ended.status == 5, ended.out + ended.err
    counted = json.loads(ended.out)
    assert counted["on"] > 20 and counted["off"] == 2 * counted["on"]
    trace = trace_check.check(tmp_path / "t.json")
    ticks = [poll for poll in trace.polls if poll["name"] == f"{PLUGIN}::work::Tick"]
    assert len(ticks) == counted["on"]
    assert pauses(trace) == 2


def test_help(asyncflame):
    ended = asyncflame("help", "run")
    assert "--paused" in ended.out and "_PAUSED" in ended.out
