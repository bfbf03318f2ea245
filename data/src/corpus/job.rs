//! Jobs: stages over shards that may be killed anywhere and go on.
//!
//! A job lives in a folder. `job.json` says what it is: stage, parameters, shards. A task is one
//! shard of one phase. It writes its files under other names, gives them their names, and last
//! writes `PHASE/NNNNNN.json`, its record: what it read, what it wrote, with hashes. A task with a
//! record is done; anything without one is done again, and gives the same bytes, because a task is
//! a pure function of its shard and the job's parameters. So who does which task does not matter:
//! threads, processes of an array, or whoever comes after a kill.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::Draft;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::input::{Meter, Piece, STDIN, Shard};
use super::sink::Counts;
use crate::Error;

/// The file that says what a job is.
pub(super) const MANIFEST: &str = "job.json";

/// Changes with the meaning of what a job writes.
const FORMAT: u32 = 1;

/// Between two looks at progress, at a wish to stop, and at other tasks' records.
const TICK: Duration = Duration::from_millis(100);

/// Who does how much of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Threads of this process.
    pub workers: usize,
    /// This process is task `.0` of `.1` that share the job's folder.
    pub task: (usize, usize),
    /// Whether to wait where a phase needs what other tasks have not done yet. Without it the
    /// process ends there, and the same command, given again, goes on.
    pub wait: bool,
}

impl Layout {
    /// A process alone, with one worker a core.
    pub fn threads() -> Layout {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        Layout { workers, task: (0, 1), wait: false }
    }

    /// Which task the environment says this process is: a Slurm array's, or an indexed job's with
    /// the number of its completions in `JOB_COMPLETIONS`. `get` reads a variable.
    ///
    /// # Errors
    /// A number that makes no sense.
    pub fn task_of(get: impl Fn(&str) -> Option<String>) -> Result<Option<(usize, usize)>, Error> {
        let number = |name: &str| match get(name) {
            None => Ok(None),
            Some(text) => text.parse::<usize>().map(Some).map_err(|_| Error::Job {
                path: name.into(),
                reason: format!("{text:?} is no number; give --task I/N in its place"),
            }),
        };
        let slurm = ["SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"];
        let indexed = ["JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"];
        for [id, count] in [slurm, indexed] {
            let Some(index) = number(id)? else { continue };
            let index =
                index - number("SLURM_ARRAY_TASK_MIN")?.filter(|_| id == slurm[0]).unwrap_or(0);
            return match number(count)? {
                Some(n) if index < n => Ok(Some((index, n))),
                other => Err(Error::Job {
                    path: id.into(),
                    reason: format!(
                        "{index}, but {count} is {}; set it to the number of tasks, or give --task I/N",
                        other.map_or("not set".to_string(), |n| n.to_string())
                    ),
                }),
            };
        }
        Ok(None)
    }
}

/// What a job is. Equal manifests make equal files.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    stage: String,
    parameters: Value,
    shards: Vec<Shard>,
}

/// A file that a task wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Output {
    /// Its path in the job's folder.
    path: PathBuf,
    bytes: u64,
    /// XXH3-128 of its bytes.
    hash: String,
}

/// A piece as it was when it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    piece: Piece,
    /// The file's time of change: nanoseconds since 1970.
    modified: u64,
    /// XXH3-128 of the piece's bytes.
    hash: String,
}

/// That a task is done.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// Hash of the manifest.
    job: String,
    inputs: Vec<Seen>,
    outputs: Vec<Output>,
    /// What the task has to say to later phases and to the report.
    result: Value,
}

/// One phase: `count` tasks that need nothing of each other.
pub struct Phase<'a> {
    /// The name of its folder.
    pub name: &'static str,
    /// Tasks.
    pub count: usize,
    /// Whether task `i` reads shard `i` of the input; its bytes are then hashed first.
    pub reads_input: bool,
    /// What its tasks depend on beside the manifest; records of another are not taken.
    pub salt: String,
    /// Does a task, and says something that serialises.
    pub work: &'a (dyn Fn(usize, &mut Task) -> Result<Value, Error> + Sync),
}

