//! Files that hold documents already: JSON objects, one a line; rows of Parquet; texts; archives
//! of these; all of them packed or not.
//!
//! ```
//! use data::corpus::{self, Source, documents, explain, run};
//!
//! let folder = tempfile::tempdir()?;
//! let input = folder.path().join("plays.jsonl");
//! std::fs::write(&input, "{\"content\": \"To be\", \"number\": \"1\"}\n")?;
//! let (text, id) = ("content".to_string(), "number".to_string());
//! let source = Source::Documents(documents::Options { text, id, ..Default::default() });
//! let options = corpus::Options::new(source, vec![input], folder.path().join("out"));
//! run(&options, &Default::default(), &mut |_| {})?;
//! assert_eq!(explain(&options.out, "plays/1")?[0].document.text, "To be");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fs::File;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::serialized_reader::ReadOptionsBuilder;
use parquet::record::Field;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::document::{Document, MAX_BYTES, Trail};
use super::input::{self, ArchiveError, Format, Piece, STDIN, Shard, contained};
use super::sink::Sink;
use super::{job, report, stage};
use crate::Error;
use crate::text::{self, Compression, reason};

/// Names of the fields that hold a document's parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The text. An object without it is damage.
    pub text: String,
    /// The name within the source; without it, the file's name and the byte where it begins.
    pub id: String,
    /// The source; without it, the file's name up to the first dot.
    pub source: String,
}

impl Default for Options {
    fn default() -> Options {
        Options { text: "text".into(), id: "id".into(), source: "source".into() }
    }
}

/// See [`super::Source::shards`]. Lines and Parquet are divided inside of a file. Of the folder of
/// another job only what it kept is read.
pub(super) fn shards(inputs: &[PathBuf], shard_bytes: u64) -> Result<Vec<Shard>, Error> {
    let kinds =
        ".jsonl, .json, .ndjson, .txt (each also .gz, .zst or .bz2), .parquet, .tar, .tgz, .7z";
    let known = |path: &Path| Format::of(path).is_some_and(|format| format != Format::Xml);
    let mut pieces = Vec::new();
    for input in inputs {
        let kept = |path: &Path| {
            job_of(path, input).is_none_or(|job| path.starts_with(job.join(stage::DOCUMENTS)))
        };
        let wanted = |path: &Path| known(path) && kept(path);
        for path in text::find(std::slice::from_ref(input), &wanted, kinds)? {
            if let Some(job) = job_of(&path, input).filter(|job| !job.join(report::PAGE).exists()) {
                let reason = "this job is not done; run its command again first".to_string();
                return Err(Error::Job { path: job.to_path_buf(), reason });
            }
            let piece = Piece::whole(&path)?;
            match (Format::of(&path), Compression::of(&path)) {
                (Some(Format::Lines), Compression::None) | (Some(Format::Parquet), _) => {
                    pieces.extend(input::split(piece, shard_bytes));
                }
                _ => pieces.push(piece),
            }
        }
    }
    Ok(input::group(pieces, shard_bytes))
}

/// The job's folder, not above `input`, that `path` lies in.
fn job_of<'a>(path: &'a Path, input: &Path) -> Option<&'a Path> {
    let folders = path.ancestors().skip(1).take_while(|folder| folder.starts_with(input));
    folders.into_iter().find(|folder| folder.join(job::MANIFEST).exists())
}

