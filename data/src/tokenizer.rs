//! Text to token ids and back, through the `tokenizers` crate, so that every Hugging Face
//! `tokenizer.json` works and every tokenizer made here loads in `transformers`.
//!
//! Two tokenizers are made here. Both have `<unk> <s> </s>` as ids 0, 1, 2 and the 256 bytes as ids
//! 3 to 258, and both give back every text exactly:
//!
//! - [`Tokenizer::bytes`]: nothing but those 259.
//! - [`Tokenizer::train_bpe`]: in LLaMA's manner, BPE with each digit by itself and bytes for what
//!   it never saw. Unlike SentencePiece it keeps spaces as spaces instead of writing U+2581 for
//!   them, because a text that holds U+2581 could not be given back otherwise. A word takes the
//!   space before it along; runs of spaces and runs of line ends are pieces of their own.
//!
//! Text is text: `</s>` in a document is encoded as its characters, never as the special token.
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

use std::collections::HashMap;

use std::path::Path;

use rayon::prelude::*;
use serde_json::{Value, json};
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use crate::Error;
use crate::train_bpe;

const SPECIAL: [&str; 3] = ["<unk>", "<s>", "</s>"];
const BYTES_END: usize = SPECIAL.len() + 256;

/// A word or a run of other signs, each with the one space before it; line ends; other space.
/// Without look-around on purpose: it runs in linear time, and means the same to every engine.
const PIECES: &str = r" ?[\p{L}\p{M}]+| ?[^\s\p{L}\p{M}]+|[\r\n]+|[^\S\r\n]+";

/// Names that other tokenizers give to the ends of a document.
const BOS_NAMES: [&str; 4] = ["<s>", "<|begin_of_text|>", "<bos>", "[BOS]"];
const EOS_NAMES: [&str; 5] = ["</s>", "<|end_of_text|>", "<|endoftext|>", "<eos>", "[EOS]"];

/// Longer texts are encoded in parts, where that cannot change the result.
const PART_BYTES: usize = 1 << 16;

/// A tokenizer, ready to encode and decode.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    origin: String,
    json: String,
    config: Value,
    /// Whether a text may be cut after line ends and encoded in parts.
    splits_at_lines: bool,
    vocab_size: usize,
    bos: Option<u32>,
    eos: Option<u32>,
}

impl Tokenizer {
    /// The byte-level tokenizer, vocabulary 259: a byte's id is its value plus 3.
    pub fn bytes() -> Tokenizer {
        let mut vocab: Vec<String> = SPECIAL.map(String::from).to_vec();
        vocab.extend((0..=255).map(|byte| byte_sign(byte).to_string()));
        let json = tokenizer_json(&vocab, &[], false);
        Tokenizer::from_own_json(&json, "the byte-level tokenizer")
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
        if vocab_size <= BYTES_END {
            return Err(Error::BpeSize { vocab_size, least: BYTES_END + 1 });
        }
        let mut vocab: Vec<String> = SPECIAL.map(String::from).to_vec();
        vocab.extend((0..=255).map(|byte: u8| format!("<0x{byte:02X}>")));
        let origin = "the trained tokenizer";
        let splitter = Tokenizer::from_own_json(&tokenizer_json(&vocab, &[], true), origin);
        let pieces = splitter.count_pieces(documents)?;
        if pieces.is_empty() {
            return Err(Error::Empty { origin: "text to train a tokenizer on".to_string() });
        }
        let trained = train_bpe::train(pieces, vocab_size - BYTES_END, &mut |done| {
            progress(BYTES_END + done, vocab_size);
        });
        vocab.extend(trained.tokens);
        let json = tokenizer_json(&vocab, &trained.merges, true);
        Ok(Tokenizer::from_own_json(&json, origin))
    }

    /// Loads any Hugging Face `tokenizer.json`. A `tokenizer_config.json` beside it tells the names
    /// of the special tokens; otherwise the usual ones are looked for.
    ///
    /// # Errors
    /// A file that is missing, unreadable or doesn't parse.
    pub fn load(path: &Path) -> Result<Tokenizer, Error> {
        let json = read_utf8(path)?;
        let beside = path.with_file_name("tokenizer_config.json");
        let config = if beside.exists() {
            let text = read_utf8(&beside)?;
            let parsed = serde_json::from_str(&text);
            parsed.map_err(|e| unusable(&beside.display().to_string(), &e))?
        } else {
            Value::Null
        };
        Tokenizer::from_json(json, config, path.display().to_string())
    }

