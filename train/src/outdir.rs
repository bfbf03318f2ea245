//! The output folder: it holds one run, and one process at a time writes to it.
//!
//! A run that turns out to be impossible leaves no trace: what [`OutDir::create`] and the
//! preparation of tokens made is removed again, unless [`OutDir::begin`] has been called.
//!
//! ```
//! use train::config::RunConfig;
//! use train::outdir::{Existing, OutDir};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = &dir.path().join("out");
//! let mut out = OutDir::create(path, Existing::Refuse)?;
//! // Here inputs are read: an error up to now leaves no folder behind.
//! out.begin()?;
//! RunConfig::default().write(&out.run_toml())?;
//! drop(out);
//!
//! let refused = OutDir::create(path, Existing::Refuse).unwrap_err();
//! assert!(refused.to_string().contains("already holds a run"));
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint;
use crate::error::Error;

/// Files and folders that belong to a run. Its tokens are none of them: they can be made again,
/// and another run over the same text takes them as they are.
const RUN_NAMES: [&str; 13] = [
    "run.toml",
    "metrics.jsonl",
    "loss.svg",
    "checkpoints",
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
];

const TOKENS: &str = "tokens";

const CANNOT_DELETE: &str = "cannot delete the earlier run's";

const LOCK_NAME: &str = ".lock";

/// What is meant to happen to a run that the folder already holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// There must be none.
    Refuse,
    /// There must be one with a checkpoint, and it goes on.
    Resume,
    /// It is deleted. Files that no run writes stay.
    Overwrite,
    /// It stays as it is: what is written beside it belongs to no run.
    Keep,
}

/// An output folder that this process may write to. The lock ends with this value, or with the
/// process, however that ends.
#[derive(Debug)]
pub struct OutDir {
    path: PathBuf,
    existing: Existing,
    begun: bool,
    /// Folders that were made for this run, the innermost first.
    made: Vec<PathBuf>,
    /// Whether the file of the lock was there before.
    had_lock: bool,
    /// Tokens that were there before.
    had_tokens: BTreeSet<OsString>,
    _lock: File,
}

impl OutDir {
    /// Claims `path`, creating it if needed. A folder that is refused is left as it was.
    ///
    /// # Errors
    /// [`Error::Config`] if the folder holds another run, nothing to resume, is in use or is a
    /// file; [`Error::Io`] if it cannot be created or locked.
    pub fn create(path: &Path, existing: Existing) -> Result<OutDir, Error> {
        check(path, existing)?;
        let missing = path.ancestors().take_while(|dir| !dir.as_os_str().is_empty());
        let made = missing.take_while(|dir| !dir.exists()).map(Path::to_path_buf).collect();
        fs::create_dir_all(path).map_err(Error::io("cannot create the output folder", path))?;
        let had_lock = path.join(LOCK_NAME).exists();
        let lock = lock(path)?;
        let had_tokens = names(&path.join(TOKENS));
        let path = path.to_path_buf();
        let out = OutDir { path, existing, begun: false, made, had_lock, had_tokens, _lock: lock };
        // Another run may have come and gone between the first look and the lock.
        check(&out.path, existing)?;
        Ok(out)
    }

