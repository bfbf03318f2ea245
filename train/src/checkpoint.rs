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
//! Tensors go from the caller's memory to the file and back without a copy in between.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::thread;

use safetensors::tensor::{Metadata, TensorInfo};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::config::Fingerprint;
use crate::error::Error;
use crate::files::{self, TEMP_PREFIX, parent, sync_dir, write_synced};

pub use safetensors::Dtype;

const STATE_NAME: &str = "state.json";
const STATE_SUM_NAME: &str = "state.json.xxh3";

/// Bytes written or read at a time: hashed while they are in the processor's cache.
const CHUNK: usize = 1 << 18;

/// Bytes before a safetensors header: its length, little-endian.
const LENGTH_BYTES: u64 = 8;

/// Longest header that the safetensors format allows, in bytes.
const MAX_HEADER: u64 = 100_000_000;

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
    /// Whatever else the run wants back.
    pub extra: serde_json::Map<String, serde_json::Value>,
}

/// One tensor to save.
#[derive(Clone, Debug)]
pub struct Tensor<'a> {
    /// Unique within its file.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Elements along each dimension.
    pub shape: Vec<usize>,
    /// Elements in row-major order, little-endian.
    pub bytes: Cow<'a, [u8]>,
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
/// [`Error::Checkpoint`] with the bytes needed if the disk is full, otherwise [`Error::Io`]. The
/// earlier checkpoints are then intact and nothing half-written is left.
///
/// # Panics
/// If a tensor's bytes do not fit its type and shape, or a name occurs twice: caller bugs.
pub fn save(root: &Path, state: &State, files: &[(&str, Vec<Tensor>)]) -> Result<PathBuf, Error> {
    let target = root.join(format!("step-{:06}", state.step));
    create_root(root)?;
    remove_leftovers(root)?;
    if open(&target).is_ok_and(|found| found.state == *state) {
        return Ok(target);
    }
    let headers: Vec<Vec<u8>> = files.iter().map(|(_, tensors)| header(tensors)).collect();
    let tensors = files.iter().flat_map(|(_, tensors)| tensors);
    let needed = headers.iter().map(Vec::len).sum::<usize>()
        + tensors.map(|tensor| tensor.bytes.len()).sum::<usize>();

    let temp = root.join(format!("{TEMP_PREFIX}step-{:06}", state.step));
    let written = write_all(&temp, state, files, &headers).and_then(|()| publish(&temp, &target));
    written.map_err(|source| {
        // The first error is the one to report; a folder left behind is deleted by the next save.
        let _ = fs::remove_dir_all(&temp);
        write_error(&target, needed, source)
    })?;
    Ok(target)
}

fn create_root(root: &Path) -> Result<(), Error> {
    let fail = || Error::io("cannot create the folder of checkpoints", root);
    if !root.is_dir() {
        fs::create_dir_all(root).map_err(fail())?;
        sync_dir(&parent(root)).map_err(fail())?;
    }
    Ok(())
}

/// A safetensors header with its length in front, padded with spaces to 8 bytes.
fn header(tensors: &[Tensor]) -> Vec<u8> {
    let mut end = 0;
    let infos = tensors.iter().map(|tensor| {
        let begin = end;
        end += tensor.bytes.len();
        let (dtype, shape) = (tensor.dtype, tensor.shape.clone());
        (tensor.name.clone(), TensorInfo { dtype, shape, data_offsets: (begin, end) })
    });
    let infos: Vec<_> = infos.collect();
    let names: BTreeSet<&String> = infos.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), infos.len(), "tensor names must be unique within a file");
    let metadata = Metadata::new(None, infos).expect("bytes must fit type and shape");
    let mut json = serde_json::to_vec(&metadata).expect("names and numbers always fit JSON");
    json.resize(json.len().next_multiple_of(8), b' ');
    [&(json.len() as u64).to_le_bytes(), json.as_slice()].concat()
}

