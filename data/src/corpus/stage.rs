//! From raw inputs to documents, as a job: [`run`], [`pipe`], and [`explain`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::document::{Document, Trail};
use super::input::{Meter, Piece, STDIN, Shard};
use super::job::{Job, Layout, Phase, Progress, Task, Writer};
use super::sink::{Counts, Sink};
use super::stats::Stats;
use super::{Source, dedup, input, report};
use crate::Error;

/// zstd's own default: the level at which it is about as fast as documents are made.
const LEVEL: i32 = 3;

/// The folder of documents that were kept.
pub(super) const DOCUMENTS: &str = "documents";
/// The folder of those that were not.
pub(super) const DROPPED: &str = "dropped";

/// The key under which a duplicate says where the document is that it repeats.
pub(super) const DUPLICATE_OF: &str = "duplicate_of";

/// A source, run over its inputs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Files and folders.
    pub inputs: Vec<PathBuf>,
    /// The job's folder: `documents/*.jsonl.zst`, `dropped/*.jsonl.zst`, `report.html`.
    pub out: PathBuf,
    /// The source, with its rules.
    pub source: Source,
    /// Bytes of input a task reads, about.
    pub shard_bytes: u64,
    /// Whether dropped documents are written with their text, or with their trail alone.
    pub keep_dropped_text: bool,
    /// Who does how much.
    pub layout: Layout,
}

impl Options {
    /// The usual: shards of 64 MiB, one thread a core.
    pub fn new(source: Source, inputs: Vec<PathBuf>, out: PathBuf) -> Options {
        Options {
            inputs,
            out,
            source,
            shard_bytes: 64 << 20,
            keep_dropped_text: false,
            layout: Layout::threads(),
        }
    }
}

/// How a stage ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Whether all is done. If not, other tasks have still to do their part.
    pub complete: bool,
    /// The phase that is not complete, or the last.
    pub phase: &'static str,
    /// What became of the documents of the whole job.
    pub counts: Counts,
    /// The page that shows it.
    pub report: PathBuf,
}

/// A document as it is written: with what every rule said of it.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    document: &'a Document,
    #[serde(skip_serializing_if = "is_empty")]
    trail: &'a Trail,
}

fn is_empty(trail: &&Trail) -> bool {
    trail.verdicts().is_empty()
}

/// Runs a source over its inputs, or goes on with what an earlier call began.
///
/// `stop` is looked at all the time; `progress` is called ten times a second.
///
/// ```
/// # fn main() -> Result<(), data::Error> {
/// use data::corpus::{Options, Source, documents, run};
///
/// let dir = tempfile::tempdir().unwrap();
/// let input = dir.path().join("pages.jsonl");
/// std::fs::write(&input, "{\"text\": \"To be, or not to be\", \"id\": \"1\"}\n").unwrap();
///
/// let source = Source::Documents(documents::Options::default());
/// let options = Options::new(source, vec![input], dir.path().join("out"));
/// let summary = run(&options, &Default::default(), &mut |_| {})?;
/// assert!(summary.complete && summary.report.exists());
/// assert_eq!(summary.counts.kept.documents, 1);
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
    let parameters = json!({
        "source": options.source,
        "shard_bytes": options.shard_bytes,
        "keep_dropped_text": options.keep_dropped_text,
    });
    input::check_outside(&options.out, &options.inputs)?;
    let shards = options.source.shards(&options.inputs, options.shard_bytes)?;
    let name = options.source.name();
    let job = Job::open(&options.out, name, parameters, shards)?;
    let work = |index: usize, task: &mut Task| {
        let stats = write_shard(task, options.keep_dropped_text, &mut |sink| {
            options.source.read(&job.shards()[index], sink)
        })?;
        Ok(serde_json::to_value(stats).expect("plain fields always serialise"))
    };
    let count = job.shards().len();
    let phase =
        Phase { name: "shards", count, reads_input: true, salt: String::new(), work: &work };
    let complete = job.run(&phase, &options.layout, stop, progress)?;
    finish(&job, &phase, complete)
}

/// The summary of a job whose last phase is `phase`, with its report if it is complete.
pub(super) fn finish(job: &Job, phase: &Phase, complete: bool) -> Result<Summary, Error> {
    let mut stats = Stats::default();
    if complete {
        for shard in job.results::<Stats>(phase)? {
            stats.merge(&shard);
        }
        job.finish(&report::files(job, &stats))?;
    }
    let report = job.folder().join(report::PAGE);
    Ok(Summary { complete, phase: phase.name, counts: stats.counts, report })
}

/// Writes a task's documents, kept and dropped ones apart, and says what became of them.
pub(super) fn write_shard(
    task: &mut Task,
    keep_dropped_text: bool,
    fill: &mut dyn FnMut(&mut Sink) -> Result<(), Error>,
) -> Result<Stats, Error> {
    let mut kept = Lines::new(task.create(DOCUMENTS, "jsonl.zst")?)?;
    let mut dropped = Lines::new(task.create(DROPPED, "jsonl.zst")?)?;
    let mut stats = Stats::default();
    let mut take = |mut document: Document, trail: Trail| {
        stats.add(&document, &trail);
        if trail.dropped().is_none() {
            return kept.push(&Written { document: &document, trail: &trail });
        }
        if !keep_dropped_text {
            document.text = String::new();
        }
        dropped.push(&Written { document: &document, trail: &trail })
    };
    let mut sink = Sink::new(task.meter().clone(), &mut take);
    fill(&mut sink)?;
    let counts = sink.into_counts();
    stats.counts = counts;
    task.keep(kept.finish()?)?;
    task.keep(dropped.finish()?)?;
    Ok(stats)
}

