//! Writing files so that a reader, or a crash, never meets half of one.
//!
//! Everything of a run that must be durable in a certain order passes here, and each act is told once
//! it is done, at level trace: `wrote`, `synced`, `renamed`. With `RUST_LOG=train::files=trace` the
//! order shows, and tests hold a run's against what a power cut allows.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tracing::trace;

/// Names that start so are unfinished and may be deleted by whoever owns the folder.
pub(crate) const TEMP_PREFIX: &str = ".tmp-";

/// Replaces `path` by `bytes`: temporary sibling, sync, rename, sync of the folder. On failure
/// the old file is untouched and the sibling is gone.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let temp = path.with_file_name(format!("{TEMP_PREFIX}{}", name.to_string_lossy()));
    let written = write_synced(&temp, bytes).and_then(|()| rename(&temp, path));
    if written.is_err() {
        // The first error is the one to report; a sibling left behind does no harm.
        let _ = fs::remove_file(&temp);
    }
    written?;
    sync_dir(&parent(path))
}

/// Creates or overwrites `path` with `bytes` and syncs it.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    write_all(&mut file, path, bytes)?;
    sync(&file, path)
}

/// Writes all of `bytes` to `file`, which is that of `path`.
pub(crate) fn write_all(file: &mut File, path: &Path, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    trace!("wrote {}", path.display());
    Ok(())
}

/// Makes what was written to `file` durable, which is that of `path`.
pub(crate) fn sync(file: &File, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    trace!("synced {}", path.display());
    Ok(())
}

/// Makes renames and creations inside `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    sync(&File::open(dir)?, dir)
}

/// Gives `from` the name `to`.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    trace!("renamed {} to {}", from.display(), to.display());
    Ok(())
}

/// The folder that holds `path`: `.` for a bare name.
pub(crate) fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device of characters cannot be synced: whoever asks the system is told so.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_system_is_asked_to_sync() {
        let path = Path::new("/dev/null");
        let mut file = File::options().write(true).open(path).unwrap();
        write_all(&mut file, path, b"x").unwrap();
        assert_eq!(sync(&file, path).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert!(write_synced(path, b"x").is_err() && sync_dir(path).is_err());
    }

    #[test]
    fn a_failed_write_leaves_no_sibling() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("taken");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("inside"), "kept").unwrap();
        assert!(write_atomic(&target, b"new").is_err());
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(names, [target]);
    }
}
