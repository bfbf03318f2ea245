//! Deduplication of any documents: exact, by a hash of the text, and near, by the Jaccard
//! similarity of their shingles.
//!
//! A document has a position: its shard and its row there. Of equal texts the first stays. Of those
//! that stay, one goes if an earlier one is its near-duplicate: if they meet in a band of MinHash
//! (see `sketch`) as first and other, or as neighbours, and the Jaccard similarity of their
//! shingles, computed and not estimated, reaches the threshold. Nothing goes without an earlier
//! document that it is a duplicate of, and no set of documents has to be joined by chains.
//!
//! Phases, each a set of tasks that need nothing of each other:
//! `hashes` reads the documents and writes one row a document and one a band, sorted by key;
//! `exact` and `pairs` sort ranges of keys and find equal ones; `sets` reads those documents again
//! that are in a pair and writes their shingles; `near` compares pairs; `documents` reads all again
//! and writes what stays.

mod select;
mod sketch;
mod table;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_128;

use self::select::{Gone, Selection};
use self::sketch::{Shingler, band_key, sketch};
use self::table::{Column, Table};
use super::document::{Document, Trail};
use super::job::{Job, Layout, Phase, Progress, Task};
use super::sink::{Counts, Sink};
use super::stage::{DUPLICATE_OF, Summary, finish, write_shard};
use super::{Source, documents, input};
use crate::Error;

/// Deduplicates documents.
#[derive(Clone, Debug)]
pub struct Options {
    /// Files and folders of documents. Where texts are equal the first stays, so their order says
    /// which source has the say.
    pub inputs: Vec<PathBuf>,
    /// The job's folder.
    pub out: PathBuf,
    /// Names of the fields of the inputs.
    pub fields: documents::Options,
    /// What is a duplicate.
    pub rules: Rules,
    /// Bytes of input a task reads, about.
    pub shard_bytes: u64,
    /// Rows of 24 bytes that a task sorts in memory.
    pub range_rows: u64,
    /// Whether dropped documents are written with their text, or with their trail alone.
    pub keep_dropped_text: bool,
    /// Whether the shingles of all documents are written as Parquet too, for who selects with SQL:
    /// 16 bytes a word.
    pub tables: bool,
    /// How far to go.
    pub until: Until,
    /// A folder with `exact/*.parquet` and `near/*.parquet` that says which documents go, in place
    /// of a selection of our own.
    pub selection: Option<PathBuf>,
    /// Who does how much.
    pub layout: Layout,
}

/// How far a run goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// To the tables that SQL selects from.
    Hashes,
    /// To the documents that stay.
    Documents,
}

/// What is a duplicate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Whether near-duplicates go too.
    pub near: bool,
    /// Words of a shingle.
    pub ngram: usize,
    /// Bands of a sketch.
    pub bands: usize,
    /// Bins of a band. Two texts of similarity s meet with probability `1 - (1 - s^rows)^bands`.
    pub rows: usize,
    /// Least Jaccard similarity of near-duplicates.
    pub threshold: f64,
}

impl Default for Rules {
    /// 0.8 of the 5-grams; 20 bands of 7 miss 0.9 % of the pairs at the threshold.
    fn default() -> Rules {
        Rules { near: true, ngram: 5, bands: 20, rows: 7, threshold: 0.8 }
    }
}

impl Rules {
    /// What they say of a document: its similarity to the first earlier one that it repeats, or 0
    /// where there is none.
    fn judge(&self, gone: Option<&Gone>) -> Trail {
        let mut trail = Trail::default();
        let of = |exact: bool| gone.filter(|gone| gone.exact == exact);
        let mut ask = |rule, gone: Option<&Gone>, threshold| {
            trail.say(rule, gone.is_none(), gone.map_or(0.0, |gone| gone.jaccard), threshold)
        };
        if ask("exact_duplicate", of(true), 1.0) && self.near {
            ask("near_duplicate", of(false), self.threshold);
        }
        trail
    }
}

impl Options {
    /// The usual.
    pub fn new(inputs: Vec<PathBuf>, out: PathBuf) -> Options {
        Options {
            inputs,
            out,
            fields: documents::Options::default(),
            rules: Rules::default(),
            shard_bytes: 64 << 20,
            range_rows: 1 << 22,
            keep_dropped_text: false,
            tables: false,
            until: Until::Documents,
            selection: None,
            layout: Layout::threads(),
        }
    }
}

