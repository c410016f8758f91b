# SPDX-License-Identifier: MIT
"""Drivers (block_on and the like) and where their futures lie, against llvm-dwarfdump."""
import json
import os
import re
import shutil
import subprocess

import pytest

from conftest import PROGRAM, fixture

KEPT = {"RBX": 3, "RBP": 6, "RSP": 7, "R12": 12, "R13": 13, "R14": 14, "R15": 15}


def drivers_of(path):
    done = subprocess.run([PROGRAM, "map", path], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["drivers"]


def compilers():
    found = [shutil.which("rustc"), "/usr/bin/rustc"]
    return [path for path in dict.fromkeys(found) if path and os.path.exists(path)]


class Die:
    def __init__(self, offset, tag, parent):
        self.offset, self.tag, self.parent = offset, tag, parent
        self.attributes, self.params = {}, []

    def number(self, name):
        found = re.match(r"0x([0-9a-f]+)", self.attributes.get(name, ""))
        return int(found[1], 16) if found else None


def dies_of(path):
    """Functions, inlined instances and their parameters as llvm-dwarfdump prints them."""
    process = subprocess.Popen(["llvm-dwarfdump", "--debug-info", path], stdout=subprocess.PIPE,
                               text=True)
    dies, stack, die, last = {}, [], None, None
    for line in process.stdout:
        head = re.match(r"0x([0-9a-f]+): ( *)(DW_TAG_\w+|NULL)", line)
        if head:
            del stack[len(head[2]) // 2:]
            die = None
            if head[3] == "NULL":
                continue
            parent = stack[-1] if stack else None
            new = Die(int(head[1], 16), head[3][7:], parent)
            stack.append(new)
            if new.tag in ("subprogram", "inlined_subroutine"):
                die = dies[new.offset] = new
            elif new.tag == "formal_parameter":
                die = new
                parent.params.append(new)
        elif die is not None and line.strip():
            found = re.match(r"\s+DW_AT_(\w+)\s+\((.*)$", line.rstrip())
            if found:
                last = found[1]
                die.attributes[last] = found[2]
            else:
                die.attributes[last] += "\n" + line.strip()
    assert process.wait() == 0
    return dies


def origin(dies, die):
    while True:
        further = die.number("abstract_origin") or die.number("specification")
        if further not in dies:
            return die
        die = dies[further]


def polled(dies, die):
    """The future that a function or an instance of one polls, by its name and first parameter."""
    named = origin(dies, die)
    name = named.attributes.get("name", "").strip('")')
    if not named.params or not (name.startswith("{") or re.match(r"poll(<|$)", name)):
        return None
    found = re.search(r'"core::pin::Pin<&mut (.*)>"', named.params[0].attributes.get("type", ""))
    return found[1] if found else None


def is_driver(dies, instance):
    """The function that holds this inlined poll, if it is no poll and no task itself."""
    scope = instance.parent
    while scope.tag != "subprogram":
        if scope.tag == "inlined_subroutine" and polled(dies, scope):
            return None
        scope = scope.parent
    name = origin(dies, scope).attributes.get("name", "").strip('")')
    symbol = origin(dies, scope).attributes.get("linkage_name", "")
    if polled(dies, scope) or name.startswith("{async_"):
        return None
    if re.match(r"poll<|run<", name) and re.search(r"tokio7runtime4task3raw|RawTask", symbol):
        return None
    return scope


def entry(die):
    where = die.attributes.get("low_pc") or die.attributes.get("ranges", "")
    numbers = [int(n, 16) for n in re.findall(r"0x([0-9a-f]{16})", where)]
    return numbers[0] if numbers else 0


def places(location):
    """(start, end, base, offset, pointer) of the entries that a stack walk can use."""
    for start, end, what in re.findall(r"\[0x([0-9a-f]+), 0x([0-9a-f]+)\): (.*?)\)?$", location,
                                       re.M):
        found = re.fullmatch(r"DW_OP_b?reg\d+ (\w+)([+-]\d+)?(, DW_OP_stack_value)?", what)
        if found and found[1] in KEPT and int(start, 16) < int(end, 16):
            pointer = what.startswith("DW_OP_breg") and not found[3]
            yield int(start, 16), int(end, 16), KEPT[found[1]], int(found[2] or 0), pointer


@pytest.mark.skipif(not shutil.which("llvm-dwarfdump"), reason="no llvm-dwarfdump")
@pytest.mark.parametrize("profile, name", [
    ("release", "ledger-own"),
    ("release", "ledger-smol"),
    ("debian-release", "ledger-tokio"),
])
def test_inlined_polls_are_those_that_dwarfdump_shows(profile, name):
    """Every poll that was inlined into something else, and every place of its `self`."""
    path = fixture(profile, name)
    dies = dies_of(path)
    expected = {}
    for die in dies.values():
        if die.tag != "inlined_subroutine" or not polled(dies, die) or not die.params:
            continue
        # An instance that has lost its `self` begins with the context.
        if die.params[0].number("abstract_origin") != origin(dies, die).params[0].offset:
            continue
        function = is_driver(dies, die)
        if function and entry(function) > 1:
            found = expected.setdefault(entry(function), set())
            found.update(places(die.params[0].attributes.get("location", "")))
    expected = {address: found for address, found in expected.items() if found}
    drivers = drivers_of(path)
    got = {}
    for driver in drivers:
        for p in driver["places"]:
            got.setdefault(int(driver["address"], 16), []).append(
                (int(p["start"], 16), int(p["end"], 16), p["base"], p["offset"], p["pointer"]))
    for address, found in expected.items():
        for start, end, *what in found:
            assert any(s <= start and end <= e and list(w) == what
                       for s, e, *w in got.get(address, [])), (hex(address), hex(start), what)
    block_ons = {int(d["address"], 16) for d in drivers if "block_on" in d["name"]}
    single = {address for die in dies.values() if die.tag == "inlined_subroutine"
              and polled(dies, die) and (function := is_driver(dies, die))
              for address in [entry(function)]}
    assert set(got) <= single | block_ons
    assert len(expected) > 0


@pytest.mark.parametrize("runtime", ["tokio", "tokio-current", "async-std", "smol", "futures", "own"])
@pytest.mark.parametrize("profile", ["debug", "release", "debian-debug", "debian-release"])
def test_the_main_future_is_in_some_block_on(profile, runtime):
    """Whatever the runtime calls it, something drives the future that main waits for."""
    drivers = drivers_of(fixture(profile, f"ledger-{runtime}"))
    main = [d for d in drivers if re.search(r"::work::root\b", d["future"])]
    assert main
    for driver in drivers:
        assert driver["places"] and driver["file"] and driver["line"]
        for place in driver["places"]:
            assert int(place["start"], 16) < int(place["end"], 16)
            assert place["base"] == "cfa" or place["base"] in KEPT.values()


def calls(path, start, end):
    """(address, name of what is called) of the calls in a stretch of code."""
    names = {}
    for line in subprocess.run(["nm", "-C", path], capture_output=True, text=True,
                               check=True).stdout.splitlines():
        found = re.match(r"([0-9a-f]+) [tTwW] (.*)", line)
        if found:
            names[int(found[1], 16)] = re.sub(r"::h[0-9a-f]{16}$", "", found[2])
    slots = {}  # of the global offset table: what the loader writes there
    for line in subprocess.run(["readelf", "-rW", path], capture_output=True, text=True,
                               check=True).stdout.splitlines():
        found = re.match(r"([0-9a-f]+) +\S+ R_X86_64_RELATIVE +([0-9a-f]+)", line)
        if found:
            slots[int(found[1], 16)] = int(found[2], 16)
    code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", f"--start-address={start}",
                           f"--stop-address={end}", path], capture_output=True, text=True,
                          check=True).stdout
    loaded = {}  # what a register was given last
    for line in code.splitlines():
        found = re.match(r" +([0-9a-f]+):\s+(call|lea|mov) +(.*)", line)
        if not found:
            continue
        where = re.search(r"\(%rip\)(?:,%(\w+))? +# ([0-9a-f]+)", found[3])
        register = re.match(r"\*%(\w+)", found[3])
        if where:
            to = int(where[2], 16)
            name = names.get(to if found[2] == "lea" else slots.get(to), "")
            loaded[where[1]] = name
        elif register:
            name = loaded.get(register[1], "")
        else:
            direct = re.match(r"[0-9a-f]+(?= <)", found[3])
            name = names.get(int(direct[0], 16), "") if direct else ""
        if found[2] == "call":
            yield int(found[1], 16), name


