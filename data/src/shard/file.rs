//! Token shards: files of token ids, memory-mapped, in the layout that llm.c's tools read.
//!
//! A header of 256 little-endian 32-bit integers, `[magic, version, count, 0, ...]`, then `count`
//! ids: magic 20240520, version 1 for 16-bit ids; magic 20240801, version 7 for 32-bit ids. The
//! header cannot count past 2^31 - 1. A longer shard says exactly that number, and then the file's
//! size is the truth.
//!
//! Beside `x.bin` stands `x.bin.json` with what the header has no room for, see [`Sidecar`]. It is
//! optional on reading, and must agree with the shard when it is there.

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use store::{Draft, Mapped};

use crate::Error;

const HEADER_BYTES: usize = 256 * 4;
const MAGIC_U16: u32 = 20240520;
const VERSION_U16: u32 = 1;
const MAGIC_U32: u32 = 20240801;
const VERSION_U32: u32 = 7;
const COUNT_MAX: u64 = i32::MAX as u64;

/// What stands beside a shard, in `<shard>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sidecar {
    /// Token ids in the shard.
    pub tokens: u64,
    /// Every id is below this.
    pub vocab_size: usize,
    /// Hash of the tokenizer that made the ids, see [`crate::tokenizer::Tokenizer::hash`].
    pub tokenizer: String,
    /// Documents in the shard.
    pub documents: u64,
    /// Bytes of UTF-8 text that the ids stand for.
    pub text_bytes: u64,
}

impl Sidecar {
    /// Where the sidecar of `shard` stands.
    pub fn path(shard: &Path) -> PathBuf {
        let mut name = shard.as_os_str().to_owned();
        name.push(".json");
        name.into()
    }

    /// Reads the sidecar of `shard`, if it has one.
    ///
    /// # Errors
    /// A sidecar that cannot be read or parsed.
    pub fn load(shard: &Path) -> Result<Option<Sidecar>, Error> {
        let path = Sidecar::path(shard);
        match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::read(&path)(e)),
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| Error::Shard {
                path: shard.to_path_buf(),
                reason: format!("its sidecar {} does not parse: {e}", path.display()),
            }),
        }
    }
}

/// Writes one shard. It has its name once it is whole, see [`Draft`]; a writer that is dropped leaves
/// nothing behind.
///
/// ```
/// use data::shard::{ShardWriter, Sidecar, TokenSource};
/// use data::tokenizer::Tokenizer;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("plays.bin");
/// let tokenizer = Tokenizer::bytes();
/// let mut writer = ShardWriter::create(&path, tokenizer.vocab_size(), tokenizer.hash())?;
/// let ids = tokenizer.encode("To be")?;
/// writer.push(&ids)?;
/// writer.count(1, 5);
/// writer.finish()?;
/// assert_eq!(Sidecar::load(&path)?.unwrap().documents, 1);
/// assert_eq!(TokenSource::open(&[path])?.to_vec(0..5), ids);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ShardWriter {
    path: PathBuf,
    out: BufWriter<Draft>,
    wide: bool,
    sidecar: Sidecar,
}

impl ShardWriter {
    /// Starts the shard `path` for ids below `vocab_size`: 16-bit ids where they fit.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn create(path: &Path, vocab_size: usize, tokenizer: String) -> Result<ShardWriter, Error> {
        let wide = vocab_size > 1 << 16;
        let draft = Draft::create(path).map_err(Error::write(path))?;
        let mut out = BufWriter::with_capacity(1 << 20, draft);
        out.write_all(&header(wide, 0)).map_err(Error::write(path))?;
        let sidecar = Sidecar { tokens: 0, vocab_size, tokenizer, documents: 0, text_bytes: 0 };
        Ok(ShardWriter { path: path.to_path_buf(), out, wide, sidecar })
    }

    /// Appends ids.
    ///
    /// # Errors
    /// A full or broken disk.
    ///
    /// # Panics
    /// If an id is not below the vocabulary size.
    pub fn push(&mut self, ids: &[u32]) -> Result<(), Error> {
        for &id in ids {
            assert!((id as usize) < self.sidecar.vocab_size, "shard: id {id} out of vocabulary");
            let written = if self.wide {
                self.out.write_all(&id.to_le_bytes())
            } else {
                self.out.write_all(&(id as u16).to_le_bytes())
            };
            written.map_err(Error::write(&self.path))?;
        }
        self.sidecar.tokens += ids.len() as u64;
        Ok(())
    }

    /// Counts documents and their text for the sidecar.
    pub fn count(&mut self, documents: u64, text_bytes: u64) {
        self.sidecar.documents += documents;
        self.sidecar.text_bytes += text_bytes;
    }

    /// What the sidecar says so far.
    pub fn sidecar(&self) -> &Sidecar {
        &self.sidecar
    }

    /// Whether no id was pushed yet.
    pub fn is_empty(&self) -> bool {
        self.sidecar.tokens == 0
    }

    /// Syncs the shard, gives it its name, and writes the sidecar.
    ///
    /// # Errors
    /// A full or broken disk, or no tokens at all; then no shard of that name appears.
    pub fn finish(self) -> Result<Sidecar, Error> {
        let ShardWriter { path, mut out, wide, sidecar } = self;
        if sidecar.tokens == 0 {
            return Err(Error::Empty { origin: path.display().to_string() });
        }
        let finish_header = || {
            out.flush()?;
            out.rewind()?;
            out.write_all(&header(wide, sidecar.tokens))?;
            Ok(out.into_inner()?)
        };
        let shard = finish_header().map_err(Error::write(&path))?;
        let beside = Sidecar::path(&path);
        // The old sidecar must not outlive the old shard, nor the new one precede the new shard.
        match std::fs::remove_file(&beside) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::write(&beside)(e)),
            _ => {}
        }
        shard.publish().map_err(Error::write(&path))?;
        let json = serde_json::to_vec_pretty(&sidecar).expect("plain fields always serialise");
        store::write(&beside, &json).map_err(Error::write(&beside))?;
        Ok(sidecar)
    }
}

