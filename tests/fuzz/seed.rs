//! Small, with one of each thing that the analysis looks for; compiled as a crate called tokio,
//! so that `runtime::task` is taken for what it resembles.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

pub struct Twice(u8);

impl Future for Twice {
    type Output = u8;
    #[inline(never)]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<u8> {
        self.0 += 1;
        if self.0 > 1 {
            return Poll::Ready(self.0);
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

async fn inner(n: u8) -> u8 {
    let kept = [n; 8];
    Twice(n).await + kept[(n & 7) as usize]
}

async fn outer<T: Into<u8>>(n: T) -> u8 {
    let held = inner(n.into()).await;
    let both: Pin<Box<dyn Future<Output = u8>>> = Box::pin(inner(held));
    both.await + async { Twice(held).await }.await
}

pub mod runtime {
    pub mod task {
        pub mod core {
            #[repr(C)]
            pub struct Header {
                pub state: usize,
                pub vtable: &'static super::raw::Vtable,
            }
            pub enum Stage<T: std::future::Future> {
                Running(T),
                Finished(T::Output),
                Consumed,
            }
            pub struct CoreStage<T: std::future::Future> {
                pub stage: std::cell::UnsafeCell<Stage<T>>,
            }
            #[repr(C)]
            pub struct Core<T: std::future::Future, S> {
                pub scheduler: S,
                pub stage: CoreStage<T>,
            }
            #[repr(C)]
            pub struct Cell<T: std::future::Future, S> {
                pub header: Header,
                pub core: Core<T, S>,
            }
        }
        pub mod raw {
            use super::core::{Cell, Header, Stage};
            use std::future::Future;
            use std::pin::Pin;

            pub struct Vtable {
                pub poll: unsafe fn(*mut Header, &mut std::task::Context<'_>),
                pub id_offset: usize,
            }
            pub unsafe fn poll<T: Future, S>(
                header: *mut Header,
                context: &mut std::task::Context<'_>,
            ) {
                let cell = header as *mut Cell<T, S>;
                if let Stage::Running(future) = &mut *(*cell).core.stage.stage.get() {
                    let _ = Pin::new_unchecked(future).poll(context);
                }
            }
        }
    }
}

unsafe fn clone(data: *const ()) -> RawWaker {
    RawWaker::new(data, &TABLE)
}
unsafe fn nothing(_: *const ()) {}
static TABLE: RawWakerVTable = RawWakerVTable::new(clone, nothing, nothing, nothing);

pub fn block_on(n: u8, header: *mut runtime::task::core::Header) -> u8 {
    let waker = unsafe { Waker::from_raw(clone(std::ptr::null())) };
    let mut context = Context::from_waker(&waker);
    let mut future = outer(n);
    let own = async { inner(2).await };
    task(&own, header, &mut context);
    loop {
        let pinned = unsafe { Pin::new_unchecked(&mut future) };
        if let Poll::Ready(n) = pinned.poll(&mut context) {
            return n;
        }
    }
}

fn task<T: Future>(
    _: &T,
    header: *mut runtime::task::core::Header,
    context: &mut Context<'_>,
) {
    unsafe { runtime::task::raw::poll::<T, u64>(header, context) }
}