    fn from_own_json(json: &str, origin: &str) -> Tokenizer {
        // Parsed and written again, so that the text is the one that the crate would write.
        let inner = tokenizers::Tokenizer::from_bytes(json).expect("our own JSON is valid");
        let json = inner.to_string(true).expect("a parsed tokenizer serialises");
        Tokenizer::from_json(json, Value::Null, origin.to_string()).expect("our own JSON is valid")
    }

    fn from_json(json: String, config: Value, origin: String) -> Result<Tokenizer, Error> {
        let mut inner =
            tokenizers::Tokenizer::from_bytes(&json).map_err(|e| unusable(&origin, &e))?;
        inner.set_encode_special_tokens(true);
        // A file may ask for cuts and padding, which only make sense for batches of queries.
        inner.with_truncation(None).map_err(|e| unusable(&origin, &e))?;
        inner.with_padding(None);
        let parsed: Value = serde_json::from_str(&json).map_err(|e| unusable(&origin, &e))?;
        let ours = [pre_tokenizer(true), pre_tokenizer(false)].contains(&parsed["pre_tokenizer"]);
        let largest = inner.get_vocab(true).into_values().max();
        let vocab_size = largest.map_or(0, |id| id as usize + 1);
        if vocab_size == 0 {
            return Err(unusable(&origin, &"its vocabulary is empty"));
        }
        let special = |key: &str, names: &[&str]| {
            // Either the text itself or an object around it.
            let named = [&config[key], &config[key]["content"]].into_iter().find_map(Value::as_str);
            named.into_iter().chain(names.iter().copied()).find_map(|name| inner.token_to_id(name))
        };
        let (bos, eos) = (special("bos_token", &BOS_NAMES), special("eos_token", &EOS_NAMES));
        let splits_at_lines = ours && parsed["normalizer"].is_null();
        let config = if config.is_null() { default_config(&inner, bos, eos) } else { config };
        Ok(Tokenizer { inner, origin, json, config, splits_at_lines, vocab_size, bos, eos })
    }

