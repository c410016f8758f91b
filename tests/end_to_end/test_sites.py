# SPDX-License-Identifier: MIT
"""How functions are patched: entries that are hard to, and what is refused."""
import collections
import json
import os
import pathlib
import subprocess

import pytest

from conftest import FIXTURES, PROFILES, fixture, last_json

REFUSED = "its body jumps back to its entry"


def site_sizes(asyncflame, program):
    """Of each poll function by its future's last name: bytes written, or why none are."""
    polls = json.loads(asyncflame("map", program).out)["polls"]
    return {poll["name"].split("::")[-1]: poll["site"]["patch"] if poll["site"] else poll["refusal"]
            for poll in polls}


@pytest.mark.parametrize("profile", PROFILES)
def test_hard_entries_are_hooked(run, asyncflame, engine, profile):
    program = fixture(profile, "entries")
    bare = run(program)
    traced = asyncflame("-o", "t.json", program)
    assert (traced.status, traced.out) == (bare.status, bare.out) and bare.status == 0
    told = last_json(traced.out)
    counts = {name.split("::")[-1]: found for name, found in traced.trace("t.json").counts().items()}
    wanted = {name: {"ready": told["rounds"]}
              for name in ["Tiny", "Calls", "CallsOut", "Tail", "Branches", "Counts", "Spins"]}
    wanted["Panics"] = {"panicked": told["panicked"]}
    if "release" in profile:
        del wanted["Spins"]
    assert {name: {how: n for how, n in found.items() if n} for name, found in counts.items()} == wanted


@pytest.mark.parametrize("profile", ["release", "debian-release"])
def test_each_entry_gets_the_jump_it_has_room_for(asyncflame, profile):
    program = fixture(profile, "entries")
    assert site_sizes(asyncflame, program) == {
        "Tiny": 5, "Calls": 2, "CallsOut": 5, "Tail": 5, "Branches": 5, "Counts": 5, "Panics": 2,
        "Spins": REFUSED,
    }  # fmt: skip


@pytest.mark.parametrize("profile", ["release", "debian-release"])
def test_what_is_refused_is_told_with_its_reason(asyncflame, engine, profile):
    program = fixture(profile, "entries")
    doctor = asyncflame("doctor", program)
    assert doctor.status == 0 and f"1  cannot: {REFUSED}" in doctor.out
    traced = asyncflame("-o", "t.json", program)
    assert REFUSED in traced.err


@pytest.mark.parametrize("how", [{}, {"PATCH_TRAP": "1"}], ids=["jump", "trap"])
def test_what_another_has_patched_is_left_alone(asyncflame, engine, compile_c, tmp_path, how):
    """A function whose text is not what its file says: the other patch works on, the refusal is told."""
    program = fixture("release", "entries")
    source = (pathlib.Path(__file__).parent / "other_patcher.c").read_text()
    other = compile_c("other.so", "-shared", "-fPIC", "-D_GNU_SOURCE", source=source)
    polls = json.loads(asyncflame("map", program).out)["polls"]
    # Two loads: they can run anywhere.
    site = next(p["site"] for p in polls if p["name"].endswith("::Tail"))
    ended = asyncflame("-o", "t.json", program, env={
        "LD_PRELOAD": str(other), "PATCH_ADDRESS": site["address"],
        "PATCH_LENGTH": str(site["displaced"]), **how})  # fmt: skip
    told = last_json(ended.out)
    assert ended.status == 0 and told["calls"] == 6 * told["rounds"]
    assert "its code in memory is not what the file says" in ended.err
    counts = {name.split("::")[-1] for name in ended.trace("t.json").counts()}
    assert "Tail" not in counts and "Tiny" in counts


def population(asyncflame, programs):
    """Of each program: how many poll functions it has, and why those are refused that are."""
    table = {}
    for program in programs:
        polls = json.loads(asyncflame("map", program).out)["polls"]
        table[program] = len(polls), collections.Counter(
            poll["refusal"] for poll in polls if not poll["site"])
    return table


def real_programs():
    """What tests/real/build builds of the registry; what is built already where it cannot."""
    repository = FIXTURES.parents[1]
    subprocess.run([repository / "tests" / "real" / "build"], check=False)
    return sorted((repository / "build" / "real" / "bin").glob("*"))


def test_nearly_every_poll_can_be_hooked(asyncflame, pytestconfig, capsys):
    # What `entries` refuses, it refuses by design.
    programs = [p for profile in PROFILES for p in sorted((FIXTURES / profile).glob("*"))
                if p.is_file() and os.access(p, os.X_OK) and p.name not in ("entries", "sync-only")]
    if pytestconfig.getoption("--all-tests"):
        programs += real_programs()
    table = population(asyncflame, programs)
    every = sum(n for n, _ in table.values())
    refused = sum((reasons for _, reasons in table.values()), collections.Counter())
    if pytestconfig.getoption("--all-tests"):
        with capsys.disabled():
            for program, (n, reasons) in table.items():
                print(f"{program.parent.name}/{program.name}: {n} polls, {dict(reasons)}")
    assert every > 1000
    assert refused.total() <= 0.005 * every, refused
