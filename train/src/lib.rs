//! What a training run needs around its loop: configuration, the guarded output folder,
//! checkpoints, metrics, the loss plot, progress, and signals.
//!
//! Nothing here knows the model, the data or the device. Weights are named byte slices, the rest
//! is numbers and text, so each part can be tested alone and none of it changes with the engine.
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
//! | [`error`] | what went wrong, in one line, and the exit code |
#![forbid(unsafe_code)]

pub mod args;
pub mod checkpoint;
pub mod clock;
pub mod config;
pub mod error;
mod files;
pub mod metrics;
pub mod outdir;
pub mod plot;
pub mod progress;
pub mod signals;

pub use error::{Error, Outcome, main_exit};
