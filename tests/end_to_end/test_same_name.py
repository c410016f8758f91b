# SPDX-License-Identifier: MIT
"""Two futures that go by one printed name keep their own places (B9): two versions of a crate in
one program, as cargo links them every day."""
import json
import os
import shutil
import subprocess

import pytest

from conftest import PROGRAM

CRATE = """{blank}
pub async fn work() -> u32 {{
    std::future::ready({number}).await
}}
"""
MAIN = """
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake};

struct Nobody;
impl Wake for Nobody {
    fn wake(self: Arc<Self>) {}
}

#[inline(never)]
fn drive(mut future: Pin<Box<dyn Future<Output = u32>>>) {
    let waker = Arc::new(Nobody).into();
    assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
}

fn main() {
    drive(Box::pin(one::work()));
    drive(Box::pin(two::work()));
    drive(Box::pin(two::work()));
}
"""


def compilers():
    found = [shutil.which("rustc"), "/usr/bin/rustc"]
    return [path for path in dict.fromkeys(found) if path and os.path.exists(path)]


@pytest.mark.parametrize("level", ["0", "3"])
@pytest.mark.parametrize("rustc", compilers())
def test_two_versions_of_a_crate(asyncflame, run, engine, tmp_path, rustc, level):
    def compile_rust(*words):
        done = subprocess.run([rustc, "--edition=2021", "-g", f"-Copt-level={level}", *words],
                              cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    for number, name in ((1, "one"), (2, "two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lib.rs").write_text(
            CRATE.format(blank="\n" * (10 * number), number=number))
        compile_rust("--crate-type=rlib", "--crate-name=dep", f"-Cmetadata={name}",
                     f"-Cextra-filename=-{name}", f"{name}/lib.rs")
    (tmp_path / "main.rs").write_text(MAIN)
    compile_rust("--extern=one=libdep-one.rlib", "--extern=two=libdep-two.rlib", "-L.", "main.rs")

    futures = [future for future in json.loads(run(PROGRAM, "map", tmp_path / "main").out)["futures"]
               if future["name"] == "dep::work"]
    places = sorted((future["file"].split("/")[-2], future["line"]) for future in futures)
    assert places == [("one", 12), ("two", 22)]

    ended = asyncflame("-o", "t.json", tmp_path / "main")
    assert ended.status == 0, ended.err
    seen = [event["args"]["at"].split("/")[-2:] for event in ended.trace("t.json").polls
            if event["name"] == "dep::work"]
    assert sorted(map("/".join, seen)) == ["one/lib.rs:12", "two/lib.rs:22", "two/lib.rs:22"]
