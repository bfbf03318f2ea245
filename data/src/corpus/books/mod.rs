//! Books: a text of Project Gutenberg is one document, without what Gutenberg says around it.
//!
//! Source of the rules: Touvron et al. 2023, arXiv:2302.13971, section 2.1: Gutenberg and Books3,
//! of which the latter was withdrawn; books that share more than 90 % of their content are one.
//! Which of them stays is decided over all books, see [`near`] for what is compared.
//!
//! Input: `.txt` files, one book each, in UTF-8 or in the encoding that their head names.
//!
//! ```
//! use data::corpus::books::{Options, document};
//!
//! let book = "Title: Hamlet\n*** START OF THE PROJECT GUTENBERG EBOOK HAMLET ***\nTo be\n";
//! let (document, trail) = document("1524".into(), book.into(), &Options::default());
//! assert!(trail.dropped().is_none());
//! assert_eq!((document.text, document.meta["title"].as_str()), ("To be".into(), Some("Hamlet")));
//! ```

pub mod gutenberg;
pub mod near;

use std::path::PathBuf;

use memchr::memmem;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::document::{Document, MAX_BYTES, Trail};
use super::encoding;
use super::input::{self, Piece, Shard};
use super::sink::Sink;
use crate::Error;
use crate::text::find;

/// Thresholds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Cuts what Gutenberg puts around a book.
    pub cut_gutenberg: bool,
    /// Characters of a book, at least. The paper names no limit.
    pub min_characters: f64,
    /// Writes RedPajama's SimHash of each book into `meta.simhash`.
    pub simhash: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { cut_gutenberg: true, min_characters: 1.0, simhash: false }
    }
}

/// Bytes of a book's head that are searched for its title and encoding.
const HEAD_BYTES: usize = 4096;

/// The document that a book is.
pub fn document(id: String, bytes: Vec<u8>, options: &Options) -> (Document, Trail) {
    let (text, encoding) = encoding::decode(bytes, |bytes| {
        let head = String::from_utf8_lossy(&bytes[..bytes.len().min(HEAD_BYTES)]).into_owned();
        field(&head, "Character set encoding:").map(String::from)
    });
    let text = text.replace("\r\n", "\n");
    let mut meta = Map::new();
    meta.insert("encoding".into(), Value::from(encoding));
    let end = (0..=HEAD_BYTES.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
    let head = &text[..end.unwrap_or(0)];
    for (key, name) in [("title", "Title:"), ("author", "Author:"), ("language", "Language:")] {
        if let Some(value) = field(head, name) {
            meta.insert(key.into(), Value::from(value));
        }
    }
    let mut trail = Trail::default();
    let body = if options.cut_gutenberg { gutenberg::body(&text) } else { 0..text.len() };
    trail.cut("gutenberg", text.len() - body.len());
    let text = text[body].to_string();
    if options.simhash {
        meta.insert("simhash".into(), Value::from(format!("{:016x}", near::simhash(&text))));
    }
    trail.at_least("characters", text.chars().count() as f64, options.min_characters);
    (Document { text, source: "books".into(), id, meta }, trail)
}

/// What follows `name` on its line.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let at = memmem::find(head.as_bytes(), name.as_bytes())? + name.len();
    let value = head[at..].lines().next()?.trim();
    (!value.is_empty()).then_some(value)
}

/// See [`super::Source::shards`].
pub(super) fn shards(inputs: &[PathBuf], shard_bytes: u64) -> Result<Vec<Shard>, Error> {
    let files = find(inputs, &|path| path.extension().is_some_and(|e| e == "txt"), ".txt")?;
    let pieces: Result<_, _> = files.iter().map(|path| Piece::whole(path)).collect();
    pieces.map(|pieces| input::group(pieces, shard_bytes))
}

/// See [`super::Source::read`].
pub(super) fn read(options: &Options, shard: &Shard, sink: &mut Sink) -> Result<(), Error> {
    for piece in &shard.pieces {
        if piece.bytes() > MAX_BYTES as u64 {
            let place = piece.path.display().to_string();
            sink.pass_over("too_long", place, format!("{} bytes", piece.bytes()));
            continue;
        }
        let bytes = std::fs::read(&piece.path).map_err(Error::read(&piece.path))?;
        sink.meter().add(bytes.len() as u64);
        let id = piece.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let (document, trail) = document(id, bytes, options);
        sink.push(document, trail)?;
    }
    Ok(())
}
