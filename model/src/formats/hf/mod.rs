//! A model as a Hugging Face directory: `config.json` and the weights in `model.safetensors`, or in
//! several such files and `model.safetensors.index.json`.
//!
//! Weights pass in short parts in both directions, so neither reading nor writing holds a second copy of
//! the model.
//!
//! ```
//! use engine::Device;
//! use model::weights::Weights;
//! use model::{hf, table};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let dir = &dir.path().join("model");
//! # let (dev, config) = (Device::cpu(1)?, model::Config::stories_260k());
//! # let (of_model, _) = table(&config);
//! # let mut written = Weights::<f32>::zeros(&dev, &of_model);
//! # model::init::fill(&dev, &mut written, &of_model, 1);
//! # hf::write(dir, &config, &of_model, &written, engine::Dtype::F32, hf::SHARD_BYTES)?;
//! // `dir` is one that a training run or a download has left.
//! let (table, slots) = table(&hf::load(dir)?);
//! let mut weights = Weights::<f32>::zeros(&Device::cpu(0)?, &table);
//! hf::read_weights(dir, &table, &mut weights)?;
//! weights.refresh()?;
//! assert!(weights.get(slots.embed)?.iter().any(|&w| w != 0.0));
//! # Ok(())
//! # }
//! ```

mod config;

pub use config::{config_json, read_config};

use crate::config::Config;
use crate::params::{EMBED, HEAD, is_adapter};
use crate::weights::Weights;
use engine::arena::Row;
use engine::{Dtype, Element, Error, Init, Table, bf16};
use half::f16;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use store::tensors::{self, Entry, Layout, Reader, TensorInfo, Unusable, Writer};
use store::{Draft, Mapped, Whole, sync_folder};

/// Bytes per safetensors file unless asked otherwise; what transformers 4 writes.
pub const SHARD_BYTES: u64 = 5_000_000_000;

const CONFIG: &str = "config.json";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// What PyTorch calls a storage type.
fn torch_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "float32",
        Dtype::Bf16 => "bfloat16",
        Dtype::F64 => "float64",
    }
}

