//! What a power cut may find: nothing that a run names is named before it is durable. A run tells what
//! it writes, syncs and renames, in order, and the list is held against that rule.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::common::{Dir, TINY, copy_until, finish, tiny_but};

/// What is told of one file.
#[derive(Debug)]
enum Act {
    Wrote(PathBuf),
    Synced(PathBuf),
    Renamed(PathBuf, PathBuf),
}

/// What a run told, in order; paths are below the folder of the run.
fn acts(stderr: &str) -> Vec<Act> {
    let act = |line: &str| {
        let (_, line) = line.split_once("TRACE ")?;
        let path = |text: &str| PathBuf::from(text.trim());
        Some(match line.trim().split_once(' ')? {
            ("wrote", at) => Act::Wrote(path(at)),
            ("synced", at) => Act::Synced(path(at)),
            ("renamed", both) => {
                let (from, to) = both.split_once(" to ")?;
                Act::Renamed(path(from), path(to))
            }
            _ => return None,
        })
    };
    stderr.lines().filter_map(act).collect()
}

/// Runs `line` and returns what it told.
fn run(dir: &Dir, line: &str) -> Vec<Act> {
    let mut command = dir.command("pretrain", line);
    let done = finish(command.env("RUST_LOG", "error,store=trace"));
    assert_eq!(done.code, 0, "{}", done.stderr);
    acts(&done.stderr)
}

/// What is not durable yet.
#[derive(Default)]
struct Pending {
    /// Files with content, and folders with names, that no sync has followed.
    dirty: BTreeSet<PathBuf>,
    /// Files that were written under a name of their own.
    seen: BTreeSet<PathBuf>,
}

impl Pending {
    fn name_in_folder(&mut self, path: &Path) {
        self.dirty.insert(path.parent().unwrap().to_path_buf());
    }

    /// Takes one act in; an error is the rule that it breaks.
    fn take(&mut self, act: &Act) -> Result<(), String> {
        match act {
            Act::Wrote(path) => {
                // A published checkpoint is durable, name and all, before anything later is written.
                let folder = Path::new("out/checkpoints");
                if path.ends_with("metrics.jsonl") && self.dirty.contains(folder) {
                    return Err(format!(
                        "{} before {} is synced",
                        path.display(),
                        folder.display()
                    ));
                }
                if self.seen.insert(path.clone()) {
                    self.name_in_folder(path);
                }
                self.dirty.insert(path.clone());
            }
            Act::Synced(path) => _ = self.dirty.remove(path),
            Act::Renamed(from, to) => {
                let lost = self.dirty.iter().find(|path| path.starts_with(from));
                if let Some(lost) = lost {
                    return Err(format!("{} before {} is synced", to.display(), lost.display()));
                }
                let checkpoint = to.to_str().unwrap().contains("checkpoints/step-");
                let metrics = Path::new("out/metrics.jsonl");
                if checkpoint && self.dirty.contains(metrics) {
                    return Err(format!("{} before the metrics are synced", to.display()));
                }
                self.seen.retain(|path| !path.starts_with(from));
                // What is put aside to be deleted may come back after a power cut.
                if !to.file_name().unwrap().to_str().unwrap().starts_with(".tmp-") {
                    self.name_in_folder(to);
                }
            }
        }
        Ok(())
    }
}

/// Holds `acts` against the rule, and returns the checkpoints that were published.
fn check(acts: &[Act]) -> Result<usize, String> {
    let mut pending = Pending::default();
    let mut checkpoints = 0;
    for (i, act) in acts.iter().enumerate() {
        pending.take(act).map_err(|rule| format!("act {i}: {rule}"))?;
        let is_new = |to: &Path| to.to_str().unwrap().contains("checkpoints/step-");
        checkpoints += usize::from(matches!(act, Act::Renamed(_, to) if is_new(to)));
    }
    // At the end only the lines of metrics after the last checkpoint may be lost; there are none.
    if pending.dirty.is_empty() {
        Ok(checkpoints)
    } else {
        Err(format!("never synced: {:?}", pending.dirty))
    }
}

#[test]
fn nothing_is_named_before_it_is_durable() {
    let dir = Dir::new();
    let line = tiny_but(&[("--keep", "2")]);
    assert_eq!(check(&run(&dir, &format!("{line} --out out"))), Ok(13), "a whole run");
    // One that is resumed, past a checkpoint of the same step that is damaged.
    dir.train("whole", "");
    std::fs::remove_dir_all(dir.path("out")).unwrap();
    copy_until(&dir.path("whole"), &dir.path("out"), 6);
    let damaged = dir.path("out/checkpoints/step-000006/weights.safetensors");
    std::fs::write(damaged, "torn").unwrap();
    let resumed = run(&dir, "--resume --out out");
    assert_eq!(check(&resumed), Ok(7), "a resumed run");
    let steps = |act: &&Act| matches!(act, Act::Wrote(path) if path.ends_with("metrics.jsonl"));
    assert!(resumed.iter().filter(steps).count() >= 7, "the metrics are told of");
}

/// Leaving out any one sync of a run breaks the rule, so the rule sees them all: of checkpoints, metrics
/// and configuration, of tokens and their sidecar, of the export and its tokenizer, of the plot.
#[test]
fn every_sync_is_needed() {
    let dir = Dir::new();
    let line = tiny_but(&[("--steps", "2"), ("--eval-every", "1")]);
    let acts = run(&dir, &format!("{line} --out out"));
    check(&acts).unwrap();
    // What a file or folder is called once it has its name.
    let named = |path: &Path| {
        let name_of = |act: &Act| match act {
            Act::Renamed(from, to) if from == path => Some(to.clone()),
            _ => None,
        };
        let path = acts.iter().find_map(name_of).unwrap_or(path.to_path_buf());
        path.file_name().unwrap().to_str().unwrap().to_string()
    };
    let (mut needed, mut redundant) = (BTreeSet::new(), BTreeSet::new());
    for (i, act) in acts.iter().enumerate() {
        let Act::Synced(path) = act else { continue };
        let mut pending = Pending::default();
        let mut less = acts[..i].iter().chain(&acts[i + 1..]);
        let broken = less.any(|act| pending.take(act).is_err()) || !pending.dirty.is_empty();
        if broken {
            needed.insert(named(path))
        } else {
            redundant.insert(named(path))
        };
    }
    let shard = needed.iter().find(|name| name.starts_with("tokens-") && name.ends_with(".bin"));
    let beside = format!("{}.json", shard.expect("the tokens are synced"));
    for name in [
        "weights.safetensors",
        "optimizer.safetensors",
        "state.json",
        "state.json.xxh3",
        "step-000001",
        "checkpoints",
        "metrics.jsonl",
        "run.toml",
        "loss.svg",
        "tokens",
        &beside,
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "out",
    ] {
        assert!(needed.contains(name), "{name}: {needed:?}");
    }
    // A name in a folder is durable once a later one is: of those only the last is needed.
    let folders = ["out", "tokens", "metrics.jsonl"].map(String::from);
    assert!(redundant.is_subset(&BTreeSet::from(folders)), "{redundant:?}");
    assert!(TINY.contains("--save-every 1"));
}
