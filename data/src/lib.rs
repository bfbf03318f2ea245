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
//!
//! ```
//! use std::sync::Arc;
//!
//! use data::bytes;
//! use data::loader::{Loader, LoaderConfig, Order};
//! use data::shard::TokenSource;
//! use data::stories::Stories;
//!
//! let text: String = Stories::new(7).take(100).collect();
//! let source = TokenSource::from_ids(bytes::encode(&text).collect());
//! let range = 0..source.len();
//! let config = LoaderConfig { seq_len: 64, seed: 1, order: Order::Shuffled, range };
//! let loader = Loader::new(Arc::new(source), config)?;
//! let (mut inputs, mut targets) = ([0; 8 * 64], [0; 8 * 64]);
//! loader.fill_batch(0, 8, &mut inputs, &mut targets);
//! assert!(text.contains(&bytes::decode(&inputs[..64])));
//! # Ok::<(), data::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod bytes;
#[cfg(feature = "corpus")]
pub mod corpus;
mod error;
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
