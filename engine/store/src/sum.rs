//! What a file must be: its length and its checksum.

use std::fs;
use std::io::{self, Read, Seek};

use xxhash_rust::xxh3::Xxh3;

/// Bytes written or read at a time: hashed while they are in the processor's cache.
pub(crate) const CHUNK: usize = 1 << 18;

/// Length and XXH3-128 of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many there are.
    pub bytes: u64,
    /// Their hash.
    pub xxh3: u128,
}

impl Sum {
    /// That of `bytes`.
    pub fn of(bytes: &[u8]) -> Sum {
        let mut sum = Running::default();
        sum.add(bytes);
        sum.end()
    }

    /// That of a whole file. It is read and not mapped: what the disk cannot give is then an error,
    /// where a map would end the process.
    ///
    /// # Errors
    /// The system's.
    pub fn of_file(mut file: &fs::File) -> io::Result<Sum> {
        let (mut sum, mut chunk) = (Running::default(), vec![0; CHUNK]);
        file.rewind()?;
        loop {
            match file.read(&mut chunk)? {
                0 => return Ok(sum.end()),
                n => sum.add(&chunk[..n]),
            }
        }
    }

    /// The hash in hexadecimal.
    pub fn hex(&self) -> String {
        format!("{:032x}", self.xxh3)
    }
}

/// A sum in the making.
#[derive(Clone, Default)]
pub(crate) struct Running {
    hash: Xxh3,
    bytes: u64,
}

impl Running {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn end(&self) -> Sum {
        Sum { bytes: self.bytes, xxh3: self.hash.digest128() }
    }
}
