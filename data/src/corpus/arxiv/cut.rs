//! Cuts what the paper cuts from expanded TeX: all before the first section, and the bibliography.

use memchr::memmem;

use super::lexer::{Lexer, Token};

const HEADINGS: [&str; 7] =
    ["part", "chapter", "section", "subsection", "subsubsection", "paragraph", "subparagraph"];
const BIBLIOGRAPHIES: [&str; 3] = ["thebibliography", "references", "REFERENCES"];
const CALLS: [&str; 3] = ["bibliography", "bibliographystyle", "printbibliography"];

/// Longest argument of a call.
const ARGUMENT_BYTES: usize = 1024;

/// What is cut besides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cuts {
    /// The first appendix and all after it.
    pub(super) appendix: bool,
    /// All after a bibliography.
    pub(super) after_bibliography: bool,
}

/// The text of a document, and whether it has a heading: without one, all between the title and the
/// end is its text.
pub(super) fn cut(text: &str, cuts: Cuts) -> (String, bool) {
    let body = memmem::find(text.as_bytes(), b"\\begin{document}").unwrap_or(0);
    let (start, heading) = start(text, body);
    let mut out = String::with_capacity(text.len() - start);
    let mut lexer = Lexer::new(text, false);
    lexer.at = start;
    while let Some((token, range)) = lexer.next() {
        let Token::Command(name) = token else {
            out.push_str(&text[range]);
            continue;
        };
        let rest = lexer.rest();
        match name {
            "end" if rest.starts_with("{document}") => break,
            "appendix" if cuts.appendix => break,
            "begin" => match BIBLIOGRAPHIES.iter().find(|name| is_group(rest, name)) {
                Some(_) if cuts.after_bibliography => break,
                Some(name) => {
                    let end = format!("\\end{{{name}}}");
                    let found = memmem::find(rest.as_bytes(), end.as_bytes());
                    lexer.at += found.map_or(rest.len(), |at| at + end.len());
                }
                None => out.push_str(&text[range]),
            },
            _ if CALLS.contains(&name) => {
                if cuts.after_bibliography && name != "bibliographystyle" {
                    break;
                }
                lexer.at += arguments(rest);
            }
            _ => out.push_str(&text[range]),
        }
    }
    (out, heading)
}

fn is_group(rest: &str, name: &str) -> bool {
    rest.strip_prefix('{')
        .and_then(|inner| inner.strip_prefix(name))
        .is_some_and(|after| after.starts_with('}'))
}

/// Where the first heading stands, or else the text begins.
fn start(text: &str, body: usize) -> (usize, bool) {
    let mut lexer = Lexer::new(text, false);
    lexer.at = body;
    let mut begin = body;
    while let Some((token, range)) = lexer.next() {
        let Token::Command(name) = token else { continue };
        if HEADINGS.contains(&name) && lexer.rest().starts_with(['{', '*', '[', ' ']) {
            return (range.start, true);
        }
        match name {
            "begin" if lexer.rest().starts_with("{document}") => begin = lexer.at + 10,
            "end" if lexer.rest().starts_with("{abstract}") => begin = lexer.at + 10,
            "maketitle" => begin = lexer.at,
            _ => {}
        }
    }
    (begin, false)
}

/// Bytes of the `[..]` and `{..}` that follow.
fn arguments(rest: &str) -> usize {
    let mut at = 0;
    for (open, close) in [('[', b']'), ('{', b'}')] {
        if rest[at..].starts_with(open) {
            let end = rest[at..].bytes().take(ARGUMENT_BYTES).position(|byte| byte == close);
            at += end.map_or(0, |end| end + 1);
        }
    }
    at
}