/// How far a phase is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The phase.
    pub phase: &'static str,
    /// Tasks done, by anyone, and in all.
    pub tasks: (usize, usize),
    /// What this process has done of its part of the phase, and its part: bytes of input, or
    /// tasks where a phase reads none.
    pub work: (u64, u64),
    /// Whether that is bytes.
    pub in_bytes: bool,
    /// Since the phase began here.
    pub elapsed: Duration,
    /// What became of documents, in the tasks that are done.
    pub counts: Counts,
}

impl Progress {
    /// Time until this process has done its part, if its pace holds.
    pub fn left(&self) -> Option<Duration> {
        let (done, all) = self.work;
        let left = all.saturating_sub(done) as f64 / done as f64;
        (done > 0).then(|| self.elapsed.mul_f64(left.min(1e6)))
    }
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.phase, self.tasks.0, self.tasks.1)?;
        if self.in_bytes {
            let (done, all) = (self.work.0 as f64 / 1e6, self.work.1 as f64 / 1e6);
            let rate = done / self.elapsed.as_secs_f64().max(1e-3);
            write!(f, " {done:.0}/{all:.0} MB {rate:.1} MB/s")?;
        }
        if let Some(left) = self.left() {
            write!(f, " {} s left", left.as_secs())?;
        }
        if self.counts.read.documents > 0 {
            write!(
                f,
                ", {} of {} documents kept",
                self.counts.kept.documents, self.counts.read.documents
            )?;
        }
        for (rule, counts) in &self.counts.rules {
            if counts.dropped.documents > 0 {
                write!(f, ", {rule} {}", counts.dropped.documents)?;
            }
        }
        Ok(())
    }
}

/// A job's folder, opened.
pub struct Job {
    folder: PathBuf,
    manifest: Manifest,
    /// Hash of the manifest.
    key: String,
}

/// A task while it runs.
pub struct Task<'a> {
    job: &'a Job,
    index: usize,
    meter: &'a Meter,
    outputs: Vec<Output>,
}

