//! Futures whose polls are two instructions in three bytes, one behind the other: no room for a
//! jump, no padding near. Built by test_int3.py, as a program and as a library.
//!
//! Each mode polls, counts, and tells the count; all polls are of `Tiny`.

use std::arch::asm;
use std::future::Future;
use std::mem::MaybeUninit;
use std::num::NonZeroU8;
use std::os::raw::{c_int, c_void};
use std::pin::Pin;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};
use std::sync::Arc;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

/// mov al, K; ret
struct Tiny<const K: u8>;
impl<const K: u8> Future for Tiny<K> {
    type Output = NonZeroU8;
    #[link_section = ".text.tiny"]
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<NonZeroU8> {
        Poll::Ready(unsafe { NonZeroU8::new_unchecked(K) })
    }
}

type Boxed = Pin<Box<dyn Future<Output = NonZeroU8>>>;

macro_rules! boxes {
    ($($tens:literal)*) => { [$(
        Box::pin(Tiny::<$tens>) as Boxed,
        Box::pin(Tiny::<{ $tens + 1 }>), Box::pin(Tiny::<{ $tens + 2 }>), Box::pin(Tiny::<{ $tens + 3 }>),
        Box::pin(Tiny::<{ $tens + 4 }>), Box::pin(Tiny::<{ $tens + 5 }>), Box::pin(Tiny::<{ $tens + 6 }>),
        Box::pin(Tiny::<{ $tens + 7 }>), Box::pin(Tiny::<{ $tens + 8 }>), Box::pin(Tiny::<{ $tens + 9 }>),
    )*] };
}

static POLLS: AtomicU64 = AtomicU64::new(0);
static TRAPS: AtomicU64 = AtomicU64::new(0);
static CODE: AtomicUsize = AtomicUsize::new(0);
static BEHIND: AtomicUsize = AtomicUsize::new(0);

fn idle() -> RawWaker {
    static FUNCTIONS: RawWakerVTable = RawWakerVTable::new(|_| idle(), |_| (), |_| (), |_| ());
    RawWaker::new(null(), &FUNCTIONS)
}

/// `std::hint::black_box`, which Debian's rustc does not have yet.
#[inline(never)]
fn opaque<T>(value: T) -> T {
    let read = unsafe { std::ptr::read_volatile(&value) };
    std::mem::forget(value);
    read
}

/// Each future `n` times, without memory of the heap: handlers do it too. The vector registers and what lies below the stack pointer are the
/// compiler's to use in between: a sum of floating point numbers tells whether they were kept.
fn poll(n: u64) {
    let waker = unsafe { Waker::from_raw(idle()) };
    let mut context = Context::from_waker(&waker);
    let (mut sum, mut wanted) = (0.5f64, 0.5f64);
    for _ in 0..n {
        let futures: [Boxed; 80] = opaque(boxes![10 20 30 40 50 60 70 80]);
        for (i, mut future) in IntoIterator::into_iter(futures).enumerate() {
            match future.as_mut().poll(&mut context) {
                Poll::Ready(k) => sum += f64::from(k.get()),
                Poll::Pending => std::process::abort(),
            }
            wanted += (i + 10) as f64;
            POLLS.fetch_add(1, Relaxed);
        }
    }
    if sum.to_bits() != wanted.to_bits() {
        std::process::abort();
    }
}

// --- libc ------------------------------------------------------------------------------

#[repr(C)]
#[derive(Clone, Copy, PartialEq, Debug)]
struct SigAction {
    handler: usize,
    mask: [u64; 16],
    flags: c_int,
    restorer: usize,
}
const SIGTRAP: c_int = 5;
const SIGUSR1: c_int = 10;
const SIGALRM: c_int = 14;
const SA_SIGINFO: c_int = 4;
const SA_NODEFER: c_int = 0x4000_0000;
const SA_RESETHAND: c_int = 0x8000_0000u32 as c_int;
const FULL: [u64; 16] = [u64::MAX; 16];

extern "C" {
    fn sigaction(signal: c_int, new: *const SigAction, old: *mut SigAction) -> c_int;
    fn signal(signal: c_int, handler: usize) -> usize;
    fn pthread_sigmask(how: c_int, new: *const u64, old: *mut u64) -> c_int;
    fn sigprocmask(how: c_int, new: *const u64, old: *mut u64) -> c_int;
    fn raise(signal: c_int) -> c_int;
    fn fork() -> c_int;
    fn vfork() -> c_int;
    fn _exit(status: c_int) -> !;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn setitimer(which: c_int, new: *const [i64; 4], old: *mut c_void) -> c_int;
    fn getpid() -> c_int;
    fn pthread_self() -> usize;
    fn pthread_kill(thread: usize, signal: c_int) -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
}

