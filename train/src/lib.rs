//! What a training run needs around its loop: configuration, the guarded output folder,
//! checkpoints, metrics, the loss plot, progress, and signals.
//!
//! The parts below [`session`] know neither model, data nor device: weights are named byte slices,
//! the rest is numbers and text, so each part can be tested alone.
//!
//! The parts in the order a run meets them:
//!
//! | part | what it does |
//! |-|-|
//! | [`args`], [`config`] | command line and TOML to one checked [`config::RunConfig`] |
//! | [`outdir`] | one run a folder: guard and lock |
//! | [`signals`] | first signal: stop after the step; second: stop now |
//! | [`clock`], [`progress`], [`metrics`], [`plot`] | what the run reports |
//! | [`checkpoint`] | what survives a crash |
//! | [`corpus`] | configuration to tokenizer, training and validation tokens |
//! | [`session`] | weights and moments to checkpoints and back |
//! | [`report`] | validation loss, samples of text, memory plan |
//! | [`profile`] | a roofline of one step, op by op |
//! | [`error`] | what went wrong, in one line, and the exit code |
#![forbid(unsafe_code)]

pub mod args;
pub mod checkpoint;
pub mod clock;
pub mod config;
pub mod corpus;
pub mod error;
mod files;
pub mod metrics;
pub mod outdir;
pub mod plot;
pub mod profile;
pub mod progress;
pub mod report;
pub mod session;
pub mod signals;

pub use error::{Error, Outcome, main_exit, print};
