//! Tensors in a safetensors file: the header's length in 8 bytes, the header as JSON, then the bytes of
//! all tensors without a gap. Format: <https://github.com/huggingface/safetensors>.
//!
//! Written and read tensor by tensor, so that neither needs room for more than the caller holds. The
//! header's types are those of the `safetensors` crate, which also checks that offsets leave no gap, do
//! not overlap and fit types and shapes.
//!
//! ```
//! use store::tensors::{Dtype, Entry, Layout, Reader, Writer};
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("weights.safetensors");
//! let entry = Entry { name: "bias".to_string(), dtype: Dtype::F32, shape: vec![2] };
//! let layout = Layout::new(&[entry], &[("step", "100")]);
//! let mut writer = Writer::new(store::Draft::create(&path)?, &layout)?;
//! writer.begin("bias");
//! [0.5_f32, -1.0].iter().try_for_each(|x| writer.write(&x.to_le_bytes()))?;
//! let (draft, sum) = writer.end();
//! draft.publish()?;
//! assert_eq!(sum.bytes, std::fs::metadata(&path)?.len());
//!
//! let reader = Reader::open(&path)?;
//! assert_eq!(reader.info("bias").unwrap().shape, [2]);
//! assert_eq!(reader.bytes("bias")?[4..], (-1.0_f32).to_le_bytes());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use safetensors::tensor::Metadata;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

pub use safetensors::Dtype;
pub use safetensors::tensor::TensorInfo;

use crate::map::Mapped;
use crate::sum::{CHUNK, Running, Sum};

/// Bytes before the header: its length, little-endian.
const LENGTH_BYTES: u64 = 8;

/// Longest header that the format allows, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// The header's key that is no tensor: strings about the file.
const ABOUT: &str = "__metadata__";

// ---- writing ------------------------------------------------------------------------------------

/// One tensor that a file is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Unique within its file.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Elements along each dimension.
    pub shape: Vec<usize>,
}

/// Where everything lies in a file that is to be written.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Length and header, padded with spaces to 8 bytes.
    header: Vec<u8>,
    /// Each tensor's name and the offset of its first byte, from the header's end.
    starts: Vec<(String, u64)>,
    data_bytes: u64,
}

impl Layout {
    /// The tensors in order, and strings about the file.
    ///
    /// # Panics
    /// If a name occurs twice or a tensor's bits fill no whole bytes: a caller bug.
    pub fn new(entries: &[Entry], about: &[(&str, &str)]) -> Layout {
        let (mut end, mut infos, mut starts) = (0, Vec::new(), Vec::new());
        for Entry { name, dtype, shape } in entries {
            let begin = end;
            end += shape.iter().product::<usize>() * dtype.bitsize() / 8;
            let info =
                TensorInfo { dtype: *dtype, shape: shape.clone(), data_offsets: (begin, end) };
            infos.push((name.clone(), info));
            starts.push((name.clone(), begin as u64));
        }
        let about = about.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        let about = Some(about.collect::<HashMap<_, _>>()).filter(|about| !about.is_empty());
        let metadata = Metadata::new(about, infos).expect("elements must fill whole bytes");
        assert_eq!(metadata.tensors().len(), entries.len(), "tensor names must be unique");
        let mut json = serde_json::to_vec(&metadata).expect("names and numbers always fit JSON");
        json.resize(json.len().next_multiple_of(8), b' ');
        let header = [&(json.len() as u64).to_le_bytes(), json.as_slice()].concat();
        Layout { header, starts, data_bytes: end as u64 }
    }

    /// Bytes of the whole file.
    pub fn bytes(&self) -> u64 {
        self.header.len() as u64 + self.data_bytes
    }
}

/// Writes a file: each tensor is begun, in the layout's order, and its bytes added in any number of
/// parts.
pub struct Writer<'a, W> {
    out: W,
    layout: &'a Layout,
    sum: Running,
    /// Tensors begun.
    begun: usize,
}

impl<'a, W: Write> Writer<'a, W> {
    /// Writes the header to `out`.
    ///
    /// # Errors
    /// The system's.
    pub fn new(out: W, layout: &'a Layout) -> io::Result<Self> {
        let mut writer = Writer { out, layout, sum: Running::default(), begun: 0 };
        writer.write(&layout.header)?;
        Ok(writer)
    }

    /// Begins the tensor `name`.
    ///
    /// # Panics
    /// If another is next, or the one before has too few or too many bytes: a caller bug.
    pub fn begin(&mut self, name: &str) {
        let (next, start) = &self.layout.starts[self.begun];
        let at = self.layout.header.len() as u64 + start;
        assert_eq!((name, self.sum.bytes()), (&next[..], at), "tensors: another place in the file");
        self.begun += 1;
    }

