//! What can go wrong, and where.

use std::fmt;

/// Every error of this crate. Parse and support errors name the PTX line; faults also name the
/// kernel, the block and the thread. In the fields, `line` counts from 1, `text` is that line, and
/// `what` says what is wrong.
#[allow(missing_docs)]
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The text is not PTX as this crate knows it.
    #[error("PTX line {line}: {what}: `{text}`")]
    Parse { line: u32, text: String, what: String },
    /// Valid PTX, as far as can be told, that this crate does not execute.
    #[error("PTX line {line}: not supported: {what}: `{text}`")]
    Unsupported { line: u32, text: String, what: String },
    /// No such kernel or variable in the module.
    #[error("the module has no {what}")]
    Missing { what: String },
    /// A module for other devices.
    #[error("the module for {target} {what}")]
    Target { target: String, what: String },
    /// A launch whose geometry or arguments cannot work; nothing has run.
    #[error("launch of `{kernel}`: {what}")]
    Launch { kernel: String, what: String },
    /// A wrong call of the host's memory functions.
    #[error("device memory: {what}")]
    Memory { what: String },
    /// The kernel did something wrong.
    #[error(transparent)]
    Fault(Box<Fault>),
}

/// What kind of wrong thing a kernel did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// An address outside every allocation, or outside the block's shared or a thread's local memory.
    OutOfBounds,
    /// An address that is no multiple of the access's width.
    Misaligned,
    /// Memory or a register read before anything was written to it.
    Uninitialised,
    /// Bytes an asynchronous copy has yet to deliver were read or overwritten.
    Pending,
    /// Two threads, at least one of them writing, the same bytes, nothing to order them.
    Race,
    /// An instruction that needs its whole warp, reached by a part of it.
    Divergent,
    /// Nobody left who could complete a barrier.
    Deadlock,
    /// More instructions than the budget: an endless loop.
    Budget,
    /// `trap` was executed.
    Trap,
    /// An operand with no defined result: a zero divisor, a bad lane, a bad barrier.
    Operand,
}

/// A fault with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What kind of thing went wrong.
    pub kind: FaultKind,
    /// Name of the kernel.
    pub kernel: String,
    /// Line in the module's text, from 1.
    pub line: u32,
    /// That line.
    pub text: String,
    /// Index of the block, x first.
    pub block: [u32; 3],
    /// Index of the thread in its block, x first.
    pub thread: [u32; 3],
    /// What happened, with addresses and other parties.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let ([bx, by, bz], [tx, ty, tz]) = (self.block, self.thread);
        write!(
            f,
            "kernel `{}`, PTX line {} `{}`, block ({bx},{by},{bz}), thread ({tx},{ty},{tz}): {}",
            self.kernel, self.line, self.text, self.what
        )
    }
}

impl std::error::Error for Fault {}

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// A fault before its place is known: the lane, and what happened.
#[derive(Debug)]
pub(crate) struct Bad {
    pub kind: FaultKind,
    pub lane: u32,
    pub what: String,
}

/// A cold constructor, so that formatting stays out of the hot loops.
#[cold]
pub(crate) fn bad(kind: FaultKind, lane: u32, what: String) -> Box<Bad> {
    Box::new(Bad { kind, lane, what })
}

pub(crate) type Exec<T = ()> = std::result::Result<T, Box<Bad>>;
