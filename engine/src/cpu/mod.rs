//! The CPU device: threads, scratch memory, vectors, and the matrix product.
//!
//! ```
//! use engine::{Cpu, Device, Isa};
//!
//! // Every path gives the same bits for any number of threads.
//! for isa in Isa::all_available() {
//!     let dev = Device::Cpu(Cpu::with_isa(2, isa).unwrap());
//!     println!("{}", dev.describe());
//! }
//! ```

pub mod ceiling;
pub mod gemm;
pub(crate) mod ops;
pub(crate) mod simd;
pub(crate) mod tiles;

use crate::buf::{LINE, Memory};
use crate::element::Element;
use crate::error::Error;
use crate::plan::{Counter, Held, Plan};
use crate::profile::Recorder;
pub use simd::Isa;
use std::sync::{Arc, Mutex};

/// Threads and the memory they work in. Clones share both.
///
/// Ops divide work by shapes and segments, never by the number of threads, so results have the same
/// bits for any number. Ops run one at a time: each uses all threads, and the scratch is theirs.
#[derive(Clone)]
pub struct Cpu {
    pool: Arc<rayon::ThreadPool>,
    isa: Isa,
    scratch: Arc<Scratch>,
    pub(crate) recorder: Option<Arc<Recorder>>,
    /// Counts buffers, where they have no memory and nothing is computed.
    counter: Option<Counter>,
    /// What the op that runs has said that it needs; none between ops.
    granted: Option<Space>,
}

/// Memory that an op needs while it runs. It grows in the first step and stays.
#[derive(Default)]
struct Scratch {
    /// For the whole op: the packed right factor of a product.
    shared: Mutex<Memory>,
    /// For each thread's current task.
    of_thread: Vec<Mutex<Memory>>,
    /// The most that an op has said it needs, where nothing is computed.
    counted: Mutex<Space>,
}

/// Work space of an op, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Space {
    /// For the whole op.
    shared: usize,
    /// For a task, at most.
    task: usize,
}

impl Space {
    /// None at all.
    pub const NONE: Space = Space { shared: 0, task: 0 };

    /// `shared` elements for the whole op and `task` for a task.
    pub fn of<E>(shared: usize, task: usize) -> Space {
        let [shared, task] = [shared, task].map(|len| len * size_of::<E>());
        Space { shared, task }
    }

    /// Enough for either, one after the other.
    pub fn max(self, other: Space) -> Space {
        Space { shared: self.shared.max(other.shared), task: self.task.max(other.task) }
    }
}

impl Cpu {
    /// `threads` threads (0: one for each core) on the best instruction set of this CPU.
    ///
    /// # Errors
    /// If the threads cannot be started, or `HANDGRAD_ISA` names a set this CPU lacks.
    pub fn new(threads: usize) -> Result<Self, Error> {
        Self::with_isa(threads, Isa::choose()?)
    }

