//! Wikitext as plain text, in two passes at most, each linear whatever the text is.
//!
//! A pass reads from left to right and writes as it goes. What may have to be taken back (a
//! template, a link's target, a footnote) begins with a frame on a stack that knows where its output
//! begins; when its end comes, that output is truncated, or overwritten by `GONE` where it stands.
//! An end closes the nearest frame of its kind; frames above it were never closed, and a second
//! pass takes their beginnings for what they are: letters. So a million open braces cost two passes,
//! as does any other text.
//!
//! ```
//! use data::corpus::wikipedia::wikitext::{Layout, strip};
//!
//! let layout = Layout { language: "en", categories: false, empty_sections: false, as_anchor: false };
//! let page = "'''Sofia''' is a [[City|city]].<ref>Atlas</ref>\n== Map ==\n[[File:a.png]]";
//! assert_eq!(strip(page, layout), "Sofia is a city.");
//! ```

use super::super::markup::{find_ignore_case, push_unescaped, reference};
use super::namespaces::{Prefix, prefix};

/// How much of what a page shows is kept, and how it is laid out.
#[derive(Clone, Copy, Debug)]
pub struct Layout<'a> {
    /// The wiki's language: what it calls files and categories.
    pub language: &'a str,
    /// Names of categories stay, each on its line.
    pub categories: bool,
    /// Headings stay where nothing follows them before the next.
    pub empty_sections: bool,
    /// White space, `<br>`, and colons of definitions are left as `mwparserfromhell` and Hugging
    /// Face's script leave them.
    pub as_anchor: bool,
}

// Bytes that XML text cannot hold stand, until the end, for what may yet be taken back.
const GONE: u8 = 0;
const BRACE: u8 = 1;
const LINK: u8 = 2;
const EXTERNAL: u8 = 3;
const TABLE: u8 = 4;
const SECTION: u8 = 5;
const TAG: u8 = 6;
const HEADING_END: u8 = 7;

/// The text of a page.
pub fn strip(text: &str, layout: Layout) -> String {
    if text.bytes().any(|byte| byte <= HEADING_END) {
        return strip(&text.replace(|c: char| c <= HEADING_END as char, ""), layout);
    }
    let mut pass = Pass::new(text, layout, Vec::new());
    pass.run();
    if !pass.unclosed.is_empty() {
        let mut letters = std::mem::take(&mut pass.unclosed);
        letters.sort_unstable();
        pass = Pass::new(text, layout, letters);
        pass.run();
    }
    sections(&pass, layout)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `{{` and more: a template, or the argument of one.
    Braces,
    /// `[[`.
    Link,
    /// `[http://..`.
    External,
    /// `{|`.
    Table,
    /// `<ref>`.
    Ref,
    /// `<table>`.
    HtmlTable,
}

const KINDS: usize = 6;

struct Frame {
    kind: Kind,
    /// Where it begins in the text.
    start: usize,
    /// Where its output begins.
    out: usize,
    /// Braces that are still open.
    braces: usize,
    /// Where its first `|` stands in the output.
    pipe: Option<usize>,
}

struct Pass<'a> {
    text: &'a str,
    layout: Layout<'a>,
    /// Beginnings that no end belongs to, sorted, and how many of a run's braces.
    letters: Vec<(usize, usize)>,
    out: Vec<u8>,
    frames: Vec<Frame>,
    open: [usize; KINDS],
    unclosed: Vec<(usize, usize)>,
    /// Levels of the headings so far.
    levels: Vec<usize>,
    at: usize,
    /// Where the `=` that end the current heading stand, and how many they are.
    heading: Option<(usize, usize)>,
    /// Whether this line is `;term` and its `:` is still to come.
    term: bool,
    /// Names of tags whose end was looked for and is nowhere ahead.
    endless: Vec<&'static str>,
}

/// Tags whose inside is no wikitext, and whether it is shown.
const RAW: [(&str, bool); 18] = [
    ("categorytree", false),
    ("ce", true),
    ("chem", true),
    ("gallery", false),
    ("graph", false),
    ("hiero", true),
    ("imagemap", false),
    ("inputbox", false),
    ("math", false),
    ("nowiki", true),
    ("pre", true),
    ("score", false),
    ("section", false),
    ("source", true),
    ("syntaxhighlight", true),
    ("templatedata", false),
    ("templatestyles", false),
    ("timeline", false),
];

