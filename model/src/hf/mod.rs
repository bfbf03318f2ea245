//! A model as a Hugging Face directory: `config.json`, `generation_config.json` and the weights in
//! `model.safetensors`, or in several such files and `model.safetensors.index.json`.
//!
//! Weights stream through a buffer of one mebibyte in both directions, so neither reading nor
//! writing holds a second copy of the model.

mod config;

pub use config::{config_json, read_config};

use crate::config::Config;
use crate::params::{EMBED, HEAD, is_adapter};
use crate::weights::Weights;
use engine::arena::Row;
use engine::{Dtype, Element, Error, Init, Table, bf16};
use half::f16;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Bytes per safetensors file unless asked otherwise; what transformers 4 writes.
pub const SHARD_BYTES: u64 = 5_000_000_000;

const CONFIG: &str = "config.json";
const GENERATION: &str = "generation_config.json";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Ends the name of a file that is still being written.
const TEMPORARY: &str = ".tmp";

/// Largest safetensors header; the format's own limit.
const MAX_HEADER: u64 = 100_000_000;
/// Bytes read or written at once; a multiple of every element's size.
const CHUNK: usize = 1 << 20;

/// What PyTorch calls a storage type.
fn torch_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "float32",
        Dtype::Bf16 => "bfloat16",
        Dtype::F64 => "float64",
    }
}

fn stored(dtype: Dtype) -> safetensors::Dtype {
    match dtype {
        Dtype::F32 => safetensors::Dtype::F32,
        Dtype::Bf16 => safetensors::Dtype::BF16,
        Dtype::F64 => safetensors::Dtype::F64,
    }
}

fn bytes_of(dtype: Dtype) -> usize {
    match dtype {
        Dtype::F32 => 4,
        Dtype::Bf16 => 2,
        Dtype::F64 => 8,
    }
}

fn is_finite(x: f32, dtype: Dtype) -> bool {
    match dtype {
        Dtype::F32 | Dtype::F64 => x.is_finite(),
        Dtype::Bf16 => bf16::from_f32(x).is_finite(),
    }
}

// ---- reading ------------------------------------------------------------------------------------

/// The configuration in the directory `dir`.
///
/// # Errors
/// As [`read_config`].
pub fn load(dir: &Path) -> Result<Config, Error> {
    read_config(&dir.join(CONFIG))
}

/// Reads the weights in the directory `dir` into `weights`, which are over `table`, which must
/// come from the directory's configuration; adapters stay as they are. Stored as F32, BF16, F16 or F64, they become f32. If
/// there is a `model.safetensors` its index is not looked at, as in transformers.
///
/// All headers are checked before the first weight is read. Frequencies of rotary positions that
/// old exports contain are passed over. Where the head is tied, a stored head is compared with the
/// embedding: an unequal one belongs to an untied model.
///
/// # Errors
/// One line that names the file and tensor, if a file is missing, truncated or corrupt, if a
/// tensor is missing, unknown, given twice or of another shape or type, or a weight is not finite.
pub fn read_weights<E: Element<Acc = f32>>(
    dir: &Path,
    table: &Table,
    weights: &mut Weights<E>,
) -> Result<(), Error> {
    let table = &own_rows(table);
    let (listing, paths) = weight_files(dir)?;
    let mut shards = paths.into_iter().map(Shard::open).collect::<Result<Vec<_>, _>>()?;
    let places = match_tensors(&listing, &shards, table)?;
    for (row, shard) in table.rows().iter().zip(&places.rows) {
        weights.fill_with(row.slot, |out| {
            shards[*shard].values(&row.name, |first, values| {
                out[first..first + values.len()].copy_from_slice(values);
                Ok(())
            })
        })?;
    }
    match places.tied_head {
        Some(shard) => compare_tied_head(&mut shards[shard], table, weights),
        None => Ok(()),
    }
}

