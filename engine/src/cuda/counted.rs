//! The driver of a GPU that is not here: memory has addresses and no content, and nothing runs. What
//! is above it asks for buffers and work space as ever, so these can be counted.

use super::driver::{Driver, Event, Result, Rows};
use kernels_ptx::launch::{Arg, Launch, Target};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub(crate) struct Counted {
    target: Target,
    memory: u64,
    next: AtomicU64,
}

impl Counted {
    /// A device of `memory` bytes, of which all are free however many are taken.
    pub fn new(target: Target, memory: u64) -> Self {
        Counted { target, memory, next: AtomicU64::new(super::ALIGN as u64) }
    }
}

impl Driver for Counted {
    fn describe(&self) -> String {
        let Target { capability, multiprocessors, .. } = self.target;
        let (major, minor) = (capability / 10, capability % 10);
        format!(
            "an imagined GPU of compute capability {major}.{minor}, {multiprocessors} multiprocessors"
        )
    }

    fn target(&self) -> Target {
        self.target
    }

    fn memory(&self) -> Result<(u64, u64)> {
        Ok((self.memory, self.memory))
    }

    fn alloc(&self, bytes: usize) -> Result<u64> {
        Ok(self.next.fetch_add(bytes.next_multiple_of(super::ALIGN) as u64, Relaxed))
    }

    fn free(&self, _: u64) {}

    fn zero(&self, _: u64, _: usize) -> Result<()> {
        Ok(())
    }

    fn upload(&self, _: u64, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn download(&self, _: &mut [u8], _: u64) -> Result<()> {
        Ok(())
    }

    fn copy_rows(&self, _: Rows) -> Result<()> {
        Ok(())
    }

    fn launch(&self, _: &Launch, _: &[Arg]) -> Result<()> {
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn record(&self) -> Result<Event> {
        Ok(0)
    }

    fn elapsed_ms(&self, moments: &[Event]) -> Result<Vec<f32>> {
        Ok(vec![0.0; moments.len()])
    }
}
