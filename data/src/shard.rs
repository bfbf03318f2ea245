//! One stream of token ids: of token shards, which are files, and of ids in memory.
//!
//! The format of a shard is in `shard/file.rs` (feature `files`).
//!
//! ```
//! use data::shard::TokenSource;
//!
//! let mut source = TokenSource::from_ids(vec![5, 6, 7]);
//! source.push_ids(vec![8, 9]);
//! assert_eq!(source.to_vec(2..5), [7, 8, 9]);
//! assert!(source.check_vocab(9).is_err());
//! ```

#[cfg(feature = "files")]
mod file;

use std::ops::Range;
#[cfg(feature = "files")]
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::Error;
#[cfg(feature = "files")]
pub use file::{ShardWriter, Sidecar};

enum Part {
    #[cfg(feature = "files")]
    Shard(file::Shard),
    Memory(Vec<u32>),
}

impl Part {
    fn len(&self) -> u64 {
        match self {
            #[cfg(feature = "files")]
            Part::Shard(shard) => shard.tokens,
            Part::Memory(ids) => ids.len() as u64,
        }
    }

    fn copy(&self, start: u64, out: &mut [u32]) {
        match self {
            #[cfg(feature = "files")]
            Part::Shard(shard) => shard.copy(start, out),
            Part::Memory(ids) => out.copy_from_slice(&ids[start as usize..][..out.len()]),
        }
    }

    fn origin(&self) -> String {
        match self {
            #[cfg(feature = "files")]
            Part::Shard(shard) => shard.path.display().to_string(),
            Part::Memory(_) => "tokens in memory".to_string(),
        }
    }
}

/// One stream of token ids over any number of shards and ids in memory, in order.
#[derive(Default)]
pub struct TokenSource {
    parts: Vec<Part>,
    /// Where each part ends in the stream.
    ends: Vec<u64>,
}

impl TokenSource {
    /// A stream over ids in memory.
    pub fn from_ids(ids: Vec<u32>) -> TokenSource {
        let mut source = TokenSource::default();
        source.push_ids(ids);
        source
    }

    /// A stream over shards, in the order given.
    ///
    /// # Errors
    /// As [`TokenSource::push_shard`].
    #[cfg(feature = "files")]
    pub fn open(paths: &[PathBuf]) -> Result<TokenSource, Error> {
        let mut source = TokenSource::default();
        for path in paths {
            source.push_shard(path)?;
        }
        Ok(source)
    }

    /// Appends ids in memory.
    pub fn push_ids(&mut self, ids: Vec<u32>) {
        self.push(Part::Memory(ids));
    }

    /// Maps a shard and appends it; gives its sidecar, if it has one.
    ///
    /// # Errors
    /// A file that is missing, unreadable, empty, truncated, or not a shard; a sidecar that does
    /// not agree with it.
    #[cfg(feature = "files")]
    pub fn push_shard(&mut self, path: &Path) -> Result<Option<Sidecar>, Error> {
        let shard = file::Shard::open(path)?;
        let sidecar = shard.sidecar.clone();
        self.push(Part::Shard(shard));
        Ok(sidecar)
    }

    /// Appends another stream.
    pub fn append(&mut self, other: TokenSource) {
        for part in other.parts {
            self.push(part);
        }
    }

    fn push(&mut self, part: Part) {
        self.ends.push(self.len() + part.len());
        self.parts.push(part);
    }

    /// Ids in the stream.
    pub fn len(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Whether there is no id at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the ids from position `start` on into `out`.
    ///
    /// # Panics
    /// If the stream ends before `out` does: a caller bug.
    pub fn copy(&self, start: u64, out: &mut [u32]) {
        assert!(
            start.checked_add(out.len() as u64).is_some_and(|end| end <= self.len()),
            "shard: {} ids from {start} on, of {}",
            out.len(),
            self.len()
        );
        let mut part = self.ends.partition_point(|&end| end <= start);
        let (mut at, mut done) = (start, 0);
        while done < out.len() {
            let begin = self.ends[part] - self.parts[part].len();
            let count = (out.len() - done).min((self.ends[part] - at) as usize);
            self.parts[part].copy(at - begin, &mut out[done..done + count]);
            (at, done, part) = (at + count as u64, done + count, part + 1);
        }
    }

    /// The ids of `range`, in memory.
    ///
    /// # Panics
    /// If the range ends after the stream does.
    pub fn to_vec(&self, range: Range<u64>) -> Vec<u32> {
        let mut ids = vec![0; (range.end - range.start) as usize];
        self.copy(range.start, &mut ids);
        ids
    }

    /// Reads every id once and checks that a model with `vocab_size` rows has it.
    ///
    /// # Errors
    /// The first id that is too large, with its shard and position.
    pub fn check_vocab(&self, vocab_size: usize) -> Result<(), Error> {
        const CHUNK: u64 = 1 << 20;
        for part in &self.parts {
            let first_bad =
                (0..part.len().div_ceil(CHUNK)).into_par_iter().find_map_first(|chunk| {
                    let start = chunk * CHUNK;
                    let mut ids = vec![0; CHUNK.min(part.len() - start) as usize];
                    part.copy(start, &mut ids);
                    let at = ids.iter().position(|&id| id as usize >= vocab_size)?;
                    Some((start + at as u64, ids[at]))
                });
            if let Some((position, id)) = first_bad {
                return Err(Error::TokenRange { origin: part.origin(), position, id, vocab_size });
            }
        }
        Ok(())
    }
}
