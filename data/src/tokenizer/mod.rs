//! Text to token ids and back, through the `tokenizers` crate, so that every Hugging Face
//! `tokenizer.json` works and every tokenizer made here loads in `transformers`.
//!
//! Two tokenizers are made here. Both have `<unk> <s> </s>` as ids 0, 1, 2 and the 256 bytes as ids
//! 3 to 258:
//!
//! - [`Tokenizer::bytes`]: nothing but those 259. Every text comes back exactly.
//! - [`Tokenizer::train_bpe`]: in LLaMA's manner, BPE with each digit by itself and bytes for what
//!   it never saw. `tokenizers`, SentencePiece and llama.cpp give the same ids for every text. As in
//!   LLaMA's, a space is written U+2581 and one is put before the text; so a text that holds that
//!   character comes back with a space in its place, and any other exactly.
//!
//! Text is text: `</s>` in a document is encoded as its characters, never as the special token. In a
//! prompt ([`Tokenizer::prompt`]) it is the token, because a user has no other way to write it.
//!
//! ```
//! use data::tokenizer::Tokenizer;
//!
//! let documents = ["the cat sat on the mat", "the hat"].map(|text| Ok(text.to_string()));
//! let tokenizer = Tokenizer::train_bpe(documents, 270, &mut |_, _| {})?;
//! let ids = tokenizer.encode("the rat </s>")?;
//! assert!(ids.len() < "the rat </s>".len());
//! assert_eq!(tokenizer.decode(&ids)?, "the rat </s>");
//! # Ok::<(), data::Error>(())
//! ```

mod guard;
mod own;
mod parts;
mod sentencepiece;
pub mod special;

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::{Map, Value, json};
use tokenizers::{Model, PostProcessorWrapper};

use crate::Error;
use crate::train_bpe::SPACE;
use guard::guard;
use parts::Cut;
use special::Beside;
pub use special::{Ends, Special};

/// A tokenizer, ready to encode and decode.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    origin: String,
    json: String,
    hash: String,
    beside: Beside,
    cut: Cut,
    /// What was read, where that was a `tokenizer.model`.
    model: Option<SentencePiece>,
    vocab_size: usize,
    special: Special,
}

/// A `tokenizer.model` as it came, and what it says that a `tokenizer.json` cannot.
struct SentencePiece {
    bytes: Vec<u8>,
    model: sentencepiece::Model,
}

impl Tokenizer {
    /// The byte-level tokenizer, vocabulary 259: a byte's id is its value plus 3.
    pub fn bytes() -> Tokenizer {
        own::bytes()
    }