    /// The same on a given instruction set.
    ///
    /// # Errors
    /// If the threads cannot be started.
    pub fn with_isa(threads: usize, isa: Isa) -> Result<Self, Error> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(|e| {
            Error::Device(format!("cannot start {threads} threads: {e}; give a smaller --threads"))
        })?;
        let of_thread = (0..pool.current_num_threads()).map(|_| Mutex::default()).collect();
        let scratch = Arc::new(Scratch { of_thread, ..Scratch::default() });
        let (recorder, counter, granted) = (None, None, None);
        Ok(Cpu { pool: Arc::new(pool), isa, scratch, recorder, counter, granted })
    }

    /// Threads.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// The instruction set that kernels run on.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Values of k in an item of a product's factors in storage `E`: 2 where products are sums over
    /// pairs of bf16.
    pub(crate) fn item_values<E: Element>(&self) -> usize {
        if E::as_bf16(&[]).is_some() && self.isa.dots() { 2 } else { 1 }
    }

    /// A clone that keeps the calls of ops.
    pub(crate) fn recording(&self) -> Self {
        Cpu { recorder: Some(Arc::default()), ..self.clone() }
    }

    /// Runs `work` on a thread of the pool.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.pool.install(work)
    }

    /// Runs `work` on every thread of the pool, once each, with its number.
    pub(crate) fn broadcast(&self, work: impl Fn(usize) + Sync) {
        self.pool.broadcast(|thread| work(thread.index()));
    }

    /// The same threads, but nothing is computed and nothing has memory: it is counted.
    pub(crate) fn counting(&self) -> Self {
        let (scratch, counter) = (Arc::default(), Some(Counter::new()));
        Cpu { scratch, recorder: None, counter, ..self.clone() }
    }

    /// A clone whose buffers are counted under `category`, where they are counted.
    pub(crate) fn under(&self, category: &str) -> Self {
        let counter = self.counter.as_ref().map(|counter| counter.under(category));
        Cpu { counter, ..self.clone() }
    }

    /// What was counted, and bytes of work space.
    pub(crate) fn counted(&self) -> Option<(Plan, u64)> {
        let plan = self.counter.as_ref()?.plan();
        let Space { shared, task } = *self.scratch.counted.lock().unwrap();
        Some((plan, (shared + self.threads() * task) as u64))
    }

    /// Counts a buffer of `bytes`, where they are counted.
    pub(crate) fn hold(&self, bytes: usize) -> Option<Held> {
        Some(self.counter.as_ref()?.hold(bytes.next_multiple_of(LINE)))
    }

    /// Runs an op that needs `space`, and may take no more of it than that. Where nothing is computed,
    /// only counts it. An op within an op has part of the outer one's.
    ///
    /// # Panics
    /// If an op needs more than the one that it is part of has said: a bug of the op.
    pub(crate) fn compute(&self, space: Space, work: impl FnOnce(&Cpu)) {
        if let Some(granted) = self.granted {
            assert_eq!(granted.max(space), granted, "cpu: an op needs more than it said");
            return work(self);
        }
        let round = |bytes: usize| bytes.next_multiple_of(LINE);
        let space = Space { shared: round(space.shared), task: round(space.task) };
        if self.counter.is_some() {
            let most = &mut *self.scratch.counted.lock().unwrap();
            *most = most.max(space);
            return;
        }
        grow(&self.scratch.shared, space.shared);
        self.scratch.of_thread.iter().for_each(|scratch| grow(scratch, space.task));
        work(&Cpu { granted: Some(space), ..self.clone() });
    }

    /// Lends `len` elements for the duration of an op. They hold arbitrary values.
    ///
    /// # Panics
    /// If the op has not said that it needs them, see [`Cpu::compute`]: a bug of the op.
    pub(crate) fn with_shared<E: Element, R>(
        &self,
        len: usize,
        f: impl FnOnce(&mut [E]) -> R,
    ) -> R {
        self.check_granted(len * size_of::<E>(), |space| space.shared);
        f(self.scratch.shared.lock().unwrap().elements_mut(len))
    }

    /// Lends `len` elements for the duration of a task. They hold arbitrary values.
    /// Tasks must not start parallel work while they hold it.
    ///
    /// # Panics
    /// As [`Cpu::with_shared`].
    pub(crate) fn with_task<E: Element, R>(&self, len: usize, f: impl FnOnce(&mut [E]) -> R) -> R {
        self.check_granted(len * size_of::<E>(), |space| space.task);
        let thread = rayon::current_thread_index().expect("tasks run on the pool");
        f(self.scratch.of_thread[thread].lock().unwrap().elements_mut(len))
    }

    fn check_granted(&self, bytes: usize, part: impl Fn(Space) -> usize) {
        let granted = self.granted.map_or(0, part);
        assert!(
            bytes <= granted,
            "cpu: an op takes {bytes} bytes of work space, and said {granted}"
        );
    }
}

/// Makes room for `bytes`, whole lines.
fn grow(memory: &Mutex<Memory>, bytes: usize) {
    let memory = &mut *memory.lock().unwrap();
    if memory.bytes().len() < bytes {
        // Freed first: the old content is not needed, and the two must not coexist.
        *memory = Memory::default();
        *memory = Memory::zeroed::<u8>(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "takes 400 bytes of work space, and said 0")]
    fn work_space_that_no_op_asked_for_is_refused() {
        Cpu::new(1).unwrap().with_shared(100, |_: &mut [f32]| ());
    }

    #[test]
    #[should_panic(expected = "takes 520 bytes of work space, and said 512")]
    fn more_than_an_op_said_is_refused() {
        let (cpu, space) = (Cpu::new(1).unwrap(), Space::of::<f64>(64, 0));
        cpu.compute(space, |cpu| cpu.with_shared(64, |_: &mut [f64]| ()));
        cpu.compute(Space::of::<f64>(1 << 10, 0), |_| ());
        cpu.compute(space, |cpu| cpu.with_shared(65, |_: &mut [f64]| ()));
    }

    #[test]
    #[should_panic(expected = "needs more than it said")]
    fn an_op_says_what_its_parts_need() {
        let cpu = Cpu::new(1).unwrap();
        cpu.compute(Space::of::<f32>(0, 16), |cpu| cpu.compute(Space::of::<f32>(0, 17), |_| ()));
    }

    #[test]
    fn a_cpu_that_counts_computes_nothing() {
        let cpu = Cpu::new(3).unwrap().counting();
        for space in [Space::of::<f32>(16, 0), Space::of::<u8>(1, 65), Space::NONE] {
            cpu.compute(space, |_| panic!("it computes"));
        }
        assert_eq!(cpu.counted().unwrap().1, 64 + 3 * 128);
    }
}
