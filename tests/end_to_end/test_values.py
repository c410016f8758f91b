# SPDX-License-Identifier: MIT
"""What lib/inspect says of variables in another process, against what the program says itself."""
import json
import os
import re
import subprocess

import pytest

from conftest import BUILD, PROFILES, clean_environment, fixture

TOOL = BUILD / "tests" / "tools" / "values"


def build_id(program):
    notes = subprocess.run(["readelf", "-n", program], capture_output=True, text=True, check=True)
    return re.search(r"Build ID: (\w+)", notes.stdout)[1]


def bias(pid, program):
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
        return min(line.split("-")[0] for line in maps if line.rstrip().endswith(str(program)))


class Parked:
    """The fixture with its futures parked: what it says, and what is read."""

    def __init__(self, program, cache, directory):
        self.program = program
        environment = clean_environment(directory)
        environment["ASYNCFLAME_CACHE"] = str(cache)
        # A run to its end, for the map.
        subprocess.run([BUILD / "cli" / "asyncflame", "-q", program], cwd=directory, check=True,
                       env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.map = cache / f"{build_id(program)}.afmap"
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=environment)
        self.said, places = [], []
        for line in self.process.stdout:
            words = line.split()
            if line == "ready\n":
                break
            if words[0] == "future":
                places.append(" ".join(words[1:]))
                self.said.append((words[1], {}))
            else:
                name, sign, text = re.fullmatch(r"  (\S+) ([=~!]) ?(.*)\n", line).groups()
                self.said[-1][1][name] = {"=": text, "!": "<moved>", "~": None}[sign]
        # Not before it has said something: a process that has just begun its exec has no maps.
        self.bias = "0x" + bias(self.process.pid, os.path.realpath(program))
        self.read = self.ask(places)

    def ask(self, places):
        done = subprocess.run([TOOL, str(self.process.pid), self.map, self.bias], text=True,
                              input="\n".join(places), capture_output=True, check=True)
        read = []
        for line in done.stdout.splitlines():
            if line.startswith("future "):
                read.append((line.split()[1], {}))
            else:
                name, text = re.fullmatch(r"  (\S+) = (.*)", line).groups()
                read[-1][1][name] = text
        return read

    def end(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module", params=PROFILES)
def parked(request, cache, tmp_path_factory):
    program = fixture(request.param, "values")
    found = Parked(program, cache, tmp_path_factory.mktemp("values"))
    yield found
    found.end()


def test_values_read_as_the_program_prints_them(parked):
    assert [name for name, _ in parked.said] == [name for name, _ in parked.read]
    assert sum(len(values) for _, values in parked.said) == 248
    wrong = []
    for (future, said), (_, read) in zip(parked.said, parked.read):
        for name, text in said.items():
            if text is not None and read.get(name) != text:
                wrong.append(f"{future} {name}: {text} is read as {read.get(name)}")
    assert not wrong, "\n".join(wrong)


def test_what_was_moved_is_not_shown_as_alive(parked):
    checked = 0
    for (future, said), (_, read) in zip(parked.said, parked.read):
        for name in (name for name, text in said.items() if text is None):
            checked += 1
            assert read.get(name) in (None, "<moved?>", "<shadowed>"), (future, name)
    assert checked == 5


def test_noise_behind_the_real_map(parked):
    for seed in range(20):
        done = subprocess.run([TOOL, "--noise", parked.map, str(seed)], capture_output=True,
                              text=True, check=True, timeout=60)
        types, read, *_ = map(int, re.findall(r"\d+", done.stdout))
        assert types > 1000 and read > 200
        assert int(re.search(r"at most (\d+) reads", done.stdout)[1]) < 20000


def test_temporaries_are_left_out(parked):
    names = {name for _, read in parked.read for name in read}
    assert not [name for name in names if name.startswith("__")]
    read = {name.rpartition("::")[2]: values for name, values in parked.read}
    assert sorted(read["chosen"]) == ["left", "right"]
    assert sorted(read["joined"]) == ["left"]


def test_the_map_says_what_a_state_drops(parked):
    done = subprocess.run([BUILD / "cli" / "asyncflame", "map", "--format", "json", "--filter", "values::dropped::*",
                           parked.program], capture_output=True, check=True)
    state = {future["name"]: {field["name"]: field.get("dropped") for field in future["states"][3]["fields"]}
             for future in json.loads(done.stdout)["futures"] if len(future["states"]) > 3}
    unflagged = {"gone": False, "given": False, "kept": True, "shared": True}
    assert unflagged.items() <= state["values::dropped::unflagged"].items()
    flags = state["values::dropped::flags"]
    assert flags["boxed"] is True and {"__"} == {flags["text"][:2], flags["list"][:2]}
    assert flags["text"] != flags["list"]
    assert state["values::dropped::halved"]["two"] == "in part"
    assert state["values::dropped::matched"]["some"] is None
    emptied = state["values::dropped::emptied"]
    assert emptied["file"] is emptied["lent"] is None
    assert emptied["boxed"] is not True