    /// Trains BPE on documents. Equal documents and size give an equal `tokenizer.json`, byte for
    /// byte. The vocabulary ends up smaller than asked for if the text runs out of pairs that come
    /// twice. `progress` hears tokens done and tokens wanted.
    ///
    /// Memory: a document at a time, plus every distinct word with its count.
    ///
    /// # Errors
    /// The first error among the documents; no text at all; a vocabulary size of 259 or less.
    pub fn train_bpe(
        documents: impl IntoIterator<Item = Result<String, Error>>,
        vocab_size: usize,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Tokenizer, Error> {
        own::train_bpe(documents, vocab_size, progress)
    }

    /// The file of the tokenizer in a model's directory: `tokenizer.json`, or without one
    /// `tokenizer.model`. If there is neither, the first.
    pub fn path(dir: &Path) -> PathBuf {
        let [json, model] = ["tokenizer.json", "tokenizer.model"].map(|name| dir.join(name));
        if !json.exists() && model.exists() { model } else { json }
    }

    /// Loads any Hugging Face `tokenizer.json`, or a `tokenizer.model` of SentencePiece's BPE. The files
    /// beside it tell the special tokens, see [`Special`].
    ///
    /// # Errors
    /// A file that is missing, unreadable or doesn't parse.
    pub fn load(path: &Path) -> Result<Tokenizer, Error> {
        let (origin, beside) = (path.display().to_string(), Beside::read(path)?);
        let bytes = std::fs::read(path).map_err(Error::read(path))?;
        if bytes.starts_with(b"version https://git-lfs") {
            return Err(unusable(
                &origin,
                &"a git-LFS pointer in place of it, git lfs pull gets it",
            ));
        }
        if path.extension().is_some_and(|extension| extension == "model") {
            return Tokenizer::from_model(bytes, beside, origin);
        }
        let json = utf8(path, bytes)?;
        Tokenizer::from_json(json, beside, origin)
    }

    fn from_model(bytes: Vec<u8>, mut beside: Beside, origin: String) -> Result<Tokenizer, Error> {
        let model = sentencepiece::Model::parse(&bytes).map_err(|e| unusable(&origin, &e))?;
        let config = beside.tokenizer_config.get_or_insert_with(|| model.config());
        // Transformers' LLaMA begins with that token unless it is told not to.
        let begins = config.get("add_bos_token").is_none_or(|begins| begins != false);
        let json = model.json(begins).to_string();
        let cut = if model.keeps_words_apart() { Cut::Words } else { Cut::Spaces };
        let tokenizer = Tokenizer::from_json(json, beside, origin)?;
        Ok(Tokenizer { cut, model: Some(SentencePiece { bytes, model }), ..tokenizer })
    }

    fn from_own_json(json: &str, origin: &str) -> Tokenizer {
        // Parsed and written again, so that the text is the one that the crate would write.
        let inner = tokenizers::Tokenizer::from_bytes(json).expect("our own JSON is valid");
        let json = inner.to_string(true).expect("a parsed tokenizer serialises");
        let made = Tokenizer::from_json(json, Beside::default(), origin.to_string());
        made.expect("our own JSON is valid")
    }

    fn from_json(json: String, mut beside: Beside, origin: String) -> Result<Tokenizer, Error> {
        let parsed: Value = serde_json::from_str(&json).map_err(|e| unusable(&origin, &e))?;
        let inner = guard(|| prepared(&json)).map_err(|e| unusable(&origin, &e))?;
        let inner = inner.map_err(|e| unusable(&origin, &e))?;
        let largest = inner.get_vocab(true).into_values().max();
        let vocab_size = largest.map_or(0, |id| id as usize + 1);
        if vocab_size == 0 {
            return Err(unusable(&origin, &"its vocabulary is empty"));
        }
        let special = beside.special(&inner, &parsed)?;
        if beside.tokenizer_config.is_none() {
            beside.tokenizer_config = Some(default_config(&inner, &special));
        }
        let (cut, hash) = (Cut::of(&parsed), hash(&json, &parsed, &inner));
        Ok(Tokenizer { inner, origin, json, hash, beside, cut, model: None, vocab_size, special })
    }

    /// Writes `tokenizer.json`, or the `tokenizer.model` that was loaded, and what belongs to it into
    /// `folder`, each file whole or not at all: the names of special tokens,
    /// `generation_config.json`, and a chat template, if there is one.
    ///
    /// # Errors
    /// A folder that is missing or cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), Error> {
        let beside = self.beside.texts();
        let beside = beside.iter().map(|(name, text)| (*name, text.as_bytes()));
        let own = match &self.model {
            Some(read) => ("tokenizer.model", read.bytes.as_slice()),
            None => ("tokenizer.json", self.json.as_bytes()),
        };
        for (name, bytes) in [own].into_iter().chain(beside) {
            let path = folder.join(name);
            store::write(&path, bytes).map_err(Error::write(&path))?;
        }
        self.special.save_generation(folder)
    }

