//! How the rows of a batch become tasks: by lengths alone, so that bits do not depend on threads.

use crate::segments::{Segment, Segments};
use std::ops::Range;

/// Fewest tasks that a batch is cut into, where the sequence allows.
const TASKS: usize = 16;
/// Fewest queries or keys of a task that is cut from a sequence.
pub const CUT: usize = 128;

/// Into how many pieces of equal length a segment of T is cut, so that `tasks` become [`TASKS`].
fn pieces(T: usize, tasks: usize) -> usize {
    let mut pieces = 1;
    while pieces * tasks < TASKS && T.is_multiple_of(2 * pieces) && T / pieces >= 2 * CUT {
        pieces *= 2;
    }
    pieces
}

/// The rows of tasks: segments that stay whole, and the pieces of those that are cut, both in
/// ascending order. A segment is cut as if the batch were made of such segments alone, as many as
/// would be the same work: then no thread is left with a long one.
pub struct Tasks {
    pub whole: Vec<Range<usize>>,
    pub cut: Vec<Range<usize>>,
}

impl Tasks {
    /// Of G key/value heads.
    pub fn new(segments: &Segments, G: usize) -> Self {
        let square = |s: &Segment| s.len * s.len;
        let all: usize = segments.list().iter().map(square).sum();
        let mut tasks = Tasks { whole: Vec::new(), cut: Vec::new() };
        for s in segments.list() {
            match pieces(s.len, all / square(s) * G) {
                1 => tasks.whole.push(s.offset..s.end()),
                pieces => tasks.cut.extend((0..pieces).map(|i| {
                    let len = s.len / pieces;
                    s.offset + i * len..s.offset + (i + 1) * len
                })),
            }
        }
        tasks
    }

    /// All of them, in ascending order.
    pub fn all(mut self) -> Vec<Range<usize>> {
        self.whole.append(&mut self.cut);
        self.whole.sort_unstable_by_key(|rows| rows.start);
        self.whole
    }
}
