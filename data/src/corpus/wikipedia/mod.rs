//! Wikipedia: an article is one document.
//!
//! Source of the rules: Touvron et al. 2023, arXiv:2302.13971, section 2.1: twenty languages,
//! hyperlinks, comments and other formatting boilerplate removed. Input: `pages-articles` dumps,
//! `.xml` alone or packed by bzip2, gzip or zstd; a multistream one is divided between its streams.
//!
//! ```
//! use data::corpus::wikipedia::{Options, Page, document};
//!
//! let text = "'''Sofia''' is a [[city]].{{Cite|atlas}}".to_string();
//! let page = Page { title: "Sofia".into(), namespace: "0".into(), text, ..Page::default() };
//! let (document, _) = document(page, "en", &Options::default());
//! assert_eq!(document.text, "Sofia is a city.");
//! assert_eq!(document.meta["url"], "https://en.wikipedia.org/wiki/Sofia");
//! ```

mod dump;
mod namespaces;
pub mod wikitext;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::dump::Page;
use self::dump::{Broken, Damage, Pages, Streams, Utf16};
use self::wikitext::Layout;
use super::document::{Document, Trail};
use super::input::{self, Format, Metered, Piece, Shard};
use super::sink::Sink;
use crate::Error;
use crate::text::find;

/// Thresholds, and quirks of Hugging Face's script that the proof of agreement needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Languages that are kept, as their wikis are called.
    pub languages: Vec<String>,
    /// The language of all inputs; without it, their names tell: `bgwiki-..` is Bulgarian.
    pub language: Option<String>,
    /// Keeps the names of an article's categories, at its end.
    pub categories: bool,
    /// Keeps headings of sections that have no text.
    pub empty_sections: bool,
    /// Characters of an article, at least.
    pub min_characters: f64,
    /// Lays text out as Hugging Face's script does with `mwparserfromhell`.
    pub as_anchor: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            languages: namespaces::languages().map(String::from).collect(),
            language: None,
            categories: false,
            empty_sections: false,
            min_characters: 1.0,
            as_anchor: false,
        }
    }
}

/// The document that a page is.
pub fn document(page: Page, language: &str, options: &Options) -> (Document, Trail) {
    let mut trail = Trail::default();
    let mut meta = Map::new();
    let url = format!("https://{language}.wikipedia.org/wiki/{}", path(&page.title));
    meta.insert("title".into(), Value::from(page.title));
    meta.insert("url".into(), Value::from(url));
    meta.insert("language".into(), Value::from(language));
    meta.insert("timestamp".into(), Value::from(page.timestamp));
    let (source, id) = (format!("wikipedia/{language}"), page.id);
    let mut document = Document { text: page.text, source, id, meta };
    let known = options.languages.iter().any(|known| known == language);
    let number = page.namespace.parse().unwrap_or(f64::NAN);
    if trail.say("language", known, f64::from(u8::from(known)), 1.0)
        && trail.say("namespace", number == 0.0, number, 0.0)
        && trail.say("redirect", !page.redirect, f64::from(u8::from(page.redirect)), 0.0)
    {
        let layout = Layout {
            language,
            categories: options.categories,
            empty_sections: options.empty_sections,
            as_anchor: options.as_anchor,
        };
        let text = wikitext::strip(&document.text, layout);
        trail.cut("wikitext", document.text.len().saturating_sub(text.len()));
        document.text = text;
        let characters = document.text.chars().count() as f64;
        trail.at_least("characters", characters, options.min_characters);
    }
    (document, trail)
}

/// A title as part of an address, as Python's `quote` writes it.
fn path(title: &str) -> String {
    let mut out = String::new();
    for &byte in title.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"_.-~/".contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The language of a dump, by its name: `enwiki-20220701-pages-articles.xml.bz2`.
fn language(path: &Path, options: &Options) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let told = || name.split_once("wiki").map(|(language, _)| language.replace('_', "-"));
    options.language.clone().or_else(told).unwrap_or_default()
}

fn is_bzip2(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "bz2")
}

/// See [`super::Source::shards`].
pub(super) fn shards(inputs: &[PathBuf], shard_bytes: u64) -> Result<Vec<Shard>, Error> {
    let wanted = |path: &Path| Format::of(path) == Some(Format::Xml);
    let files = find(inputs, &wanted, ".xml (also .bz2, .gz or .zst)")?;
    let mut pieces = Vec::new();
    for path in &files {
        let whole = Piece::whole(path)?;
        if is_bzip2(path) {
            divide(whole, shard_bytes, &mut pieces)?;
        } else {
            pieces.push(whole);
        }
    }
    Ok(input::group(pieces, shard_bytes))
}

/// Divides a file between streams, into pieces of at least `piece_bytes`.
fn divide(whole: Piece, piece_bytes: u64, pieces: &mut Vec<Piece>) -> Result<(), Error> {
    let mut file = File::open(&whole.path).map_err(Error::read(&whole.path))?;
    let (mut start, mut offset) = (whole.start, 0);
    let mut bytes = Vec::new();
    loop {
        let count = file.by_ref().take(1 << 20).read_to_end(&mut bytes);
        if count.map_err(Error::read(&whole.path))? == 0 {
            break;
        }
        let mut from = 0;
        while let Some(at) = dump::next_start(&bytes, from) {
            let place = offset + at as u64;
            if place >= start + piece_bytes {
                pieces.push(Piece { path: whole.path.clone(), start, end: place });
                start = place;
            }
            from = at + dump::MARK;
        }
        // A mark may lie across the border of two reads.
        let done = bytes.len().saturating_sub(dump::MARK - 1);
        bytes.drain(..done);
        offset += done as u64;
    }
    pieces.push(Piece { start, ..whole });
    Ok(())
}

/// See [`super::Source::read`].
pub(super) fn read(options: &Options, shard: &Shard, sink: &mut Sink) -> Result<(), Error> {
    for piece in &shard.pieces {
        let language = language(&piece.path, options);
        let damage = Damage::default();
        let mut reader = open(piece, &damage, sink)?;
        let big_endian = reader.fill_buf().ok().and_then(dump::utf16);
        let mut pages = Pages::new(match big_endian {
            Some(big_endian) => Box::new(BufReader::new(Utf16::new(reader, big_endian))),
            None => reader,
        });
        let place = piece.path.display();
        loop {
            let page = pages.next_page();
            for reason in damage.take() {
                sink.pass_over("unreadable", place.to_string(), reason);
            }
            match page {
                Ok(None) => break,
                Ok(Some(Ok(page))) => {
                    let (document, trail) = document(page, &language, options);
                    sink.push(document, trail)?;
                }
                Ok(Some(Err(Broken { line, reason }))) => {
                    sink.pass_over("broken_page", format!("{place}: line {line}"), reason);
                }
                Err(e) => {
                    // A stop looks like a failed read.
                    sink.meter().check()?;
                    sink.pass_over("unreadable", place.to_string(), e.to_string());
                    break;
                }
            }
        }
    }
    Ok(())
}

fn open(piece: &Piece, damage: &Damage, sink: &Sink) -> Result<Box<dyn BufRead>, Error> {
    if !is_bzip2(&piece.path) {
        return input::open(piece, sink.meter());
    }
    let mut file = File::open(&piece.path).map_err(Error::read(&piece.path))?;
    file.seek(SeekFrom::Start(piece.start)).map_err(Error::read(&piece.path))?;
    let raw = Metered::new(file.take(piece.bytes()), sink.meter());
    let streams = Streams::new(BufReader::with_capacity(1 << 16, raw), damage.clone());
    Ok(Box::new(BufReader::with_capacity(1 << 16, streams)))
}
