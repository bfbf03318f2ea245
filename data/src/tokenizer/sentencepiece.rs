//! `tokenizer.model`: a SentencePiece model of BPE, as LLaMA 1 and 2 and Mistral came with. It is read
//! here, told to the `tokenizers` crate as the `tokenizer.json` that says the same, and kept as it
//! came.
//!
//! The file is a protocol buffer, `ModelProto` of sentencepiece_model.proto: fields with a number and
//! a wire type, of which only those below matter.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::own::{begin_with, space_decoder, space_normalizer, special_token};
use crate::train_bpe::SPACE;

/// What to do about a model that is not one of these.
const REMEDY: &str = "give the model's tokenizer.json";

/// What a piece is, by its number in the file.
const NORMAL: u64 = 1;
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;
const UNUSED: u64 = 5;
const BYTE: u64 = 6;

/// A SentencePiece model.
pub(super) struct Model {
    pieces: Vec<Piece>,
    /// Whether a space is put before a text.
    pub dummy_prefix: bool,
    byte_fallback: bool,
    bos: Option<u32>,
    eos: Option<u32>,
}

struct Piece {
    text: String,
    score: f32,
    kind: u64,
}

impl Model {
    /// Reads a file's bytes.
    ///
    /// # Errors
    /// What is wrong with them, or needs what is not computed here, and the remedy.
    pub(super) fn parse(bytes: &[u8]) -> Result<Model, String> {
        let (mut pieces, mut trainer, mut normalizer) = (Vec::new(), &[][..], &[][..]);
        for field in fields(bytes) {
            match field? {
                (1, Content::Bytes(piece)) => pieces.push(Piece::parse(piece)?),
                (2, Content::Bytes(spec)) => trainer = spec,
                (3, Content::Bytes(spec)) => normalizer = spec,
                _ => {}
            }
        }
        if pieces.is_empty() {
            return Err("no pieces in it, so it is no SentencePiece model".to_string());
        }
        let trainer = Spec::of(trainer)?;
        let normalizer = Spec::of(normalizer)?;
        let needs = |what: &str| Err(format!("{what}: {REMEDY}"));
        match trainer.number(3, 1) {
            2 => {}
            1 => return needs("it is a unigram model and not BPE"),
            _ => return needs("it is not BPE"),
        }
        if pieces.iter().any(|piece| piece.kind == UNUSED) {
            return needs("some of its pieces are unused");
        }
        if trainer.number(24, 0) != 0 {
            return needs("it puts spaces after words");
        }
        if normalizer.has_text(2) {
            return needs("it normalises characters");
        }
        if normalizer.number(4, 1) != 0 {
            return needs("it removes spaces");
        }
        if normalizer.number(5, 1) == 0 {
            return needs("it leaves spaces as they are");
        }
        // Minus one, which takes ten bytes, says that there is none.
        let id = |number, default| u32::try_from(trainer.number(number, default)).ok();
        let known = |id: &u32| (*id as usize) < pieces.len();
        let (bos, eos) = (id(41, 1).filter(known), id(42, 2).filter(known));
        let (dummy_prefix, byte_fallback) =
            (normalizer.number(3, 1) != 0, trainer.number(35, 0) != 0);
        Ok(Model { pieces, dummy_prefix, byte_fallback, bos, eos })
    }

    /// Texts that are one token wherever they stand, the longest first.
    pub(super) fn symbols(&self) -> Vec<(String, u32)> {
        self.texts(|kind| kind == USER_DEFINED)
    }

    /// Special tokens, the longest first.
    pub(super) fn special(&self) -> Vec<(String, u32)> {
        self.texts(|kind| matches!(kind, UNKNOWN | CONTROL))
    }

    fn texts(&self, wanted: impl Fn(u64) -> bool) -> Vec<(String, u32)> {
        let texts = self.pieces.iter().zip(0..).filter(|(piece, _)| wanted(piece.kind));
        let mut texts: Vec<_> = texts.map(|(piece, id)| (piece.text.clone(), id)).collect();
        texts.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        texts
    }

