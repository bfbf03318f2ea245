//! What the tests of all sources need.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use data::corpus::{Counts, Document, Meter, Sink, Source, Trail};

/// All documents that a source makes of some files, kept and dropped, and what was counted.
pub fn read(source: &Source, inputs: &[PathBuf]) -> (Vec<(Document, Trail)>, Counts) {
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
pub fn kept(found: &[(Document, Trail)]) -> Vec<&Document> {
    found.iter().filter(|(_, trail)| trail.dropped().is_none()).map(|(d, _)| d).collect()
}

/// Runs `work` on a hostile text of `n` parts and on one of `4 n`: what is linear takes four times
/// as long, what is quadratic sixteen times. The best of some runs counts, and on Linux only the time
/// that this thread had a processor.
pub fn assert_linear(name: &str, n: usize, work: &dyn Fn(usize)) {
    let time = |n| {
        let start = processor_time();
        work(n);
        processor_time() - start
    };
    let mut best = (Duration::MAX, Duration::MAX);
    for _ in 0..8 {
        best = (best.0.min(time(n)), best.1.min(time(4 * n)));
        if best.1 < best.0 * 8 || best.1 < Duration::from_millis(20) {
            return;
        }
    }
    panic!("{name:?}: {n} parts take {:?}, four times as many {:?}", best.0, best.1);
}

/// Time of this thread, from any moment.
fn processor_time() -> Duration {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = stat.and_then(|stat| stat.split(' ').next()?.parse().ok());
    nanoseconds.map_or_else(|| START.elapsed(), Duration::from_nanos)
}
