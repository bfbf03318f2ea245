//! The one error type of the engine and the crates that build on it.
//!
//! ```
//! let error = engine::Error::Config("lr is -1: must be above 0".to_string());
//! assert_eq!(error.to_string().lines().count(), 1);
//! ```

use std::path::{Path, PathBuf};

/// What can go wrong outside a caller's control. Every message is one line that names the thing,
/// its value and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("{path}: {source}; {remedy}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A value in a configuration or a file's content is unusable.
    #[error("{0}")]
    Config(String),
    /// The requested device does not exist here.
    #[error("{0}")]
    Device(String),
    /// A loss, a gradient or a weight is NaN or infinite.
    #[error("{0}")]
    NonFinite(String),
}

impl Error {
    /// An I/O error on `path`, with its remedy.
    pub fn io(path: &Path, source: std::io::Error, remedy: &'static str) -> Self {
        Error::Io { path: path.to_path_buf(), source, remedy }
    }
}
