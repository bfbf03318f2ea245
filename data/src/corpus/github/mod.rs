//! GitHub: a file of a project under the Apache, BSD or MIT licence is one document.
//!
//! Source of the rules: Touvron et al. 2023, arXiv:2302.13971, section 2.1: those licences; low
//! quality told by the length of lines and the share of letters and digits; headers cut; exact
//! duplicates of files gone. The paper names no threshold: these are RedPajama's, as is the list of
//! suffixes. Duplicates are another stage's; `meta.content_hash` is what it compares, made of the
//! file before its header is cut.
//!
//! Input: folders of checkouts, or rows of BigQuery's export, `{content, path, repo_name, license}`
//! as .jsonl, .gz or .zst.
//!
//! ```
//! use data::corpus::{self, Source, github, run};
//!
//! let folder = tempfile::tempdir()?;
//! let rows = folder.path().join("rows.jsonl");
//! let row = r#"{"content": "int a;", "path": "a.c", "repo_name": "me/a", "license": "mit"}"#;
//! std::fs::write(&rows, format!("{row}\n{}\n", row.replace("mit", "gpl-3.0")))?;
//! let source = Source::Github(github::Options::default());
//! let options = corpus::Options::new(source, vec![rows], folder.path().join("out"));
//! let counts = run(&options, &Default::default(), &mut |_| {})?.counts;
//! assert_eq!(counts.kept.documents, 1);
//! assert_eq!(counts.rules["licence"].dropped.documents, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod header;
pub mod licence;
pub mod redpajama;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use xxhash_rust::xxh3::xxh3_128;

use super::document::{Document, MAX_BYTES, Trail};
use super::documents::{Lines, each_line, place};
use super::input::{self, Piece, Shard};
use super::sink::Sink;
use crate::Error;
use crate::text::{Kind, reason};
use crate::tokenizer::Tokenizer;

/// RedPajama's list, which the paper doesn't give.
const SUFFIXES: &str = ".asm .bat .cmd .c .h .cs .cpp .hpp .c++ .h++ .cc .hh .C .H .cmake .css \
    .dockerfile .f90 .f .f03 .f08 .f77 .f95 .for .fpp .go .hs .html .java .js .jl .lua .md \
    .markdown .php .php3 .php4 .php5 .phps .phpt .pl .pm .pod .perl .ps1 .psd1 .psm1 .py .rb .rs \
    .sql .scala .sh .bash .command .zsh .ts .tsx .tex .vb Dockerfile Makefile .xml .rst .m .smali";

/// Thresholds, and quirks of RedPajama's scripts that the proof of agreement needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// How the SPDX names of kept licences begin, in lower case.
    pub licences: Vec<String>,
    /// How kept files' names end; none for all files.
    pub suffixes: Vec<String>,
    /// Characters of the longest line, at most.
    pub longest_line: f64,
    /// Characters for each line, at most.
    pub mean_line: f64,
    /// Share of letters and digits among characters, at least.
    pub alphanumeric: f64,
    /// Letters for each token, at least; asked only if there is a `tokenizer`.
    pub letters_per_token: f64,
    /// The tokenizer.json that counts tokens for that.
    pub tokenizer: Option<PathBuf>,
    /// Cuts headers as RedPajama does, see [`redpajama`], and takes only files that are called
    /// `LICENSE` for licences.
    pub redpajama: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            licences: ["apache", "bsd", "mit"].map(String::from).to_vec(),
            suffixes: SUFFIXES.split_whitespace().map(String::from).collect(),
            longest_line: 1000.0,
            mean_line: 100.0,
            alphanumeric: 0.25,
            letters_per_token: 1.5,
            tokenizer: None,
            redpajama: false,
        }
    }
}

/// What the rules look at: counts of characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Lines, as Python's `splitlines` divides them.
    pub lines: usize,
    /// The longest of them.
    pub longest_line: usize,
    /// All characters.
    pub chars: usize,
    /// Letters and digits.
    pub alphanumeric: usize,
    /// Letters.
    pub letters: usize,
}

