//! Checkpoints that survive a crash at any moment.
//!
//! A checkpoint is a directory `step-000123` that holds
//!
//! - one safetensors file for each payload, such as `weights.safetensors`;
//! - `state.json`: step, position in the data, fingerprint of the run, and name, size and
//!   XXH3-128 of every payload;
//! - `state.json.xxh3`: XXH3-128 of `state.json`.
//!
//! [`save`] writes it under a temporary name, syncs every file and the folder, then renames it.
//! A crash leaves a temporary folder, which nothing reads and the next save deletes. [`latest`]
//! trusts nothing: it takes the newest checkpoint whose every byte agrees with its checksum, and
//! reports what it passed over. One process writes (see [`crate::outdir`]); any number may read.
//!
//! Tensors go from a device's memory to the file and back in short parts: neither way takes a copy of
//! the model on the host.
//!
//! ```
//! use train::checkpoint::{State, Tensor, Values, ValuesMut, latest, save};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let root = dir.path();
//! let w = [1.0f32, 2.0, 3.0];
//! let tensor = Tensor { name: "w".into(), shape: vec![3], values: Values::F32(w[..].into()) };
//! let state = State { step: 7, tokens: 700, ..State::default() };
//! save(root, &state, &[("weights.safetensors", vec![tensor])])?;
//!
//! let found = latest(root)?.require(root)?;
//! let mut read = [0.0f32; 3];
//! found.read("weights.safetensors", "w", &[3], ValuesMut::F32(read[..].as_mut().into()))?;
//! assert_eq!((found.state(), read), (&state, w));
//! # Ok(())
//! # }
//! ```

use std::convert::Infallible;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use engine::{View, ViewMut, bf16};
use serde::{Deserialize, Serialize};
use store::tensors::{Dtype, Entry, Layout, Reader, Writer};
use store::{DraftFolder, Sum, sync_folder};

use crate::config::Fingerprint;
use crate::error::Error;

const STATE_NAME: &str = "state.json";
const STATE_SUM_NAME: &str = "state.json.xxh3";

/// Where the run stood, beside its tensors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Optimizer steps done.
    pub step: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Global index of the next sequence.
    pub next_sample: u64,
    /// What the run's numbers depend on; compare it with [`crate::config::compare`].
    pub fingerprint: Fingerprint,
}

/// Elements of a tensor in row-major order, wherever they are. Frozen parameters may be kept narrow.
#[derive(Clone, Copy)]
pub enum Values<'a> {
    /// In f32.
    F32(View<'a, f32>),
    /// In bf16.
    Bf16(View<'a, bf16>),
}

/// [`Values`], to be read from a file.
pub enum ValuesMut<'a> {
    /// In f32.
    F32(ViewMut<'a, f32>),
    /// In bf16.
    Bf16(ViewMut<'a, bf16>),
}

impl Values<'_> {
    fn dtype(&self) -> Dtype {
        match self {
            Values::F32(_) => Dtype::F32,
            Values::Bf16(_) => Dtype::BF16,
        }
    }

    /// Hands the bytes to `each` in parts, after a look at every number: the first that is not finite
    /// goes to `bad` with its index.
    fn read_parts(
        &self,
        bad: impl Fn(f32, usize) -> Error,
        mut each: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        fn look<T: bytemuck::Pod + Into<f32>>(values: &[T]) -> Result<&[u8], (f32, usize)> {
            match values.iter().position(|&x| !x.into().is_finite()) {
                Some(i) => Err((values[i].into(), i)),
                None => Ok(bytemuck::cast_slice(values)),
            }
        }
        let mut each = |first: usize, looked: Result<&[u8], (f32, usize)>| match looked {
            Ok(bytes) => each(bytes),
            Err((x, i)) => Err(bad(x, first + i)),
        };
        match self {
            Values::F32(values) => values.read_parts(|first, part| each(first, look(part))),
            Values::Bf16(values) => values.read_parts(|first, part| each(first, look(part))),
        }
    }
}

impl ValuesMut<'_> {
    fn dtype(&self) -> Dtype {
        match self {
            ValuesMut::F32(_) => Dtype::F32,
            ValuesMut::Bf16(_) => Dtype::BF16,
        }
    }

    /// Sets all elements.
    ///
    /// # Panics
    /// If there are more or fewer `bytes`.
    fn fill(self, bytes: &[u8]) {
        fn part<T: bytemuck::Pod>(
            first: usize,
            to: &mut [T],
            bytes: &[u8],
        ) -> Result<(), Infallible> {
            let to: &mut [u8] = bytemuck::cast_slice_mut(to);
            to.copy_from_slice(&bytes[size_of::<T>() * first..][..to.len()]);
            Ok(())
        }
        let len = match &self {
            ValuesMut::F32(to) => to.bytes(),
            ValuesMut::Bf16(to) => to.bytes(),
        };
        assert_eq!(len, bytes.len() as u64, "checkpoint: a buffer does not fit its tensor");
        let filled = match self {
            ValuesMut::F32(to) => to.fill_parts(|first, to| part(first, to, bytes)),
            ValuesMut::Bf16(to) => to.fill_parts(|first, to| part(first, to, bytes)),
        };
        filled.unwrap_or_else(|never| match never {});
    }
}

