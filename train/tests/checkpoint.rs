//! Checkpoints under damage: torn files, flipped bytes, crashes at any moment, full disks,
//! readers beside a writer. Whatever happens, what is read is what was saved.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use store::Sum;
use train::Error;
use train::checkpoint::{self, Found, State, Tensor, Values, ValuesMut};
use train::signals::Signals;

/// Tells this test binary, started again, that it is the process to be hurt.
const CHILD_ROOT: &str = "TRAIN_TEST_CHECKPOINT_ROOT";

fn state(step: u64) -> State {
    let mut state = State { step, tokens: 64 * step, next_sample: 4 * step, ..State::default() };
    state.fingerprint.insert("run.seed".to_string(), "42".to_string());
    state
}

/// Numbers that depend on step, tensor and position.
fn values(step: u64, salt: u64, len: usize) -> Vec<f32> {
    (0..len as u64)
        .map(|i| ((i * 31 + step * 7 + salt * 3 + i * i / 5) % 1000) as f32 / 7.0)
        .collect()
}

fn tensor<'a>(name: &str, shape: &[usize], values: &'a [f32]) -> Tensor<'a> {
    Tensor { name: name.to_string(), shape: shape.to_vec(), values: Values::F32(values.into()) }
}

fn save_sized(root: &Path, step: u64, floats: usize) -> Result<PathBuf, Error> {
    let (w, gain, m) = (values(step, 1, floats), values(step, 2, 3), values(step, 3, floats));
    let weights = vec![tensor("w", &[floats], &w), tensor("gain", &[3, 1], &gain)];
    let moments = vec![tensor("m.w", &[floats / 2, 2], &m)];
    let files = [("weights.safetensors", weights), ("optimizer.safetensors", moments)];
    checkpoint::save(root, &state(step), &files)
}

fn save(root: &Path, step: u64) -> PathBuf {
    save_sized(root, step, 10).unwrap()
}

/// Checks every number of a checkpoint saved by [`save_sized`].
fn assert_is(found: &Found, step: u64, floats: usize) {
    assert_eq!(*found.state(), state(step));
    let read = |file: &str, name: &str, shape: &[usize]| {
        let mut out = vec![f32::NAN; shape.iter().product()];
        found.read(file, name, shape, ValuesMut::F32(out[..].as_mut().into())).unwrap();
        out
    };
    assert_eq!(read("weights.safetensors", "w", &[floats]), values(step, 1, floats));
    assert_eq!(read("weights.safetensors", "gain", &[3, 1]), values(step, 2, 3));
    assert_eq!(read("optimizer.safetensors", "m.w", &[floats / 2, 2]), values(step, 3, floats));
}

fn latest_step(root: &Path) -> Option<u64> {
    checkpoint::latest(root).unwrap().found.map(|found| found.state().step)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for name in names(from) {
        fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}

#[test]
fn what_is_saved_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("checkpoints");
    assert_eq!(latest_step(&root), None);
    for step in [9, 10, 999_999, 1_000_000] {
        save(&root, step);
        assert_is(&checkpoint::latest(&root).unwrap().found.unwrap(), step, 10);
    }
    let expected = ["step-000009", "step-000010", "step-1000000", "step-999999"];
    assert_eq!(names(&root), expected);
}

#[test]
fn large_tensors_cross_every_chunk_boundary() {
    let dir = tempfile::tempdir().unwrap();
    save_sized(dir.path(), 1, 200_002).unwrap();
    assert_is(&checkpoint::latest(dir.path()).unwrap().found.unwrap(), 1, 200_002);
}

#[test]
fn another_name_or_shape_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), 1);
    let found = checkpoint::latest(dir.path()).unwrap().found.unwrap();
    let mut out = [0.0; 10];
    let mut refusal = |file: &str, name: &str, shape: &[usize]| {
        let error =
            found.read(file, name, shape, ValuesMut::F32(out[..].as_mut().into())).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        error.to_string()
    };
    let weights = "weights.safetensors";
    assert!(refusal("none", "w", &[10]).contains("no such file"));
    assert!(refusal(weights, "v", &[10]).contains("tensor v is missing"));
    assert!(refusal(weights, "w", &[5, 2]).contains("is F32 [10], expected F32 [5, 2]"));
}

