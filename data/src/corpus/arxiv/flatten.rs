//! The files of a submission as one text: comments dropped, `\input` followed.

use std::collections::BTreeMap;

use super::lexer::{Lexer, Token};

/// Files inside of files, at most.
const DEPTH: usize = 16;

/// What reads another file.
const INPUTS: [&str; 4] = ["input", "include", "subfile", "subfileinclude"];

/// A submission's files without comments, by name.
pub(super) struct Files<'a> {
    by_name: BTreeMap<&'a str, (usize, String)>,
    max_bytes: usize,
}

/// The one text, and how many files went into it.
pub(super) struct Flat {
    pub(super) text: String,
    pub(super) files: usize,
    /// Whether files named each other until the text was longer than allowed.
    pub(super) too_long: bool,
}

impl<'a> Files<'a> {
    /// `files` are names and texts, in the archive's order.
    pub(super) fn new(files: &'a [(String, String)], max_bytes: usize) -> Files<'a> {
        let file = |(i, (name, text)): (usize, &'a (String, String))| {
            (clean_name(name), (i, without_comments(text)))
        };
        Files { by_name: files.iter().enumerate().map(file).collect(), max_bytes }
    }

    /// The text that begins with the main file: of those with `\documentclass`, in themselves or in
    /// what they read, the one that has most text with all that it reads. Without any, all files that
    /// no other reads, in the archive's order.
    pub(super) fn flatten(&self) -> Flat {
        let mut roots: Vec<_> = self.roots();
        roots.sort_by_key(|name| self.by_name[name].0);
        let flats = roots.into_iter().map(|root| {
            let mut flat = Flat { text: String::new(), files: 0, too_long: false };
            self.add(root, &mut Vec::new(), &mut flat);
            flat
        });
        let (mains, others): (Vec<Flat>, Vec<Flat>) = flats.partition(|flat| is_main(&flat.text));
        let longest = mains.into_iter().rev().max_by_key(|flat| flat.text.len());
        longest.unwrap_or_else(|| Flat {
            files: others.iter().map(|flat| flat.files).sum(),
            too_long: others.iter().any(|flat| flat.too_long),
            text: others.into_iter().map(|flat| flat.text).collect::<Vec<_>>().join("\n"),
        })
    }

    /// Files that no other file reads, and those with `\documentclass`; all, if there is neither.
    fn roots(&self) -> Vec<&'a str> {
        let mut read = std::collections::BTreeSet::new();
        for (&name, (_, text)) in &self.by_name {
            let mut lexer = Lexer::new(text, false);
            while let Some((token, _)) = lexer.next() {
                if let Some((inner, _)) = self.target(token, &lexer, name) {
                    read.extend((inner != name).then_some(inner));
                }
            }
        }
        let is_root = |name: &&str| !read.contains(name) || is_main(&self.by_name[name].1);
        let roots: Vec<_> = self.by_name.keys().copied().filter(is_root).collect();
        if roots.is_empty() { self.by_name.keys().copied().collect() } else { roots }
    }

    /// The file that a command reads, and where the command ends.
    fn target(&self, token: Token, lexer: &Lexer, reader: &str) -> Option<(&'a str, usize)> {
        let Token::Command(command) = token else { return None };
        if !INPUTS.contains(&command) {
            return None;
        }
        let rest = lexer.rest();
        let blank = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        let (name, length) = match rest[blank..].strip_prefix('{') {
            Some(inner) => {
                let end = inner.bytes().take(256).position(|byte| byte == b'}')?;
                (&inner[..end], blank + end + 2)
            }
            None => {
                let bare = &rest[blank..];
                let ends = |&byte: &u8| byte.is_ascii_whitespace() || b"\\{}%".contains(&byte);
                let end = bare.as_bytes().iter().take(256).position(ends).unwrap_or(bare.len());
                (bare.get(..end)?, blank + end)
            }
        };
        let name = clean_name(name.trim().trim_matches('"'));
        let folder = reader.rsplit_once('/').map_or("", |(folder, _)| folder);
        [name.to_string(), format!("{name}.tex"), format!("{folder}/{name}.tex")].iter().find_map(
            |name| Some((*self.by_name.get_key_value(name.as_str())?.0, lexer.at + length)),
        )
    }

