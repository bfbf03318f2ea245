//! How RedPajama's `arxiv_cleaner.py` cleans TeX, slip for slip, for the proof of agreement:
//!
//! - each file by itself, in the archive's order, joined by line ends, no `\input` followed;
//! - `\paragraph` begins a text only where `\subparagraph` follows its argument, and a file without
//!   any heading is empty;
//! - a comment after text takes the character before it along, and a `%` that ends its line stays;
//! - macros without arguments only, `\newcommand{\x}{..}` and `\def\x{..}` that fill their line, one
//!   after the other, and a macro right after another is passed over;
//! - a macro's value with a character beyond ASCII makes the whole submission fail.
//!
//! ```
//! use data::corpus::arxiv::redpajama::clean;
//!
//! let tex = "\\title{Numbers}\n\\section{Reals}\nten% to the letter\n\\bibliography{all}";
//! assert_eq!(clean([tex].into_iter(), 1 << 20).unwrap(), "\\section{Reals}\nte\n");
//! ```

use memchr::memmem;

/// Why a submission has no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A macro's value is not printable ASCII.
    NotAscii,
    /// The expanded text would have more bytes than allowed.
    TooLong,
}

/// The text of a submission.
///
/// # Errors
/// See [`Failure`].
pub fn clean<'a>(
    files: impl Iterator<Item = &'a str> + Clone,
    max_bytes: usize,
) -> Result<String, Failure> {
    let mut macros: Vec<(String, String)> = Vec::new();
    for file in files.clone() {
        for (name, value) in definitions(file) {
            match macros.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = value,
                None => macros.push((name, value)),
            }
        }
    }
    let mut cleaned = Vec::new();
    for file in files {
        cleaned.push(clean_file(file, &macros, max_bytes)?);
    }
    Ok(cleaned.join("\n"))
}

fn clean_file(
    file: &str,
    macros: &[(String, String)],
    max_bytes: usize,
) -> Result<String, Failure> {
    let Some(start) = first_heading(file) else { return Ok(String::new()) };
    let mut text = drop_inline_comments(&drop_line_comments(&file[start..]));
    if let Some(end) = bibliography(&text) {
        text.truncate(end);
    }
    for (name, value) in macros {
        // Python escapes the others, and then takes the escapes for its own.
        if !value.bytes().all(|b| matches!(b, b' '..=b'~' | b'\t' | b'\r')) {
            return Err(Failure::NotAscii);
        }
        text = expand(&text, name, value, max_bytes)?;
    }
    Ok(text)
}

/// Where the first of the headings stands that the pattern knows.
fn first_heading(text: &str) -> Option<usize> {
    let names = ["chapter", "part", "section", "subsection", "subsubsection"];
    let last = Last::of(text);
    let sub = memmem::rfind_iter(text.as_bytes(), b"}\\subparagraph");
    let sub = sub.into_iter().find(|at| last.heading(text, at + 2, "subparagraph"));
    memchr::memchr_iter(b'\\', text.as_bytes()).find(|&at| {
        names.iter().any(|name| last.heading(text, at + 1, name))
            || (last.heading(text, at + 1, "paragraph") && sub.is_some_and(|sub| sub > at))
    })
}

/// The last places of what ends a heading, so that no search for it runs twice over the text.
struct Last {
    close: usize,
    bracket: usize,
}

impl Last {
    fn of(text: &str) -> Last {
        let close = text.rfind('}').unwrap_or(0);
        Last { close, bracket: text[..close].rfind("]{").unwrap_or(0) }
    }

    /// Whether `name`, maybe `*`, maybe `[..]`, and `{..}` stand at `at`.
    fn heading(&self, text: &str, at: usize, name: &str) -> bool {
        let Some(after) = text[at..].strip_prefix(name) else { return false };
        let after = after.strip_prefix('*').unwrap_or(after);
        let at = text.len() - after.len();
        (after.starts_with('{') && at < self.close) || (after.starts_with('[') && at < self.bracket)
    }
}