impl Shape {
    /// Counts in one pass.
    pub fn of(text: &str) -> Shape {
        let mut shape = Shape::default();
        let (mut line, mut after_cr) = (0, false);
        for c in text.chars() {
            shape.chars += 1;
            shape.letters += usize::from(c.is_alphabetic());
            shape.alphanumeric += usize::from(c.is_alphanumeric());
            if c == '\n' && after_cr {
                after_cr = false;
            } else if ends_line(c) {
                shape.lines += 1;
                shape.longest_line = shape.longest_line.max(line);
                line = 0;
                after_cr = c == '\r';
            } else {
                line += 1;
                after_cr = false;
            }
        }
        shape.lines += usize::from(line > 0);
        shape.longest_line = shape.longest_line.max(line);
        shape
    }

    /// Characters for each line, ends of lines included.
    pub fn mean_line(&self) -> f64 {
        self.chars as f64 / self.lines.max(1) as f64
    }

    /// Share of letters and digits.
    pub fn alphanumeric_share(&self) -> f64 {
        self.alphanumeric as f64 / self.chars.max(1) as f64
    }
}

fn ends_line(c: char) -> bool {
    matches!(
        c,
        '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}

/// A file of a project, before any rule.
struct Source {
    project: String,
    path: String,
    licence: Option<String>,
    text: String,
}

/// The rules in their order; `tokens` counts tokens if there is a tokenizer.
fn document(
    source: Source,
    options: &Options,
    tokenizer: Option<&Tokenizer>,
) -> Result<(Document, Trail), Error> {
    let mut trail = Trail::default();
    let Source { project, path, licence, text } = source;
    let mut meta = Map::new();
    meta.insert("project".into(), Value::from(project.as_str()));
    meta.insert("path".into(), Value::from(path.as_str()));
    meta.insert("licence".into(), licence.as_deref().map_or(Value::Null, Value::from));
    meta.insert("content_hash".into(), Value::from(format!("{:032x}", xxh3_128(text.as_bytes()))));
    let mut document =
        Document { text, source: "github".into(), id: format!("{project}/{path}"), meta };
    let lower = licence.unwrap_or_default().to_ascii_lowercase();
    let kept = options.licences.iter().any(|name| lower.starts_with(name.as_str()));
    let name = Path::new(&path).file_name().unwrap_or_default().to_string_lossy();
    let ends = |suffix: &String| name.ends_with(suffix.as_str());
    let suffix = options.suffixes.is_empty() || options.suffixes.iter().any(ends);
    let licence_file = match options.redpajama {
        true => path == "LICENSE",
        false => licence::is_licence_file(&name),
    };
    let code = !licence_file && !path.ends_with(".crt");
    if trail.say("licence", kept, f64::from(u8::from(kept)), 1.0)
        && trail.say("suffix", suffix && code, f64::from(u8::from(suffix && code)), 1.0)
    {
        let before = document.text.len();
        document.text = match options.redpajama {
            true => redpajama::cut_header(&document.text),
            false => header::cut(&document.text, &path),
        };
        trail.cut("header", before - document.text.len());
        judge(&mut document, &mut trail, options, tokenizer)?;
    }
    Ok((document, trail))
}

/// The rules on the text itself, with their measures in `meta` under RedPajama's names.
fn judge(
    document: &mut Document,
    trail: &mut Trail,
    options: &Options,
    tokenizer: Option<&Tokenizer>,
) -> Result<(), Error> {
    let shape = Shape::of(&document.text);
    let (mean, share) = (shape.mean_line(), shape.alphanumeric_share());
    document.meta.insert("line_count".into(), Value::from(shape.lines));
    document.meta.insert("max_line_length".into(), Value::from(shape.longest_line));
    document.meta.insert("avg_line_length".into(), Value::from(mean));
    document.meta.insert("alnum_prop".into(), Value::from(share));
    let kept = trail.at_least("characters", shape.chars as f64, 1.0)
        && trail.at_most("longest_line", shape.longest_line as f64, options.longest_line)
        && trail.at_most("mean_line", mean, options.mean_line)
        && trail.at_least("alphanumeric", share, options.alphanumeric);
    if let (true, Some(tokenizer)) = (kept, tokenizer) {
        let tokens = tokenizer.encode(&document.text)?.len();
        let letters = shape.letters as f64 / tokens.max(1) as f64;
        trail.at_least("letters_per_token", letters, options.letters_per_token);
    }
    Ok(())
}

/// See [`super::Source::shards`]. A project is never divided, and the files that hold its licences
/// come before its others.
pub(super) fn shards(inputs: &[PathBuf], shard_bytes: u64) -> Result<Vec<Shard>, Error> {
    let mut shards: Vec<Shard> = Vec::new();
    for input in inputs {
        if !std::fs::metadata(input).map_err(Error::read(input))?.is_dir() {
            if !is_rows(input) {
                let kinds = "folders of checkouts, .jsonl, .gz or .zst";
                return Err(Error::Unsupported { path: input.clone(), kinds });
            }
            shards.push(Shard { pieces: vec![Piece::whole(input)?] });
            continue;
        }
        let mut projects = Vec::new();
        find_projects(input, &mut projects)?;
        let mut shard = Shard::default();
        for mut pieces in projects {
            let bytes = pieces.iter().map(Piece::bytes).sum::<u64>();
            if !shard.pieces.is_empty() && shard.bytes() + bytes > shard_bytes {
                shards.push(std::mem::take(&mut shard));
            }
            shard.pieces.append(&mut pieces);
        }
        if !shard.pieces.is_empty() {
            shards.push(shard);
        }
    }
    Ok(shards)
}

/// Whether a file holds BigQuery's rows rather than code.
fn is_rows(path: &Path) -> bool {
    let gz = path.extension().is_some_and(|e| e == "gz");
    gz || matches!(Kind::of(path), Some(Kind::Jsonl | Kind::JsonlGz | Kind::JsonlZst))
}

/// The files of each project below `folder`: the first folders on the way down that hold a licence
/// or a `.git`.
fn find_projects(folder: &Path, projects: &mut Vec<Vec<Piece>>) -> Result<(), Error> {
    let (files, folders) = entries(folder)?;
    let is_root = |path: &PathBuf| is_licence_path(path);
    if files.iter().any(is_root) || folder.join(".git").exists() {
        let mut pieces = Vec::new();
        list(folder, &mut pieces)?;
        pieces.sort_by_key(|piece| !is_licence_path(&piece.path));
        projects.push(pieces);
        return Ok(());
    }
    folders.iter().try_for_each(|folder| find_projects(folder, projects))
}

fn is_licence_path(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(licence::is_licence_file)
}

/// All files below `folder` by path. Links are not followed, hidden names passed over.
fn list(folder: &Path, pieces: &mut Vec<Piece>) -> Result<(), Error> {
    let (files, folders) = entries(folder)?;
    for path in files {
        pieces.push(Piece::whole(&path)?);
    }
    folders.iter().try_for_each(|folder| list(folder, pieces))
}

/// Files and folders in `folder`, each by name.
fn entries(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), Error> {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder).map_err(Error::read(folder))? {
        let entry = entry.map_err(Error::read(folder))?;
        let kind = entry.file_type().map_err(Error::read(folder))?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        match () {
            () if kind.is_dir() => folders.push(entry.path()),
            () if kind.is_file() => files.push(entry.path()),
            () => {}
        }
    }
    files.sort();
    folders.sort();
    Ok((files, folders))
}

/// See [`super::Source::read`].
pub(super) fn read(options: &Options, shard: &Shard, sink: &mut Sink) -> Result<(), Error> {
    let tokenizer = options.tokenizer.as_deref().map(Tokenizer::load).transpose()?;
    let mut checkout = Checkout::default();
    for piece in &shard.pieces {
        if shard.pieces.len() == 1 && is_rows(&piece.path) {
            read_rows(options, piece, tokenizer.as_ref(), sink)?;
        } else if let Some(source) = checkout.read(options, piece, sink)? {
            let (document, trail) = document(source, options, tokenizer.as_ref())?;
            sink.push(document, trail)?;
        }
    }
    Ok(())
}

/// What is known of the projects of a shard of checkouts so far.
#[derive(Default)]
struct Checkout {
    /// By folder, the licence whose text lies there; none if it is no licence of ours.
    licences: BTreeMap<PathBuf, Option<licence::Licence>>,
}

impl Checkout {
    /// The licence of the nearest folder above a file that has one, and the outermost such folder,
    /// which is the project.
    fn place(&self, path: &Path) -> Option<(&Path, Option<licence::Licence>)> {
        let known = || path.ancestors().filter_map(|folder| self.licences.get_key_value(folder));
        Some((known().last()?.0, *known().next()?.1))
    }

    /// Reads a file; none if it is a licence, or is passed over.
    fn read(
        &mut self,
        options: &Options,
        piece: &Piece,
        sink: &mut Sink,
    ) -> Result<Option<Source>, Error> {
        let path = &piece.path;
        let name = path.to_string_lossy();
        let wanted = options.suffixes.is_empty()
            || is_licence_path(path)
            || options.suffixes.iter().any(|suffix| name.ends_with(suffix.as_str()));
        let text = if !wanted {
            String::new()
        } else if piece.bytes() > MAX_BYTES as u64 {
            sink.pass_over("too_long", name.to_string(), format!("{} bytes", piece.bytes()));
            return Ok(None);
        } else {
            let bytes = std::fs::read(path).map_err(Error::read(path))?;
            sink.meter().add(bytes.len() as u64);
            match String::from_utf8(bytes) {
                Ok(text) => text,
                Err(e) => {
                    let at = e.utf8_error().valid_up_to();
                    sink.pass_over("not_utf8", name.to_string(), format!("byte {at}"));
                    return Ok(None);
                }
            }
        };
        if is_licence_path(path) {
            let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
            let found = licence::detect(&text);
            // Two licences side by side are a choice: one of ours is enough.
            let known = self.licences.entry(folder).or_default();
            *known = known.or(found);
            return Ok(None);
        }
        let (project, licence) = self.place(path).unwrap_or((Path::new(""), None));
        let inner = path.strip_prefix(project).unwrap_or(path).to_string_lossy().into_owned();
        let project = project.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let licence = licence.map(|licence| licence.spdx().to_string());
        Ok(Some(Source { project, path: inner, licence, text }))
    }
}

#[derive(Deserialize)]
struct Row {
    content: Option<String>,
    path: String,
    repo_name: String,
    license: Option<String>,
}

fn read_rows(
    options: &Options,
    piece: &Piece,
    tokenizer: Option<&Tokenizer>,
    sink: &mut Sink,
) -> Result<(), Error> {
    let path = &piece.path;
    let lines = Lines::new(input::open(piece, sink.meter())?, 0);
    each_line(path, lines, u64::MAX, sink, &mut |sink, start, line| match serde_json::from_slice::<
        Row,
    >(line)
    {
        Ok(row) => {
            let Row { content, path, repo_name: project, license: licence } = row;
            let text = content.unwrap_or_default();
            let source = Source { project, path, licence, text };
            let (document, trail) = document(source, options, tokenizer)?;
            sink.push(document, trail)
        }
        Err(e) => {
            sink.pass_over("not_a_row", place(path, start), reason(&e));
            Ok(())
        }
    })
}
