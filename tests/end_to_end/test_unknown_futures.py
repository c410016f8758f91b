# SPDX-License-Identifier: MIT
"""A task that awaits what no debug info tells of: a boxed future out of a stripped library. It stands still, and its
own place is known; what is below is unknown, and said to be."""
import json
import subprocess

import pytest

from conftest import PROGRAM
from test_drivers import compilers

LIBRARY = """
use std::future::Future;
use std::pin::Pin;
async fn hidden(n: u32) -> u32 { std::future::pending::<()>().await; n }
#[no_mangle]
pub fn secret(n: u32) -> Pin<Box<dyn Future<Output = u32>>> { Box::pin(hidden(n)) }
"""

SOURCE = """
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};

struct Nobody;
impl Wake for Nobody { fn wake(self: Arc<Self>) {} }

extern "Rust" { fn secret(n: u32) -> Pin<Box<dyn Future<Output = u32>>>; }

async fn asks(n: u32) -> u32 {
    unsafe { secret(n) }.await + 1 // here
}

#[inline(never)]
fn block_on<F: Future<Output = u32>>(f: F) -> u32 {
    let waker = Arc::new(Nobody).into();
    let mut cx = Context::from_waker(&waker);
    let mut f = Box::pin(f);
    loop {
        if let Poll::Ready(output) = f.as_mut().poll(&mut cx) { return output; }
        println!("parked");
        std::thread::park();
    }
}

fn main() { println!("{}", block_on(asks(7))); }
"""


@pytest.mark.parametrize("how", [[], ["--freeze"]])
@pytest.mark.parametrize("rustc", compilers())
def test_a_future_without_debug_info(tmp_path, rustc, how):
    (tmp_path / "secret.rs").write_text(LIBRARY)
    (tmp_path / "main.rs").write_text(SOURCE)
    for words in (["--crate-type=cdylib", "-Cstrip=symbols", "-Copt-level=3", "secret.rs"],
                  ["-g", "-L.", "-lsecret", "-Clink-arg=-Wl,-rpath," + str(tmp_path), "main.rs"]):
        done = subprocess.run([rustc, "--edition=2021", *words], cwd=tmp_path, capture_output=True, text=True,
                              check=False)
        assert done.returncode == 0, done.stderr
    process = subprocess.Popen([tmp_path / "main"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "parked\n"
        done = subprocess.run([PROGRAM, "dump", "--format", "json", *how, str(process.pid)], capture_output=True,
                              text=True, check=True)
    finally:
        process.kill()
        process.communicate()
    (task,) = json.loads(done.stdout)["tasks"]
    assert (task["state"], task["moving"]) == ("parked", False)
    line = next(i for i, text in enumerate(SOURCE.splitlines(), 1) if text.endswith("// here"))
    assert (task["tree"]["name"], task["tree"]["line"]) == ("main::asks", line)
    (below,) = task["tree"]["children"]
    assert (below["state"], below["children"]) == ("unknown", [])
