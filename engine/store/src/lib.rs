//! Files and folders that a reader, or a crash, never meets half of, and tensors in them.
//!
//! - [`write()`] and [`Draft`] replace one file; [`Whole`] holds a finished one back until others are
//!   finished too.
//! - [`DraftFolder`] replaces a folder.
//! - [`File`] is open under its own name, to be appended to or to lie in a folder in the making.
//! - [`tensors`] reads and writes safetensors, tensor by tensor, with a checksum (feature `tensors`, on by
//!   default).
//!
//! The rule: what has a name is durable. Content is synced before it gets its name, and the folder
//! after. What a killed process leaves has a name that begins with [`UNFINISHED`]; whoever owns the
//! folder deletes it, see [`unfinished`] and [`remove`].
//!
//! Each act is told once it is done, at level trace: `wrote`, `synced`, `renamed`. With
//! `RUST_LOG=store=trace` the order shows, and tests hold a run's against what a power cut allows.
//!
//! Errors are the system's: the caller knows what the file is for, and names it and the remedy.
//!
//! ```
//! use std::io::Write;
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("notes.txt");
//! let mut draft = store::Draft::create(&path)?;
//! draft.write_all(b"all of it")?;
//! assert!(!path.exists());
//! draft.publish()?;
//! assert_eq!(std::fs::read(&path)?, b"all of it");
//! # Ok::<(), std::io::Error>(())
//! ```
#![deny(unsafe_code)]

mod file;
mod folder;
mod map;
mod sum;
#[cfg(feature = "tensors")]
pub mod tensors;

pub use file::{Draft, File, UNFINISHED, Whole, is_unfinished, sync_folder, unfinished, write};
pub use folder::{DraftFolder, remove, remove_folder};
pub use map::Mapped;
pub use sum::Sum;
