//! Pages of a wiki's dump, as a stream: bzip2 of one stream or of many, UTF-8 or UTF-16.
//!
//! Damage costs what it hits. After a bad block, reading goes on at the next stream; a page whose
//! end is missing is given up where the next one begins.

use std::io::{self, BufRead, Read};

use memchr::memmem;

use super::super::document::MAX_BYTES;
use super::super::markup::push_unescaped;

/// How each stream of a bzip2 file goes on after `BZh` and its level.
pub(super) const BLOCK: &[u8; 6] = b"1AY&SY";

/// What a bad block may have spoiled before it was noticed: a block of text at the highest level.
const HELD_BACK: usize = 1 << 20;

/// Unpacks all streams of a bzip2 file. Output is held back until its block's checksum was read.
pub(super) struct Streams<R: BufRead> {
    decoder: Option<bzip2::bufread::BzDecoder<Rewind<R>>>,
    held: Vec<u8>,
    /// Bytes of `held` that were handed on.
    used: usize,
    /// Bytes of `held` that are of whole streams.
    sure: usize,
    /// What was wrong with streams that were left.
    damage: Damage,
}

/// What a reader found wrong and passed over, for whoever holds the other end.
pub(super) type Damage = std::rc::Rc<std::cell::RefCell<Vec<String>>>;

/// A reader that first gives some bytes again.
struct Rewind<R> {
    again: io::Cursor<Vec<u8>>,
    inner: R,
}

impl<R: BufRead> Read for Rewind<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Rewind<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.again.fill_buf()?.is_empty() {
            self.inner.fill_buf()
        } else {
            self.again.fill_buf()
        }
    }

    fn consume(&mut self, count: usize) {
        let again = self.again.get_ref().len() as u64 - self.again.position();
        if again > 0 { self.again.consume(count) } else { self.inner.consume(count) }
    }
}

impl<R: BufRead> Streams<R> {
    pub(super) fn new(inner: R, damage: Damage) -> Streams<R> {
        let reader = Rewind { again: io::Cursor::default(), inner };
        let decoder = Some(bzip2::bufread::BzDecoder::new(reader));
        Streams { decoder, held: Vec::new(), used: 0, sure: 0, damage }
    }

    /// Reads on until there is something to hand on, or all is read.
    fn fill(&mut self) -> io::Result<()> {
        self.held.drain(..self.used);
        self.sure = self.sure.saturating_sub(self.used);
        self.used = 0;
        while self.held.len() <= HELD_BACK {
            let Some(decoder) = &mut self.decoder else { return Ok(()) };
            let start = self.held.len();
            self.held.resize(start + (1 << 16), 0);
            let read = decoder.read(&mut self.held[start..]);
            self.held.truncate(start + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => {
                    self.sure = start;
                    self.next_stream()?;
                }
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                    self.damage.borrow_mut().push("the file ends in a stream".to_string());
                    self.decoder = None;
                }
                Err(e) if e.kind() == io::ErrorKind::Other => return Err(e),
                Err(e) => {
                    // The block cannot be trusted. A line ends here, whatever follows.
                    self.damage.borrow_mut().push(e.to_string());
                    self.held.truncate(self.sure.max(start.saturating_sub(HELD_BACK)));
                    self.held.push(b'\n');
                    self.skip_to_stream()?;
                }
            }
        }
        Ok(())
    }

    fn next_stream(&mut self) -> io::Result<()> {
        let Some(decoder) = self.decoder.take() else { return Ok(()) };
        let mut reader = decoder.into_inner();
        if !reader.fill_buf()?.is_empty() {
            self.decoder = Some(bzip2::bufread::BzDecoder::new(reader));
        }
        Ok(())
    }

    /// Looks for the next stream behind a bad block.
    fn skip_to_stream(&mut self) -> io::Result<()> {
        let Some(decoder) = self.decoder.take() else { return Ok(()) };
        let mut reader = decoder.into_inner();
        let mut seen: Vec<u8> = Vec::new();
        loop {
            let chunk = reader.fill_buf()?;
            let count = chunk.len();
            if count == 0 {
                return Ok(());
            }
            seen.extend_from_slice(chunk);
            reader.consume(count);
            if let Some(start) = next_start(&seen, 0) {
                // Any bytes that were to come again are in `seen`.
                let again = io::Cursor::new(seen.split_off(start));
                let reader = Rewind { again, inner: reader.inner };
                self.decoder = Some(bzip2::bufread::BzDecoder::new(reader));
                return Ok(());
            }
            // A mark may lie across the border of two chunks.
            seen.drain(..seen.len().saturating_sub(MARK - 1));
        }
    }
}