/// One tensor to save.
#[derive(Clone)]
pub struct Tensor<'a> {
    /// Unique within its file.
    pub name: String,
    /// Elements along each dimension.
    pub shape: Vec<usize>,
    /// Its elements.
    pub values: Values<'a>,
}

impl Tensor<'_> {
    fn entry(&self) -> Entry {
        Entry { name: self.name.clone(), dtype: self.values.dtype(), shape: self.shape.clone() }
    }
}

/// `state.json`.
#[derive(Serialize, Deserialize)]
struct Manifest {
    /// Version of this crate.
    version: String,
    state: State,
    files: Vec<FileSum>,
}

/// What a payload file must be.
#[derive(Serialize, Deserialize)]
struct FileSum {
    name: String,
    bytes: u64,
    xxh3: String,
}

/// Saves a checkpoint of `state.step` in the folder `root`. Each of `files` is a file name and
/// its tensors. A valid checkpoint of the same state is left as it is; an invalid or different
/// one of the same step is replaced. Returns the checkpoint's folder.
///
/// # Errors
/// [`Error::Diverged`] if a number is not finite; [`Error::Checkpoint`] with the bytes needed if the
/// disk is full; [`Error::Engine`] with what went wrong on a GPU; otherwise [`Error::Io`]. The earlier
/// checkpoints are then intact and nothing half-written is left.
///
/// # Panics
/// If a tensor's values do not fit its shape, or a name occurs twice: caller bugs.
pub fn save(root: &Path, state: &State, files: &[(&str, Vec<Tensor>)]) -> Result<PathBuf, Error> {
    let target = root.join(format!("step-{:06}", state.step));
    create_root(root)?;
    remove_leftovers(root)?;
    if open(&target).is_ok_and(|found| found.state == *state) {
        return Ok(target);
    }
    let payloads: Vec<Payload> =
        files.iter().map(|(name, tensors)| Payload::new(name, tensors)).collect();
    let needed = payloads.iter().map(|payload| payload.layout.bytes()).sum();
    let fail = |source: io::Error| write_error(&target, needed, source);
    let folder = DraftFolder::create(&target).map_err(fail)?;
    let write = |payload| write_payload(folder.path(), state.step, payload, &fail);
    let sums = thread::scope(|scope| {
        let spawn = |payload| scope.spawn(move || write(payload));
        let writers: Vec<_> = payloads.iter().map(spawn).collect();
        let sums = writers.into_iter().map(|writer| writer.join().expect("it returns its errors"));
        sums.collect::<Result<Vec<_>, Error>>()
    })?;
    write_manifest(folder.path(), state, sums).and_then(|()| folder.publish()).map_err(fail)?;
    Ok(target)
}

