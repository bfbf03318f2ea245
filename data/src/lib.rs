//! Tokenizer, token shards and the deterministic loader.
//!
//! From files to batches: [`text`] reads documents, [`tokenizer`] turns them into ids, [`shard`]
//! stores ids and maps them back, [`prepare`] joins those three, and [`loader`] serves windows of
//! ids in an order that depends on a seed and an index only. [`stories`] is a corpus that needs no
//! file at all, and [`bytes`] makes ids of text without a tokenizer.
//!
//! Features: `files`, on by default, is all that reads or writes a file: text, shards on disk, tokenizers.
//! Without it the loader serves ids in memory. With `corpus` the module of that name makes documents from
//! raw dumps.
#![forbid(unsafe_code)]

pub mod bytes;
#[cfg(feature = "corpus")]
pub mod corpus;
pub mod error;
pub mod loader;
#[cfg(feature = "files")]
pub mod prepare;
pub mod rng;
pub mod shard;
pub mod stories;
#[cfg(feature = "files")]
pub mod text;
#[cfg(feature = "files")]
pub mod tokenizer;
#[cfg(feature = "files")]
mod train_bpe;

pub use error::Error;
