//! Stack Exchange: a question with its answers is one document.
//!
//! Source of the rules: Touvron et al. 2023, arXiv:2302.13971, section 2.1: the 28 largest sites,
//! HTML cut, answers from the highest score to the lowest. Input: `Posts.xml` of a site's dump, one
//! `<row .../>` a line, which is how Stack Exchange writes it: each line is read by itself, so a
//! broken one costs one post.
//!
//! ```
//! use data::corpus::{self, Source, explain, run, stackexchange};
//!
//! let folder = tempfile::tempdir()?;
//! let input = folder.path().join("coffee.stackexchange.com.Posts.xml");
//! std::fs::write(&input, r#"<posts>
//! <row Id="1" PostTypeId="1" Score="3" Title="Sugar?" Body="&lt;p&gt;How much?&lt;/p&gt;" />
//! <row Id="2" PostTypeId="2" ParentId="1" Score="5" Body="&lt;b&gt;None&lt;/b&gt;." />
//! </posts>"#)?;
//! let source = Source::Stackexchange(stackexchange::Options::default());
//! let options = corpus::Options::new(source, vec![input], folder.path().join("out"));
//! run(&options, &Default::default(), &mut |_| {})?;
//! let found = explain(&options.out, "coffee.stackexchange.com/1")?;
//! assert_eq!(found[0].document.text, "Q: Sugar?\n\nHow much?\n\nA: None.");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod join;

use std::io::BufReader;
use std::path::{Path, PathBuf};

use memchr::memchr;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::join::Join;
use super::document::{Document, Trail};
use super::documents::{Lines, TakeLine, each_line, place};
use super::input::{self, ArchiveError, Format, Piece, Shard};
use super::markup::{Layout, push_html_text, push_unescaped};
use super::sink::Sink;
use crate::Error;
use crate::text::find;

/// Bytes of posts held in memory while a site's questions and answers are joined.
const HELD_BYTES: usize = 256 << 20;

/// Thresholds, and quirks of RedPajama's scripts that the proof of agreement needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Sites that are kept, those with most posts.
    pub sites: usize,
    /// Answers that a question must have.
    pub min_answers: usize,
    /// Sorts scores as text, so that 9 comes before 10, as RedPajama does.
    pub scores_as_text: bool,
    /// Lays text out as RedPajama does: a title is read as HTML, `<ol>` is an item too, blank lines
    /// between elements go, `<br>` is nothing, and ends of lines are not trimmed.
    pub redpajama_layout: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { sites: 28, min_answers: 0, scores_as_text: false, redpajama_layout: false }
    }
}

/// A question, or an answer to one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Post {
    /// Its number on the site.
    pub id: u64,
    /// The question that it answers.
    pub parent: Option<u64>,
    /// Votes for it less votes against it.
    pub score: i64,
    /// A question's title, as text.
    pub title: String,
    /// What was written, as HTML.
    pub body: String,
    /// When, as the dump writes it.
    pub date: String,
}

/// See [`super::Source::shards`]: a site is a shard, because any of its answers may belong to any of
/// its questions.
pub(super) fn shards(options: &Options, inputs: &[PathBuf]) -> Result<Vec<Shard>, Error> {
    let files =
        find(inputs, &|path| site(path).is_some(), "Posts.xml (also .gz, .zst or .bz2), .7z")?;
    let pieces = files.iter().map(|path| Piece::whole(path)).collect::<Result<Vec<_>, _>>()?;
    let mut kept: Vec<usize> = (0..pieces.len()).collect();
    if pieces.len() > options.sites {
        let posts = pieces.iter().map(count_posts).collect::<Result<Vec<_>, _>>()?;
        kept.sort_by_key(|&i| (std::cmp::Reverse(posts[i]), site(&pieces[i].path)));
        kept.truncate(options.sites);
        kept.sort_unstable();
    }
    Ok(kept.into_iter().map(|i| Shard { pieces: vec![pieces[i].clone()] }).collect())
}

