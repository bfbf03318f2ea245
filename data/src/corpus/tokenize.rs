//! From documents to token shards, as a job. Each task writes, for each source of which it has
//! documents, `tokens/SOURCE/NNNNNN.bin` with its sidecar, see [`crate::shard`], and
//! `NNNNNN.bin.ends`: where each document ends, little-endian 64-bit counts of ids from the shard's
//! beginning, its end token included. At the end the job's folder gets the tokenizer's files and
//! `tokens.json`, which lists the sources with what they hold.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};
use serde_json::json;
use xxhash_rust::xxh3::xxh3_64;

use super::document::{Document, Trail};
use super::input::{self, Meter, Shard};
use super::job::{Job, Layout, Phase, Progress, Task};
use super::sink::{Counts, Sink};
use super::{Source, Summary, documents};
use crate::Error;
use crate::prepare;
use crate::shard::{ShardWriter, Sidecar};
use crate::tokenizer::{Ends, Tokenizer};

/// The file that lists what was made.
const LIST: &str = "tokens.json";

/// The folder of token shards.
const TOKENS: &str = "tokens";

/// Text of a source is encoded in batches of at least this many bytes, a document being the least.
const BATCH_BYTES: usize = 1 << 20;

/// Documents that are read ahead while others are counted.
const TEXTS: usize = 64;

/// Documents that become tokens.
#[derive(Clone, Debug)]
pub struct Options {
    /// Files and folders of documents; of a job's folder, what it kept.
    pub inputs: Vec<PathBuf>,
    /// The job's folder.
    pub out: PathBuf,
    /// Names of the fields of the inputs.
    pub fields: documents::Options,
    /// Bytes of input a task reads, about.
    pub shard_bytes: u64,
    /// Who does how much.
    pub layout: Layout,
}

impl Options {
    /// The usual: 64 MiB a task, one thread a core.
    pub fn new(inputs: Vec<PathBuf>, out: PathBuf) -> Options {
        let fields = documents::Options::default();
        Options { inputs, out, fields, shard_bytes: 64 << 20, layout: Layout::threads() }
    }
}

/// Tokens of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Documents.
    pub documents: u64,
    /// Bytes of their text.
    pub text_bytes: u64,
    /// Ids, end tokens included.
    pub tokens: u64,
    /// The shards, in order, from the job's folder.
    pub shards: Vec<PathBuf>,
}

/// What `tokens.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// Hash of the tokenizer, see [`Tokenizer::hash`].
    pub tokenizer: String,
    /// Every id is below this.
    pub vocab_size: usize,
    /// By source.
    pub sources: BTreeMap<String, Held>,
}

/// What a task says.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Made {
    counts: Counts,
    sources: BTreeMap<String, Held>,
}

/// Encodes documents, or goes on with what an earlier call began. The same bytes come of any
/// number of workers.
///
/// ```
/// # fn main() -> Result<(), data::Error> {
/// use data::corpus::tokenize::{Options, run};
/// use data::tokenizer::Tokenizer;
///
/// let dir = tempfile::tempdir().unwrap();
/// let input = dir.path().join("pages.jsonl");
/// std::fs::write(&input, "{\"text\": \"To be\", \"id\": \"1\", \"source\": \"plays\"}\n").unwrap();
/// let options = Options::new(vec![input], dir.path().join("shards"));
/// let summary = run(&options, &Tokenizer::bytes(), &Default::default(), &mut |_| {})?;
/// assert!(summary.complete && options.out.join("tokens/plays/000000.bin").exists());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::Stopped`]; a folder that holds another job; inputs that changed; text that the
/// tokenizer cannot encode; the outside world.
pub fn run(
    options: &Options,
    tokenizer: &Tokenizer,
    stop: &Arc<AtomicBool>,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Summary, Error> {
    let source = Source::Documents(options.fields.clone());
    let parameters = json!({
        "tokenizer": tokenizer.hash(),
        "fields": options.fields,
        "shard_bytes": options.shard_bytes,
    });
    input::check_outside(&options.out, &options.inputs)?;
    let shards = source.shards(&options.inputs, options.shard_bytes)?;
    let job = Job::open(&options.out, "tokenize", parameters, shards)?;
    let work = |index: usize, task: &mut Task| {
        let made = tokenize(task, tokenizer, &mut |sink| source.read(&job.shards()[index], sink))?;
        Ok(serde_json::to_value(made).expect("plain fields always serialise"))
    };
    let count = job.shards().len();
    let phase =
        Phase { name: "shards", count, reads_input: true, salt: String::new(), work: &work };
    let complete = job.run(&phase, &options.layout, stop, progress)?;
    let list = job.folder().join(LIST);
    let mut counts = Counts::default();
    if complete {
        counts = finish(&job, &phase, tokenizer)?;
    }
    Ok(Summary { complete, phase: phase.name, counts, report: list })
}

/// How far the training of a tokenizer is.
#[derive(Clone, Copy, Debug)]
pub enum Learning {
    /// Bytes of input read, of all.
    Reading(u64, u64),
    /// Entries learnt, of those that are wanted.
    Learning(usize, usize),
}

impl std::fmt::Display for Learning {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Learning::Reading(done, all) => {
                write!(f, "reading {:.0}/{:.0} MB", *done as f64 / 1e6, *all as f64 / 1e6)
            }
            Learning::Learning(done, all) => write!(f, "learning {done}/{all}"),
        }
    }
}

