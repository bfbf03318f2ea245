//! Cuts the licence at the head of a source file, and nothing else.
//!
//! A header is the first comment of a file, after what must come before it: a shebang, a line that
//! tells the encoding, `<?php`, an XML declaration. It goes only if it speaks of copyright or of a
//! licence; then the next comment is asked too. So `#include`, titles in Markdown and the
//! documentation of a module stay.
//!
//! ```
//! use data::corpus::github::header::cut;
//!
//! let file = "#!/bin/sh\n# Copyright Some One\n\n# Says hello.\necho hello\n";
//! assert_eq!(cut(file, "hello.sh"), "#!/bin/sh\n# Says hello.\necho hello\n");
//! ```

use std::ops::Range;

use memchr::memmem;

/// How a language writes comments.
#[derive(Clone, Copy, Debug, Default)]
struct Comments {
    /// What begins a comment that ends with its line.
    line: &'static [&'static str],
    /// What begins and ends any other.
    block: &'static [(&'static str, &'static str)],
}

const C: Comments = Comments { line: &["//"], block: &[("/*", "*/")] };
const HASH: Comments = Comments { line: &["#"], block: &[("\"\"\"", "\"\"\""), ("'''", "'''")] };
const XML: Comments = Comments { line: &[], block: &[("<!--", "-->")] };
const HASKELL: Comments = Comments { line: &["--"], block: &[("{-", "-}")] };
const LUA: Comments = Comments { line: &["--"], block: &[("--[[", "]]"), ("/*", "*/")] };
const LISP: Comments = Comments { line: &[";"], block: &[("#|", "|#")] };
const TEX: Comments = Comments { line: &["%"], block: &[] };
/// `.m` is MATLAB's, and Objective-C's.
const MATLAB: Comments = Comments { line: &["%", "//"], block: C.block };
const FORTRAN: Comments = Comments { line: &["!", "C ", "c ", "* "], block: &[] };
const BASIC: Comments = Comments { line: &["'", "REM ", "rem ", "::"], block: &[] };
const ML: Comments = Comments { line: &[], block: &[("(*", "*)")] };
const POWERSHELL: Comments = Comments { line: &["#"], block: &[("<#", "#>")] };
const PHP: Comments = Comments { line: &["//", "#"], block: &[("/*", "*/")] };
const RST: Comments = Comments { line: &[".. "], block: &[] };

fn comments(path: &str) -> Comments {
    let name = path.rsplit('/').next().unwrap_or(path);
    let suffix = name.rsplit_once('.').map_or(name, |(_, suffix)| suffix).to_ascii_lowercase();
    match suffix.as_str() {
        "py" | "rb" | "sh" | "bash" | "zsh" | "command" | "pl" | "pm" | "perl" | "pod" | "r"
        | "jl" | "cmake" | "dockerfile" | "makefile" | "mk" | "yml" | "yaml" | "toml" | "ex"
        | "exs" | "nix" | "tcl" | "awk" | "smali" => HASH,
        "ps1" | "psd1" | "psm1" => POWERSHELL,
        "php" | "php3" | "php4" | "php5" | "phps" | "phpt" => PHP,
        "html" | "htm" | "xml" | "md" | "markdown" | "svg" | "xhtml" | "vue" => XML,
        "rst" => RST,
        "hs" | "elm" | "purs" | "idr" => HASKELL,
        "lua" | "sql" | "ada" | "adb" | "ads" | "vhd" | "vhdl" => LUA,
        "lisp" | "cl" | "el" | "clj" | "scm" | "rkt" | "asm" | "s" | "ini" => LISP,
        "tex" | "sty" | "cls" | "bib" | "erl" | "hrl" => TEX,
        "m" => MATLAB,
        "f" | "for" | "f77" | "f90" | "f95" | "f03" | "f08" | "fpp" => FORTRAN,
        "vb" | "bas" | "vbs" | "bat" | "cmd" => BASIC,
        "ml" | "mli" => ML,
        _ => C,
    }
}

/// The parts of `text` that are its licence, in order. `path` tells the language.
pub fn find(text: &str, path: &str) -> Vec<Range<usize>> {
    let style = comments(path);
    let mut at = preamble(text);
    let mut cuts: Vec<Range<usize>> = Vec::new();
    loop {
        let blank = text[at..].len() - text[at..].trim_start().len();
        let start = at + blank;
        let Some(end) = comment_end(&text[start..], style) else { break };
        let comment = &text[start..start + end];
        if !is_licence(comment) {
            break;
        }
        let after = &text[start + end..];
        let line_ends = after.len() - after.trim_start_matches(['\n', '\r']).len();
        let stop = start + end + line_ends;
        match cuts.last_mut() {
            Some(last) if last.end == start => last.end = stop,
            _ => cuts.push(start..stop),
        }
        at = stop;
    }
    cuts
}

/// `text` without its licence.
pub fn cut(text: &str, path: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for range in find(text, path) {
        out.push_str(&text[at..range.start]);
        at = range.end;
    }
    out.push_str(&text[at..]);
    out
}

/// Bytes of the lines that must stay first.
fn preamble(text: &str) -> usize {
    let mut at = text.len() - text.trim_start_matches('\u{FEFF}').len();
    for line in text[at..].split_inclusive('\n') {
        let code = line.trim();
        let lower = code.get(..code.len().min(9)).unwrap_or("").to_ascii_lowercase();
        let first = code.starts_with("#!")
            || (code.starts_with('#') && code.contains("coding"))
            || (lower.starts_with("<?php") || lower.starts_with("<?xml") || lower == "<!doctype")
            || code.is_empty();
        if !first {
            break;
        }
        at += line.len();
    }
    at
}

/// Where the comment at the start of `text` ends, if one is there. Lines of `//` are one comment,
/// but `///` and `//!`, which document what follows, are another.
fn comment_end(text: &str, style: Comments) -> Option<usize> {
    for (open, close) in style.block {
        if let Some(inner) = text.strip_prefix(open) {
            let end = memmem::find(inner.as_bytes(), close.as_bytes())?;
            return Some(open.len() + end + close.len());
        }
    }
    let mark = style.line.iter().find(|mark| text.starts_with(**mark))?;
    let kind = is_doc(text, mark);
    let same = |line: &&str| {
        let code = line.trim_start();
        code.starts_with(mark) && is_doc(code, mark) == kind
    };
    Some(text.split_inclusive('\n').take_while(same).map(str::len).sum())
}

/// Whether a line comment is of the kind that documents code.
fn is_doc(line: &str, mark: &str) -> bool {
    let rest = &line[mark.len()..];
    mark == "//" && (rest.starts_with('!') || (rest.starts_with('/') && !rest.starts_with("//")))
}

/// Whether a comment speaks of rights.
fn is_licence(comment: &str) -> bool {
    let lower = comment.to_ascii_lowercase();
    let has = |phrase: &str| memmem::find(lower.as_bytes(), phrase.as_bytes()).is_some();
    let alone = ["copyright", "spdx-license", "all rights reserved", "redistribution and use"];
    let beside = ["under", "terms", "see ", "distributed", "permission"];
    alone.into_iter().any(has)
        || ((has("license") || has("licence")) && beside.into_iter().any(has))
}
