//! Raw inputs: shards of files, and readers that unpack them as a stream.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::text::Compression;

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

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.meter.check().map_err(io::Error::other)?;
        let count = self.inner.read(buffer)?;
        self.meter.add(count as u64);
        Ok(count)
    }
}

/// Opens a piece and unpacks what its name says: `.gz`, `.zst`, or nothing.
///
/// # Errors
/// A file that cannot be opened.
pub fn open(piece: &Piece, meter: &Meter) -> Result<Box<dyn BufRead + Send>, Error> {
    let path = &piece.path;
    let mut file = File::open(path).map_err(Error::read(path))?;
    file.seek(SeekFrom::Start(piece.start)).map_err(Error::read(path))?;
    let raw = BufReader::with_capacity(1 << 16, Metered::new(file.take(piece.bytes()), meter));
    Compression::of(path).decoder(raw).map_err(Error::read(path))
}
