//! LLaMA: what a model is, where its parameters lie, how they start, and Hugging Face directories.

#![forbid(unsafe_code)]

pub mod config;
pub mod hf;
pub mod init;
pub mod params;

pub use config::Config;
pub use params::{BlockSlots, Slots, table};