/// The site that a file is of: `ai.stackexchange.com/Posts.xml`, `ai.stackexchange.com.Posts.xml.gz`,
/// `ai.stackexchange.com.7z` and `ai.stackexchange.com-Posts.7z` are all of `ai.stackexchange.com`.
fn site(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let name = [".gz", ".zst", ".bz2"].iter().find_map(|e| name.strip_suffix(e)).unwrap_or(name);
    let before = match name.strip_suffix(".7z") {
        Some(archive) => archive.strip_suffix("-Posts").unwrap_or(archive),
        None => name.strip_suffix("Posts.xml")?.trim_end_matches(['.', '-', '_']),
    };
    let folder = || path.parent()?.file_name()?.to_str();
    Some(if before.is_empty() { folder().unwrap_or("site") } else { before }.to_string())
}

/// Rows of a site's dump: questions, answers and all other posts, as its size is counted.
fn count_posts(piece: &Piece) -> Result<u64, Error> {
    let mut posts = 0;
    let mut none = |_, _| Ok(());
    let mut sink = Sink::new(input::Meter::default(), &mut none);
    each_row(piece, &mut sink, &mut |_, _, line| {
        posts += u64::from(line.trim_ascii_start().starts_with(b"<row "));
        Ok(())
    })?;
    Ok(posts)
}

/// See [`super::Source::read`].
pub(super) fn read(options: &Options, shard: &Shard, sink: &mut Sink) -> Result<(), Error> {
    for piece in &shard.pieces {
        let site = site(&piece.path).unwrap_or_default();
        let mut join = Join::new(HELD_BYTES);
        read_rows(&site, piece, &mut join, sink)?;
        let scratch = |source| Error::Write { path: std::env::temp_dir(), source };
        let mut questions = join.finish().map_err(scratch)?;
        while let Some(group) = questions.next_group().map_err(scratch)? {
            let (document, trail) = document(&site, group, options);
            sink.push(document, trail)?;
        }
    }
    Ok(())
}

/// Reads all rows of a site; what is neither question nor answer goes at once.
fn read_rows(site: &str, piece: &Piece, join: &mut Join, sink: &mut Sink) -> Result<(), Error> {
    each_row(piece, sink, &mut |sink, start, line| match std::str::from_utf8(line)
        .map_err(|e| e.to_string())
        .and_then(parse_row)
    {
        Ok(None) => Ok(()),
        Ok(Some((Kind::Other(kind), post))) => {
            let mut trail = Trail::default();
            trail.say("post_type", false, kind as f64, 2.0);
            let id = format!("{site}/{}", post.id);
            let source = "stackexchange".to_string();
            sink.push(Document { text: post.body, source, id, meta: Map::new() }, trail)
        }
        Ok(Some((Kind::Question | Kind::Answer, post))) => {
            join.push(post).map_err(|source| Error::Write { path: std::env::temp_dir(), source })
        }
        Err(reason) => {
            sink.pass_over("broken_row", place(&piece.path, start), reason);
            Ok(())
        }
    })
}

/// Gives `take` each line of a site's posts, and the byte where it begins. The site's archive as it
/// is published, a .7z, is read as it is.
fn each_row(piece: &Piece, sink: &mut Sink, take: &mut TakeLine) -> Result<(), Error> {
    let (meter, path) = (sink.meter().clone(), &piece.path);
    if Format::of(path) != Some(Format::SevenZip) {
        let lines = Lines::new(input::open(piece, &meter)?, 0);
        return each_line(path, lines, u64::MAX, sink, take);
    }
    let read = input::entries(piece, &meter, &mut |entry| {
        if entry.path.file_name().is_none_or(|name| name != "Posts.xml") {
            return Ok(());
        }
        let content = BufReader::with_capacity(1 << 16, entry.content);
        each_line(path, Lines::new(Box::new(content), 0), u64::MAX, sink, take)
    });
    match read {
        Ok(()) => Ok(()),
        Err(ArchiveError::Visitor(e)) => Err(e),
        Err(ArchiveError::Damaged(reason)) => {
            // A stop looks like a failed read.
            meter.check()?;
            sink.pass_over("unreadable", path.display().to_string(), reason);
            Ok(())
        }
    }
}

enum Kind {
    Question,
    Answer,
    /// Wikis of tags, elections, and what else the site files among posts: its number.
    Other(u64),
}

