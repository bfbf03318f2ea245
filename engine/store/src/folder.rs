//! Folders: filled under another name, synced, renamed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tracing::trace;

use crate::file::{UNFINISHED, folder_of, sync_folder};

/// A folder that is to replace `path` once it is whole. Dropped, it is gone. One process at a time: its
/// name is `path`'s with [`UNFINISHED`] in front.
#[derive(Debug)]
pub struct DraftFolder {
    /// Where it is now.
    path: PathBuf,
    /// The name that it is to have.
    target: PathBuf,
}

impl DraftFolder {
    /// An empty one.
    ///
    /// # Errors
    /// The system's, also if a process that was killed has left one of this name.
    pub fn create(path: &Path) -> io::Result<DraftFolder> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let target = path.to_path_buf();
        let path = path.with_file_name(format!("{UNFINISHED}{}", name.to_string_lossy()));
        fs::create_dir(&path)?;
        Ok(DraftFolder { path, target })
    }

    /// Where its files are written; each is to be synced by its writer.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the names inside durable, then its own. What had this name is gone after: it moves aside
    /// first, because a rename replaces no full folder.
    ///
    /// # Errors
    /// The system's; then what had the name may lie aside, unfinished, but never half under it.
    pub fn publish(self) -> io::Result<()> {
        sync_folder(&self.path)?;
        let folder = folder_of(&self.target);
        let replaced = folder.join(format!("{UNFINISHED}replaced"));
        let occupied = self.target.exists();
        if occupied {
            rename(&self.target, &replaced)?;
        }
        rename(&self.path, &self.target)?;
        sync_folder(folder)?;
        if occupied { fs::remove_dir_all(&replaced) } else { Ok(()) }
    }
}

impl Drop for DraftFolder {
    fn drop(&mut self) {
        // Once published there is nothing of this name; before, an error is being reported.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Deletes the folder `path`. No half of it is ever met under its name.
///
/// # Errors
/// The system's.
pub fn remove_folder(path: &Path) -> io::Result<()> {
    let aside = folder_of(path).join(format!("{UNFINISHED}removed"));
    rename(path, &aside)?;
    fs::remove_dir_all(&aside)
}

/// Deletes a file or a folder with all that it holds, one by one.
///
/// # Errors
/// The system's.
pub fn remove(path: &Path) -> io::Result<()> {
    let is_folder = fs::symlink_metadata(path)?.is_dir();
    if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    trace!("renamed {} to {}", from.display(), to.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::File;
    use crate::file::tests::names;

    #[test]
    fn a_folder_is_replaced_and_removed_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("folder");
        for content in ["first", "second"] {
            let draft = DraftFolder::create(&path).unwrap();
            File::of(&draft.path().join("file"), content.as_bytes()).unwrap();
            assert!(DraftFolder::create(&path).is_err(), "one at a time");
            draft.publish().unwrap();
            assert_eq!(fs::read_to_string(path.join("file")).unwrap(), content);
            assert_eq!(names(dir.path()), ["folder"]);
        }
        drop(DraftFolder::create(&path).unwrap());
        assert_eq!(names(dir.path()), ["folder"]);
        remove_folder(&path).unwrap();
        assert!(names(dir.path()).is_empty() && remove_folder(&path).is_err());
    }

    #[test]
    fn a_file_or_a_folder_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("c"), "x").unwrap();
        for name in ["a", "c"] {
            remove(&dir.path().join(name)).unwrap();
        }
        assert!(names(dir.path()).is_empty() && remove(&dir.path().join("d")).is_err());
    }
}
