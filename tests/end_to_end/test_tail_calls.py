# SPDX-License-Identifier: MIT
"""A thread that sleeps in a function to which its caller's callee has jumped: the return address is behind a call of
another function than the one that the thread is in."""
import json
import subprocess

import pytest

from conftest import PROGRAM
from test_drivers import compilers

SOURCE = """
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::time::Duration;

struct Nobody;
impl Wake for Nobody { fn wake(self: Arc<Self>) {} }

#[inline(never)]
fn stuck(seconds: u64) { std::thread::sleep(Duration::from_secs(seconds)) }

struct Guilty(u64);
impl Future for Guilty {
    type Output = u64;
    #[inline(never)]
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u64> {
        println!("asleep");
        stuck(self.0);
        Poll::Ready(self.0)
    }
}

#[inline(never)]
fn finish<F: Future<Output = u64>>(f: F) -> u64 {
    let waker = Arc::new(Nobody).into();
    let mut cx = Context::from_waker(&waker);
    let mut f = Box::pin(f);
    loop {
        if let Poll::Ready(output) = f.as_mut().poll(&mut cx) { return output; }
        std::thread::park();
    }
}

async fn waits(seconds: u64) -> u64 { Guilty(seconds).await + 1 }

fn main() {
    println!("{}", finish(waits(1000 * std::env::args().count() as u64)));
}
"""


@pytest.mark.parametrize("how", [[], ["--freeze"]])
@pytest.mark.parametrize("level", ["0", "3"])
@pytest.mark.parametrize("rustc", compilers())
def test_a_thread_that_sleeps_behind_a_jump(tmp_path, rustc, level, how):
    (tmp_path / "main.rs").write_text(SOURCE)
    done = subprocess.run([rustc, "--edition=2021", "-g", f"-Copt-level={level}", "main.rs"], cwd=tmp_path,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    process = subprocess.Popen([tmp_path / "main"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "asleep\n"
        # It says so before it sleeps.
        for _ in range(100):
            done = subprocess.run([PROGRAM, "dump", "--format", "json", *how, str(process.pid)], capture_output=True,
                                  text=True, check=True)
            thread = json.loads(done.stdout)["threads"][0]
            if thread["polls"]:
                break
    finally:
        process.kill()
        process.communicate()
    assert thread["unknown"] is None
    assert thread["polls"][-1]["name"] == "main::Guilty"
