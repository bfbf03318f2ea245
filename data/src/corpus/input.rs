//! Raw inputs: shards of files, and readers that unpack them as a stream.
//!
//! ```
//! use std::io::BufRead;
//!
//! use data::corpus::input::{Meter, Piece, open};
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("play.txt.zst");
//! std::fs::write(&path, zstd::encode_all("To be,\nor not to be".as_bytes(), 3)?)?;
//! let (piece, meter) = (Piece::whole(&path)?, Meter::default());
//! let lines: Vec<String> = open(&piece, &meter)?.lines().collect::<Result<_, _>>()?;
//! assert_eq!(lines, ["To be,", "or not to be"]);
//! assert_eq!(meter.bytes(), piece.bytes());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::text::Compression;

use super::bz2::Blocks;

/// The path that stands for standard input.
pub const STDIN: &str = "-";

/// Data unpack to a few times, at most a few dozen times their size; what claims to be more than
/// this, and more than 1 GiB, is a bomb.
const MAX_EXPANSION: u64 = 1000;

/// Bytes of an entry's name in an archive.
const MAX_NAME: u64 = 1 << 16;

/// Some bytes of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// The file.
    pub path: PathBuf,
    /// The first byte that belongs to it.
    pub start: u64,
    /// The first byte that does not.
    pub end: u64,
}

impl Piece {
    /// A file as a whole.
    ///
    /// # Errors
    /// A file that is missing or unreadable.
    pub fn whole(path: &Path) -> Result<Piece, Error> {
        let end = std::fs::metadata(path).map_err(Error::read(path))?.len();
        Ok(Piece { path: path.to_path_buf(), start: 0, end })
    }

    /// Bytes in it.
    pub fn bytes(&self) -> u64 {
        self.end - self.start
    }
}

/// What one task reads: pieces of files, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// The pieces.
    pub pieces: Vec<Piece>,
}

impl Shard {
    /// Bytes in all pieces.
    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(Piece::bytes).sum()
    }
}

/// Refuses a job's folder that lies in one of its inputs: what it writes would be read the next time.
pub fn check_outside(out: &Path, inputs: &[PathBuf]) -> Result<(), Error> {
    let place = |path: &Path| {
        let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let there = whole.ancestors().find(|folder| folder.exists()).unwrap_or(&whole);
        let rest = whole.strip_prefix(there).expect("an ancestor");
        there.canonicalize().unwrap_or_else(|_| there.to_path_buf()).join(rest)
    };
    let out_at = place(out);
    match inputs.iter().find(|input| out_at.starts_with(place(input))) {
        Some(input) => Err(Error::Job {
            path: out.to_path_buf(),
            reason: format!("lies in the input {}; give a folder outside of it", input.display()),
        }),
        None => Ok(()),
    }
}

/// Joins neighbouring pieces to shards of about `shard_bytes`; a larger piece is a shard of its
/// own.
pub fn group(pieces: Vec<Piece>, shard_bytes: u64) -> Vec<Shard> {
    let mut shards = Vec::new();
    let mut shard = Shard::default();
    for piece in pieces {
        if !shard.pieces.is_empty() && shard.bytes() + piece.bytes() > shard_bytes {
            shards.push(std::mem::take(&mut shard));
        }
        shard.pieces.push(piece);
    }
    if !shard.pieces.is_empty() {
        shards.push(shard);
    }
    shards
}

/// Counts bytes read, and carries the wish to stop to whoever reads.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    bytes: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Meter {
    /// A meter that heeds `stop`.
    pub fn new(stop: Arc<AtomicBool>) -> Meter {
        Meter { bytes: Arc::default(), stop }
    }

    /// Bytes read from files so far, before decompression.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Says that `bytes` were read by other means than [`open`].
    pub fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether to go on.
    ///
    /// # Errors
    /// [`Error::Stopped`] if not.
    pub fn check(&self) -> Result<(), Error> {
        if self.stop.load(Ordering::Relaxed) { Err(Error::Stopped) } else { Ok(()) }
    }
}

/// A reader that the meter sees, and that fails once a stop is asked for.
pub(crate) struct Metered<R> {
    inner: R,
    meter: Meter,
}

impl<R> Metered<R> {
    pub(crate) fn new(inner: R, meter: &Meter) -> Metered<R> {
        Metered { inner, meter: meter.clone() }
    }
}