/// Bytes of the mark that begins a stream.
pub(super) const MARK: usize = 4 + BLOCK.len();

/// Where the next stream of a bzip2 file begins, from `from` on.
pub(super) fn next_start(bytes: &[u8], from: usize) -> Option<usize> {
    memmem::find_iter(&bytes[from..], BLOCK)
        .filter_map(|at| (from + at).checked_sub(4))
        .find(|&at| bytes[at..].starts_with(b"BZh") && bytes[at + 3].is_ascii_digit())
}

impl<R: BufRead> Read for Streams<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ready = |streams: &Streams<R>| {
            let back = if streams.decoder.is_some() { HELD_BACK } else { 0 };
            let ready = streams.held.len().saturating_sub(back).max(streams.sure);
            ready.saturating_sub(streams.used)
        };
        if ready(self) == 0 {
            self.fill()?;
        }
        let count = ready(self).min(buffer.len());
        buffer[..count].copy_from_slice(&self.held[self.used..self.used + count]);
        self.used += count;
        Ok(count)
    }
}

/// UTF-8 of a text in UTF-16, either way around; a lone half of a pair is U+FFFD.
pub(super) struct Utf16<R> {
    inner: R,
    big_endian: bool,
    units: Vec<u16>,
    /// A byte without its second.
    odd: Option<u8>,
    ready: Vec<u8>,
    used: usize,
}

/// How a text in UTF-16 begins: `<` or the mark of the byte order. Whether it is big-endian.
pub(super) fn utf16(head: &[u8]) -> Option<bool> {
    match head {
        [0xFF, 0xFE, ..] | [b'<', 0, ..] => Some(false),
        [0xFE, 0xFF, ..] | [0, b'<', ..] => Some(true),
        _ => None,
    }
}

impl<R: Read> Utf16<R> {
    pub(super) fn new(inner: R, big_endian: bool) -> Utf16<R> {
        Utf16 { inner, big_endian, units: Vec::new(), odd: None, ready: Vec::new(), used: 0 }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.ready.clear();
        self.used = 0;
        let mut bytes = vec![0; 1 << 16];
        while self.ready.is_empty() {
            let count = self.inner.read(&mut bytes)?;
            let all = self.odd.take().into_iter().chain(bytes[..count].iter().copied());
            let all: Vec<u8> = all.collect();
            let unit = |pair: &[u8]| match self.big_endian {
                true => u16::from_be_bytes([pair[0], pair[1]]),
                false => u16::from_le_bytes([pair[0], pair[1]]),
            };
            self.units.extend(all.chunks_exact(2).map(unit));
            self.odd = all.chunks_exact(2).remainder().first().copied();
            // The first half of a pair waits for the second.
            let last = self.units.pop_if(|unit| count > 0 && (0xD800..0xDC00).contains(unit));
            let decoded = char::decode_utf16(self.units.drain(..));
            let text: String = decoded.map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
            self.ready.extend_from_slice(text.as_bytes());
            self.units.extend(last);
            if count == 0 {
                break;
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Utf16<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.ready.len() {
            self.fill()?;
        }
        let count = (self.ready.len() - self.used).min(buffer.len());
        buffer[..count].copy_from_slice(&self.ready[self.used..self.used + count]);
        self.used += count;
        Ok(count)
    }
}

/// A page, its text as wikitext.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Its name.
    pub title: String,
    /// Its number.
    pub id: String,
    /// The number of its namespace; 0 is that of articles.
    pub namespace: String,
    /// Whether it only points to another page.
    pub redirect: bool,
    /// When it was written, as the dump has it.
    pub timestamp: String,
    /// What was written.
    pub text: String,
}

/// What is wrong with a page that was passed over, and the line that shows it.
pub(super) struct Broken {
    pub(super) line: u64,
    pub(super) reason: String,
}

/// Reads pages from XML as MediaWiki writes it: every element begins a line, and only text goes on
/// for more.
pub(super) struct Pages<R> {
    reader: R,
    line: u64,
    buffer: Vec<u8>,
    /// Whether the line that begins the next page was read already.
    begun: bool,
}

impl<R: BufRead> Pages<R> {
    pub(super) fn new(reader: R) -> Pages<R> {
        Pages { reader, line: 0, buffer: Vec::new(), begun: false }
    }

