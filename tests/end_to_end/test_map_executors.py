# SPDX-License-Identifier: MIT
"""Where tasks keep their futures: what the map computes from types, against the tables that the
executors themselves have in the program."""
import json
import re
import struct
import subprocess

import pytest

from conftest import PROFILES, PROGRAM, fixture
from maps import built, read_map


class Data:
    """The bytes of an object as the loader would lay them out."""

    def __init__(self, path):
        self.bytes = path.read_bytes()
        self.segments = []
        out = subprocess.run(["readelf", "-lW", path], capture_output=True, text=True, check=True)
        for offset, address, size in re.findall(
                r"^ +LOAD +0x(\w+) 0x(\w+) 0x\w+ 0x(\w+)", out.stdout, re.M):
            self.segments.append((int(offset, 16), int(address, 16), int(size, 16)))
        self.pointers = {}  # place: address that is written there
        out = subprocess.run(["readelf", "-rW", path], capture_output=True, text=True, check=True)
        for place, target in re.findall(r"^([0-9a-f]+) +\S+ R_X86_64_RELATIVE +([0-9a-f]+)",
                                        out.stdout, re.M):
            self.pointers[int(place, 16)] = int(target, 16)

    def number(self, address):
        for offset, start, size in self.segments:
            if start <= address < start + size:
                return struct.unpack_from("<Q", self.bytes, offset + address - start)[0]
        raise AssertionError(hex(address))

    def places_of(self, target):
        return [place for place, to in self.pointers.items() if to == target]


def read(path, *options):
    done = subprocess.run([PROGRAM, "map", *options, path], capture_output=True, text=True,
                          check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("runtime", ["smol", "async-std"])
@pytest.mark.parametrize("profile", PROFILES)
def test_futures_of_async_task(profile, runtime):
    """Every task's vtable leads to a TaskLayout, which async-task keeps for debuggers."""
    path = fixture(profile, f"ledger-{runtime}")
    whole, data = read(path), Data(path)
    layouts = whole["layouts"]
    assert {"state", "awaiter", "vtable", "size"} <= {
        name.split(".")[2] for name in layouts if name.startswith("async_task.Header.")}
    layout = next(t for t in read(path, "--types")["types"]
                  if t["name"] == "async_task::raw::TaskLayout")
    offset_f = next(f["offset"] for f in layout["fields"] if f["name"] == "offset_f")
    roots = 0
    for poll in whole["polls"]:
        if not poll["root"]:
            continue
        for place in data.places_of(int(poll["address"], 16)):
            vtable = place - layouts["async_task.TaskVTable.run"]
            info = data.pointers[vtable + layouts["async_task.TaskVTable.layout_info"]]
            assert data.number(info + offset_f) == poll["root"]["future_offset"], poll["name"]
            roots += 1
    assert roots


@pytest.mark.parametrize("runtime", ["tokio", "tokio-current"])
@pytest.mark.parametrize("profile", PROFILES)
def test_cells_of_tokio(profile, runtime):
    """A root's Cell<T, S> has its parts where the vtable of that very task says."""
    path = fixture(profile, f"ledger-{runtime}")
    whole, data = read(path), Data(path)
    types = read(path, "--types")["types"]
    layouts = whole["layouts"]
    roots = 0
    for poll in whole["polls"]:
        if not poll["root"]:
            continue
        cell = next(t for t in types if t["name"] == poll["root"]["cell"])
        fields = {f["name"]: f for f in cell["fields"]}
        core = {f["name"]: f["offset"] for f in types[fields["core"]["type"]]["fields"]}
        assert fields["header"]["offset"] == 0
        # Folded functions share an address, and so may differ in what else the vtable says.
        tables = [place - layouts["tokio.Vtable.poll"]
                  for place in data.places_of(int(poll["address"], 16))]
        wanted = [(fields["trailer"]["offset"], fields["core"]["offset"] + core["task_id"])]
        got = [tuple(data.number(table + layouts[f"tokio.Vtable.{what}"])
                     for what in ("trailer_offset", "id_offset")) for table in tables]
        assert (got and set(got) == set(wanted)) or poll["ambiguous"] or not got, poll["name"]
        roots += len(got)
        stage = fields["core"]["offset"] + core["stage"]
        assert stage <= poll["root"]["stage_offset"] <= poll["root"]["future_offset"]
    assert roots


@pytest.mark.parametrize("profile", PROFILES)
def test_names_of_async_std(profile):
    layouts = read(fixture(profile, "ledger-async-std"))["layouts"]
    assert {"async_std.Task.id", "async_std.Task.name",
            "async_std.TaskLocalsWrapper.task"} <= set(layouts)


@pytest.mark.parametrize("build", ["debug", "release"])
def test_a_boxed_task_is_called_after_what_is_in_the_box(build):
    """tokio itself boxes futures of some KiB, so that this is no rarity."""
    head = "core::pin::Pin<alloc::boxed::Box<"
    roots = [poll for poll in read_map(built(build, "parked-tokio"))["polls"]
             if poll["root"] and poll["root"]["type"].startswith(head)]
    boxed = [poll for poll in roots if not poll["root"]["type"][len(head):].startswith("(dyn ")]
    assert boxed
    for poll in boxed:
        assert poll["root"]["type"][len(head):].startswith(poll["name"].split("<")[0])
    assert all(poll["name"].startswith(head) for poll in roots if poll not in boxed)
