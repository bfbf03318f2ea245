//! `handgrad prepare`: training data from raw dumps, in jobs that go on after any kill.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, Subcommand};
use data::corpus::{self, Counts, Layout, Progress, Source, Summary, dedup, documents, tokenize};
use data::tokenizer::Tokenizer;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use train::config::{LogLevel, at_least_1};
use train::progress::{Status, init_logging};
use train::signals::Signals;
use train::{Error, Outcome, print};

use super::Result;

/// Makes training data from raw dumps
///
/// Each stage is a job in a folder of its own, with a page `report.html` of what became of every document.
/// A job that was stopped or killed goes on with the same command.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Prepare {
    #[command(subcommand)]
    stage: Stage,
}

#[derive(Clone, Debug, Subcommand)]
enum Stage {
    /// Takes documents as they are: .jsonl, .parquet, .txt, archives of them
    Documents(Read),
    /// Files of projects under free licences
    Github(Read),
    /// Articles of Wikipedia's dumps
    Wikipedia(Read),
    /// Texts of Project Gutenberg
    Books(Read),
    /// Papers in TeX
    Arxiv(Read),
    /// Questions with their answers
    Stackexchange(Read),
    /// Drops exact and near duplicates
    Dedup(Dedup),
    /// Trains a tokenizer on documents
    Tokenizer(Train),
    /// Turns documents into token shards for `pretrain --data`
    Tokenize(Tokenize),
    /// Filters documents of one source from standard input to standard output
    Pipe(Pipe),
    /// Tells what became of one document of a job
    Explain(Explain),
}

/// Where a job reads and writes, and who does how much of it.
#[derive(Clone, Debug, Args)]
struct Job {
    /// Files and folders, in the order in which they count; of a job's folder, what it kept
    #[arg(value_name = "PATH", required_unless_present = "keys")]
    inputs: Vec<PathBuf>,
    /// The job's folder
    #[arg(long, value_name = "DIR", required_unless_present = "keys")]
    out: Option<PathBuf>,
    /// Set a value by its key; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print every key with its value, and exit
    #[arg(long)]
    keys: bool,
    /// Input of a task, about, in MiB
    #[arg(long, value_name = "MIB", allow_negative_numbers = true)]
    #[arg(value_parser = at_least_1::<u64>, default_value = "64")]
    shard_mib: u64,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = at_least_1::<usize>)]
    workers: Option<usize>,
    /// Do part I, counted from 0, of N that share the folder [default: what an array of Slurm or an
    /// indexed job says]
    #[arg(long, value_name = "I/N", value_parser = part)]
    task: Option<(usize, usize)>,
    /// Wait where a phase needs other tasks, instead of ending there
    #[arg(long)]
    wait: bool,
}

/// Reads a source
#[derive(Clone, Debug, Args)]
struct Read {
    #[command(flatten)]
    job: Job,
    /// Write dropped documents with their text
    #[arg(long)]
    keep_dropped_text: bool,
}

/// Drops exact and near duplicates
#[derive(Clone, Debug, Args)]
struct Dedup {
    #[command(flatten)]
    job: Job,
    /// Write dropped documents with their text
    #[arg(long)]
    keep_dropped_text: bool,
    /// Write hashes, bands and shingles as Parquet and end there, for a selection with SQL
    #[arg(long)]
    tables: bool,
    /// Take the selection that SQL made: a folder with exact/*.parquet and near/*.parquet
    #[arg(long, value_name = "DIR")]
    selection: Option<PathBuf>,
}