fn stored(dtype: Dtype) -> tensors::Dtype {
    match dtype {
        Dtype::F32 => tensors::Dtype::F32,
        Dtype::Bf16 => tensors::Dtype::BF16,
        Dtype::F64 => tensors::Dtype::F64,
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
/// All headers are checked before the first weight is read. Names may lack `model.` in front, as those of
/// a model without a head do. Where the head is tied, a stored head is compared with the embedding: an
/// unequal one belongs to an untied model.
///
/// Returns the names that are passed over: frequencies of rotary positions, which follow from the
/// configuration.
///
/// # Errors
/// One line that names the file and tensor, if a file is missing, truncated or corrupt, if a
/// tensor is missing, unknown, given twice or of another shape or type, or a weight is not finite.
pub fn read_weights<E: Element<Acc = f32>>(
    dir: &Path,
    table: &Table,
    weights: &mut Weights<E>,
) -> Result<Vec<String>, Error> {
    let table = &own_rows(table);
    let (listing, paths) = weight_files(dir)?;
    let shards = paths.into_iter().map(Shard::open).collect::<Result<Vec<_>, _>>()?;
    let places = match_tensors(&listing, &shards, table)?;
    for (row, (shard, name)) in table.rows().iter().zip(&places.rows) {
        let values = shards[*shard].values(name)?;
        weights.fill_parts(row.slot, |first, out| values.read(first, out))?;
    }
    if let Some(shard) = places.tied_head {
        compare_tied_head(&shards[shard], table, weights)?;
    }
    Ok(places.passed_over)
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
    /// One for each row of the table, and the row's name there.
    rows: Vec<(usize, String)>,
    /// A head in the files of a model whose head is tied.
    tied_head: Option<usize>,
    /// Tensors that are not needed.
    passed_over: Vec<String>,
}

/// Finds every row of `table` in the headers, and refuses tensors it does not know.
fn match_tensors(listing: &Path, shards: &[Shard], table: &Table) -> Result<Places, Error> {
    let rows: HashMap<&str, &Row> = table.rows().iter().map(|r| (r.name.as_str(), r)).collect();
    let mut found: HashMap<String, (usize, String)> = HashMap::new();
    let mut passed_over = Vec::new();
    for (i, shard) in shards.iter().enumerate() {
        for name in shard.reader.names() {
            if name.ends_with("rotary_emb.inv_freq") {
                passed_over.push(name);
                continue;
            }
            let info = shard.info(&name);
            let full = Some(format!("model.{name}")).filter(|full| rows.contains_key(&**full));
            let full = full.unwrap_or_else(|| name.clone());
            match rows.get(full.as_str()) {
                Some(row) => shard.require(&name, info, &row.shape)?,
                None if name == HEAD => shard.require(&name, info, &rows[EMBED].shape)?,
                None => {
                    let what = "is not part of this LLaMA; remove it, or correct config.json";
                    return Err(shard.bad(&name, what));
                }
            }
            if let Some((other, _)) = found.get(&full) {
                let other = shards[*other].path.display();
                return Err(shard.bad(&name, format!("is also in {other}; remove one of the two")));
            }
            found.insert(full, (i, name));
        }
    }
    let place = |row: &Row| {
        found.get(&row.name).cloned().ok_or_else(|| {
            let (file, name) = (listing.display(), &row.name);
            Error::Config(format!(
                "{file}: tensor {name} is missing; copy or export the model again, or correct config.json"
            ))
        })
    };
    let places = table.rows().iter().map(place).collect::<Result<Vec<_>, _>>()?;
    let tied_head = found.get(HEAD).filter(|_| !rows.contains_key(HEAD)).map(|(shard, _)| *shard);
    Ok(Places { rows: places, tied_head, passed_over })
}

fn compare_tied_head<E: Element<Acc = f32>>(
    shard: &Shard,
    table: &Table,
    weights: &Weights<E>,
) -> Result<(), Error> {
    let row = table.rows().iter().find(|row| row.name == EMBED);
    let embed = row.expect("every model has an embedding").slot;
    let (head, mut part) = (shard.values(HEAD)?, Vec::new());
    weights.read_parts(embed, |first, embed| {
        part.resize(embed.len(), 0.0);
        head.read(first, &mut part)?;
        if part == embed {
            return Ok(());
        }
        let what = format!(
            "differs from {EMBED} although tie_word_embeddings = true; remove it, or set \
             tie_word_embeddings to false in config.json"
        );
        Err(shard.bad(HEAD, what))
    })
}

/// One file of weights.
struct Shard {
    path: PathBuf,
    reader: Reader,
}

impl Shard {
    fn open(path: PathBuf) -> Result<Shard, Error> {
        let absent = "give a directory with model.safetensors, or all files of its index";
        match Reader::open(&path) {
            Ok(reader) => Ok(Shard { path, reader }),
            Err(Unusable::Io(e)) => Err(Error::io(&path, e, absent)),
            Err(Unusable::Content(what)) => {
                Err(Error::Config(format!("{}: {what}; copy or export it again", path.display())))
            }
        }
    }

    fn bad(&self, name: &str, what: impl std::fmt::Display) -> Error {
        Error::Config(format!("{}: tensor {name} {what}", self.path.display()))
    }

    fn info(&self, name: &str) -> &TensorInfo {
        self.reader.info(name).expect("the name comes from this header")
    }

    fn require(&self, name: &str, info: &TensorInfo, shape: &[usize]) -> Result<(), Error> {
        use tensors::Dtype::{BF16, F16, F32, F64};
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

    fn values<'a>(&'a self, name: &'a str) -> Result<Values<'a>, Error> {
        let bytes = self.reader.bytes(name);
        let bytes = bytes.map_err(|e| Error::io(&self.path, e, "copy the model again"))?;
        Ok(Values { shard: self, name, dtype: self.info(name).dtype, bytes })
    }
}

/// The elements of one tensor, as they are stored.
struct Values<'a> {
    shard: &'a Shard,
    name: &'a str,
    dtype: tensors::Dtype,
    bytes: Mapped,
}

impl Values<'_> {
    /// Sets `out` to the elements from `first` on; refuses what is not finite.
    fn read(&self, first: usize, out: &mut [f32]) -> Result<(), Error> {
        use tensors::Dtype::{BF16, F16, F32, F64};
        let each = self.dtype.bitsize() / 8;
        let bytes = &self.bytes[first * each..][..out.len() * each];
        match self.dtype {
            F32 => decode(out, bytes, f32::from_le_bytes),
            BF16 => decode(out, bytes, |b| bf16::from_le_bytes(b).to_f32()),
            F16 => decode(out, bytes, |b| f16::from_le_bytes(b).to_f32()),
            F64 => decode(out, bytes, |b| f64::from_le_bytes(b) as f32),
            other => unreachable!("{other} was refused with the header"),
        }
        match out.iter().position(|x| !x.is_finite()) {
            None => Ok(()),
            Some(i) => {
                let (x, i) = (out[i], first + i);
                let what =
                    format!("has {x} at element {i}; give a model whose weights are finite in f32");
                Err(self.shard.bad(self.name, what))
            }
        }
    }
}

fn decode<const BYTES: usize>(out: &mut [f32], bytes: &[u8], element: impl Fn([u8; BYTES]) -> f32) {
    let (elements, _) = bytes.as_chunks();
    out.iter_mut().zip(elements).for_each(|(x, &bytes)| *x = element(bytes));
}

// ---- writing ------------------------------------------------------------------------------------

/// Writes the model as a directory that transformers loads. Weights go to one file, or, if they
/// exceed `shard_bytes`, to several with an index. The same input gives the same bytes.
///
/// Only when all files are complete and synced do they take their names, and weights of an earlier
/// export that no longer belong are removed. A failure therefore leaves an earlier export intact. Other
/// files in `dir` stay as they are, but for unfinished ones.
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
    fs::create_dir_all(dir).map_err(|e| Error::io(dir, e, "give a directory that can be made"))?;
    let shards = split(table, dtype, shard_bytes);
    let mut staged = Vec::new();
    let mut weight_map = BTreeMap::new();
    let shard_count = shards.len();
    for (i, rows) in shards.into_iter().enumerate() {
        let name = match shard_count {
            1 => SINGLE.to_string(),
            n => format!("model-{:05}-of-{n:05}.safetensors", i + 1),
        };
        weight_map.extend(rows.iter().map(|row| (row.name.clone(), name.clone())));
        staged.push(write_shard(dir, &name, rows, weights, dtype)?);
    }
    if shard_count > 1 {
        let total_size = (table.parameters() * bytes_of(dtype)) as u64;
        let index = Index { metadata: IndexMetadata { total_size }, weight_map };
        staged.push(write_text(dir, INDEX, &json(&index))?);
    }
    staged.push(write_text(dir, CONFIG, &config_json(config, dtype))?);
    let mut written = BTreeSet::new();
    for file in staged {
        let path = file.path().to_path_buf();
        file.rename().map_err(|e| Error::io(&path, e, "make it a file that can be replaced"))?;
        written.insert(path);
    }
    remove_stale(dir, &written)?;
    sync_folder(dir).map_err(|e| Error::io(dir, e, "check the disk"))
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
    let adapts = |row: &&Row| is_adapter(&row.name) && row.init == Init::Zeros;
    for row in table.rows().iter().filter(adapts) {
        weights.read_parts(row.slot, |_, values| {
            if values.iter().all(|&b| b == 0.0) {
                return Ok(());
            }
            let (dir, name) = (dir.display(), &row.name);
            Err(Error::Config(format!(
                "{dir}: not written: the adapter {name} is not merged; merge the model first"
            )))
        })?;
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

/// What to do about a file that cannot be written.
const NO_ROOM: &str = "make room or give another directory";

/// One safetensors file, its tensors in the order of their names.
fn write_shard<E: Element<Acc = f32>>(
    dir: &Path,
    name: &str,
    mut rows: Vec<&Row>,
    weights: &Weights<E>,
    dtype: Dtype,
) -> Result<Whole, Error> {
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    let entries = rows.iter().map(|row| {
        let (name, shape) = (row.name.clone(), row.shape.clone());
        Entry { name, dtype: stored(dtype), shape }
    });
    let layout = Layout::new(&entries.collect::<Vec<_>>(), &[("format", "pt")]);
    let path = dir.join(name);
    let fail = |e| Error::io(&path, e, NO_ROOM);
    let draft = Draft::create(&path).map_err(fail)?;
    let (mut out, mut bytes) = (Writer::new(draft, &layout).map_err(fail)?, Vec::new());
    for row in rows {
        out.begin(&row.name);
        weights.read_parts(row.slot, |first, values| {
            if let Some(i) = values.iter().position(|&x| !is_finite(x, dtype)) {
                let (dir, name, x, to) = (dir.display(), &row.name, values[i], torch_name(dtype));
                return Err(Error::NonFinite(format!(
                    "{dir}: not written: {name} has {x} at element {}, not finite in {to}; \
                     go back to an earlier checkpoint",
                    first + i
                )));
            }
            bytes.resize(values.len() * bytes_of(dtype), 0);
            encode(&mut bytes, values, dtype);
            out.write(&bytes).map_err(fail)
        })?;
    }
    out.end().0.finish().map_err(fail)
}

fn write_text(dir: &Path, name: &str, text: &str) -> Result<Whole, Error> {
    let path = dir.join(name);
    let write = || {
        let mut draft = Draft::create(&path)?;
        draft.write_all(text.as_bytes())?;
        draft.finish()
    };
    write().map_err(|e| Error::io(&path, e, NO_ROOM))
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

/// Removes weights that an earlier export left beside the `written` ones, and what one that was
/// interrupted left unfinished: a loader would take the first for this model's.
fn remove_stale(dir: &Path, written: &BTreeSet<PathBuf>) -> Result<(), Error> {
    let unreadable = |e| Error::io(dir, e, "make the directory readable");
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let weights = name == SINGLE || name == INDEX || is_shard(name);
        let unfinished = store::is_unfinished(name) && path.is_file();
        if unfinished || weights && !written.contains(&path) {
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