fn handle(signal: c_int, handler: usize, flags: c_int, mask: [u64; 16]) -> SigAction {
    let action = SigAction {
        handler,
        mask,
        flags,
        restorer: 0,
    };
    let mut old = MaybeUninit::zeroed();
    unsafe {
        assert_eq!(sigaction(signal, &action, old.as_mut_ptr()), 0);
        old.assume_init()
    }
}

fn handled(signal: c_int) -> SigAction {
    let mut old = MaybeUninit::zeroed();
    unsafe {
        assert_eq!(sigaction(signal, null(), old.as_mut_ptr()), 0);
        old.assume_init()
    }
}

extern "C" fn polls(_: c_int) {
    poll(1);
}

/// Where a signal came from, and where it has stopped the program (gregs[REG_RIP]).
extern "C" fn trapped(_: c_int, info: *const c_int, context: *const usize) {
    TRAPS.fetch_add(1, Relaxed);
    unsafe {
        CODE.store(*info.add(2) as usize, Relaxed);
        BEHIND.store(*context.add(5 + 16), Relaxed);
    }
    poll(1);
}

/// A breakpoint of the program's own; the address behind it.
#[inline(never)]
fn breakpoint() -> usize {
    let behind: usize;
    unsafe { asm!("lea {0}, [rip + 2f]", "int3", "2:", out(reg) behind) };
    behind
}

// --- modes -----------------------------------------------------------------------------

fn threads() {
    let all: Vec<_> = (0..8).map(|_| std::thread::spawn(|| poll(50))).collect();
    for thread in all {
        thread.join().unwrap();
    }
}

/// Polls in a handler, at any moment of the polls that it interrupts.
fn signals() {
    handle(SIGALRM, polls as *const () as usize, 0x1000_0000, [0; 16]);
    unsafe { setitimer(0, &[0, 500, 0, 500], null_mut()) };
    poll(600);
    unsafe { setitimer(0, &[0; 4], null_mut()) };
}

/// All signals blocked, in every way there is in libc; what is asked for is told back, but for SIGTRAP.
fn masked() {
    let mut old = [0u64; 16];
    unsafe {
        assert_eq!(pthread_sigmask(0, FULL.as_ptr(), null_mut()), 0);
        poll(1);
        assert_eq!(pthread_sigmask(2, FULL.as_ptr(), null_mut()), 0);
        std::thread::spawn(|| poll(1)).join().unwrap();
        assert_eq!(sigprocmask(2, FULL.as_ptr(), old.as_mut_ptr()), 0);
        poll(1);
        assert_eq!(pthread_sigmask(1, FULL.as_ptr(), old.as_mut_ptr()), 0);
        assert_eq!(old[0] & (1 << (SIGUSR1 - 1)), 1 << (SIGUSR1 - 1));
        assert_eq!(sigprocmask(0, null(), old.as_mut_ptr()), 0);
        assert_eq!(old[0], 0);
        assert_eq!(pthread_sigmask(7, FULL.as_ptr(), null_mut()), 22);
        assert_eq!(sigprocmask(7, FULL.as_ptr(), null_mut()), -1);
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(22));
        handle(SIGUSR1, polls as *const () as usize, 0, FULL);
        raise(SIGUSR1);
        assert_ne!(handled(SIGUSR1).mask[0] & (1 << (SIGALRM - 1)), 0);
    }
}

/// A handler of the program's own hears of its own breakpoints and of what is sent, and polls.
fn own_handler() {
    let action = handle(
        SIGTRAP,
        trapped as *const () as usize,
        SA_SIGINFO | SA_NODEFER,
        [0; 16],
    );
    assert_eq!(action.handler, 0);
    check_own_handler();
    unsafe {
        assert_eq!(signal(SIGTRAP, 1), trapped as *const () as usize);
        raise(SIGTRAP);
        kill(getpid(), SIGTRAP);
        poll(1);
        assert_eq!(signal(SIGTRAP, 0), 1);
        assert_eq!(signal(SIGUSR1, polls as *const () as usize), 0);
        assert_eq!(signal(SIGUSR1, 0), polls as *const () as usize);
    }
    handle(
        SIGTRAP,
        trapped as *const () as usize,
        SA_SIGINFO | SA_NODEFER | SA_RESETHAND,
        [0; 16],
    );
    unsafe { raise(SIGTRAP) };
    assert_eq!(handled(SIGTRAP).handler, 0);
    assert_eq!(TRAPS.load(Relaxed), 301);
}

