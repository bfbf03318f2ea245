//! TeX divided into the tokens that cleaning needs. Every byte belongs to exactly one token, each
//! is looked at a fixed number of times, and what is left open runs to the end of the text.

use std::ops::Range;

use memchr::memmem;

/// Environments whose text is nobody's to touch.
const VERBATIM: [&str; 9] = [
    "verbatim",
    "verbatim*",
    "Verbatim",
    "Verbatim*",
    "lstlisting",
    "minted",
    "alltt",
    "filecontents",
    "filecontents*",
];

/// Commands whose first argument may hold `%` and `#` as they are.
const LITERAL: [&str; 4] = ["url", "path", "nolinkurl", "href"];

/// Longest argument of these, and of `\verb`.
const LITERAL_BYTES: usize = 2048;

/// A piece of TeX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// Plain text, blanks, and signs such as `\%` and `\\`.
    Text,
    /// From `%` to the end of the line, which is not part of it.
    Comment,
    /// `\name`, with the name.
    Command(&'a str),
    /// `{`.
    Open,
    /// `}`.
    Close,
    /// `#`.
    Parameter,
    /// Something that is kept byte for byte.
    Verbatim,
}

/// Reads tokens from the left.
pub(super) struct Lexer<'a> {
    pub(super) text: &'a str,
    /// Where the next token begins.
    pub(super) at: usize,
    /// Whether `@` belongs to names, as after `\makeatletter`.
    pub(super) at_letter: bool,
    /// Whether `%` begins a comment.
    pub(super) comments: bool,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, comments: bool) -> Lexer<'a> {
        Lexer { text, at: 0, at_letter: false, comments }
    }

    /// What is not read yet.
    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// The next token and where it stands.
    pub(super) fn next(&mut self) -> Option<(Token<'a>, Range<usize>)> {
        let (start, rest) = (self.at, self.rest());
        let (token, length) = match rest.bytes().next()? {
            b'\\' => self.command(rest),
            b'{' => (Token::Open, 1),
            b'}' => (Token::Close, 1),
            b'#' => (Token::Parameter, 1),
            b'%' if self.comments => (Token::Comment, line_length(rest)),
            _ => (Token::Text, self.text_length(rest)),
        };
        self.at += length;
        Some((token, start..self.at))
    }

    fn text_length(&self, rest: &str) -> usize {
        let special = |&byte: &u8| match byte {
            b'\\' | b'{' | b'}' | b'#' => true,
            b'%' => self.comments,
            _ => false,
        };
        // Its first byte may be a `%` that begins nothing.
        1 + rest.as_bytes()[1..].iter().position(special).unwrap_or(rest.len() - 1)
    }

    fn command(&mut self, rest: &'a str) -> (Token<'a>, usize) {
        let letter = |&byte: &u8| byte.is_ascii_alphabetic() || (byte == b'@' && self.at_letter);
        let length = 1 + rest.as_bytes()[1..].iter().take_while(|byte| letter(byte)).count();
        if length == 1 {
            let sign = rest[1..].chars().next().map_or(0, char::len_utf8);
            return (Token::Text, 1 + sign);
        }
        let name = &rest[1..length];
        match name {
            "makeatletter" => self.at_letter = true,
            "makeatother" => self.at_letter = false,
            "verb" => return verb(rest, length),
            "begin" => {
                if let Some(end) = verbatim_environment(&rest[length..]) {
                    return (Token::Verbatim, length + end);
                }
            }
            _ if LITERAL.contains(&name) && rest[length..].starts_with('{') => {
                if let Some(end) = literal(&rest[length..]) {
                    return (Token::Verbatim, length + end);
                }
            }
            _ => {}
        }
        (Token::Command(name), length)
    }
}

fn line_length(rest: &str) -> usize {
    memchr::memchr(b'\n', rest.as_bytes()).unwrap_or(rest.len())
}

/// `\verb|..|`, which never leaves its line.
fn verb(rest: &str, length: usize) -> (Token<'_>, usize) {
    let after = rest[length..].strip_prefix('*').unwrap_or(&rest[length..]);
    let end = after.chars().next().filter(|&mark| mark != '\n').and_then(|mark| {
        let line =
            after.char_indices().skip(1).take_while(|&(at, c)| c != '\n' && at < LITERAL_BYTES);
        line.into_iter().find(|&(_, c)| c == mark).map(|(at, _)| at + mark.len_utf8())
    });
    match end {
        Some(end) => (Token::Verbatim, rest.len() - after.len() + end),
        None => (Token::Command("verb"), length),
    }
}

/// Bytes of `{name}..\end{name}`, if that is a verbatim environment.
fn verbatim_environment(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('{')?;
    let name = VERBATIM
        .iter()
        .find(|name| inner.strip_prefix(**name).is_some_and(|after| after.starts_with('}')))?;
    let end = format!("\\end{{{name}}}");
    Some(memmem::find(rest.as_bytes(), end.as_bytes()).map_or(rest.len(), |at| at + end.len()))
}

/// Bytes of an argument in braces, comments and all, if it ends within reason.
fn literal(rest: &str) -> Option<usize> {
    let mut depth = 0;
    let mut bytes = rest.bytes().take(LITERAL_BYTES).enumerate();
    while let Some((i, byte)) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(i + 1);
        }
    }
    None
}