/// See [`super::Source::read`].
pub(super) fn read(options: &Options, shard: &Shard, sink: &mut Sink) -> Result<(), Error> {
    for piece in &shard.pieces {
        match Format::of(&piece.path) {
            Some(Format::Text) => {
                let reader = input::open(piece, sink.meter())?;
                read_text(&piece.path, &name_of(&piece.path), reader, sink)?;
            }
            Some(Format::Parquet) => read_parquet(options, piece, sink)?,
            Some(Format::Tar | Format::SevenZip) => read_archive(options, piece, sink)?,
            Some(Format::Lines | Format::Xml) | None => {
                debug_assert!(Format::of(&piece.path).is_some() || piece.path == Path::new(STDIN));
                read_piece_of_lines(options, piece, sink)?;
            }
        }
    }
    Ok(())
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A file is one document, named as it is.
fn read_text(path: &Path, id: &str, reader: impl Read, sink: &mut Sink) -> Result<(), Error> {
    let mut bytes = Vec::new();
    let read = reader.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes);
    sink.meter().check()?;
    let place = || path.display().to_string();
    match (read, String::from_utf8(bytes)) {
        (Err(e), _) => sink.pass_over("unreadable", place(), e.to_string()),
        (_, Err(e)) => sink.pass_over("not_utf8", place(), e.utf8_error().to_string()),
        (Ok(_), Ok(text)) => {
            let source = id.split('.').next().unwrap_or_default().to_string();
            let document = Document { text, source, id: id.to_string(), meta: Map::new() };
            sink.push(document, Trail::default())?;
        }
    }
    Ok(())
}

/// Lines that begin in a piece. One that began before it belongs to the piece before, which reads
/// it to its end.
fn read_piece_of_lines(options: &Options, piece: &Piece, sink: &mut Sink) -> Result<(), Error> {
    let plain = piece.path != Path::new(STDIN) && Compression::of(&piece.path) == Compression::None;
    if !plain {
        let reader = input::open(piece, sink.meter())?;
        return read_lines(options, &piece.path, Lines::new(reader, 0), u64::MAX, sink);
    }
    let from = piece.start.saturating_sub(1);
    let rest = Piece { path: piece.path.clone(), start: from, end: u64::MAX };
    let mut lines = Lines::new(input::open(&rest, sink.meter())?, from);
    if piece.start > 0 {
        // Whatever this is, the piece before has said it.
        let _ = lines.next_line();
    }
    read_lines(options, &piece.path, lines, piece.end, sink)
}

/// Reads the lines that begin before byte `end`.
fn read_lines(
    options: &Options,
    path: &Path,
    lines: Lines,
    end: u64,
    sink: &mut Sink,
) -> Result<(), Error> {
    let name = name_of(path);
    each_line(path, lines, end, sink, &mut |sink, start, line| match parse(options, line, || {
        format!("{name}:{start}")
    }) {
        Ok(None) => Ok(()),
        Ok(Some(document)) => sink.push(document, Trail::default()),
        Err(reason) => {
            sink.pass_over("not_a_document", place(path, start), reason);
            Ok(())
        }
    })
}

/// What is done with a line: where it begins, and its bytes.
pub(super) type TakeLine<'a> = dyn FnMut(&mut Sink, u64, &[u8]) -> Result<(), Error> + 'a;

/// How damage names a place in a file.
pub(super) fn place(path: &Path, byte: u64) -> String {
    format!("{}: byte {byte}", path.display())
}

/// Gives `take` each line that begins before byte `end`, and where. What cannot be read is counted
/// and passed over.
///
/// # Errors
/// [`Error::Stopped`]; whatever `take` says.
pub(super) fn each_line(
    path: &Path,
    mut lines: Lines,
    end: u64,
    sink: &mut Sink,
    take: &mut TakeLine,
) -> Result<(), Error> {
    while lines.at < end {
        let start = lines.at;
        match lines.next_line() {
            Ok(None) => break,
            Ok(Some(line)) => take(sink, start, line)?,
            Err(LineError::TooLong) => {
                let reason = format!("longer than {MAX_BYTES} bytes");
                sink.pass_over("too_long", place(path, start), reason);
            }
            Err(LineError::Io(e)) => {
                // A stop looks like a failed read.
                sink.meter().check()?;
                sink.pass_over("unreadable", place(path, start), e.to_string());
                // Behind a corrupt block of bzip2 the file goes on, in the middle of a line.
                let goes_on = Compression::of(path) == Compression::Bzip2
                    && e.kind() == std::io::ErrorKind::InvalidData;
                if !goes_on {
                    break;
                }
                lines.torn = true;
            }
        }
    }
    Ok(())
}