    /// To be called when all inputs have been read and nothing speaks against the run: from here
    /// on the folder is this run's. With [`Existing::Overwrite`] the earlier run is deleted now.
    ///
    /// # Errors
    /// [`Error::Io`] if something cannot be deleted.
    pub fn begin(&mut self) -> Result<(), Error> {
        if self.existing == Existing::Overwrite {
            clear(&self.path, is_of_run)?;
        }
        clear(&self.path, store::is_unfinished)?;
        if self.tokens().is_dir() {
            clear(&self.tokens(), store::is_unfinished)?;
        }
        self.begun = true;
        Ok(())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The stored configuration.
    pub fn run_toml(&self) -> PathBuf {
        self.path.join("run.toml")
    }

    /// The metrics of each step.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// The plot of the losses.
    pub fn loss_svg(&self) -> PathBuf {
        self.path.join("loss.svg")
    }

    /// The roofline of a step.
    pub fn profile(&self) -> PathBuf {
        self.path.join("profile.json")
    }

    /// The calls of ops, as trace events.
    pub fn trace(&self) -> PathBuf {
        self.path.join("trace.json")
    }

    /// Where the tokens of text files are kept.
    pub fn tokens(&self) -> PathBuf {
        self.path.join(TOKENS)
    }

    /// The folder of all checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }
}

impl Drop for OutDir {
    /// Leaves the folder as it was if the run did not begin. What cannot be removed stays: an
    /// error is being reported already.
    fn drop(&mut self) {
        if self.begun {
            return;
        }
        for name in names(&self.tokens()).difference(&self.had_tokens) {
            let _ = fs::remove_file(self.tokens().join(name));
        }
        if self.had_tokens.is_empty() {
            let _ = fs::remove_dir(self.tokens());
        }
        if !self.had_lock {
            let _ = fs::remove_file(self.path.join(LOCK_NAME));
        }
        for dir in &self.made {
            let _ = fs::remove_dir(dir);
        }
    }
}

/// What the folder `path` holds; nothing if there is none.
fn names(path: &Path) -> BTreeSet<OsString> {
    fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect()
}

fn check(path: &Path, existing: Existing) -> Result<(), Error> {
    let refuse =
        |problem: &str| Err(Error::Config(format!("output folder {} {problem}", path.display())));
    if path.exists() && !path.is_dir() {
        return refuse("is a file: choose another --out");
    }
    match existing {
        Existing::Refuse if RUN_NAMES.iter().any(|name| path.join(name).exists()) => refuse(
            "already holds a run: continue it with --resume, delete it with --overwrite, or \
             choose another --out",
        ),
        Existing::Resume if checkpoint::list(&path.join("checkpoints"))?.is_empty() => refuse(
            "has no checkpoint, so there is nothing to resume: start with --overwrite in place \
             of --resume, or give the --out of the run to continue",
        ),
        _ => Ok(()),
    }
}

fn lock(path: &Path) -> Result<File, Error> {
    let lock_path = path.join(LOCK_NAME);
    let file = File::create(&lock_path).map_err(Error::io("cannot create", &lock_path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Config(format!(
            "output folder {} is in use by another process: wait for it, or choose another --out",
            path.display()
        ))),
        Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => {
            tracing::warn!("{} has no file locks: start no second run there", path.display());
            Ok(file)
        }
        Err(TryLockError::Error(e)) => Err(Error::io("cannot lock", &lock_path)(e)),
    }
}

/// Whether a run writes `name`; weights in shards have names of their own.
fn is_of_run(name: &str) -> bool {
    let shard = name.starts_with("model-") && name.ends_with(".safetensors");
    shard || RUN_NAMES.contains(&name)
}

/// Deletes the entries of `path` whose names are `unwanted`.
fn clear(path: &Path, unwanted: fn(&str) -> bool) -> Result<(), Error> {
    for entry in fs::read_dir(path).map_err(Error::io(CANNOT_DELETE, path))? {
        let entry = entry.map_err(Error::io(CANNOT_DELETE, path))?;
        if !unwanted(&entry.file_name().to_string_lossy()) {
            continue;
        }
        let target = entry.path();
        store::remove(&target).map_err(Error::io(CANNOT_DELETE, &target))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path, existing: Existing) -> String {
        let error = OutDir::create(path, existing).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    }

    fn names(path: &Path) -> Vec<String> {
        super::names(path).into_iter().map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn a_folder_with_a_run_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        for name in RUN_NAMES {
            let out = dir.path().join(name.replace('.', "-"));
            fs::create_dir(&out).unwrap();
            fs::write(out.join(name), "x").unwrap();
            let text = refusal(&out, Existing::Refuse);
            assert!(text.contains(out.to_str().unwrap()), "{text}");
            assert!(text.contains("--resume") && text.contains("--out"), "{text}");
            assert_eq!(names(&out), [name]);
        }
    }

    #[test]
    fn a_folder_without_a_checkpoint_cannot_be_resumed_and_is_not_created() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        assert!(refusal(&out, Existing::Resume).contains("nothing to resume"));
        assert!(!out.exists());
        fs::create_dir_all(out.join("checkpoints/.tmp-step-000001")).unwrap();
        assert!(refusal(&out, Existing::Resume).contains("nothing to resume"));
        fs::create_dir_all(out.join("checkpoints/step-000001")).unwrap();
        OutDir::create(&out, Existing::Resume).unwrap();
    }

    #[test]
    fn a_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        fs::write(&out, "text").unwrap();
        for existing in [Existing::Refuse, Existing::Resume, Existing::Overwrite] {
            assert!(refusal(&out, existing).contains("is a file"));
        }
        assert_eq!(fs::read_to_string(&out).unwrap(), "text");
    }

    #[test]
    fn overwriting_deletes_the_run_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        fs::create_dir_all(out.join("checkpoints/step-000001")).unwrap();
        for name in ["run.toml", "model.safetensors", "model-00001-of-00002.safetensors", "notes"] {
            fs::write(out.join(name), "x").unwrap();
        }
        let before = names(&out);
        let mut claimed = OutDir::create(&out, Existing::Overwrite).unwrap();
        drop(claimed);
        assert_eq!(names(&out), before);
        claimed = OutDir::create(&out, Existing::Overwrite).unwrap();
        claimed.begin().unwrap();
        assert_eq!(names(&out), [".lock", "notes"]);
    }

    #[test]
    fn a_run_that_does_not_begin_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let prepare = |out: &Path| {
            let claimed = OutDir::create(out, Existing::Refuse).unwrap();
            fs::create_dir_all(claimed.tokens()).unwrap();
            fs::write(claimed.tokens().join("new.bin"), "x").unwrap();
            claimed
        };
        drop(prepare(&dir.path().join("deep/er/out")));
        assert!(names(dir.path()).is_empty());
        fs::create_dir_all(dir.path().join("out/tokens")).unwrap();
        fs::write(dir.path().join("out/tokens/old.bin"), "x").unwrap();
        drop(prepare(&dir.path().join("out")));
        assert_eq!(names(&dir.path().join("out")), ["tokens"]);
        assert_eq!(names(&dir.path().join("out/tokens")), ["old.bin"]);
    }

    #[test]
    fn what_a_killed_process_left_unfinished_goes_when_the_next_begins() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tokens")).unwrap();
        for name in [".tmp-a", ".tmp-b", "tokens/.tmp-c", "tokens/whole.bin"] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        OutDir::create(dir.path(), Existing::Refuse).unwrap().begin().unwrap();
        assert_eq!(names(dir.path()), [".lock", "tokens"]);
        assert_eq!(names(&dir.path().join("tokens")), ["whole.bin"]);
    }

    #[test]
    fn a_folder_in_use_is_refused_until_it_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let first = OutDir::create(dir.path(), Existing::Refuse).unwrap();
        for existing in [Existing::Refuse, Existing::Overwrite] {
            assert!(refusal(dir.path(), existing).contains("in use"));
        }
        drop(first);
        OutDir::create(dir.path(), Existing::Refuse).unwrap();
    }
}
