//! Proofs of the whole model: gradients against central differences and PyTorch, determinism,
//! caching modes, packing, decoding.

mod common;
mod export;
#[path = "../shared/gpus.rs"]
mod gpus;
mod gradients;
mod lora;
mod parity;
mod properties;
mod score;
mod segments;