impl<R: Seek> Seek for Metered<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.meter.check().map_err(io::Error::other)?;
        let count = self.inner.read(buffer)?;
        self.meter.add(count as u64);
        Ok(count)
    }
}

/// What a file holds once it is unpacked, told by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `.txt`, `.md` and the like are the caller's to choose; this is `.txt`.
    Text,
    /// `.jsonl`, `.json`, `.ndjson`: one object a line.
    Lines,
    /// `.parquet`.
    Parquet,
    /// `.xml`.
    Xml,
    /// `.tar`, `.tgz`: files, see [`entries`].
    Tar,
    /// `.7z`: files, see [`entries`].
    SevenZip,
}

impl Format {
    /// The format that a name tells, if any, whatever compression it also tells.
    pub fn of(path: &Path) -> Option<Format> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let name =
            [".gz", ".zst", ".bz2"].iter().find_map(|e| name.strip_suffix(e)).unwrap_or(&name);
        match name.rsplit_once('.')?.1 {
            "txt" => Some(Format::Text),
            "jsonl" | "json" | "ndjson" => Some(Format::Lines),
            "parquet" => Some(Format::Parquet),
            "xml" => Some(Format::Xml),
            "tar" | "tgz" => Some(Format::Tar),
            "7z" => Some(Format::SevenZip),
            _ => None,
        }
    }
}

/// Cuts a piece into pieces of about `bytes`.
pub fn split(piece: Piece, bytes: u64) -> Vec<Piece> {
    let count = (piece.bytes() / bytes.max(1)).max(1);
    let cut = |i: u64| {
        piece.start + (u128::from(piece.bytes()) * u128::from(i) / u128::from(count)) as u64
    };
    (0..count).map(|i| Piece { path: piece.path.clone(), start: cut(i), end: cut(i + 1) }).collect()
}

/// Opens a piece and unpacks what its name says: `.gz`, `.zst`, `.bz2`, or nothing. `-` is
/// standard input, as it comes.
///
/// # Errors
/// A file that cannot be opened.
pub fn open(piece: &Piece, meter: &Meter) -> Result<Box<dyn BufRead>, Error> {
    let path = &piece.path;
    if path == Path::new(STDIN) {
        return Ok(Box::new(BufReader::with_capacity(1 << 16, Metered::new(io::stdin(), meter))));
    }
    match Compression::of(path) {
        Compression::None => Ok(Box::new(raw(piece, meter)?)),
        Compression::Bzip2 => Ok(Box::new(Blocks::open(piece, meter)?)),
        packed => {
            let plain = packed.decoder(raw(piece, meter)?).map_err(Error::read(path))?;
            let room = MAX_EXPANSION.saturating_mul(piece.bytes()).max(1 << 30);
            Ok(Box::new(BufReader::with_capacity(1 << 16, Bounded { inner: plain, room })))
        }
    }
}

fn raw(piece: &Piece, meter: &Meter) -> Result<impl BufRead + use<>, Error> {
    let read_error = || Error::read(&piece.path);
    let mut file = File::open(&piece.path).map_err(read_error())?;
    file.seek(SeekFrom::Start(piece.start)).map_err(read_error())?;
    Ok(BufReader::with_capacity(1 << 16, Metered::new(file.take(piece.bytes()), meter)))
}

/// A decoder that may give only so many bytes.
struct Bounded<R> {
    inner: R,
    room: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.room = self.room.checked_sub(count as u64).ok_or_else(|| {
            let what = format!("unpacks to more than {MAX_EXPANSION} times its size");
            io::Error::new(io::ErrorKind::InvalidData, what)
        })?;
        Ok(count)
    }
}

/// One file of an archive.
pub struct Entry<'a> {
    /// Its path in the archive.
    pub path: PathBuf,
    /// Bytes, as the archive states them.
    pub bytes: u64,
    /// Its content, as it is; what is not read is passed over.
    pub content: &'a mut dyn Read,
}

impl Entry<'_> {
    /// The content, unpacked as the entry's name says.
    ///
    /// # Errors
    /// A decoder that cannot be made.
    pub fn unpacked(&mut self) -> io::Result<Box<dyn BufRead + '_>> {
        let room = MAX_EXPANSION.saturating_mul(self.bytes).max(1 << 30);
        let plain = Compression::of(&self.path).decoder(BufReader::new(&mut *self.content))?;
        Ok(Box::new(BufReader::new(Bounded { inner: plain, room })))
    }
}

