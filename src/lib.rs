//! Handgrad: LLaMA pretraining whose every backward pass is written by hand.
//!
//! One door to the workspace's crates; `ARCHITECTURE.md` is the map.
#[cfg(feature = "cli")]
pub mod commands;

pub use {data, engine, model, optim, train};