fn header(wide: bool, tokens: u64) -> [u8; HEADER_BYTES] {
    let (magic, version) = if wide { (MAGIC_U32, VERSION_U32) } else { (MAGIC_U16, VERSION_U16) };
    let mut bytes = [0; HEADER_BYTES];
    for (i, word) in [magic, version, tokens.min(COUNT_MAX) as u32].into_iter().enumerate() {
        bytes[4 * i..4 * i + 4].copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// One shard, mapped.
pub(super) struct Shard {
    pub path: PathBuf,
    map: Mapped,
    wide: bool,
    pub tokens: u64,
    pub sidecar: Option<Sidecar>,
}

impl Shard {
    pub fn open(path: &Path) -> Result<Shard, Error> {
        let bad = |reason: String| Error::Shard { path: path.to_path_buf(), reason };
        let file = File::open(path).map_err(Error::read(path))?;
        let bytes = file.metadata().map_err(Error::read(path))?.len();
        if bytes < HEADER_BYTES as u64 {
            return Err(bad(format!("{bytes} bytes are less than its header of {HEADER_BYTES}")));
        }
        let map = Mapped::new(&file, 0..bytes).map_err(Error::read(path))?;
        let word =
            |i: usize| u32::from_le_bytes(map[4 * i..4 * i + 4].try_into().expect("4 bytes"));
        let wide = match (word(0), word(1)) {
            (MAGIC_U16, VERSION_U16) => false,
            (MAGIC_U32, VERSION_U32) => true,
            (magic, version) => {
                return Err(bad(format!(
                    "magic {magic} with version {version}, not {MAGIC_U16} with {VERSION_U16} \
                     (16-bit) or {MAGIC_U32} with {VERSION_U32} (32-bit)"
                )));
            }
        };
        let (count, width) = (u64::from(word(2)), if wide { 4 } else { 2 });
        let body = bytes - HEADER_BYTES as u64;
        let saturated =
            count == COUNT_MAX && body.is_multiple_of(width) && body / width >= COUNT_MAX;
        if !saturated && body != count * width {
            let what =
                if body < count * width { "truncated" } else { "longer than its header says" };
            return Err(bad(format!(
                "{what}: {body} bytes of ids, but its header counts {count} ids of {width} bytes"
            )));
        }
        if body == 0 {
            return Err(Error::Empty { origin: path.display().to_string() });
        }
        let tokens = body / width;
        let sidecar = Sidecar::load(path)?;
        if let Some(sidecar) = &sidecar
            && sidecar.tokens != tokens
        {
            let beside = Sidecar::path(path);
            return Err(bad(format!(
                "{tokens} ids, but {} says {}",
                beside.display(),
                sidecar.tokens
            )));
        }
        Ok(Shard { path: path.to_path_buf(), map, wide, tokens, sidecar })
    }

    pub fn copy(&self, start: u64, out: &mut [u32]) {
        let width = if self.wide { 4 } else { 2 };
        let from = HEADER_BYTES + start as usize * width;
        let bytes = &self.map[from..from + out.len() * width];
        if self.wide {
            for (id, b) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *id = u32::from_le_bytes(*b);
            }
        } else {
            for (id, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *id = u32::from(u16::from_le_bytes(*b));
            }
        }
    }
}