    /// Writes `tokenizer.json` and `tokenizer_config.json` into `folder`, each whole or not at all.
    ///
    /// # Errors
    /// A folder that is missing or cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), Error> {
        let config = format!("{:#}\n", self.config);
        for (name, text) in [("tokenizer.json", &self.json), ("tokenizer_config.json", &config)] {
            let path = folder.join(name);
            store::write(&path, text.as_bytes()).map_err(Error::write(&path))?;
        }
        Ok(())
    }

    /// Text to ids, without any special token.
    ///
    /// # Errors
    /// A loaded tokenizer that can't encode the text, such as one without an unknown token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let mut ids = Vec::new();
        for part in self.parts(text) {
            ids.extend(self.encode_part(part)?);
        }
        Ok(ids)
    }

    /// As [`Tokenizer::encode`] on each text, on all of rayon's threads; the order stays.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_batch(&self, texts: &[String]) -> Result<Vec<Vec<u32>>, Error> {
        let parts: Vec<Vec<&str>> = texts.iter().map(|text| self.parts(text)).collect();
        let encode = |parts: &Vec<&str>| -> Result<Vec<Vec<u32>>, Error> {
            parts.par_iter().map(|part| self.encode_part(part)).collect()
        };
        parts.par_iter().map(|parts| Ok(encode(parts)?.concat())).collect()
    }

    fn encode_part(&self, part: &str) -> Result<Vec<u32>, Error> {
        let encoding = self.inner.encode_fast(part, false);
        Ok(encoding.map_err(|e| unusable(&self.origin, &e))?.get_ids().to_vec())
    }

    /// Cuts a long text after line ends. Our own tokenizers keep a run of line ends in one piece
    /// and never look past it, so the ids stay the same; other tokenizers get the text whole.
    fn parts<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let mut parts = Vec::new();
        let mut rest = text;
        while self.splits_at_lines && rest.len() > PART_BYTES {
            let bytes = rest.as_bytes();
            let line_end = |i: &usize| matches!(bytes[*i], b'\r' | b'\n');
            let cut = (PART_BYTES..bytes.len()).find(|i| line_end(&(i - 1)) && !line_end(i));
            let Some(cut) = cut else { break };
            let (part, after) = rest.split_at(cut);
            parts.push(part);
            rest = after;
        }
        parts.push(rest);
        parts
    }

    /// Ids to text. Special tokens and ids out of range give nothing; bytes that are not UTF-8 give
    /// U+FFFD.
    ///
    /// # Errors
    /// A loaded tokenizer whose decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        self.inner.decode(ids, true).map_err(|e| unusable(&self.origin, &e))
    }

    /// Decodes ids one at a time.
    pub fn decode_stream(&self) -> DecodeStream<'_> {
        DecodeStream { tokenizer: self, ids: Vec::new(), shown: 0 }
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The token before a document, if there is one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token after a document, if there is one.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The bytes of `tokenizer.json`.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// XXH3 of `tokenizer.json`, 64 bits in hexadecimal.
    pub fn hash(&self) -> String {
        format!("{:016x}", xxhash_rust::xxh3::xxh3_64(self.json.as_bytes()))
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

    fn count_pieces(
        &self,
        documents: impl IntoIterator<Item = Result<String, Error>>,
    ) -> Result<HashMap<String, u64>, Error> {
        let mut counts: HashMap<String, u64> = HashMap::new();
        for document in documents {
            let document = document?;
            let split: Vec<_> = self.parts(&document).par_iter().map(|p| self.pieces(p)).collect();
            for piece in split.into_iter().flatten() {
                match counts.get_mut(&piece) {
                    Some(count) => *count += 1,
                    None => _ = counts.insert(piece, 1),
                }
            }
        }
        Ok(counts)
    }

    fn pieces(&self, text: &str) -> Vec<String> {
        let mut split = PreTokenizedString::from(text);
        let pre_tokenizer = self.inner.get_pre_tokenizer().expect("our own tokenizer has one");
        pre_tokenizer.pre_tokenize(&mut split).expect("our own pattern splits every text");
        let pieces = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
        pieces.into_iter().map(|(piece, _, _)| piece.to_string()).collect()
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
    let bytes = std::fs::read(path).map_err(Error::read(path))?;
    String::from_utf8(bytes).map_err(|e| Error::Utf8 {
        path: path.to_path_buf(),
        place: format!("byte {}", e.utf8_error().valid_up_to()),
    })
}

/// GPT-2's printable stand-in for a byte, which the ByteLevel parts of `tokenizers` expect:
/// printable Latin-1 stands for itself, the others in order from U+0100 on.
fn byte_sign(byte: u8) -> char {
    let printable = |b: u8| matches!(b, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(byte) {
        return char::from(byte);
    }
    let rank = (0..byte).filter(|&b| !printable(b)).count() as u32;
    char::from_u32(0x100 + rank).expect("below U+0200")
}

fn pre_tokenizer(bpe: bool) -> Value {
    if !bpe {
        return json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false
        });
    }
    json!({"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": true},
        {"type": "Split", "pattern": {"Regex": PIECES}, "behavior": "Isolated", "invert": false},
    ]})
}

fn tokenizer_json(vocab: &[String], merges: &[(String, String)], bpe: bool) -> String {
    let decoder = if bpe {
        json!({"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]})
    } else {
        pre_tokenizer(false)
    };
    let added = SPECIAL.iter().enumerate().map(|(id, content)| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        })
    });
    let added: Vec<Value> = added.collect();
    let ids: HashMap<&String, usize> = vocab.iter().zip(0..).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "pre_tokenizer": pre_tokenizer(bpe), "post_processor": null,
        "decoder": decoder,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": SPECIAL[0],
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
            "byte_fallback": bpe, "ignore_merges": false, "vocab": ids, "merges": merges,
        },
    })
    .to_string()
}

/// What `transformers` needs beside a `tokenizer.json` that came without it.
fn default_config(inner: &tokenizers::Tokenizer, bos: Option<u32>, eos: Option<u32>) -> Value {
    let name = |id: Option<u32>| id.and_then(|id| inner.id_to_token(id));
    let unk = inner.token_to_id(SPECIAL[0]);
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": name(bos),
        "eos_token": name(eos),
        "unk_token": name(unk),
        "add_bos_token": false,
        "add_eos_token": false,
        "clean_up_tokenization_spaces": false,
    })
}
