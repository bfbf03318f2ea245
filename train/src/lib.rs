//! What a training run needs around its loop: configuration, the guarded output folder,
//! checkpoints, metrics, the loss plot, progress, and signals.
//!
//! The parts in the order a run meets them:
//!
//! | part | what it does |
//! |-|-|
//! | [`config`] | command line and TOML to one checked [`config::RunConfig`] |
//! | [`outdir`] | one run a folder: guard and lock |
//! | [`signals`] | first signal: stop after the step; second: stop now |
//! | [`clock`], [`progress`], [`metrics`], [`plot`] | what the run reports |
//! | [`checkpoint`] | what survives a crash |
//! | [`corpus`] | configuration to tokenizer, training and validation tokens |
//! | [`inputs`] | configuration to model, recipe and learning rates |
//! | [`device`], [`plan`], [`memory`] | where it computes, in how much memory |
//! | [`trainer`] | model, optimizer and caches: one step, and what the loop asks between steps |
//! | [`snapshot`], [`directory`] | a trainer to checkpoints and model directories, and back |
//! | [`Trainer::validation_loss`], [`sample`] | the loss on held-out text; text of its own |
//! | [`profile`] | a roofline of one step, op by op |
//! | [`error`] | what went wrong, in one line, and the exit code |
//!
//! The feature `run`, on by default, is all that a program needs and a library's user may not: without it,
//! there are the trainer, the loss on held-out tokens and the plan of memory.
#![forbid(unsafe_code)]

#[cfg(feature = "run")]
pub mod checkpoint;
#[cfg(feature = "run")]
pub mod clock;
#[cfg(feature = "run")]
pub mod config;
#[cfg(feature = "run")]
pub mod corpus;
#[cfg(feature = "run")]
pub mod device;
#[cfg(feature = "run")]
pub mod directory;
pub mod error;
#[cfg(feature = "run")]
pub mod inputs;
pub mod memory;
#[cfg(feature = "run")]
pub mod metrics;
#[cfg(feature = "run")]
pub mod outdir;
pub mod plan;
#[cfg(feature = "run")]
pub mod plot;
#[cfg(feature = "run")]
pub mod profile;
#[cfg(feature = "run")]
pub mod progress;
#[cfg(feature = "run")]
pub mod sample;
#[cfg(feature = "run")]
pub mod signals;
#[cfg(feature = "run")]
pub mod snapshot;
pub mod trainer;
mod validation;

pub use error::{Error, Outcome, main_exit, print};
pub use trainer::Trainer;
