//! The closed set of devices. Ops match on it, so a device that an op lacks does not compile.

use crate::cpu::Cpu;
use crate::error::Error;

/// Where buffers live and ops run.
#[derive(Clone)]
pub enum Device {
    /// The machine's processor.
    Cpu(Cpu),
}

impl Device {
    /// The CPU with `threads` threads; 0 takes every core.
    ///
    /// # Errors
    /// If the threads cannot be started, or `HANDGRAD_ISA` names a path this CPU lacks.
    pub fn cpu(threads: usize) -> Result<Self, Error> {
        Ok(Device::Cpu(Cpu::new(threads)?))
    }

    /// Runs `work` where the device's threads are, so that the ops inside need no hand-over.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match self {
            Device::Cpu(cpu) => cpu.install(work),
        }
    }

    /// One line for people: what computes.
    pub fn describe(&self) -> String {
        match self {
            Device::Cpu(cpu) => format!("cpu, {} threads, {}", cpu.threads(), cpu.isa().name()),
        }
    }
}