fn check_own_handler() {
    let before = TRAPS.load(Relaxed);
    assert_eq!(handled(SIGTRAP).handler, trapped as *const () as usize);
    assert_eq!(handled(SIGTRAP).flags & SA_SIGINFO, SA_SIGINFO);
    for _ in 0..100 {
        poll(1);
        unsafe { raise(SIGTRAP) };
        assert_eq!(CODE.load(Relaxed) as i32, -6); // SI_TKILL
        let behind = breakpoint();
        assert_eq!((CODE.load(Relaxed), BEHIND.load(Relaxed)), (0x80, behind)); // SI_KERNEL
        unsafe { kill(getpid(), SIGTRAP) };
        assert_eq!(CODE.load(Relaxed), 0); // SI_USER
    }
    assert_eq!(TRAPS.load(Relaxed), before + 300);
}

extern "C" fn counts(_: c_int) {
    TRAPS.fetch_add(1, Relaxed);
}

/// SIGTRAP sent by another thread at any moment, that of a trap too.
fn sent() {
    handle(SIGTRAP, counts as *const () as usize, 0, [0; 16]);
    let (polling, over) = (unsafe { pthread_self() }, Arc::new(AtomicU64::new(0)));
    let theirs = over.clone();
    let sender = std::thread::spawn(move || {
        while theirs.load(Relaxed) == 0 {
            assert_eq!(unsafe { pthread_kill(polling, SIGTRAP) }, 0);
        }
    });
    while TRAPS.load(Relaxed) < 3000 {
        poll(1);
    }
    over.store(1, Relaxed);
    sender.join().unwrap();
}

/// What a child does to its handlers in borrowed memory is its own affair.
fn borrow() {
    handle(
        SIGTRAP,
        trapped as *const () as usize,
        SA_SIGINFO | SA_NODEFER,
        [0; 16],
    );
    unsafe {
        let child = vfork();
        if child == 0 {
            signal(SIGTRAP, 0);
            _exit(0);
        }
        assert_eq!(waitpid(child, null_mut(), 0), child);
    }
    check_own_handler();
}

/// More than the buffers hold, after one line of input; the end after another.
fn steps() {
    let mut line = String::new();
    poll(1);
    tell();
    std::io::stdin().read_line(&mut line).unwrap();
    poll(25_000);
    tell();
    std::io::stdin().read_line(&mut line).unwrap();
}

fn tell() {
    println!(
        "{{\"pid\": {}, \"polls\": {}}}",
        std::process::id(),
        POLLS.load(Relaxed)
    );
}

fn forks() {
    poll(1);
    unsafe {
        let child = fork();
        if child == 0 {
            POLLS.store(0, Relaxed);
            handle(
                SIGTRAP,
                trapped as *const () as usize,
                SA_SIGINFO | SA_NODEFER,
                [0; 16],
            );
            check_own_handler();
            tell();
            std::process::exit(0);
        }
        let mut status = -1;
        assert_eq!(waitpid(child, &mut status, 0), child);
        assert_eq!(status, 0);
    }
    poll(1);
    assert_eq!(handled(SIGTRAP).handler, 0);
}

/// How it ends is told by its status: polls from before are in the trace.
fn ends(how: &str) {
    poll(1);
    tell();
    unsafe {
        match how {
            "raise" => assert_eq!(raise(SIGTRAP), 0),
            "kill" => assert_eq!(kill(getpid(), SIGTRAP), 0),
            "breakpoint" => assert_ne!(breakpoint(), 0),
            // A breakpoint cannot be ignored.
            _ => assert_ne!((signal(SIGTRAP, 1), breakpoint()), (7, 7)),
        }
    }
    poll(1);
}

fn run(mode: &str) {
    match mode {
        "plain" => poll(50),
        "threads" => threads(),
        "signals" => signals(),
        "masked" => masked(),
        "own-handler" => own_handler(),
        "sent" => sent(),
        "borrow" => borrow(),
        "fork" => forks(),
        "steps" => return steps(),
        how => return ends(how),
    }
    tell();
}

/// As a library: the program handles SIGTRAP already when it is loaded.
#[no_mangle]
pub extern "C" fn tiny_run(handler: usize) -> u64 {
    assert_eq!(handled(SIGTRAP).handler, handler);
    for _ in 0..100 {
        poll(1);
        unsafe { raise(SIGTRAP) };
        breakpoint();
    }
    POLLS.load(Relaxed)
}

/// Each future `n` times; how many polls there were in all.
#[no_mangle]
pub extern "C" fn tiny_poll(n: u64) -> u64 {
    poll(n);
    POLLS.load(Relaxed)
}

// An address in the code, which the loader has to write there.
#[cfg(textrel)]
std::arch::global_asm!(".section .text.address, \"ax\"", ".quad tiny_poll", ".text");

#[allow(dead_code)]
fn main() {
    run(&std::env::args().nth(1).unwrap());
}
