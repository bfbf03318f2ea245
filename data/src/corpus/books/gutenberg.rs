//! Cuts what Project Gutenberg puts around a book: its own words before and after, and the credits
//! of those who typed it.
//!
//! ```
//! use data::corpus::books::gutenberg::body;
//!
//! let book = "*** START OF THE PROJECT GUTENBERG EBOOK HAMLET ***\nProduced by a friend\n\nTo be\n\
//!             *** END OF THE PROJECT GUTENBERG EBOOK HAMLET ***\nThe licence.\n";
//! assert_eq!(&book[body(book)], "To be");
//! ```

use std::ops::Range;

/// How the first line of credits begins, in capitals.
const CREDITS: [&str; 9] = [
    "PRODUCED BY",
    "E-TEXT PREPARED BY",
    "THIS ETEXT WAS",
    "THIS E-TEXT WAS",
    "ETEXT PREPARED BY",
    "TRANSCRIBED BY",
    "TRANSCRIBED FROM",
    "PREPARED BY",
    "SCANNED BY",
];

/// Lines of credits, at most.
const CREDIT_LINES: usize = 8;

/// Bytes of a line that are looked at; no mark is longer.
const MARK_BYTES: usize = 200;

/// The book itself; all of the text, where Gutenberg's marks are missing.
pub fn body(text: &str) -> Range<usize> {
    let (mut start, mut end) = (0, text.len());
    let mut at = 0;
    let mut begun = false;
    for line in text.split_inclusive('\n') {
        let (line_start, line_end) = (at, at + line.len());
        at = line_end;
        match mark(line) {
            Some(Mark::Start) if !begun => (start, begun) = (line_end, true),
            Some(Mark::SmallPrint) if !begun => start = line_end,
            Some(Mark::End) if line_start > start => {
                end = line_start;
                break;
            }
            _ => {}
        }
    }
    start += credits(&text[start..end]);
    let body = &text[start..end];
    let blank = body.len() - body.trim_start().len();
    start + blank..start + body.trim_end().len().max(blank)
}

enum Mark {
    /// `*** START OF THE PROJECT GUTENBERG EBOOK ..`.
    Start,
    /// The end of the older licence, `*END*THE SMALL PRINT! ..`: the book begins after the last.
    SmallPrint,
    /// `*** END OF ..`, or the line `End of the Project Gutenberg EBook of ..` before it.
    End,
}

fn mark(line: &str) -> Option<Mark> {
    let line = line.trim_start_matches('\u{FEFF}').trim();
    let first = line.bytes().next()?;
    if first != b'*' && first != b'E' && first != b'e' {
        return None;
    }
    let upper: String = line.chars().take(MARK_BYTES).collect::<String>().to_ascii_uppercase();
    let ours = upper.contains("GUTENBERG");
    match () {
        () if upper.starts_with("***") && ours && upper.contains("START OF") => Some(Mark::Start),
        () if upper.starts_with("***") && ours && upper.contains("END OF") => Some(Mark::End),
        () if upper.starts_with("*END*THE SMALL PRINT")
            || upper.starts_with("*END THE SMALL PRINT") =>
        {
            Some(Mark::SmallPrint)
        }
        () if ["END OF PROJECT", "END OF THE PROJECT", "END OF THIS PROJECT"]
            .iter()
            .any(|words| upper.starts_with(words))
            && ours =>
        {
            Some(Mark::End)
        }
        () => None,
    }
}

/// Bytes of the credits that begin `text`: to the next blank line, if that comes soon; else one
/// line.
fn credits(text: &str) -> usize {
    let blank = text.len() - text.trim_start().len();
    let upper: String = text[blank..].chars().take(20).collect::<String>().to_ascii_uppercase();
    if !CREDITS.iter().any(|words| upper.starts_with(words)) {
        return 0;
    }
    let mut lines = text[blank..].split_inclusive('\n').take(CREDIT_LINES);
    let first = lines.next().map_or(0, str::len);
    let mut length = first;
    for line in lines {
        if line.trim().is_empty() {
            return blank + length;
        }
        length += line.len();
    }
    blank + first
}
