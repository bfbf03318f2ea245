//! PTX text to tokens.

use crate::error::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Tok<'a> {
    /// Names, registers, dotted opcodes and directives: `%r1`, `ld.global.b32`, `.reg`.
    Word(&'a str),
    /// Unsigned, or the magnitude after a minus sign.
    Int(u64),
    /// `0f3F800000`, as bits.
    F32(u32),
    /// `0d3FF0000000000000` or a decimal number with a point, as bits.
    F64(u64),
    Str(&'a str),
    Punct(u8),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Token<'a> {
    pub tok: Tok<'a>,
    pub line: u32,
}

/// The text of a line, for messages.
pub(crate) fn line_text(source: &str, line: u32) -> String {
    source.lines().nth(line as usize - 1).unwrap_or("").trim().to_string()
}

pub(crate) fn tokens(source: &str) -> Result<Vec<Token<'_>>> {
    let bytes = source.as_bytes();
    let mut out = Vec::with_capacity(bytes.len() / 4);
    let (mut i, mut line) = (0, 1u32);
    while i < bytes.len() {
        let c = bytes[i];
        let rest = &source[i..];
        let fail = |what: &str| Error::Parse {
            line,
            text: line_text(source, line),
            what: what.to_string(),
        };
        if c == b'\n' {
            line += 1;
            i += 1;
        } else if c.is_ascii_whitespace() {
            i += 1;
        } else if rest.starts_with("//") {
            i += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            let end = rest.find("*/").ok_or_else(|| fail("comment without an end"))? + 2;
            line += rest[..end].matches('\n').count() as u32;
            i += end;
        } else if c == b'"' {
            let end = rest[1..].find('"').ok_or_else(|| fail("string without an end"))?;
            out.push(Token { tok: Tok::Str(&rest[1..=end]), line });
            i += end + 2;
        } else if c.is_ascii_digit() {
            let len = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'.').count();
            let tok = number(&rest[..len]).ok_or_else(|| fail("not a number"))?;
            out.push(Token { tok, line });
            i += len;
        } else if is_word(c) {
            let len = word_len(rest.as_bytes());
            out.push(Token { tok: Tok::Word(&rest[..len]), line });
            i += len;
        } else if c.is_ascii_punctuation() {
            out.push(Token { tok: Tok::Punct(c), line });
            i += 1;
        } else {
            return Err(fail("a character outside ASCII"));
        }
    }
    Ok(out)
}

fn is_word(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'_' | b'$' | b'%' | b'.')
}

/// A double colon belongs to the word (`.shared::cta`), a single one ends a label.
fn word_len(b: &[u8]) -> usize {
    let mut n = 0;
    while n < b.len() {
        if is_word(b[n]) {
            n += 1;
        } else if b[n..].starts_with(b"::") {
            n += 2;
        } else {
            break;
        }
    }
    n
}

fn number(s: &str) -> Option<Tok<'_>> {
    let b = s.as_bytes();
    if b.len() == 10 && (s.starts_with("0f") || s.starts_with("0F")) {
        return u32::from_str_radix(&s[2..], 16).ok().map(Tok::F32);
    }
    if b.len() == 18 && (s.starts_with("0d") || s.starts_with("0D")) {
        return u64::from_str_radix(&s[2..], 16).ok().map(Tok::F64);
    }
    if s.contains('.') {
        return s.parse::<f64>().ok().map(|v| Tok::F64(v.to_bits()));
    }
    let s = s.strip_suffix('U').unwrap_or(s);
    let (digits, radix) = match s.get(..2) {
        Some("0x" | "0X") => (&s[2..], 16),
        Some("0b" | "0B") => (&s[2..], 2),
        _ if s.len() > 1 && s.starts_with('0') => (&s[1..], 8),
        _ => (s, 10),
    };
    u64::from_str_radix(digits, radix).ok().map(Tok::Int)
}
