//! Byte-pair encoding: counts pieces of text, then merges the most frequent pair of neighbours
//! until the vocabulary is full (Sennrich, Haddow and Birch 2016, arXiv:1508.07909).
//!
//! The `tokenizers` crate has a trainer too. It isn't used because its result may hang on the order
//! of a hash map: a pair whose token arises in two ways stands in its queue twice, and rare
//! characters are dropped by a sort with ties; and it counts in 32 bits. Here every count is 64 bits
//! wide, every tie has a rule, and equal text gives equal bytes.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};

/// Longest token in characters, as in LLaMA's own tokenizer.
const TOKEN_CHARS: usize = 16;
/// Share of the text whose characters get tokens of their own; the rest falls back to bytes.
const COVERAGE: f64 = 0.99995;

type Pair = (u32, u32);

/// A trained vocabulary: ids from `first_id` on, characters first, then merges by rank.
pub(crate) struct Trained {
    /// Text of each token.
    pub tokens: Vec<String>,
    /// Both sides of each merge, most important first.
    pub merges: Vec<(String, String)>,
}

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
    merges: Vec<(String, String)>,
    merged: HashSet<Pair>,
}

/// Learns at most `room` tokens from pieces and their counts, calling `progress` with tokens done.
pub(crate) fn train(
    pieces: HashMap<String, u64>,
    room: usize,
    progress: &mut dyn FnMut(usize),
) -> Trained {
    let mut pieces: Vec<_> = pieces.into_iter().collect();
    pieces.sort_unstable();
    let tokens: Vec<String> = alphabet(&pieces, room).into_iter().map(String::from).collect();
    let ids: HashMap<_, _> = tokens.iter().cloned().zip(0..).collect();
    let mut trainer = Trainer {
        pieces: Vec::new(),
        tokens,
        ids,
        counts: HashMap::new(),
        places: HashMap::new(),
        queue: BinaryHeap::new(),
        merges: Vec::new(),
        merged: HashSet::new(),
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
    Trained { tokens: trainer.tokens, merges: trainer.merges }
}

/// The characters worth a token: the most frequent that cover the text, at most half of `room`.
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
    let mut chars = Vec::new();
    for (Reverse(count), c) in by_count.into_iter().take(room / 2) {
        if covered as f64 >= COVERAGE * total as f64 {
            break;
        }
        covered += count;
        chars.push(c);
    }
    chars.sort_unstable();
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
        let (left, right) = (&self.tokens[pair.0 as usize], &self.tokens[pair.1 as usize]);
        let text = format!("{left}{right}");
        // Two pairs can spell the same token, so a side can arise anew and its pair come again.
        if self.merged.insert(pair) {
            self.merges.push((left.clone(), right.clone()));
        }
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
