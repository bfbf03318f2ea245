//! Readers of text: .txt (one document a file), .jsonl (one document a line, field `text`), the
//! same compressed by gzip or zstd, and folders of them.
//!
//! Documents stream: at most one is in memory, and a compressed file is never unpacked as a whole.
//!
//! ```
//! use data::text::{Documents, find_files};
//!
//! let folder = tempfile::tempdir()?;
//! std::fs::write(folder.path().join("a.txt"), "To be")?;
//! let lines = "{\"text\": \"or not\"}\n{\"text\": \"to be\"}\n";
//! std::fs::write(folder.path().join("b.jsonl"), lines)?;
//! let files = find_files(&[folder.path().to_path_buf()])?;
//! let documents: Vec<String> = Documents::new(files).collect::<Result<_, _>>()?;
//! assert_eq!(documents, ["To be", "or not", "to be"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Error;

/// What a file holds, told by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `.txt`: the whole file is one document.
    Text,
    /// `.jsonl`: one document a line.
    Jsonl,
    /// `.jsonl.gz`, of one or more members.
    JsonlGz,
    /// `.jsonl.zst`, of one or more frames.
    JsonlZst,
    /// `.bin`: ready tokens, see [`crate::shard`].
    Shard,
}

impl Kind {
    /// The kind that the file's name tells, if any.
    pub fn of(path: &Path) -> Option<Kind> {
        // The name itself may be no UTF-8.
        let name = path.file_name()?.as_encoded_bytes().to_ascii_lowercase();
        let ends = |ending: &str| name.len() > ending.len() && name.ends_with(ending.as_bytes());
        match () {
            () if ends(".txt") => Some(Kind::Text),
            () if ends(".jsonl") => Some(Kind::Jsonl),
            () if ends(".jsonl.gz") => Some(Kind::JsonlGz),
            () if ends(".jsonl.zst") => Some(Kind::JsonlZst),
            () if ends(".bin") => Some(Kind::Shard),
            () => None,
        }
    }
}

/// How a file is packed, told by the end of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
    #[cfg(feature = "corpus")]
    Bzip2,
}

impl Compression {
    pub(crate) fn of(path: &Path) -> Compression {
        let ends = |ending| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(ending));
        match () {
            () if ends("gz") => Compression::Gzip,
            () if ends("zst") => Compression::Zstd,
            #[cfg(feature = "corpus")]
            () if ends("bz2") => Compression::Bzip2,
            () => Compression::None,
        }
    }

    /// What an error calls it.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Compression::None => None,
            Compression::Gzip => Some("gzip"),
            Compression::Zstd => Some("zstd"),
            #[cfg(feature = "corpus")]
            Compression::Bzip2 => Some("bzip2"),
        }
    }

    /// Unpacks `reader`, all members or frames of it.
    pub(crate) fn decoder<'a>(
        self,
        reader: impl BufRead + 'a,
    ) -> std::io::Result<Box<dyn BufRead + 'a>> {
        Ok(match self {
            Compression::None => Box::new(reader),
            Compression::Gzip => {
                Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(reader)))
            }
            Compression::Zstd => {
                Box::new(BufReader::new(zstd::stream::read::Decoder::with_buffer(reader)?))
            }
            #[cfg(feature = "corpus")]
            Compression::Bzip2 => {
                Box::new(BufReader::new(bzip2::bufread::MultiBzDecoder::new(reader)))
            }
        })
    }
}

/// What is read, as errors call it.
const KINDS: &str = ".txt, .jsonl, .jsonl.gz, .jsonl.zst, .bin token shards";

/// Resolves files and folders to files, in the order given, each folder's files sorted by path.
///
/// Folders are searched in depth; names that begin with a dot, and files of no known kind, are
/// passed over there, see [`passed_over`].
///
/// # Errors
/// A path that is missing or unreadable, a file of no known kind that was given by itself, a
/// folder without any file of a known kind.
pub fn find_files(inputs: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    find(inputs, &|path| Kind::of(path).is_some(), KINDS)
}

/// The files of folders that [`find_files`] passes over and that no name of theirs excuses: a dot in
/// front, or what lies beside a shard. In one line: how many, the first of them, and what is
/// read; nothing if there are none.
///
/// # Errors
/// A path that is missing or unreadable.
pub fn passed_over(inputs: &[PathBuf]) -> Result<Option<String>, Error> {
    const NAMED: usize = 3;
    let sidecar = |path: &Path| {
        path.extension().is_some_and(|e| e == "json" || e == "ends") && {
            let shard = path.with_extension("");
            Kind::of(&shard) == Some(Kind::Shard) && shard.exists()
        }
    };
    let mut files = Vec::new();
    for input in inputs {
        if std::fs::metadata(input).map_err(Error::read(input))?.is_dir() {
            walk(input, &|path| Kind::of(path).is_none() && !sidecar(path), &mut files)?;
        }
    }
    let count = match files.len() {
        0 => return Ok(None),
        1 => "1 file is".to_string(),
        n => format!("{n} files are"),
    };
    let mut names: Vec<String> =
        files.iter().take(NAMED).map(|path| path.display().to_string()).collect();
    names.extend((files.len() > NAMED).then(|| "...".to_string()));
    Ok(Some(format!(
        "{count} passed over, of no known kind: {} (read are {KINDS})",
        names.join(", ")
    )))
}