/// Numbers of another type are no weights, whatever their length.
#[test]
fn another_type_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let folder = save(dir.path(), 1);
    let edit = |name: &str, from: &str, to: &str| {
        let mut bytes = fs::read(folder.join(name)).unwrap();
        let at = bytes.windows(from.len()).position(|part| part == from.as_bytes()).unwrap();
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        fs::write(folder.join(name), &bytes).unwrap();
        Sum::of(&bytes).hex()
    };
    let sum = |name: &str| Sum::of(&fs::read(folder.join(name)).unwrap()).hex();
    let before = sum("weights.safetensors");
    let after = edit("weights.safetensors", "F32", "I32");
    let state = edit("state.json", &before, &after);
    fs::write(folder.join("state.json.xxh3"), state + "\n").unwrap();
    let found = checkpoint::latest(dir.path()).unwrap().found.unwrap();
    let mut out = [0.0; 10];
    let error = found
        .read("weights.safetensors", "w", &[10], ValuesMut::F32(out[..].as_mut().into()))
        .unwrap_err();
    assert!(error.to_string().contains("is I32 [10], expected F32 [10]"), "{error}");
}

/// A number that is not finite, in any part of any file: nothing is saved, and the place is named.
#[test]
fn what_is_not_finite_is_not_saved() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), 1);
    let len = (1 << 18) + 3;
    for (at, x) in [(0, f32::NAN), (5, f32::INFINITY), (len - 1, f32::NEG_INFINITY)] {
        let (good, mut bad) = (values(2, 1, 10), values(2, 2, len));
        bad[at] = x;
        let (good, bad) = (tensor("good", &[10], &good), tensor("bad", &[len], &bad));
        for files in [
            [("a", vec![good.clone(), bad.clone()]), ("b", vec![good.clone()])],
            [("a", vec![good.clone()]), ("b", vec![bad, good])],
        ] {
            let error = checkpoint::save(dir.path(), &state(2), &files).unwrap_err();
            assert_eq!(error.exit_code(), 3);
            assert!(error.to_string().contains(&format!("bad is {x} at element {at}")), "{error}");
            assert_eq!(names(dir.path()), ["step-000001"]);
        }
    }
}

/// Truncates and flips every byte of every file of the newest of two checkpoints: the older one
/// is used, and the newer one is reported.
#[test]
fn damage_at_any_byte_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    save(root, 1);
    let newest = save(root, 2);
    let mut damaged = 0;
    for name in names(&newest) {
        let path = newest.join(&name);
        let whole = fs::read(&path).unwrap();
        let check = |bytes: &[u8], what: &str| {
            fs::write(&path, bytes).unwrap();
            let latest = checkpoint::latest(root).unwrap();
            assert_eq!(latest.found.unwrap().state().step, 1, "{name}: {what}");
            assert_eq!(latest.skipped.len(), 1, "{name}: {what}");
            assert_eq!(latest.skipped[0].path, newest);
            assert!(
                latest.skipped[0].reason.contains("state.json")
                    || latest.skipped[0].reason.contains(&name)
            );
        };
        for at in 0..whole.len() {
            check(&whole[..at], &format!("cut at {at}"));
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            check(&flipped, &format!("flipped at {at}"));
            damaged += 2;
        }
        check(&[&whole[..], b"x"].concat(), "one byte more");
        fs::remove_file(&path).unwrap();
        assert_eq!(latest_step(root), Some(1), "{name} missing");
        fs::write(&path, &whole).unwrap();
        assert_eq!(latest_step(root), Some(2), "{name} restored");
    }
    assert!(damaged > 1000, "only {damaged} kinds of damage were tried");
}

#[test]
fn a_checkpoint_under_another_steps_name_is_not_valid() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), 1);
    copy_dir(&dir.path().join("step-000001"), &dir.path().join("step-000002"));
    let latest = checkpoint::latest(dir.path()).unwrap();
    assert_eq!(latest.found.unwrap().state().step, 1);
    assert!(latest.skipped[0].reason.contains("is of step 1"));
}

