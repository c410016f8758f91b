# SPDX-License-Identifier: MIT
"""Which types the map calls hand-written futures, against llvm-dwarfdump: those that some `poll` takes as
`self`, by the name of that type alone, and those that are awaited. In builds of several codegen units
that type is often only declared where it is polled."""
import json
import re
import shutil
import subprocess

import pytest

from conftest import PROGRAM, fixture

GENERATOR = "core::future::from_generator::GenFuture<"
STANDS_FOR = re.compile(r"&mut |core::pin::Pin<|alloc::boxed::Box<|" + GENERATOR)


class Reader:
    """What llvm-dwarfdump prints, one DIE after the other."""

    def __init__(self, path):
        self.functions, self.used, self.linked, self.awaited = [], set(), set(), set()
        self.function = None
        process = subprocess.Popen(["llvm-dwarfdump", "--debug-info", path], stdout=subprocess.PIPE,
                                   text=True)
        die = {}
        for line in process.stdout:
            if line[:2] == "0x":
                self.see(die)
                head = re.match(r"0x([0-9a-f]+): ( *)DW_TAG_(\w+)", line)
                die = {"offset": int(head[1], 16), "depth": len(head[2]), "tag": head[3]} if head else {}
            elif die and (found := re.match(r"\s+DW_AT_(\w+)\s+\((.*)\)$", line)):
                die[found[1]] = found[2]
            elif die and (found := re.match(r"\s+\[0x([0-9a-f]+), ", line)) and int(found[1], 16) > 1:
                die["live"] = True  # a range that the linker has kept
        self.see(die)
        assert process.wait() == 0

    def see(self, die):
        tag = die.get("tag")
        if tag == "subprogram":
            self.function = die
            die["params"] = []
            self.functions.append(die)
            if is_concrete(die):
                self.used.add(die["offset"])
                self.linked.add(die["offset"])
        if tag == "formal_parameter" and self.function and die["depth"] == self.function["depth"] + 2:
            self.function["params"].append(type_of(die))
        # `mut self`, taken apart before the function was inlined.
        if (tag == "variable" and die.get("name") == '"self"' and "inline" in self.function
                and die["depth"] == self.function["depth"] + 2):
            self.function["params"].insert(0, type_of(die))
        if "abstract_origin" in die and (tag == "inlined_subroutine" or
                                         tag == "subprogram" and is_concrete(die)):
            origin = int(die["abstract_origin"].split()[0].rstrip(")"), 16)
            self.used.add(origin)
            if tag == "subprogram" or "live" in die or int(die.get("low_pc", "0x0"), 16) > 1:
                self.linked.add(origin)
        if die.get("name") == '"__awaitee"':
            self.awaited.add(type_of(die))

    def polled(self, by):
        """The types that something polls: functions in `used`, or of those what the linker has kept."""
        for die in self.functions:
            params = die["params"]
            found = re.match(r"core::pin::Pin<&mut (.*)>$", params[0]) if len(params) > 1 else None
            if (found and die["offset"] in by and "Future" in die.get("linkage_name", "Future")
                    and re.match(r'"poll(<|"$)', die.get("name", ""))):
                yield found[1]


def is_concrete(die):
    return "ranges" in die or int(die.get("low_pc", "0x0"), 16) > 1


def type_of(die):
    found = re.search(r'"(.*)"', die.get("type", ""))
    return found[1] if found else ""


def innermost(name):
    """X of Pin<&mut X>, Pin<Box<X>>, GenFuture<X>."""
    name = name.strip()
    while found := STANDS_FOR.match(name):
        name = name[found.end():]
        if found[0].endswith("<"):
            name = name.rstrip("* ").removesuffix(">").removesuffix(", alloc::alloc::Global")
    return name.removesuffix(" *")


@pytest.mark.skipif(not shutil.which("llvm-dwarfdump"), reason="no llvm-dwarfdump")
@pytest.mark.parametrize("build", ["debug", "release", "debian-debug", "debian-release"])
def test_hand_written_futures_are_those_that_are_polled_or_awaited(request, build):
    programs = ["parked-own" if build == "release" else "ledger-own"]
    if request.config.getoption("--all-tests"):
        programs += ["ledger-tokio", "ledger-async-std", "ledger-smol", "ledger-futures"]
    for program in programs:
        compare(fixture(build, program))


def compare(path):
    whole = json.loads(subprocess.run([PROGRAM, "map", path], check=True, capture_output=True,
                                      text=True).stdout)
    told = Reader(path)
    polled, linked = ({name[len(GENERATOR):-1] if name.startswith(GENERATOR) else name
                       for name in told.polled(by)} for by in (told.used, told.linked))
    awaited = {innermost(name) for name in told.awaited}
    every = {future["type"] for future in whole["futures"]}
    hand = {future["type"] for future in whole["futures"] if future["kind"] == "hand-written"}
    assert not hand - polled - awaited
    # Pointers to futures are gone through, whether anybody polls them or not, and so is `dyn`.
    wanted = {name for name in linked if not STANDS_FOR.match(name)}
    wanted |= {name for name in awaited if not re.match(r"\(?dyn ", name)}
    assert not wanted - every
    assert len(polled) > 10 and len(awaited) > 5
