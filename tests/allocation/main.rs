//! What is allocated, and when: nothing once the first step has run, but for the few bytes that
//! threads hand each other work in; until then what the plan says, row by row; and for files a few short
//! parts of the model.

mod files;
mod plan;

#[path = "../shared/bench.rs"]
mod bench;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bench::{Bench, config};
use engine::{Dims, Element, bf16};
use handgrad::{engine, model};
use model::cache::Mode;

/// Allocations of this many bytes or more count; no buffer of the model below is smaller.
const LARGE: usize = 2048;

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Alignment of buffers and of work space, and of nothing else that these tests allocate.
const LINE: usize = 64;

/// Bytes of all live allocations with that alignment.
static LINES: AtomicUsize = AtomicUsize::new(0);

/// Bytes of all live allocations.
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// The most that [`LIVE`] was since this was last set.
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The counters are the process's, so one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Waits for the counters; a test that failed before leaves them as good as they were.
fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Counting;

// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add((layout.size() >= LARGE) as usize, Relaxed);
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        if layout.align() == LINE {
            LINES.fetch_add(layout.size(), Relaxed);
        }
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        if layout.align() == LINE {
            LINES.fetch_sub(layout.size(), Relaxed);
        }
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn large_allocations_of_a_step<E: Element<Acc = f32>>(mode: Mode) -> (usize, usize) {
    let dims = Dims { L: 2, C: 64, H: 4, G: 2, D: 16, F: 96, V: 600 };
    let before = COUNT.load(Relaxed);
    let mut bench = Bench::<E>::new(&config(dims, false), 2, 100, mode, 2);
    let mut step = || bench.step(1e-3);
    step();
    let ready = COUNT.load(Relaxed);
    (0..5).for_each(|_| step());
    (ready - before, COUNT.load(Relaxed) - ready)
}

#[test]
fn nothing_is_allocated_after_the_first_step() {
    let _alone = alone();
    for mode in [Mode::Linear, Mode::Full] {
        for (start, later) in
            [large_allocations_of_a_step::<f32>(mode), large_allocations_of_a_step::<bf16>(mode)]
        {
            assert!(start >= 20, "the counter counts: {start}");
            assert_eq!(later, 0, "{mode:?}");
        }
    }
}
