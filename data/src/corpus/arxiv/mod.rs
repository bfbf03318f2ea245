//! arXiv: the TeX of a submission is one document.
//!
//! Source of the rules: Touvron et al. 2023, arXiv:2302.13971, section 2.1, after Lewkowycz et al.
//! 2022, arXiv:2206.14858: all before the first section and the bibliography cut, comments removed,
//! definitions and macros of the authors' own expanded where they are used.
//!
//! Input: arXiv's `.tar` of one `.gz` a submission, each the gzip of a tar or of one TeX file; or
//! such a `.tar.gz` by itself. Nothing is unpacked to disk, and only TeX is held in memory.
//!
//! ```
//! use data::corpus::arxiv::{Options, Submission, document};
//!
//! let tex = r"\title{Numbers}
//! \newcommand{\R}{\mathbb{R}}
//! \section{Reals} % the first
//! Let $x \in \R$.";
//! let files = vec![("main.tex".to_string(), tex.into())];
//! let submission = Submission { id: "math0211159".into(), month: "0211".into(), files };
//! let (document, _) = document(submission, &Options::default());
//! assert_eq!(document.id, "math/0211159");
//! assert_eq!(document.text, "\\section{Reals}\nLet $x \\in \\mathbb{R}$.");
//! ```

mod cut;
mod expand;
mod flatten;
mod lexer;
pub mod redpajama;

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::cut::Cuts;
use self::flatten::Files;
use super::document::{Document, Trail};
use super::encoding;
use super::input::{self, Metered, Piece, Shard};
use super::sink::Sink;
use crate::Error;
use crate::text::find;

/// Thresholds, and the quirks of RedPajama's script that the proof of agreement needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Bytes of TeX in a submission, and of what it expands to, at most.
    pub max_bytes: usize,
    /// Bytes that a submission unpacks to, pictures and all, at most.
    pub max_unpacked: u64,
    /// Keeps submissions without any heading, from their title on.
    pub without_section: bool,
    /// Cuts appendices too.
    pub cut_appendix: bool,
    /// Cuts all that follows a bibliography.
    pub cut_after_bibliography: bool,
    /// Cleans as RedPajama does, see [`redpajama`].
    pub redpajama: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            max_bytes: 64 << 20,
            max_unpacked: 4 << 30,
            without_section: true,
            cut_appendix: false,
            cut_after_bibliography: false,
            redpajama: false,
        }
    }
}

/// A submission as it was unpacked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Submission {
    /// arXiv's identifier.
    pub id: String,
    /// The month's folder that it lay in.
    pub month: String,
    /// Names and bytes of its TeX files, in the archive's order.
    pub files: Vec<(String, Vec<u8>)>,
}

/// The document that a submission is.
pub fn document(submission: Submission, options: &Options) -> (Document, Trail) {
    let mut trail = Trail::default();
    let id = identifier(&submission.id);
    let mut meta = Map::new();
    meta.insert("url".into(), Value::from(format!("https://arxiv.org/abs/{id}")));
    meta.insert("yymm".into(), Value::from(submission.month));
    meta.insert("files".into(), Value::from(submission.files.len()));
    let mut document = Document { text: String::new(), source: "arxiv".into(), id, meta };
    if options.redpajama {
        as_redpajama(submission.files, options, &mut document, &mut trail);
    } else {
        as_paper(submission.files, options, &mut document, &mut trail);
    }
    if trail.dropped().is_none() {
        trail.at_least("text", document.text.len() as f64, 1.0);
    }
    (document, trail)
}

