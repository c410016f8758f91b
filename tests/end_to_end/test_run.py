# SPDX-License-Identifier: MIT
"""asyncflame run: what bad input gets, how it ends, and that the program notices nothing."""
import json
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import time

import pytest

from conftest import LIBRARY, PROFILES, PROGRAM, clean_environment, fixture, last_json
import trace_check


def one_line(ended, *words):
    """stderr is one line from asyncflame that holds all of these words."""
    lines = ended.err.splitlines()
    assert len(lines) == 1, ended.err
    assert lines[0].startswith("asyncflame: ")
    for word in words:
        assert word in lines[0]


# --- What bad input gets

def test_no_such_program(asyncflame):
    for name in "./nosuch", "nosuch-program", "", "/dev/null/x":
        ended = asyncflame(name)
        assert ended.status == 127
        one_line(ended, "no such program")


def test_not_an_elf_file(asyncflame, tmp_path):
    for content in b"hello\n", b"", b"\x7fELF", b"\x7fELF" + bytes(100):
        path = tmp_path / "text"
        path.write_bytes(content)
        path.chmod(0o755)
        ended = asyncflame(path)
        assert ended.status == 126, content
        one_line(ended, str(path))


def test_not_executable(asyncflame, compile_c, tmp_path):
    compile_c("program").chmod(0o644)
    for name in "./program", tmp_path:
        ended = asyncflame(name)
        assert ended.status == 126
        one_line(ended, "cannot be executed")


@pytest.mark.parametrize("flag", ["-static", "-static-pie"])
def test_static_program(asyncflame, compile_c, flag):
    program = compile_c("program", flag)
    ended = asyncflame(program)
    assert ended.status == 125
    one_line(ended, "statically linked", "crt-static")
    assert asyncflame("--children", program).status == 3


def test_another_architecture(asyncflame, compile_c):
    program = compile_c("program")
    image = bytearray(program.read_bytes())
    image[18:20] = (243).to_bytes(2, "little")
    program.write_bytes(image)
    ended = asyncflame(program)
    assert ended.status == 126
    one_line(ended, "RISC-V")


def test_setuid(asyncflame, compile_c):
    for mode in stat.S_ISUID, stat.S_ISGID:
        program = compile_c("program")
        program.chmod(0o755 | mode)
        ended = asyncflame(program)
        assert ended.status == 125
        one_line(ended, "setuid")
        assert asyncflame("--children", program).status == 3


STARTED = "this is what the program prints"


@pytest.mark.parametrize("strip, says", [
    (["--strip-all"], "CARGO_PROFILE_RELEASE_DEBUG=full"),
    (["--strip-debug"], "CARGO_PROFILE_RELEASE_DEBUG=full"),
])
@pytest.mark.parametrize("profile", PROFILES)
def test_async_rust_without_debug_info_is_not_started(run, asyncflame, tmp_path, profile, strip,
                                                      says):
    program = tmp_path / "sleepy"
    shutil.copy(fixture(profile, "ledger-own"), program)
    subprocess.run(["strip", *strip, program], check=True)
    # A cache of its own: with the map of the same build-id at hand it could be traced.
    ended = asyncflame(program, env={"ASYNCFLAME_CACHE": str(tmp_path / "empty")})
    assert ended.status == 125
    one_line(ended, says, "strip")
    assert ended.out == ""
    ended = asyncflame("--children", program)
    assert ended.status == 0
    assert last_json(ended.out)["variant"] == "own"


def test_line_tables_only_is_not_started(asyncflame, tmp_path):
    source = tmp_path / "main.rs"
    source.write_text("async fn f() -> u8 { 1 }\n"
                      "fn main() { let f: Box<dyn std::future::Future<Output = u8>> = "
                      "Box::new(f()); println!(\"{}\", std::mem::size_of_val(&*f)); }\n")
    program = tmp_path / "program"
    built = subprocess.run(["rustc", "--edition=2021", "-Cdebuginfo=line-tables-only", "-o",
                            program, source], check=False, capture_output=True)
    if built.returncode:
        built = subprocess.run(["rustc", "--edition=2021", "-Cdebuginfo=1", "-o", program, source],
                               check=False, capture_output=True)
    if built.returncode:
        pytest.skip("no rustc that builds this")
    ended = asyncflame(program)
    assert ended.status == 125
    one_line(ended, "debug = \"full\"")


