# SPDX-License-Identifier: MIT
"""Types with a function among their arguments: debug info calls it `fn(u32) -> app::leaf::{async_fn_env#0}`, and
the arrow closes no bracket."""
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

struct Nobody;
impl Wake for Nobody { fn wake(self: Arc<Self>) {} }

pub struct Never;
impl Future for Never {
    type Output = ();
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if std::env::args().count() > 100 { Poll::Ready(()) } else { Poll::Pending }
    }
}

pub mod chain {
    use super::*;
    pub struct Chain<A, B, N> { pub first: Option<A>, pub second: Option<B>, pub next: N }
    impl<A: Future<Output = u32>, B: Future<Output = u32>, N: Fn(u32) -> B> Future for Chain<A, B, N> {
        type Output = u32;
        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u32> {
            let this = unsafe { self.get_unchecked_mut() };
            if let Some(first) = &mut this.first {
                match unsafe { Pin::new_unchecked(first) }.poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(n) => { this.first = None; this.second = Some((this.next)(n)); }
                }
            }
            unsafe { Pin::new_unchecked(this.second.as_mut().unwrap()) }.poll(cx)
        }
    }
}
pub mod leaves {
    use super::Never;
    pub async fn one(n: u32) -> u32 {
        Never.await;
        n
    }
    pub async fn two(n: u32) -> u32 { n + 1 }
}
pub mod users {
    use super::*;
    pub async fn chains() -> u32 {
        chain::Chain { first: Some(leaves::two(1)), second: None, next: leaves::one }.await
    }
    pub async fn asks<B: Future<Output = u32>>(next: impl Fn(u32) -> B) -> u32 {
        next(7).await
    }
}

fn main() {
    let waker = Arc::new(Nobody).into();
    let mut cx = Context::from_waker(&waker);
    let asks: Pin<Box<dyn Future<Output = u32>>> = Box::pin(users::asks(leaves::one));
    for mut future in [asks, Box::pin(users::chains())] {
        println!("{}", future.as_mut().poll(&mut cx).is_ready());
    }
}
"""


@pytest.fixture(scope="module", params=[(rustc, level) for rustc in compilers() for level in ("0", "3")],
                ids=lambda param: "-O".join(param))
def program(request, tmp_path_factory):
    rustc, level = request.param
    directory = tmp_path_factory.mktemp("fn_items")
    (directory / "main.rs").write_text(SOURCE)
    done = subprocess.run([rustc, "--edition=2021", "-g", f"-Copt-level={level}", "-Ccodegen-units=16", "main.rs"],
                          cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return directory / "main"


def test_kinds(program):
    done = subprocess.run([PROGRAM, "map", program], capture_output=True, text=True, check=True)
    kinds = {future["name"].split("<")[0]: future["kind"] for future in json.loads(done.stdout)["futures"]}
    assert kinds["main::chain::Chain"] == "hand-written"
    assert kinds["main::users::asks"] == kinds["main::users::chains"] == kinds["main::leaves::one"] == "async fn"