fn create_root(root: &Path) -> Result<(), Error> {
    let fail = || Error::io("cannot create the folder of checkpoints", root);
    if !root.is_dir() {
        fs::create_dir_all(root).map_err(fail())?;
        let parent = root.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_folder(parent.unwrap_or(Path::new("."))).map_err(fail())?;
    }
    Ok(())
}

/// One file to write.
struct Payload<'a> {
    name: &'a str,
    tensors: &'a [Tensor<'a>],
    layout: Layout,
}

impl<'a> Payload<'a> {
    fn new(name: &'a str, tensors: &'a [Tensor<'a>]) -> Self {
        let entries: Vec<Entry> = tensors.iter().map(Tensor::entry).collect();
        Payload { name, tensors, layout: Layout::new(&entries, &[]) }
    }
}

/// Writes and syncs one safetensors file, hashing what it writes and looking at every number.
fn write_payload(
    folder: &Path,
    step: u64,
    payload: &Payload,
    fail: &(dyn Fn(io::Error) -> Error + Sync),
) -> Result<FileSum, Error> {
    let file = store::File::create(&folder.join(payload.name)).map_err(fail)?;
    let mut out = Writer::new(file, &payload.layout).map_err(fail)?;
    for Tensor { name, values, .. } in payload.tensors {
        out.begin(name);
        let bad = |x: f32, i: usize| Error::Diverged {
            step,
            what: format!("{name} is {x} at element {i}"),
        };
        values.read_parts(bad, |bytes| out.write(bytes).map_err(fail))?;
    }
    let (mut file, sum) = out.end();
    file.sync().map_err(fail)?;
    Ok(FileSum { name: payload.name.to_string(), bytes: sum.bytes, xxh3: sum.hex() })
}

/// Writes and syncs what says that the files are whole.
fn write_manifest(folder: &Path, state: &State, files: Vec<FileSum>) -> io::Result<()> {
    let version = env!("CARGO_PKG_VERSION").to_string();
    let manifest = Manifest { version, state: state.clone(), files };
    let json = serde_json::to_vec_pretty(&manifest).expect("plain data always fits JSON");
    store::File::of(&folder.join(STATE_NAME), &json)?;
    store::File::of(&folder.join(STATE_SUM_NAME), state_sum(&json).as_bytes())
}

/// Full disks, quotas and file-size limits get a remedy; everything else speaks for itself.
fn write_error(target: &Path, needed: u64, source: io::Error) -> Error {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    match source.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => Error::Checkpoint {
            path: target.to_path_buf(),
            reason: format!(
                "{source}: {needed} bytes are needed; free disk space, lower --keep, or raise \
                 the limit, then continue with --resume (earlier checkpoints are intact)"
            ),
        },
        _ => Error::io("cannot write the checkpoint", target)(source),
    }
}

/// A valid checkpoint, open for reading. It stays readable even if it is deleted meanwhile.
#[derive(Debug)]
pub struct Found {
    path: PathBuf,
    state: State,
    /// Each file's name, and the file.
    files: Vec<(String, Reader)>,
}

/// A checkpoint that is not valid, or a temporary folder that a crash has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// What [`latest`] has found.
#[derive(Debug)]
pub struct Latest {
    /// The newest valid checkpoint, if there is one.
    pub found: Option<Found>,
    /// What was passed over on the way, newest first: tell the user.
    pub skipped: Vec<Skipped>,
}

impl Latest {
    /// The checkpoint, where one is needed.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] naming the folder `root` and the first problem, if none is valid.
    pub fn require(self, root: &Path) -> Result<Found, Error> {
        let problem = match self.skipped.first() {
            Some(first) => format!("{} ({})", first.path.display(), first.reason),
            None => "the folder is empty".to_string(),
        };
        self.found.ok_or_else(|| Error::Checkpoint {
            path: root.to_path_buf(),
            reason: format!(
                "no valid checkpoint to resume from: {problem}; start anew with --overwrite or \
                 another --out"
            ),
        })
    }
}

