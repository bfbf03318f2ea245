//! bzip2 block by block. Each block is found by its 48-bit magic, which may begin at any bit, and
//! is unpacked alone, as a stream of one block. So a file can be divided anywhere, whether or not
//! it has several streams, and a corrupt block costs itself alone.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use super::input::{Meter, Metered, Piece};
use crate::Error;

const BLOCK: u64 = 0x3141_5926_5359;
const STREAM_END: u64 = 0x1772_4538_5090;
const MAGIC_BITS: u64 = 48;

/// No block of 900 kB is packed into more; what is longer has lost its end.
const MAX_PACKED: u64 = 2 << 20;

/// The blocks that begin in a piece of a file, and on request those after it, as one stream.
///
/// A block that cannot be unpacked is one error of kind `InvalidData`; the next read goes on
/// behind it.
pub struct Blocks {
    scanner: Scanner<BufReader<Metered<File>>>,
    /// First bit of the next block, if it is known.
    next: Option<u64>,
    /// First bit that does not belong to the piece.
    end: u64,
    plain: Vec<u8>,
    at: usize,
    past_end: bool,
}

impl Blocks {
    /// Opens a piece. A file that begins with no bzip2 stream gives an error at the first read.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn open(piece: &Piece, meter: &Meter) -> Result<Blocks, Error> {
        let read_error = Error::read(&piece.path);
        let seek = |file: &mut File| file.seek(SeekFrom::Start(piece.start));
        let file = File::open(&piece.path).and_then(|mut file| seek(&mut file).map(|_| file));
        let reader =
            BufReader::with_capacity(1 << 16, Metered::new(file.map_err(read_error)?, meter));
        let scanner = Scanner::new(reader, piece.start);
        let end = piece.end * 8;
        Ok(Blocks { scanner, next: None, end, plain: Vec::new(), at: 0, past_end: false })
    }

    /// Whether what [`BufRead::fill_buf`] gives next lies behind the piece. A record that began
    /// before may end there; the next one belongs to the next piece.
    pub fn past_end(&self) -> bool {
        self.past_end
    }

    /// Unpacks the next block into `plain`; false at the end of the file.
    fn advance(&mut self) -> io::Result<bool> {
        self.plain.clear();
        self.at = 0;
        let start = match self.next.take() {
            Some(start) => start,
            None => match self.scanner.find_block()? {
                Some(start) => start,
                None => return Ok(false),
            },
        };
        self.past_end = start >= self.end;
        let (mut end, mut next) = self.scanner.find_end(start)?;
        let mut unpacked = unpack(&self.scanner.bits(start, end), &mut self.plain);
        if let (Err(_), Some(inner)) = (&unpacked, next) {
            // The magic of the next block may have been 48 chance bits of this one.
            let (longer, after) = self.scanner.find_end(inner)?;
            if unpack(&self.scanner.bits(start, longer), &mut self.plain).is_ok() {
                (end, next, unpacked) = (longer, after, Ok(()));
            } else {
                self.scanner.rewind(inner);
            }
        }
        self.next = next;
        self.scanner.forget(self.next.unwrap_or(end));
        unpacked.map(|()| true).map_err(|e| {
            let what = format!("bzip2 block at byte {}: {e}", start / 8);
            io::Error::new(io::ErrorKind::InvalidData, what)
        })
    }
}

