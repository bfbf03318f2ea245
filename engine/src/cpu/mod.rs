//! The CPU device: threads, scratch memory, vectors, and the matrix product.

pub mod ceiling;
pub mod gemm;
pub mod ops;
pub(crate) mod simd;
pub mod tiles;

use crate::buf::Memory;
use crate::element::Element;
use crate::error::Error;
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
}

/// Memory that an op needs while it runs. It grows in the first step and stays.
struct Scratch {
    /// For the whole op: the packed right factor of a product.
    shared: Mutex<Memory>,
    /// For each thread's current task.
    of_thread: Vec<Mutex<Memory>>,
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
        let scratch = Scratch { shared: Mutex::default(), of_thread };
        Ok(Cpu { pool: Arc::new(pool), isa, scratch: Arc::new(scratch), recorder: None })
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

    /// Lends `len` elements for the duration of an op. They hold arbitrary values.
    pub(crate) fn with_shared<E: Element, R>(
        &self,
        len: usize,
        f: impl FnOnce(&mut [E]) -> R,
    ) -> R {
        f(grown(&mut self.scratch.shared.lock().unwrap(), len))
    }

    /// Makes room for [`Cpu::with_task`] on every thread, whichever will take tasks.
    pub(crate) fn reserve_task<E: Element>(&self, len: usize) {
        for scratch in &self.scratch.of_thread {
            grown::<E>(&mut scratch.lock().unwrap(), len);
        }
    }

    /// Lends `len` elements for the duration of a task. They hold arbitrary values.
    /// Tasks must not start parallel work while they hold it.
    pub(crate) fn with_task<E: Element, R>(&self, len: usize, f: impl FnOnce(&mut [E]) -> R) -> R {
        let thread = rayon::current_thread_index().expect("tasks run on the pool");
        f(grown(&mut self.scratch.of_thread[thread].lock().unwrap(), len))
    }
}

fn grown<E: Element>(memory: &mut Memory, len: usize) -> &mut [E] {
    if memory.bytes().len() < len * size_of::<E>() {
        // Freed first: the old content is not needed, and the two must not coexist.
        *memory = Memory::default();
        *memory = Memory::zeroed::<E>(len);
    }
    memory.elements_mut(len)
}
