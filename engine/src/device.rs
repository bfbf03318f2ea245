//! The closed set of devices. Ops match on it, so a device that an op lacks does not compile.
//!
//! ```
//! use engine::Device;
//!
//! let dev = Device::cpu(2).unwrap();
//! // Ops take the device first, and match on it.
//! match &dev {
//!     Device::Cpu(cpu) => assert_eq!(cpu.threads(), 2),
//!     Device::Cuda(cuda) => println!("compute capability {}", cuda.target().capability),
//! }
//! ```

use crate::cpu::Cpu;
use crate::cuda::Cuda;
use crate::error::Error;
use crate::plan::{Plan, WORKSPACE};
use crate::profile::{Call, Running};
use std::fmt;

/// Where buffers live and ops run.
#[derive(Clone)]
pub enum Device {
    /// The machine's processor.
    Cpu(Cpu),
    /// A GPU, or its emulator.
    Cuda(Cuda),
}

impl Device {
    /// The CPU with `threads` threads; 0 takes every core.
    ///
    /// # Errors
    /// If the threads cannot be started, or `HANDGRAD_ISA` names a path this CPU lacks.
    pub fn cpu(threads: usize) -> Result<Self, Error> {
        Ok(Device::Cpu(Cpu::new(threads)?))
    }

    /// GPU number `ordinal`, counted from 0.
    ///
    /// # Errors
    /// As [`Cuda::new`].
    #[cfg(feature = "cuda")]
    pub fn cuda(ordinal: usize) -> Result<Self, Error> {
        Ok(Device::Cuda(Cuda::new(ordinal)?))
    }

    /// A GPU that the CPU emulates: every kernel, slowly and strictly. An A100, or what
    /// `HANDGRAD_EMULATOR` names: a compute capability, and `round` where sums shall be rounded one
    /// by one (`90`, `120-round`).
    ///
    /// # Errors
    /// [`Error::Device`] if it names something else.
    #[cfg(feature = "emulator")]
    pub fn cuda_emulated() -> Result<Self, Error> {
        let named = std::env::var("HANDGRAD_EMULATOR").unwrap_or_else(|_| "80".into());
        let hardware =
            named.parse().map_err(|e| Error::Device(format!("HANDGRAD_EMULATOR: {e}")))?;
        Ok(Device::Cuda(Cuda::emulating(hardware)?))
    }

    /// Waits until everything that ops have queued is done.
    ///
    /// # Errors
    /// [`Error::Device`] with what went wrong on a GPU since it was opened.
    pub fn sync(&self) -> Result<(), Error> {
        match self {
            Device::Cpu(_) => Ok(()),
            Device::Cuda(cuda) => cuda.check(),
        }
    }

    /// Runs `work` where the device's threads are, so that the ops inside need no hand-over.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match self {
            Device::Cpu(cpu) => cpu.install(work),
            Device::Cuda(_) => work(),
        }
    }

    /// The same device, but it keeps every call of an op for [`Device::take_calls`].
    pub fn recording(&self) -> Device {
        match self {
            Device::Cpu(cpu) => Device::Cpu(cpu.recording()),
            Device::Cuda(cuda) => Device::Cuda(cuda.recording()),
        }
    }

    /// A device like this one, on which nothing is computed and nothing has memory: buffers are counted,
    /// and ops say what work space they need. See [`crate::plan`].
    pub fn counting(&self) -> Device {
        match self {
            Device::Cpu(cpu) => Device::Cpu(cpu.counting()),
            Device::Cuda(cuda) => Device::Cuda(cuda.counting()),
        }
    }

    /// The same device. Where it counts, buffers that are made on this clone are listed under `category`.
    pub fn under(&self, category: &str) -> Device {
        match self {
            Device::Cpu(cpu) => Device::Cpu(cpu.under(category)),
            Device::Cuda(cuda) => Device::Cuda(cuda.under(category)),
        }
    }

    /// What was counted so far, the work space last; none unless the device counts.
    pub fn counted(&self) -> Option<Plan> {
        let (mut plan, workspace) = match self {
            Device::Cpu(cpu) => cpu.counted()?,
            Device::Cuda(cuda) => cuda.counted()?,
        };
        plan.add(WORKSPACE, workspace);
        Some(plan)
    }

    /// Allocates on a GPU what `plan` says, at once; the CPU's memory comes as it is written.
    ///
    /// # Errors
    /// [`Error::Device`] with what is needed and what there is.
    pub fn reserve(&self, plan: &Plan) -> Result<(), Error> {
        let Device::Cuda(cuda) = self else { return Ok(()) };
        let workspace = plan.bytes(WORKSPACE);
        cuda.reserve(plan.total() - workspace, workspace)
    }

    /// The calls of ops since the last time; none unless the device is recording.
    pub fn take_calls(&self) -> Vec<Call> {
        match self {
            Device::Cpu(cpu) => cpu.recorder.as_ref().map_or_else(Vec::new, |r| r.take(None)),
            Device::Cuda(cuda) => {
                cuda.recorder.as_ref().map_or_else(Vec::new, |r| r.take(Some(cuda)))
            }
        }
    }

    /// Marks the beginning of an op, which ends when the result is dropped. See [`Call`] for what
    /// `flop` and `bytes` count.
    pub(crate) fn op(
        &self,
        op: &'static str,
        shape: fmt::Arguments,
        flop: usize,
        bytes: u64,
    ) -> Option<Running<'_>> {
        self.op_of("", op, shape, flop, bytes)
    }

    /// The same of an op that computes several parts of a model, of which this is `part`.
    pub(crate) fn op_of(
        &self,
        part: &'static str,
        op: &'static str,
        shape: fmt::Arguments,
        flop: usize,
        bytes: u64,
    ) -> Option<Running<'_>> {
        match self {
            Device::Cpu(cpu) => {
                Some(cpu.recorder.as_ref()?.begin([op, part], shape, flop, bytes, None))
            }
            Device::Cuda(cuda) => {
                cuda.begin(op);
                Some(cuda.recorder.as_ref()?.begin([op, part], shape, flop, bytes, Some(cuda)))
            }
        }
    }

    /// One line for people: what computes.
    pub fn describe(&self) -> String {
        match self {
            Device::Cpu(cpu) => format!("cpu, {} threads, {}", cpu.threads(), cpu.isa().name()),
            Device::Cuda(cuda) => cuda.describe(),
        }
    }
}
