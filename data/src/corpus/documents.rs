//! Files that hold documents already: a JSON object a line, plain or packed.

use std::io::BufRead;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::document::{Document, MAX_BYTES, Trail};
use super::input::{self, Piece, Shard};
use super::sink::Sink;
use crate::Error;
use crate::text::{find_files, reason};

/// Names of the fields that hold a document's parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The text. An object without it is damage.
    pub text: String,
    /// The name within the source; without it, the file's name and the line.
    pub id: String,
    /// The source; without it, the file's name up to the first dot.
    pub source: String,
}

impl Default for Options {
    fn default() -> Options {
        Options { text: "text".into(), id: "id".into(), source: "source".into() }
    }
}

/// See [`super::Source::shards`].
pub(super) fn shards(inputs: &[PathBuf], shard_bytes: u64) -> Result<Vec<Shard>, Error> {
    let files = find_files(inputs)?;
    let pieces: Result<Vec<_>, _> = files.iter().map(|path| Piece::whole(path)).collect();
    Ok(input::group(pieces?, shard_bytes))
}

/// See [`super::Source::read`].
pub(super) fn read(options: &Options, shard: &Shard, sink: &mut Sink) -> Result<(), Error> {
    shard.pieces.iter().try_for_each(|piece| read_lines(options, piece, sink))
}

fn read_lines(options: &Options, piece: &Piece, sink: &mut Sink) -> Result<(), Error> {
    let mut lines = Lines::new(input::open(piece, sink.meter())?);
    loop {
        let place = |line| format!("{}: line {line}", piece.path.display());
        match lines.next_line() {
            Ok(None) => return Ok(()),
            Ok(Some((line, bytes))) => match parse(options, bytes, piece, line) {
                Ok(None) => {}
                Ok(Some(document)) => sink.push(document, Trail::default())?,
                Err(reason) => sink.pass_over("not_a_document", place(line), reason),
            },
            Err(LineError::TooLong) => {
                let reason = format!("longer than {MAX_BYTES} bytes");
                sink.pass_over("too_long", place(lines.line), reason);
            }
            Err(LineError::Io(e)) => {
                // A stop looks like a failed read.
                sink.meter().check()?;
                sink.pass_over("unreadable", place(lines.line), e.to_string());
                return Ok(());
            }
        }
    }
}

/// A document of one line; none if it is blank, what is wrong if it does not parse.
fn parse(
    options: &Options,
    line: &[u8],
    piece: &Piece,
    number: u64,
) -> Result<Option<Document>, String> {
    let line = line.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(line);
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    let mut fields: Map<String, Value> = serde_json::from_slice(line).map_err(|e| reason(&e))?;
    let Some(Value::String(text)) = fields.remove(&options.text) else {
        return Err(format!("no string under \"{}\"", options.text));
    };
    let name = piece.path.file_name().unwrap_or_default().to_string_lossy();
    let id = match fields.remove(&options.id) {
        Some(Value::String(id)) => id,
        Some(Value::Number(id)) => id.to_string(),
        _ => format!("{name}:{number}"),
    };
    let source = match fields.remove(&options.source) {
        Some(Value::String(source)) => source,
        _ => name.split('.').next().unwrap_or_default().to_string(),
    };
    let mut meta = match fields.remove("meta") {
        Some(Value::Object(meta)) => meta,
        _ => Map::new(),
    };
    meta.extend(fields);
    Ok(Some(Document { text, source, id, meta }))
}

/// Lines of at most [`MAX_BYTES`]; longer ones are never held.
pub(crate) struct Lines {
    reader: Box<dyn BufRead + Send>,
    buffer: Vec<u8>,
    /// The line read last, from 1.
    pub(crate) line: u64,
}

/// Why a line is missing. After [`LineError::TooLong`] the next line follows.
pub(crate) enum LineError {
    TooLong,
    Io(std::io::Error),
}

impl Lines {
    pub(crate) fn new(reader: Box<dyn BufRead + Send>) -> Lines {
        Lines { reader, buffer: Vec::new(), line: 0 }
    }

    /// The next line with its number.
    pub(crate) fn next_line(&mut self) -> Result<Option<(u64, &[u8])>, LineError> {
        self.buffer.clear();
        let (mut any, mut too_long) = (false, false);
        loop {
            let chunk = self.reader.fill_buf().map_err(LineError::Io)?;
            if chunk.is_empty() {
                break;
            }
            any = true;
            let end = chunk.iter().position(|&byte| byte == b'\n');
            let count = end.map_or(chunk.len(), |at| at + 1);
            too_long |= self.buffer.len() + count > MAX_BYTES;
            if !too_long {
                self.buffer.extend_from_slice(&chunk[..count]);
            }
            self.reader.consume(count);
            if end.is_some() {
                break;
            }
        }
        self.line += u64::from(any);
        match (any, too_long) {
            (false, _) => Ok(None),
            (true, true) => Err(LineError::TooLong),
            (true, false) => Ok(Some((self.line, &self.buffer))),
        }
    }
}