/// A post from its line; none if the line is the frame around all rows, what is wrong otherwise.
fn parse_row(line: &str) -> Result<Option<(Kind, Post)>, String> {
    let line = line.trim_start_matches('\u{FEFF}').trim();
    let Some(mut rest) = line.strip_prefix("<row ") else {
        let frame = ["<?xml", "<posts", "</posts>"].iter().any(|tag| line.starts_with(tag));
        return if frame || line.is_empty() { Ok(None) } else { Err("not a row".to_string()) };
    };
    let mut post = Post {
        id: 0,
        parent: None,
        score: 0,
        title: String::new(),
        body: String::new(),
        date: String::new(),
    };
    let (mut kind, mut id) = (None, None);
    while !rest.starts_with("/>") {
        let (name, after) = rest.split_once("=\"").ok_or("an attribute without a value")?;
        let end = memchr(b'"', after.as_bytes()).ok_or("a value that does not end")?;
        let value = &after[..end];
        rest = after[end + 1..].trim_start();
        let number = || value.parse::<i64>().map_err(|_| format!("{name} is {value:?}, no number"));
        match name {
            "Id" => id = Some(number()? as u64),
            "PostTypeId" => kind = Some(number()?),
            "ParentId" => post.parent = Some(number()? as u64),
            "Score" => post.score = number()?,
            "Title" => push_unescaped(value, &mut post.title),
            "Body" => push_unescaped(value, &mut post.body),
            "CreationDate" => post.date = value.to_string(),
            _ => {}
        }
    }
    post.id = id.ok_or("no Id")?;
    let kind = match kind.ok_or("no PostTypeId")? {
        1 => Kind::Question,
        2 if post.parent.is_none() => return Err("an answer without ParentId".to_string()),
        2 => Kind::Answer,
        other => Kind::Other(other as u64),
    };
    Ok(Some((kind, post)))
}

/// A question, which comes first, and its answers as one document.
fn document(site: &str, mut group: Vec<Post>, options: &Options) -> (Document, Trail) {
    let question = if group[0].parent.is_none() { Some(group.remove(0)) } else { None };
    let mut answers = group;
    if options.scores_as_text {
        answers.sort_by_key(|post| std::cmp::Reverse(post.score.to_string()));
    } else {
        answers.sort_by_key(|post| std::cmp::Reverse(post.score));
    }
    let mut trail = Trail::default();
    let mut meta = Map::new();
    let id = question.as_ref().map_or_else(|| answers[0].parent.unwrap_or(0), |post| post.id);
    let text = match &question {
        Some(post) => {
            meta.insert("url".into(), Value::from(format!("https://{site}/questions/{id}")));
            meta.insert("date".into(), Value::from(post.date.as_str()));
            meta.insert("score".into(), Value::from(post.score));
            meta.insert("answers".into(), Value::from(answers.len()));
            text(post, &answers, options)
        }
        None => answers.iter().map(|post| post.body.as_str()).collect::<Vec<_>>().join("\n"),
    };
    if let Some(post) = &question {
        let bodies = answers.iter().chain([post]).map(|post| post.body.len() + post.title.len());
        trail.cut("html", bodies.sum::<usize>().saturating_sub(text.len()));
        trail.at_least("answers", answers.len() as f64, options.min_answers as f64);
    } else {
        // The dump holds the answers of a question that was deleted.
        trail.say("question", false, 0.0, 1.0);
    }
    let (source, id) = ("stackexchange".to_string(), format!("{site}/{id}"));
    (Document { text, source, id, meta }, trail)
}

/// `Q: title body`, then `A: body` for each answer in the order given.
pub fn text(question: &Post, answers: &[Post], options: &Options) -> String {
    let mut out = "Q: ".to_string();
    if options.redpajama_layout {
        let html = format!("{} {}", question.title, question.body);
        push_html_text(&html, Layout::RedPajama, &mut out);
        for answer in answers {
            out.push_str("\nA: ");
            push_html_text(&answer.body, Layout::RedPajama, &mut out);
        }
        return out;
    }
    out.push_str(question.title.trim());
    let mut part = String::new();
    for (i, post) in [question].into_iter().chain(answers).enumerate() {
        part.clear();
        push_html_text(&post.body, Layout::Plain, &mut part);
        let part = part.trim();
        if !part.is_empty() {
            out.push_str(if i == 0 { "\n\n" } else { "\n\nA: " });
            out.push_str(part);
        }
    }
    out
}