/// What may be wrong with an archive.
#[derive(Debug)]
pub enum ArchiveError {
    /// The archive ends or is broken there; what came before is good.
    Damaged(String),
    /// What the visitor said.
    Visitor(Error),
}

/// Goes through the regular files of a `.tar`, packed or not, or a `.7z`. Nothing is written
/// anywhere, so an entry's path can do no harm; entries are read in order, once.
///
/// # Errors
/// See [`ArchiveError`].
pub fn entries(
    piece: &Piece,
    meter: &Meter,
    visit: &mut dyn FnMut(Entry) -> Result<(), Error>,
) -> Result<(), ArchiveError> {
    if Format::of(&piece.path) == Some(Format::SevenZip) {
        return seven_zip(piece, meter, visit);
    }
    let plain = if piece.path.extension().is_some_and(|e| e.eq_ignore_ascii_case("tgz")) {
        let packed = raw(piece, meter).map_err(ArchiveError::Visitor)?;
        let room = MAX_EXPANSION.saturating_mul(piece.bytes()).max(1 << 30);
        let inner = Compression::Gzip.decoder(packed).expect("nothing is read yet");
        Box::new(BufReader::new(Bounded { inner, room }))
    } else {
        open(piece, meter).map_err(ArchiveError::Visitor)?
    };
    tar_entries(plain, visit)
}

/// The regular files of a `.tar` that is read as a stream, as [`entries`] does it.
///
/// # Errors
/// See [`ArchiveError`].
pub fn tar_entries(
    reader: impl Read,
    visit: &mut dyn FnMut(Entry) -> Result<(), Error>,
) -> Result<(), ArchiveError> {
    let damaged = |e: io::Error| ArchiveError::Damaged(e.to_string());
    let mut archive = tar::Archive::new(reader);
    let mut long_name = None;
    // Raw entries: the crate would take a long name whole, whatever its size.
    for entry in archive.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        let kind = entry.header().entry_type();
        if kind.is_gnu_longname() || kind.is_pax_local_extensions() {
            let mut bytes = Vec::new();
            entry.by_ref().take(MAX_NAME).read_to_end(&mut bytes).map_err(damaged)?;
            long_name = if kind.is_gnu_longname() { gnu_name(bytes) } else { pax_name(&bytes) };
            continue;
        }
        let header_path = entry.path().map(|path| path.into_owned()).unwrap_or_default();
        let path = long_name.take().unwrap_or(header_path);
        if kind.is_file() {
            let bytes = entry.size();
            visit(Entry { path, bytes, content: &mut entry }).map_err(ArchiveError::Visitor)?;
        }
    }
    Ok(())
}

fn gnu_name(mut bytes: Vec<u8>) -> Option<PathBuf> {
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    String::from_utf8(bytes).ok().map(PathBuf::from)
}

/// The `path` of records `LENGTH KEY=VALUE\n`.
fn pax_name(bytes: &[u8]) -> Option<PathBuf> {
    let text = std::str::from_utf8(bytes).ok()?;
    let path = |line: &str| line.split_once(' ')?.1.strip_prefix("path=").map(PathBuf::from);
    text.lines().find_map(path)
}

fn seven_zip(
    piece: &Piece,
    meter: &Meter,
    visit: &mut dyn FnMut(Entry) -> Result<(), Error>,
) -> Result<(), ArchiveError> {
    let file = File::open(&piece.path).map_err(Error::read(&piece.path));
    let file = Metered::new(file.map_err(ArchiveError::Visitor)?, meter);
    let mut said = Ok(());
    let damaged = |e: sevenz_rust2::Error| ArchiveError::Damaged(e.to_string());
    let mut archive =
        sevenz_rust2::ArchiveReader::new(file, sevenz_rust2::Password::empty()).map_err(damaged)?;
    let read = archive.for_each_entries(|entry, content| {
        if entry.is_directory() || !entry.has_stream() {
            return Ok(true);
        }
        let (path, bytes) = (PathBuf::from(entry.name()), entry.size());
        said = visit(Entry { path, bytes, content });
        // Entries share a stream, so the rest of this one has to be unpacked in any case.
        if said.is_ok() {
            io::copy(content, &mut io::sink())?;
        }
        Ok(said.is_ok())
    });
    said.map_err(ArchiveError::Visitor)?;
    read.map_err(damaged)
}

/// Runs a decoder that may panic on bytes that nobody foresaw; that is damage like any other.
pub(crate) fn contained<T>(decode: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(decode))
        .map_err(|_| "the decoder gave up on it".to_string())
}
