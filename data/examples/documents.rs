//! Documents of raw dumps as lines of JSON, each with what every rule said of it: what
//! `tests/corpora/agree.py` holds against other projects' scripts.
//!
//! ```text
//! cargo run --release -p handgrad-data --features corpus --example documents -- \
//!     '{"stackexchange": {}}' shared/data/corpus/stackexchange
//! ```

use std::io::Write as _;
use std::path::PathBuf;

use data::corpus::{Meter, Sink, Source};

/// Bytes of a shard; they are read one after the other.
const SHARD_BYTES: u64 = 256 << 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "give a source with its options as JSON, such as '{\"books\": {}}', and files";
    let source: Source = serde_json::from_str(&arguments.next().ok_or(usage)?)?;
    let inputs: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut take = |document, trail| {
        let line = serde_json::json!({ "document": document, "trail": trail });
        writeln!(out, "{line}")
            .map_err(|source| data::Error::Write { path: "standard output".into(), source })
    };
    let mut sink = Sink::new(Meter::default(), &mut take);
    for shard in source.shards(&inputs, SHARD_BYTES)? {
        source.read(&shard, &mut sink)?;
    }
    eprintln!("{}", serde_json::to_string_pretty(&sink.into_counts())?);
    out.flush()?;
    Ok(())
}
