//! From a list of files to one stream of tokens: text is read, encoded, and each document put between
//! the tokens that begin and end one; ready shards are taken as they are.
//!
//! ```
//! use data::prepare::tokenize_to_source;
//! use data::tokenizer::{Ends, Tokenizer};
//!
//! let folder = tempfile::tempdir()?;
//! let play = folder.path().join("play.txt");
//! std::fs::write(&play, "To be")?;
//! let bytes = &Tokenizer::bytes();
//! let (source, counts) = tokenize_to_source(&[play], bytes, Ends::Both, None, &mut |_, _| {})?;
//! assert_eq!((counts.documents, counts.text_bytes, counts.tokens), (1, 5, 7));
//! assert_eq!(source.to_vec(6..7), [data::bytes::EOS]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::Error;
use crate::shard::{ShardWriter, Sidecar, TokenSource};
use crate::text::{Documents, Kind, find_files};
use crate::tokenizer::{Ends, Tokenizer};

/// Text is encoded in batches of at least this many bytes, a document being the least.
const BATCH_BYTES: usize = 1 << 22;

/// What was found in the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Documents; those in shards without a sidecar cannot be counted.
    pub documents: u64,
    /// Bytes of UTF-8 text, with the same exception.
    pub text_bytes: u64,
    /// Tokens, all of them, end tokens included.
    pub tokens: u64,
}

/// Encodes files and folders into one stream, in the order given, `ends` around each document.
///
/// With `cache`, an existing folder, the tokens of text go to shards there, named after the
/// tokenizer and the files with their sizes and times; what is there already is not made again.
/// Without it they stay in memory, four bytes each. `progress` hears bytes of text files read and
/// bytes in all.
///
/// # Errors
/// Whatever is wrong with a file; no tokens at all; a shard that another tokenizer wrote or that
/// has ids outside the tokenizer's vocabulary.
pub fn tokenize_to_source(
    inputs: &[PathBuf],
    tokenizer: &Tokenizer,
    ends: Ends,
    cache: Option<&Path>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(TokenSource, Counts), Error> {
    let files = find_files(inputs)?;
    let is_shard = |path: &PathBuf| Kind::of(path) == Some(Kind::Shard);
    let runs: Vec<_> = files.chunk_by(|a, b| is_shard(a) == is_shard(b)).collect();
    let mut sizes = Vec::new();
    for run in &runs {
        sizes.push(if is_shard(&run[0]) { 0 } else { size(run)? });
    }
    let (total, mut done) = (sizes.iter().sum(), 0);
    let mut prepared = Prepared::new(tokenizer, tokenizer.special().around(ends));
    for (run, size) in runs.into_iter().zip(sizes) {
        if is_shard(&run[0]) {
            for path in run {
                prepared.push_shard(path)?;
            }
        } else {
            let documents = Documents::new(run.to_vec());
            let mut report = |read| progress(done + read, total);
            match cache {
                Some(folder) => {
                    let path = folder.join(cache_name(run, tokenizer, ends)?);
                    prepared.push_cached(&path, documents, &mut report)?;
                }
                None => prepared.push_documents(documents, |d| report(d.bytes_read()))?,
            }
        }
        done += size;
        progress(done, total);
    }
    prepared.finish(|| named(inputs))
}

/// What a model is measured on.
pub struct Measured {
    /// The tokens.
    pub ids: Vec<u32>,
    /// Positions in `ids` of what is given and not to be predicted, ascending.
    pub given: Vec<usize>,
    /// What was found.
    pub counts: Counts,
}

/// Encodes files and folders to measure a model on, in memory: before each document stands what a
/// prompt begins with, which is given, and nothing after it, as transformers does. Shards are taken
/// as they are.
///
/// # Errors
/// As [`tokenize_to_source`].
pub fn tokenize_to_measure(inputs: &[PathBuf], tokenizer: &Tokenizer) -> Result<Measured, Error> {
    let prefix = tokenizer.special().prefix.as_slice();
    let (mut prepared, mut given) = (Prepared::new(tokenizer, (prefix, None)), Vec::new());
    for path in find_files(inputs)? {
        if Kind::of(&path) == Some(Kind::Shard) {
            prepared.push_shard(&path)?;
            continue;
        }
        let mut documents = Documents::new(vec![path]);
        while let Some(batch) = next_batch(&mut documents, tokenizer, prepared.around)? {
            let first = prepared.source.len() as usize;
            let starts = batch.starts.iter().map(|start| first + start);
            given.extend(starts.flat_map(|start| start..start + prefix.len()));
            prepared.push_batch(batch);
        }
    }
    let (source, counts) = prepared.finish(|| named(inputs))?;
    Ok(Measured { ids: source.to_vec(0..source.len()), given, counts })
}

fn named(inputs: &[PathBuf]) -> String {
    inputs.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Encodes documents into a stream in memory, `ends` around each.
///
/// # Errors
/// The first error among the documents; no tokens at all.
pub fn tokenize_documents(
    documents: impl Iterator<Item = Result<String, Error>>,
    tokenizer: &Tokenizer,
    ends: Ends,
) -> Result<(TokenSource, Counts), Error> {
    let mut prepared = Prepared::new(tokenizer, tokenizer.special().around(ends));
    prepared.push_documents(documents, |_| {})?;
    prepared.finish(|| "the documents".to_string())
}

/// What stands before and after a document.
type Around<'a> = (&'a [u32], Option<u32>);

/// A stream in the making.
struct Prepared<'a> {
    tokenizer: &'a Tokenizer,
    around: Around<'a>,
    source: TokenSource,
    counts: Counts,
}

