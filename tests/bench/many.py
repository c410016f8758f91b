# SPDX-License-Identifier: MIT
"""A program with 20,000 poll functions: what many hot ones cost, and what it takes to patch them all."""
import json
import re

from common import LIBRARY, PROGRAM, environment, median, progress, run, rust_program, spread

FUNCTIONS = 20_000

SOURCE = """
use std::arch::asm;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

pub struct State { polls: u64, seed: u64 }
pub struct Hot<const N: u64>(State);

// The constant keeps the linker from making the functions one.
impl<const N: u64> Future for Hot<N> {
    type Output = u64;
    #[inline(never)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u64> {
        self.0.polls += 1;
        self.0.seed ^= self.0.polls.wrapping_mul(2 * N + 1);
        // SAFETY: no instruction at all.
        unsafe { asm!("/* {0} */", in(reg) cx as *mut Context<'_> as *const u8, options(nostack)) }
        if self.0.polls == u64::MAX { Poll::Ready(self.0.seed) } else { Poll::Pending }
    }
}

#[inline(never)]
fn same<const N: u64>(this: Pin<&mut State>, cx: &mut Context<'_>) -> Poll<u64> {
    let this = this.get_mut();
    this.polls += 1;
    this.seed ^= this.polls.wrapping_mul(2 * N + 0x10001);
    // SAFETY: no instruction at all.
    unsafe { asm!("/* {0} */", in(reg) cx as *mut Context<'_> as *const u8, options(nostack)) }
    if this.polls == u64::MAX { Poll::Ready(this.seed) } else { Poll::Pending }
}

type Polled = fn(Pin<&mut State>, &mut Context<'_>) -> Poll<u64>;

fn hot<const N: u64>() -> Polled {
    // SAFETY: Hot<N> is nothing but a State; both are passed as one pointer.
    unsafe { std::mem::transmute(<Hot<N> as Future>::poll as fn(Pin<&mut Hot<N>>, &mut Context<'_>) -> Poll<u64>) }
}

#[repr(C, align(16))]
#[derive(Clone, Copy)]
struct Record([u64; 2]);

fn now() -> u64 { unsafe { core::arch::x86_64::_rdtsc() } }

#[inline(never)]
fn floor(ring: &mut [Record], count: u64) {
    let mask = ring.len() - 1;
    let mut at = 0usize;
    for index in 0..count {
        // SAFETY: `at & mask` is below the length, a power of two.
        unsafe {
            ring.as_mut_ptr().add(at & mask).write_volatile(Record([now(), index]));
            ring.as_mut_ptr().add((at + 1) & mask).write_volatile(Record([now(), index]));
        }
        at += 2;
    }
}

const BLOCK: usize = 5_000; // some 0.2 ms

struct Noop;
impl Wake for Noop { fn wake(self: Arc<Self>) {} }

fn nanoseconds(count: u64, run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_nanos() as f64 / count as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap());
    values[values.len() / 2]
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>().unwrap());
    let (used, polls) = (arguments.next().unwrap(), arguments.next().unwrap());
    let waker = Waker::from(Arc::new(Noop));
    let mut cx = Context::from_waker(&waker);
    let mut state = State { polls: 0, seed: 0 };
    // Each function equally often, in an order that no predictor knows by heart.
    let mut order: Vec<usize> = (0..polls).map(|i| i % used.max(1)).collect();
    let mut random = 0x9e3779b97f4a7c15u64;
    for i in (1..order.len()).rev() {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        order.swap(i, (random >> 33) as usize % (i + 1));
    }
    let mut ring = vec![Record([0; 2]); 4096];
    let (mut bases, mut pairs, mut floors) = (vec![], vec![], vec![]);
    for _ in 0..15 {
        if polls == 0 { break }
        // Timed in blocks, so that the median is of those that nothing has interrupted.
        for block in order.chunks(BLOCK) {
            bases.push(nanoseconds(block.len() as u64, || for &i in block { let _ = SAME[i](Pin::new(&mut state), &mut cx); }));
        }
        for block in order.chunks(BLOCK) {
            pairs.push(nanoseconds(block.len() as u64, || for &i in block { let _ = HOT()[i](Pin::new(&mut state), &mut cx); }));
        }
        for block in order.chunks(BLOCK) {
            floors.push(nanoseconds(block.len() as u64, || floor(&mut ring, block.len() as u64)));
        }
    }
    if polls == 0 { println!("{{}}"); return }
    let (base, hot, floor) = (median(bases), median(pairs), median(floors));
    println!("{{\\"base_ns\\":{base:.3},\\"hooked_ns\\":{hot:.3},\\"pair_ns\\":{:.3},\\"floor_ns\\":{floor:.3}}}", hot - base);
}
"""


