//! How RedPajama cuts headers, for the proof of agreement: where a file has any `/* */`, only the
//! first is looked at; where it has none, all leading lines that begin with `//`, `#` or `--` go,
//! and with them shebangs, `#include`s and titles in Markdown.
//!
//! ```
//! use data::corpus::github::redpajama::cut_header;
//!
//! assert_eq!(cut_header("#include <a.h>\nint a;"), "int a;");
//! assert_eq!(cut_header("/* Copyright Some One */int a;"), "int a;");
//! ```

use memchr::memmem;

/// `text` as RedPajama leaves it.
pub fn cut_header(text: &str) -> String {
    if let Some((start, end)) = first_block(text) {
        let copyright = text[start..end].to_ascii_lowercase().contains("copyright");
        return if copyright { [&text[..start], &text[end..]].concat() } else { text.to_string() };
    }
    let mut rest = text;
    loop {
        let line = rest.split('\n').next().unwrap_or_default();
        let comment = ["//", "#", "--"].iter().any(|mark| line.starts_with(mark));
        if !comment && !line.is_empty() {
            return rest.to_string();
        }
        match rest.get(line.len() + 1..) {
            Some(after) => rest = after,
            None => return String::new(),
        }
    }
}

fn first_block(text: &str) -> Option<(usize, usize)> {
    let start = memmem::find(text.as_bytes(), b"/*")?;
    let end = memmem::find(&text.as_bytes()[start + 2..], b"*/")?;
    Some((start, start + 2 + end + 2))
}
