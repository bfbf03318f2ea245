//! Tokenizer, token shards and the deterministic loader.
//!
//! From files to batches: [`text`] reads documents, [`tokenizer`] turns them into ids, [`shard`]
//! stores ids and maps them back, [`prepare`] joins those three, and [`loader`] serves windows of
//! ids in an order that depends on a seed and an index only. [`stories`] is a corpus that needs no
//! file at all. With the feature `corpus`, the module of that name makes documents from raw dumps.
#![forbid(unsafe_code)]

#[cfg(feature = "corpus")]
pub mod corpus;
pub mod error;
pub mod loader;
pub mod prepare;
pub mod rng;
pub mod shard;
pub mod stories;
pub mod text;
pub mod tokenizer;
mod train_bpe;

pub use error::Error;
