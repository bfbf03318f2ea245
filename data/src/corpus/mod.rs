//! Corpora from raw dumps: documents, the sources that read them, and jobs over shards.
//!
//! A [`Source`] is a plain function: it reads one [`Shard`] of the input and hands its documents
//! to a [`Sink`] one after the other, each with the [`Trail`] of what every rule said of it. It
//! holds one document at a time, knows nothing of other shards, and so may run anywhere.
//!
//! ```
//! use data::corpus::{Document, Meter, Sink, Source, Trail, documents};
//!
//! let folder = tempfile::tempdir()?;
//! let input = folder.path().join("plays.jsonl");
//! std::fs::write(&input, "{\"text\": \"To be\"}\n{\"title\": \"Hamlet\"}\n")?;
//! let source = Source::Documents(documents::Options::default());
//! let mut texts = Vec::new();
//! let mut take = |document: Document, _: Trail| {
//!     texts.push(document.text);
//!     Ok(())
//! };
//! let mut sink = Sink::new(Meter::default(), &mut take);
//! for shard in source.shards(&[input], 1 << 20)? {
//!     source.read(&shard, &mut sink)?;
//! }
//! let counts = sink.into_counts();
//! assert_eq!((counts.kept.documents, counts.damage.len()), (1, 1));
//! assert_eq!(texts, ["To be"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod arxiv;
pub mod books;
mod bz2;
pub mod dedup;
mod document;
pub mod documents;
mod encoding;
pub mod github;
pub mod input;
mod job;
mod markup;
mod report;
mod sink;
pub mod stackexchange;
mod stage;
mod stats;
pub mod tokenize;
pub mod wikipedia;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use bz2::Blocks;
pub use document::{Document, MAX_BYTES, Trail, Verdict};
pub use input::{Meter, Piece, Shard};
pub use job::{Layout, Progress};
pub use sink::{Counts, Damage, RuleCounts, Sink, Tally};
pub use stage::{Explained, Options, Summary, explain, pipe, run};
pub use stats::{Lengths, Sample, Stats};

use crate::Error;

/// Where documents come from, with the rules of that place and their thresholds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Files that hold documents already.
    Documents(documents::Options),
    /// Files of projects under free licences.
    Github(github::Options),
    /// Articles.
    Wikipedia(wikipedia::Options),
    /// Texts of Project Gutenberg.
    Books(books::Options),
    /// Papers in TeX.
    Arxiv(arxiv::Options),
    /// Questions with their answers.
    Stackexchange(stackexchange::Options),
}

impl Source {
    /// Its name on the command line and in a manifest.
    pub fn name(&self) -> &'static str {
        match self {
            Source::Documents(_) => "documents",
            Source::Github(_) => "github",
            Source::Wikipedia(_) => "wikipedia",
            Source::Books(_) => "books",
            Source::Arxiv(_) => "arxiv",
            Source::Stackexchange(_) => "stackexchange",
        }
    }

    /// Divides files and folders into shards of about `shard_bytes`. The division depends on the
    /// inputs alone, never on who will work on them.
    ///
    /// # Errors
    /// A path that is missing or unreadable, or of a kind that the source does not read.
    pub fn shards(&self, inputs: &[PathBuf], shard_bytes: u64) -> Result<Vec<Shard>, Error> {
        match self {
            Source::Documents(_) => documents::shards(inputs, shard_bytes),
            Source::Github(_) => github::shards(inputs, shard_bytes),
            Source::Wikipedia(_) => wikipedia::shards(inputs, shard_bytes),
            Source::Books(_) => books::shards(inputs, shard_bytes),
            Source::Arxiv(_) => arxiv::shards(inputs, shard_bytes),
            Source::Stackexchange(options) => stackexchange::shards(options, inputs),
        }
    }

    /// Reads one shard. What cannot be read is counted and passed over.
    ///
    /// # Errors
    /// [`Error::Stopped`]; a file that cannot be opened; whatever the sink says.
    pub fn read(&self, shard: &Shard, sink: &mut Sink) -> Result<(), Error> {
        match self {
            Source::Documents(options) => documents::read(options, shard, sink),
            Source::Github(options) => github::read(options, shard, sink),
            Source::Wikipedia(options) => wikipedia::read(options, shard, sink),
            Source::Books(options) => books::read(options, shard, sink),
            Source::Arxiv(options) => arxiv::read(options, shard, sink),
            Source::Stackexchange(options) => stackexchange::read(options, shard, sink),
        }
    }
}
