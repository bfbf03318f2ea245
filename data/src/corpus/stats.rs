//! What a shard's report is made of: counts by rule, lengths, samples. All of it merges, and none
//! of it depends on who did which shard.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::document::{Document, Trail};
use super::sink::Counts;

/// Samples of each rule, and of what was kept.
const SAMPLES: usize = 5;

/// Characters of a sample's text that are shown.
const SHOWN: usize = 600;

/// Bins in which a length doubles.
pub(super) const BINS_PER_DOUBLING: usize = 2;

/// Documents by length: bin `i` begins at `2^(i / 2)` bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lengths(pub Vec<u64>);

impl Lengths {
    fn add(&mut self, bytes: usize) {
        let bin = (bytes.max(1) as f64).log2() * BINS_PER_DOUBLING as f64;
        self.add_to(bin as usize, 1);
    }

    fn add_to(&mut self, bin: usize, count: u64) {
        if self.0.len() <= bin {
            self.0.resize(bin + 1, 0);
        }
        self.0[bin] += count;
    }

    fn merge(&mut self, other: &Lengths) {
        for (bin, &count) in other.0.iter().enumerate() {
            self.add_to(bin, count);
        }
    }
}

/// One document, shown in a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Hash of source and id: the samples are those with the least.
    order: u64,
    /// Its source.
    pub source: String,
    /// Its name there.
    pub id: String,
    /// The beginning of its text.
    pub text: String,
    /// What the rules said, one a line.
    pub said: Vec<String>,
}

/// What became of a shard's documents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Counts by rule.
    pub counts: Counts,
    /// Lengths of what was kept.
    pub kept_lengths: Lengths,
    /// Lengths of what was dropped.
    pub dropped_lengths: Lengths,
    /// Samples by the rule that dropped them; what was kept is under the empty name.
    pub samples: BTreeMap<String, Vec<Sample>>,
}

impl Stats {
    /// Takes notice of a document, but for its counts, which the sink has.
    pub fn add(&mut self, document: &Document, trail: &Trail) {
        let dropped = trail.dropped();
        let lengths =
            if dropped.is_some() { &mut self.dropped_lengths } else { &mut self.kept_lengths };
        lengths.add(document.text.len());
        let rule = dropped.map_or("", |verdict| verdict.rule());
        if !self.samples.contains_key(rule) {
            self.samples.insert(rule.to_string(), Vec::new());
        }
        let samples = self.samples.get_mut(rule).expect("just inserted");
        let order =
            xxh3_64(document.id.as_bytes()) ^ xxh3_64(document.source.as_bytes()).rotate_left(1);
        if samples.len() < SAMPLES || samples.last().is_some_and(|last| order < last.order) {
            samples.push(Sample::of(order, document, trail));
            keep_least(samples);
        }
    }

    /// Adds another shard's.
    pub fn merge(&mut self, other: &Stats) {
        self.counts.merge(&other.counts);
        self.kept_lengths.merge(&other.kept_lengths);
        self.dropped_lengths.merge(&other.dropped_lengths);
        for (rule, theirs) in &other.samples {
            let ours = self.samples.entry(rule.clone()).or_default();
            ours.extend(theirs.iter().cloned());
            keep_least(ours);
        }
    }
}

fn keep_least(samples: &mut Vec<Sample>) {
    samples.sort_by(|a, b| (a.order, &a.source, &a.id).cmp(&(b.order, &b.source, &b.id)));
    samples.truncate(SAMPLES);
}

impl Sample {
    fn of(order: u64, document: &Document, trail: &Trail) -> Sample {
        let mut text: String = document.text.chars().take(SHOWN).collect();
        if text.len() < document.text.len() {
            text.push_str(" ...");
        }
        let said = trail.verdicts().iter().map(ToString::to_string).collect();
        Sample { order, source: document.source.clone(), id: document.id.clone(), text, said }
    }
}