/// A document of one line; none if it is blank, what is wrong if it does not parse.
fn parse(
    options: &Options,
    line: &[u8],
    name: impl Fn() -> String,
) -> Result<Option<Document>, String> {
    let line = line.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(line);
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    let fields = serde_json::from_slice(line).map_err(|e| reason(&e))?;
    document(options, fields, name).map(Some)
}

/// Sorts fields into a document's parts; those without a part of their own are `meta`.
fn document(
    options: &Options,
    mut fields: Map<String, Value>,
    name: impl Fn() -> String,
) -> Result<Document, String> {
    let Some(Value::String(text)) = fields.remove(&options.text) else {
        return Err(format!("no string under \"{}\"", options.text));
    };
    let id = match fields.remove(&options.id) {
        Some(Value::String(id)) => id,
        Some(Value::Number(id)) => id.to_string(),
        _ => name(),
    };
    let source = match fields.remove(&options.source) {
        Some(Value::String(source)) => source,
        _ => name().split('.').next().unwrap_or_default().to_string(),
    };
    // What an earlier stage said was said of another text.
    fields.remove("trail");
    let mut meta = match fields.remove("meta") {
        Some(Value::Object(meta)) => meta,
        _ => Map::new(),
    };
    meta.extend(fields);
    Ok(Document { text, source, id, meta })
}

/// Row groups whose middle lies in a piece.
fn read_parquet(options: &Options, piece: &Piece, sink: &mut Sink) -> Result<(), Error> {
    let file = File::open(&piece.path).map_err(Error::read(&piece.path))?;
    let place = || piece.path.display().to_string();
    // An empty range is a bug to the crate; an empty file is damage to us.
    let (start, end) = (piece.start as i64, (piece.end as i64).max(piece.start as i64 + 1));
    let range = ReadOptionsBuilder::new().with_range(start, end).build();
    let reader = match contained(|| SerializedFileReader::new_with_options(file, range)) {
        Ok(Ok(reader)) => reader,
        Ok(Err(e)) => {
            sink.pass_over("unreadable", place(), e.to_string());
            return Ok(());
        }
        Err(reason) => {
            sink.pass_over("unreadable", place(), reason);
            return Ok(());
        }
    };
    let mut rows = match reader.get_row_iter(None) {
        Ok(rows) => rows,
        Err(e) => {
            sink.pass_over("unreadable", place(), e.to_string());
            return Ok(());
        }
    };
    let (name, mut row_number) = (name_of(&piece.path), 0u64);
    loop {
        match contained(|| rows.next()) {
            Ok(None) => break,
            Ok(Some(Ok(row))) => {
                let fields = row.get_column_iter().map(|(key, value)| (key.clone(), json(value)));
                let id = || format!("{name}:{}:{row_number}", piece.start);
                match document(options, fields.collect(), id) {
                    Ok(document) => sink.push(document, Trail::default())?,
                    Err(reason) => {
                        sink.pass_over(
                            "not_a_document",
                            format!("{}: row {row_number}", place()),
                            reason,
                        );
                    }
                }
            }
            Ok(Some(Err(e))) => {
                sink.pass_over(
                    "unreadable",
                    format!("{}: row {row_number}", place()),
                    e.to_string(),
                );
                break;
            }
            Err(reason) => {
                sink.pass_over("unreadable", format!("{}: row {row_number}", place()), reason);
                break;
            }
        }
        row_number += 1;
    }
    sink.meter().add(piece.bytes());
    Ok(())
}

