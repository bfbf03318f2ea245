//! From a list of files to one stream of tokens: text is read, encoded, and each document ended by
//! the end token, if the tokenizer has one; ready shards are taken as they are.
//!
//! ```
//! use data::prepare::tokenize_to_source;
//! use data::tokenizer::Tokenizer;
//!
//! let folder = tempfile::tempdir()?;
//! let play = folder.path().join("play.txt");
//! std::fs::write(&play, "To be")?;
//! let (source, counts) = tokenize_to_source(&[play], &Tokenizer::bytes(), None, &mut |_, _| {})?;
//! assert_eq!((counts.documents, counts.text_bytes, counts.tokens), (1, 5, 6));
//! assert_eq!(source.to_vec(5..6), [data::bytes::EOS]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::Error;
use crate::shard::{ShardWriter, Sidecar, TokenSource};
use crate::text::{Documents, Kind, find_files};
use crate::tokenizer::Tokenizer;

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

/// Encodes files and folders into one stream, in the order given.
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
    let mut prepared =
        Prepared { tokenizer, source: TokenSource::default(), counts: Counts::default() };
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
                    let path = folder.join(cache_name(run, tokenizer)?);
                    prepared.push_cached(&path, documents, &mut report)?;
                }
                None => prepared.push_documents(documents, |d| report(d.bytes_read()))?,
            }
        }
        done += size;
        progress(done, total);
    }
    let named = || inputs.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
    prepared.finish(named)
}

/// Encodes documents into a stream in memory.
///
/// # Errors
/// The first error among the documents; no tokens at all.
pub fn tokenize_documents(
    documents: impl Iterator<Item = Result<String, Error>>,
    tokenizer: &Tokenizer,
) -> Result<(TokenSource, Counts), Error> {
    let mut prepared =
        Prepared { tokenizer, source: TokenSource::default(), counts: Counts::default() };
    prepared.push_documents(documents, |_| {})?;
    prepared.finish(|| "the documents".to_string())
}

/// A stream in the making.
struct Prepared<'a> {
    tokenizer: &'a Tokenizer,
    source: TokenSource,
    counts: Counts,
}

impl Prepared<'_> {
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
        while let Some(batch) = next_batch(&mut documents, self.tokenizer)? {
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
            let tokenizer = self.tokenizer;
            let mut shard = ShardWriter::create(path, tokenizer.vocab_size(), tokenizer.hash())?;
            while let Some(batch) = next_batch(&mut documents, tokenizer)? {
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
struct Batch {
    ids: Vec<u32>,
    documents: u64,
    text_bytes: u64,
}

/// Takes and encodes the next documents, each followed by the end token; none at the end.
fn next_batch(
    documents: &mut impl Iterator<Item = Result<String, Error>>,
    tokenizer: &Tokenizer,
) -> Result<Option<Batch>, Error> {
    let (mut texts, mut bytes) = (Vec::new(), 0);
    while bytes < BATCH_BYTES
        && let Some(text) = documents.next().transpose()?
    {
        bytes += text.len();
        texts.push(text);
    }
    if texts.is_empty() {
        return Ok(None);
    }
    let mut ids = Vec::with_capacity(bytes / 2);
    for document in tokenizer.encode_batch(&texts)? {
        ids.extend(document);
        ids.extend(tokenizer.eos());
    }
    Ok(Some(Batch { ids, documents: texts.len() as u64, text_bytes: bytes as u64 }))
}

fn size(files: &[PathBuf]) -> Result<u64, Error> {
    let sizes =
        files.iter().map(|path| Ok(std::fs::metadata(path).map_err(Error::read(path))?.len()));
    sizes.sum()
}

/// A name that changes with the tokenizer, and with any file's path, size or time of change.
fn cache_name(files: &[PathBuf], tokenizer: &Tokenizer) -> Result<String, Error> {
    let mut listing = String::new();
    for path in files {
        let whole = std::fs::canonicalize(path).map_err(Error::read(path))?;
        let meta = std::fs::metadata(path).map_err(Error::read(path))?;
        let modified = meta.modified().map_err(Error::read(path))?;
        let age = modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        listing += &format!("{} {} {age}\n", whole.display(), meta.len());
    }
    let files = xxhash_rust::xxh3::xxh3_64(listing.as_bytes());
    Ok(format!("tokens-{}-{files:016x}.bin", tokenizer.hash()))
}
