//! The crate's one error. Each message is a single line: the file, the value, the remedy.

#[cfg(feature = "files")]
use std::path::Path;
use std::path::PathBuf;

/// What can go wrong between files and batches.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder is missing or cannot be read.
    #[error("cannot read {}: {source}; check the path and its permissions", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}; check that the folder exists, its permissions and the free space", path.display())]
    Write {
        /// The file that was to be written.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file whose extension no reader knows.
    #[error("{}: unsupported kind of file; give {kinds}, or a folder of them", path.display())]
    Unsupported {
        /// The file as it was given.
        path: PathBuf,
        /// What would be read.
        kinds: &'static str,
    },
    /// A folder that holds nothing a reader knows.
    #[error("{}: none of {kinds} in this folder; check the path", path.display())]
    EmptyFolder {
        /// The folder as it was given.
        path: PathBuf,
        /// What would be read.
        kinds: &'static str,
    },
    /// No text or no tokens at all.
    #[error("{origin}: no text and no tokens in it; give data that is not empty")]
    Empty {
        /// The file or files.
        origin: String,
    },
    /// Fewer tokens than one sequence and its last target need.
    #[error(
        "{origin}: {tokens} tokens are too few, one sequence and its last target need {needed}; give more data or a smaller --seq-len"
    )]
    TooShort {
        /// The files or the part of the data.
        origin: String,
        /// Tokens there are.
        tokens: u64,
        /// Tokens one sequence needs: its length plus one.
        needed: u64,
    },
    /// The share kept for validation makes no sense.
    #[error(
        "validation share {share} of {tokens} tokens leaves no training data or is not a share; give a fraction from 0 up to (not including) 1, or fewer tokens"
    )]
    Split {
        /// The share as it was given.
        share: String,
        /// Tokens there are.
        tokens: u64,
    },
    /// Bytes that are not UTF-8.
    #[error("{}: invalid UTF-8 at {place}; convert the file to UTF-8", path.display())]
    Utf8 {
        /// The file.
        path: PathBuf,
        /// `byte N` of a text file, `line N, byte M` of a JSON one; bytes from 0, lines from 1.
        place: String,
    },
    /// A line that is not a JSON object with a string under `text`.
    #[error("{}: line {line}: {reason}; every line must be a JSON object with a string field \"text\"", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A compressed file that ends early or does not decode.
    #[error("{}: truncated or corrupt {format} data after line {line}: {reason}; fetch or compress the file again", path.display())]
    Compressed {
        /// The file.
        path: PathBuf,
        /// `gzip` or `zstd`.
        format: &'static str,
        /// Whole lines read before the damage.
        line: u64,
        /// What the decoder said.
        reason: String,
    },
    /// A token shard whose header, size or sidecar is wrong.
    #[error("{}: not a usable token shard: {reason}; write the shard again", path.display())]
    Shard {
        /// The shard.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A token id outside the vocabulary.
    #[error(
        "{origin}: token {id} at position {position} is outside the vocabulary of {vocab_size}; use the tokenizer and model that the tokens were made for"
    )]
    TokenRange {
        /// The shard.
        origin: String,
        /// Its index in the shard, from 0.
        position: u64,
        /// The id found.
        id: u32,
        /// Ids must be below this.
        vocab_size: usize,
    },
    /// A shard that another tokenizer wrote.
    #[error("{}: written with tokenizer {found}, not {expected}; give --tokenizer the file it was made with, or tokenize the text again", path.display())]
    OtherTokenizer {
        /// The shard.
        path: PathBuf,
        /// Hash of the tokenizer in the shard's sidecar.
        found: String,
        /// Hash of the tokenizer in use.
        expected: String,
    },
    /// A tokenizer file that does not parse or does not encode.
    #[error("{origin}: not a usable tokenizer: {reason}; give a Hugging Face tokenizer.json")]
    Tokenizer {
        /// The file.
        origin: String,
        /// What the parser said.
        reason: String,
    },
    /// A file beside a tokenizer that is no JSON object.
    #[error("{}: not a JSON object: {reason}; copy the model again, or remove the file", path.display())]
    Beside {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
    /// A tokenizer that knows more ids than the model has rows.
    #[error(
        "{origin}: tokenizer has {tokenizer} tokens but the model's vocab_size is {model}; use the model's own tokenizer or set vocab_size to at least {tokenizer}"
    )]
    VocabSize {
        /// The tokenizer's file.
        origin: String,
        /// The tokenizer's vocabulary size.
        tokenizer: usize,
        /// The model's vocabulary size.
        model: usize,
    },
    /// A vocabulary too small to train.
    #[error(
        "vocabulary of {vocab_size} is too small for BPE: 3 special and 256 byte tokens come first; ask for at least {least}, or use byte-level tokens"
    )]
    BpeSize {
        /// The size asked for.
        vocab_size: usize,
        /// The smallest that makes sense.
        least: usize,
    },
    /// A job's folder that holds something else, or that is damaged.
    #[error("{}: {reason}", path.display())]
    Job {
        /// The folder or a file in it.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A name that nothing in a job has.
    #[error("{}: no document {id}; give an id as it stands in the documents", path.display())]
    NoDocument {
        /// The job's folder.
        path: PathBuf,
        /// The id.
        id: String,
    },
    /// Someone asked to stop; what is done stays done.
    #[error("stopped before the end; run the same command again to go on")]
    Stopped,
}

impl Error {
    /// For `map_err` on reading calls.
    #[cfg(feature = "files")]
    pub(crate) fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Read { path, source }
    }

    /// For `map_err` on writing calls.
    #[cfg(feature = "files")]
    pub(crate) fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Write { path, source }
    }
}
