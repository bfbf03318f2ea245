//! What two texts have in common: shingles, sketches of sets of them, and bands of sketches.
//!
//! Words are runs of letters and digits in lower case; a shingle is the hash of `ngram` words in a
//! row. A sketch is Dahlgaard, Knudsen and Thorup, "Fast similarity sketching", FOCS 2017
//! (arXiv:1704.04370): in each round every shingle falls into one of K bins, the least value stays,
//! and rounds go on until no bin is empty. A bin of two sketches agrees with the probability that is
//! the Jaccard similarity of the sets, as with K hash functions, at the cost of one for all but the
//! shortest texts.

use std::hash::Hasher;

use xxhash_rust::xxh3::Xxh3Default;

use crate::rng::mix64;

/// Odd, with a good spread of bits: 2^64 divided by the golden ratio.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// Shingles of one text after the other; keeps its memory.
#[derive(Default)]
pub(super) struct Shingler {
    word: String,
    words: Vec<u64>,
    /// Hashes of the shingles, in the order of the text, repeated ones too.
    pub(super) shingles: Vec<u64>,
}

impl Shingler {
    /// Takes the shingles of a text. One with fewer words than `ngram` has a single shingle of all
    /// of them; one without words has none.
    pub(super) fn take(&mut self, text: &str, ngram: usize) {
        self.words.clear();
        self.shingles.clear();
        for c in text.chars() {
            if c.is_ascii_alphanumeric() {
                self.word.push(c.to_ascii_lowercase());
            } else if !c.is_ascii() && c.is_alphanumeric() {
                self.word.extend(c.to_lowercase());
            } else {
                self.end_word();
            }
        }
        self.end_word();
        if self.words.is_empty() {
            return;
        }
        // A window's hash is a polynomial in STEP of its words' hashes.
        let ngram = ngram.min(self.words.len());
        let leading = (1..ngram).fold(1u64, |power, _| power.wrapping_mul(STEP));
        let mut hash = 0u64;
        for (i, &word) in self.words.iter().enumerate() {
            if i >= ngram {
                hash = hash.wrapping_sub(self.words[i - ngram].wrapping_mul(leading));
            }
            hash = hash.wrapping_mul(STEP).wrapping_add(word);
            if i + 1 >= ngram {
                self.shingles.push(mix64(hash));
            }
        }
    }

    /// The shingles as a set: sorted, without repetition.
    pub(super) fn set(&mut self) -> &[u64] {
        self.shingles.sort_unstable();
        self.shingles.dedup();
        &self.shingles
    }

    fn end_word(&mut self) {
        if !self.word.is_empty() {
            self.words.push(xxhash_rust::xxh3::xxh3_64(self.word.as_bytes()));
            self.word.clear();
        }
    }
}

/// Fills a sketch of a set that is not empty.
pub(super) fn sketch(bins: &mut [u64], shingles: &[u64]) {
    assert!(!shingles.is_empty(), "sketch: of nothing");
    bins.fill(u64::MAX);
    let count = bins.len() as u64;
    let mut empty = bins.len();
    for round in 0u64.. {
        for &shingle in shingles {
            let hash = mix64(shingle.wrapping_add(round.wrapping_mul(STEP)));
            let bin = &mut bins[(((hash >> 32) * count) >> 32) as usize];
            empty -= usize::from(*bin == u64::MAX);
            // Values of an earlier round are less than any of a later one.
            *bin = (*bin).min(round << 32 | hash & 0xFFFF_FFFF);
        }
        if empty == 0 {
            return;
        }
    }
}

/// The key of a band: two texts with the same key agree in all of the band's bins.
pub(super) fn band_key(band: usize, bins: &[u64]) -> i64 {
    let mut hash = Xxh3Default::new();
    hash.write_u64(band as u64);
    for bin in bins {
        hash.write_u64(*bin);
    }
    hash.finish() as i64
}

/// Members that two sorted sets share, and members of either.
pub(super) fn overlap(a: &[u64], b: &[u64]) -> (usize, usize) {
    let (mut i, mut j, mut common) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        let (x, y) = (a[i], b[j]);
        common += usize::from(x == y);
        i += usize::from(x <= y);
        j += usize::from(y <= x);
    }
    (common, a.len() + b.len() - common)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(range: std::ops::Range<u64>) -> Vec<u64> {
        range.map(mix64).collect()
    }

    fn shingles(text: &str, ngram: usize) -> Vec<u64> {
        let mut shingler = Shingler::default();
        shingler.take(text, ngram);
        shingler.set().to_vec()
    }

    #[test]
    fn shingles_are_of_words_in_lower_case() {
        assert_eq!(shingles("The cat, the DOG; a b", 2), shingles("the\ncat the dog A-b", 2));
        assert_eq!(shingles("Съешь ЕЩЁ этих", 2), shingles("съешь ещё ЭТИХ!", 2));
        assert_ne!(shingles("a b c", 2), shingles("b a c", 2));
        assert_eq!(shingles("one two", 5).len(), 1);
        assert_eq!(shingles(" .,; ", 5).len(), 0);
        // The rolling hash forgets what left the window.
        assert!(shingles("x y a b c", 3).iter().any(|s| shingles("a b c", 3).contains(s)));
    }

    /// The share of bins that agree is the Jaccard similarity, within five standard deviations of
    /// independent bins, for texts shorter and longer than the sketch.
    #[test]
    fn bins_agree_as_often_as_sets_overlap() {
        const BINS: usize = 140;
        for (size, shared) in [(20, 10), (40, 36), (200, 160), (3000, 1500), (3000, 2900)] {
            let (mut agree, rounds) = (0, 200);
            for round in 0..rounds {
                let base = round * 10_000;
                let (a, b) =
                    (set(base..base + size), set(base + size - shared..base + 2 * size - shared));
                let (mut x, mut y) = ([0; BINS], [0; BINS]);
                sketch(&mut x, &a);
                sketch(&mut y, &b);
                agree += x.iter().zip(&y).filter(|(x, y)| x == y).count();
            }
            let jaccard = shared as f64 / (2 * size - shared) as f64;
            let trials = (rounds as usize * BINS) as f64;
            let error = agree as f64 / trials - jaccard;
            let deviation = (jaccard * (1.0 - jaccard) / trials).sqrt();
            assert!(
                error.abs() < 5.0 * deviation,
                "{size} {shared}: {error} of {jaccard}, {deviation}"
            );
        }
    }

    #[test]
    fn overlap_counts_both() {
        assert_eq!(overlap(&[1, 2, 3, 9], &[2, 3, 4]), (2, 5));
        assert_eq!(overlap(&[], &[1]), (0, 1));
    }
}
