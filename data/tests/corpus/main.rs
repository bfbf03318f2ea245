//! Tests of the corpora: documents, readers, jobs, deduplication, reports.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use data::corpus::{Counts, Document, Meter, Sink, Source, documents};
use data::rng::Philox;
use files::{gzip, write};
use rand_core::Rng;

mod arxiv;
mod books;
mod dedup;
mod document;
#[path = "../shared/files.rs"]
mod files;
mod github;
mod inputs;
mod jobs;
mod reports;
mod sources;
mod stackexchange;
mod tokenize;
mod wikipedia;

/// All documents of some files, and what was counted.
fn read_in_shards(inputs: &[PathBuf], shard_bytes: u64) -> (Vec<Document>, Counts) {
    let source = Source::Documents(documents::Options::default());
    let mut found = Vec::new();
    let mut take = |document, _| {
        found.push(document);
        Ok(())
    };
    let mut sink = Sink::new(Meter::default(), &mut take);
    for shard in source.shards(inputs, shard_bytes).unwrap() {
        source.read(&shard, &mut sink).unwrap();
    }
    let counts = sink.into_counts();
    (found, counts)
}

/// The same, where one shard is enough.
fn read(inputs: &[PathBuf]) -> (Vec<Document>, Counts) {
    read_in_shards(inputs, 1 << 40)
}

/// Words drawn from 5000, from a seed.
fn words(seed: u64, count: usize) -> Vec<String> {
    let mut rng = Philox::new(seed, 0, 0);
    let word = |number: u32| format!("w{:03x}", number % 5000);
    (0..count).map(|_| word(rng.next_u32())).collect()
}

/// Documents `first..first + count` of some hundred words each, as lines.
fn lines(first: u64, count: u64) -> String {
    let line = |i: u64| {
        let text = words(i, 50 + (i as usize * 37) % 200).join(" ");
        format!("{{\"text\":\"{text}\",\"source\":\"made\",\"id\":\"{i}\"}}\n")
    };
    (first..first + count).map(line).collect()
}

/// Every file in a folder with its bytes, but for the files named `without`.
fn tree(folder: &Path, without: &[&str]) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![folder.to_path_buf()]);
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_path_buf();
            if path.is_dir() {
                folders.push(path);
            } else if !without.iter().any(|prefix| name.starts_with(prefix)) {
                found.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    found
}

/// Checks that two trees are the same, naming the files that differ.
fn assert_same(a: &BTreeMap<PathBuf, Vec<u8>>, b: &BTreeMap<PathBuf, Vec<u8>>, what: &str) {
    let names = a.keys().chain(b.keys());
    let other: Vec<_> = names.filter(|name| a.get(*name) != b.get(*name)).collect();
    assert!(other.is_empty(), "{what}: {other:?}");
}