def test_unwritable_output_is_told_before_the_start(asyncflame, tmp_path):
    for output in "no/such/dir/t.json", ".", "/proc/t.json", "":
        ended = asyncflame("-o", output, "sh", "-c", f"echo {STARTED}")
        assert ended.status == 125
        one_line(ended, output)
        assert ended.out == ""
    assert [path.name for path in tmp_path.iterdir()] == []


def test_malformed_filter(asyncflame):
    for words in ["--filter", "app::["], ["--filter=app::[a"]:
        ended = asyncflame(*words, "sh", "-c", f"echo {STARTED}")
        assert ended.status == 125
        one_line(ended, "--filter")
        assert ended.out == ""
    ended = asyncflame("true", env={"ASYNCFLAME_FILTER": "app::["})
    assert ended.status == 125


def test_usage(asyncflame):
    assert asyncflame().status == 125
    assert asyncflame("run").status == 125
    assert asyncflame("--no-such-option", "true").status == 125
    assert asyncflame("--format", "xml", "true").status == 125
    assert asyncflame("-o").status == 125
    assert asyncflame("help", "nosuch").status == 125
    for words in ["--help"], ["help"], ["help", "run"], ["help", "convert"], ["help", "map"]:
        ended = asyncflame(*words)
        assert ended.status == 0
        assert "asyncflame" in ended.out
        assert ended.err == ""
    assert asyncflame("--version").out.startswith("asyncflame ")


@pytest.mark.parametrize("wrapper", [True, False])
def test_the_newest_run_has_the_name(run, engine, wrapper):
    """What ran a moment ago was another process, not what this one was before an exec."""
    for _ in range(4):
        if wrapper:
            ended = run(PROGRAM, "-o", "t.json", fixture("release", "life"), "plain")
        else:
            ended = run(fixture("release", "life"), "plain",
                        env={"LD_PRELOAD": str(LIBRARY), "ASYNCFLAME_OUTPUT": "t.json"})
        assert ended.status == 0
        assert ended.traces() == ["t.json"]
        pid = last_json(ended.out)["pid"]
        assert {event["pid"] for event in ended.trace("t.json").polls} == {pid}


# --- How it ends

@pytest.mark.parametrize("script, status", [
    ("exit 0", 0), ("exit 1", 1), ("exit 7", 7), ("exit 255", 255),
    ("kill -TERM $$", 143), ("kill -KILL $$", 137), ("kill -SEGV $$", 139),
])
def test_exit_status_is_the_programs(asyncflame, script, status):
    assert asyncflame("-q", "sh", "-c", script).status == status


def test_what_is_not_async_is_simply_run(asyncflame, tmp_path):
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\ncat\necho \"$@\"\nexit 9\n")
    script.chmod(0o755)
    ended = asyncflame("./script", "-o", "--filter", "x y", input="from stdin\n")
    assert ended.status == 9
    assert ended.out == "from stdin\n-o --filter x y\n"
    one_line(ended, "nothing was traced", "script")
    assert asyncflame("-q", "./script").err == ""
    assert [path.name for path in tmp_path.iterdir()] == ["script"]


def test_rust_without_async_is_simply_run(asyncflame):
    ended = asyncflame(fixture("debug", "sync-only"))
    assert ended.status == 0
    assert ended.out == "plain\n"
    one_line(ended, "nothing was traced")


