//! A roofline of one training step: the time of each op beside the least that its arithmetic and
//! its bytes would take at the ceilings of this machine.
//! Source: Williams, Waterman and Patterson 2009, doi:10.1145/1498765.1498785.
//!
//! ```
//! use std::time::Instant;
//!
//! use engine::ops::linear;
//! use engine::{Buf, Device};
//! use train::config::RunConfig;
//! use train::profile::{Bound, Ceilings, Profile, Timed};
//!
//! # fn main() -> Result<(), train::Error> {
//! let dev = Device::cpu(1)?.recording();
//! let (mut y, x, w) = (Buf::<f32>::zeros(&dev, 64), Buf::zeros(&dev, 64), Buf::zeros(&dev, 64 * 64));
//! let begin = Instant::now();
//! // In place of a step: one row, so that the weight is read for a single use.
//! linear::forward(&dev, y.view_mut(), x.view(), w.view(), 64, "head");
//! let step = Timed { step: 1, loss: 4.1, begin, end: Instant::now(), calls: dev.take_calls() };
//!
//! let (model, config) = (model::Config::stories_260k(), RunConfig::default());
//! let ceilings = Ceilings { flop_per_second: 1e11, bytes_per_second: 1e10 };
//! let profile = Profile::new::<f32>(&dev, &model, &config, ceilings, &[step]);
//! assert_eq!((profile.ops[0].op, profile.ops[0].bound), ("linear forward", Bound::Memory));
//! println!("{profile}");
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::time::{Duration, Instant};

use engine::profile::Call;
use engine::{Device, Element, ceiling};
use model::Config;
use serde::Serialize;
use serde_json::{Value, json};

use crate::config::RunConfig;
use crate::error::Error;
use crate::outdir::OutDir;

/// Steps before the measured ones: memory is touched, caches and clocks are warm.
pub const WARMUP: u64 = 3;
/// Steps that are measured. The table is of the one of median duration: an average of several
/// would hold what other programs took, medians of each op would not add up to a step.
pub const MEASURED: u64 = 5;
/// Width of the table's first column: the longest is "linear backward dW, gate and up".
const OP: usize = 31;

/// One training step as it was measured.
#[derive(Clone, Debug)]
pub struct Timed {
    /// From 1.
    pub step: u64,
    /// Nats per token.
    pub loss: f64,
    /// When it began.
    pub begin: Instant,
    /// When it ended.
    pub end: Instant,
    /// The calls of ops between the two, in order.
    pub calls: Vec<Call>,
}

impl Timed {
    fn duration(&self) -> Duration {
        self.end - self.begin
    }
}

/// What this machine can do at best, measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ceilings {
    /// FLOP/s of matrix products in the storage type of the run.
    pub flop_per_second: f64,
    /// Bytes/s to and from memory.
    pub bytes_per_second: f64,
}

impl Ceilings {
    /// Measures them, for products in `E`. Takes about 200 ms.
    pub fn measure<E: Element>(dev: &Device) -> Ceilings {
        Ceilings {
            flop_per_second: ceiling::product_flops::<E>(dev),
            bytes_per_second: ceiling::memory_bandwidth(dev),
        }
    }

    /// The higher of two measurements: what disturbs one lowers it.
    pub fn max(self, other: Ceilings) -> Ceilings {
        Ceilings {
            flop_per_second: self.flop_per_second.max(other.flop_per_second),
            bytes_per_second: self.bytes_per_second.max(other.bytes_per_second),
        }
    }
}

/// Which ceiling an op meets first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// That of arithmetic.
    Compute,
    /// That of memory.
    Memory,
}

/// All calls of an op at one shape.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The op and its direction.
    pub op: &'static str,
    /// Which part of the model it is, for linear layers.
    pub part: Option<&'static str>,
    /// Its sizes.
    pub shape: String,
    /// Calls in the step.
    pub calls: u64,
    /// Milliseconds of all calls.
    pub ms: f64,
    /// Floating-point operations of all calls, as [`Call::flop`] counts.
    pub flop: u64,
    /// Least bytes of all calls, as [`Call::bytes`] counts.
    pub bytes: u64,
    /// The ceiling that it meets first.
    pub bound: Bound,
    /// Share of the attainable: the least time at the ceilings over the measured one. Above 1
    /// where caches still hold what the op reads.
    pub attained: f64,
}

/// A measured step in short.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// From 1.
    pub step: u64,
    /// Nats per token.
    pub loss: f64,
    /// Milliseconds.
    pub ms: f64,
}

