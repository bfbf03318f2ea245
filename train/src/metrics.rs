//! `metrics.jsonl`: one JSON object a line, appended as the run goes.
//!
//! A step is `{"step":1,"tokens":..,"loss":..,"lr":..,"grad_norm":..,"tokens_per_second":..,
//! "mfu":..}`, an evaluation `{"step":1,"val_loss":..}`. Steps count from 1. Write everything of
//! a step before saving its checkpoint: a resume from step N keeps the lines up to N and cuts off
//! the rest, so that the file continues as if nothing had happened.
//!
//! ```
//! use train::metrics::{self, Entry, Metrics};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("metrics.jsonl");
//! let (lr, grad_norm, tokens_per_second, mfu) = (1e-3, 0.7, 5e4, None);
//! let mut file = Metrics::create(&path)?;
//! for (step, loss) in [(1, 4.5), (2, 4.0), (3, 3.75)] {
//!     let tokens = 512 * step;
//!     file.step(&Entry { step, tokens, loss, lr, grad_norm, tokens_per_second, mfu })?;
//! }
//! file.eval(3, 3.8)?;
//!
//! // The newest checkpoint is of step 2.
//! Metrics::resume(&path, 2)?;
//! assert_eq!(metrics::read(&path)?.train, [(1, 4.5), (2, 4.0)]);
//! # Ok(())
//! # }
//! ```

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// What one training step gave.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// From 1.
    pub step: u64,
    /// Tokens trained on so far, this step included.
    pub tokens: u64,
    /// Nats per token, mean over the step.
    pub loss: f64,
    /// Learning rate of this step.
    pub lr: f64,
    /// Global L2 norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Speed over the last steps.
    pub tokens_per_second: f64,
    /// Share of the measured ceiling, 1 being all of it; null without one.
    pub mfu: Option<f64>,
}

/// What one evaluation gave.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Eval {
    step: u64,
    val_loss: f64,
}

/// The open file. Each line is written in one piece at once.
#[derive(Debug)]
pub struct Metrics {
    path: PathBuf,
    file: store::File,
}

impl Metrics {
    /// Starts an empty file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be created.
    pub fn create(path: &Path) -> Result<Metrics, Error> {
        let file = store::File::create(path);
        let file = file.map_err(Error::io("cannot create the metrics", path))?;
        Ok(Metrics { path: path.to_path_buf(), file })
    }

    /// Continues a file after a resume from `step`: later lines and a torn last line are cut off.
    /// Starts an empty file if there is none. Warns of steps that are missing.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read or written; [`Error::Config`] if a line other than the
    /// last is not a record.
    pub fn resume(path: &Path, step: u64) -> Result<Metrics, Error> {
        if !path.exists() {
            if step > 0 {
                let path = path.display();
                tracing::warn!("{path} is missing: the losses of steps 1 to {step} are lost");
            }
            return Metrics::create(path);
        }
        let (curves, length) = read_until(path, step)?;
        let last = curves.train.last().map_or(0, |&(step, _)| step);
        if last < step {
            let (path, first) = (path.display(), last + 1);
            tracing::warn!("{path} ends early: the losses of steps {first} to {step} are lost");
        }
        // Lines are in order of step, so shortening, which is atomic, is all it takes.
        let file = store::File::continued(path, length);
        let file = file.map_err(Error::io("cannot continue the metrics", path))?;
        Ok(Metrics { path: path.to_path_buf(), file })
    }

    /// Adds a step.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn step(&mut self, step: &Entry) -> Result<(), Error> {
        self.line(step)
    }

    /// Adds an evaluation after `step` steps; `val_loss` in nats per token.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn eval(&mut self, step: u64, val_loss: f64) -> Result<(), Error> {
        self.line(&Eval { step, val_loss })
    }

    /// Makes all lines durable. Call it before saving a checkpoint, so that even after a power
    /// cut no line is missing that a resume would need.
    ///
    /// # Errors
    /// [`Error::Io`] if the system cannot.
    pub fn sync(&mut self) -> Result<(), Error> {
        self.file.sync().map_err(Error::io("cannot write the metrics", &self.path))
    }

    fn line(&mut self, record: &impl Serialize) -> Result<(), Error> {
        let mut line = serde_json::to_string(record).expect("numbers always fit JSON");
        line.push('\n');
        let written = self.file.write_all(line.as_bytes());
        written.map_err(Error::io("cannot write the metrics", &self.path))
    }
}

/// What a plot needs of the file: (step, nats per token), in order of step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curves {
    /// Loss of each step.
    pub train: Vec<(u64, f64)>,
    /// Validation losses.
    pub val: Vec<(u64, f64)>,
}