impl Job {
    /// Begins a job in a folder, or goes on with the one that is there.
    ///
    /// # Errors
    /// A folder that holds another job, or anything else; an input that changed since.
    pub fn open(
        folder: &Path,
        stage: &str,
        parameters: Value,
        shards: Vec<Shard>,
    ) -> Result<Job, Error> {
        let manifest = Manifest { format: FORMAT, stage: stage.to_string(), parameters, shards };
        let text = serde_json::to_vec_pretty(&manifest).expect("plain fields always serialise");
        std::fs::create_dir_all(folder).map_err(Error::write(folder))?;
        let path = folder.join(MANIFEST);
        if !path.exists() {
            begin(folder, &path, &text)?;
        }
        let found = std::fs::read(&path).map_err(Error::read(&path))?;
        if found != text {
            return Err(Error::Job { path, reason: difference(&found, &manifest) });
        }
        let key = format!("{:032x}", xxh3_128(&text));
        Ok(Job { folder: folder.to_path_buf(), manifest, key })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The stage that it runs.
    pub fn stage(&self) -> &str {
        &self.manifest.stage
    }

    /// Its parameters.
    pub fn parameters(&self) -> &Value {
        &self.manifest.parameters
    }

    /// The shards of the input.
    pub fn shards(&self) -> &[Shard] {
        &self.manifest.shards
    }

    /// Where a task's file lies.
    pub fn path(&self, folder: &str, index: usize, ending: &str) -> PathBuf {
        self.folder.join(folder).join(format!("{index:06}.{ending}"))
    }

    /// What the tasks of a finished phase said, in order.
    ///
    /// # Errors
    /// A record that is missing or says something else.
    pub fn results<T: DeserializeOwned>(&self, phase: &Phase) -> Result<Vec<T>, Error> {
        let result = |index| {
            let path = self.path(phase.name, index, "json");
            let record = self.record(phase, index)?.ok_or_else(|| Error::Job {
                path: path.clone(),
                reason: "was there and is not any more; run the same command again".to_string(),
            })?;
            serde_json::from_value(record.result).map_err(|e| Error::Job {
                path,
                reason: format!("{e}; delete this file and run the same command again"),
            })
        };
        (0..phase.count).map(result).collect()
    }

    fn key_of(&self, phase: &Phase) -> String {
        format!("{}{}", self.key, phase.salt)
    }

    /// The record of a task, if it is done and its files are there.
    fn record(&self, phase: &Phase, index: usize) -> Result<Option<Record>, Error> {
        let path = self.path(phase.name, index, "json");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::read(&path)(e)),
        };
        // A record of another job, or no record at all: as if it were not there.
        let Some(record) =
            serde_json::from_slice::<Record>(&bytes).ok().filter(|r| r.job == self.key_of(phase))
        else {
            return Ok(None);
        };
        let there = |output: &Output| {
            let found = std::fs::metadata(self.folder.join(&output.path));
            found.is_ok_and(|found| found.len() == output.bytes)
        };
        Ok(record.outputs.iter().all(there).then_some(record))
    }

    /// Does this process's tasks of a phase that are not done, and says whether all are, others'
    /// included. `progress` hears of it ten times a second.
    ///
    /// # Errors
    /// The first task that fails stops the others.
    pub fn run(
        &self,
        phase: &Phase,
        layout: &Layout,
        stop: &Arc<AtomicBool>,
        progress: &mut dyn FnMut(&Progress),
    ) -> Result<bool, Error> {
        let began = Instant::now();
        let folder = self.folder.join(phase.name);
        std::fs::create_dir_all(&folder).map_err(Error::write(&folder))?;
        let mut state = Progress {
            phase: phase.name,
            tasks: (0, phase.count),
            in_bytes: phase.reads_input,
            ..Default::default()
        };
        let (mut todo, mut left) = (Vec::new(), Vec::new());
        for index in 0..phase.count {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Stopped);
            }
            match self.record(phase, index)? {
                Some(record) => {
                    self.check_inputs(&record, phase.name, index)?;
                    state.tasks.0 += 1;
                    state.counts.merge(&counts_of(&record.result));
                }
                None if index % layout.task.1 == layout.task.0 => todo.push(index),
                None => left.push(index),
            }
        }
        let weight =
            |&index: &usize| if phase.reads_input { self.shards()[index].bytes() } else { 1 };
        state.work.1 = todo.iter().map(weight).sum();
        self.work_off(phase, &todo, layout, stop, began, &mut state, progress)?;
        while !left.is_empty() {
            left.retain(|&index| !matches!(self.record(phase, index), Ok(Some(_))));
            state.tasks.0 = phase.count - left.len();
            progress(&state);
            if !layout.wait || left.is_empty() {
                break;
            }
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Stopped);
            }
            std::thread::sleep(TICK);
        }
        Ok(left.is_empty())
    }

    fn work_off(
        &self,
        phase: &Phase,
        todo: &[usize],
        layout: &Layout,
        stop: &Arc<AtomicBool>,
        began: Instant,
        state: &mut Progress,
        progress: &mut dyn FnMut(&Progress),
    ) -> Result<(), Error> {
        // A failure stops the other workers too, but is no wish of the caller's.
        let halt = Arc::new(AtomicBool::new(false));
        let meter = Meter::new(Arc::clone(&halt));
        let (next, finished) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let failure: Mutex<Option<(usize, Error)>> = Mutex::new(None);
        let counted = Mutex::new(std::mem::take(&mut state.counts));
        let before = state.tasks.0;
        let worker = || {
            while let Some(&index) = todo.get(next.fetch_add(1, Ordering::Relaxed))
                && !halt.load(Ordering::Relaxed)
            {
                match self.contained(phase, index, &meter) {
                    Ok(counts) => counted.lock().expect("no panic in it").merge(&counts),
                    Err(e) => {
                        let mut failure = failure.lock().expect("no panic in it");
                        let first = failure.as_ref().is_none_or(|(i, old)| {
                            matches!(old, Error::Stopped)
                                || index < *i && !matches!(e, Error::Stopped)
                        });
                        if first {
                            *failure = Some((index, e));
                        }
                        halt.store(true, Ordering::Relaxed);
                    }
                }
                if !phase.reads_input {
                    meter.add(1);
                }
                finished.fetch_add(1, Ordering::Relaxed);
            }
        };
        std::thread::scope(|scope| {
            let workers = layout.workers.clamp(1, todo.len().max(1));
            let threads: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
            loop {
                let done = threads.iter().all(|thread| thread.is_finished());
                if stop.load(Ordering::Relaxed) {
                    halt.store(true, Ordering::Relaxed);
                }
                state.tasks.0 = before + finished.load(Ordering::Relaxed);
                state.work.0 = meter.bytes().min(state.work.1);
                state.elapsed = began.elapsed();
                state.counts = counted.lock().expect("no panic in it").clone();
                progress(state);
                if done {
                    break;
                }
                std::thread::park_timeout(if state.elapsed < TICK { TICK / 20 } else { TICK });
            }
        });
        if stop.load(Ordering::Relaxed) && finished.load(Ordering::Relaxed) < todo.len() {
            return Err(Error::Stopped);
        }
        failure.into_inner().expect("no panic in it").map_or(Ok(()), |(_, e)| Err(e))
    }

    /// Does one task; a panic in it becomes an error that names it.
    fn contained(&self, phase: &Phase, index: usize, meter: &Meter) -> Result<Counts, Error> {
        let run = AssertUnwindSafe(|| self.task(phase, index, meter));
        std::panic::catch_unwind(run).unwrap_or_else(|panic| {
            let what = panic.downcast_ref::<String>().map(String::as_str);
            let what = what.or(panic.downcast_ref::<&str>().copied()).unwrap_or("panic");
            let path = self.path(phase.name, index, "json");
            Err(Error::Job { path, reason: format!("this task failed: {what}; a bug, report it") })
        })
    }

    fn task(&self, phase: &Phase, index: usize, meter: &Meter) -> Result<Counts, Error> {
        let inputs = if phase.reads_input {
            let pieces = &self.shards()[index].pieces;
            pieces.iter().map(|piece| see(piece, meter)).collect::<Result<Vec<_>, _>>()?
        } else {
            Vec::new()
        };
        let mut task = Task { job: self, index, meter, outputs: Vec::new() };
        let result = (phase.work)(index, &mut task)?;
        meter.check()?;
        let counts = counts_of(&result);
        let record = Record { job: self.key_of(phase), inputs, outputs: task.outputs, result };
        let path = self.path(phase.name, index, "json");
        let text = serde_json::to_vec(&record).expect("plain fields always serialise");
        store::write(&path, &text).map_err(Error::write(&path))?;
        Ok(counts)
    }

    /// That what a task read is still there as it was.
    fn check_inputs(&self, record: &Record, phase: &str, index: usize) -> Result<(), Error> {
        for seen in &record.inputs {
            let path = &seen.piece.path;
            if modified(path)? != seen.modified
                && see(&seen.piece, &Meter::default())?.hash != seen.hash
            {
                let path = path.clone();
                let reason = format!(
                    "has changed since {phase} {index} was made from it; give another --out, or \
                     delete {}",
                    self.folder.display()
                );
                return Err(Error::Job { path, reason });
            }
        }
        Ok(())
    }

    /// Writes a file of the whole job, once all tasks are done, and tidies up what killed tasks
    /// left behind.
    ///
    /// # Errors
    /// A full or broken disk.
    pub fn finish(&self, files: &BTreeMap<&str, Vec<u8>>) -> Result<(), Error> {
        for (name, bytes) in files {
            let path = self.folder.join(name);
            if std::fs::read(&path).is_ok_and(|found| found == *bytes) {
                continue;
            }
            // Another task that ends just now has the same to say, and may have tidied up already.
            let there = || std::fs::read(&path).is_ok_and(|found| found == *bytes);
            if let Err(e) = store::write(&path, bytes)
                && !there()
            {
                return Err(Error::write(&path)(e));
            }
        }
        let entries = std::fs::read_dir(&self.folder).map_err(Error::read(&self.folder))?;
        let inner = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
        for folder in inner.chain([self.folder.clone()]) {
            for path in store::unfinished(&folder).map_err(Error::read(&folder))? {
                // Another task may have removed it just now.
                let _ = std::fs::remove_file(path);
            }
        }
        Ok(())
    }
}