fn as_paper(
    files: Vec<(String, Vec<u8>)>,
    options: &Options,
    document: &mut Document,
    trail: &mut Trail,
) {
    let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    let mut encoding = "utf-8";
    let decode = |(name, bytes): (String, Vec<u8>)| {
        let (text, found) = encoding::decode(bytes, declared);
        if found != "utf-8" {
            encoding = found;
        }
        (name, text.replace("\r\n", "\n").replace('\r', "\n"))
    };
    let files: Vec<_> = files.into_iter().map(decode).collect();
    document.meta.insert("encoding".into(), Value::from(encoding));
    let flat = Files::new(&files, options.max_bytes).flatten();
    document.meta.insert("files_read".into(), Value::from(flat.files));
    trail.cut("comments", bytes.saturating_sub(flat.text.len()));
    let length = flat.text.len() as f64;
    if !trail.say("tex_bytes", !flat.too_long, length, options.max_bytes as f64) {
        return;
    }
    let limit = options.max_bytes as f64;
    let Ok(expanded) = expand::expand(flat.text, options.max_bytes) else {
        trail.say("expanded_bytes", false, f64::INFINITY, limit);
        return;
    };
    trail.say("expanded_bytes", true, expanded.text.len() as f64, limit);
    document.meta.insert("macros_expanded".into(), Value::from(expanded.replaced));
    document.meta.insert("macros_kept".into(), Value::from(expanded.kept));
    let cuts =
        Cuts { appendix: options.cut_appendix, after_bibliography: options.cut_after_bibliography };
    let (text, heading) = cut::cut(&expanded.text, cuts);
    let text = text.trim();
    trail.cut("front_and_bibliography", expanded.text.len() - text.len());
    document.text = text.to_string();
    let section = f64::from(u8::from(heading));
    trail.say("section", heading || options.without_section, section, 1.0);
}

/// The encoding that `\usepackage[..]{inputenc}` names.
fn declared(bytes: &[u8]) -> Option<String> {
    let end = memchr::memmem::find(bytes, b"]{inputenc}")?;
    let start = bytes[..end].iter().rposition(|&byte| byte == b'[')?;
    Some(String::from_utf8_lossy(&bytes[start + 1..end]).trim().to_string())
}

fn as_redpajama(
    files: Vec<(String, Vec<u8>)>,
    options: &Options,
    document: &mut Document,
    trail: &mut Trail,
) {
    let count = files.len();
    let texts: Vec<String> =
        files.into_iter().map_while(|(_, bytes)| String::from_utf8(bytes).ok()).collect();
    if !trail.say("utf8", texts.len() == count, texts.len() as f64, count as f64) {
        return;
    }
    match redpajama::clean(texts.iter().map(String::as_str), options.max_bytes) {
        Ok(text) => document.text = text,
        Err(_) => {
            trail.say("macros", false, 0.0, 1.0);
        }
    }
}

/// `math0211159` is `math/0211159`; newer identifiers are as they are.
fn identifier(stem: &str) -> String {
    let digits = stem.find(|c: char| c.is_ascii_digit()).unwrap_or(stem.len());
    let (archive, number) = stem.split_at(digits);
    let old = !archive.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if old && !number.is_empty() { format!("{archive}/{number}") } else { stem.to_string() }
}

/// See [`super::Source::shards`].
pub(super) fn shards(inputs: &[PathBuf], shard_bytes: u64) -> Result<Vec<Shard>, Error> {
    let known =
        |path: &Path| path.extension().is_some_and(|e| e == "tar" || e == "gz" || e == "tgz");
    let files = find(inputs, &known, ".tar, .tar.gz, .tgz, .gz")?;
    let pieces: Result<_, _> = files.iter().map(|path| Piece::whole(path)).collect();
    pieces.map(|pieces| input::group(pieces, shard_bytes))
}

/// See [`super::Source::read`].
pub(super) fn read(options: &Options, shard: &Shard, sink: &mut Sink) -> Result<(), Error> {
    for piece in &shard.pieces {
        let file = std::fs::File::open(&piece.path).map_err(Error::read(&piece.path))?;
        let file = BufReader::with_capacity(1 << 16, Metered::new(file, sink.meter()));
        if piece.path.extension().is_some_and(|e| e == "tar") {
            read_tar(options, piece, file, sink)?;
        } else {
            let place = piece.path.display().to_string();
            submit(options, &piece.path, file, place, sink)?;
        }
    }
    Ok(())
}