fn drop_line_comments(text: &str) -> String {
    text.split_inclusive('\n').filter(|line| !line.starts_with('%')).collect()
}

/// Cuts from the character before the first `%` of a line that has none of `\` before it and
/// something after it.
fn drop_inline_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let bare = line.strip_suffix('\n').unwrap_or(line);
        let cut = memchr::memchr_iter(b'%', bare.as_bytes()).find_map(|at| {
            let before = bare[..at].chars().next_back()?;
            (before != '\\' && at + 1 < bare.len()).then(|| at - before.len_utf8())
        });
        out.push_str(&bare[..cut.unwrap_or(bare.len())]);
        out.push_str(&line[bare.len()..]);
    }
    out
}

fn bibliography(text: &str) -> Option<usize> {
    let ends =
        ["\\appendix", "\\begin{references}", "\\begin{REFERENCES}", "\\begin{thebibliography}"];
    let found = ends.iter().filter_map(|end| memmem::find(text.as_bytes(), end.as_bytes()));
    let call = memmem::find(text.as_bytes(), b"\\bibliography{");
    found.chain(call.filter(|&at| text[at..].contains('}'))).min()
}

/// Replaces `name` and the character after it, which no letter or digit may be, from left to right.
fn expand(text: &str, name: &str, value: &str, max_bytes: usize) -> Result<String, Failure> {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(found) = memmem::find(&text.as_bytes()[at..], name.as_bytes()) {
        let end = at + found + name.len();
        match text[end..].chars().next() {
            Some(c) if !c.is_ascii_alphanumeric() => {
                out.push_str(&text[at..at + found]);
                out.push_str(value);
                out.push(c);
                at = end + c.len_utf8();
            }
            _ => {
                out.push_str(&text[at..at + found + 1]);
                at += found + 1;
            }
        }
        if out.len() > max_bytes {
            return Err(Failure::TooLong);
        }
    }
    out.push_str(&text[at..]);
    Ok(out)
}

/// Macros without arguments: those of `\newcommand`, then those of `\def`.
fn definitions(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (start, parse) in [
        ("\\newcommand", new_command as fn(&str) -> Option<(&str, &str)>),
        ("\\def", def as fn(&str) -> Option<(&str, &str)>),
    ] {
        // Where the line ends that was looked at last: a line is searched for its end once.
        let (mut at, mut end) = (0, 0);
        while let Some(next) = memmem::find(&text.as_bytes()[at..], start.as_bytes()) {
            at += next + start.len();
            let Some((name, rest)) = parse(&text[at..]) else { continue };
            let open = text.len() - rest.len();
            if open >= end {
                end = memchr::memchr(b'\n', rest.as_bytes()).map_or(text.len(), |n| open + n);
            }
            if let Some(value) = value(&text[open..end]) {
                found.push((name.to_string(), value.to_string()));
                // The match ends with its line.
                at = end;
            }
        }
    }
    found
}

/// `*{\name}` before a value.
fn new_command(rest: &str) -> Option<(&str, &str)> {
    let rest = rest.strip_prefix('*').unwrap_or(rest).strip_prefix('{')?;
    let name = &rest[..name_length(rest)?];
    Some((name, rest[name.len()..].strip_prefix('}')?))
}

/// `\name` before a value, with white space between.
fn def(rest: &str) -> Option<(&str, &str)> {
    let rest = rest.trim_start_matches(is_space);
    let name = &rest[..name_length(rest)?];
    Some((name, rest[name.len()..].trim_start_matches(is_space)))
}

fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// Bytes of `\` and the letters and digits after it.
fn name_length(rest: &str) -> Option<usize> {
    let letters = rest.strip_prefix('\\')?.bytes().take_while(u8::is_ascii_alphanumeric).count();
    (letters > 0).then_some(letters + 1)
}

/// What stands between `{` and the `}` that ends the line.
fn value(line: &str) -> Option<&str> {
    line.strip_prefix('{')?.strip_suffix('}')
}