/// What a task of phase `hashes` says.
#[derive(Debug, Serialize, Deserialize)]
struct Hashed {
    documents: u64,
    bands: u64,
}

/// Rows of a shard have positions `shard << ROW_BITS | row`.
const ROW_BITS: u32 = 32;

/// The first and the last position of a shard.
fn positions(shard: usize) -> (i64, i64) {
    let first = (shard as i64) << ROW_BITS;
    (first, first + (1 << ROW_BITS) - 1)
}

/// The source and id of the document at a position.
pub(super) fn name_of(job: &Path, position: i64) -> Result<String, Error> {
    let shard = position >> ROW_BITS;
    let path = job.join("hashes").join(format!("{shard:06}.parquet"));
    let table = Table::open(&path)?;
    let (mut row, mut found) = (0, None);
    table.rows(["position"], (i64::MIN, i64::MAX), &mut |[here]| {
        found = found.or((here == position).then_some(row));
        row += 1;
    })?;
    let row: usize = found.ok_or_else(|| Error::Job {
        path,
        reason: format!("has no position {position}; delete the folder and begin anew"),
    })?;
    Ok(format!("{}/{}", table.texts("source")?[row], table.texts("id")?[row]))
}

/// Drops duplicates, or goes on with what an earlier call began.
///
/// ```
/// # fn main() -> Result<(), data::Error> {
/// use data::corpus::dedup;
///
/// let dir = tempfile::tempdir().unwrap();
/// let input = dir.path().join("pages.jsonl");
/// std::fs::write(&input, "{\"text\": \"To be\"}\n{\"text\": \"To be\"}\n").unwrap();
///
/// let options = dedup::Options::new(vec![input], dir.path().join("out"));
/// let summary = dedup::run(&options, &Default::default(), &mut |_| {})?;
/// assert_eq!(summary.counts.kept.documents, 1);
/// assert_eq!(summary.counts.rules["exact_duplicate"].dropped.documents, 1);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::Stopped`]; a folder that holds another job; inputs that changed; the outside world.
pub fn run(
    options: &Options,
    stop: &Arc<AtomicBool>,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Summary, Error> {
    let source = Source::Documents(options.fields.clone());
    let parameters = json!({
        "fields": options.fields,
        "rules": options.rules,
        "shard_bytes": options.shard_bytes,
        "range_rows": options.range_rows,
        "keep_dropped_text": options.keep_dropped_text,
        "tables": options.tables,
    });
    input::check_outside(&options.out, &options.inputs)?;
    let shards = source.shards(&options.inputs, options.shard_bytes)?;
    let job = Job::open(&options.out, "dedup", parameters, shards)?;
    let dedup = Dedup { options, source, job };
    let mut run = |phase: &Phase| dedup.job.run(phase, &options.layout, stop, progress);

    let waits = |phase: &Phase| Summary {
        complete: false,
        phase: phase.name,
        counts: Counts::default(),
        report: dedup.job.folder().join(super::report::PAGE),
    };
    let hash = |i: usize, task: &mut Task| dedup.hash(i, task);
    let hashes = dedup.over_shards("hashes", true, &hash);
    let complete = run(&hashes)?;
    if !complete || options.until == Until::Hashes {
        return Ok(Summary { complete, ..waits(&hashes) });
    }
    let selection = match &options.selection {
        Some(folder) => Selection::foreign(folder)?,
        None => match dedup.select(&hashes, &mut run)? {
            Ok(selection) => selection,
            Err(name) => return Ok(Summary { phase: name, ..waits(&hashes) }),
        },
    };
    let write = |i: usize, task: &mut Task| dedup.write(i, task, &selection);
    let salt = selection.hash()?;
    let phase = Phase { salt, ..dedup.over_shards("shards", true, &write) };
    let complete = run(&phase)?;
    finish(&dedup.job, &phase, complete)
}

/// A job of deduplication.
struct Dedup<'a> {
    options: &'a Options,
    source: Source,
    job: Job,
}

/// A task's work.
type Work<'a> = dyn Fn(usize, &mut Task) -> Result<Value, Error> + Sync + 'a;