def start(tmp_path, *words, **how):
    return subprocess.Popen([PROGRAM, *words], cwd=tmp_path, env=clean_environment(tmp_path),
                            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_signals_to_the_wrapper_reach_the_program(tmp_path, number):
    script = f"trap 'echo caught; exit 5' {number.value}; echo ready; while :; do sleep 0.05; done"
    child = start(tmp_path, "-q", "sh", "-c", script)
    assert child.stdout.readline() == "ready\n"
    child.send_signal(number)
    assert child.communicate(timeout=20)[0] == "caught\n"
    assert child.returncode == 5


def test_ctrl_c_is_the_programs_to_answer(tmp_path):
    script = "trap 'echo caught; exit 6' INT; echo ready; while :; do sleep 0.05; done"
    child = start(tmp_path, "-q", "sh", "-c", script, start_new_session=True)
    assert child.stdout.readline() == "ready\n"
    os.killpg(child.pid, signal.SIGINT)
    assert child.communicate(timeout=20)[0] == "caught\n"
    assert child.returncode == 6


def test_ignored_signals_stay_ignored(tmp_path):
    """As under nohup: the wrapper's own dispositions must not leak into the program."""
    child = start(tmp_path, "-q", "grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status",
                  preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
                  restore_signals=True)
    lines = dict(line.split(":") for line in child.communicate(timeout=20)[0].splitlines())
    assert int(lines["SigBlk"], 16) == 0
    ignored = int(lines["SigIgn"], 16)
    assert ignored >> (signal.SIGHUP - 1) & 1
    assert not ignored >> (signal.SIGINT - 1) & 1
    assert not ignored >> (signal.SIGTSTP - 1) & 1


def state_of(pid):
    return pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


def wait_for_state(pid, wanted):
    deadline = time.monotonic() + 20
    while state_of(pid) not in wanted:
        assert time.monotonic() < deadline, f"{pid} is {state_of(pid)}, not {wanted}"
        time.sleep(0.01)


def test_stops_and_goes_on_with_the_program(tmp_path):
    child = start(tmp_path, "-q", "sh", "-c", "echo $$; read line; echo $line",
                  stdin=subprocess.PIPE, start_new_session=True)
    program = int(child.stdout.readline())
    os.kill(program, signal.SIGSTOP)
    wait_for_state(child.pid, "T")
    child.send_signal(signal.SIGCONT)
    wait_for_state(program, "SR")
    assert child.communicate("on\n", timeout=20)[0] == "on\n"
    assert child.returncode == 0


def test_environment_is_added_to_not_replaced(asyncflame, compile_c):
    other = compile_c("other.so", "-shared", "-fPIC", source="int other;\n")
    ended = asyncflame("-q", "sh", "-c", "echo $LD_PRELOAD; echo $ASYNCFLAME_OUTPUT; "
                       "test $ASYNCFLAME_MAIN_PID = $$ && echo same", env={"LD_PRELOAD": str(other)})
    preload, output, same = ended.out.splitlines()
    assert preload.endswith(f":{other}")
    assert output == str(ended.directory / "sh.trace.json")
    assert same == "same"


# --- Convert

def raw_trace(records):
    """A raw trace of one thread without any map; see lib/record/rawtrace.h."""
    body = b"".join((ticks << 8 | kind).to_bytes(8, "little") +
                    (function << 47 | subject).to_bytes(8, "little")
                    for kind, ticks, function, subject in records)
    chunk = b"".join(n.to_bytes(4, "little") for n in (77, 0, len(records), 0))
    chunk += b"main".ljust(16, b"\0") + body
    header = b"AFRAW\0\1\n" + b"".join(n.to_bytes(4, "little") for n in (5, 64, 77, 2)) + bytes(40)
    return header + (3).to_bytes(8, "little") + len(chunk).to_bytes(8, "little") + chunk


def test_convert(asyncflame, tmp_path):
    raw = raw_trace([(1, 1000, 1, 64), (6, 3001, 1, 1)])
    (tmp_path / "app.raw").write_bytes(raw)
    ended = asyncflame("convert", "app.raw")
    assert ended.status == 0
    assert "1 poll of 1 task on 1 thread" in ended.err
    assert "cut off" in ended.err
    poll, = ended.trace("app.json").polls
    assert (poll["begin"], poll["end"], poll["args"]["result"]) == (1000, 3001, "ready")
    for size in 0, 63, 64, 80, 100, len(raw) - 1:
        (tmp_path / "cut.raw").write_bytes(raw[:size])
        ended = asyncflame("convert", "-q", "cut.raw", "-o", "cut.json")
        assert ended.status == (0 if size >= 64 else 125)
    assert asyncflame("convert", "nosuch.raw").status == 125
    assert asyncflame("convert", "app.raw", "-o", "no/such/dir").status == 125
    assert not list(tmp_path.glob(".*"))


# --- The check itself

@pytest.mark.parametrize("change", [
    lambda e: e.update(ts=-1), lambda e: e.pop("dur"), lambda e: e.update(name=""),
    lambda e: e.update(dur=4.5), lambda e: e.update(ts=1.0005), lambda e: e.pop("tid"),
    lambda e: e["args"].update(result="fine"), lambda e: e["args"].pop("task"),
    lambda e: e.update(tid=8),
])
def test_the_check_finds_what_is_wrong(change):
    def poll(ts, dur):
        return {"ph": "X", "pid": 7, "tid": 7, "ts": ts, "name": "f", "cat": "poll", "dur": dur,
                "args": {"future": "f", "at": "", "task": 1, "result": "ready"}}

    events = [{"ph": "M", "pid": 7, "tid": 7, "name": name, "args": {"name": "x"}}
              for name in ("process_name", "thread_name")]
    events += [poll(1, 4), poll(2, 1), poll(3, 2)]
    assert len(trace_check.check_text(json.dumps(events)).polls) == 3
    change(events[3])
    with pytest.raises(trace_check.Wrong):
        trace_check.check_text(json.dumps(events))


# --- The program notices nothing, and the trace is good

QUIET = [("ledger-own", []), ("sleepy", []), ("panics", ["catch"]), ("panics", ["joinhandle"]),
         ("panics", ["drop"])]


def steady(out):
    """What two runs of a program have in common: how often a future that waits for another
    thread is polled, the threads decide."""
    if "{" not in out:
        return out
    told = last_json(out)
    return out[:out.index("{")], {key: told.get(key) for key in
                                  ("variant", "mode", "threads", "total", "awaits", "caught")}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name, arguments", QUIET, ids=lambda value: str(value))
def test_same_output_and_status(run, asyncflame, engine, profile, name, arguments):
    program = fixture(profile, name)
    alone = run(program, *arguments)
    traced = asyncflame("-q", "-o", "t.json", program, *arguments)
    assert traced.status == alone.status
    assert steady(traced.out) == steady(alone.out)
    assert traced.trace("t.json").polls


@pytest.mark.parametrize("profile", PROFILES)
def test_an_aborted_program_leaves_its_trace(run, asyncflame, engine, profile):
    program = fixture(profile, "panics")
    alone = run(program, "abort")
    traced = asyncflame("-o", "t.json", program, "abort")
    assert traced.status == alone.status == 128 + signal.SIGABRT
    assert traced.out == alone.out
    assert any(poll["args"]["result"] == "open" for poll in traced.trace("t.json").polls)


@pytest.mark.parametrize("profile", PROFILES)
def test_summary_and_default_output(asyncflame, engine, profile):
    ended = asyncflame(fixture(profile, "ledger-own"))
    assert ended.traces() == ["ledger-own.trace.json"]
    trace = ended.trace("ledger-own.trace.json")
    assert f"{len(trace.polls):,} polls of" in ended.err
    for words in "hooked", "longest polls", ".rs:", "ui.perfetto.dev", "ledger-own.trace.json":
        assert words in ended.err


def test_programs_started_by_a_shell_are_traced_each_into_its_own_file(asyncflame, engine):
    program = fixture("debug", "ledger-own")
    ended = asyncflame("sh", "-c", f"{program} >/dev/null; {program} >/dev/null; true")
    assert ended.status == 0
    assert len(ended.traces()) == 2
    assert "nothing was traced" not in ended.err
    for name in ended.traces():
        assert ended.trace(name).polls