    /// Adds a file and what it reads; one that reads itself does so once.
    fn add(&self, name: &'a str, open: &mut Vec<&'a str>, flat: &mut Flat) {
        let text = &self.by_name[name].1;
        open.push(name);
        flat.files += 1;
        let mut lexer = Lexer::new(text, false);
        while let Some((token, range)) = lexer.next() {
            if flat.text.len() + range.len() > self.max_bytes {
                flat.too_long = true;
                break;
            }
            match self.target(token, &lexer, name) {
                Some((inner, end)) if !open.contains(&inner) && open.len() < DEPTH => {
                    lexer.at = end;
                    self.add(inner, open, flat);
                }
                _ if token == Token::Command("endinput") => break,
                _ => flat.text.push_str(&text[range]),
            }
        }
        open.pop();
    }
}

fn is_main(text: &str) -> bool {
    text.contains("\\documentclass") || text.contains("\\documentstyle")
}

fn clean_name(name: &str) -> &str {
    name.trim_start_matches("./")
}

/// `text` without comments, `\iffalse..\fi` and the environment `comment`.
///
/// As TeX has it, a comment right after a word takes the end of its line along, and the blanks that
/// begin the next. A line that is a comment alone goes as a whole.
pub(super) fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut lexer = Lexer::new(text, true);
    let (mut ended, mut line) = (true, 0);
    while let Some((token, range)) = lexer.next() {
        match token {
            Token::Comment => drop_comment(&mut out, line, &mut lexer),
            Token::Command("iffalse") if ended => match fi(&lexer) {
                Some(end) => lexer.at = end,
                None => {
                    // Nor will the next one find its end.
                    ended = false;
                    out.push_str(&text[range]);
                }
            },
            Token::Command("begin") if lexer.rest().starts_with("{comment}") => {
                let end = "\\end{comment}";
                let found = memchr::memmem::find(lexer.rest().as_bytes(), end.as_bytes());
                lexer.at += found.map_or(lexer.rest().len(), |at| at + end.len());
            }
            _ => {
                if let Some(end) = text[range.clone()].rfind('\n') {
                    line = out.len() + end + 1;
                }
                out.push_str(&text[range]);
            }
        }
    }
    out
}

/// Drops a comment from the line that begins at `line` of `out`.
fn drop_comment(out: &mut String, line: usize, lexer: &mut Lexer) {
    let text = out[line..].trim_end_matches([' ', '\t']).len();
    let (alone, glued) = (text == 0, text == out.len() - line);
    out.truncate(line + text);
    let next = lexer.rest().strip_prefix('\n').unwrap_or_default();
    let blanks = next.len() - next.trim_start_matches([' ', '\t']).len();
    // A blank line ends the paragraph, comment or not.
    let paragraph = next[blanks..].starts_with('\n');
    if alone {
        lexer.at += usize::from(lexer.rest().starts_with('\n'));
    } else if glued && !paragraph && !next.is_empty() {
        lexer.at += 1 + blanks;
    }
}

/// Where the `\fi` of an `\iffalse` ends, past those of conditionals inside.
fn fi(lexer: &Lexer) -> Option<usize> {
    let mut inner = Lexer::new(lexer.text, true);
    inner.at = lexer.at;
    let mut depth = 1;
    while let Some((token, _)) = inner.next() {
        match token {
            Token::Command("fi") => depth -= 1,
            Token::Command("iff" | "ifthenelse") => {}
            Token::Command(name) if name.starts_with("if") => depth += 1,
            _ => {}
        }
        if depth == 0 {
            return Some(inner.at);
        }
    }
    None
}