/// Every state that a crash can leave: the folder empty, each file there up to some byte, all
/// files there, the replaced one moved aside, the pruned one half deleted.
#[test]
fn a_crash_at_any_stage_leaves_the_previous_checkpoint_and_a_clean_next_save() {
    let dir = tempfile::tempdir().unwrap();
    let (root, model) = (&dir.path().join("root"), &dir.path().join("model"));
    let whole = save(model, 2);
    save(root, 1);
    let temp = root.join(".tmp-step-000002");
    let order = ["weights.safetensors", "optimizer.safetensors", "state.json", "state.json.xxh3"];
    let stages = |files: usize, part: u64| {
        fs::create_dir(&temp).unwrap();
        for (i, name) in order.iter().take(files).enumerate() {
            fs::copy(whole.join(name), temp.join(name)).unwrap();
            if i + 1 == files {
                let file = fs::File::options().write(true).open(temp.join(name)).unwrap();
                file.set_len(file.metadata().unwrap().len() * part / 4).unwrap();
            }
        }
    };
    for files in 0..=order.len() {
        for part in 0..=4 {
            stages(files, part);
            let latest = checkpoint::latest(root).unwrap();
            assert_eq!(latest.found.unwrap().state().step, 1);
            assert_eq!(latest.skipped[0].path, temp);
            save(root, 2);
            assert_eq!(names(root), ["step-000001", "step-000002"]);
            assert_eq!(latest_step(root), Some(2));
            fs::remove_dir_all(root.join("step-000002")).unwrap();
        }
    }
    // The torn one was moved aside, its successor not yet renamed; and a half-deleted old one.
    stages(order.len(), 4);
    fs::create_dir(root.join(".tmp-replaced")).unwrap();
    fs::create_dir(root.join(".tmp-removed")).unwrap();
    fs::copy(whole.join("state.json"), root.join(".tmp-removed/state.json")).unwrap();
    assert_eq!(latest_step(root), Some(1));
    save(root, 3);
    assert_eq!(names(root), ["step-000001", "step-000003"]);
}

#[test]
fn a_torn_checkpoint_of_the_same_step_is_replaced_and_a_valid_one_kept() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let path = save(root, 5);
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let before = inode(&path);
    save(root, 5);
    assert_eq!(inode(&path), before);
    fs::write(path.join("weights.safetensors"), "torn").unwrap();
    save(root, 5);
    assert_eq!(names(root), ["step-000005"]);
    assert_is(&checkpoint::latest(root).unwrap().found.unwrap(), 5, 10);
    // Same step, but of another run.
    let other = State { tokens: 1, ..state(5) };
    checkpoint::save(root, &other, &[]).unwrap();
    assert_eq!(*checkpoint::latest(root).unwrap().found.unwrap().state(), other);
}

#[test]
fn pruning_keeps_the_newest_and_never_the_last_valid_one() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for step in 1..=5 {
        save(root, step);
    }
    let removed = checkpoint::prune(root, 2).unwrap();
    assert_eq!(removed, [3, 2, 1].map(|step| root.join(format!("step-00000{step}"))));
    assert_eq!(names(root), ["step-000004", "step-000005"]);
    assert_eq!(checkpoint::prune(root, 2).unwrap(), [] as [PathBuf; 0]);

    // Same length, other content: only a check of every byte can tell.
    let weights = root.join("step-000005/weights.safetensors");
    let mut content = fs::read(&weights).unwrap();
    *content.last_mut().unwrap() ^= 1;
    fs::write(&weights, &content).unwrap();
    assert_eq!(checkpoint::prune(root, 1).unwrap(), [] as [PathBuf; 0]);
    assert_eq!(latest_step(root), Some(4));

    // A torn one does not count as one of those kept.
    fs::write(&weights, "torn").unwrap();
    save(root, 6);
    fs::write(root.join("step-000006/state.json"), "{}").unwrap();
    assert_eq!(checkpoint::prune(root, 1).unwrap(), [] as [PathBuf; 0]);
    assert_eq!(latest_step(root), Some(4));
    save(root, 7);
    let removed = checkpoint::prune(root, 2).unwrap();
    assert_eq!(removed, [] as [PathBuf; 0], "4 is the second of the two valid ones");
    assert_eq!(checkpoint::prune(root, 1).unwrap().len(), 3);
    assert_eq!(names(root), ["step-000007"]);
}

#[test]
fn without_a_valid_checkpoint_the_first_problem_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let need = || checkpoint::latest(root).unwrap().require(root).unwrap_err().to_string();
    assert!(need().contains("the folder is empty"), "{}", need());
    let path = save(root, 1);
    fs::write(path.join("weights.safetensors"), "torn").unwrap();
    let text = need();
    assert!(text.contains("step-000001 (weights.safetensors: has 4 bytes, expected"), "{text}");
    assert!(text.contains("--overwrite") && text.lines().count() == 1, "{text}");
}