/// The file that says which tensors there are, and every file that holds some.
fn weight_files(dir: &Path) -> Result<(PathBuf, Vec<PathBuf>), Error> {
    let (single, index) = (dir.join(SINGLE), dir.join(INDEX));
    if single.exists() || !index.exists() {
        return Ok((single.clone(), vec![single]));
    }
    let text = fs::read_to_string(&index)
        .map_err(|e| Error::io(&index, e, "make it a readable UTF-8 file"))?;
    let unusable = |what: String| {
        Error::Config(format!("{}: {what}; copy or export the model again", index.display()))
    };
    let parsed: Index =
        serde_json::from_str(&text).map_err(|e| unusable(format!("not a weight index: {e}")))?;
    let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
    for name in &names {
        if Path::new(name).file_name() != Some(name.as_ref()) {
            return Err(unusable(format!("file name {name:?} leaves the directory")));
        }
    }
    Ok((index, names.iter().map(|name| dir.join(name)).collect()))
}

/// Which file holds what, by position in the list of files.
struct Places {
    /// One for each row of the table.
    rows: Vec<usize>,
    /// A head in the files of a model whose head is tied.
    tied_head: Option<usize>,
}

/// Finds every row of `table` in the headers, and refuses tensors it does not know.
fn match_tensors(listing: &Path, shards: &[Shard], table: &Table) -> Result<Places, Error> {
    let rows: HashMap<&str, &Row> = table.rows().iter().map(|r| (r.name.as_str(), r)).collect();
    let mut found: HashMap<String, usize> = HashMap::new();
    for (i, shard) in shards.iter().enumerate() {
        for name in shard.header.offset_keys() {
            if name.ends_with("rotary_emb.inv_freq") {
                continue;
            }
            let info = shard.info(&name);
            match rows.get(name.as_str()) {
                Some(row) => shard.require(&name, info, &row.shape)?,
                None if name == HEAD => shard.require(&name, info, &rows[EMBED].shape)?,
                None => {
                    let what = "is not part of this LLaMA; remove it, or correct config.json";
                    return Err(shard.bad(&name, what));
                }
            }
            if let Some(&other) = found.get(&name) {
                let other = shards[other].path.display();
                return Err(shard.bad(&name, format!("is also in {other}; remove one of the two")));
            }
            found.insert(name, i);
        }
    }
    let place = |row: &Row| {
        found.get(&row.name).copied().ok_or_else(|| {
            let (file, name) = (listing.display(), &row.name);
            Error::Config(format!(
                "{file}: tensor {name} is missing; copy or export the model again, or correct config.json"
            ))
        })
    };
    let places = table.rows().iter().map(place).collect::<Result<Vec<_>, _>>()?;
    let tied_head = found.get(HEAD).copied().filter(|_| !rows.contains_key(HEAD));
    Ok(Places { rows: places, tied_head })
}

fn compare_tied_head<E: Element<Acc = f32>>(
    shard: &mut Shard,
    table: &Table,
    weights: &Weights<E>,
) -> Result<(), Error> {
    let row = table.rows().iter().find(|row| row.name == EMBED);
    let embed = weights.get(row.expect("every model has an embedding").slot)?;
    let path = shard.path.clone();
    shard.values(HEAD, |first, values| {
        if values == &embed[first..first + values.len()] {
            return Ok(());
        }
        Err(Error::Config(format!(
            "{}: tensor {HEAD} differs from {EMBED} although tie_word_embeddings = true; \
             remove it, or set tie_word_embeddings to false in config.json",
            path.display()
        )))
    })
}

/// One safetensors file whose header has been read and agrees with the file's length.
struct Shard {
    path: PathBuf,
    file: File,
    /// Where the tensors' bytes start.
    data: u64,
    header: Metadata,
}