/// The step of median duration, op by op.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Profile {
    /// What computed.
    pub device: String,
    /// Storage type.
    pub dtype: &'static str,
    /// Tokens of a step.
    pub tokens: u64,
    /// What shares are of.
    pub ceilings: Ceilings,
    /// Every measured step.
    pub steps: Vec<Measured>,
    /// Which of them the following is of.
    pub step: u64,
    /// Longest first.
    pub ops: Vec<Row>,
    /// Milliseconds in no op.
    pub between_ops_ms: f64,
    /// Milliseconds of the step: the sum of `ops` and `between_ops_ms`.
    pub step_ms: f64,
    /// Share of the attainable of the whole step: least time of all ops over `step_ms`.
    pub attained: f64,
    /// FLOP of the step by [`Config::flop_per_token`]; ops that compute something again do more.
    pub model_flop: u64,
    /// Tokens a second.
    pub tokens_per_second: f64,
    /// Model FLOP a second over the ceiling of products, as the training loop prints it.
    pub mfu: f64,
}

impl Profile {
    /// Sums up `steps`, of which there must be one.
    pub fn new<E: Element>(
        dev: &Device,
        model: &Config,
        config: &RunConfig,
        ceilings: Ceilings,
        steps: &[Timed],
    ) -> Profile {
        let mut by_duration: Vec<&Timed> = steps.iter().collect();
        by_duration.sort_by_key(|step| step.duration());
        let step = by_duration[steps.len() / 2];
        let ops = rows(&step.calls, ceilings);
        let in_ops: Duration = step.calls.iter().map(|call| call.end - call.begin).sum();
        let seconds = step.duration().as_secs_f64();
        let tokens = config.tokens_per_step();
        let model_flop = tokens * model.flop_per_token(config.run.seq_len);
        let least_ms: f64 = ops.iter().map(|row| row.attained * row.ms).sum();
        let about = |s: &Timed| Measured { step: s.step, loss: s.loss, ms: ms(s.duration()) };
        Profile {
            device: dev.describe(),
            dtype: E::NAME,
            tokens,
            ceilings,
            steps: steps.iter().map(about).collect(),
            step: step.step,
            ops,
            between_ops_ms: ms(step.duration() - in_ops),
            step_ms: ms(step.duration()),
            attained: least_ms / ms(step.duration()),
            model_flop,
            tokens_per_second: tokens as f64 / seconds,
            mfu: model_flop as f64 / seconds / ceilings.flop_per_second,
        }
    }

    /// As one line of JSON.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("numbers always fit JSON") + "\n"
    }

    /// Writes the profile and the trace of `steps` into `out`.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file that cannot be written; each file is then old or new.
    pub fn write(&self, out: &OutDir, steps: &[Timed]) -> Result<(), Error> {
        for (path, text) in [(out.profile(), self.json()), (out.trace(), trace(steps))] {
            let written = store::write(&path, text.as_bytes());
            written.map_err(Error::io("cannot write the profile", &path))?;
        }
        Ok(())
    }
}

/// One row for each op, part and shape, longest first.
fn rows(calls: &[Call], ceilings: Ceilings) -> Vec<Row> {
    let mut rows: Vec<(Row, Duration)> = Vec::new();
    for call in calls {
        let new = Row::new(call);
        let same = |row: &Row| (row.op, row.part, &row.shape) == (new.op, new.part, &new.shape);
        let at = rows.iter().position(|(row, _)| same(row)).unwrap_or_else(|| {
            rows.push((new, Duration::ZERO));
            rows.len() - 1
        });
        let (row, time) = &mut rows[at];
        row.calls += 1;
        row.flop += call.flop;
        row.bytes += call.bytes;
        *time += call.end - call.begin;
    }
    rows.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
    rows.into_iter().map(|(row, time)| row.timed(time, ceilings)).collect()
}

impl Row {
    fn new(call: &Call) -> Row {
        Row {
            op: call.op,
            part: (!call.part.is_empty()).then_some(call.part),
            shape: call.shape.clone(),
            calls: 0,
            ms: 0.0,
            flop: 0,
            bytes: 0,
            bound: Bound::Memory,
            attained: 0.0,
        }
    }

    fn timed(self, time: Duration, ceilings: Ceilings) -> Row {
        let compute = self.flop as f64 / ceilings.flop_per_second;
        let memory = self.bytes as f64 / ceilings.bytes_per_second;
        let bound = if compute > memory { Bound::Compute } else { Bound::Memory };
        Row { ms: ms(time), bound, attained: compute.max(memory) / time.as_secs_f64(), ..self }
    }
}

