# SPDX-License-Identifier: MIT
"""How functions are patched: entries that are hard to, and what is refused."""
import json

import pytest

from conftest import PROFILES, fixture, last_json

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
