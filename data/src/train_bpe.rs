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
//! the leftmost place of equals. With every pair that spells a token in the list ([`merges`]) the two
//! differ in one thing: among places where one token can arise of different pairs, the list prefers a
//! pair, the others the leftmost place. So a token is only taken where that order changes nothing,
//! see [`Tokens::alike_with`].

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
    tokens: Tokens,
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
    let mut trainer = Trainer {
        pieces: Vec::new(),
        tokens: Tokens::default(),
        counts: HashMap::new(),
        places: HashMap::new(),
        queue: BinaryHeap::new(),
    };
    for c in alphabet(&pieces, room) {
        trainer.tokens.push(c.to_string());
    }
    for (text, count) in &pieces {
        trainer.add_piece(text, *count as i64);
    }
    let seen = trainer.counts.iter().map(|(&pair, &count)| (count, Reverse(pair)));
    trainer.queue = seen.collect();
    while trainer.tokens.list.len() < room {
        let Some(pair) = trainer.most_frequent() else { break };
        trainer.merge(pair);
        progress(trainer.tokens.list.len());
    }
    trainer.tokens.list
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

/// The vocabulary as it grows.
#[derive(Default)]
struct Tokens {
    list: Vec<String>,
    ids: HashMap<String, u32>,
    /// Tokens that begin with a text, and those that end with it, itself not counted.
    longer: HashMap<String, Vec<u32>>,
}

impl Tokens {
    fn push(&mut self, token: String) -> u32 {
        let id = self.list.len() as u32;
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            for part in [left, right] {
                self.longer.entry(part.to_string()).or_default().push(id);
            }
        }
        self.ids.insert(token.clone(), id);
        self.list.push(token);
        id
    }

    /// Whether both ways of encoding agree on every text if `new` becomes a token: for it, and for
    /// each token that it can now be a side of.
    fn alike_with(&self, new: &str) -> bool {
        let longer = self.longer.get(new).into_iter().flatten().map(|&id| &*self.list[id as usize]);
        longer.chain([new]).all(|token| self.is_alike(token, new))
    }

    /// Whether the order in which `token` arises at different places cannot matter, `new` being a
    /// token too. It can if it arises of different pairs, and
    /// - the places overlap: x+y and y+z are both the token; or
    /// - an earlier token reaches from inside of one place over all of another, and so would take
    ///   from the first what it is to be made of.
    fn is_alike(&self, token: &str, new: &str) -> bool {
        let known = |part: &str| part == new || self.ids.contains_key(part);
        let splits: Vec<(&str, &str)> = token
            .char_indices()
            .skip(1)
            .map(|(at, _)| token.split_at(at))
            .filter(|(left, right)| known(left) && known(right))
            .collect();
        if splits.len() < 2 {
            return true;
        }
        let overlap = |(x, y): &(&str, &str)| x != y && splits.iter().any(|(left, _)| left == y);
        let rank = self.ids.get(token).copied().unwrap_or(self.list.len() as u32);
        let reaches = |earlier: &str| {
            let mut starts = earlier.char_indices().map(|(at, _)| earlier.split_at(at));
            starts.any(|(before, rest)| {
                let Some(after) = rest.strip_prefix(token) else { return false };
                let mut splits = splits.iter();
                splits.any(|(left, right)| before.starts_with(right) || after.ends_with(left))
            })
        };
        let parts = splits.iter().flat_map(|(left, right)| [left, right]);
        let mut longer = parts.filter_map(|&part| self.longer.get(part)).flatten();
        !splits.iter().any(overlap)
            && !longer.any(|&id| id < rank && reaches(&self.list[id as usize]))
    }
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
            match c.and_then(|c| self.tokens.ids.get(c.encode_utf8(&mut [0; 4]) as &str)) {
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

    /// The pair that comes most often, at least twice, isn't too long as one token, and leaves both
    /// ways of encoding alike.
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
            let text = self.text(pair);
            let known = self.tokens.ids.contains_key(&text);
            if known || text.chars().count() <= TOKEN_CHARS && self.tokens.alike_with(&text) {
                return Some(pair);
            }
        }
        None
    }

    /// What a pair spells.
    fn text(&self, pair: Pair) -> String {
        [pair.0, pair.1].map(|id| self.tokens.list[id as usize].as_str()).concat()
    }

    /// Makes one token of `pair` wherever it stands.
    fn merge(&mut self, pair: Pair) {
        let text = self.text(pair);
        // Two pairs can spell the same token.
        let known = self.tokens.ids.get(&text).copied();
        let id = known.unwrap_or_else(|| self.tokens.push(text));
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