impl Shard {
    fn open(path: PathBuf) -> Result<Shard, Error> {
        let absent = "give a directory with model.safetensors, or all files of its index";
        let mut file = File::open(&path).map_err(|e| Error::io(&path, e, absent))?;
        let unreadable = |e| Error::io(&path, e, "make it a readable file");
        let corrupt = |what: String| {
            Error::Config(format!("{}: {what}; copy or export it again", path.display()))
        };
        let length = file.metadata().map_err(unreadable)?.len();
        if length < 8 {
            return Err(corrupt(format!("truncated: {length} bytes are no safetensors file")));
        }
        let mut prefix = [0; 8];
        file.read_exact(&mut prefix).map_err(unreadable)?;
        let header_bytes = u64::from_le_bytes(prefix);
        if header_bytes > MAX_HEADER {
            return Err(corrupt(format!("corrupt: a header of {header_bytes} bytes")));
        }
        let data = 8 + header_bytes;
        if length < data {
            return Err(corrupt(format!("truncated: {length} bytes, its header alone {data}")));
        }
        let mut text = vec![0; header_bytes as usize];
        file.read_exact(&mut text).map_err(unreadable)?;
        let header: Metadata = serde_json::from_slice(&text)
            .map_err(|e| corrupt(format!("corrupt safetensors header: {e}")))?;
        let expected = data + header.data_len() as u64;
        if length != expected {
            let what = if length < expected { "truncated" } else { "corrupt" };
            return Err(corrupt(format!("{what}: {length} bytes, its header says {expected}")));
        }
        Ok(Shard { path, file, data, header })
    }

    fn bad(&self, name: &str, what: impl std::fmt::Display) -> Error {
        Error::Config(format!("{}: tensor {name} {what}", self.path.display()))
    }

    fn info(&self, name: &str) -> &TensorInfo {
        self.header.info(name).expect("the name comes from this header")
    }

    fn require(&self, name: &str, info: &TensorInfo, shape: &[usize]) -> Result<(), Error> {
        use safetensors::Dtype::{BF16, F16, F32, F64};
        if info.shape != shape {
            let what = format!(
                "has shape {:?}, config.json asks for {shape:?}; give files of one model",
                info.shape
            );
            return Err(self.bad(name, what));
        }
        if !matches!(info.dtype, F32 | BF16 | F16 | F64) {
            let what =
                format!("is stored as {}; convert the model to F32, BF16, F16 or F64", info.dtype);
            return Err(self.bad(name, what));
        }
        Ok(())
    }

    /// Hands the elements of `name` to `each` in order and in chunks, with the index of each
    /// chunk's first element.
    fn values(
        &mut self,
        name: &str,
        mut each: impl FnMut(usize, &[f32]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let TensorInfo { dtype, data_offsets: (start, end), .. } = *self.info(name);
        let unreadable = |e| Error::io(&self.path, e, "copy the model again");
        self.file.seek(SeekFrom::Start(self.data + start as u64)).map_err(unreadable)?;
        let mut bytes = vec![0; CHUNK.min(end - start)];
        let mut values = Vec::new();
        let (mut left, mut first) = (end - start, 0);
        while left > 0 {
            let chunk = &mut bytes[..CHUNK.min(left)];
            self.file.read_exact(chunk).map_err(unreadable)?;
            decode(&mut values, chunk, dtype);
            if let Some(i) = values.iter().position(|x| !x.is_finite()) {
                let what = format!(
                    "has {} at element {}; give a model whose weights are finite in f32",
                    values[i],
                    first + i
                );
                return Err(self.bad(name, what));
            }
            each(first, &values)?;
            first += values.len();
            left -= chunk.len();
        }
        Ok(())
    }
}

/// Replaces `values` by the elements in `bytes`.
fn decode(values: &mut Vec<f32>, bytes: &[u8], dtype: safetensors::Dtype) {
    use safetensors::Dtype::{BF16, F16, F32, F64};
    values.clear();
    match dtype {
        F32 => values.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
        BF16 => values.extend(bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32())),
        F16 => values.extend(bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32())),
        F64 => values.extend(bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32)),
        other => unreachable!("{other} was refused with the header"),
    }
}

// ---- writing ------------------------------------------------------------------------------------