    /// Whether no token reaches from one word into the next, so that words can be encoded one by one.
    pub(super) fn keeps_words_apart(&self) -> bool {
        let mut normal = self.pieces.iter().filter(|piece| piece.kind == NORMAL);
        let single = |piece: &Piece| piece.text.chars().eq([SPACE]);
        normal.clone().any(single)
            && !normal.any(|piece| piece.text.trim_start_matches(SPACE).contains(SPACE))
    }

    /// The `tokenizer.json` that says the same, with a begin token before each text if `begins`.
    pub(super) fn json(&self, begins: bool) -> Value {
        let vocab: Map<String, Value> =
            self.pieces.iter().zip(0u32..).map(|(p, id)| (p.text.clone(), id.into())).collect();
        let added = self.pieces.iter().enumerate().filter_map(|(id, piece)| match piece.kind {
            UNKNOWN | CONTROL => Some(special_token(id, &piece.text, true)),
            USER_DEFINED => Some(special_token(id, &piece.text, false)),
            _ => None,
        });
        let unknown = self.pieces.iter().find(|piece| piece.kind == UNKNOWN);
        let template = self.bos.filter(|_| begins);
        let template = template.map(|id| begin_with(&self.pieces[id as usize].text, id));
        let (mut normalizer, mut decoder) = (space_normalizer(), space_decoder());
        if !self.dummy_prefix {
            // The first puts a space before a text, the last takes it away.
            normalizer["normalizers"].as_array_mut().expect("it is a list").remove(0);
            decoder["decoders"].as_array_mut().expect("it is a list").pop();
        }
        json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": added.collect::<Vec<_>>(),
            "normalizer": normalizer, "pre_tokenizer": null, "post_processor": template,
            "decoder": decoder,
            "model": {
                "type": "BPE", "dropout": null, "unk_token": unknown.map(|piece| &piece.text),
                "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
                "byte_fallback": self.byte_fallback, "ignore_merges": false, "vocab": vocab,
                "merges": self.merges(),
            },
        })
    }

    /// What `transformers` wants beside a `tokenizer.model` that came without it.
    pub(super) fn config(&self) -> Map<String, Value> {
        let name = |id: Option<u32>| id.map(|id| self.pieces[id as usize].text.clone());
        let unknown = self.pieces.iter().find(|piece| piece.kind == UNKNOWN);
        let config = json!({
            "tokenizer_class": "LlamaTokenizer", "bos_token": name(self.bos),
            "eos_token": name(self.eos), "unk_token": unknown.map(|piece| &piece.text),
            "add_bos_token": true, "add_eos_token": false, "legacy": true,
            "clean_up_tokenization_spaces": false,
        });
        config.as_object().expect("it is written as an object").clone()
    }

    /// Every pair of pieces that spells a piece, those of the best score first.
    fn merges(&self) -> Vec<(&str, &str)> {
        let mut pieces: Vec<&Piece> =
            self.pieces.iter().filter(|piece| piece.kind == NORMAL).collect();
        let known: HashSet<&str> = pieces.iter().map(|piece| piece.text.as_str()).collect();
        pieces.sort_by(|a, b| b.score.total_cmp(&a.score));
        let mut merges = Vec::new();
        for piece in pieces {
            for (at, _) in piece.text.char_indices().skip(1) {
                let (left, right) = piece.text.split_at(at);
                if known.contains(left) && known.contains(right) {
                    merges.push((left, right));
                }
            }
        }
        merges
    }
}

impl Piece {
    fn parse(bytes: &[u8]) -> Result<Piece, String> {
        let mut piece = Piece { text: String::new(), score: 0.0, kind: NORMAL };
        for field in fields(bytes) {
            match field? {
                (1, Content::Bytes(text)) => {
                    let text = std::str::from_utf8(text).map_err(|_| "a piece is not UTF-8")?;
                    piece.text = text.to_string();
                }
                (2, Content::Fixed(score)) => piece.score = f32::from_bits(score),
                (3, Content::Number(kind)) => piece.kind = kind,
                _ => {}
            }
        }
        let byte = piece.text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
        let digit = |c: u8| c.is_ascii_hexdigit();
        let named = byte.is_some_and(|hex| hex.len() == 2 && hex.bytes().all(digit));
        match piece.kind == BYTE && !named {
            true => Err(format!("piece {:?} stands for no byte", piece.text)),
            false => Ok(piece),
        }
    }
}