/// Finds the newest valid checkpoint in the folder `root`, reading and checking every byte of
/// it. Changes nothing. A missing folder holds no checkpoint.
///
/// # Errors
/// [`Error::Io`] if the folder cannot be listed.
pub fn latest(root: &Path) -> Result<Latest, Error> {
    loop {
        let entries = list(root)?;
        let mut skipped = leftovers(root)?
            .into_iter()
            .map(|path| Skipped { path, reason: "left unfinished by a crash".to_string() })
            .collect::<Vec<_>>();
        for (_, path) in entries.iter().rev() {
            match open(path) {
                Ok(found) => return Ok(Latest { found: Some(found), skipped }),
                Err(reason) => skipped.push(Skipped { path: path.clone(), reason }),
            }
        }
        // A writer may have saved and pruned meanwhile; then there is something new to look at.
        if list(root)? == entries {
            return Ok(Latest { found: None, skipped });
        }
    }
}

impl Found {
    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the run stood.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Reads one tensor into `out`, wherever that is.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if there is no such file or tensor, or its type or shape is another;
    /// [`Error::Io`] if it cannot be read.
    ///
    /// # Panics
    /// If `out` does not fit `shape`: a caller bug.
    pub fn read(
        &self,
        file: &str,
        tensor: &str,
        shape: &[usize],
        out: ValuesMut,
    ) -> Result<(), Error> {
        let wrong = |reason: String| Error::Checkpoint {
            path: self.path.join(file),
            reason: format!("{reason}; it belongs to another model or version"),
        };
        let reader = self.files.iter().find(|(name, _)| name == file);
        let (_, reader) = reader.ok_or_else(|| wrong("no such file".to_string()))?;
        let info = reader.info(tensor);
        let info = info.ok_or_else(|| wrong(format!("tensor {tensor} is missing")))?;
        if info.dtype != out.dtype() || info.shape != shape {
            let (dtype, found, wanted) = (info.dtype, &info.shape, out.dtype());
            return Err(wrong(format!(
                "tensor {tensor} is {dtype} {found:?}, expected {wanted} {shape:?}"
            )));
        }
        let bytes = reader.bytes(tensor);
        let bytes =
            bytes.map_err(Error::io("cannot read the checkpoint", &self.path.join(file)))?;
        out.fill(&bytes);
        Ok(())
    }
}

/// Opens a checkpoint and checks all of it. The error is the reason that it is not valid.
fn open(dir: &Path) -> Result<Found, String> {
    let manifest = read_manifest(dir)?;
    let file = |sum: &FileSum| match open_payload(dir, sum) {
        Ok(reader) => Ok((sum.name.clone(), reader)),
        Err(reason) => Err(format!("{}: {reason}", sum.name)),
    };
    let files = manifest.files.iter().map(file).collect::<Result<_, String>>()?;
    Ok(Found { path: dir.to_path_buf(), state: manifest.state, files })
}

/// Reads `state.json`, checked against its checksum and the folder's name.
fn read_manifest(dir: &Path) -> Result<Manifest, String> {
    let read = |name: &str| fs::read(dir.join(name)).map_err(|e| format!("{name}: {e}"));
    let json = read(STATE_NAME)?;
    if read(STATE_SUM_NAME)? != state_sum(&json).as_bytes() {
        return Err(format!("{STATE_NAME}: checksum differs"));
    }
    let manifest: Manifest =
        serde_json::from_slice(&json).map_err(|e| format!("{STATE_NAME}: {e}"))?;
    if step_of(dir) != Some(manifest.state.step) {
        return Err(format!("{STATE_NAME}: is of step {}", manifest.state.step));
    }
    Ok(manifest)
}