/// Trains a tokenizer of `vocab_size` entries on documents, see [`Tokenizer::train_bpe`].
///
/// # Errors
/// [`Error::Stopped`]; no text; a vocabulary that is too small; inputs that cannot be read.
pub fn train(
    inputs: &[PathBuf],
    fields: &documents::Options,
    vocab_size: usize,
    stop: &Arc<AtomicBool>,
    progress: &mut dyn FnMut(Learning),
) -> Result<Tokenizer, Error> {
    let source = Source::Documents(fields.clone());
    let shards = source.shards(inputs, u64::MAX)?;
    let (meter, bytes) = (Meter::new(Arc::clone(stop)), shards.iter().map(Shard::bytes).sum());
    let (send, texts) = std::sync::mpsc::sync_channel::<Result<String, Error>>(TEXTS);
    let read = || {
        let mut take = |document: Document, _: Trail| {
            // Nobody takes texts any more: the other side has failed, and says so.
            send.send(Ok(document.text)).map_err(|_| Error::Stopped)
        };
        let mut sink = Sink::new(meter.clone(), &mut take);
        let done = shards.iter().try_for_each(|shard| source.read(shard, &mut sink));
        let _ = done.map_err(|e| send.send(Err(e)));
        drop(send);
    };
    std::thread::scope(|scope| {
        scope.spawn(read);
        let said = std::cell::RefCell::new(progress);
        let texts = texts.into_iter().inspect(|_| {
            said.borrow_mut()(Learning::Reading(meter.bytes(), bytes));
        });
        Tokenizer::train_bpe(texts, vocab_size, &mut |done, all| {
            said.borrow_mut()(Learning::Learning(done, all));
        })
    })
}

/// Writes what is of the whole job, and gives its counts.
fn finish(job: &Job, phase: &Phase, tokenizer: &Tokenizer) -> Result<Counts, Error> {
    let (mut counts, mut sources) = (Counts::default(), BTreeMap::<String, Held>::new());
    for made in job.results::<Made>(phase)? {
        counts.merge(&made.counts);
        for (name, theirs) in made.sources {
            let ours = sources.entry(name).or_default();
            ours.documents += theirs.documents;
            ours.text_bytes += theirs.text_bytes;
            ours.tokens += theirs.tokens;
            ours.shards.extend(theirs.shards);
        }
    }
    let list = List { tokenizer: tokenizer.hash(), vocab_size: tokenizer.vocab_size(), sources };
    let list = serde_json::to_vec_pretty(&list).expect("plain fields always serialise");
    tokenizer.save(job.folder())?;
    job.finish(&BTreeMap::from([(LIST, list)]))?;
    Ok(counts)
}