fn ms(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e6
}

impl fmt::Display for Profile {
    /// The table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ceilings { flop_per_second, bytes_per_second } = self.ceilings;
        writeln!(
            f,
            "{}, {}: ceilings {:.1} GFLOP/s, {:.1} GB/s",
            self.device,
            self.dtype,
            flop_per_second / 1e9,
            bytes_per_second / 1e9
        )?;
        writeln!(
            f,
            "{:<OP$} {:<28} {:>5} {:>9} {:>6} {:>9} {:>8} {:>8} {:>6}  {:<7} {:>8}",
            "op",
            "shape",
            "calls",
            "ms",
            "step",
            "GFLOP",
            "MB",
            "GFLOP/s",
            "GB/s",
            "bound",
            "attained"
        )?;
        for row in &self.ops {
            let part = row.part.map_or(String::new(), |part| format!(", {part}"));
            let bound = if row.bound == Bound::Compute { "compute" } else { "memory" };
            let (name, all) = (format!("{}{part}", row.op), (row.flop, row.bytes));
            write!(f, "{name:<OP$} {:<28} {:>5}", row.shape, row.calls)?;
            self.figures(f, row.ms, Some(all))?;
            writeln!(f, "  {bound:<7} {:>6.0} %", 100.0 * row.attained)?;
        }
        write!(f, "{:<OP$} {:<28} {:>5}", "between ops", "", "")?;
        self.figures(f, self.between_ops_ms, None)?;
        let sum = |of: fn(&Row) -> u64| self.ops.iter().map(of).sum();
        let (calls, all): (u64, _) =
            (sum(|row| row.calls), (sum(|row| row.flop), sum(|row| row.bytes)));
        write!(f, "\n{:<OP$} {:<28} {calls:>5}", "step", format!("{} tokens", self.tokens))?;
        self.figures(f, self.step_ms, Some(all))?;
        writeln!(f, "  {:<7} {:>6.0} %", "", 100.0 * self.attained)?;
        write!(
            f,
            "{:.0} tokens/s; model FLOP {:.1} G a step: {:.1} GFLOP/s, MFU {:.1} %",
            self.tokens_per_second,
            self.model_flop as f64 / 1e9,
            self.model_flop as f64 / self.step_ms / 1e6,
            100.0 * self.mfu
        )
    }
}

impl Profile {
    /// The columns of time, and of FLOP and bytes where there are any.
    fn figures(&self, f: &mut fmt::Formatter, ms: f64, all: Option<(u64, u64)>) -> fmt::Result {
        write!(f, " {ms:>9.3} {:>4.1} %", 100.0 * ms / self.step_ms)?;
        let Some((flop, bytes)) = all else { return Ok(()) };
        let (flop, bytes) = (flop as f64, bytes as f64);
        write!(
            f,
            " {:>9.3} {:>8.1} {:>8.1} {:>6.1}",
            flop / 1e9,
            bytes / 1e6,
            flop / ms / 1e6,
            bytes / ms / 1e6
        )
    }
}

/// All measured steps and calls as Chrome's trace events, for Perfetto and chrome://tracing.
/// Times count from the beginning of the first step.
/// Source: "Trace Event Format", Google, 2016.
fn trace(steps: &[Timed]) -> String {
    let micros = |time: Duration| time.as_nanos() as f64 / 1e3;
    let event = |name: &str, category: &str, begin: Instant, end: Instant, args: Value| {
        let (ts, dur) = (micros(begin - steps[0].begin), micros(end - begin));
        json!({"name": name, "cat": category, "ph": "X", "pid": 1, "tid": 1,
            "ts": ts, "dur": dur, "args": args})
    };
    let mut events = vec![json!({"name": "process_name", "ph": "M", "pid": 1, "tid": 1,
        "args": {"name": "pretrain"}})];
    for s in steps {
        let name = format!("step {}", s.step);
        events.push(event(&name, "step", s.begin, s.end, json!({"loss": s.loss})));
        events.extend(s.calls.iter().map(|call| {
            let args = json!({"shape": call.shape, "FLOP": call.flop, "bytes": call.bytes});
            event(call.op, "op", call.begin, call.end, args)
        }));
    }
    json!({"displayTimeUnit": "ms", "traceEvents": events}).to_string()
}
