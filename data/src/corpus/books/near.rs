//! Whether two books are one: by the words that they share, and by RedPajama's SimHash.
//!
//! ```
//! use data::corpus::books::near::{overlap, shingles};
//!
//! let book = shingles("To be, or not to be: that is the question.", 3);
//! let part = shingles("to be or not to be", 3);
//! assert_eq!(overlap(&book, &part), 1.0);
//! assert!(overlap(&book, &shingles("to be or to seem", 3)) < 0.5);
//! ```

use std::collections::BTreeMap;

use md5::{Digest, Md5};
use xxhash_rust::xxh3::xxh3_64;

/// Runs of `words` words as hashes, sorted, each once; letters in lower case, all but letters and
/// digits left out. A text of fewer words is one run.
pub fn shingles(text: &str, words: usize) -> Vec<u64> {
    let lower = text.to_lowercase();
    let found: Vec<&str> =
        lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let mut run = String::new();
    let mut hashes: Vec<u64> = found
        .windows(words.clamp(1, found.len().max(1)))
        .map(|window| {
            run.clear();
            window.iter().for_each(|word| {
                run.push_str(word);
                run.push(' ');
            });
            xxh3_64(run.as_bytes())
        })
        .collect();
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}

/// The share of the smaller set that the other holds too; both sorted.
pub fn overlap(a: &[u64], b: &[u64]) -> f64 {
    let (mut i, mut j, mut both) = (0, 0, 0_usize);
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => (i, j, both) = (i + 1, j + 1, both + 1),
        }
    }
    both as f64 / a.len().min(b.len()).max(1) as f64
}

/// RedPajama's 64-bit SimHash: runs of six characters of lower-case text without all but `\w`, each
/// voting with the last eight bytes of its MD5.
pub fn simhash(text: &str) -> u64 {
    const WIDTH: usize = 6;
    let lower = text.to_lowercase();
    let word: String = lower.chars().filter(|&c| c.is_alphanumeric() || c == '_').collect();
    let mut starts: Vec<usize> = word.char_indices().map(|(at, _)| at).collect();
    starts.push(word.len());
    let runs = starts.len().saturating_sub(WIDTH).max(1);
    let mut votes = [0_u32; 64];
    for i in 0..runs {
        let run = &word[starts[i]..starts[(i + WIDTH).min(starts.len() - 1)]];
        let digest = Md5::digest(run.as_bytes());
        let hash = u64::from_be_bytes(digest[8..].try_into().expect("MD5 has 16 bytes"));
        for (bit, votes) in votes.iter_mut().enumerate() {
            *votes += (hash >> bit & 1) as u32;
        }
    }
    let majority = |votes: u32| u64::from(2 * u64::from(votes) > runs as u64);
    votes.iter().enumerate().fold(0, |hash, (bit, &votes)| hash | majority(votes) << bit)
}

/// Which books RedPajama keeps: those without an earlier one, kept or not, within `distance` bits.
pub fn simhash_kept(hashes: &[u64], distance: u32) -> Vec<bool> {
    // Cut into one more part than bits may differ, so two near hashes agree in one part.
    let parts = distance + 1;
    let width = 64 / parts;
    let part = |hash: u64, i: u32| {
        let above = if i + 1 == parts { u64::MAX } else { (1 << ((i + 1) * width)) - 1 };
        (i, (hash & above) >> (i * width))
    };
    let mut seen: BTreeMap<(u32, u64), Vec<u64>> = BTreeMap::new();
    let mut kept = Vec::with_capacity(hashes.len());
    for &hash in hashes {
        let near = |other: &u64| (hash ^ other).count_ones() <= distance;
        let found = (0..parts)
            .any(|i| seen.get(&part(hash, i)).is_some_and(|others| others.iter().any(near)));
        kept.push(!found);
        for i in 0..parts {
            seen.entry(part(hash, i)).or_default().push(hash);
        }
    }
    kept
}