impl Task<'_> {
    /// Counts bytes, and says when to stop.
    pub fn meter(&self) -> &Meter {
        self.meter
    }

    /// Begins a file of this task.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn create(&self, folder: &str, ending: &str) -> Result<Writer, Error> {
        let path = self.path(folder, ending)?;
        let file = Draft::create(&path).map_err(Error::write(&path))?;
        let hashed = Hashed { file, hash: Xxh3::new(), bytes: 0 };
        Ok(Writer { out: BufWriter::with_capacity(1 << 18, hashed), path })
    }

    /// Syncs a file and gives it its name.
    ///
    /// # Errors
    /// A full or broken disk; then nothing of that name is there.
    pub fn keep(&mut self, writer: Writer) -> Result<(), Error> {
        let Writer { out, path } = writer;
        let hashed = out.into_inner().map_err(|e| Error::write(&path)(e.into_error()))?;
        let hash = format!("{:032x}", hashed.hash.digest128());
        hashed.file.publish().map_err(Error::write(&path))?;
        let path = path.strip_prefix(&self.job.folder).expect("it lies there").to_path_buf();
        self.outputs.push(Output { path, bytes: hashed.bytes, hash });
        Ok(())
    }

    /// Where a file of this task lies, in a folder that is there.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub fn path(&self, folder: &str, ending: &str) -> Result<PathBuf, Error> {
        let path = self.job.path(folder, self.index, ending);
        let parent = path.parent().expect("it has a folder");
        std::fs::create_dir_all(parent).map_err(Error::write(parent))?;
        Ok(path)
    }

    /// Takes a file that something else has written and named; gives its path in the job's folder.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn adopt(&mut self, path: &Path) -> Result<PathBuf, Error> {
        let piece = Piece::whole(path)?;
        let (bytes, hash) = (piece.bytes(), see(&piece, &Meter::default())?.hash);
        let path = path.strip_prefix(&self.job.folder).expect("it lies there").to_path_buf();
        self.outputs.push(Output { path: path.clone(), bytes, hash });
        Ok(path)
    }
}

