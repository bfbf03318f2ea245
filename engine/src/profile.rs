//! What each call of an op took, and the least that it had to do. Only a device made by
//! [`crate::Device::recording`] keeps this; for any other it costs one branch a call.

use std::fmt;
use std::sync::Mutex;
use std::time::Instant;

/// One call of an op.
#[derive(Clone, Debug)]
pub struct Call {
    /// The op and its direction: "linear forward".
    pub op: &'static str,
    /// Its sizes, in the letters of [`crate::dims`].
    pub shape: String,
    /// When it began.
    pub begin: Instant,
    /// When it returned.
    pub end: Instant,
    /// Floating-point operations. Of ops that are products those of the products alone, causal
    /// ones without their masked half; of the others one for each addition, multiplication,
    /// division, root and exponential of the formula.
    pub flop: u64,
    /// Least bytes to move: each input read once, each output written once, and what is added to
    /// both. Work space does not count.
    pub bytes: u64,
}

/// The calls of one device, in the order in which they ended.
#[derive(Default)]
pub(crate) struct Recorder(Mutex<Vec<Call>>);

impl Recorder {
    pub(crate) fn begin(
        &self,
        op: &'static str,
        shape: fmt::Arguments,
        flop: usize,
        bytes: u64,
    ) -> Running<'_> {
        let (shape, flop, begin) = (shape.to_string(), flop as u64, Instant::now());
        Running { recorder: self, call: Call { op, shape, begin, end: begin, flop, bytes } }
    }

    pub(crate) fn take(&self) -> Vec<Call> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// A call that goes on until this is dropped.
pub(crate) struct Running<'a> {
    recorder: &'a Recorder,
    call: Call,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let (end, shape) = (Instant::now(), std::mem::take(&mut self.call.shape));
        let call = Call { shape, end, ..self.call };
        self.recorder.0.lock().unwrap().push(call);
    }
}