/// Trains a tokenizer on documents
#[derive(Clone, Debug, Args)]
struct Train {
    /// Files and folders of documents; of a job's folder, what it kept
    #[arg(value_name = "PATH", required = true)]
    inputs: Vec<PathBuf>,
    /// The folder for tokenizer.json and tokenizer_config.json
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Entries
    #[arg(long, value_name = "N", default_value = "32000")]
    vocab_size: usize,
    /// Set a value by its key; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Turns documents into token shards
#[derive(Clone, Debug, Args)]
struct Tokenize {
    #[command(flatten)]
    job: Job,
    /// The tokenizer: a tokenizer.json, or `bytes`
    #[arg(long, value_name = "FILE", required_unless_present = "keys")]
    tokenizer: Option<PathBuf>,
}

/// Filters documents from standard input to standard output
#[derive(Clone, Debug, Args)]
struct Pipe {
    /// The source whose rules are asked
    #[arg(value_name = "SOURCE")]
    source: String,
    /// Set a value by its key; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Tells what became of one document
#[derive(Clone, Debug, Args)]
struct Explain {
    /// The job's folder
    #[arg(value_name = "DIR")]
    job: PathBuf,
    /// The document's id, or source/id
    #[arg(value_name = "ID")]
    id: String,
}

const EXAMPLES: &str = "\
Examples:
  handgrad prepare wikipedia enwiki-latest-pages-articles.xml.bz2 --out corpora/wikipedia
  handgrad prepare github checkouts/ --out corpora/github --set longest_line=500
  handgrad prepare dedup corpora/github corpora/wikipedia --out corpora/unique
  handgrad prepare tokenizer corpora/unique --vocab-size 32000 --out tokenizer
  handgrad prepare tokenize corpora/unique --tokenizer tokenizer/tokenizer.json --out shards
  handgrad prepare explain corpora/unique 'github/some/file.c'
  handgrad prepare github --keys
      every rule's key, with its value
  gzip -dc enwiki.xml.gz | handgrad prepare pipe wikipedia --set language=en > documents.jsonl
      a filter, for a shell, Spark's pipe or Ray
  sbatch --array=0-99 --wrap 'handgrad prepare dedup corpora/github --out corpora/unique'
      an array of tasks; submit it again until it says that all is done, or add --wait

The summary is one JSON object on stdout; everything else goes to stderr.";

impl Prepare {
    pub fn run(&self) -> Result<Outcome> {
        init_logging(LogLevel::Info)?;
        match &self.stage {
            Stage::Documents(args) => args.run("documents"),
            Stage::Github(args) => args.run("github"),
            Stage::Wikipedia(args) => args.run("wikipedia"),
            Stage::Books(args) => args.run("books"),
            Stage::Arxiv(args) => args.run("arxiv"),
            Stage::Stackexchange(args) => args.run("stackexchange"),
            Stage::Dedup(args) => args.run(),
            Stage::Tokenizer(args) => args.run(),
            Stage::Tokenize(args) => args.run(),
            Stage::Pipe(args) => args.run(),
            Stage::Explain(args) => args.run(),
        }
    }
}

impl Read {
    fn run(&self, name: &str) -> Result<Outcome> {
        let source = source(name, &self.job.set)?;
        if self.job.keys {
            return print_keys(&json!(source)[name]);
        }
        let mut options = corpus::Options::new(source, self.job.inputs.clone(), self.job.out());
        options.shard_bytes = self.job.shard_bytes();
        options.keep_dropped_text = self.keep_dropped_text;
        options.layout = self.job.layout()?;
        follow(|stop, progress| corpus::run(&options, stop, progress))
    }
}

/// The keys of `dedup`.
#[derive(Default, Serialize, Deserialize)]
struct DedupKeys {
    #[serde(flatten)]
    rules: dedup::Rules,
    fields: documents::Options,
}

impl Dedup {
    fn run(&self) -> Result<Outcome> {
        let keys: DedupKeys = with_sets(DedupKeys::default(), &self.job.set)?;
        if self.job.keys {
            return print_keys(&json!(keys));
        }
        let mut options = dedup::Options::new(self.job.inputs.clone(), self.job.out());
        (options.rules, options.fields) = (keys.rules, keys.fields);
        options.shard_bytes = self.job.shard_bytes();
        options.keep_dropped_text = self.keep_dropped_text;
        options.tables = self.tables || self.selection.is_some();
        options.until = if self.tables { dedup::Until::Hashes } else { dedup::Until::Documents };
        options.selection.clone_from(&self.selection);
        options.layout = self.job.layout()?;
        follow(|stop, progress| dedup::run(&options, stop, progress))
    }
}

impl Train {
    fn run(&self) -> Result<Outcome> {
        let fields: documents::Options = with_sets(Default::default(), &self.set)?;
        let signals = Signals::install()?;
        let mut status = Status::new();
        let (stop, show) = (signals.stopping(), &mut |learning| status.show(&learning));
        let trained = tokenize::train(&self.inputs, &fields, self.vocab_size, &stop, show);
        drop(status);
        let tokenizer = match trained {
            Err(data::Error::Stopped) => return Ok(stopped(&signals)),
            trained => trained?,
        };
        std::fs::create_dir_all(&self.out)
            .map_err(|e| data::Error::Write { path: self.out.clone(), source: e })?;
        tokenizer.save(&self.out)?;
        let (entries, path) = (tokenizer.vocab_size(), self.out.join("tokenizer.json"));
        tracing::info!("{entries} entries in {}", path.display());
        Ok(Outcome::Done)
    }
}

impl Tokenize {
    fn run(&self) -> Result<Outcome> {
        let fields: documents::Options = with_sets(Default::default(), &self.job.set)?;
        if self.job.keys {
            return print_keys(&json!(fields));
        }
        let tokenizer = match self.tokenizer.as_deref().expect("clap asks for it") {
            bytes if bytes == Path::new("bytes") => Tokenizer::bytes(),
            file => Tokenizer::load(file)?,
        };
        let mut options = tokenize::Options::new(self.job.inputs.clone(), self.job.out());
        options.fields = fields;
        options.shard_bytes = self.job.shard_bytes();
        options.layout = self.job.layout()?;
        follow(|stop, progress| tokenize::run(&options, &tokenizer, stop, progress))
    }
}

impl Pipe {
    fn run(&self) -> Result<Outcome> {
        let source = source(&self.source, &self.set)?;
        let signals = Signals::install()?;
        match corpus::pipe(&source, std::io::stdout().lock(), &signals.stopping()) {
            Err(data::Error::Stopped) => Ok(stopped(&signals)),
            Err(data::Error::Write { source, .. }) => {
                let what = "cannot write to".to_string();
                Err(Error::Io { what, path: "stdout".into(), source }.into())
            }
            Err(error) => Err(error.into()),
            Ok(counts) => {
                tell_damage(&counts);
                let (kept, read) = (counts.kept.documents, counts.read.documents);
                tracing::info!("{kept} of {read} documents kept");
                Ok(Outcome::Done)
            }
        }
    }
}

impl Explain {
    fn run(&self) -> Result<Outcome> {
        for explained in corpus::explain(&self.job, &self.id)? {
            print(&explained.to_string())?;
        }
        Ok(Outcome::Done)
    }
}

impl Job {
    fn out(&self) -> PathBuf {
        self.out.clone().expect("clap asks for it")
    }