/// Other tags that a wiki knows, sorted; they go, and what is between them stays.
const TAGS: [&str; 64] = [
    "abbr",
    "b",
    "bdi",
    "bdo",
    "big",
    "blockquote",
    "br",
    "caption",
    "center",
    "cite",
    "code",
    "data",
    "dd",
    "del",
    "dfn",
    "div",
    "dl",
    "dt",
    "em",
    "font",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "i",
    "includeonly",
    "indicator",
    "ins",
    "kbd",
    "li",
    "link",
    "mark",
    "meta",
    "noinclude",
    "ol",
    "onlyinclude",
    "p",
    "poem",
    "q",
    "rb",
    "references",
    "rp",
    "rt",
    "ruby",
    "s",
    "samp",
    "small",
    "span",
    "strike",
    "strong",
    "sub",
    "sup",
    "tbody",
    "td",
    "th",
    "time",
    "tr",
    "tt",
    "u",
    "ul",
    "var",
];

/// Longest tag, with its attributes.
const TAG_BYTES: usize = 1024;

/// Bytes that may mean something.
const SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let bytes = b"{}[]|<'&_:\n";
    let mut i = 0;
    while i < bytes.len() {
        table[bytes[i] as usize] = true;
        i += 1;
    }
    table
};

const SCHEMES: [&str; 11] = [
    "http://",
    "https://",
    "ftp://",
    "ftps://",
    "irc://",
    "ircs://",
    "gopher://",
    "news:",
    "mailto:",
    "svn://",
    "//",
];

