//! From a run's configuration to its tokens: reads or makes the text, loads or trains the
//! tokenizer, and cuts off the validation split.
//!
//! ```
//! use train::config::{RunConfig, TokenizerChoice};
//! use train::corpus;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("rhyme.txt");
//! std::fs::write(&path, "Twinkle, twinkle, little star. ".repeat(100))?;
//! let mut config = RunConfig::default();
//! config.data.paths = vec![path];
//! config.data.tokenizer = TokenizerChoice::Bytes;
//! config.run.seq_len = 16;
//!
//! let tokenizer = corpus::tokenizer(&config, None)?;
//! let corpus = corpus::prepare(&config, tokenizer, 259, None)?;
//! assert!(corpus.train_tokens < corpus.counts.tokens && corpus.validation.is_some());
//! # Ok(())
//! # }
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use data::loader::{EvalWindows, Held, Loader, LoaderConfig, split, unigram_entropy};
use data::prepare::{Counts, tokenize_documents, tokenize_to_source};
use data::shard::TokenSource;
use data::stories::Stories;
use data::text::{Documents, Kind, find_files};
use data::tokenizer::Tokenizer;
use xxhash_rust::xxh3::Xxh3;

use crate::config::{RunConfig, TokenizerChoice};
use crate::error::Error;

/// Stories of the built-in corpus: about 7 MB of text.
pub const STORIES: usize = 10_000;

/// Tokens that the unigram entropy is measured on, at most.
const ENTROPY_TOKENS: u64 = 10_000_000;

/// Everything a run reads.
pub struct Corpus {
    /// `None` where all data are ready shards and nothing says how they were made.
    pub tokenizer: Option<Tokenizer>,
    /// Training sequences.
    pub train: Loader,
    /// Validation sequences; `None` where nothing is held out.
    pub validation: Option<EvalWindows>,
    /// What was found.
    pub counts: Counts,
    /// Tokens to train on.
    pub train_tokens: u64,
    /// Nats per token of a model that knows only how often each token occurs.
    pub unigram_entropy: f64,
    /// Identifies the tokens.
    pub hash: String,
    /// Bytes that the tokens hold in memory.
    pub bytes: u64,
}

/// The tokenizer that a run needs, without reading more than it must. A resumed run has `stored` its
/// own; weights to start from have theirs beside them.
///
/// # Errors
/// Whatever is wrong with the tokenizer's file or the text to train it on; one that is missing where
/// another would make numbers of another meaning.
pub fn tokenizer(config: &RunConfig, stored: Option<&Path>) -> Result<Option<Tokenizer>, Error> {
    let tokenizer = find_tokenizer(config, stored)?;
    if let Some(tokenizer) = &tokenizer {
        tell_disagreements(tokenizer);
    }
    Ok(tokenizer)
}

fn find_tokenizer(config: &RunConfig, stored: Option<&Path>) -> Result<Option<Tokenizer>, Error> {
    if let Some(stored) = stored.filter(|stored| stored.exists()) {
        return Ok(Some(Tokenizer::load(stored)?));
    }
    match (&config.data.tokenizer, &config.model.init_from) {
        (TokenizerChoice::File(path), _) => Ok(Some(Tokenizer::load(path)?)),
        (TokenizerChoice::Bytes, _) => Ok(Some(Tokenizer::bytes())),
        (TokenizerChoice::Bpe, Some(dir)) if Tokenizer::path(dir).exists() => {
            Ok(Some(Tokenizer::load(&Tokenizer::path(dir))?))
        }
        (TokenizerChoice::Bpe, _) if only_shards(&config.data.paths)? => Ok(None),
        (TokenizerChoice::Bpe, _) if stored.is_some() => Err(Error::Config(format!(
            "--resume: {} is missing, and the run's weights mean nothing with another tokenizer: copy \
             it back, or start anew with another --out",
            stored.expect("it was looked at").display()
        ))),
        (TokenizerChoice::Bpe, Some(dir)) => Err(Error::Config(format!(
            "--init-from {}: there is no tokenizer.json and no tokenizer.model, and the weights mean \
             nothing with another tokenizer: put the model's own there, or give it with --tokenizer",
            dir.display()
        ))),
        (TokenizerChoice::Bpe, None) => Ok(Some(train_tokenizer(config)?)),
    }
}

/// Warns where the files around a tokenizer disagree on special tokens.
pub fn tell_disagreements(tokenizer: &Tokenizer) {
    tokenizer.special().disagreements.iter().for_each(|line| tracing::warn!("{line}"));
}

/// Warns of files in folders of data that are not read.
///
/// # Errors
/// A path that is missing or unreadable.
pub fn tell_passed_over(paths: &[PathBuf]) -> Result<(), Error> {
    if let Some(line) = data::text::passed_over(paths)? {
        tracing::warn!("{line}");
    }
    Ok(())
}

fn only_shards(paths: &[PathBuf]) -> Result<bool, Error> {
    let files = find_files(paths)?;
    Ok(!files.is_empty() && files.iter().all(|path| Kind::of(path) == Some(Kind::Shard)))
}