/// Reads arXiv's own archive. After damage to it nothing of it can be trusted; damage to one
/// submission is that submission's alone.
fn read_tar(
    options: &Options,
    piece: &Piece,
    file: impl Read,
    sink: &mut Sink,
) -> Result<(), Error> {
    let place = piece.path.display().to_string();
    let mut archive = tar::Archive::new(file);
    let entries = match archive.entries() {
        Ok(entries) => entries,
        Err(e) => {
            sink.pass_over("unreadable", place, e.to_string());
            return Ok(());
        }
    };
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(e) => {
                // A stop looks like a failed read.
                sink.meter().check()?;
                sink.pass_over("unreadable", place, e.to_string());
                return Ok(());
            }
        };
        let path = entry.path().map(|path| path.into_owned()).unwrap_or_default();
        if path.extension().is_some_and(|e| e == "gz") {
            let inner = format!("{place}: {}", path.display());
            submit(options, &path, BufReader::new(entry), inner, sink)?;
        }
    }
    Ok(())
}

/// Unpacks one submission and hands it on.
fn submit(
    options: &Options,
    path: &Path,
    packed: impl BufRead,
    place: String,
    sink: &mut Sink,
) -> Result<(), Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let ends = [".tar.gz", ".tgz", ".gz"];
    let id = ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name).to_string();
    let month = path.parent().and_then(Path::file_stem).unwrap_or_default();
    let month = month.to_string_lossy().into_owned();
    let unpacked = flate2::bufread::MultiGzDecoder::new(packed);
    match unpack(Limited { inner: unpacked, room: options.max_unpacked }, options.max_bytes) {
        Ok(files) => {
            let (document, trail) = document(Submission { id, month, files }, options);
            sink.push(document, trail)
        }
        Err(e) => {
            // A stop looks like a failed read.
            sink.meter().check()?;
            let kind = if e.kind() == BOMB { "too_long" } else { "unreadable" };
            sink.pass_over(kind, place, e.to_string());
            Ok(())
        }
    }
}

/// What an error is whose cause is more data than allowed.
const BOMB: io::ErrorKind = io::ErrorKind::FileTooLarge;

/// The TeX files of a tar, or the one file that is no tar.
fn unpack(mut unpacked: impl Read, max_bytes: usize) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut head = Vec::new();
    unpacked.by_ref().take(512).read_to_end(&mut head)?;
    let is_tar = is_tar_header(&head);
    let mut unpacked = io::Cursor::new(head).chain(unpacked);
    let mut room = max_bytes as u64;
    let mut take = |reader: &mut dyn Read| {
        let mut bytes = Vec::new();
        room -= reader.take(room).read_to_end(&mut bytes)? as u64;
        if room == 0 {
            return Err(io::Error::new(BOMB, format!("more than {max_bytes} bytes of TeX")));
        }
        Ok(bytes)
    };
    if !is_tar {
        let bytes = take(&mut unpacked)?;
        // Some submissions are a picture of their pages.
        let tex = !bytes.starts_with(b"%PDF") && !bytes.starts_with(b"%!PS");
        return Ok(if tex { vec![("main.tex".to_string(), bytes)] } else { Vec::new() });
    }
    let mut files = Vec::new();
    for entry in tar::Archive::new(unpacked).entries()? {
        let mut entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if name.ends_with(".tex") && entry.header().entry_type().is_file() {
            files.push((name, take(&mut entry)?));
        }
    }
    Ok(files)
}

/// Whether 512 bytes are the header of a tar's first member: its checksum says so.
fn is_tar_header(head: &[u8]) -> bool {
    let Some(field) = head.get(148..156) else { return false };
    let field: String = field.iter().map(|&b| b as char).collect();
    let Ok(told) = u32::from_str_radix(field.trim_matches([' ', '\0']), 8) else { return false };
    let blank = 8 * u32::from(b' ');
    let sum: u32 = head[..148].iter().chain(&head[156..]).map(|&b| u32::from(b)).sum();
    head.len() == 512 && told == sum + blank
}

/// Fails when more than `room` bytes come out.
struct Limited<R> {
    inner: R,
    room: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.room = self
            .room
            .checked_sub(count as u64)
            .ok_or_else(|| io::Error::new(BOMB, "unpacks to more than a submission may"))?;
        Ok(count)
    }
}