impl<'a> Pass<'a> {
    fn new(text: &'a str, layout: Layout<'a>, letters: Vec<(usize, usize)>) -> Pass<'a> {
        Pass {
            text,
            layout,
            letters,
            out: Vec::with_capacity(text.len()),
            frames: Vec::new(),
            open: [0; KINDS],
            unclosed: Vec::new(),
            levels: Vec::new(),
            at: 0,
            heading: None,
            term: false,
            endless: Vec::new(),
        }
    }

    fn run(&mut self) {
        self.line_start();
        while let Some(&byte) = self.text.as_bytes().get(self.at) {
            if let Some((end, length)) = self.heading.filter(|&(end, _)| end <= self.at) {
                self.heading = None;
                self.out.push(HEADING_END);
                // A tag may have gone past it.
                self.at = self.at.max(end + length);
                continue;
            }
            let used = match byte {
                b'{' => self.open_braces(),
                b'}' => self.close_braces(),
                b'[' => self.open_brackets(),
                b']' => self.close_brackets(),
                b'|' => self.pipe(),
                b'<' => self.tag(),
                b'\'' => self.quotes(),
                b'&' => self.entity(),
                b'_' => self.magic(),
                b':' if self.term => self.colon(),
                b'\n' => self.line_end(),
                _ => self.plain(),
            };
            self.at += used;
        }
        self.give_up_all();
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Copies up to the next byte that may mean something; at least one.
    fn plain(&mut self) -> usize {
        let rest = &self.text.as_bytes()[self.at..];
        let limit = self.heading.map_or(rest.len(), |(at, _)| at - self.at);
        let end = rest[1..limit].iter().position(|&byte| SPECIAL[usize::from(byte)]);
        let length = end.map_or(limit, |at| at + 1);
        self.out.extend_from_slice(&rest[..length]);
        length
    }

    fn letter(&mut self) -> usize {
        self.out.push(self.text.as_bytes()[self.at]);
        1
    }

    fn push_frame(&mut self, kind: Kind, mark: u8, braces: usize) {
        self.open[kind as usize] += 1;
        let (start, out) = (self.at, self.out.len());
        self.frames.push(Frame { kind, start, out, braces, pipe: None });
        self.out.extend(std::iter::repeat_n(mark, braces.max(1)));
    }

    fn pop(&mut self) -> Option<Frame> {
        let frame = self.frames.pop()?;
        self.open[frame.kind as usize] -= 1;
        Some(frame)
    }

    /// The nearest frame of a kind; those above it are given up.
    fn pop_to(&mut self, kind: Kind) -> Option<Frame> {
        if self.open[kind as usize] == 0 {
            return None;
        }
        while let Some(frame) = self.pop() {
            if frame.kind == kind {
                return Some(frame);
            }
            self.unclosed.push((frame.start, frame.braces));
        }
        None
    }

    fn give_up_all(&mut self) {
        while let Some(frame) = self.pop() {
            self.unclosed.push((frame.start, frame.braces));
        }
    }

    /// How many of the braces that begin here, or 0 of another mark, were found to have no end.
    fn letters_here(&self) -> Option<usize> {
        let found = self.letters.binary_search_by_key(&self.at, |&(at, _)| at).ok()?;
        Some(self.letters[found].1)
    }

    fn is_letter(&self) -> bool {
        self.letters_here().is_some()
    }

    fn run_length(&self, byte: u8) -> usize {
        self.rest().bytes().take_while(|&b| b == byte).count()
    }

    fn open_braces(&mut self) -> usize {
        let count = self.run_length(b'{');
        if count == 1 {
            return self.letter();
        }
        let letters = self.letters_here().unwrap_or(0);
        self.out.extend(std::iter::repeat_n(BRACE, letters));
        if count - letters >= 2 {
            self.push_frame(Kind::Braces, BRACE, count - letters);
        }
        count
    }

    /// As MediaWiki has it: three on both sides are an argument, two a template.
    fn close_braces(&mut self) -> usize {
        let count = self.run_length(b'}');
        let mut left = count;
        while left >= 2 {
            let Some(mut frame) = self.pop_to(Kind::Braces) else { break };
            let used = if left >= 3 && frame.braces >= 3 { 3 } else { 2 };
            left -= used;
            frame.braces -= used;
            let content = frame.out + frame.braces;
            match frame.pipe {
                Some(pipe) if used == 3 => self.out[content..=pipe].fill(GONE),
                _ => self.out.truncate(content),
            }
            if frame.braces >= 2 {
                frame.pipe = None;
                self.open[frame.kind as usize] += 1;
                self.frames.push(frame);
            }
        }
        self.out.extend(std::iter::repeat_n(b'}', left));
        count
    }

    fn open_brackets(&mut self) -> usize {
        let count = self.run_length(b'[');
        if count >= 2 {
            // The last two of a longer run open the link.
            self.out.extend(std::iter::repeat_n(b'[', count - 2));
            self.at += count - 2;
            if self.is_letter() {
                self.out.push(LINK);
            } else {
                self.push_frame(Kind::Link, LINK, 0);
            }
            return 2;
        }
        let inner = &self.rest()[1..];
        if !SCHEMES.iter().any(|scheme| inner.starts_with(scheme)) || self.is_letter() {
            return self.letter();
        }
        let ends = |&byte: &u8| byte <= b' ' || b"[]<\"".contains(&byte);
        let url = inner.as_bytes().iter().position(ends).unwrap_or(inner.len());
        match inner.as_bytes().get(url) {
            Some(b']') => url + 2,
            Some(b' ') => {
                self.push_frame(Kind::External, EXTERNAL, 0);
                url + 2
            }
            _ => self.letter(),
        }
    }

    fn close_brackets(&mut self) -> usize {
        let external = self.frames.last().is_some_and(|frame| frame.kind == Kind::External);
        if external {
            let frame = self.pop().expect("a frame was seen");
            self.out[frame.out] = GONE;
            return 1;
        }
        if !self.rest().starts_with("]]") {
            return self.letter();
        }
        match self.pop_to(Kind::Link) {
            Some(frame) => self.close_link(&frame),
            None => self.out.extend_from_slice(b"]]"),
        }
        2
    }

    fn close_link(&mut self, frame: &Frame) {
        let title_end = frame.pipe.unwrap_or(self.out.len());
        let title: Vec<u8> =
            self.out[frame.out + 1..title_end].iter().copied().filter(|&b| b > TAG).collect();
        let title = String::from_utf8_lossy(&title);
        let bare = if self.layout.as_anchor { &*title } else { title.trim() };
        let (kind, length) = prefix(bare, self.layout.language);
        let hidden = match kind {
            Prefix::Media => true,
            Prefix::Category => !self.layout.categories,
            Prefix::Language => !self.layout.as_anchor && frame.pipe.is_none(),
            Prefix::None => false,
        };
        match (frame.pipe, kind) {
            _ if hidden => self.out.truncate(frame.out),
            (Some(pipe), _) => self.out[frame.out..=pipe].fill(GONE),
            (None, Prefix::Category) => {
                let blank = title.len() - title.trim_start().len();
                let blank = if self.layout.as_anchor { 0 } else { blank };
                let end = (frame.out + 1 + blank + length).min(title_end);
                self.out[frame.out..end].fill(GONE);
            }
            (None, _) => {
                self.out[frame.out] = GONE;
                let colon = !self.layout.as_anchor && self.out.get(frame.out + 1) == Some(&b':');
                if colon {
                    self.out[frame.out + 1] = GONE;
                }
            }
        }
    }

    fn pipe(&mut self) -> usize {
        let at = self.out.len();
        if let Some(frame) = self.frames.last_mut() {
            frame.pipe.get_or_insert(at);
        }
        self.letter()
    }

    fn tag(&mut self) -> usize {
        let rest = self.rest();
        if let Some(inner) = rest.strip_prefix("<!--") {
            return inner.find("-->").map_or(rest.len(), |at| at + 7);
        }
        let window = &rest.as_bytes()[..rest.len().min(TAG_BYTES)];
        let inner = rest[1..].strip_prefix('/').unwrap_or(&rest[1..]);
        let closing = rest.len() - inner.len() == 2;
        let end = inner.bytes().take(32).position(|b| !b.is_ascii_alphanumeric()).unwrap_or(0);
        let name = inner[..end].to_ascii_lowercase();
        let known = |&(raw, _): &(&str, bool)| raw == name;
        let raw = RAW.iter().copied().find(known);
        let container = match name.as_str() {
            "ref" => Some(Kind::Ref),
            "table" => Some(Kind::HtmlTable),
            _ => None,
        };
        let wiki = raw.is_some() || container.is_some() || TAGS.binary_search(&&*name).is_ok();
        if !wiki || memchr::memchr(b'>', window).is_none() {
            return self.letter();
        }
        let length = super::super::markup::tag_length(window);
        if length == window.len() && !window.ends_with(b">") {
            return self.letter();
        }
        let alone = window[..length].ends_with(b"/>");
        match (container, raw) {
            (Some(kind), _) if closing => {
                if let Some(frame) = self.pop_to(kind) {
                    self.out.truncate(frame.out);
                }
            }
            (Some(kind), _) if !alone && !self.is_letter() => self.push_frame(kind, TAG, 0),
            (_, Some((name, shown))) if !alone && !closing => return self.raw(name, shown, length),
            _ if name == "br" && !self.layout.as_anchor && !rest[length..].starts_with('\n') => {
                self.out.push(b'\n');
            }
            _ => {}
        }
        length
    }

    /// A tag whose inside is no wikitext; by itself it is nothing.
    fn raw(&mut self, name: &'static str, shown: bool, length: usize) -> usize {
        if self.endless.contains(&name) {
            return length;
        }
        let after = &self.rest()[length..];
        let Some(end) = find_ignore_case(after, &format!("</{name}")) else {
            self.endless.push(name);
            return length;
        };
        if shown {
            let mut text = String::new();
            push_unescaped(&after[..end], &mut text);
            self.out.extend(text.bytes().filter(|&byte| byte > HEADING_END));
        }
        let close = after[end..].find('>').map_or(after.len() - end, |at| at + 1);
        length + end + close
    }

    /// Two, three or five are italic and bold; the others of a run are themselves.
    fn quotes(&mut self) -> usize {
        let count = self.run_length(b'\'');
        let shown = match count {
            1 => 1,
            2 | 3 | 5 => 0,
            4 => 1,
            more => more - 5,
        };
        self.out.extend(std::iter::repeat_n(b'\'', shown));
        count
    }

    fn entity(&mut self) -> usize {
        match reference(self.rest().as_bytes()) {
            Some((c, length)) if c as u32 > u32::from(HEADING_END) => {
                self.out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                length
            }
            _ => self.letter(),
        }
    }

    /// `__NOTOC__` and its like.
    fn magic(&mut self) -> usize {
        let Some(inner) = self.rest().strip_prefix("__") else { return self.letter() };
        let letters = inner.bytes().take_while(u8::is_ascii_uppercase).count();
        if inner[letters..].starts_with("__") { letters + 4 } else { self.letter() }
    }

    fn colon(&mut self) -> usize {
        self.term = false;
        if self.layout.as_anchor { 1 } else { self.letter() }
    }

    fn line_end(&mut self) -> usize {
        self.out.push(b'\n');
        // Neither an external link nor a link's target goes past its line.
        while let Some(frame) = self.frames.last() {
            let ends =
                frame.kind == Kind::External || (frame.kind == Kind::Link && frame.pipe.is_none());
            if !ends {
                break;
            }
            self.unclosed.push((frame.start, 0));
            self.pop();
        }
        self.at += 1;
        self.line_start();
        0
    }

    /// Handles what means something only where a line begins.
    fn line_start(&mut self) {
        self.term = false;
        let rest = self.rest();
        let bare = rest.trim_start_matches([' ', '\t', ':']);
        if bare.starts_with("{|") {
            self.at += rest.len() - bare.len();
            if self.is_letter() {
                self.out.push(TABLE);
            } else {
                self.push_frame(Kind::Table, TABLE, 0);
            }
            self.at += 2;
        } else if rest.starts_with("|}") {
            self.close_table();
        } else if rest.starts_with('=') {
            self.start_heading();
        } else if rest.starts_with("----") {
            self.at += self.run_length(b'-');
        } else {
            let marks = rest.bytes().take_while(|byte| b"*#:;".contains(byte)).count();
            self.term = rest[..marks].ends_with(';');
            self.at += marks;
            if marks > 0 && !self.layout.as_anchor {
                self.at += self.run_length(b' ');
            }
        }
    }

    /// `|}`, unless it belongs to the `}}` of a template that is open within the table or around.
    fn close_table(&mut self) {
        let innermost = self.frames.last().map(|frame| frame.kind);
        let template = self.rest().starts_with("|}}") && innermost == Some(Kind::Braces);
        if template || self.open[Kind::Table as usize] == 0 {
            return;
        }
        if let Some(frame) = self.pop_to(Kind::Table) {
            self.out.truncate(frame.out);
            self.at += 2;
        }
    }

    /// `== title ==` begins a section, outside of tables, templates and footnotes.
    fn start_heading(&mut self) {
        let mut line = self.rest().split('\n').next().unwrap_or_default().trim_end();
        if line.ends_with("-->") {
            line = line[..line.rfind("<!--").unwrap_or(line.len())].trim_end();
        }
        let equals = |bytes: &mut dyn Iterator<Item = u8>| bytes.take_while(|&b| b == b'=').count();
        let level = equals(&mut line.bytes()).min(equals(&mut line.bytes().rev())).min(6);
        if level == 0 || line.len() <= 2 * level {
            return;
        }
        let inner = |frame: &Frame| matches!(frame.kind, Kind::Link | Kind::External);
        if !self.frames.iter().all(inner) {
            return;
        }
        self.give_up_all();
        self.levels.push(level);
        self.heading = Some((self.at + line.len() - level, level));
        self.at += level;
        self.out.push(SECTION);
    }
}