/// A Parquet value as JSON; what JSON has no form for becomes its text.
fn json(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(x) => (*x).into(),
        Field::Byte(x) => (*x).into(),
        Field::Short(x) => (*x).into(),
        Field::Int(x) => (*x).into(),
        Field::Long(x) => (*x).into(),
        Field::UByte(x) => (*x).into(),
        Field::UShort(x) => (*x).into(),
        Field::UInt(x) => (*x).into(),
        Field::ULong(x) => (*x).into(),
        Field::Float(x) => f64::from(*x).into(),
        Field::Double(x) => (*x).into(),
        Field::Str(x) => x.clone().into(),
        // Plain binary without a logical type is how some writers store text.
        Field::Bytes(x) => String::from_utf8_lossy(x.data()).into_owned().into(),
        Field::Group(row) => {
            let fields = row.get_column_iter().map(|(key, value)| (key.clone(), json(value)));
            Value::Object(fields.collect())
        }
        Field::ListInternal(list) => list.elements().iter().map(json).collect(),
        other => other.to_string().into(),
    }
}

/// Documents in the files of an archive.
fn read_archive(options: &Options, piece: &Piece, sink: &mut Sink) -> Result<(), Error> {
    let meter = sink.meter().clone();
    let read = contained(|| {
        input::entries(piece, &meter, &mut |mut entry| {
            let path = piece.path.join(&entry.path);
            let format = Format::of(&entry.path);
            if entry.bytes > MAX_BYTES as u64 && format == Some(Format::Text) {
                let reason = format!("{} bytes", entry.bytes);
                sink.pass_over("too_long", path.display().to_string(), reason);
                return Ok(());
            }
            let id = entry.path.to_string_lossy().into_owned();
            match (format, entry.unpacked()) {
                (_, Err(e)) => {
                    sink.pass_over("unreadable", path.display().to_string(), e.to_string());
                    Ok(())
                }
                (Some(Format::Text), Ok(reader)) => read_text(&path, &id, reader, sink),
                (Some(Format::Lines), Ok(reader)) => {
                    read_lines(options, &path, Lines::new(reader, 0), u64::MAX, sink)
                }
                (_, Ok(_)) => Ok(()),
            }
        })
    });
    let damaged = match read {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(ArchiveError::Visitor(e))) => return Err(e),
        Ok(Err(ArchiveError::Damaged(reason))) => reason,
        Err(reason) => reason,
    };
    sink.meter().check()?;
    sink.pass_over("unreadable", piece.path.display().to_string(), damaged);
    Ok(())
}

/// Lines of at most [`MAX_BYTES`]; longer ones are never held.
pub(super) struct Lines<'a> {
    reader: Box<dyn BufRead + 'a>,
    buffer: Vec<u8>,
    /// Byte of the unpacked file at which the next line begins.
    at: u64,
    /// Whether the beginning of the next line is lost, so that the rest is passed over.
    torn: bool,
}

/// Why a line is missing. After [`LineError::TooLong`] the next line follows.
enum LineError {
    TooLong,
    Io(std::io::Error),
}

impl<'a> Lines<'a> {
    pub(super) fn new(reader: Box<dyn BufRead + 'a>, at: u64) -> Lines<'a> {
        Lines { reader, buffer: Vec::new(), at, torn: false }
    }

    /// The next line, with its end.
    fn next_line(&mut self) -> Result<Option<&[u8]>, LineError> {
        self.buffer.clear();
        let mut start = self.at;
        loop {
            let chunk = match self.reader.fill_buf() {
                Ok(chunk) => chunk,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(LineError::Io(e)),
            };
            let end = chunk.iter().position(|&byte| byte == b'\n');
            let count = end.map_or(chunk.len(), |at| at + 1);
            if self.at - start + count as u64 <= MAX_BYTES as u64 {
                self.buffer.extend_from_slice(&chunk[..count]);
            }
            self.reader.consume(count);
            self.at += count as u64;
            if end.is_some() && self.torn {
                self.torn = false;
                self.buffer.clear();
                start = self.at;
            } else if end.is_some() || count == 0 {
                break;
            }
        }
        match self.at - start {
            0 => Ok(None),
            bytes if bytes > self.buffer.len() as u64 => Err(LineError::TooLong),
            _ => Ok(Some(&self.buffer)),
        }
    }
}