/// A reader that looks all the time while checkpoints come and go never sees a broken one, nor
/// none, and what it has opened stays whole.
#[test]
fn a_reader_beside_the_writer_always_finds_a_whole_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    save(root, 1);
    let done = AtomicBool::new(false);
    let (mut reads, mut last) = (0, 1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for step in 2..=60 {
                save(root, step);
                checkpoint::prune(root, 1).unwrap();
            }
            done.store(true, Ordering::SeqCst);
        });
        while !done.load(Ordering::SeqCst) {
            let latest = checkpoint::latest(root).unwrap();
            let found = latest.found.expect("there is always a valid checkpoint");
            let step = found.state().step;
            assert!(step >= last, "went back from {last} to {step}");
            assert_is(&found, step, 10);
            (reads, last) = (reads + 1, step);
        }
    });
    assert!(reads > 0);
    assert_eq!(latest_step(root), Some(60));
}

/// Between listing and opening, everything listed may be replaced. A pipe in place of a state
/// file holds the reader at exactly that moment.
#[test]
fn a_reader_overtaken_by_the_writer_looks_again() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    save(root, 1);
    let slow = root.join("step-000002");
    fs::create_dir(&slow).unwrap();
    let pipe = slow.join("state.json");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| latest_step(root));
        let end = fs::File::options().write(true).open(&pipe).unwrap(); // waits for the reader
        save(root, 3);
        for old in ["step-000001", "step-000002"] {
            fs::remove_dir_all(root.join(old)).unwrap();
        }
        drop(end);
        assert_eq!(reader.join().unwrap(), Some(3));
    });
}

/// Starts one test of this binary again as a child that works in `root`.
fn child(test: &str, root: &Path, limit: &str) -> Command {
    let exe = std::env::current_exe().unwrap();
    let mut command = Command::new("sh");
    let script = format!("{limit} exec \"$0\" --exact --nocapture {test}");
    command.args(["-c", &script]).arg(exe).env(CHILD_ROOT, root);
    command
}

/// The child may not write files over 64 KiB; it saves a small checkpoint, then one too large.
#[test]
fn a_full_disk_leaves_earlier_checkpoints_and_nothing_half_written() {
    if let Some(root) = std::env::var_os(CHILD_ROOT) {
        Signals::install().unwrap();
        save_sized(root.as_ref(), 1, 10).unwrap();
        println!("error: {}", save_sized(root.as_ref(), 2, 100_000).unwrap_err());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let test = "a_full_disk_leaves_earlier_checkpoints_and_nothing_half_written";
    let output = child(test, dir.path(), "ulimit -f 128;").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    let told = stdout.lines().find(|line| line.starts_with("error: ")).unwrap();
    for part in ["step-000002", "80", "bytes are needed", "free disk space", "--resume"] {
        assert!(told.contains(part), "{told}");
    }
    assert_eq!(names(dir.path()), ["step-000001"]);
    assert_is(&checkpoint::latest(dir.path()).unwrap().found.unwrap(), 1, 10);
    // With room again, the run goes on.
    save_sized(dir.path(), 2, 100_000).unwrap();
    assert_is(&checkpoint::latest(dir.path()).unwrap().found.unwrap(), 2, 100_000);
}

/// A child that saves and prunes without pause is killed 20 times, at moments that shift with
/// each round. What was announced as saved is there, or something newer.
#[test]
fn kill_at_any_moment_loses_at_most_the_save_in_progress() {
    if let Some(root) = std::env::var_os(CHILD_ROOT) {
        let root: &Path = root.as_ref();
        for step in latest_step(root).unwrap_or(0) + 1.. {
            save_sized(root, step, 2000).unwrap();
            println!("saved {step}");
            checkpoint::prune(root, 2).unwrap();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let test = "kill_at_any_moment_loses_at_most_the_save_in_progress";
    for round in 0..20 {
        let mut process = child(test, dir.path(), "")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut saves = lines.map_while(Result::ok).filter_map(|line| {
            line.strip_prefix("saved ").and_then(|step| step.parse::<u64>().ok())
        });
        let announced = saves.nth(round % 3).expect("the child saves until it is killed");
        // Some work of varying length, so that the kill meets another stage each time.
        let spin: u64 = (0..round as u64 * 40_000).map(std::hint::black_box).sum();
        assert!(spin < u64::MAX);
        process.kill().unwrap();
        process.wait().unwrap();
        let later = saves.last().unwrap_or(announced);
        let found = checkpoint::latest(dir.path()).unwrap().found.unwrap();
        let step = found.state().step;
        assert!(step == later || step == later + 1, "saved {later}, found {step}");
        assert_is(&found, step, 2000);
    }
}