/// The sections of a pass's output, each trimmed and without runs of blank lines, joined.
fn sections(pass: &Pass, layout: Layout) -> String {
    let levels = [0].into_iter().chain(pass.levels.iter().copied());
    let parts = pass.out.split(|&byte| byte == SECTION).zip(levels);
    let mut kept: Vec<String> = Vec::new();
    // From the last to the first: a heading with nothing below it stays if a deeper one does.
    let mut after = 0;
    for (section, level) in parts.collect::<Vec<_>>().into_iter().rev() {
        let (text, bare) = section_text(section, layout);
        let empty = text.is_empty() || (bare && after <= level && !layout.empty_sections);
        if !empty || layout.as_anchor {
            kept.push(text);
            after = level;
        }
    }
    kept.reverse();
    kept.join("\n\n")
}

/// A section's text, and whether it is a heading and no more.
fn section_text(section: &[u8], layout: Layout) -> (String, bool) {
    let mut text: Vec<u8> = Vec::with_capacity(section.len());
    let mut heading = None;
    for &byte in section {
        let shown: &[u8] = match byte {
            GONE | TAG => b"",
            HEADING_END => {
                if !layout.as_anchor {
                    text = text.trim_ascii().to_vec();
                }
                heading = Some(text.len());
                b""
            }
            BRACE if layout.as_anchor => b"{",
            LINK if layout.as_anchor => b"[[",
            EXTERNAL if layout.as_anchor => b"[",
            TABLE if layout.as_anchor => b"{|",
            BRACE | LINK | EXTERNAL | TABLE => b"",
            b'\n' => {
                if !layout.as_anchor {
                    let blank = text.iter().rev().take_while(|b| matches!(b, b' ' | b'\t')).count();
                    text.truncate(text.len() - blank);
                }
                if text.ends_with(b"\n\n") { b"" } else { b"\n" }
            }
            _ => {
                text.push(byte);
                continue;
            }
        };
        text.extend_from_slice(shown);
    }
    let bare = heading.is_some_and(|end| text[end..].trim_ascii().is_empty());
    let text = String::from_utf8_lossy(&text);
    (text.trim().to_string(), bare)
}