/// Writes the model as a directory that transformers loads. Weights go to one file, or, if they
/// exceed `shard_bytes`, to several with an index. The same input gives the same bytes.
///
/// Every file is written under a temporary name and synced; only when all are complete do they
/// take their names, and weights of an earlier export that no longer belong are removed. A failure
/// therefore leaves an earlier export intact. Other files in `dir` stay as they are.
///
/// # Errors
/// If a weight is not finite in `dtype`, an adapter is not merged, or a file cannot be written.
pub fn write<E: Element<Acc = f32>>(
    dir: &Path,
    config: &Config,
    table: &Table,
    weights: &Weights<E>,
    dtype: Dtype,
    shard_bytes: u64,
) -> Result<(), Error> {
    check_merged(dir, table, weights)?;
    let table = &own_rows(table);
    check_finite(dir, table, weights, dtype)?;
    fs::create_dir_all(dir).map_err(|e| Error::io(dir, e, "give a directory that can be made"))?;
    let shards = split(table, dtype, shard_bytes);
    let mut staged = Vec::new();
    let mut weight_map = BTreeMap::new();
    for (i, rows) in shards.iter().enumerate() {
        let name = match shards.len() {
            1 => SINGLE.to_string(),
            n => format!("model-{:05}-of-{n:05}.safetensors", i + 1),
        };
        weight_map.extend(rows.iter().map(|row| (row.name.clone(), name.clone())));
        staged.push(Staged::new(dir, &name, |out| write_shard(out, rows, weights, dtype))?);
    }
    if shards.len() > 1 {
        let total_size = (table.parameters() * bytes_of(dtype)) as u64;
        let index = Index { metadata: IndexMetadata { total_size }, weight_map };
        staged.push(Staged::text(dir, INDEX, &json(&index))?);
    }
    let generation = Generation { bos_token_id: config.bos, eos_token_id: config.eos };
    staged.push(Staged::text(dir, GENERATION, &json(&generation))?);
    staged.push(Staged::text(dir, CONFIG, &config_json(config, dtype))?);
    for file in &staged {
        file.commit()?;
    }
    remove_stale(dir, &staged)?;
    sync_directory(dir)
}

/// `model.safetensors.index.json`.
#[derive(Serialize, Deserialize)]
struct Index {
    // Not read: some tools leave it out or write a float.
    #[serde(skip_deserializing)]
    metadata: IndexMetadata,
    weight_map: BTreeMap<String, String>,
}

#[derive(Default, Serialize)]
struct IndexMetadata {
    /// Bytes of all tensors.
    total_size: u64,
}

/// `generation_config.json`.
#[derive(Serialize)]
struct Generation {
    bos_token_id: Option<u32>,
    eos_token_id: Option<u32>,
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("plain numbers and strings") + "\n"
}

/// The rows that Hugging Face's model has: all but those of adapters.
fn own_rows(table: &Table) -> Table {
    table.only(|row| !is_adapter(&row.name))
}

/// An export has no adapters: one that changes anything must have been merged.
fn check_merged<E: Element<Acc = f32>>(
    dir: &Path,
    table: &Table,
    weights: &Weights<E>,
) -> Result<(), Error> {
    for row in table.rows().iter().filter(|row| row.init == Init::Zeros) {
        if weights.get(row.slot)?.iter().any(|&b| b != 0.0) {
            let (dir, name) = (dir.display(), &row.name);
            return Err(Error::Config(format!(
                "{dir}: not written: the adapter {name} is not merged; merge the model first"
            )));
        }
    }
    Ok(())
}

fn check_finite<E: Element<Acc = f32>>(
    dir: &Path,
    table: &Table,
    weights: &Weights<E>,
    dtype: Dtype,
) -> Result<(), Error> {
    for row in table.rows() {
        let values = weights.get(row.slot)?;
        if let Some(i) = values.iter().position(|&x| !is_finite(x, dtype)) {
            let (dir, name, x, to) = (dir.display(), &row.name, values[i], torch_name(dtype));
            return Err(Error::NonFinite(format!(
                "{dir}: not written: {name} has {x} at element {i}, not finite in {to}; \
                 go back to an earlier checkpoint"
            )));
        }
    }
    Ok(())
}

/// The rows of each file: in order, as many as fit, at least one.
fn split(table: &Table, dtype: Dtype, shard_bytes: u64) -> Vec<Vec<&Row>> {
    let mut shards: Vec<Vec<&Row>> = vec![Vec::new()];
    let mut used = 0;
    for row in table.rows() {
        let bytes = (row.slot.len() * bytes_of(dtype)) as u64;
        if used > 0 && used + bytes > shard_bytes {
            shards.push(Vec::new());
            used = 0;
        }
        shards.last_mut().expect("starts with one").push(row);
        used += bytes;
    }
    shards
}

