//! What the CUDA device needs of a driver, and what it is given: NVIDIA's (`real.rs`) or an
//! emulator (`emulated.rs`). Everything above this line is the same for both.
//!
//! Calls act in order, as on one stream. A failure is one line without the op's name, which the
//! device adds.

use kernels_ptx::launch::{Arg, Launch, Target};
use std::ffi::c_void;
use std::marker::PhantomData;

/// Rows to copy within device memory. All in bytes but `rows`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    pub dst: u64,
    pub dst_stride: usize,
    pub src: u64,
    pub src_stride: usize,
    pub width: usize,
    pub rows: usize,
}

/// A moment on the device; see [`Driver::record`].
pub(crate) type Event = usize;

/// The stream on which a driver queues, lent to a library that queues work of its own. Whoever holds
/// it is on a thread on which the driver's context is current, and it cannot leave that thread.
pub(crate) struct Stream<'a> {
    handle: *mut c_void,
    driver: PhantomData<&'a ()>,
}

impl<'a> Stream<'a> {
    /// The stream of `driver`, which has just made its context current on this thread.
    pub fn of<D: Driver>(_driver: &'a D, handle: *mut c_void) -> Self {
        Stream { handle, driver: PhantomData }
    }

    pub fn handle(&self) -> *mut c_void {
        self.handle
    }
}

pub(crate) type Result<T> = std::result::Result<T, String>;

pub(crate) trait Driver: Send + Sync {
    /// One line for people.
    fn describe(&self) -> String;
    /// What launches must know of it.
    fn target(&self) -> Target;
    /// Bytes that are free, and bytes there are.
    fn memory(&self) -> Result<(u64, u64)>;
    /// Room for `bytes`, more than 0, aligned to 256, with any content.
    fn alloc(&self, bytes: usize) -> Result<u64>;
    /// Gives back what [`Driver::alloc`] gave, once all work that was queued is done with it.
    fn free(&self, ptr: u64);
    /// Sets bytes to zero.
    fn zero(&self, ptr: u64, bytes: usize) -> Result<()>;
    /// Copies from the host. `src` may change once this returns. Small copies do not wait for work
    /// that was queued before.
    fn upload(&self, dst: u64, src: &[u8]) -> Result<()>;
    /// Copies to the host, after all work that was queued before.
    fn download(&self, dst: &mut [u8], src: u64) -> Result<()>;
    /// Copies rows that do not overlap.
    fn copy_rows(&self, rows: Rows) -> Result<()>;
    /// Queues a kernel.
    fn launch(&self, launch: &Launch, args: &[Arg]) -> Result<()>;
    /// Waits for all work that was queued.
    fn sync(&self) -> Result<()>;
    /// Marks the moment at which all work that was queued before is done.
    fn record(&self) -> Result<Event>;
    /// Milliseconds from the first of `moments` to each, all past; they are used up.
    fn elapsed_ms(&self, moments: &[Event]) -> Result<Vec<f32>>;
    /// The stream, for libraries that queue work of their own; none for an emulator.
    fn stream(&self) -> Option<Result<Stream<'_>>> {
        None
    }
}
