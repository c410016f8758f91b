# SPDX-License-Identifier: MIT
"""The future map against independent readings of the same files: the symbol table and
llvm-dwarfdump. Nothing may be missed, nothing may be extra."""
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import BUILD
from maps import BUILDS, addresses, built, ledger, polls_of_symbols, read_map, symbols

FIXTURES = sorted(
    p
    for p in (BUILD / "fixtures").glob("*/*")
    if p.is_file() and os.access(p, os.X_OK)
)


def fixture_id(path):
    return f"{path.parent.name}/{path.name}"


@pytest.fixture(params=FIXTURES, ids=fixture_id)
def fixture(request):
    return request.param


def test_polls_are_those_of_the_symbol_table(fixture):
    """Every `<X as Future>::poll` out of line, and nothing else."""
    polls = read_map(fixture)["polls"]
    assert addresses(polls, "hand-written", "generator") == polls_of_symbols(fixture)


def test_roots_are_those_of_the_symbol_table(fixture):
    polls = read_map(fixture)["polls"]
    pattern = (
        r"^tokio::runtime::task::raw::poll(::h[0-9a-f]{16})?$"
        r"|^async_task::raw::RawTask<.*>::run(::h[0-9a-f]{16})?$"
    )
    expected = {a for a, name in symbols(fixture) if re.search(pattern, name)}
    assert addresses(polls, "task root") == expected
    assert all(p["self_register"] == "rdi" for p in polls if p["root"])


@pytest.mark.skipif(not shutil.which("llvm-dwarfdump"), reason="no llvm-dwarfdump")
def test_bodies_are_those_that_dwarfdump_shows(fixture):
    """Symbols cannot tell an async body from a closure; DW_AT_name can."""
    process = subprocess.Popen(
        ["llvm-dwarfdump", "--debug-info", fixture], stdout=subprocess.PIPE, text=True
    )
    die_names, concrete, expected = {}, [], set()
    entry = {}  # of the subprogram whose lines are being read
    for line in process.stdout:
        if line.startswith("0x"):
            if entry.get("low", 0) > 1:
                concrete.append(entry)
            if entry.get("name"):
                die_names[entry["offset"]] = entry
            entry = {}
            if "DW_TAG_subprogram" in line:
                entry = {"offset": int(line.split(":")[0], 16)}
            continue
        if not entry:
            continue
        line = line.strip()
        if line.startswith("DW_AT_low_pc"):
            entry["low"] = int(line.split("0x")[1].rstrip(")"), 16)
        elif line.startswith("DW_AT_name"):
            entry["name"] = line.split('"')[1]
        elif line.startswith("DW_AT_abstract_origin"):
            entry["origin"] = int(re.search(r"0x([0-9a-f]+)", line)[1], 16)
        elif line.startswith("DW_AT_type"):
            entry["type"] = line
    process.wait()
    for entry in concrete:
        named = entry if "name" in entry else die_names.get(entry.get("origin"), {})
        result = entry.get("type") or named.get("type", "")
        if re.match(r"\{(async_|synthetic#)", named.get("name", "")):
            # Before 1.64 a body returns GeneratorState and is not what is hooked.
            if "GeneratorState<" not in result:
                expected.add(entry["low"])
    assert addresses(read_map(fixture)["polls"], "async body") == expected


def test_every_poll_can_be_patched_or_says_why(fixture):
    for poll in read_map(fixture)["polls"]:
        assert (poll["site"] is None) != (poll["refusal"] is None)


def test_verdicts():
    for path in FIXTURES:
        wanted = "no-async" if path.name == "sync-only" else "futures"
        assert read_map(path)["verdict"] == wanted, path


def test_states_and_await_points(ledger):
    """Await points lie where the source has an `.await`, in order of the states."""
    futures = read_map(ledger)["futures"]
    own = [f for f in futures if f["name"].startswith("ledger") and f["state"]]
    assert own
    for future in own:
        names = [s["name"] for s in future["states"]]
        assert names[:3] == ["Unresumed", "Returned", "Panicked"]
        assert [s["value"] for s in future["states"]] == list(range(len(names)))
        for state in future["states"][3:]:
            assert state["awaitee"], (future["name"], state["name"])
            source = Path(state["file"])
            if not source.exists():
                continue
            lines = source.read_text().splitlines()
            # rustfmt may put `.await` on a line of its own behind the call.
            near = "\n".join(lines[state["line"] - 1 : state["line"] + 1])
            assert ".await" in near or "!" in near, (future["name"], state)


@pytest.mark.parametrize("build", BUILDS)
def test_awaits_of_macros_have_the_users_line(build):
    """join! and select! await inside their own crate; the map says where they were called."""
    path = built(build, "shop")
    own = [f for f in read_map(path)["futures"] if f["name"].startswith("shop::")]
    called = set()
    for future in own:
        for state in future["states"][3:]:
            assert state["file"] == future["file"], (future["name"], state)
            if "macro_line" in state:
                assert "/macros/" in state["macro_file"]
                lines = Path(state["file"]).read_text().splitlines()
                called.update(re.findall(r"(join|select)!", lines[state["line"] - 1]))
    assert called == {"join", "select"}


def test_names_are_as_people_write_them(ledger):
    for future in read_map(ledger)["futures"]:
        assert "_env#" not in future["name"]
        assert "GenFuture" not in future["name"]
        assert "{async_fn" not in future["name"]


def test_tokio_tasks_know_their_future(ledger):
    roots = [p["root"] for p in read_map(ledger)["polls"] if p["root"]]
    assert roots
    for root in roots:
        assert root["executor"] == "tokio"
        assert root["future_offset"] > root["stage_offset"] > 0
        assert root["cell"]


def test_layouts_of_wakers_and_tokio(ledger):
    layouts = read_map(ledger)["layouts"]
    assert {layouts["core.RawWaker.data"], layouts["core.RawWaker.vtable"]} == {0, 8}
    assert layouts["core.Context.waker"] == 0
    assert layouts["core.Waker.waker"] == 0
    assert layouts["tokio.Vtable.poll"] == 0
    assert layouts["tokio.Header.vtable"] == 16
    assert layouts["tokio.Vtable.id_offset"] > 0


def test_program_in_c_has_no_async():
    assert read_map("/bin/true")["verdict"] == "no-async"
