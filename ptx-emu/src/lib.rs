//! Executes PTX on the CPU.
#![forbid(unsafe_code)]

mod ast;
mod counts;
mod decode;
mod error;
mod exec;
mod gpu;
mod ir;
mod lex;
mod memory;
mod module;
mod parse;
mod shared;

pub use counts::{Class, Counts, LineCounts, Tally};
pub use error::{Error, Fault, FaultKind, Result};
pub use gpu::{Arg, DevicePtr, Gpu, Grid};
pub use module::{Kernel, Module};
