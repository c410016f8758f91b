# SPDX-License-Identifier: MIT
"""The trace against the program's own ledger: for every future whose poll is out of line in that
build, exactly the polls that the program counted; every task root's too.

The ledger counts in each wrapper `Counted<F>` one poll of F; it knows nothing of asyncflame.
"""
import json
from collections import Counter

import pytest

from conftest import PROFILES, PROGRAM, fixture, last_json

VARIANTS = ["ledger-tokio", "ledger-tokio-current", "ledger-async-std", "ledger-smol",
            "ledger-futures", "ledger-own"]
ENDINGS = ("ready", "pending", "panicked")


def future_map(run, path):
    return json.loads(run(PROGRAM, "map", path).out)


def fully_out_of_line(document):
    """Display names of the futures that are polled out of line and nowhere inlined."""
    whole, part = set(), set()
    for future in document["futures"]:
        out, inlined = bool(future.get("polls")), bool(future.get("inlined"))
        (part if inlined or not out else whole).add(future["name"])
    return whole - part


def simple(name):
    """Without spaces, default parameters and the forms in which the two sides differ."""
    return name.replace(" ", "").replace(",()", "").replace("alloc::alloc::Global", "")


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("variant, threads", [
    (variant, threads) for variant in VARIANTS
    for threads in ([1, 2, 8] if variant in ("ledger-tokio", "ledger-own") else [0])])
def test_polls_equal_the_ledger(asyncflame, run, engine, variant, profile, threads):
    program = fixture(profile, variant)
    words = [program] + (["--threads", threads] if threads else [])
    ended = asyncflame("-o", "t.json", *words)
    assert ended.status == 0
    ledger = last_json(ended.out)
    trace = ended.trace("t.json")
    counts = {}
    for name, results in trace.counts().items():
        counts.setdefault(simple(name), []).append(results)

    compared = 0
    whole = {simple(name) for name in fully_out_of_line(future_map(run, program))}
    for name, told in ledger["futures"].items():
        name = simple(name)
        if name not in whole:
            continue
        found = sum(counts.get(name, []), start=Counter())
        assert sum(found.values()) == told["polls"], f"polls of {name}"
        if not found["unknown"]:
            assert [found[e] for e in ENDINGS] == [told[e] for e in ENDINGS], name
        compared += 1
    assert compared >= (2 if "release" in profile else 15), f"only {compared} futures compared"


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("variant", ["ledger-tokio", "ledger-tokio-current", "ledger-async-std",
                                     "ledger-smol"])
def test_every_task_has_its_root(asyncflame, engine, variant, profile):
    ended = asyncflame("-o", "t.json", fixture(profile, variant))
    ledger = last_json(ended.out)
    trace = ended.trace("t.json")
    polls = {}
    for event in trace.roots:
        if event["name"].endswith("CountedTask") or "work::CountedTask" in event["args"]["future"]:
            polls[event["args"]["task"]] = polls.get(event["args"]["task"], 0) + 1
    told = sorted(task["polls"] for task in ledger["tasks"]["list"])
    assert sum(polls.values()) == ledger["tasks"]["polls"]
    if "tokio" in variant:  # elsewhere a task is known by its address, which may be reused
        assert sorted(polls.values()) == told