    /// The next page, or what is wrong with it; none after the last.
    pub(super) fn next_page(&mut self) -> io::Result<Option<Result<Page, Broken>>> {
        let mut page = std::mem::take(&mut self.begun).then(Page::default);
        let mut in_text = false;
        loop {
            self.buffer.clear();
            if self.reader.by_ref().take(MAX_BYTES as u64).read_until(b'\n', &mut self.buffer)? == 0
            {
                return Ok(page.map(|_| Err(self.broken("the file ends in a page"))));
            }
            self.line += 1;
            let Ok(line) = std::str::from_utf8(&self.buffer) else {
                // The rest of its page means nothing.
                if page.take().is_some() {
                    return Ok(Some(Err(self.broken("not UTF-8"))));
                }
                continue;
            };
            let tag = line.trim_start();
            if tag.starts_with("<page>") {
                if page.replace(Page::default()).is_some() {
                    self.begun = true;
                    return Ok(Some(Err(self.broken("a page begins in a page"))));
                }
                continue;
            }
            let Some(found) = &mut page else { continue };
            if in_text || tag.starts_with("<text") {
                let Some(goes_on) = add_text(found, line, in_text) else {
                    return Ok(Some(Err(self.broken("an element in a text"))));
                };
                in_text = goes_on;
                if found.text.len() > MAX_BYTES {
                    return Ok(Some(Err(self.broken("longer than a document may be"))));
                }
            } else if tag.starts_with("</page>") {
                return Ok(page.map(Ok));
            } else {
                add_field(found, tag);
            }
        }
    }

    fn broken(&self, reason: &str) -> Broken {
        Broken { line: self.line, reason: reason.to_string() }
    }
}

/// Adds a line of `<text ..>..</text>`; says whether the text goes on, nothing if it is broken.
fn add_text(page: &mut Page, line: &str, in_text: bool) -> Option<bool> {
    let content = if in_text {
        line
    } else {
        // Of several revisions the last counts.
        page.text.clear();
        let end = line.find('>')?;
        if line[..end].ends_with('/') {
            return Some(false);
        }
        &line[end + 1..]
    };
    // No other element has a place in a text.
    let end = content.find('<').unwrap_or(content.len());
    push_unescaped(&content[..end], &mut page.text);
    let (all, closed) = (end == content.len(), content[end..].starts_with("</text>"));
    (all || closed).then_some(all)
}

fn add_field(page: &mut Page, tag: &str) {
    let value = |name: &str| {
        let inner = tag.strip_prefix(name)?;
        Some(&inner[..inner.find("</")?])
    };
    if let Some(title) = value("<title>") {
        page.title.clear();
        push_unescaped(title, &mut page.title);
    } else if let Some(namespace) = value("<ns>") {
        page.namespace = namespace.to_string();
    } else if let (Some(id), true) = (value("<id>"), page.id.is_empty()) {
        page.id = id.to_string();
    } else if let Some(timestamp) = value("<timestamp>") {
        page.timestamp = timestamp.to_string();
    } else if tag.starts_with("<redirect") {
        page.redirect = true;
    }
}