    /// Text to ids, without any special token.
    ///
    /// # Errors
    /// A loaded tokenizer that can't encode the text, such as one without an unknown token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let parts = match self.cut {
            Cut::Words | Cut::Spaces => {
                let symbols = self.model.as_ref().map(|read| read.model.symbols());
                return self.encode_spaced(text, &symbols.unwrap_or_default());
            }
            Cut::Never => vec![text],
            Cut::Lines => parts::lines(text),
        };
        let ids: Result<Vec<_>, _> = parts.par_iter().map(|part| self.encode_part(part)).collect();
        Ok(ids?.concat())
    }

    /// As SentencePiece does: spaces are written as [`SPACE`], one is put in front, and each of
    /// `symbols` is a token.
    fn encode_spaced(&self, text: &str, symbols: &[(String, u32)]) -> Result<Vec<u32>, Error> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let space = SPACE.encode_utf8(&mut [0; 4]).to_string();
        let first = self.model.as_ref().is_none_or(|read| read.model.dummy_prefix);
        let text = space.repeat(first.into()) + &text.replace(' ', &space);
        let parts = sentencepiece::split(&text, symbols).into_iter().flat_map(|part| match part {
            Err(text) if self.cut == Cut::Words => {
                parts::of_words(text).into_iter().map(Err).collect()
            }
            part => vec![part],
        });
        let parts: Vec<Result<u32, &str>> = parts.collect();
        let encode = |part: &Result<u32, &str>| match part {
            Ok(symbol) => Ok(vec![*symbol]),
            Err(text) => self.encode_part(text),
        };
        let ids: Result<Vec<_>, _> = parts.par_iter().map(encode).collect();
        Ok(ids?.concat())
    }

    /// As [`Tokenizer::encode`] on each text, on all of rayon's threads; the order stays.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_batch(&self, texts: &[String]) -> Result<Vec<Vec<u32>>, Error> {
        texts.par_iter().map(|text| self.encode(text)).collect()
    }

    fn encode_part(&self, part: &str) -> Result<Vec<u32>, Error> {
        self.guarded(|| match self.cut {
            Cut::Words => {
                let (model, mut ids) = (self.inner.get_model(), Vec::with_capacity(part.len() / 3));
                for word in parts::words(part) {
                    ids.extend(model.tokenize(word)?.iter().map(|token| token.id));
                }
                Ok(ids)
            }
            Cut::Spaces => {
                Ok(self.inner.get_model().tokenize(part)?.iter().map(|token| token.id).collect())
            }
            Cut::Never | Cut::Lines => Ok(self.inner.encode_fast(part, false)?.get_ids().to_vec()),
        })
    }

    /// A prompt's ids: what a text begins with, then the text, in which special tokens that are
    /// written out are those tokens.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn prompt(&self, text: &str) -> Result<Vec<u32>, Error> {
        let ids = match &self.model {
            // As everywhere, a text after a special token begins as a text does.
            Some(read) => {
                let parts = sentencepiece::split(text, &read.model.special()).into_iter();
                let ids = parts.map(|part| part.map_or_else(|t| self.encode(t), |id| Ok(vec![id])));
                ids.collect::<Result<Vec<_>, _>>()?.concat()
            }
            None => self.guarded(|| {
                let mut inner = self.inner.clone();
                inner.set_encode_special_tokens(false);
                Ok(inner.encode_fast(text, false)?.get_ids().to_vec())
            })?,
        };
        Ok([self.special.prefix.clone(), ids].concat())
    }

    /// Calls the library; what goes wrong names this tokenizer.
    fn guarded<T>(&self, call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, Error> {
        let result = guard(call).map_err(|e| unusable(&self.origin, &e))?;
        result.map_err(|e| unusable(&self.origin, &e))
    }

    /// Ids to text. Special tokens and ids out of range give nothing; bytes that are not UTF-8 give
    /// U+FFFD.
    ///
    /// # Errors
    /// A loaded tokenizer whose decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        self.guarded(|| self.inner.decode(ids, true))
    }

    /// Decodes ids one at a time, as what follows the ids `before`: a space between the two is part
    /// of the text.
    pub fn decode_after(&self, before: &[u32]) -> DecodeStream<'_> {
        DecodeStream { tokenizer: self, ids: before.to_vec(), shown: before.len() }
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The tokens that begin and end texts.
    pub fn special(&self) -> &Special {
        &self.special
    }

    /// The bytes of `tokenizer.json`.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// XXH3 of `tokenizer.json`, 64 bits in hexadecimal. Equal hashes give equal ids.
    pub fn hash(&self) -> String {
        self.hash.clone()
    }

    /// Checks that a model with `model` rows of embeddings has one for every id.
    ///
    /// # Errors
    /// A tokenizer that knows more ids.
    pub fn check_model(&self, model: usize) -> Result<(), Error> {
        if self.vocab_size > model {
            let origin = self.origin.clone();
            return Err(Error::VocabSize { origin, tokenizer: self.vocab_size, model });
        }
        Ok(())
    }
}