def build():
    hots = ",".join(f"hot::<{n}>()" for n in range(FUNCTIONS))
    sames = ",".join(f"same::<{n}>" for n in range(FUNCTIONS))
    source = (SOURCE.replace("HOT()", "hots").replace("let mut ring", "let hots = hots();\n    let mut ring")
              + f"static SAME: [Polled; {FUNCTIONS}] = [{sames}];\n"
              + f"fn hots() -> Vec<Polled> {{ vec![{hots}] }}\n")
    return rust_program("many", source, f"a program with {FUNCTIONS:,} poll functions",
                        profile="opt-level = 2\n")


METHOD = """
K of 20,000 distinct poll functions, called in random order through pointers, and in turn with them K
functions of the same shape that nobody hooks (base), and the floor; one process, 15 rounds, recorded to a
file on disk. pair = hooked - base. Medians of blocks of 5,000 polls: what interrupts a process is in few of them.
"""


def many(report, settings, work):
    report.section("Many hot functions", METHOD)
    program, rows = build(), []
    env, out = environment(work / "cache"), work / "many.json"
    for used in 1, 64, 1_000, 4_000, 20_000:
        figures = []
        for count in range(settings.processes + 1):
            progress(f"{used} functions: {count} of {settings.processes}")
            words = [PROGRAM, "run", "-q", "--format", "raw", "-o", work / "many.raw", program, used,
                     settings.polls // 15]
            run(words, env, out, work / "many.err")
            if count:  # the first makes the map
                figures.append(json.loads(out.read_text()))
        progress("")
        rows.append([f"{used:,}", spread(f["floor_ns"] for f in figures),
                     spread(f["base_ns"] for f in figures), spread(f["pair_ns"] for f in figures),
                     spread(f["pair_ns"] / f["floor_ns"] for f in figures),
                     "<= 1.6" if used == 1_000 else ""])
    report.table(["functions", "floor, ns", "base, ns", "pair, ns", "pair / floor", "aim"], rows)


PATCHING = """
The same program polling nothing: how much longer it takes from its start to its end under plain
LD_PRELOAD, its map in the cache, than alone.
"""


def patching(report, settings, work):
    report.section("Starting with 20,000 functions to patch", PATCHING)
    program = build()
    env, out = environment(work / "cache"), work / "none.json"
    traced = dict(env, LD_PRELOAD=str(LIBRARY), ASYNCFLAME_OUTPUT=str(work / "none.raw"),
                  ASYNCFLAME_FORMAT="raw")
    run([program, 1, 0], traced, out, work / "none.err")
    said = re.search(r"([\d,]+) of ([\d,]+)", (work / "none.err").read_text())
    plain, under = [], []
    for count in range(settings.starts):
        progress(f"start: {count + 1} of {settings.starts}")
        plain.append(run([program, 1, 0], env, out).wall * 1e3)
        under.append(run([program, 1, 0], traced, out, work / "none.err").wall * 1e3)
    progress("")
    report.table(["hooked", "alone, ms", "traced, ms", "added, ms", "aim"],
                 [[said.group(0) if said else "?", spread(plain), spread(under),
                   f"{median(under) - median(plain):.1f}", "<= 60"]])