/// Writes and syncs a whole checkpoint into the new folder `temp`, all payloads at once.
fn write_all(
    temp: &Path,
    state: &State,
    files: &[(&str, Vec<Tensor>)],
    headers: &[Vec<u8>],
) -> io::Result<()> {
    fs::create_dir(temp)?;
    let sums = thread::scope(|scope| {
        let payloads = files.iter().zip(headers).map(|((name, tensors), header)| {
            scope.spawn(move || write_payload(temp, name, header, tensors))
        });
        let writers: Vec<_> = payloads.collect();
        let sums = writers.into_iter().map(|writer| writer.join().expect("it returns its errors"));
        sums.collect::<io::Result<_>>()
    })?;
    let version = env!("CARGO_PKG_VERSION").to_string();
    let manifest = Manifest { version, state: state.clone(), files: sums };
    let json = serde_json::to_vec_pretty(&manifest).expect("plain data always fits JSON");
    write_synced(&temp.join(STATE_NAME), &json)?;
    write_synced(&temp.join(STATE_SUM_NAME), state_sum(&json).as_bytes())?;
    sync_dir(temp)
}

/// Writes and syncs one safetensors file, hashing what it writes.
fn write_payload(dir: &Path, name: &str, header: &[u8], tensors: &[Tensor]) -> io::Result<FileSum> {
    let path = dir.join(name);
    let mut file = File::create_new(&path)?;
    let (mut hash, mut bytes) = (Xxh3::new(), 0);
    for part in std::iter::once(header).chain(tensors.iter().map(|tensor| &*tensor.bytes)) {
        for chunk in part.chunks(CHUNK) {
            hash.update(chunk);
            files::write_all(&mut file, &path, chunk)?;
            bytes += chunk.len() as u64;
        }
    }
    files::sync(&file, &path)?;
    Ok(FileSum { name: name.to_string(), bytes, xxh3: hex(hash.digest128()) })
}

/// Gives a finished checkpoint its name. What has this name is not valid for this state, or
/// [`save`] would have kept it; it moves aside first, because a rename replaces no full folder.
fn publish(temp: &Path, target: &Path) -> io::Result<()> {
    let root = parent(target);
    let replaced = root.join(format!("{TEMP_PREFIX}replaced"));
    let occupied = target.exists();
    if occupied {
        files::rename(target, &replaced)?;
    }
    files::rename(temp, target)?;
    sync_dir(&root)?;
    if occupied { fs::remove_dir_all(&replaced) } else { Ok(()) }
}

/// Full disks, quotas and file-size limits get a remedy; everything else speaks for itself.
fn write_error(target: &Path, needed: usize, source: io::Error) -> Error {
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
    version: String,
    files: Vec<Payload>,
}

/// One open safetensors file.
#[derive(Debug)]
struct Payload {
    name: String,
    file: File,
    metadata: Metadata,
    /// Offset of the first tensor's first byte.
    data_begin: u64,
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

    /// Version of this crate that wrote it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Names of the tensors in `file`, in order; empty if there is no such file.
    pub fn tensors(&self, file: &str) -> Vec<String> {
        let payload = self.files.iter().find(|payload| payload.name == file);
        payload.map_or(Vec::new(), |payload| payload.metadata.offset_keys())
    }

    /// Reads one tensor straight into `out`.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if there is no such file or tensor, or its type or shape is another;
    /// [`Error::Io`] if it cannot be read.
    ///
    /// # Panics
    /// If `out` does not fit `dtype` and `shape`: a caller bug.
    pub fn read(
        &mut self,
        file: &str,
        tensor: &str,
        dtype: Dtype,
        shape: &[usize],
        out: &mut [u8],
    ) -> Result<(), Error> {
        let wrong = |reason: String| Error::Checkpoint {
            path: self.path.join(file),
            reason: format!("{reason}; it belongs to another model or version"),
        };
        let payload = self.files.iter_mut().find(|payload| payload.name == file);
        let payload = payload.ok_or_else(|| wrong("no such file".to_string()))?;
        let info = payload.metadata.info(tensor);
        let info = info.ok_or_else(|| wrong(format!("tensor {tensor} is missing")))?;
        if info.dtype != dtype || info.shape != shape {
            return Err(wrong(format!(
                "tensor {tensor} is {} {:?}, expected {dtype} {shape:?}",
                info.dtype, info.shape
            )));
        }
        let (begin, end) = info.data_offsets;
        assert_eq!(out.len(), end - begin, "{tensor}: buffer does not fit {dtype} {shape:?}");
        let seek = payload.file.seek(SeekFrom::Start(payload.data_begin + begin as u64));
        let read = seek.and_then(|_| payload.file.read_exact(out));
        read.map_err(Error::io("cannot read the checkpoint", &self.path.join(file)))
    }
}