impl Read for Blocks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Blocks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.plain.len() && self.advance()? {}
        Ok(&self.plain[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

/// Unpacks one block, given as a whole stream.
fn unpack(stream: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
    plain.clear();
    let result = bzip2::bufread::BzDecoder::new(stream).read_to_end(plain);
    if result.is_err() {
        plain.clear();
    }
    result.map(|_| ())
}

/// A window on a file's bits in which magics are looked for.
struct Scanner<R> {
    reader: R,
    /// Bytes that a block may still need, and how many of them were scanned.
    bytes: Vec<u8>,
    scanned: usize,
    /// Byte of the file at which `bytes` begins.
    base: u64,
    /// The last 64 bits that were scanned.
    window: u64,
    /// Whether a magic was seen, or need not be because the piece begins inside of a file.
    any: bool,
}

impl<R: Read> Scanner<R> {
    fn new(reader: R, base: u64) -> Scanner<R> {
        Scanner { reader, bytes: Vec::new(), scanned: 0, base, window: 0, any: base > 0 }
    }

    /// The first bit of the next block, wherever it is.
    fn find_block(&mut self) -> io::Result<Option<u64>> {
        while let Some((magic, at)) = self.find(u64::MAX)? {
            if magic == BLOCK {
                return Ok(Some(at));
            }
        }
        // An empty stream has the magic of its end.
        if !self.any {
            self.any = true;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no bzip2 block in it"));
        }
        Ok(None)
    }

    /// Where the block at bit `start` ends, and the next one begins if it follows at once.
    fn find_end(&mut self, start: u64) -> io::Result<(u64, Option<u64>)> {
        match self.find(start + MAX_PACKED * 8)? {
            Some((BLOCK, at)) => Ok((at, Some(at))),
            Some((_, at)) => Ok((at, None)),
            None => Ok(((self.base + self.scanned as u64) * 8, None)),
        }
    }

    /// The next magic and its first bit; none at the end of the file or before bit `limit`.
    fn find(&mut self, limit: u64) -> io::Result<Option<(u64, u64)>> {
        const MASK: u64 = (1 << MAGIC_BITS) - 1;
        loop {
            let end = (self.base + self.scanned as u64) * 8;
            if end >= limit {
                return Ok(None);
            }
            if self.scanned == self.bytes.len() && !self.fill(limit == u64::MAX)? {
                return Ok(None);
            }
            while self.scanned < self.bytes.len() {
                self.window = self.window << 8 | u64::from(self.bytes[self.scanned]);
                self.scanned += 1;
                let hit = (0..8).find(|shift| {
                    let bits = self.window >> shift & MASK;
                    bits == BLOCK || bits == STREAM_END
                });
                if let Some(shift) = hit {
                    self.any = true;
                    let end = (self.base + self.scanned as u64) * 8 - shift;
                    return Ok(Some((self.window >> shift & MASK, end - MAGIC_BITS)));
                }
            }
        }
    }

    /// Reads on; between blocks (`idle`) what was scanned is not needed any more.
    fn fill(&mut self, idle: bool) -> io::Result<bool> {
        if idle {
            // A magic that was just found begins up to seven bytes back.
            self.forget((self.base + (self.scanned as u64).saturating_sub(8)) * 8);
        }
        let before = self.bytes.len();
        self.bytes.resize(before + (1 << 16), 0);
        let count = self.reader.read(&mut self.bytes[before..]);
        self.bytes.truncate(before + *count.as_ref().unwrap_or(&0));
        Ok(count? > 0)
    }

    /// Scans again from behind the magic at bit `at` on.
    fn rewind(&mut self, at: u64) {
        self.scanned = ((at + MAGIC_BITS).div_ceil(8) - self.base) as usize;
        self.window = 0;
    }

    /// Drops the bytes before bit `at`.
    fn forget(&mut self, at: u64) {
        let count = ((at / 8).saturating_sub(self.base) as usize).min(self.scanned);
        self.bytes.drain(..count);
        self.base += count as u64;
        self.scanned -= count;
    }

    /// The block between two bits as a stream of its own: header, block, and the end that tells
    /// the block's checksum again.
    fn bits(&self, start: u64, end: u64) -> Vec<u8> {
        let (first, shift) = ((start / 8 - self.base) as usize, start % 8);
        let byte = |i: usize| -> u8 {
            let at = |i| self.bytes.get(first + i).copied().unwrap_or(0);
            ((u16::from(at(i)) << 8 | u16::from(at(i + 1))) >> (8 - shift)) as u8
        };
        let (whole, rest) = ((end - start) as usize / 8, (end - start) % 8);
        let mut stream = b"BZh9".to_vec();
        stream.extend((0..whole).map(byte));
        let checksum = (6..10).fold(0u64, |sum, i| sum << 8 | u64::from(byte(i)));
        let tail = u128::from(u16::from(byte(whole)) >> (8 - rest));
        let tail = (tail << MAGIC_BITS | u128::from(STREAM_END)) << 32 | u128::from(checksum);
        let bits = rest + MAGIC_BITS + 32;
        stream
            .extend_from_slice(&(tail << (128 - bits)).to_be_bytes()[..bits.div_ceil(8) as usize]);
        stream
    }
}