/// Opens a payload file, checked against its size and checksum.
fn open_payload(dir: &Path, sum: &FileSum) -> Result<Reader, String> {
    let fail = |e: io::Error| e.to_string();
    let file = File::open(dir.join(&sum.name)).map_err(fail)?;
    let length = file.metadata().map_err(fail)?.len();
    if length != sum.bytes {
        return Err(format!("has {length} bytes, expected {}", sum.bytes));
    }
    if Sum::of_file(&file).map_err(fail)?.hex() != sum.xxh3 {
        return Err("checksum differs".to_string());
    }
    Reader::new(file).map_err(|e| e.to_string())
}

/// Deletes all but the newest `keep` checkpoints and returns what it deleted. Those whose sizes
/// are wrong do not count. Nothing is deleted before a newer one has passed a check of its every
/// byte, so the only valid checkpoint always stays.
///
/// # Errors
/// [`Error::Io`] if the folder cannot be listed or a checkpoint cannot be deleted.
pub fn prune(root: &Path, keep: usize) -> Result<Vec<PathBuf>, Error> {
    remove_leftovers(root)?;
    let (mut kept, mut sure, mut removed) = (0, false, Vec::new());
    for (_, path) in list(root)?.into_iter().rev() {
        if kept < keep || !sure {
            // Checking one of those kept is enough, and the newest is still in memory.
            sure = sure || open(&path).is_ok();
            kept += usize::from(sizes_are_right(&path));
            continue;
        }
        // A crash while deleting leaves no half under a valid name.
        let gone = store::remove_folder(&path);
        gone.map_err(Error::io("cannot delete the checkpoint", &path))?;
        removed.push(path);
    }
    Ok(removed)
}

/// Whether the state is sound and every file has its length: all that can be told without
/// reading the tensors.
fn sizes_are_right(dir: &Path) -> bool {
    let right =
        |sum: &FileSum| fs::metadata(dir.join(&sum.name)).is_ok_and(|m| m.len() == sum.bytes);
    read_manifest(dir).is_ok_and(|manifest| manifest.files.iter().all(right))
}

/// Deletes temporary folders that a crash has left. Only for the process that owns the folder.
fn remove_leftovers(root: &Path) -> Result<(), Error> {
    for path in leftovers(root)? {
        tracing::warn!("deleting {}, left unfinished by a crash", path.display());
        store::remove(&path).map_err(Error::io("cannot delete", &path))?;
    }
    Ok(())
}

fn leftovers(root: &Path) -> Result<Vec<PathBuf>, Error> {
    store::unfinished(root).map_err(Error::io("cannot list the checkpoints", root))
}

/// The checkpoints in `root` by their names, oldest first, valid or not: (step, folder). None if
/// there is no such folder.
///
/// # Errors
/// [`Error::Io`] if the folder cannot be listed.
pub fn list(root: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let steps = dirs(root)?.into_iter().filter_map(|path| Some((step_of(&path)?, path)));
    let mut steps: Vec<_> = steps.collect();
    steps.sort();
    Ok(steps)
}

/// The folders in `root`; none if it does not exist.
fn dirs(root: &Path) -> Result<Vec<PathBuf>, Error> {
    let fail = || Error::io("cannot list the checkpoints", root);
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(fail()(e)),
    };
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    Ok(paths.map_err(fail())?.into_iter().filter(|path| path.is_dir()).collect())
}

/// The step in a folder's name, with any number of digits.
fn step_of(dir: &Path) -> Option<u64> {
    let digits = dir.file_name()?.to_str()?.strip_prefix("step-")?;
    // `parse` alone would take a sign.
    let all_digits = digits.bytes().all(|b| b.is_ascii_digit());
    if all_digits { digits.parse().ok() } else { None }
}

/// The content of `state.json.xxh3`.
fn state_sum(json: &[u8]) -> String {
    Sum::of(json).hex() + "\n"
}
