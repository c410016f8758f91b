# SPDX-License-Identifier: MIT
"""The future map against independent readings of the same files: the symbol table and
llvm-dwarfdump. Nothing may be missed, nothing may be extra."""

import functools
import json
import os
import pty
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

BUILD = Path(__file__).resolve().parents[2] / "build"
ASYNCFLAME = Path(os.environ.get("ASYNCFLAME", BUILD / "cli" / "asyncflame"))
FIXTURES = sorted(
    p
    for p in (BUILD / "fixtures").glob("*/*")
    if p.is_file() and os.access(p, os.X_OK)
)


def run(*args, **kwargs):
    return subprocess.run(args, capture_output=True, text=True, check=False, **kwargs)


@functools.lru_cache(maxsize=None)
def read_map(path, *options):
    result = run(ASYNCFLAME, "map", *options, path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return json.loads(result.stdout)


def symbols(path):
    """(address, demangled name) of every function symbol."""
    for line in run("nm", "-C", "--defined-only", path).stdout.splitlines():
        match = re.match(r"([0-9a-f]+) [tTwW] (.*)", line)
        if match:
            yield int(match[1], 16), match[2]


def addresses(polls, *kinds):
    return {int(p["address"], 16) for p in polls if p["kind"] in kinds}


def fixture_id(path):
    return f"{path.parent.name}/{path.name}"


@pytest.fixture(params=FIXTURES, ids=fixture_id)
def fixture(request):
    return request.param


def polls_of_symbols(path):
    # v0 symbols print a hash behind a crate's name, legacy ones behind the whole.
    pattern = r"core(\[[0-9a-f]+\])?::future::future::Future>::poll(::h[0-9a-f]{16})?$"
    return {address for address, name in symbols(path) if re.search(pattern, name)}


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


@pytest.fixture(params=["debug", "release", "debian-debug", "debian-release"])
def ledger(request):
    path = BUILD / "fixtures" / request.param / "ledger-tokio"
    if not path.exists():
        pytest.skip("not built")
    return path


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


@pytest.mark.parametrize("build", ["debug", "release", "debian-debug", "debian-release"])
def test_awaits_of_macros_have_the_users_line(build):
    """join! and select! await inside their own crate; the map says where they were called."""
    path = BUILD / "fixtures" / build / "shop"
    if not path.exists():
        pytest.skip("not built")
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


def test_filter_and_generated_only(ledger):
    every = read_map(ledger)["futures"]
    some = read_map(ledger, "--filter", "tokio::*")["futures"]
    rest = read_map(ledger, "--filter", "!tokio::*")["futures"]
    assert some and rest
    assert {f["name"] for f in some} == {
        f["name"] for f in every if f["name"].startswith("tokio::")
    }
    assert len(some) + len(rest) == len(every)
    generated = read_map(ledger, "--generated-only")["futures"]
    assert {f["kind"] for f in every} > {f["kind"] for f in generated}
    assert all(f["kind"] != "hand-written" for f in generated)


def test_text_names_the_await_points(ledger):
    result = run(ASYNCFLAME, "map", "--format", "text", ledger)
    assert result.returncode == 0
    assert re.search(r"^ +3 await at /.*\.rs:\d+  \S", result.stdout, re.M)


def test_sizes_say_what_each_await_holds(ledger):
    futures = {f["name"]: f for f in read_map(ledger)["futures"]}
    sizes = read_map(ledger, "--sizes", "--format", "json")["futures"]
    assert [f["size"] for f in sizes] == sorted((f["size"] for f in sizes), reverse=True)
    assert {f["name"] for f in sizes} == set(futures)
    for future in sizes:
        for state in future["states"]:
            assert sum(h["awaited"] for h in state["held"]) <= 1
            for held in state["held"]:
                assert held["offset"] + held["size"] <= future["size"]
    text = run(ASYNCFLAME, "map", "--sizes", ledger).stdout
    assert re.match(rf" +{sizes[0]['size']}  {re.escape(sizes[0]['name'])}  /", text)


def read_deps(path, *options):
    result = run(ASYNCFLAME, "deps", *options, path)
    assert result.returncode == 0, result.stderr
    graph = json.loads(result.stdout)
    names = {f["id"]: f["name"] for f in graph["futures"]}
    return {(names[a["from"]], names.get(a["to"])) for a in graph["awaits"]}, set(names.values())


@pytest.mark.parametrize("build", ["debug", "release", "debian-debug", "debian-release"])
def test_deps_of_a_handler(build):
    path = BUILD / "fixtures" / build / "shop"
    if not path.exists():
        pytest.skip("not built")
    awaits, names = read_deps(path, "--root", "shop::handlers::checkout")
    assert ("shop::handlers::checkout", "shop::handlers::ask") in awaits
    assert "shop::handlers::sleep" not in names
    # join! drives what it was given through types of tokio's, which a filter hides.
    awaits, names = read_deps(path, "--filter", "shop")
    assert ("shop::handlers::join", "shop::handlers::price_of") in awaits
    assert all(name.startswith("shop::") for name in names)
    dot = run(ASYNCFLAME, "deps", "--format", "dot", "--filter", "shop", path).stdout
    assert dot.startswith("digraph") and dot.count("->") == len(
        [a for a in json.loads(run(ASYNCFLAME, "deps", "--filter", "shop", path).stdout)["awaits"]]
    )


def test_doctor(ledger, tmp_path):
    result = run(ASYNCFLAME, "doctor", ledger)
    assert result.returncode == 0
    assert "can be traced" in result.stdout
    stripped = tmp_path / "stripped"
    run("strip", "-o", stripped, ledger)
    result = run(ASYNCFLAME, "doctor", stripped)
    assert result.returncode == 1
    assert "CARGO_PROFILE_RELEASE_DEBUG=full" in result.stdout
    assert run(ASYNCFLAME, "doctor", "/bin/true").returncode == 1


def test_doctor_keeps_to_the_filter(ledger):
    every = re.search(r"^futures: (\d+)", run(ASYNCFLAME, "doctor", ledger).stdout, re.M)
    result = run(ASYNCFLAME, "doctor", "--filter", "tokio::*", ledger)
    some = re.search(r"^futures: (\d+)", result.stdout, re.M)
    assert int(some[1]) == len(read_map(ledger, "--filter", "tokio::*")["futures"])
    assert 0 < int(some[1]) < int(every[1])
    result = run(ASYNCFLAME, "doctor", "--generated-only", "--filter", "!*", ledger)
    assert "futures: 0\n" in result.stdout and "poll functions: 0," in result.stdout


# Each look at the clock finds it three seconds later: the analysis takes long, as far as it knows.
SLOW = """
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *t)
{
    static long more;
    long failed = syscall(SYS_clock_gettime, clock, t);
    t->tv_sec += more += 3;
    return (int)failed;
}
"""


def on_a_terminal(words, env):
    """What a program writes to the terminal that is its stderr."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=theirs, env=env)
    os.close(theirs)
    out = process.communicate(timeout=60)[0]
    text = b""
    try:
        while more := os.read(ours, 65536):
            text += more
    except OSError:  # EIO: the other end is closed
        pass
    os.close(ours)
    return process.returncode, out, text.decode()


@pytest.mark.parametrize("verb", ["map", "deps", "doctor"])
def test_progress_on_a_terminal_when_it_takes_long(ledger, tmp_path, verb):
    library = tmp_path / "slow.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", library], input=SLOW,
                   text=True, check=True)
    slow = dict(os.environ, LD_PRELOAD=str(library))
    status, out, text = on_a_terminal([ASYNCFLAME, verb, ledger], slow)
    assert status == 0 and out
    steps = re.findall(r"\rasyncflame: reading debug info \[#* *\] +(\d+) %", text)
    assert len(steps) > 1 and [int(s) for s in steps] == sorted(int(s) for s in steps)
    # The line is taken away, and nothing else was written.
    assert re.sub(r"\rasyncflame: reading debug info \[#* *\] +\d+ %", "", text) == "\r\x1b[K"
    # In time, or not on a terminal: silence.
    assert on_a_terminal([ASYNCFLAME, verb, "/bin/true"], dict(os.environ))[2] == ""
    assert run(ASYNCFLAME, verb, ledger, env=slow).stderr == ""


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["/nonexistent"], "No such file"),
        (["/etc/passwd"], "not an ELF file"),
        (["/"], "not a regular file"),
        (["--filter", "a,,b", "/bin/true"], "--filter"),
        (["--format", "xml", "/bin/true"], "--format"),
    ],
)
def test_errors(arguments, message):
    result = run(ASYNCFLAME, "map", *arguments)
    assert result.returncode == 125
    assert message in result.stderr
    assert result.stdout == ""


def test_program_in_c_has_no_async():
    assert read_map("/bin/true")["verdict"] == "no-async"


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
    path = BUILD / "fixtures" / "release" / "ledger-own"
    if not path.exists() or not shutil.which("dwz"):
        pytest.skip("no fixture, or no dwz")
    first, second, common = tmp_path / "first", tmp_path / "second", tmp_path / "common"
    shutil.copy(path, first)
    shutil.copy(path, second)
    packed = run("dwz", "-m", common, "-M", common, first, second)
    assert packed.returncode == 0 and common.exists(), packed.stderr
    plain, other = read_map(path), read_map(first)
    for key in ("polls", "vtables", "layouts", "verdict", "futures"):
        assert other[key] == plain[key], key


# How debug info differs, with a compiler alone: the ledger on std.
SOURCE = BUILD.parent / "fixtures" / "src" / "ledger" / "own.rs"
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
    path = BUILD / "fixtures" / build / "shop"
    if not path.exists():
        pytest.skip("not built")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("one core only")
    maps = [
        subprocess.run([ASYNCFLAME, "map", path], check=True, capture_output=True,
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


@pytest.mark.parametrize("build", ["debug", "release", "debian-debug", "debian-release"])
def test_damaged_objects_are_an_error_or_a_map(build, tmp_path, request):
    """Cut off and flipped bytes in headers, sections' places and debug info: 1,000 with
    --all-tests."""
    path = BUILD / "fixtures" / build / "ledger-own"
    if not path.exists():
        pytest.skip("not built")
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
        result = run(ASYNCFLAME, "map", target, timeout=60, errors="replace")
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
