//! How the rows of a batch are divided: tokens of several sequences lie one after the other.

use std::fmt;

/// Consecutive tokens of one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Row of its first token.
    pub offset: usize,
    /// Tokens, at least one.
    pub len: usize,
    /// Position of its first token in the sequence.
    pub first: usize,
}

impl Segment {
    /// The row behind its last token.
    pub fn end(&self) -> usize {
        self.offset + self.len
    }
}

/// Segments that cover the rows of a batch without gaps. No token sees one of another segment.
///
/// ```
/// let packed = engine::Segments::of_lengths([3, 1, 2]);
/// assert_eq!(packed.rows(), 6);
/// assert_eq!(packed.of_row(4).offset, 4);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segments {
    list: Vec<Segment>,
}

impl Segments {
    /// `count` whole sequences of `T` tokens.
    pub fn equal(count: usize, T: usize) -> Self {
        Self::of_lengths((0..count).map(|_| T))
    }

    /// Whole sequences of these lengths.
    pub fn of_lengths(lengths: impl IntoIterator<Item = usize>) -> Self {
        let mut segments = Segments::default();
        lengths.into_iter().for_each(|len| segments.push(len, 0));
        segments
    }

    /// Forgets all, and keeps the memory.
    pub fn clear(&mut self) {
        self.list.clear();
    }

    /// Adds `len` rows, the first at position `first` of its sequence.
    ///
    /// # Panics
    /// If `len` is 0: a caller bug.
    pub fn push(&mut self, len: usize, first: usize) {
        assert!(len > 0, "segments: an empty one");
        self.list.push(Segment { offset: self.rows(), len, first });
    }

    /// Rows of the batch.
    pub fn rows(&self) -> usize {
        self.list.last().map_or(0, Segment::end)
    }

    /// All of them, in the order of rows.
    pub fn list(&self) -> &[Segment] {
        &self.list
    }

    /// The segment of row `n`.
    ///
    /// # Panics
    /// If there is no such row: a caller bug.
    pub fn of_row(&self, n: usize) -> &Segment {
        assert!(n < self.rows(), "segments: row {n} of {}", self.rows());
        &self.list[self.list.partition_point(|s| s.end() <= n)]
    }

    /// The length that all have, if they are whole sequences of equal length.
    pub fn equal_len(&self) -> Option<usize> {
        let len = self.list.first()?.len;
        self.list.iter().all(|s| s.len == len && s.first == 0).then_some(len)
    }

    /// Positions that the batch reaches: one more than the last.
    pub fn reach(&self) -> usize {
        self.list.iter().map(|s| s.first + s.len).max().unwrap_or(0)
    }

    /// Pairs of a token and one that it sees of its own segment, itself included.
    pub fn pairs(&self) -> usize {
        self.list.iter().map(|s| s.len * (s.len + 1) / 2).sum()
    }

    /// Pairs of a token and one that it sees of its sequence, with those before its segment.
    pub fn pairs_with_past(&self) -> usize {
        self.pairs() + self.list.iter().map(|s| s.len * s.first).sum::<usize>()
    }
}

/// `T256` for equal lengths, otherwise how many there are.
impl fmt::Display for Segments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.equal_len() {
            Some(T) => write!(f, "T{T}"),
            None => write!(f, "in {}", self.list.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_its_segment() {
        let mut packed = Segments::of_lengths([3, 1]);
        packed.push(4, 7);
        let of: Vec<usize> = (0..packed.rows()).map(|n| packed.of_row(n).offset).collect();
        assert_eq!(of, [0, 0, 0, 3, 4, 4, 4, 4]);
        assert_eq!((packed.reach(), packed.equal_len()), (11, None));
        assert_eq!((packed.pairs(), packed.pairs_with_past()), (6 + 1 + 10, 17 + 28));
        let equal = Segments::equal(2, 5);
        assert_eq!((equal.rows(), equal.equal_len(), equal.pairs()), (10, Some(5), 30));
    }
}
