//! Files in memory, without a copy.

use std::fs;
use std::io;
use std::ops::{Deref, Range};

/// Bytes of a file, mapped: the system reads them when they are looked at, and may forget them again.
#[derive(Debug)]
pub struct Mapped {
    /// None for no bytes at all, which cannot be mapped.
    map: Option<memmap2::Mmap>,
}

impl Mapped {
    /// The bytes of `range`, which the file must have.
    ///
    /// # Errors
    /// The system's.
    pub fn new(file: &fs::File, range: Range<u64>) -> io::Result<Mapped> {
        let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        if length == 0 {
            return Ok(Mapped { map: None });
        }
        let mut options = memmap2::MmapOptions::new();
        options.offset(range.start).len(length);
        // SAFETY: the map is read-only. Files of this project are written under another name and
        // renamed, never changed in place; a foreign program that shortens one while it is mapped can
        // end this process by a signal, as with any mapped file.
        #[allow(unsafe_code)]
        let map = unsafe { options.map(file) }?;
        Ok(Mapped { map: Some(map) })
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}