/// Compressed lines.
struct Lines {
    out: zstd::Encoder<'static, Writer>,
    path: PathBuf,
    line: Vec<u8>,
}

impl Lines {
    fn new(writer: Writer) -> Result<Lines, Error> {
        let path = writer.path().to_path_buf();
        let mut out = zstd::Encoder::new(writer, LEVEL).map_err(Error::write(&path))?;
        out.include_checksum(true).map_err(Error::write(&path))?;
        Ok(Lines { out, path, line: Vec::new() })
    }

    fn push(&mut self, document: &Written) -> Result<(), Error> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, document).expect("plain fields always serialise");
        self.line.push(b'\n');
        self.out.write_all(&self.line).map_err(Error::write(&self.path))
    }

    fn finish(self) -> Result<Writer, Error> {
        self.out.finish().map_err(Error::write(&self.path))
    }
}

/// A source as a filter: reads one shard from standard input, as it would from a file, and writes
/// the documents that are kept, one a line. That is a step of Spark's `pipe` or of a shell.
///
/// # Errors
/// [`Error::Stopped`]; an output that is closed or full.
pub fn pipe(source: &Source, output: impl Write, stop: &Arc<AtomicBool>) -> Result<Counts, Error> {
    let mut out = io::BufWriter::with_capacity(1 << 16, output);
    let path = Path::new("standard output");
    let mut take = |document: Document, trail: Trail| {
        if trail.dropped().is_some() {
            return Ok(());
        }
        let written = Written { document: &document, trail: &trail };
        let line = serde_json::to_writer(&mut out, &written).map_err(io::Error::from);
        line.and_then(|()| out.write_all(b"\n")).map_err(Error::write(path))
    };
    let mut sink = Sink::new(Meter::new(Arc::clone(stop)), &mut take);
    let piece = Piece { path: STDIN.into(), start: 0, end: u64::MAX };
    source.read(&Shard { pieces: vec![piece] }, &mut sink)?;
    let counts = sink.into_counts();
    out.flush().map_err(Error::write(path))?;
    Ok(counts)
}

/// What happened to one document.
#[derive(Clone, Debug, PartialEq)]
pub struct Explained {
    /// The file of the job that has it.
    pub path: PathBuf,
    /// The document; without text if it was dropped and texts are not kept.
    pub document: Document,
    /// What the rules said.
    pub trail: Trail,
}

impl std::fmt::Display for Explained {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let what = if self.trail.dropped().is_some() { "dropped" } else { "kept" };
        writeln!(
            f,
            "{} {}: {what}, in {}",
            self.document.source,
            self.document.id,
            self.path.display()
        )?;
        for verdict in self.trail.verdicts() {
            writeln!(f, "  {verdict}")?;
        }
        for (key, value) in &self.document.meta {
            writeln!(f, "  {key}: {value}")?;
        }
        Ok(())
    }
}

/// Looks a document up in a job's folder, by its id, or by `source/id`. All that have the name are
/// given, in the order of the files.
///
/// # Errors
/// A folder without a job; no document of that name.
pub fn explain(job: &Path, id: &str) -> Result<Vec<Explained>, Error> {
    let mut files = Vec::new();
    for folder in [DOCUMENTS, DROPPED] {
        let folder = job.join(folder);
        let entries = std::fs::read_dir(&folder).map_err(Error::read(&folder))?;
        let paths = entries.flatten().map(|entry| entry.path());
        files.extend(paths.filter(|path| path.extension().is_some_and(|e| e == "zst")));
    }
    files.sort();
    let (next, found) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let search = || -> Result<(), Error> {
        while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let here = search_file(path, id)?;
            found.lock().expect("no panic in it").insert(path, here);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..Layout::threads().workers).map(|_| scope.spawn(search)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic in it"))
    })?;
    let found = found.into_inner().expect("no panic in it");
    let mut found: Vec<Explained> = found.into_values().flatten().collect();
    if found.is_empty() {
        return Err(Error::NoDocument { path: job.to_path_buf(), id: id.to_string() });
    }
    for explained in &mut found {
        if let Some(kept) = explained.document.meta.get(DUPLICATE_OF).and_then(|at| at.as_i64()) {
            let name = dedup::name_of(job, kept)?;
            explained.document.meta.insert(DUPLICATE_OF.to_string(), name.into());
        }
    }
    Ok(found)
}

fn search_file(path: &Path, id: &str) -> Result<Vec<Explained>, Error> {
    /// The parts that decide, without the text.
    #[derive(Deserialize)]
    struct Name {
        source: String,
        id: String,
    }
    #[derive(Deserialize)]
    struct Rest {
        #[serde(flatten)]
        document: Document,
        #[serde(default)]
        trail: Trail,
    }
    let read = Error::read(path);
    let search = || -> io::Result<Vec<Explained>> {
        let decoder = zstd::Decoder::new(File::open(path)?)?;
        let (mut lines, mut line, mut found) = (BufReader::new(decoder), Vec::new(), Vec::new());
        while lines.read_until(b'\n', &mut line)? > 0 {
            let name: Name = serde_json::from_slice(&line)?;
            let whole = || id.strip_prefix(&name.source)?.strip_prefix('/');
            if name.id == id || whole() == Some(&name.id) {
                let Rest { document, trail } = serde_json::from_slice(&line)?;
                found.push(Explained { path: path.to_path_buf(), document, trail });
            }
            line.clear();
        }
        Ok(found)
    };
    search().map_err(read)
}
