//! What each call of an op took, and the least that it had to do. Only a device made by
//! [`crate::Device::recording`] keeps this; for any other it costs one branch a call.
//!
//! ```
//! use engine::{Buf, Device, ops::swiglu};
//!
//! let dev = Device::cpu(1).unwrap().recording();
//! let (mut a, gu) = (Buf::<f32>::zeros(&dev, 8), Buf::<f32>::zeros(&dev, 16));
//! swiglu::forward(&dev, a.view_mut(), gu.view(), 8);
//! let calls = dev.take_calls();
//! assert_eq!((calls[0].op, calls[0].bytes), ("swiglu forward", 96));
//! ```

use crate::cuda::{Cuda, Event};
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// One call of an op.
#[derive(Clone, Debug)]
pub struct Call {
    /// The op and its direction: "linear forward".
    pub op: &'static str,
    /// Which part of a model it computes, as its caller names it; empty where ops of one kind are alike.
    pub part: &'static str,
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
pub(crate) struct Recorder(Mutex<State>);

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    /// Of a GPU, beside each call: its begin and end there, not read yet.
    moments: Vec<[Event; 2]>,
}

impl Recorder {
    /// `cuda` is the GPU that the op runs on, if it is one.
    pub(crate) fn begin<'a>(
        &'a self,
        [op, part]: [&'static str; 2],
        shape: fmt::Arguments,
        flop: usize,
        bytes: u64,
        cuda: Option<&'a Cuda>,
    ) -> Running<'a> {
        let moment = cuda.and_then(|cuda| Some((cuda, cuda.attempt(|driver| driver.record())?)));
        let (shape, flop, begin) = (shape.to_string(), flop as u64, Instant::now());
        let call = Call { op, part, shape, begin, end: begin, flop, bytes };
        Running { recorder: self, moment, call }
    }

    /// What was recorded. A GPU's clock is set to the host's at the first call's begin.
    pub(crate) fn take(&self, cuda: Option<&Cuda>) -> Vec<Call> {
        let State { mut calls, moments } = std::mem::take(&mut *self.0.lock().unwrap());
        let (Some(cuda), false) = (cuda, moments.is_empty()) else { return calls };
        let start = calls[0].begin;
        let read = cuda.attempt(|driver| {
            driver.sync()?;
            driver.elapsed_ms(moments.as_flattened())
        });
        let at = |ms: f32| start + Duration::from_secs_f64(f64::from(ms) * 1e-3);
        for (call, ms) in calls.iter_mut().zip(read.unwrap_or_default().chunks_exact(2)) {
            (call.begin, call.end) = (at(ms[0]), at(ms[1]));
        }
        calls
    }
}

/// A call that goes on until this is dropped.
pub(crate) struct Running<'a> {
    recorder: &'a Recorder,
    /// On a GPU, when it began there.
    moment: Option<(&'a Cuda, Event)>,
    call: Call,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let end = self.moment.and_then(|(cuda, begin)| {
            cuda.attempt(|driver| driver.record()).map(|end| [begin, end])
        });
        let shape = std::mem::take(&mut self.call.shape);
        let call = Call { shape, end: Instant::now(), ..self.call };
        let state = &mut *self.recorder.0.lock().unwrap();
        state.calls.push(call);
        state.moments.extend(end);
    }
}
