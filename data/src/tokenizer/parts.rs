//! Where a text may be cut so that its parts encode as the whole does: long texts are encoded in
//! parts, in little memory and on all threads.

use serde_json::Value;

use super::own;
use crate::train_bpe::SPACE;

/// Bytes of a part, at least.
const PART_BYTES: usize = 1 << 16;

/// Where a tokenizer's text may be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Nowhere.
    Never,
    /// After line ends: its own pattern makes pieces of them.
    Lines,
    /// Before each word, once spaces are [`SPACE`]: no token has that sign inside, so none reaches
    /// over such a place, and merges left and right of it are independent.
    Words,
    /// Nowhere, but spaces are written as [`SPACE`] all the same.
    Spaces,
}

impl Cut {
    /// For a `tokenizer.json`.
    pub(super) fn of(json: &Value) -> Cut {
        if own::divides_at_lines(json) {
            return Cut::Lines;
        }
        let model = &json["model"];
        let empty = |key: &str| model[key].is_null() || model[key] == "";
        let plain = model["type"] == "BPE"
            && ["dropout", "continuing_subword_prefix", "end_of_word_suffix"]
                .into_iter()
                .all(empty)
            && !model["ignore_merges"].as_bool().unwrap_or(false)
            && model["byte_fallback"] == true
            && json["normalizer"] == own::space_normalizer()
            && json["pre_tokenizer"].is_null();
        let (Some(vocab), Some(added)) =
            (model["vocab"].as_object(), json["added_tokens"].as_array())
        else {
            return Cut::Never;
        };
        let bytes = (0..=255u8).all(|byte| vocab.contains_key(&format!("<0x{byte:02X}>")));
        // Others are found in any text before it is encoded.
        let special = added.iter().all(|token| token["special"] == true);
        let inside = vocab.keys().any(|token| token.trim_start_matches(SPACE).contains(SPACE));
        if plain && bytes && special && !inside { Cut::Words } else { Cut::Never }
    }
}

/// Parts of `text`, each from a line's start to a line's end.
pub(super) fn lines(text: &str) -> Vec<&str> {
    let line_end = |byte: u8| matches!(byte, b'\r' | b'\n');
    parts(text, |before, after| line_end(before) && !line_end(after))
}

/// Parts of a text whose spaces are [`SPACE`], each of whole words.
pub(super) fn of_words(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while rest.len() > PART_BYTES {
        let start = (PART_BYTES..rest.len()).find(|&i| rest.is_char_boundary(i));
        let cut = start.and_then(|start| {
            rest[start..]
                .match_indices(SPACE)
                .map(|(at, _)| start + at)
                .find(|&at| begins(rest, at))
        });
        let Some(cut) = cut else { break };
        let (part, after) = rest.split_at(cut);
        parts.push(part);
        rest = after;
    }
    parts.push(rest);
    parts
}

/// The words of a text whose spaces are [`SPACE`], each with those before it.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    let starts = text.match_indices(SPACE).map(|(at, _)| at).filter(|&at| begins(text, at));
    let ends = starts.clone().filter(|&at| at > 0).chain([text.len()]);
    [0].into_iter().chain(starts.filter(|&at| at > 0)).zip(ends).map(|(from, to)| &text[from..to])
}

/// Whether a word begins at the [`SPACE`] at `at`.
fn begins(text: &str, at: usize) -> bool {
    !text[..at].ends_with(SPACE)
}

fn parts(text: &str, may_cut: impl Fn(u8, u8) -> bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while rest.len() > PART_BYTES {
        let bytes = rest.as_bytes();
        let cut = (PART_BYTES..bytes.len()).find(|&i| may_cut(bytes[i - 1], bytes[i]));
        let Some(cut) = cut else { break };
        let (part, after) = rest.split_at(cut);
        parts.push(part);
        rest = after;
    }
    parts.push(rest);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_take_the_spaces_before_them() {
        let text = "\u{2581}\u{2581}a\u{2581}b\n\u{2581}\u{2581}\u{2581}c\u{2581}";
        let want = ["\u{2581}\u{2581}a", "\u{2581}b\n", "\u{2581}\u{2581}\u{2581}c", "\u{2581}"];
        assert_eq!(words(text).collect::<Vec<_>>(), want);
        assert_eq!(words("ab").collect::<Vec<_>>(), ["ab"]);
    }

    #[test]
    fn parts_are_whole_words_or_lines_and_make_up_the_text() {
        let text = "\u{2581}word\u{2581}\u{2581}x".repeat(20_000);
        let of_words = of_words(&text);
        assert!(of_words.len() > 1 && of_words.concat() == text);
        assert!(of_words[1..].iter().all(|part| part.starts_with(SPACE)));
        assert!(of_words.iter().all(|part| !part.ends_with(SPACE)));
        let text = "line\r\n\n".repeat(20_000);
        let lines = lines(&text);
        assert!(lines.len() > 1 && lines.concat() == text);
        assert!(lines.iter().all(|part| part.starts_with('l') && part.ends_with("\n\n")));
    }
}
