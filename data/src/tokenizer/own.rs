//! The tokenizers that are made here, as `tokenizer.json`: [`Tokenizer::bytes`], and BPE in the manner
//! of SentencePiece. Both have `<unk> <s> </s>` as ids 0, 1, 2 and the 256 bytes as ids 3 to 258, and
//! put `<s>` before a text.

use std::collections::HashMap;

use rayon::prelude::*;
use serde_json::{Value, json};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use super::{Tokenizer, parts};
use crate::Error;
use crate::train_bpe::{self, SPACE};

pub(super) const SPECIAL: [&str; 3] = ["<unk>", "<s>", "</s>"];
pub(super) const BYTES_END: usize = SPECIAL.len() + 256;

/// How text is divided before pairs are counted: a word or a run of other signs, each with the one
/// space before it; line ends; other space. Without look-around on purpose: it runs in linear time.
/// Encoding does not divide: no token is longer than such a piece, so merges alone find them.
const PIECES: &str = r" ?[\p{L}\p{M}]+| ?[^\s\p{L}\p{M}]+|[\r\n]+|[^\S\r\n]+";

/// The byte-level tokenizer.
pub(super) fn bytes() -> Tokenizer {
    let mut vocab: Vec<String> = SPECIAL.map(String::from).to_vec();
    vocab.extend((0..=255).map(|byte| byte_sign(byte).to_string()));
    let json = tokenizer_json(&vocab, &[], false);
    Tokenizer::from_own_json(&json, "the byte-level tokenizer")
}

/// See [`Tokenizer::train_bpe`].
pub(super) fn train_bpe(
    documents: impl IntoIterator<Item = Result<String, Error>>,
    vocab_size: usize,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Tokenizer, Error> {
    if vocab_size <= BYTES_END {
        return Err(Error::BpeSize { vocab_size, least: BYTES_END + 1 });
    }
    let pieces = count_pieces(documents)?;
    if pieces.is_empty() {
        return Err(Error::Empty { origin: "text to train a tokenizer on".to_string() });
    }
    let tokens = train_bpe::train(pieces, vocab_size - BYTES_END, &mut |done| {
        progress(BYTES_END + done, vocab_size);
    });
    let merges = train_bpe::merges(&tokens);
    let mut vocab: Vec<String> = SPECIAL.map(String::from).to_vec();
    vocab.extend((0..=255).map(|byte: u8| format!("<0x{byte:02X}>")));
    vocab.extend(tokens);
    let json = tokenizer_json(&vocab, &merges, true);
    Ok(Tokenizer::from_own_json(&json, "the trained tokenizer"))
}

/// Every piece of the documents, with how often it comes. Memory: a document at a time, plus every
/// distinct piece.
fn count_pieces(
    documents: impl IntoIterator<Item = Result<String, Error>>,
) -> Result<HashMap<String, u64>, Error> {
    let splitter: PreTokenizerWrapper =
        serde_json::from_value(before_pieces(true)).expect("our own pattern is valid");
    let mut counts: HashMap<String, u64> = HashMap::new();
    for document in documents {
        let document = document?;
        // The first line of a text begins with a space, as it does where it is encoded.
        let text = format!(" {document}");
        let parts = parts::lines(&text);
        let split: Vec<_> = parts.par_iter().map(|part| pieces(&splitter, part)).collect();
        for piece in split.into_iter().flatten() {
            match counts.get_mut(&piece) {
                Some(count) => *count += 1,
                None => _ = counts.insert(piece, 1),
            }
        }
    }
    Ok(counts)
}

/// The pieces of a text, with [`SPACE`] in place of spaces.
fn pieces(splitter: &PreTokenizerWrapper, text: &str) -> Vec<String> {
    let mut split = PreTokenizedString::from(text);
    splitter.pre_tokenize(&mut split).expect("our own pattern splits every text");
    let split = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
    let mut pieces: Vec<String> = Vec::with_capacity(split.len());
    for (piece, _, _) in split {
        let first = piece.chars().next().unwrap_or(' ');
        let takes_space = !first.is_whitespace() && !first.is_numeric();
        match pieces.last_mut() {
            // Of several spaces the last goes with the word after it, as it does where there is one.
            Some(before) if takes_space && before.len() > 1 && before.ends_with(' ') => {
                before.pop();
                pieces.push(format!(" {piece}"));
            }
            _ => pieces.push(piece.to_string()),
        }
    }
    pieces.iter().map(|piece| piece.replace(' ', SPACE.encode_utf8(&mut [0; 4]))).collect()
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

/// What divides text: into bytes, or, with `bpe`, as tokenizers of runs before this version do.
fn before_pieces(bpe: bool) -> Value {
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

/// What LLaMA's own `tokenizer.json` does to a text: a space in front, and [`SPACE`] for each.
pub(super) fn space_normalizer() -> Value {
    json!({"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": SPACE},
        {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
    ]})
}

/// From pieces back to text: the inverse of [`space_normalizer`], and bytes.
pub(super) fn space_decoder() -> Value {
    json!({"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]})
}

/// A post-processor that puts the token `bos` before each text.
pub(super) fn begin_with(bos: &str, id: u32) -> Value {
    let special = |type_id: u32| json!({"SpecialToken": {"id": bos, "type_id": type_id}});
    let text = |name: &str, type_id: u32| json!({"Sequence": {"id": name, "type_id": type_id}});
    json!({
        "type": "TemplateProcessing",
        "single": [special(0), text("A", 0)],
        "pair": [special(0), text("A", 0), special(1), text("B", 1)],
        "special_tokens": {bos: {"id": bos, "ids": [id], "tokens": [bos]}},
    })
}

/// An entry of `added_tokens`.
pub(super) fn special_token(id: usize, content: &str, special: bool) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": special,
    })
}

fn tokenizer_json(vocab: &[String], merges: &[(String, String)], bpe: bool) -> String {
    let added = SPECIAL.iter().enumerate();
    let added: Vec<Value> = added.map(|(id, content)| special_token(id, content, true)).collect();
    let ids: HashMap<&String, usize> = vocab.iter().zip(0..).collect();
    let (normalizer, before, decoder) = match bpe {
        true => (space_normalizer(), Value::Null, space_decoder()),
        false => (Value::Null, before_pieces(false), before_pieces(false)),
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": normalizer, "pre_tokenizer": before,
        "post_processor": begin_with(SPECIAL[1], 1),
        "decoder": decoder,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": SPECIAL[0],
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
            "byte_fallback": bpe, "ignore_merges": false, "vocab": ids, "merges": merges,
        },
    })
    .to_string()
}

/// Whether a `tokenizer.json` was made here before there was a post-processor. Then a document
/// followed the end token of the one before, and no begin token was ever trained.
pub(super) fn is_earlier(json: &Value) -> bool {
    json["post_processor"].is_null()
        && json["normalizer"].is_null()
        && [before_pieces(true), before_pieces(false)].contains(&json["pre_tokenizer"])
}

/// Whether a `tokenizer.json` divides text as those made here before do: then line ends are pieces
/// of their own.
pub(super) fn divides_at_lines(json: &Value) -> bool {
    json["normalizer"].is_null()
        && [before_pieces(true), before_pieces(false)].contains(&json["pre_tokenizer"])
}

/// Whether a `tokenizer.json` is the byte-level tokenizer.
pub(super) fn is_bytes(json: &Value) -> bool {
    json["pre_tokenizer"] == before_pieces(false)
        && json["post_processor"] == begin_with(SPECIAL[1], 1)
        && json["model"]["vocab"].as_object().is_some_and(|vocab| vocab.len() == BYTES_END)
}