    fn shard_bytes(&self) -> u64 {
        self.shard_mib.saturating_mul(1 << 20)
    }

    /// Who this process is: what its flags say, then what the environment does.
    fn layout(&self) -> Result<Layout> {
        let mut layout = Layout { wait: self.wait, ..Layout::threads() };
        layout.workers = self.workers.unwrap_or(layout.workers);
        let environment = || Layout::task_of(|name| std::env::var(name).ok());
        if let Some(task) = self.task.map_or_else(environment, |task| Ok(Some(task)))? {
            tracing::info!("task {} of {}, counted from 0", task.0, task.1);
            layout.task = task;
        }
        Ok(layout)
    }
}

/// A source by its name, with the values that `--set` gives.
fn source(name: &str, sets: &[String]) -> Result<Source> {
    let Ok(source) = serde_json::from_value::<Source>(json!({ name: {} })) else {
        let text = format!(
            "{name}: no such source; there are documents, github, wikipedia, books, arxiv and \
             stackexchange"
        );
        return Err(Error::Config(text).into());
    };
    let keys = with_sets(json!(source)[name].take(), sets)?;
    let named = serde_json::from_value(json!({ name: keys }));
    named.map_err(|e| Error::Config(format!("--set: {e}; --keys prints keys and values")).into())
}

/// `options` with the values of `KEY=VALUE`; a value is JSON, or else text.
fn with_sets<T: Serialize + DeserializeOwned>(options: T, sets: &[String]) -> Result<T> {
    let mut keys = json!(options);
    for set in sets {
        let bad =
            |what: &str| Error::Config(format!("--set {set}: {what}; --keys prints all keys"));
        let (key, text) = set.split_once('=').ok_or_else(|| bad("expected KEY=VALUE"))?;
        let pointer = format!("/{}", key.trim().replace('.', "/"));
        let place = keys.pointer_mut(&pointer).filter(|place| !place.is_object());
        let place = place.ok_or_else(|| bad("no such key"))?;
        *place = serde_json::from_str(text).unwrap_or_else(|_| json!(text));
    }
    let read = serde_json::from_value(keys);
    read.map_err(|e| Error::Config(format!("--set: {e}; --keys prints keys and values")).into())
}

/// Prints keys and values, as `--set` takes them.
fn print_keys(keys: &Value) -> Result<Outcome> {
    for (key, value) in keys.as_object().into_iter().flatten() {
        match value {
            Value::Object(inner) => {
                for (name, value) in inner {
                    print(&format!("{key}.{name}={value}\n"))?;
                }
            }
            value => print(&format!("{key}={value}\n"))?,
        }
    }
    Ok(Outcome::Done)
}

/// `I/N`.
fn part(text: &str) -> std::result::Result<(usize, usize), String> {
    let numbers = text.split_once('/').map(|(i, n)| (i.parse(), n.parse()));
    match numbers {
        Some((Ok(i), Ok(n))) if i < n => Ok((i, n)),
        _ => Err("expected I/N with I from 0 to N - 1, as in 0/4".to_string()),
    }
}

/// Runs a job, shows how far it is, and says how it ended.
fn follow(
    job: impl FnOnce(
        &Arc<AtomicBool>,
        &mut dyn FnMut(&Progress),
    ) -> std::result::Result<Summary, data::Error>,
) -> Result<Outcome> {
    let signals = Signals::install()?;
    let mut status = Status::new();
    let ended = job(&signals.stopping(), &mut |progress| status.show(progress));
    drop(status);
    let summary = match ended {
        Err(data::Error::Stopped) => {
            tracing::warn!("stopped; the same command goes on");
            return Ok(stopped(&signals));
        }
        ended => ended?,
    };
    tell_damage(&summary.counts);
    if summary.complete {
        tracing::info!("done; see {}", summary.report.display());
    } else {
        let phase = summary.phase;
        tracing::warn!(
            "other tasks have not done their part of {phase}: run all of them once more"
        );
    }
    print(&format!("{}\n", json!(summary)))?;
    Ok(Outcome::Done)
}

fn stopped(signals: &Signals) -> Outcome {
    Outcome::Stopped(signals.requested().unwrap_or(0))
}

/// Names what could not be read.
fn tell_damage(counts: &Counts) {
    for (kind, count) in &counts.damaged {
        tracing::warn!("passed over, {kind}: {count}");
    }
    for damage in counts.damage.iter().take(5) {
        tracing::warn!("{}: {}", damage.place, damage.reason);
    }
}