impl<'a> Prepared<'a> {
    fn new(tokenizer: &'a Tokenizer, around: Around<'a>) -> Self {
        Prepared { tokenizer, around, source: TokenSource::default(), counts: Counts::default() }
    }

    fn push_batch(&mut self, batch: Batch) {
        self.counts.documents += batch.documents;
        self.counts.text_bytes += batch.text_bytes;
        self.source.push_ids(batch.ids);
    }

    fn push_shard(&mut self, path: &Path) -> Result<(), Error> {
        let mut shard = TokenSource::default();
        let sidecar = shard.push_shard(path)?;
        if let Some(sidecar) = &sidecar {
            let expected = self.tokenizer.hash();
            if sidecar.tokenizer != expected {
                let (path, found) = (path.to_path_buf(), sidecar.tokenizer.clone());
                return Err(Error::OtherTokenizer { path, found, expected });
            }
            self.counts.documents += sidecar.documents;
            self.counts.text_bytes += sidecar.text_bytes;
        }
        shard.check_vocab(self.tokenizer.vocab_size())?;
        self.source.append(shard);
        Ok(())
    }

    fn push_documents<I: Iterator<Item = Result<String, Error>>>(
        &mut self,
        mut documents: I,
        mut report: impl FnMut(&I),
    ) -> Result<(), Error> {
        let mut ids = Vec::new();
        while let Some(batch) = next_batch(&mut documents, self.tokenizer, self.around)? {
            ids.extend_from_slice(&batch.ids);
            self.counts.documents += batch.documents;
            self.counts.text_bytes += batch.text_bytes;
            report(&documents);
        }
        self.source.push_ids(ids);
        Ok(())
    }

    /// Takes the shard `path`, after writing it from `documents` if it isn't there.
    fn push_cached(
        &mut self,
        path: &Path,
        mut documents: Documents,
        report: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        // The sidecar is written last: without it the counts would be missing.
        if !path.exists() || !Sidecar::path(path).exists() {
            let (tokenizer, around) = (self.tokenizer, self.around);
            let mut shard = ShardWriter::create(path, tokenizer.vocab_size(), tokenizer.hash())?;
            while let Some(batch) = next_batch(&mut documents, tokenizer, around)? {
                shard.push(&batch.ids)?;
                shard.count(batch.documents, batch.text_bytes);
                report(documents.bytes_read());
            }
            if shard.is_empty() {
                return Ok(());
            }
            shard.finish()?;
        }
        self.push_shard(path)
    }

    fn finish(mut self, origin: impl Fn() -> String) -> Result<(TokenSource, Counts), Error> {
        if self.source.is_empty() {
            return Err(Error::Empty { origin: origin() });
        }
        self.counts.tokens = self.source.len();
        Ok((self.source, self.counts))
    }
}

/// Some documents, encoded.
pub(crate) struct Batch {
    pub ids: Vec<u32>,
    /// Where in `ids` each document begins, what stands before it included.
    pub starts: Vec<usize>,
    pub documents: u64,
    pub text_bytes: u64,
}

/// Takes and encodes the next documents, with what stands around each; none at the end.
fn next_batch(
    documents: &mut impl Iterator<Item = Result<String, Error>>,
    tokenizer: &Tokenizer,
    around: Around,
) -> Result<Option<Batch>, Error> {
    let (mut texts, mut bytes) = (Vec::new(), 0);
    while bytes < BATCH_BYTES
        && let Some(text) = documents.next().transpose()?
    {
        bytes += text.len();
        texts.push(text);
    }
    if texts.is_empty() { Ok(None) } else { encode(&texts, tokenizer, around).map(Some) }
}

/// Encodes documents, with what stands around each.
pub(crate) fn encode(
    texts: &[String],
    tokenizer: &Tokenizer,
    (before, after): Around,
) -> Result<Batch, Error> {
    let bytes: usize = texts.iter().map(String::len).sum();
    let (mut ids, mut starts) = (Vec::with_capacity(bytes / 2), Vec::new());
    for document in tokenizer.encode_batch(texts)? {
        starts.push(ids.len());
        ids.extend(before);
        ids.extend(document);
        ids.extend(after);
    }
    Ok(Batch { ids, starts, documents: texts.len() as u64, text_bytes: bytes as u64 })
}

fn size(files: &[PathBuf]) -> Result<u64, Error> {
    let sizes =
        files.iter().map(|path| Ok(std::fs::metadata(path).map_err(Error::read(path))?.len()));
    sizes.sum()
}

/// A name that changes with the tokenizer, what stands around documents, and with any file's path,
/// size or time of change.
fn cache_name(files: &[PathBuf], tokenizer: &Tokenizer, ends: Ends) -> Result<String, Error> {
    let mut listing = String::new();
    for path in files {
        let whole = std::fs::canonicalize(path).map_err(Error::read(path))?;
        let meta = std::fs::metadata(path).map_err(Error::read(path))?;
        let modified = meta.modified().map_err(Error::read(path))?;
        let age = modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        listing += &format!("{} {} {age}\n", whole.display(), meta.len());
    }
    let files = xxhash_rust::xxh3::xxh3_64(listing.as_bytes());
    let ends = match ends {
        Ends::Both => "-both",
        Ends::After => "",
    };
    Ok(format!("tokens-{}-{files:016x}{ends}.bin", tokenizer.hash()))
}
