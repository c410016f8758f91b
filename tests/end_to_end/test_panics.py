# SPDX-License-Identifier: MIT
"""Panics pass through hooked frames as if they were not there, and close their spans."""
import re

import pytest

from conftest import PROFILES, fixture, last_json

MODES = ["joinhandle", "catch", "drop"]


def plain(text):
    """stderr of the program alone: without thread ids and our own summary."""
    text = re.split(r"^asyncflame: ", text, maxsplit=1, flags=re.M)[0]
    return re.sub(r"\(\d+\)", "(N)", text)


def told_lines(text):
    return text[:text.index("{")]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("mode", MODES)
def test_same_with_and_without(run, asyncflame, engine, profile, mode):
    program = fixture(profile, "panics")
    environment = {"RUST_BACKTRACE": "0"}
    bare = run(program, mode, env=environment)
    traced = asyncflame("-o", "t.json", program, mode, env=environment)
    assert traced.status == bare.status == 0
    assert told_lines(traced.out) == told_lines(bare.out)
    assert last_json(traced.out)["caught"] == last_json(bare.out)["caught"]
    # By character: threads that panic at once write their messages piece by piece.
    assert sorted(plain(traced.err)) == sorted(plain(bare.err))


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("mode", MODES)
def test_enter_equals_exit_and_unwound(asyncflame, engine, profile, mode):
    ended = asyncflame("-o", "t.json", fixture(profile, "panics"), mode,
                       env={"RUST_BACKTRACE": "0"})
    told = last_json(ended.out)["futures"]
    trace = ended.trace("t.json")
    counts = trace.counts()
    assert not any(event["args"]["result"] in ("open", "lost") for event in trace.polls)
    if "release" in profile:
        return
    compared = 0
    for name, ledger in told.items():
        if name not in counts:
            continue
        found = counts[name]
        assert sum(found.values()) == ledger["polls"], name
        assert found["panicked"] == ledger["panicked"], name
        compared += 1
    assert compared >= 2


@pytest.mark.parametrize("profile", PROFILES)
def test_abort_leaves_a_trace(run, asyncflame, engine, profile):
    program = fixture(profile, "panics")
    bare = run(program, "abort")
    traced = asyncflame("-o", "t.json", program, "abort")
    assert traced.status == bare.status == 134
    trace = traced.trace("t.json")
    assert any(event["args"]["result"] == "open" for event in trace.polls)


@pytest.mark.parametrize("profile", PROFILES)
def test_backtrace_reaches_main(asyncflame, engine, profile):
    ended = asyncflame("-o", "t.json", fixture(profile, "panics"), "joinhandle",
                       env={"RUST_BACKTRACE": "full"})
    assert ended.status == 0
    traces = ended.err.split("stack backtrace:")[1:]
    assert traces
    assert all("clone" in text or "_start" in text or "start_thread" in text or "__libc_start" in text
               for text in traces)
