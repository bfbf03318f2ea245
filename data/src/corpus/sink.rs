//! Where a source puts its documents: counted by rule, then handed on one by one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::document::{Document, MAX_BYTES, Trail, Verdict};
use super::input::Meter;
use crate::Error;

/// Places of damage that are named in a shard's record; all are counted.
const NAMED: usize = 20;

/// Documents and bytes of their text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Documents.
    pub documents: u64,
    /// Bytes of UTF-8 text.
    pub bytes: u64,
}

impl Tally {
    fn add(&mut self, bytes: u64) {
        self.documents += 1;
        self.bytes += bytes;
    }

    fn merge(&mut self, other: Tally) {
        self.documents += other.documents;
        self.bytes += other.bytes;
    }
}

/// What one rule did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleCounts {
    /// Documents that it let pass.
    pub kept: u64,
    /// Documents that it dropped, with their text as it was then.
    pub dropped: Tally,
    /// Documents that it cut, with the bytes that it took out.
    pub edited: Tally,
}

/// Something that could not be read, and was passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// File and place in it.
    pub place: String,
    /// What is wrong there.
    pub reason: String,
}

/// What became of the documents of a shard, or of many.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All documents, with their text before any rule cut it.
    pub read: Tally,
    /// Those that were kept, with their text as it is written.
    pub kept: Tally,
    /// By rule.
    pub rules: BTreeMap<String, RuleCounts>,
    /// Things passed over, by kind of damage.
    pub damaged: BTreeMap<String, u64>,
    /// The first of them.
    pub damage: Vec<Damage>,
}

impl Counts {
    /// Adds the counts of another shard.
    pub fn merge(&mut self, other: &Counts) {
        self.read.merge(other.read);
        self.kept.merge(other.kept);
        for (rule, theirs) in &other.rules {
            let ours = self.rules.entry(rule.clone()).or_default();
            ours.kept += theirs.kept;
            ours.dropped.merge(theirs.dropped);
            ours.edited.merge(theirs.edited);
        }
        for (kind, count) in &other.damaged {
            *self.damaged.entry(kind.clone()).or_default() += count;
        }
        let room = NAMED.saturating_sub(self.damage.len());
        self.damage.extend(other.damage.iter().take(room).cloned());
    }

    fn count(&mut self, text_bytes: u64, said: &[Verdict]) {
        let mut before = text_bytes;
        for verdict in said {
            // Rules are few, and after the first document all of them are there.
            if !self.rules.contains_key(verdict.rule()) {
                self.rules.insert(verdict.rule().to_string(), RuleCounts::default());
            }
            let counts = self.rules.get_mut(verdict.rule()).expect("just inserted");
            match verdict {
                Verdict::Kept { .. } => counts.kept += 1,
                Verdict::Dropped { .. } => counts.dropped.add(text_bytes),
                Verdict::Edited { cut, .. } => {
                    counts.edited.add(*cut);
                    before += cut;
                }
            }
        }
        self.read.add(before);
        if !matches!(said.last(), Some(Verdict::Dropped { .. })) {
            self.kept.add(text_bytes);
        }
    }
}

/// What a source writes to.
pub struct Sink<'a> {
    meter: Meter,
    counts: Counts,
    take: &'a mut dyn FnMut(Document, Trail) -> Result<(), Error>,
}

impl<'a> Sink<'a> {
    /// A sink that counts documents and hands each to `take`, the dropped ones too: their trail
    /// says so.
    pub fn new(
        meter: Meter,
        take: &'a mut dyn FnMut(Document, Trail) -> Result<(), Error>,
    ) -> Sink<'a> {
        Sink { meter, counts: Counts::default(), take }
    }

    /// Takes the next document. One of more than [`MAX_BYTES`] is counted as damage.
    ///
    /// # Errors
    /// [`Error::Stopped`] if a stop was asked for; a disk that is full.
    pub fn push(&mut self, document: Document, trail: Trail) -> Result<(), Error> {
        self.meter.check()?;
        if document.text.len() > MAX_BYTES {
            let place = format!("{}/{}", document.source, document.id);
            self.pass_over("too_long", place, format!("{} bytes of text", document.text.len()));
            return Ok(());
        }
        self.counts.count(document.text.len() as u64, trail.verdicts());
        (self.take)(document, trail)
    }

    /// Counts something that could not be read. `kind` is one word, `place` the file and where in
    /// it, `reason` what is wrong.
    pub fn pass_over(&mut self, kind: &'static str, place: String, reason: String) {
        *self.counts.damaged.entry(kind.to_string()).or_default() += 1;
        if self.counts.damage.len() < NAMED {
            self.counts.damage.push(Damage { place, reason });
        }
    }

    /// Takes over what another sink found damaged.
    pub(crate) fn take_damage(&mut self, other: Counts) {
        let damage = Counts { damaged: other.damaged, damage: other.damage, ..Counts::default() };
        self.counts.merge(&damage);
    }

    /// What counts the bytes that are read, and says when to stop.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// What was counted.
    pub fn into_counts(self) -> Counts {
        self.counts
    }
}
