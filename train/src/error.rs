//! The one error of this crate, how a run can end, and the exit codes of both.
//!
//! ```
//! use std::process::ExitCode;
//! use train::{Error, Outcome, main_exit};
//!
//! fn run(steps: u64) -> Result<Outcome, Box<dyn std::error::Error + Send + Sync>> {
//!     if steps == 0 {
//!         return Err(Error::Config("--steps is 0: give at least 1".into()).into());
//!     }
//!     Ok(Outcome::Done)
//! }
//!
//! // What `main` returns, after one line on stderr: "error: --steps is 0: give at least 1".
//! assert_eq!(main_exit(run(0)), ExitCode::from(2));
//! assert_eq!(main_exit(run(1)), ExitCode::SUCCESS);
//! ```

use std::error::Error as StdError;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What errors call the standard output.
const STDOUT: &str = "stdout";

/// What can go wrong around a run. Each displays as one line that names the file or key, the
/// value, and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read or written. `what` starts the sentence, as in
    /// "cannot read the configuration".
    #[error("{what} {}: {source}{}", path.display(), remedy(source.kind()))]
    Io {
        /// What was attempted.
        what: String,
        /// On which file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A flag, key or value that the user must change.
    #[error("{0}")]
    Config(String),
    /// A checkpoint that cannot be written, read, or used for this run.
    #[error("checkpoint {}: {reason}", path.display())]
    Checkpoint {
        /// The checkpoint's folder, or the folder of all checkpoints.
        path: PathBuf,
        /// The problem and its remedy.
        reason: String,
    },
    /// The loss or the gradient norm stopped being finite.
    #[error(
        "diverged at step {step}: {what}; start again with a lower --lr (the checkpoints of \
         earlier steps are kept)"
    )]
    Diverged {
        /// The step, from 1.
        step: u64,
        /// Which number, and the first block and op where it appeared.
        what: String,
    },
    /// Text, tokens or a tokenizer.
    #[error(transparent)]
    Data(#[from] data::Error),
    /// A device or a model's configuration.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The weights in a model's directory.
    #[error(transparent)]
    Weights(engine::Error),
}

impl Error {
    /// The process's exit code: 2 for what the user must change, 3 for divergence, otherwise 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Data(data::Error::BpeSize { .. } | data::Error::Split { .. }) => 2,
            Error::Io { .. } | Error::Checkpoint { .. } | Error::Data(_) | Error::Weights(_) => 1,
            Error::Engine(error) => engine_code(error),
            Error::Config(_) => 2,
            Error::Diverged { .. } => 3,
        }
    }

    /// For `map_err`: attaches what was attempted on which path.
    pub(crate) fn io(what: &str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { what: what.to_string(), path: path.to_path_buf(), source }
    }
}

/// As [`Error::exit_code`], for an error that comes from the engine or the model.
fn engine_code(error: &engine::Error) -> u8 {
    match error {
        engine::Error::Io { .. } => 1,
        engine::Error::Config(_) | engine::Error::Device(_) => 2,
        engine::Error::NonFinite(_) => 3,
    }
}

/// What to do about a file that cannot be used, where the system's own words do not say.
fn remedy(kind: io::ErrorKind) -> &'static str {
    use io::ErrorKind::{
        FileTooLarge, IsADirectory, NotADirectory, NotFound, PermissionDenied, QuotaExceeded,
        ReadOnlyFilesystem, StorageFull,
    };
    match kind {
        NotFound | NotADirectory | IsADirectory => "; check the path",
        PermissionDenied | ReadOnlyFilesystem => "; check its permissions or give another path",
        StorageFull | QuotaExceeded => "; free disk space or give another path",
        FileTooLarge => "; raise the limit on file sizes or give another path",
        _ => "",
    }
}

/// How a run that did not fail has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Done,
    /// Stopped by this signal number, after saving.
    Stopped(i32),
}

impl Outcome {
    /// 0 when done, 128 plus the signal number when stopped (130 for SIGINT, 143 for SIGTERM).
    pub fn exit_code(self) -> u8 {
        match self {
            Outcome::Done => 0,
            Outcome::Stopped(signal) => 128u8.saturating_add(u8::try_from(signal).unwrap_or(0)),
        }
    }
}

/// Ends a `main`: gives the exit code, and on failure prints exactly one line `error: ...` on
/// stderr. Any error converts with `?`; those of
/// other crates than this one and the engine exit with 1. A reader of
/// stdout that has gone away, as `| head` does, is no failure to report: the code is 141, as for
/// any program that SIGPIPE ends.
pub fn main_exit(result: Result<Outcome, Box<dyn StdError + Send + Sync>>) -> ExitCode {
    match result {
        Ok(outcome) => ExitCode::from(outcome.exit_code()),
        Err(error) if reader_is_gone(error.as_ref()) => ExitCode::from(141),
        Err(error) => {
            eprintln!("error: {}", one_line(error.as_ref()));
            let own = error.downcast_ref().map(Error::exit_code);
            ExitCode::from(own.or(error.downcast_ref().map(engine_code)).unwrap_or(1))
        }
    }
}

/// Writes `text` to stdout at once.
///
/// # Errors
/// [`Error::Io`] if stdout takes no more.
pub fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(Error::io("cannot write to", Path::new(STDOUT)))
}

fn reader_is_gone(error: &(dyn StdError + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(Error::Io { path, source, .. })
        if path == Path::new(STDOUT) && source.kind() == io::ErrorKind::BrokenPipe)
}

/// The error and those of its causes which its own text leaves out, in one line.
fn one_line(error: &(dyn StdError + 'static)) -> String {
    let mut line = join_lines(&error.to_string());
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = join_lines(&inner.to_string());
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = inner.source();
    }
    line
}

/// Joins the non-empty lines of `text` with single spaces.
pub(crate) fn join_lines(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_follow_the_contract() {
        assert_eq!(Outcome::Done.exit_code(), 0);
        assert_eq!(Outcome::Stopped(2).exit_code(), 130);
        assert_eq!(Outcome::Stopped(15).exit_code(), 143);
        assert_eq!(Error::Config(String::new()).exit_code(), 2);
        assert_eq!(Error::Diverged { step: 1, what: String::new() }.exit_code(), 3);
        let io = Error::io("cannot read", Path::new("x"))(io::Error::other("no"));
        assert_eq!(io.exit_code(), 1);
    }

    #[test]
    fn a_cause_is_named_once_and_lines_are_joined() {
        let own = Error::io("cannot read", Path::new("x"))(io::Error::other("first\n\nsecond"));
        assert_eq!(one_line(&own), "cannot read x: first second");
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] io::Error);
        assert_eq!(one_line(&Outer(io::Error::other("inner"))), "outer: inner");
    }
}
