//! Byte-pair encoding: counts pieces of text, then merges the most frequent pair of neighbours
//! until the vocabulary is full (Sennrich, Haddow and Birch 2016, arXiv:1508.07909).
//!
//! The `tokenizers` crate has a trainer too. It isn't used because its result may hang on the order
//! of a hash map: a pair whose token arises in two ways stands in its queue twice, and rare
//! characters are dropped by a sort with ties; and it counts in 32 bits. Here every count is 64 bits
//! wide, every tie has a rule, and equal text gives equal bytes.
//!
//! There are two ways to encode with such a vocabulary. `tokenizers` follows a list of pairs;
//! SentencePiece and llama.cpp join any two neighbours that spell a token, the earliest token first and
//! the leftmost place of equals. With every pair that spells a token in the list ([`merges`]) they
//! could differ where one token arises of different pairs at places that overlap; no text is known
//! where they do.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};

/// What stands for a space.
pub(crate) const SPACE: char = '\u{2581}';
/// Longest token in characters, as in LLaMA's own tokenizer.
const TOKEN_CHARS: usize = 16;
/// Share of the text whose characters get tokens of their own; the rest falls back to bytes.
const COVERAGE: f64 = 0.99995;

type Pair = (u32, u32);

/// A piece of text as tokens, and how often it comes.
struct Piece {
    ids: Vec<u32>,
    count: i64,
}

struct Trainer {
    pieces: Vec<Piece>,
    tokens: Vec<String>,
    ids: HashMap<String, u32>,
    counts: HashMap<Pair, i64>,
    /// Pieces in which a pair was seen; it may be gone from some since.
    places: HashMap<Pair, BTreeSet<usize>>,
    /// Highest count first, then the lowest ids. A count may be out of date; then it is too high.
    queue: BinaryHeap<(i64, Reverse<Pair>)>,
}

/// Learns at most `room` tokens from pieces and their counts, calling `progress` with tokens done.
/// Characters come first, then what is merged, the most important first.
pub(crate) fn train(
    pieces: HashMap<String, u64>,
    room: usize,
    progress: &mut dyn FnMut(usize),
) -> Vec<String> {
    let mut pieces: Vec<_> = pieces.into_iter().collect();
    pieces.sort_unstable();
    let tokens: Vec<String> = alphabet(&pieces, room).into_iter().map(String::from).collect();
    let ids = tokens.iter().cloned().zip(0..).collect();
    let mut trainer = Trainer {
        pieces: Vec::new(),
        tokens,
        ids,
        counts: HashMap::new(),
        places: HashMap::new(),
        queue: BinaryHeap::new(),
    };
    for (text, count) in &pieces {
        trainer.add_piece(text, *count as i64);
    }
    let seen = trainer.counts.iter().map(|(&pair, &count)| (count, Reverse(pair)));
    trainer.queue = seen.collect();
    while trainer.tokens.len() < room {
        let Some(pair) = trainer.most_frequent() else { break };
        trainer.merge(pair);
        progress(trainer.tokens.len());
    }
    trainer.tokens
}

/// Every pair of tokens that spells a token, by that token, the most important first.
pub(crate) fn merges(tokens: &[String]) -> Vec<(String, String)> {
    let known: HashSet<&str> = tokens.iter().map(String::as_str).collect();
    let pair = |token: &str, at: usize| {
        let (left, right) = token.split_at(at);
        let known = known.contains(left) && known.contains(right);
        known.then(|| (left.to_string(), right.to_string()))
    };
    let inner = |token: &str| token.char_indices().map(|(at, _)| at).skip(1).collect::<Vec<_>>();
    let pairs = tokens.iter().flat_map(|token| {
        inner(token).into_iter().filter_map(move |at| pair(token, at)).collect::<Vec<_>>()
    });
    pairs.collect()
}

