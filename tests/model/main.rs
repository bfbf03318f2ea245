//! Proofs of the whole model beside its gradients, which are in `tests/gradients`: determinism, caching
//! modes, packing, decoding, scores, adapters, export.

#[path = "../shared/bench.rs"]
mod bench;
mod export;
#[path = "../shared/gpus.rs"]
mod gpus;
mod lora;
mod properties;
mod score;
mod segments;