fn train_tokenizer(config: &RunConfig) -> Result<Tokenizer, Error> {
    let size = config.data.vocab_size;
    tracing::info!("training a tokenizer of {size} entries");
    let silent = &mut |_, _| {};
    if config.data.paths.is_empty() {
        // A fifth of the stories shows every word of the grammar many times.
        let documents = Stories::new(config.run.seed).documents(STORIES / 5);
        return Ok(Tokenizer::train_bpe(documents, size, silent)?);
    }
    let files = find_files(&config.data.paths)?;
    let text = files.into_iter().filter(|path| Kind::of(path) != Some(Kind::Shard)).collect();
    Ok(Tokenizer::train_bpe(Documents::new(text), size, silent)?)
}

/// Reads all tokens. With `cache`, those of text files are kept there in shards.
///
/// # Errors
/// Whatever is wrong with the data; tokens beyond `vocab` ids; too few tokens for one sequence.
pub fn prepare(
    config: &RunConfig,
    tokenizer: Option<Tokenizer>,
    vocab: usize,
    cache: Option<&Path>,
) -> Result<Corpus, Error> {
    let (source, counts) = match &tokenizer {
        Some(tokenizer) if config.data.paths.is_empty() => {
            tracing::info!("telling {STORIES} stories");
            let stories = Stories::new(config.run.seed).documents(STORIES);
            tokenize_documents(stories, tokenizer, config.data.document_ends)?
        }
        Some(tokenizer) => {
            if let Some(cache) = cache {
                let create = std::fs::create_dir_all(cache);
                create.map_err(Error::io("cannot create the folder for tokens", cache))?;
            }
            let ends = config.data.document_ends;
            tokenize_to_source(&config.data.paths, tokenizer, ends, cache, &mut tell())?
        }
        None => {
            let source = TokenSource::open(&find_files(&config.data.paths)?)?;
            let tokens = source.len();
            (source, Counts { tokens, ..Counts::default() })
        }
    };
    source.check_vocab(vocab)?;
    let held = match config.data.val_tokens {
        Some(tokens) => Held::Tokens(tokens),
        None => Held::Fraction(config.data.val_fraction),
    };
    let (train, held) = split(source.len(), held)?;
    let hash = hash(&source);
    let seen = source.to_vec(0..train.end.min(ENTROPY_TOKENS));
    let unigram_entropy = unigram_entropy(&seen, vocab);
    let (source, seq_len) = (Arc::new(source), config.run.seq_len);
    let train_tokens = train.end - train.start;
    let (seed, order) = (config.run.seed, config.run.order);
    let loader = LoaderConfig { seq_len, seed, order, range: train };
    let validation =
        (!held.is_empty()).then(|| EvalWindows::new(source.clone(), held, seq_len)).transpose();
    let validation = validation.map_err(|e| too_short(config, "held out", e))?;
    let train =
        Loader::new(source.clone(), loader).map_err(|e| too_short(config, "to train on", e))?;
    Ok(Corpus {
        tokenizer,
        train,
        validation,
        counts,
        train_tokens,
        unigram_entropy,
        hash,
        bytes: source.len() * if vocab <= 1 << 16 && !config.data.paths.is_empty() { 2 } else { 4 },
    })
}

/// Names the files that hold too few tokens, and which part of them it is.
fn too_short(config: &RunConfig, part: &str, error: data::Error) -> data::Error {
    let data::Error::TooShort { tokens, needed, .. } = error else { return error };
    let files: Vec<_> = config.data.paths.iter().map(|path| path.display().to_string()).collect();
    let files = if files.is_empty() { "the stories".to_string() } else { files.join(", ") };
    data::Error::TooShort { origin: format!("{files}, the part {part}"), tokens, needed }
}

/// Logs how far reading has come, every tenth of it.
fn tell() -> impl FnMut(u64, u64) {
    let mut tenths = 0;
    move |done, total| {
        let now = (10 * done).checked_div(total).unwrap_or(10);
        if now > tenths {
            tenths = now;
            tracing::info!("read {} % of {:.1} MB of text", 10 * now, total as f64 / 1e6);
        }
    }
}

/// Hash of the stream: all of it if short, 64 blocks spread over it otherwise.
fn hash(source: &TokenSource) -> String {
    const BLOCK: u64 = 1 << 16;
    let len = source.len();
    let mut hash = Xxh3::new();
    hash.update(&len.to_le_bytes());
    let blocks = len.div_ceil(BLOCK).min(64);
    let mut ids = vec![0; BLOCK as usize];
    for i in 0..blocks {
        let start = if blocks == 64 { (len - BLOCK) / 63 * i } else { i * BLOCK };
        let ids = &mut ids[..BLOCK.min(len - start) as usize];
        source.copy(start, ids);
        hash.update(bytemuck::cast_slice(ids));
    }
    format!("{:016x}", hash.digest())
}