/// One line of either kind. JSON has no NaN: it is written as null and left out of the curves.
#[derive(Deserialize)]
struct Record {
    step: u64,
    loss: Option<f64>,
    val_loss: Option<f64>,
}

/// Reads the curves; a torn last line is left out.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::Config`] if a line other than the last is
/// not a record.
pub fn read(path: &Path) -> Result<Curves, Error> {
    Ok(read_until(path, u64::MAX)?.0)
}

/// The curves up to `last_step`, and the bytes that the lines up to there take.
fn read_until(path: &Path, last_step: u64) -> Result<(Curves, u64), Error> {
    let file = File::open(path).map_err(Error::io("cannot read the metrics", path))?;
    let mut reader = BufReader::new(file);
    let (mut curves, mut length, mut line) = (Curves::default(), 0, Vec::new());
    for number in 1.. {
        line.clear();
        let read = reader.read_until(b'\n', &mut line);
        let bytes = read.map_err(Error::io("cannot read the metrics", path))?;
        if bytes == 0 || line.last() != Some(&b'\n') {
            break;
        }
        let record: Record = serde_json::from_slice(&line).map_err(|_| {
            Error::Config(format!(
                "{} line {number} is not a record of steps: repair it, or move the file away",
                path.display()
            ))
        })?;
        if record.step > last_step {
            break;
        }
        curves.train.extend(record.loss.map(|loss| (record.step, loss)));
        curves.val.extend(record.val_loss.map(|loss| (record.step, loss)));
        length += bytes as u64;
    }
    Ok((curves, length))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn step(step: u64) -> Entry {
        let loss = 4.0 / step as f64;
        Entry {
            step,
            tokens: 64 * step,
            loss,
            lr: 1e-3,
            grad_norm: 0.1,
            tokens_per_second: 9.0,
            mfu: None,
        }
    }

    fn write_to(metrics: &mut Metrics, steps: std::ops::RangeInclusive<u64>) {
        for i in steps {
            metrics.step(&step(i)).unwrap();
            if i % 2 == 0 {
                metrics.eval(i, 5.0 / i as f64).unwrap();
            }
        }
    }

    #[test]
    fn lines_follow_the_contract() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut metrics = Metrics::create(&path).unwrap();
        metrics.step(&Entry { mfu: Some(0.25), ..step(1) }).unwrap();
        metrics.eval(1, 3.5).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "{\"step\":1,\"tokens\":64,\"loss\":4.0,\"lr\":0.001,\"grad_norm\":0.1,\
             \"tokens_per_second\":9.0,\"mfu\":0.25}\n{\"step\":1,\"val_loss\":3.5}\n"
        );
        let curves = read(&path).unwrap();
        assert_eq!(curves, Curves { train: vec![(1, 4.0)], val: vec![(1, 3.5)] });
    }

    #[test]
    fn a_resume_at_any_step_after_a_kill_at_any_byte_continues_undisturbed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        write_to(&mut Metrics::create(&path).unwrap(), 1..=6);
        let whole = fs::read(&path).unwrap();
        let ends: Vec<usize> = (1..=6)
            .map(|last| {
                write_to(&mut Metrics::create(&path).unwrap(), 1..=last);
                fs::read(&path).unwrap().len()
            })
            .collect();
        for length in 0..=whole.len() {
            let done = ends.iter().filter(|end| **end <= length).count() as u64;
            for from in [done, done.saturating_sub(1), done.saturating_sub(3)] {
                fs::write(&path, &whole[..length]).unwrap();
                let mut metrics = Metrics::resume(&path, from).unwrap();
                write_to(&mut metrics, from + 1..=6);
                assert!(fs::read(&path).unwrap() == whole, "cut at {length}, from {from}");
            }
        }
    }

    #[test]
    fn a_broken_line_in_the_middle_is_named_and_nothing_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let text = "{\"step\":1,\"loss\":1.0}\n{\"step\":2,\"los\n{\"step\":3,\"loss\":1.0}\n";
        fs::write(&path, text).unwrap();
        let error = Metrics::resume(&path, 3).unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl line 2"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn what_is_not_finite_is_null_and_left_out_of_the_curves() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut metrics = Metrics::create(&path).unwrap();
        metrics.step(&Entry { loss: f64::NAN, ..step(1) }).unwrap();
        metrics.step(&step(2)).unwrap();
        assert_eq!(read(&path).unwrap().train, [(2, 2.0)]);
    }
}
