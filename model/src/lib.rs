//! LLaMA: what a model is, where its parameters lie, forward and backward by hand, decoding, and
//! Hugging Face directories. Source: Touvron et al. 2023, arXiv:2302.13971.
#![forbid(unsafe_code)]

mod block;
pub mod cache;
pub mod config;
pub mod decode;
pub mod generate;
pub mod hf;
pub mod init;
pub mod kv;
pub mod llama;
pub mod lora;
pub mod params;
pub mod plan;
pub mod projection;
pub mod rope;
pub mod sample;
pub mod score;
pub mod weights;

pub use config::{Bias, Config, Family};
pub use lora::{Lora, Target};
pub use params::{BlockSlots, Slots, table};
pub use projection::{Adapter, Projection};