/// Turns ids into text as they come. A character that takes several tokens shows when it is whole.
pub struct DecodeStream<'a> {
    tokenizer: &'a Tokenizer,
    /// The ids of the last text shown, as context, then those not shown yet.
    ids: Vec<u32>,
    shown: usize,
}

impl DecodeStream<'_> {
    /// Takes the next id; gives the text that became whole by it, often none.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn push(&mut self, id: u32) -> Result<String, Error> {
        self.ids.push(id);
        let new = self.pending()?;
        if new.is_empty() || new.ends_with('\u{FFFD}') {
            return Ok(String::new());
        }
        self.ids.drain(..self.shown);
        self.shown = self.ids.len();
        Ok(new)
    }

    /// The text held back at the end: a character that never became whole shows as U+FFFD.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn finish(self) -> Result<String, Error> {
        self.pending()
    }

    fn pending(&self) -> Result<String, Error> {
        let before = self.tokenizer.decode(&self.ids[..self.shown])?;
        let all = self.tokenizer.decode(&self.ids)?;
        match all.strip_prefix(&before) {
            Some(new) => Ok(new.to_string()),
            // Bytes that never become a character can spoil the text before them once more.
            None => self.tokenizer.decode(&self.ids[self.shown..]),
        }
    }
}

fn unusable(origin: &str, reason: &dyn std::fmt::Display) -> Error {
    Error::Tokenizer { origin: origin.to_string(), reason: reason.to_string() }
}

fn read_utf8(path: &Path) -> Result<String, Error> {
    utf8(path, std::fs::read(path).map_err(Error::read(path))?)
}

fn utf8(path: &Path, bytes: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(bytes).map_err(|e| Error::Utf8 {
        path: path.to_path_buf(),
        place: format!("byte {}", e.utf8_error().valid_up_to()),
    })
}

/// What the crate makes of a file, ready to encode text as text.
fn prepared(json: &str) -> tokenizers::Result<tokenizers::Tokenizer> {
    let mut inner = tokenizers::Tokenizer::from_bytes(json)?;
    inner.set_encode_special_tokens(true);
    // A file may ask for cuts and padding, which only make sense for batches of queries.
    inner.with_truncation(None)?;
    inner.with_padding(None);
    Ok(inner)
}

/// Of what decides the ids. The byte-level tokenizer had no post-processor at first, and shards of
/// that time name it by its hash.
fn hash(json: &str, parsed: &Value, inner: &tokenizers::Tokenizer) -> String {
    let of = |text: &str| format!("{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes()));
    if !own::is_bytes(parsed) {
        return of(json);
    }
    let mut inner = inner.clone();
    inner.with_post_processor(None::<PostProcessorWrapper>);
    of(&inner.to_string(true).expect("a parsed tokenizer serialises"))
}

/// What `transformers` needs beside a `tokenizer.json` that came without it.
fn default_config(inner: &tokenizers::Tokenizer, special: &Special) -> Map<String, Value> {
    let name = |id: Option<u32>| id.and_then(|id| inner.id_to_token(id));
    let unk = inner.token_to_id(own::SPECIAL[0]);
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": name(special.bos),
        "eos_token": name(special.eos),
        "unk_token": name(unk),
        "add_bos_token": !special.before.is_empty(),
        "add_eos_token": false,
        "clean_up_tokenization_spaces": false,
    });
    match config {
        Value::Object(config) => config,
        _ => unreachable!("it is written as an object"),
    }
}