/// The characters worth a token: the sign for spaces, and the most frequent that cover the text, at
/// most half of `room`.
fn alphabet(pieces: &[(String, u64)], room: usize) -> Vec<char> {
    let mut counts: HashMap<char, u64> = HashMap::new();
    for (text, count) in pieces {
        for c in text.chars() {
            *counts.entry(c).or_default() += count;
        }
    }
    let total: u64 = counts.values().sum();
    let mut by_count: Vec<_> = counts.into_iter().map(|(c, count)| (Reverse(count), c)).collect();
    by_count.sort_unstable();
    let mut covered = 0;
    let mut chars = vec![SPACE];
    for (Reverse(count), c) in by_count.into_iter().take(room / 2) {
        if covered as f64 >= COVERAGE * total as f64 {
            break;
        }
        covered += count;
        chars.push(c);
    }
    chars.sort_unstable();
    chars.dedup();
    chars
}

impl Trainer {
    /// Adds the runs of known characters in `text`; an unknown one separates, as its bytes will.
    fn add_piece(&mut self, text: &str, count: i64) {
        let mut ids = Vec::new();
        for c in text.chars().map(Some).chain([None]) {
            match c.and_then(|c| self.ids.get(c.encode_utf8(&mut [0; 4]) as &str)) {
                Some(&id) => ids.push(id),
                None if ids.len() < 2 => ids.clear(),
                None => {
                    let place = self.pieces.len();
                    for pair in ids.windows(2).map(|w| (w[0], w[1])) {
                        *self.counts.entry(pair).or_default() += count;
                        self.places.entry(pair).or_default().insert(place);
                    }
                    self.pieces.push(Piece { ids: std::mem::take(&mut ids), count });
                }
            }
        }
    }

    /// The pair that comes most often, at least twice, and isn't too long as one token.
    fn most_frequent(&mut self) -> Option<Pair> {
        while let Some((count, Reverse(pair))) = self.queue.pop() {
            let now = self.counts[&pair];
            if now < 2 {
                continue;
            }
            if now < count {
                self.queue.push((now, Reverse(pair)));
                continue;
            }
            let chars = |id: u32| self.tokens[id as usize].chars().count();
            if chars(pair.0) + chars(pair.1) <= TOKEN_CHARS {
                return Some(pair);
            }
        }
        None
    }

    /// Makes one token of `pair` wherever it stands.
    fn merge(&mut self, pair: Pair) {
        let text = [pair.0, pair.1].map(|id| self.tokens[id as usize].as_str()).concat();
        // Two pairs can spell the same token.
        let next = self.tokens.len() as u32;
        let id = *self.ids.entry(text.clone()).or_insert(next);
        if id == next {
            self.tokens.push(text);
        }
        let mut risen = BTreeSet::new();
        for place in self.places.remove(&pair).unwrap_or_default() {
            let Piece { ids, count } = &mut self.pieces[place];
            let merged = replace(ids, pair, id);
            if merged.len() == ids.len() {
                continue;
            }
            for old in ids.windows(2).map(|w| (w[0], w[1])) {
                *self.counts.get_mut(&old).expect("every pair was counted") -= *count;
            }
            for new in merged.windows(2).map(|w| (w[0], w[1])) {
                *self.counts.entry(new).or_default() += *count;
                if new.0 == id || new.1 == id {
                    self.places.entry(new).or_default().insert(place);
                    risen.insert(new);
                }
            }
            *ids = merged;
        }
        for new in risen {
            self.queue.push((self.counts[&new], Reverse(new)));
        }
    }
}

/// `ids` with each `pair` replaced by `id`, from the left.
fn replace(ids: &[u32], pair: Pair, id: u32) -> Vec<u32> {
    let mut out = Vec::with_capacity(ids.len());
    let mut i = 0;
    while i < ids.len() {
        let here = i + 1 < ids.len() && (ids[i], ids[i + 1]) == pair;
        out.push(if here { id } else { ids[i] });
        i += if here { 2 } else { 1 };
    }
    out
}