    /// Adds bytes, little-endian, of the tensor that was begun.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        for chunk in bytes.chunks(CHUNK) {
            self.sum.add(chunk);
            self.out.write_all(chunk)?;
        }
        Ok(())
    }

    /// What was written to, and what the file must be.
    ///
    /// # Panics
    /// If tensors are missing or the last one has too few or too many bytes: a caller bug.
    pub fn end(self) -> (W, Sum) {
        let (begun, bytes) = (self.layout.starts.len(), self.layout.bytes());
        assert_eq!((self.begun, self.sum.bytes()), (begun, bytes), "tensors: not all are written");
        (self.out, self.sum.end())
    }
}

// ---- reading ------------------------------------------------------------------------------------

/// How the text begins that git-LFS leaves in place of a file. As a length it would be far too long.
const LFS_POINTER: &[u8; LENGTH_BYTES as usize] = b"version ";

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The system's error.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is no safetensors file, or not all of one.
    #[error("{0}")]
    Content(String),
}

/// An open file whose header has been read and agrees with itself and with the file's length.
#[derive(Debug)]
pub struct Reader {
    file: fs::File,
    metadata: Metadata,
    /// Offset of the first tensor's first byte.
    data: u64,
}

impl Reader {
    /// Opens the file `path`.
    ///
    /// # Errors
    /// As [`Reader::new`].
    pub fn open(path: &Path) -> Result<Reader, Unusable> {
        Reader::new(fs::File::open(path)?)
    }

    /// Reads the header of `file`.
    ///
    /// # Errors
    /// [`Unusable::Content`] if the header is too long, does not parse, names a tensor twice or a type
    /// that the format does not have; if offsets overlap, leave a gap or do not fit type and shape; if
    /// the file is shorter or longer than its header says.
    pub fn new(mut file: fs::File) -> Result<Reader, Unusable> {
        let bad = |what: String| Err(Unusable::Content(what));
        let length = file.metadata()?.len();
        if length < LENGTH_BYTES {
            return bad(format!("truncated: {length} bytes are no safetensors file"));
        }
        let mut prefix = [0; LENGTH_BYTES as usize];
        file.rewind()?;
        file.read_exact(&mut prefix)?;
        if prefix == *LFS_POINTER {
            return bad(
                "a git-LFS pointer in place of the file, get it by git lfs pull".to_string()
            );
        }
        let header_bytes = u64::from_le_bytes(prefix);
        if header_bytes > MAX_HEADER {
            return bad(format!("corrupt: a header of {header_bytes} bytes"));
        }
        let data = LENGTH_BYTES + header_bytes;
        if length < data {
            return bad(format!("truncated: {length} bytes, its header alone {data}"));
        }
        let mut text = vec![0; header_bytes as usize];
        file.read_exact(&mut text)?;
        let metadata = match metadata(&text) {
            Ok(metadata) => metadata,
            Err(e) => return bad(format!("corrupt safetensors header: {e}")),
        };
        let expected = data + metadata.data_len() as u64;
        if length != expected {
            let what = if length < expected { "truncated" } else { "corrupt" };
            return bad(format!("{what}: {length} bytes, its header says {expected}"));
        }
        Ok(Reader { file, metadata, data })
    }

    /// The tensors' names, in the order of their bytes.
    pub fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// Type and shape of the tensor `name`, if there is one.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.metadata.info(name)
    }

    /// The bytes of the tensor `name`, little-endian, at any alignment.
    ///
    /// # Errors
    /// The system's.
    ///
    /// # Panics
    /// If there is none: a caller bug.
    pub fn bytes(&self, name: &str) -> io::Result<Mapped> {
        let info = self.info(name).unwrap_or_else(|| panic!("tensors: no tensor {name}"));
        let (begin, end) = info.data_offsets;
        Mapped::new(&self.file, self.data + begin as u64..self.data + end as u64)
    }
}

/// A header's content, checked.
fn metadata(text: &[u8]) -> Result<Metadata, String> {
    let Header { about, mut tensors } = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    // Writers may list tensors in any order; the crate wants that of their bytes.
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    Metadata::new(about, tensors).map_err(|e| e.to_string())
}

/// A header as it stands in a file. The crate's own would let the last of two equal names win.
struct Header {
    about: Option<HashMap<String, String>>,
    tensors: Vec<(String, TensorInfo)>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Header, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let (mut about, mut tensors, mut seen) = (None, Vec::new(), HashSet::new());
                while let Some(name) = map.next_key::<String>()? {
                    if !seen.insert(name.clone()) {
                        return Err(A::Error::custom(format!("{name} is there twice")));
                    }
                    if name == ABOUT {
                        about = map.next_value()?;
                    } else {
                        tensors.push((name, map.next_value()?));
                    }
                }
                Ok(Header { about, tensors })
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests;
