//! Which licence a text is: the phrases that each licence cannot do without.
//!
//! ```
//! use data::corpus::github::licence::{Licence, detect, is_licence_file};
//!
//! assert!(is_licence_file("LICENSE.txt") && !is_licence_file("license_test.go"));
//! let text = "Apache License\n    Version 2.0, January 2004\n";
//! assert_eq!(detect(text), Some(Licence::Apache2));
//! assert_eq!(detect("GNU GENERAL PUBLIC LICENSE\nVersion 3"), None);
//! ```

/// Licences that the paper keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Licence {
    /// Apache License 2.0.
    Apache2,
    /// BSD with two clauses.
    Bsd2,
    /// BSD with the clause on names.
    Bsd3,
    /// MIT, also known as Expat.
    Mit,
}

impl Licence {
    /// The name that SPDX gives it.
    pub fn spdx(self) -> &'static str {
        match self {
            Licence::Apache2 => "Apache-2.0",
            Licence::Bsd2 => "BSD-2-Clause",
            Licence::Bsd3 => "BSD-3-Clause",
            Licence::Mit => "MIT",
        }
    }
}

const APACHE: &str = "apache license version 2 0";
const BSD: &str = "redistribution and use in source and binary forms with or without modification \
                   are permitted provided that the following conditions are met";
const BSD_NAMES: &str = "may be used to endorse or promote products derived from this software";
const MIT: &str = "permission is hereby granted free of charge to any person obtaining a copy of \
                   this software and associated documentation files the software to deal in the \
                   software without restriction";
const MIT_NOTICE: &str = "shall be included in all copies or substantial portions of the software";

/// Terms of other licences. A text that has one of them is not a plain text of ours: terms were
/// added, or it lists the licences of many parts.
const OTHERS: [&str; 8] = [
    "gnu general public license",
    "gnu lesser general public license",
    "gnu affero general public license",
    "mozilla public license",
    "eclipse public license",
    "creative commons",
    "commons clause",
    "all advertising materials mentioning features",
];

/// Bytes of a licence's file that are read; Apache's has 11 KB.
const READ_BYTES: usize = 64 << 10;

/// The licence whose text this is, if it is one that the paper keeps.
pub fn detect(text: &str) -> Option<Licence> {
    let text = words(text);
    let has = |phrase: &str| memchr::memmem::find(text.as_bytes(), phrase.as_bytes()).is_some();
    if OTHERS.iter().any(|phrase| has(phrase)) {
        return None;
    }
    match () {
        () if has(APACHE) => Some(Licence::Apache2),
        () if has(MIT) && has(MIT_NOTICE) => Some(Licence::Mit),
        () if has(BSD) && has(BSD_NAMES) => Some(Licence::Bsd3),
        () if has(BSD) => Some(Licence::Bsd2),
        () => None,
    }
}

/// Letters and digits in lower case, one space between words: marks of comments, quotes and the
/// breaks of lines differ from copy to copy.
fn words(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(READ_BYTES) {
        if c.is_alphanumeric() {
            out.extend(c.to_lowercase());
        } else if !out.ends_with(' ') {
            out.push(' ');
        }
    }
    out
}

/// Whether a file at the root of a project holds its licence, by its name.
pub fn is_licence_file(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let stem = [".MD", ".TXT", ".RST"].iter().find_map(|e| upper.strip_suffix(e)).unwrap_or(&upper);
    // `LICENSE-2.0` is a licence, `license_test.go` is none.
    if stem.rsplit_once('.').is_some_and(|(_, e)| e.bytes().all(|b| b.is_ascii_alphabetic())) {
        return false;
    }
    ["LICENSE", "LICENCE", "COPYING"]
        .iter()
        .any(|word| stem.split(['-', '_', '.']).any(|part| part == *word))
}
