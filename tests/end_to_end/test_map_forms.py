# SPDX-License-Identifier: MIT
"""The forms in which debug info comes: other places, packings, compilers, options; damaged, or not there."""
import json
import os
import random
import re
import shutil
import subprocess

import pytest

from conftest import PROGRAM, REPOSITORY
from maps import BUILDS, addresses, built, ledger, polls_of_symbols, read_map, run


def variants(path, directory):
    """The same program with its debug info elsewhere or packed otherwise."""
    if not shutil.which("objcopy"):
        pytest.skip("no objcopy")
    for name in ("zlib", "zlib-gnu", "zstd"):
        target = directory / name
        packed = run("objcopy", f"--compress-debug-sections={name}", path, target)
        if packed.returncode == 0:
            yield name, target
    debug = directory / "separate.debug"
    target = directory / "separate"
    run("objcopy", "--only-keep-debug", path, debug)
    run("strip", "-g", "-o", target, path)
    run("objcopy", f"--add-gnu-debuglink={debug}", target, cwd=directory)
    yield "debuglink", target


def test_other_places_and_packings_give_the_same_map(ledger, tmp_path):
    plain = read_map(ledger)
    for name, path in variants(ledger, tmp_path):
        other = read_map(path)
        for key in ("futures", "polls", "vtables", "layouts", "verdict"):
            assert other[key] == plain[key], name


def test_dwz_moves_things_and_loses_none(tmp_path):
    """Common parts of two objects in a third: names, types and abstract functions lie there."""
    path = built("release", "ledger-own")
    if not shutil.which("dwz"):
        pytest.skip("no dwz")
    first, second, common = tmp_path / "first", tmp_path / "second", tmp_path / "common"
    shutil.copy(path, first)
    shutil.copy(path, second)
    packed = run("dwz", "-m", common, "-M", common, first, second)
    assert packed.returncode == 0 and common.exists(), packed.stderr
    plain, other = read_map(path), read_map(first)
    for key in ("polls", "vtables", "layouts", "verdict", "futures"):
        assert other[key] == plain[key], key


# How debug info differs, with a compiler alone: the ledger on std.
SOURCE = REPOSITORY / "fixtures" / "src" / "ledger" / "own.rs"
RUSTC = [
    rustc
    for rustc in dict.fromkeys([shutil.which("rustc"), "/usr/bin/rustc"])
    if rustc and os.path.exists(rustc)
]
OPTIONS = {
    "debug": [],
    "packed": ["-Csplit-debuginfo=packed"],
    "unpacked": ["-Csplit-debuginfo=unpacked"],
    "dwarf 5": ["-Zdwarf-version=5"],
    "dwarf 5 packed": ["-Zdwarf-version=5", "-Csplit-debuginfo=packed"],
    "v0": ["-Csymbol-mangling-version=v0"],
    "optimised": ["-Copt-level=3"],
    "optimised packed": ["-Copt-level=3", "-Csplit-debuginfo=packed"],
    "optimised dwarf 5": ["-Copt-level=3", "-Zdwarf-version=5"],
    "small": ["-Copt-level=s"],
    "fat LTO": ["-Copt-level=3", "-Clto=fat", "-Ccodegen-units=1", "-Cpanic=abort"],
    "thin LTO": ["-Copt-level=3", "-Clto=thin"],
}


def compile_ledger(rustc, directory, *options):
    target = directory / "own"
    env = dict(os.environ, RUSTC_BOOTSTRAP="1")
    # Outside a cargo project and its rust-toolchain; unpacked .dwo files stay where made.
    result = run(
        rustc, "--edition=2021", "-g", "-Zunstable-options", "--out-dir", directory,
        "--crate-name=own", *options, SOURCE, env=env, cwd=directory,
    )  # fmt: skip
    if result.returncode:
        pytest.skip(result.stderr.splitlines()[0])
    return target


@pytest.mark.parametrize("rustc", RUSTC)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_every_kind_of_debug_info(rustc, options, tmp_path):
    path = compile_ledger(rustc, tmp_path, *options)
    result = read_map(path)
    assert result["verdict"] == "futures"
    assert addresses(result["polls"], "hand-written", "generator") == polls_of_symbols(path)
    states = {f["name"]: len(f["states"]) for f in result["futures"] if f["state"]}
    assert len(states) > 5 and max(states.values()) > 10
    for future in result["futures"]:
        assert future["out_of_line"] == bool(future["polls"])
        if future["state"]:
            assert future["line"] and future["file"], future["name"]
    if "-Copt-level=3" in options:
        known = [p for p in result["polls"] if p["self_register"]]
        assert known, "debug info of optimised code says where self is"


@pytest.mark.parametrize("rustc", RUSTC)
def test_line_tables_only_is_told(rustc, tmp_path):
    path = compile_ledger(rustc, tmp_path, "-Cdebuginfo=1", "-Copt-level=3")
    assert read_map(path)["verdict"] == "line-tables-only"


@pytest.mark.parametrize("build", ["release", "debian-debug"])
def test_the_number_of_cores_does_not_matter(build):
    """The index pass uses a thread for each core that it may use."""
    path = built(build, "shop")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("one core only")
    maps = [
        subprocess.run([PROGRAM, "map", path], check=True, capture_output=True,
                       preexec_fn=lambda: os.sched_setaffinity(0, some)).stdout
        for some in (cores[:1], cores)
    ]
    assert maps[0] == maps[1] and len(json.loads(maps[0])["futures"]) > 20


def sections(path):
    """(offset, size) of what the analysis reads."""
    for line in run("readelf", "-SW", path).stdout.splitlines():
        match = re.match(r" *\[ *\d+\] (\S+) +\S+ +[0-9a-f]+ ([0-9a-f]+) ([0-9a-f]+)", line)
        if match and re.match(r"\.debug_|\.symtab|\.eh_frame_hdr|\.text", match[1]):
            yield int(match[2], 16), int(match[3], 16)


@pytest.mark.parametrize("build", BUILDS)
def test_damaged_objects_are_an_error_or_a_map(build, tmp_path, request):
    """Cut off and flipped bytes in headers, sections' places and debug info: 1,000 with
    --all-tests."""
    path = built(build, "ledger-own")
    rounds = 250 if request.config.getoption("--all-tests") else 30
    whole = path.read_bytes()
    places = list(sections(path))
    target = tmp_path / "damaged"
    maps = 0
    for seed in range(rounds):
        chance = random.Random(f"{build} {seed}")
        data = bytearray(whole)
        if seed % 5 == 0:
            del data[chance.randrange(len(data)) :]
        for _ in range(chance.choice([1, 10, 1000]) if data else 0):
            start, size = chance.choice(places + [(0, 64), (len(whole) - 2000, 2000)])
            at = start + chance.randrange(size)
            if at < len(data):
                data[at] = chance.choice([0, 0xFF, 0x7F, data[at] ^ 1 << chance.randrange(8)])
        target.write_bytes(data)
        result = run(PROGRAM, "map", target, timeout=60, errors="replace")
        assert result.returncode in (0, 125), (seed, result.returncode)
        if result.returncode == 0:
            maps += json.loads(result.stdout)["verdict"] == "futures"
        else:
            assert result.stderr.startswith("asyncflame: "), seed
    # Not all was broken beyond use.
    assert maps > rounds / 4


def test_stripped_is_told(ledger, tmp_path):
    target = tmp_path / "stripped"
    run("strip", "-o", target, ledger)
    stripped = read_map(target)
    assert stripped["verdict"] == "stripped"
    assert stripped["futures"] == [] and stripped["polls"] == []