@pytest.mark.parametrize("runtime", ["tokio", "own"])
@pytest.mark.parametrize("profile", ["debug", "release", "debian-debug", "debian-release"])
def test_the_future_is_known_where_its_thread_parks(profile, runtime):
    """Between two polls: no inlined poll is around, and debug info of optimised code is silent."""
    path = fixture(profile, f"ledger-{runtime}")
    parked = 0
    for driver in drivers_of(path):
        start = int(driver["address"], 16)
        if not re.search(r"::work::root>?$", driver["future"]) or "block_on" not in driver["name"]:
            continue
        for address, name in calls(path, start, start + driver["size"]):
            if not re.search(r"CachedParkThread::park$|std::thread::(\w+::)?park$", name):
                continue
            parked += 1
            assert any(int(p["start"], 16) <= address < int(p["end"], 16)
                       for p in driver["places"]), (driver["name"], hex(address))
    assert parked


HAND_MADE = """
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};

struct Unpark(Thread);
impl Wake for Unpark {
    fn wake(self: Arc<Self>) { self.0.unpark(); }
}

struct Leaf(u32);
impl Future for Leaf {
    type Output = u32;
    #[inline(never)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u32> {
        if self.0 == 0 { return Poll::Ready(7); }
        self.0 -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

async fn wait(times: u32) -> u32 {
    let held = std::env::args().count() as u32;
    Leaf(times).await + Leaf(held).await + held
}

#[inline(never)]
fn finish_pinned<F: Future>(f: F) -> F::Output {
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut cx = Context::from_waker(&waker);
    let mut f = f;
    let mut f = unsafe { Pin::new_unchecked(&mut f) };
    loop {
        if let Poll::Ready(output) = f.as_mut().poll(&mut cx) { return output; }
        thread::park();
    }
}

#[inline(never)]
fn finish_boxed<F: Future>(f: F) -> F::Output {
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut cx = Context::from_waker(&waker);
    let mut boxed = Box::pin(f);
    loop {
        if let Poll::Ready(output) = boxed.as_mut().poll(&mut cx) { return output; }
        thread::park();
    }
}

#[inline(never)]
fn finish_moved<F: Future + Unpin>(mut f: F) -> F::Output {
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = Pin::new(&mut f).poll(&mut cx) { return output; }
        thread::park();
    }
}

fn main() {
    println!("{}", finish_pinned(wait(3)) + finish_boxed(wait(4)) + finish_moved(Leaf(5)));
}
"""


@pytest.mark.parametrize("level", ["0", "3"])
@pytest.mark.parametrize("rustc", compilers())
def test_a_hand_made_block_on_by_any_name(tmp_path, rustc, level):
    """What it drives is known at its poll, and where it parks."""
    (tmp_path / "main.rs").write_text(HAND_MADE)
    done = subprocess.run([rustc, "--edition=2021", "-g", f"-Copt-level={level}", "main.rs"],
                          cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "main"
    drivers = drivers_of(path)
    for name, future in [("pinned", "main::wait"), ("boxed", "main::wait"), ("moved", "main::Leaf")]:
        found = [d for d in drivers if f"::finish_{name}<" in d["name"]]
        assert [d["future"] for d in found] == [future]
        start = int(found[0]["address"], 16)
        parks = [a for a, called in calls(path, start, start + found[0]["size"])
                 if re.search(r"std::thread::(\w+::)?park$", called)]
        assert parks
        for address in parks:
            assert any(int(p["start"], 16) <= address < int(p["end"], 16)
                       for p in found[0]["places"]), (name, hex(address), found)