/// The numbers of a message, and which of its texts are not empty.
struct Spec {
    numbers: HashMap<u64, u64>,
    texts: HashSet<u64>,
}

impl Spec {
    fn of(bytes: &[u8]) -> Result<Spec, String> {
        let mut spec = Spec { numbers: HashMap::new(), texts: HashSet::new() };
        for field in fields(bytes) {
            match field? {
                (number, Content::Number(value)) => _ = spec.numbers.insert(number, value),
                (number, Content::Bytes(text)) if !text.is_empty() => _ = spec.texts.insert(number),
                _ => {}
            }
        }
        Ok(spec)
    }

    fn number(&self, number: u64, default: u64) -> u64 {
        self.numbers.get(&number).copied().unwrap_or(default)
    }

    fn has_text(&self, number: u64) -> bool {
        self.texts.contains(&number)
    }
}

/// What a field of a message holds.
enum Content<'a> {
    Number(u64),
    Fixed(u32),
    Bytes(&'a [u8]),
    /// Eight bytes, which no field here has.
    Other,
}

/// The fields of a message, each with its number.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = Result<(u64, Content<'_>), String>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = next_field(&mut rest);
        if field.is_none() {
            rest = &[];
        }
        Some(field.ok_or_else(|| "it ends early or is no SentencePiece model".to_string()))
    })
}

fn next_field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Content<'a>)> {
    let key = varint(rest)?;
    let content = match key & 7 {
        0 => Content::Number(varint(rest)?),
        1 => rest.split_off(..8).map(|_| Content::Other)?,
        2 => {
            let len = usize::try_from(varint(rest)?).ok()?;
            Content::Bytes(rest.split_off(..len)?)
        }
        5 => Content::Fixed(u32::from_le_bytes(rest.split_off(..4)?.try_into().ok()?)),
        _ => return None,
    };
    Some((key >> 3, content))
}

/// Seven bits a byte, the lowest first.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *rest.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Cuts `text` at its symbols: what is between them, and ids of them.
pub(super) fn split<'t>(text: &'t str, symbols: &[(String, u32)]) -> Vec<Result<u32, &'t str>> {
    let (mut parts, mut from, mut at) = (Vec::new(), 0, 0);
    while at < text.len() && !symbols.is_empty() {
        let here = symbols.iter().find(|(symbol, _)| text[at..].starts_with(symbol.as_str()));
        match here {
            Some((symbol, id)) => {
                parts.extend((from < at).then(|| Err(&text[from..at])));
                parts.push(Ok(*id));
                at += symbol.len();
                from = at;
            }
            None => at += text[at..].chars().next().map_or(1, char::len_utf8),
        }
    }
    parts.extend((from < text.len()).then(|| Err(&text[from..])));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_cut_out_the_longest_first() {
        let symbols = [("<ab>".to_string(), 7), ("<a".to_string(), 8)];
        assert_eq!(split("x<ab>y<a", &symbols), [Err("x"), Ok(7), Err("y"), Ok(8)]);
        assert_eq!(split("<a<a", &symbols), [Ok(8), Ok(8)]);
        assert_eq!(split("\u{e9}x", &symbols), [Err("\u{e9}x")]);
        assert_eq!(split("x", &[]), [Err("x")]);
    }

    /// Whatever the bytes: an answer, and no panic.
    #[test]
    fn damaged_files_are_refused() {
        let whole = [&[10, 6, 10, 1, b'a', 24, 1, 0x18][..], &[18, 2, 24, 2]].concat();
        for end in 0..whole.len() {
            assert!(Model::parse(&whole[..end]).is_err(), "{end}");
        }
        for bytes in [&[0xff; 12][..], &[10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]]
        {
            assert!(Model::parse(bytes).is_err());
        }
        assert!(Model::parse(b"version https://git-lfs.github.com/spec/v1").is_err());
    }
}