/// As [`find_files`], for any choice of files, which errors call `kinds`.
pub(crate) fn find(
    inputs: &[PathBuf],
    wanted: &dyn Fn(&Path) -> bool,
    kinds: &'static str,
) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for input in inputs {
        if std::fs::metadata(input).map_err(Error::read(input))?.is_dir() {
            let before = files.len();
            walk(input, wanted, &mut files)?;
            if files.len() == before {
                return Err(Error::EmptyFolder { path: input.clone(), kinds });
            }
        } else if !wanted(input) {
            return Err(Error::Unsupported { path: input.clone(), kinds });
        } else {
            files.push(input.clone());
        }
    }
    Ok(files)
}

fn walk(
    folder: &Path,
    wanted: &dyn Fn(&Path) -> bool,
    files: &mut Vec<PathBuf>,
) -> Result<(), Error> {
    let mut entries = std::fs::read_dir(folder)
        .and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>())
        .map_err(Error::read(folder))?;
    entries.sort();
    for path in entries {
        let hidden = path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
        if hidden {
            continue;
        }
        if std::fs::metadata(&path).map_err(Error::read(&path))?.is_dir() {
            walk(&path, wanted, files)?;
        } else if wanted(&path) {
            files.push(path);
        }
    }
    Ok(())
}

/// Documents of a list of text files, in order. Empty documents are passed over.
///
/// After an error the iterator ends.
pub struct Documents {
    files: std::vec::IntoIter<PathBuf>,
    lines: Option<Lines>,
    bytes_read: Arc<AtomicU64>,
}

impl Documents {
    /// Reads `files`, as [`find_files`] lists them.
    ///
    /// # Panics
    /// If a file is a token shard or of no known kind.
    pub fn new(files: Vec<PathBuf>) -> Documents {
        Documents { files: files.into_iter(), lines: None, bytes_read: Arc::default() }
    }

    /// Bytes taken from the files so far, before decompression.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    fn next_document(&mut self) -> Result<Option<String>, Error> {
        loop {
            if let Some(lines) = &mut self.lines {
                match lines.next_document()? {
                    Some(text) if text.is_empty() => continue,
                    Some(text) => return Ok(Some(text)),
                    None => self.lines = None,
                }
            }
            let Some(path) = self.files.next() else { return Ok(None) };
            match Kind::of(&path) {
                Some(Kind::Text) => {
                    let text = self.read_text(&path)?;
                    if !text.is_empty() {
                        return Ok(Some(text));
                    }
                }
                Some(Kind::Shard) | None => panic!("text: {} holds no text", path.display()),
                Some(Kind::Jsonl | Kind::JsonlGz | Kind::JsonlZst) => {
                    self.lines = Some(Lines::open(path, &self.bytes_read)?);
                }
            }
        }
    }

    fn read_text(&self, path: &Path) -> Result<String, Error> {
        let bytes = std::fs::read(path).map_err(Error::read(path))?;
        self.bytes_read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        String::from_utf8(bytes).map_err(|e| Error::Utf8 {
            path: path.to_path_buf(),
            place: format!("byte {}", e.utf8_error().valid_up_to()),
        })
    }
}

impl Iterator for Documents {
    type Item = Result<String, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_document().transpose();
        if matches!(next, Some(Err(_))) {
            self.files = Vec::new().into_iter();
            self.lines = None;
        }
        next
    }
}

/// A JSON-lines file being read.
struct Lines {
    path: PathBuf,
    compression: Compression,
    reader: Box<dyn BufRead>,
    line: u64,
    buffer: Vec<u8>,
}

#[derive(serde::Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
}

impl Lines {
    fn open(path: PathBuf, bytes_read: &Arc<AtomicU64>) -> Result<Lines, Error> {
        let file = File::open(&path).map_err(Error::read(&path))?;
        let counted = BufReader::new(Counted { file, bytes_read: Arc::clone(bytes_read) });
        let compression = Compression::of(&path);
        let reader = compression.decoder(counted).map_err(Error::read(&path))?;
        Ok(Lines { path, compression, reader, line: 0, buffer: Vec::new() })
    }

    /// The next line's text; blank lines are passed over.
    fn next_document(&mut self) -> Result<Option<String>, Error> {
        loop {
            self.buffer.clear();
            let count = match self.reader.read_until(b'\n', &mut self.buffer) {
                Ok(count) => count,
                Err(e) => return Err(self.read_error(e)),
            };
            if count == 0 {
                return Ok(None);
            }
            self.line += 1;
            let line = std::str::from_utf8(&self.buffer).map_err(|e| Error::Utf8 {
                path: self.path.clone(),
                place: format!("line {}, byte {}", self.line, e.valid_up_to()),
            })?;
            // Some editors put a byte order mark before the first line.
            let line = line.strip_prefix('\u{FEFF}').unwrap_or(line);
            if line.trim().is_empty() {
                continue;
            }
            return match serde_json::from_str::<Record>(line) {
                Ok(record) => Ok(Some(record.text.into_owned())),
                Err(e) => Err(Error::Json {
                    path: self.path.clone(),
                    line: self.line,
                    reason: reason(&e),
                }),
            };
        }
    }

    fn read_error(&self, source: std::io::Error) -> Error {
        let Some(format) = self.compression.name() else {
            return Error::read(&self.path)(source);
        };
        let path = self.path.clone();
        Error::Compressed { path, format, line: self.line, reason: source.to_string() }
    }
}

/// The parser sees one line at a time, so its own "line 1" would mislead.
pub(crate) fn reason(e: &serde_json::Error) -> String {
    let text = e.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    format!("{text} (column {})", e.column())
}

/// A file that counts what is read from it.
struct Counted {
    file: File,
    bytes_read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.bytes_read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