impl Dedup<'_> {
    /// A phase with a task for each shard of the input.
    fn over_shards<'a>(&self, name: &'static str, reads_input: bool, work: &'a Work) -> Phase<'a> {
        let count = self.job.shards().len();
        Phase { name, count, reads_input, salt: String::new(), work }
    }

    /// Reads a shard; `each` gets every document with its position.
    fn read(
        &self,
        shard: usize,
        task: &Task,
        each: &mut dyn FnMut(i64, Document) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (mut position, last) = positions(shard);
        let mut take = |document: Document, _: Trail| {
            each(position, document)?;
            assert!(position < last, "dedup: a shard of 2^32 documents");
            position += 1;
            Ok(())
        };
        let mut sink = Sink::new(task.meter().clone(), &mut take);
        self.source.read(&self.job.shards()[shard], &mut sink)
    }

    /// Phase `hashes`: `hashes/`, one row a document, and `bands/`, one a band.
    fn hash(&self, shard: usize, task: &mut Task) -> Result<Value, Error> {
        let rules = &self.options.rules;
        let mut rows: Vec<(i64, i64, i64, i64)> = Vec::new();
        let (mut names, mut bands) = (Vec::new(), Vec::new());
        let (mut set_rows, mut set) = (Vec::new(), Vec::new());
        let mut shingler = Shingler::default();
        let mut bins = vec![0; rules.bands * rules.rows];
        let first = positions(shard).0;
        self.read(shard, task, &mut |position, document| {
            let hash = xxh3_128(document.text.as_bytes());
            let bytes = document.text.len() as i64;
            rows.push(((hash >> 64) as i64, hash as i64, position, bytes));
            if rules.near {
                shingler.take(&document.text, rules.ngram);
                if !shingler.shingles.is_empty() {
                    sketch(&mut bins, &shingler.shingles);
                    let keys = bins.chunks_exact(rules.rows).enumerate();
                    bands.extend(keys.map(|(band, bins)| (band_key(band, bins), position)));
                }
                if self.options.tables {
                    for &shingle in shingler.set() {
                        set_rows.push(position);
                        set.push(shingle as i64);
                    }
                }
            }
            names.push((document.source, document.id));
            Ok(())
        })?;
        rows.sort_unstable();
        bands.sort_unstable();
        let said = Hashed { documents: rows.len() as u64, bands: bands.len() as u64 };
        let column = |of: fn(&(i64, i64, i64, i64)) -> i64| rows.iter().map(of).collect::<Vec<_>>();
        let row_names = || rows.iter().map(|row| &names[(row.2 - first) as usize]);
        let out = table::write(
            task.create("hashes", "parquet")?,
            &[
                ("hash_high", Column::Whole(&column(|row| row.0))),
                ("hash_low", Column::Whole(&column(|row| row.1))),
                ("position", Column::Whole(&column(|row| row.2))),
                ("bytes", Column::Whole(&column(|row| row.3))),
                (
                    "source",
                    Column::Text(&row_names().map(|(source, _)| &**source).collect::<Vec<_>>()),
                ),
                ("id", Column::Text(&row_names().map(|(_, id)| &**id).collect::<Vec<_>>())),
            ],
        )?;
        task.keep(out)?;
        let (keys, places): (Vec<_>, Vec<_>) = bands.into_iter().unzip();
        let columns = [("key", Column::Whole(&keys)), ("position", Column::Whole(&places))];
        task.keep(table::write(task.create("bands", "parquet")?, &columns)?)?;
        if self.options.tables {
            let columns =
                [("position", Column::Whole(&set_rows)), ("shingle", Column::Whole(&set))];
            task.keep(table::write(task.create("shingles", "parquet")?, &columns)?)?;
        }
        Ok(serde_json::to_value(said).expect("plain fields always serialise"))
    }

    /// The last phase: documents that stay, and those that go.
    fn write(&self, shard: usize, task: &mut Task, selection: &Selection) -> Result<Value, Error> {
        let gone = selection.of_shard(&self.job, shard)?;
        let (mut position, _) = positions(shard);
        let stats = write_shard(task, self.options.keep_dropped_text, &mut |sink| {
            // The sink that counts is ours; the source writes into one of its own.
            let meter = sink.meter().clone();
            let mut take = |mut document: Document, _: Trail| {
                let gone = gone.get(&position);
                if let Some(gone) = gone {
                    document.meta.insert(DUPLICATE_OF.to_string(), gone.kept.into());
                }
                let trail = self.options.rules.judge(gone);
                position += 1;
                sink.push(document, trail)
            };
            let mut inner = Sink::new(meter, &mut take);
            self.source.read(&self.job.shards()[shard], &mut inner)?;
            let damage = inner.into_counts();
            sink.take_damage(damage);
            Ok(())
        })?;
        Ok(serde_json::to_value(stats).expect("plain fields always serialise"))
    }
}
