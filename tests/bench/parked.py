# SPDX-License-Identifier: MIT
"""What it costs to read, at the entry of a task's poll, where it had been parked."""
import json

from common import PROGRAM, environment, median, progress, run, rust_program, spread

DEPTHS = 2, 12, 32

SOURCE = """
use std::{future::Future, pin::Pin, task::{Context, Poll}, time::Instant};

struct Turn(bool);
impl Future for Turn {
    type Output = ();
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) { return Poll::Ready(()) }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

async fn level0(turns: u32) { for _ in 0..turns { Turn(false).await } }
@LEVELS@

async fn task(depth: u32, turns: u32) -> f64 {
    let start = Instant::now();
    match depth { @ARMS@ _ => panic!("no such depth") }
    start.elapsed().as_nanos() as f64 / f64::from(turns)
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u32>().unwrap());
    let (depth, turns) = (arguments.next().unwrap(), arguments.next().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let ns = runtime.block_on(async { tokio::spawn(task(depth, turns)).await.unwrap() });
    println!("{{\\"ns\\":{ns:.2}}}");
}
"""

METHOD = """
One tokio task that is polled again and again, at the end of a chain of N async fns, on a current-thread
runtime; release. Only the task's root is hooked (--filter leaves the rest out), so that what a poll costs
more with a longer chain, less what it costs more untraced, is the reading. Processes in turn; medians.
"""


def build():
    levels = "\n".join(f"async fn level{n}(turns: u32) {{ level{n - 1}(turns).await }}"
                       for n in range(1, max(DEPTHS)))
    arms = " ".join(f"{n} => level{n - 1}(turns).await," for n in DEPTHS)
    source = SOURCE.replace("@LEVELS@", levels).replace("@ARMS@", arms)
    return rust_program("deep", source, "a task of many levels",
                        settings='[dependencies]\ntokio = { version = "1", features = ["rt"] }\n')


def parked(report, settings, work):
    report.section("Reading where a task was parked", METHOD)
    program, turns = build(), settings.polls // 10
    env, out = environment(work / "cache"), work / "parked.json"
    plain, traced = ({depth: [] for depth in DEPTHS} for _ in range(2))
    for count in range(settings.processes + 1):
        progress(f"parked: {count} of {settings.processes}")
        for depth in DEPTHS:
            for to, words in ((plain, []), (traced, [PROGRAM, "run", "-q", "--filter", "!deep::level*",
                                                     "--format", "raw", "-o", work / "parked.raw"])):
                run([*words, program, depth, turns], env, out, work / "parked.err")
                if count:  # the first makes the map
                    to[depth].append(json.loads(out.read_text())["ns"])
    progress("")
    least = min(DEPTHS)
    cost = {depth: [t - p for t, p in zip(traced[depth], plain[depth])] for depth in DEPTHS}
    report.table(["levels", "untraced, ns", "traced, ns", "added, ns", "a level, ns", "aim"],
                 [[str(depth), spread(plain[depth]), spread(traced[depth]), spread(cost[depth]),
                   f"{(median(cost[depth]) - median(cost[least])) / (depth - least):.1f}"
                   if depth > least else "", "<= 10" if depth > least else ""] for depth in DEPTHS])