/// Opens a checkpoint and checks all of it. The error is the reason that it is not valid.
fn open(dir: &Path) -> Result<Found, String> {
    let manifest = read_manifest(dir)?;
    let files: Result<Vec<Payload>, String> =
        manifest.files.iter().map(|sum| open_payload(dir, sum)).collect();
    Ok(Found {
        path: dir.to_path_buf(),
        state: manifest.state,
        version: manifest.version,
        files: files?,
    })
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
fn open_payload(dir: &Path, sum: &FileSum) -> Result<Payload, String> {
    let because = |reason: String| format!("{}: {reason}", sum.name);
    let fail = |e: io::Error| because(e.to_string());
    let mut file = File::open(dir.join(&sum.name)).map_err(fail)?;
    let length = file.metadata().map_err(fail)?.len();
    if length != sum.bytes {
        return Err(because(format!("has {length} bytes, expected {}", sum.bytes)));
    }
    if hash_file(&mut file).map_err(fail)? != sum.xxh3 {
        return Err(because("checksum differs".to_string()));
    }
    let (metadata, data_begin) = read_header(&mut file, length).map_err(because)?;
    Ok(Payload { name: sum.name.clone(), file, metadata, data_begin })
}

fn hash_file(file: &mut File) -> io::Result<String> {
    let (mut hash, mut chunk) = (Xxh3::new(), vec![0; CHUNK]);
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hex(hash.digest128())),
            n => hash.update(&chunk[..n]),
        }
    }
}

/// The safetensors header of a file of `length` bytes, and the offset of its data.
fn read_header(file: &mut File, length: u64) -> Result<(Metadata, u64), String> {
    let fail = |e: io::Error| e.to_string();
    let mut prefix = [0; LENGTH_BYTES as usize];
    file.seek(SeekFrom::Start(0)).map_err(fail)?;
    file.read_exact(&mut prefix).map_err(fail)?;
    let header_len = u64::from_le_bytes(prefix);
    if header_len > MAX_HEADER.min(length) {
        return Err(format!("header of {header_len} bytes is too long"));
    }
    let mut json = vec![0; header_len as usize];
    file.read_exact(&mut json).map_err(fail)?;
    let metadata: Metadata = serde_json::from_slice(&json).map_err(|e| e.to_string())?;
    let data_begin = LENGTH_BYTES + header_len;
    if data_begin + metadata.data_len() as u64 != length {
        return Err("header and length disagree".to_string());
    }
    Ok((metadata, data_begin))
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
        // Renamed first, so that a crash while deleting leaves no half under a valid name.
        let temp = root.join(format!("{TEMP_PREFIX}pruned"));
        let gone = files::rename(&path, &temp).and_then(|()| fs::remove_dir_all(&temp));
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
        fs::remove_dir_all(&path).map_err(Error::io("cannot delete", &path))?;
    }
    Ok(())
}

fn leftovers(root: &Path) -> Result<Vec<PathBuf>, Error> {
    let named = |path: &PathBuf| name_of(path).is_some_and(|name| name.starts_with(TEMP_PREFIX));
    Ok(dirs(root)?.into_iter().filter(named).collect())
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
    let digits = name_of(dir)?.strip_prefix("step-")?;
    // `parse` alone would take a sign.
    let all_digits = digits.bytes().all(|b| b.is_ascii_digit());
    if all_digits { digits.parse().ok() } else { None }
}

fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// The content of `state.json.xxh3`.
fn state_sum(json: &[u8]) -> String {
    hex(xxh3_128(json)) + "\n"
}

fn hex(hash: u128) -> String {
    format!("{hash:032x}")
}
