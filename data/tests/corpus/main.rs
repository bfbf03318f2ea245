//! Tests of the corpora: documents, readers, jobs, deduplication, reports.

mod arxiv;
mod books;
mod documents;
mod github;
mod stackexchange;
mod wikipedia;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use data::corpus::{Counts, Document, Meter, Sink, Source, Trail};

/// All documents that a source makes of some files, kept and dropped, and what was counted.
fn read(source: &Source, inputs: &[PathBuf]) -> (Vec<(Document, Trail)>, Counts) {
    let mut found = Vec::new();
    let mut take = |document, trail| {
        found.push((document, trail));
        Ok(())
    };
    let mut sink = Sink::new(Meter::default(), &mut take);
    for shard in source.shards(inputs, 1 << 20).unwrap() {
        source.read(&shard, &mut sink).unwrap();
    }
    let counts = sink.into_counts();
    (found, counts)
}

/// The documents that were kept.
fn kept(found: &[(Document, Trail)]) -> Vec<&Document> {
    found.iter().filter(|(_, trail)| trail.dropped().is_none()).map(|(d, _)| d).collect()
}

/// Runs `work` on a hostile text of `n` parts and on one of `4 n`: what is linear takes four times
/// as long, what is quadratic sixteen times. Noise of the machine is given a second chance.
fn assert_linear(name: &str, n: usize, work: &dyn Fn(usize)) {
    let time = |n| {
        let start = Instant::now();
        work(n);
        start.elapsed()
    };
    let mut last = (Duration::ZERO, Duration::ZERO);
    for _ in 0..3 {
        last = (time(n), time(4 * n));
        if last.1 < last.0 * 9 || last.1 < Duration::from_millis(30) {
            return;
        }
    }
    panic!("{name}: {n} parts take {:?}, four times as many {:?}", last.0, last.1);
}