/// One safetensors file: the header's length, the header, the tensors in the order of their names.
fn write_shard<E: Element<Acc = f32>>(
    out: &mut impl Write,
    rows: &[&Row],
    weights: &Weights<E>,
    dtype: Dtype,
) -> io::Result<()> {
    let mut rows = rows.to_vec();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    let mut end = 0;
    let infos = rows.iter().map(|row| {
        let start = end;
        end += row.slot.len() * bytes_of(dtype);
        let (shape, data_offsets) = (row.shape.clone(), (start, end));
        (row.name.clone(), TensorInfo { dtype: stored(dtype), shape, data_offsets })
    });
    let format = HashMap::from([("format".to_string(), "pt".to_string())]);
    let header = Metadata::new(Some(format), infos.collect()).map_err(io::Error::other)?;
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    let mut bytes = vec![0; CHUNK];
    for row in rows {
        let tensor = weights.get(row.slot).map_err(io::Error::other)?;
        for values in tensor.chunks(CHUNK / bytes_of(dtype)) {
            let bytes = &mut bytes[..values.len() * bytes_of(dtype)];
            encode(bytes, values, dtype);
            out.write_all(bytes)?;
        }
    }
    Ok(())
}

fn encode(bytes: &mut [u8], values: &[f32], dtype: Dtype) {
    match dtype {
        Dtype::F32 => {
            for (b, x) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
                *b = x.to_le_bytes();
            }
        }
        Dtype::Bf16 => {
            for (b, &x) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
                *b = bf16::from_f32(x).to_le_bytes();
            }
        }
        Dtype::F64 => {
            for (b, &x) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
                *b = f64::from(x).to_le_bytes();
            }
        }
    }
}

/// A complete, synced file under a temporary name; dropped, it removes what is left of it.
struct Staged {
    temporary: PathBuf,
    path: PathBuf,
}

impl Staged {
    fn new(
        dir: &Path,
        name: &str,
        write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Result<Staged, Error> {
        let staged =
            Staged { temporary: dir.join(format!("{name}{TEMPORARY}")), path: dir.join(name) };
        let create = || {
            let mut out = BufWriter::new(File::create(&staged.temporary)?);
            write(&mut out)?;
            out.into_inner()?.sync_all()
        };
        match create() {
            Ok(()) => Ok(staged),
            Err(e) => Err(Error::io(&staged.path, e, "make room or give another directory")),
        }
    }

    fn text(dir: &Path, name: &str, text: &str) -> Result<Staged, Error> {
        Staged::new(dir, name, |out| out.write_all(text.as_bytes()))
    }

    fn commit(&self) -> Result<(), Error> {
        fs::rename(&self.temporary, &self.path)
            .map_err(|e| Error::io(&self.path, e, "make it a file that can be replaced"))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After `commit` there is nothing under this name; before, an error is being reported.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Removes weights that an earlier or interrupted export left beside the `written` ones: a loader
/// would take them for this model's.
fn remove_stale(dir: &Path, written: &[Staged]) -> Result<(), Error> {
    let unreadable = |e| Error::io(dir, e, "make the directory readable");
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let name = name.strip_suffix(TEMPORARY).unwrap_or(name);
        let ours = name == SINGLE || name == INDEX || is_shard(name);
        if ours && !written.iter().any(|file| file.path == path) {
            fs::remove_file(&path)
                .map_err(|e| Error::io(&path, e, "remove it: it belongs to an earlier export"))?;
        }
    }
    Ok(())
}

/// Whether `name` is `model-00001-of-00002.safetensors` with any two numbers.
fn is_shard(name: &str) -> bool {
    let number = |part: &str| part.len() == 5 && part.bytes().all(|b| b.is_ascii_digit());
    name.strip_prefix("model-")
        .and_then(|rest| rest.strip_suffix(".safetensors"))
        .and_then(|rest| rest.split_once("-of-"))
        .is_some_and(|(i, n)| number(i) && number(n))
}

/// Makes the new names last through a power cut, where directories can be synced.
fn sync_directory(dir: &Path) -> Result<(), Error> {
    #[cfg(unix)]
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|e| Error::io(dir, e, "check the disk"))?;
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}