/// A file of a task that has no name yet.
pub struct Writer {
    out: BufWriter<Hashed>,
    path: PathBuf,
}

impl Writer {
    /// Where it will lie.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

struct Hashed {
    file: Draft,
    hash: Xxh3,
    bytes: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes an empty folder a job's. Others may be doing the same at this moment.
fn begin(folder: &Path, path: &Path, text: &[u8]) -> Result<(), Error> {
    let entries = std::fs::read_dir(folder).map_err(Error::read(folder))?;
    let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    let foreign = names.iter().find(|name| !store::is_unfinished(&name.to_string_lossy()));
    if path.exists() {
        return Ok(());
    }
    if let Some(name) = foreign {
        let reason = format!("holds {name:?} and no job; give a new or empty folder");
        return Err(Error::Job { path: folder.to_path_buf(), reason });
    }
    store::write(path, text).map_err(Error::write(path))
}

/// The counts in a task's result, if it has any.
fn counts_of(result: &Value) -> Counts {
    result.get("counts").and_then(|counts| Counts::deserialize(counts).ok()).unwrap_or_default()
}

fn modified(path: &Path) -> Result<u64, Error> {
    if path == Path::new(STDIN) {
        return Ok(0);
    }
    let time =
        std::fs::metadata(path).and_then(|meta| meta.modified()).map_err(Error::read(path))?;
    Ok(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64)
}

/// Hashes a piece: one pass at the disk's speed, which leaves it in memory for the task. A folder
/// is hashed by its files' names and bytes.
fn see(piece: &Piece, meter: &Meter) -> Result<Seen, Error> {
    let mut hash = Xxh3::new();
    let time = modified(&piece.path)?;
    if piece.path.is_dir() {
        for path in crate::text::find(std::slice::from_ref(&piece.path), &|_| true, "files")? {
            hash.update(path.as_os_str().as_encoded_bytes());
            hash_bytes(&Piece { path, start: 0, end: u64::MAX }, &mut hash, meter)?;
        }
    } else {
        hash_bytes(piece, &mut hash, meter)?;
    }
    Ok(Seen { piece: piece.clone(), modified: time, hash: format!("{:032x}", hash.digest128()) })
}

fn hash_bytes(piece: &Piece, hash: &mut Xxh3, meter: &Meter) -> Result<(), Error> {
    use std::io::Seek;
    let read = Error::read(&piece.path);
    let mut open = || {
        let mut file = File::open(&piece.path)?;
        file.seek(io::SeekFrom::Start(piece.start))?;
        let mut file = file.take(piece.end - piece.start);
        let mut buffer = vec![0; 1 << 18];
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 || meter.check().is_err() {
                return Ok(());
            }
            hash.update(&buffer[..count]);
        }
    };
    open().map_err(read)?;
    meter.check()
}

/// What tells another job from the one that was asked for, and what to do.
fn difference(found: &[u8], wanted: &Manifest) -> String {
    let remedy = "give another --out, or delete the folder to begin anew";
    let Ok(found) = serde_json::from_slice::<Manifest>(found) else {
        return format!("is no manifest of a job; {remedy}");
    };
    if found.format != wanted.format {
        return format!(
            "made by another version (format {}, now {}); {remedy}",
            found.format, wanted.format
        );
    }
    if found.stage != wanted.stage {
        return format!(
            "the folder holds a job of {}, not of {}; {remedy}",
            found.stage, wanted.stage
        );
    }
    if let Some((name, old, new)) = first_change("", &found.parameters, &wanted.parameters) {
        return format!("was begun with {name} = {old}, now it is {new}; {remedy}");
    }
    let files = |manifest: &Manifest| -> Vec<Piece> {
        manifest.shards.iter().flat_map(|shard| shard.pieces.clone()).collect()
    };
    let (old, new) = (files(&found), files(wanted));
    let changed = new.iter().find(|piece| !old.contains(piece));
    let changed = changed.or(old.iter().find(|piece| !new.contains(piece)));
    let name = changed.map_or("the order of inputs".to_string(), |p| p.path.display().to_string());
    format!("was begun with other inputs: {name} is new, gone, or of another size; {remedy}")
}

/// The first value that differs, with its name.
fn first_change(name: &str, old: &Value, new: &Value) -> Option<(String, String, String)> {
    match (old, new) {
        _ if old == new => None,
        (Value::Object(a), Value::Object(b)) => {
            a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))).find_map(|key| {
                let inner = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                let get = |map: &serde_json::Map<String, Value>| {
                    map.get(key).cloned().unwrap_or(Value::Null)
                };
                first_change(&inner, &get(a), &get(b))
            })
        }
        _ => Some((name.to_string(), old.to_string(), new.to_string())),
    }
}
