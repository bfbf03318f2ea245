//! LLaMA: what a model is, where its parameters lie, forward and backward by hand, decoding, and
//! Hugging Face directories (feature `hf`, on by default). Source: Touvron et al. 2023, arXiv:2302.13971.
#![forbid(unsafe_code)]

mod block;
pub mod cache;
pub mod config;
#[cfg(feature = "hf")]
pub mod formats;
pub mod generation;
pub mod init;
pub mod llama;
pub mod lora;
pub mod params;
pub mod projection;
pub mod rope;
pub mod weights;

pub use config::{Bias, Config, Family};
#[cfg(feature = "hf")]
pub use formats::hf;
pub use generation::score;
pub use lora::{Lora, Target};
pub use params::{BlockSlots, Slots, table};
pub use projection::{Adapter, Projection};
