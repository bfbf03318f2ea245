//! Files: written under another name, synced, renamed; or appended to.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::TempPath;
use tracing::trace;

/// What is still being written has a name that begins so.
pub const UNFINISHED: &str = ".tmp-";

/// Replaces the file `path` by `bytes`: whole or not at all.
///
/// # Errors
/// The system's; then `path` is as it was, unless its folder alone could not be synced.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut draft = Draft::create(path)?;
    draft.write_all(bytes)?;
    draft.publish()
}

/// A file that is to replace `path` once it is whole. Until then it has another name in the same
/// folder, short and its own, so that neither a long name nor a second writer is in its way; dropped,
/// it is gone.
#[derive(Debug)]
pub struct Draft {
    file: File,
    temporary: TempPath,
    path: PathBuf,
}

impl Draft {
    /// An empty one.
    ///
    /// # Errors
    /// The system's.
    pub fn create(path: &Path) -> io::Result<Draft> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(UNFINISHED);
        // Temporary files are private by default; this one becomes an ordinary file.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        Ok(Draft::of(builder.tempfile_in(folder_of(path))?, path))
    }

    fn of(file: tempfile::NamedTempFile, path: &Path) -> Draft {
        let (file, temporary) = file.into_parts();
        let file = File { file, path: told(&temporary, path) };
        Draft { file, temporary, path: path.to_path_buf() }
    }

    /// Makes the content durable. It has no name yet.
    ///
    /// # Errors
    /// The system's; then nothing is left.
    pub fn finish(mut self) -> io::Result<Whole> {
        self.file.sync()?;
        Ok(Whole { temporary: self.temporary, path: self.path })
    }

    /// Makes the content durable, then the name.
    ///
    /// # Errors
    /// As for [`write()`].
    pub fn publish(self) -> io::Result<()> {
        let folder = folder_of(&self.path).to_path_buf();
        self.finish()?.rename()?;
        sync_folder(&folder)
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Draft {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// A [`Draft`] whose content is durable, and whose name still waits: for other files, without which it
/// would be half of something. Dropped, it is gone.
#[derive(Debug)]
pub struct Whole {
    temporary: TempPath,
    path: PathBuf,
}

impl Whole {
    /// The name that it waits for.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name; [`sync_folder`] makes that durable.
    ///
    /// # Errors
    /// The system's.
    pub fn rename(self) -> io::Result<()> {
        let from = told(&self.temporary, &self.path);
        self.temporary.persist(&self.path).map_err(|e| e.error)?;
        trace!("renamed {} to {}", from.display(), self.path.display());
        Ok(())
    }
}

/// `temporary` as it is told of: in the folder as the user wrote it, not from the root on.
fn told(temporary: &Path, path: &Path) -> PathBuf {
    let name = temporary.file_name().expect("a file has a name");
    if folder_of(path) == Path::new(".") { name.into() } else { folder_of(path).join(name) }
}

/// A file that is open under the name that it keeps: one to which lines are added, or one in a
/// [`crate::DraftFolder`].
#[derive(Debug)]
pub struct File {
    file: fs::File,
    path: PathBuf,
}

impl File {
    /// An empty one; what had this name loses its content.
    ///
    /// # Errors
    /// The system's.
    pub fn create(path: &Path) -> io::Result<File> {
        Ok(File { file: fs::File::create(path)?, path: path.to_path_buf() })
    }

    /// One to go on with behind its first `length` bytes. What follows them is cut off, durably.
    ///
    /// # Errors
    /// The system's.
    pub fn continued(path: &Path, length: u64) -> io::Result<File> {
        let file = fs::OpenOptions::new().append(true).open(path)?;
        let mut file = File { file, path: path.to_path_buf() };
        file.file.set_len(length)?;
        file.sync()?;
        Ok(file)
    }

    /// Creates `path` with `bytes`, durably.
    ///
    /// # Errors
    /// The system's.
    pub fn of(path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync()
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// The system's.
    pub fn sync(&mut self) -> io::Result<()> {
        sync(&self.file, &self.path)
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        trace!("wrote {}", self.path.display());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Read for File {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read(bytes)
    }
}

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

fn sync(file: &fs::File, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    trace!("synced {}", path.display());
    Ok(())
}

/// Makes names in the folder `path` durable: new ones, changed ones, and that some are gone.
///
/// # Errors
/// The system's.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    // Only Unix lets a folder be opened and synced.
    if cfg!(unix) { sync(&fs::File::open(path)?, path) } else { Ok(()) }
}

/// The folder that holds `path`: `.` for a bare name.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Whether a file or folder of this name is still being written, or was left so by a process that was
/// killed.
pub fn is_unfinished(name: &str) -> bool {
    name.starts_with(UNFINISHED)
}

/// What is unfinished in `folder`; nothing if there is no such folder.
///
/// # Errors
/// The system's.
pub fn unfinished(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry?;
        if is_unfinished(&entry.file_name().to_string_lossy()) {
            paths.push(entry.path());
        }
    }
    Ok(paths)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        entries.map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "old").unwrap();
        let mut draft = Draft::create(&path).unwrap();
        draft.write_all(b"n__").unwrap();
        draft.seek(SeekFrom::Start(1)).unwrap();
        draft.write_all(b"ew").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        let [left] = &unfinished(dir.path()).unwrap()[..] else { panic!("one draft") };
        assert!(is_unfinished(left.file_name().unwrap().to_str().unwrap()));
        draft.publish().unwrap();
        assert_eq!(
            (fs::read(&path).unwrap(), names(dir.path())),
            (b"new".to_vec(), vec!["file".into()])
        );
    }

    #[test]
    fn what_is_dropped_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut draft = Draft::create(&path).unwrap();
        draft.write_all(b"half").unwrap();
        drop(draft);
        drop(Draft::create(&path).unwrap().finish().unwrap());
        assert!(names(dir.path()).is_empty());
        assert!(unfinished(&dir.path().join("none")).unwrap().is_empty());
    }

    #[test]
    fn a_failed_write_leaves_the_target_alone() {
        let dir = tempfile::tempdir().unwrap();
        let taken = dir.path().join("taken");
        fs::create_dir(&taken).unwrap();
        fs::write(taken.join("inside"), "kept").unwrap();
        assert!(write(&taken, b"new").is_err());
        assert_eq!(names(dir.path()), ["taken"]);
        assert!(write(&dir.path().join("none/file"), b"new").is_err());
    }

    /// As long as a name may be, and two writers of it at once.
    #[test]
    fn neither_a_long_name_nor_a_second_writer_is_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n".repeat(255));
        let (mut first, mut second) =
            (Draft::create(&path).unwrap(), Draft::create(&path).unwrap());
        first.write_all(b"first").unwrap();
        second.write_all(b"second").unwrap();
        first.publish().unwrap();
        second.publish().unwrap();
        assert_eq!((fs::read(&path).unwrap(), names(dir.path()).len()), (b"second".to_vec(), 1));
    }

    /// Others may read what this process writes, as far as the user's mask lets them.
    #[cfg(unix)]
    #[test]
    fn a_file_has_the_permissions_of_any_other() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        fs::write(dir.path().join("plain"), "").unwrap();
        write(&dir.path().join("ours"), b"").unwrap();
        assert_eq!(mode("ours"), mode("plain"));
    }

    /// A device of characters cannot be synced: whoever asks the system is told so, and in place of a
    /// file's content it keeps the file from its name.
    #[cfg(target_os = "linux")]
    #[test]
    fn what_cannot_be_synced_is_not_named() {
        let null = Path::new("/dev/null");
        let mut file = File::create(null).unwrap();
        file.write_all(b"x").unwrap();
        assert_eq!(file.sync().unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert!(File::of(null, b"x").is_err() && sync_folder(null).is_err());

        let dir = tempfile::tempdir().unwrap();
        let device = |at: &Path| {
            fs::File::create(at)?;
            fs::File::options().write(true).open(null)
        };
        let file = tempfile::Builder::new().make_in(dir.path(), device).unwrap();
        assert!(Draft::of(file, &dir.path().join("named")).publish().is_err());
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn a_continued_file_is_cut_and_grows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        File::of(&path, b"one\ntwo\ntorn").unwrap();
        let mut file = File::continued(&path, 4).unwrap();
        file.write_all(b"more\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one\nmore\n");
        assert!(File::continued(&dir.path().join("none"), 0).is_err());
    }
}
