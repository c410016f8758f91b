# SPDX-License-Identifier: MIT
"""What a panic costs that passes through a hooked poll."""
import json

from common import PROGRAM, Failed, environment, median, progress, run, rust_program, spread

SOURCE = """
use std::future::Future;
use std::panic::{catch_unwind, panic_any, set_hook, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

struct Throws { times: u64 }

impl Future for Throws {
    type Output = ();
    #[inline(never)]
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        self.times += 1;
        if self.times > 0 { panic_any(self.times) }
        Poll::Pending
    }
}

/// The same but for a step of 2, and no future.
struct Same { times: u64 }

impl Same {
    #[inline(never)]
    fn call(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        self.times += 2;
        if self.times > 0 { panic_any(self.times) }
        Poll::Pending
    }
}

struct Noop;
impl Wake for Noop { fn wake(self: Arc<Self>) {} }

fn median(mut values: Vec<u64>) -> u64 {
    values.sort();
    values[values.len() / 2]
}

fn main() {
    let count: u64 = std::env::args().nth(1).unwrap().parse().unwrap();
    set_hook(Box::new(|_| ()));
    let waker = Waker::from(Arc::new(Noop));
    let mut cx = Context::from_waker(&waker);
    let (mut throws, mut same) = (Throws { times: 0 }, Same { times: 0 });
    let (mut hooked, mut base, mut caught) = (vec![], vec![], 0);
    for _ in 0..count {
        let start = Instant::now();
        caught += catch_unwind(AssertUnwindSafe(|| Pin::new(&mut same).call(&mut cx))).is_err() as u64;
        let between = Instant::now();
        caught += catch_unwind(AssertUnwindSafe(|| Pin::new(&mut throws).poll(&mut cx))).is_err() as u64;
        hooked.push(between.elapsed().as_nanos() as u64);
        base.push((between - start).as_nanos() as u64);
    }
    assert_eq!(caught, 2 * count);
    println!("{{\\"hooked_ns\\":{},\\"base_ns\\":{}}}", median(hooked), median(base));
}
"""

METHOD = """
A poll that panics, caught by its caller, and in turn with it, call by call, a function of the same shape that nobody hooks (base): the
medians of single calls, 40 ns for the clock included; panic_any with a silent hook. Processes with and without asyncflame alternate. As much as the two functions differ
when neither is hooked is taken out: ratio = (hooked / base) traced / (hooked / base) untraced.
"""


def build():
    return rust_program("throws", SOURCE, "a program that panics")


def panics(report, settings, work):
    report.section("A panic through a hooked frame", METHOD)
    program, times = build(), settings.polls // 100
    env, out = environment(work / "cache"), work / "throws.json"
    plain, under = [], []
    for count in range(settings.processes + 1):
        progress(f"panics: {count} of {settings.processes}")
        for to, words in ((plain, []), (under, [PROGRAM, "run", "--format", "raw", "-o", work / "throws.raw"])):
            run([*words, program, times], env, out, work / "throws.err")
            if count:  # the first makes the map
                to.append(json.loads(out.read_text()))
    progress("")
    said = (work / "throws.err").read_text()
    if f"{times:,} polls of" not in said:
        raise Failed(f"not all of {times:,} panics are in the recording:\n{said}")
    ratios = [u["hooked_ns"] / u["base_ns"] / (p["hooked_ns"] / p["base_ns"]) for p, u in zip(plain, under)]
    added = median(u["hooked_ns"] - u["base_ns"] for u in under) - median(
        p["hooked_ns"] - p["base_ns"] for p in plain)
    report.table(["untraced, ns", "base, traced, ns", "hooked, ns", "added, ns", "ratio", "aim"],
                 [[spread((p["hooked_ns"] for p in plain), "{:,.0f}"),
                   spread((u["base_ns"] for u in under), "{:,.0f}"),
                   spread((u["hooked_ns"] for u in under), "{:,.0f}"), f"{added:,.0f}", spread(ratios),
                   "<= 1.25"]])