/// Does one task: documents by source, each source to a shard of its own.
fn tokenize(
    task: &mut Task,
    tokenizer: &Tokenizer,
    fill: &mut dyn FnMut(&mut Sink) -> Result<(), Error>,
) -> Result<Made, Error> {
    let mut open = BTreeMap::<String, Tokens>::new();
    let mut take = |document: Document, _: Trail| {
        if !open.contains_key(&document.source) {
            let folder = format!("{TOKENS}/{}", folder_of(&document.source));
            let path = task.path(&folder, "bin")?;
            open.insert(document.source.clone(), Tokens::new(path, tokenizer)?);
        }
        open.get_mut(&document.source).expect("just opened").take(document.text)
    };
    let mut sink = Sink::new(task.meter().clone(), &mut take);
    fill(&mut sink)?;
    let mut made = Made { counts: sink.into_counts(), ..Made::default() };
    for (source, tokens) in open {
        let (sidecar, files) = tokens.finish()?;
        let shards = match sidecar.tokens {
            0 => Vec::new(),
            _ => vec![task.adopt(&files[0])?],
        };
        files.iter().skip(1).try_for_each(|file| task.adopt(file).map(drop))?;
        let Sidecar { documents, text_bytes, tokens, .. } = sidecar;
        made.sources.insert(source, Held { documents, text_bytes, tokens, shards });
    }
    Ok(made)
}

/// The tokens of one source, on their way to a shard.
struct Tokens<'a> {
    tokenizer: &'a Tokenizer,
    path: PathBuf,
    shard: ShardWriter,
    texts: Vec<String>,
    bytes: usize,
    ends: Vec<u64>,
}

impl<'a> Tokens<'a> {
    fn new(path: PathBuf, tokenizer: &'a Tokenizer) -> Result<Tokens<'a>, Error> {
        let shard = ShardWriter::create(&path, tokenizer.vocab_size(), tokenizer.hash())?;
        Ok(Tokens { tokenizer, path, shard, texts: vec![], bytes: 0, ends: vec![] })
    }

    fn take(&mut self, text: String) -> Result<(), Error> {
        self.bytes += text.len();
        self.texts.push(text);
        if self.bytes >= BATCH_BYTES { self.encode() } else { Ok(()) }
    }

    fn encode(&mut self) -> Result<(), Error> {
        let around = self.tokenizer.special().around(Ends::Both);
        let batch = prepare::encode(&std::mem::take(&mut self.texts), self.tokenizer, around)?;
        let first = self.shard.sidecar().tokens;
        // Each document ends where the next begins, and the last one with the batch.
        let ends = batch.starts.iter().skip(1).copied().chain([batch.ids.len()]);
        self.ends.extend(ends.take(batch.starts.len()).map(|end| first + end as u64));
        self.shard.push(&batch.ids)?;
        self.shard.count(batch.documents, batch.text_bytes);
        self.bytes = 0;
        Ok(())
    }

    /// What is in the shard, and its files; no file where there is no token.
    fn finish(mut self) -> Result<(Sidecar, Vec<PathBuf>), Error> {
        self.encode()?;
        if self.shard.is_empty() {
            return Ok((self.shard.sidecar().clone(), Vec::new()));
        }
        let ends_path = self.path.with_extension("bin.ends");
        let ends: Vec<u8> = self.ends.iter().flat_map(|end| end.to_le_bytes()).collect();
        store::write(&ends_path, &ends).map_err(Error::write(&ends_path))?;
        let sidecar = self.shard.finish()?;
        let beside = Sidecar::path(&self.path);
        Ok((sidecar, vec![self.path, beside, ends_path]))
    }
}

/// A folder for a source: its name, where that can be a path of plain names; otherwise what can be
/// kept of it and a hash, so that no two sources share a folder.
fn folder_of(source: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let good = |name: &str| !name.is_empty() && !name.starts_with('.') && name.chars().all(plain);
    if source.len() <= 100 && source.split('/').all(good) {
        return source.to_string();
    }
    let kept: String = source.chars().filter(|&c| plain(c) && c != '.').take(40).collect();
    format!("{kept}-{:016x}", xxh3_64(source.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_names_a_folder_below_the_job() {
        for source in ["github", "wikipedia/en", "a.b/c_d-e"] {
            assert_eq!(folder_of(source), source);
        }
        let hostile =
            ["", "/etc", "..", "a/../b", "a//b", "a/.b", "ä", "a b", "a\\b", &"x".repeat(101)];
        let mut folders: Vec<_> = hostile.iter().map(|source| folder_of(source)).collect();
        for folder in &folders {
            assert!(!folder.contains(['/', '.', '\\']) && folder.len() < 60, "{folder}");
        }
        folders.sort();
        folders.dedup();
        assert_eq!(folders.len(), hostile.len());
    }
}
