# SPDX-License-Identifier: MIT
"""Displaced instructions do elsewhere what they did at their place: run under Unicorn, both ways.

tests/emulate plans every function of a program's symbol table, polls or not, and runs what would be
displaced on random registers and memory, as it was and relocated. Registers, flags, memory and
where control goes on must be the same.
"""
import collections
import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from conftest import BUILD, FIXTURES

EMULATE = BUILD / "tests" / "emulate" / "emulate"
ORDINARY = [FIXTURES / "release" / "shop", FIXTURES / "debug" / "ledger-smol",
            FIXTURES / "debian-release" / "shop"]
KINDS = ["calls", "jumps", "conditional", "relative"]
# What Unicorn cannot run (AVX), what only touches memory that is not there, clocks.
NOT_COMPARED_AT_MOST = 0.03
ACCEPTED_AT_LEAST = 0.98


def rust_programs():
    """Rust programs of this machine with a symbol table, beside the fixtures."""
    homes = [pathlib.Path(os.environ.get("RUSTUP_HOME", pathlib.Path.home() / ".rustup"))]
    found = [*pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo")).glob("bin/*")]
    for home in homes:
        for toolchain in sorted(home.glob("toolchains/*")):
            found += toolchain.glob("bin/*")
            found += toolchain.glob("lib/librustc_driver*.so")
    found += (FIXTURES.parent / "real" / "bin").glob("*")
    found += pathlib.Path("/usr/lib/x86_64-linux-gnu").glob("librustc_driver*.so")
    found += FIXTURES.glob("*/*")
    inodes = {(p.stat().st_dev, p.stat().st_ino): p.resolve() for p in found if p.is_file()}
    return sorted(path for path in inodes.values() if open(path, "rb").read(4) == b"\x7fELF")


def emulate(*words):
    if not EMULATE.exists():
        pytest.skip("tests/emulate is not built: no Unicorn")
    done = subprocess.run([EMULATE, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}\n{done.stderr}"
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["differences"] == 0
    assert counts["accepted"] + sum(counts["refused"].values()) == counts["functions"]
    return counts, done.stdout.splitlines()[:-1]


def check(counts):
    assert counts["accepted"] >= ACCEPTED_AT_LEAST * counts["functions"], counts
    assert counts["compared"] >= (1 - NOT_COMPARED_AT_MOST) * counts["accepted"], counts


def test_prologues_end_alike(pytestconfig, capsys):
    every = pytestconfig.getoption("--all-tests")
    total = collections.Counter()
    for path in rust_programs() if every else [path for path in ORDINARY if path.exists()]:
        counts, _ = emulate(path)
        # Programs without symbols have no functions; small ones are mostly start-up code.
        if counts["functions"] > 1000:
            check(counts)
        total.update(counts.pop("refused"))
        total.update(counts)
    assert total["compared"] > (100000 if every else 2000)
    assert min(total[kind] for kind in KINDS) > 100
    if every:
        with capsys.disabled():
            print("\n", json.dumps(total, indent=1))


def test_random_bytes_end_alike():
    """Half of them are no code at all: the planner refuses what it does not understand."""
    counts, _ = emulate("-r", 50000, "-s", 7)
    assert counts["compared"] > 10000
    assert min(counts[kind] for kind in KINDS) > 300


def branch_targets(path):
    """(from, to) of every direct jump in a program, as GNU objdump reads it."""
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", "-w", path], capture_output=True,
                          text=True, check=True).stdout
    jump = re.compile(r"^ +([0-9a-f]+):\t(?:\w+ )*(?:j\w+|loop\w*|xbegin) +(?:\w+,)?([0-9a-f]+) <", re.M)
    return [(int(m[1], 16), int(m[2], 16)) for m in jump.finditer(text)]


@pytest.mark.parametrize("path", ORDINARY, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_nothing_jumps_into_a_patch(path):
    """Asked of another disassembler, over the whole program: no jump ends behind a patch's first byte."""
    if not path.exists() or not shutil.which("objdump"):
        pytest.skip("not built, or no objdump")
    _, lines = emulate("-p", path)
    inside, own = {}, {}
    for line in lines:
        entry, address, replaced = line.split()
        entry, address = int(entry, 16), int(address, 16)
        for byte in range(1, int(replaced)):
            inside[address + byte] = entry
        own[entry] = address
    jumps = branch_targets(path)
    assert len(jumps) > 10000
    wrong = [f"{a:#x} -> {b:#x}" for a, b in jumps if b in inside]
    assert not wrong
