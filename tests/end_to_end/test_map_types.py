# SPDX-License-Identifier: MIT
"""The types of the future map: enough of them to print what a future holds and to walk to what it
waits for."""
import json
import os
import re
import shutil
import subprocess

import pytest

from conftest import PROFILES, PROGRAM, fixture

LOCALS = {  # an expression, and types that printing its value needs
    "String::from(\"text\")": ["alloc::string::String", "u8"],
    "vec![1u32, 2]": ["alloc::vec::Vec<u32", "u32"],
    "std::collections::HashMap::from([(String::from(\"a\"), 7u16)])":
        ["std::collections::hash::map::HashMap<", "(alloc::string::String, u16)", "u16"],
    "std::collections::BTreeMap::from([(1i64, 2i16)])":
        ["alloc::collections::btree::map::BTreeMap<", "i64", "i16"],
    "std::collections::VecDeque::from([1i8])": ["alloc::collections::vec_deque::VecDeque<", "i8"],
    "Some(Box::new(3u64))": ["core::option::Option<", "u64"],
    "Err::<u8, Trouble>(Trouble::Late { by: std::time::Duration::from_secs(1) })":
        ["core::result::Result<", "main::Trouble", "core::time::Duration"],
    "std::sync::Arc::new(std::sync::Mutex::new(5i32))":
        ["alloc::sync::ArcInner<std::sync::", "i32"],
    "std::rc::Rc::new(std::cell::RefCell::new('c'))": ["core::cell::RefCell<char>", "char"],
    "std::time::Instant::now()": ["std::time::Instant", "i64"],
    "std::net::SocketAddr::from(([127, 0, 0, 1], 80))":
        ["core::net::socket_addr::SocketAddr|std::net::addr::SocketAddr"],
    "\"slice of text\"": ["&str", "u8"],
    "&[1u128, 2][..]": ["&[u128]", "u128"],
    "[1.5f32; 3]": ["f32"],
    "std::borrow::Cow::Borrowed(\"cow\")": ["alloc::borrow::Cow<str>"],
    "(true, -1isize, 2.5f64)": ["(bool, isize, f64)", "bool", "isize", "f64"],
}
SOURCE = """
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

#[derive(Debug)]
pub enum Trouble { Never, Late { by: std::time::Duration } }

struct Never;
impl Future for Never {
    type Output = ();
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> { Poll::Pending }
}

fn show<T: std::fmt::Debug>(_value: &T) { println!("{}", std::mem::size_of::<T>()); }

async fn hold() {
LETS
    Never.await;
SHOWS
}

struct Nobody;
impl std::task::Wake for Nobody { fn wake(self: std::sync::Arc<Self>) {} }

fn main() {
    let waker = std::sync::Arc::new(Nobody).into();
    let mut future: Pin<Box<dyn Future<Output = ()>>> = Box::pin(hold());
    let _ = future.as_mut().poll(&mut Context::from_waker(&waker));
}
"""


class Types:
    """The types of a map, and what can be reached from each."""

    def __init__(self, path):
        done = subprocess.run([PROGRAM, "map", "--types", path], capture_output=True, text=True,
                              check=True)
        self.all = json.loads(done.stdout)["types"]
        assert [t["id"] for t in self.all] == list(range(len(self.all)))
        self.named = {t["name"]: t for t in self.all}

    def next(self, type_):
        fields = type_.get("fields", []) + [f for v in type_.get("variants", [])
                                            for f in v["fields"]]
        found = [f.get("type") for f in fields] + [type_.get("target"), type_.get("of")]
        return [self.all[i] for i in found if i is not None]

    def reach(self, type_):
        seen, stack = {}, [type_]
        while stack:
            one = stack.pop()
            if one["id"] not in seen:
                seen[one["id"]] = one
                stack += self.next(one)
        return seen.values()


def compilers():
    found = [shutil.which("rustc"), "/usr/bin/rustc"]
    return [path for path in dict.fromkeys(found) if path and os.path.exists(path)]


@pytest.mark.parametrize("level", ["0", "3"])
@pytest.mark.parametrize("rustc", compilers())
def test_locals_can_be_printed(tmp_path, rustc, level):
    """Every local that is held has a type whose parts are all known, of the size it has."""
    lets = [f"    let v{i} = {e}; show(&v{i});" for i, e in enumerate(LOCALS)]
    shows = [f"    println!(\"{{:?}}\", v{i});" for i in range(len(LOCALS))]
    (tmp_path / "main.rs").write_text(
        SOURCE.replace("LETS", "\n".join(lets)).replace("SHOWS", "\n".join(shows)))
    done = subprocess.run([rustc, "--edition=2021", "-g", f"-Copt-level={level}", "main.rs"],
                          cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sizes = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True)
    sizes = [int(line) for line in sizes.stdout.split()]

    types = Types(tmp_path / "main")
    for one in types.all:
        assert not one.get("declaration") and one["kind"] != "opaque", one["name"]
    future = next(t for t in types.all if t.get("future") == "main::hold")
    state = next(v for v in future["variants"] if v["value"] == 3)
    held = {f["name"]: types.all[f["type"]] for f in state["fields"]}
    for i, wanted in enumerate(LOCALS.values()):
        assert held[f"v{i}"]["size"] == sizes[i]
        reached = [t["name"] for t in types.reach(held[f"v{i}"])]
        for name in wanted:
            assert any(n.startswith(w) for n in reached for w in name.split("|")), (name, reached)


@pytest.mark.parametrize("build", PROFILES)
def test_children_of_macros_can_be_reached(build):
    """What join! and select! drive is captured by a closure: from the awaitee's type alone, each
    of the futures that the source names can be walked to."""
    path = fixture(build, "shop")
    types = Types(path)
    done = subprocess.run([PROGRAM, "map", "--filter", "shop", path], capture_output=True,
                          text=True, check=True)
    wanted = {  # function: what its macro is given
        "join": ["shop::handlers::price_of"],
        "select": ["shop::handlers::price_of", "tokio::time::timeout::Timeout<"],
        "closing_time": ["tokio::signal::unix::Signal::recv"],
    }
    met = set()
    for future in json.loads(done.stdout)["futures"]:
        for state in future["states"][3:]:
            if "macro_line" not in state:
                continue
            function = future["name"].split("::")[-1]
            reached = [t["future"] for t in types.reach(types.named[state["awaitee"]["type"]])
                       if t.get("future")]
            for name in wanted.get(function, []):
                met.add(function)
                assert any(r.startswith(name) for r in reached), (future["name"], reached)
    assert {"join", "select"} <= met
