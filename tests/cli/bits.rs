//! The same numbers, bit for bit, whatever does not belong to them: threads, stops, memory. On
//! every instruction set of the machine.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use handgrad::engine::Isa;

use super::common::{Bits, Dir, TINY, checkpoints, config, copy_until, metrics, tiny_but};

/// A model and batch large enough that every op divides its work, of sizes that no tile divides.
const WIDE: [(&str, &str); 3] =
    [("--model", "wide.json"), ("--seq-len", "61"), ("--batch-size", "9")];

fn wide_dir() -> Dir {
    let dir = Dir::new();
    fs::write(dir.path("wide.json"), config(120, 328, 6, 2).to_string()).unwrap();
    dir
}

/// Trains a few steps of the wide model with `changes` and `rest`, on `isa`.
fn wide(dir: &Dir, isa: Isa, out: &str, changes: &[(&str, &str)], rest: &str) -> Bits {
    let mut all = WIDE.to_vec();
    all.extend([("--steps", "4"), ("--save-every", "2")]);
    all.extend(changes);
    let done = dir.run_on(isa, "pretrain", &format!("{} --out {out} {rest}", tiny_but(&all)));
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{isa:?} {rest}");
    Bits::of(&dir.path(out))
}

/// Every instruction set of this CPU with every storage type, and a name for the pair.
fn paths() -> impl Iterator<Item = (Isa, &'static str, String)> {
    let of =
        |isa: Isa| ["f32", "bf16"].map(|dtype| (isa, dtype, format!("{}-{dtype}", isa.name())));
    Isa::all_available().flat_map(of)
}

#[test]
fn threads_do_not_change_a_bit() {
    let dir = wide_dir();
    for (isa, dtype, name) in paths() {
        let rest = format!("--dtype {dtype}");
        let one = wide(&dir, isa, &format!("{name}-1"), &[], &rest);
        for threads in ["2", "4"] {
            let out = format!("{name}-{threads}");
            let more = wide(&dir, isa, &out, &[("--threads", threads)], &rest);
            one.assert_same(&more, &format!("{name}, {threads} threads"));
        }
    }
}

#[test]
fn what_blocks_keep_does_not_change_a_bit() {
    let dir = wide_dir();
    for (isa, dtype, name) in paths() {
        let run = |cache: &str| {
            let rest = format!("--dtype {dtype} --cache {cache}");
            wide(&dir, isa, &format!("{name}-{cache}"), &[], &rest)
        };
        run("linear").assert_same(&run("full"), &name);
    }
}

#[test]
fn the_instruction_set_is_the_one_asked_for() {
    let dir = wide_dir();
    let line = tiny_but(&[("--log-level", "info"), ("--steps", "1")]);
    for isa in Isa::all_available() {
        let done = dir.run_on(isa, "pretrain", &format!("{line} --out {}", isa.name()));
        let told = format!("computing on cpu, 1 threads, {}\n", isa.name());
        assert!(done.code == 0 && done.stderr.contains(&told), "{}", done.stderr);
    }
}

#[test]
fn the_comparison_notices_one_bit() {
    let dir = Dir::new();
    let one = dir.train("one", "");
    let path = dir.path("one/checkpoints/step-000007/optimizer.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let two = Bits::of(&dir.path("one"));
    assert!(std::panic::catch_unwind(|| one.assert_same(&two, "changed")).is_err());
}

/// At any step on the best instruction set, at one on each other.
#[test]
fn a_resume_at_any_step_ends_with_the_same_bits() {
    let best = Isa::all_available().next();
    for (isa, dtype, name) in paths() {
        let dir = Dir::new();
        let line = format!("{TINY} --out whole --dtype {dtype}");
        let done = dir.run_on(isa, "pretrain", &line);
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{name}");
        let whole = Bits::of(&dir.path("whole"));
        for step in if best == Some(isa) { 0..=12 } else { 7..=7 } {
            let out = format!("from-{step}");
            copy_until(&dir.path("whole"), &dir.path(&out), step);
            let line = format!("--resume --out {out} --log-level error");
            let done = dir.run_on(isa, "pretrain", &line);
            assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{name} from step {step}");
            whole.assert_same(&Bits::of(&dir.path(&out)), &format!("{name} from step {step}"));
        }
    }
}

/// A crash between the last save and its pruning leaves one checkpoint too many, and half of one.
#[test]
fn a_resume_after_the_last_step_prunes_what_a_crash_kept() {
    let dir = Dir::new();
    dir.train("out", "");
    let out = dir.path("out");
    assert_eq!(checkpoints(&out), (0..=12).collect::<Vec<_>>());
    // What a crash leaves in the middle of pruning.
    fs::create_dir(out.join("checkpoints/.tmp-pruned")).unwrap();
    fs::write(out.join("checkpoints/.tmp-pruned/state.json"), "{}").unwrap();
    let done = dir.run("pretrain", &format!("{} --out out --resume", tiny_but(&[("--keep", "2")])));
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(checkpoints(&out), [11, 12]);
    assert!(!out.join("checkpoints/.tmp-pruned").exists());
}

/// A resume may change threads and cache, which the run's numbers do not depend on.
#[test]
fn a_resume_with_other_threads_and_cache_ends_with_the_same_bits() {
    let dir = Dir::new();
    let whole = dir.train("whole", "");
    copy_until(&dir.path("whole"), &dir.path("part"), 5);
    let line = "--resume --out part --threads 3 --cache full --log-level error";
    let done = dir.run("pretrain", line);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    whole.assert_same(&Bits::of(&dir.path("part")), "3 threads, full cache");
}

#[cfg(unix)]
#[test]
fn a_stopped_run_goes_on_with_the_same_bits() {
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let dir = Dir::new();
        let long = tiny_but(&[("--steps", "300"), ("--log-level", "info"), ("--keep", "2")]);
        let done = dir.run("pretrain", &format!("{long} --out whole"));
        assert_eq!(done.code, 0, "{}", done.stderr);

        let mut command = dir.command("pretrain", &format!("{long} --out part"));
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        lines.find(|line| line.contains("step 1/300")).expect("a line for the first step");
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        let rest: Vec<String> = lines.collect();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{rest:?}");
        let last = rest.last().unwrap();
        assert!(last.contains("--resume"), "{last}");
        let steps = metrics(&dir.path("part")).last().unwrap()["step"].as_u64().unwrap();
        assert!(steps < 300, "the signal came too late to prove anything");
        assert!(last.contains(&format!("after step {steps};")), "{last}");

        let done = dir.run("pretrain", "--resume --out part");
        assert_eq!(done.code, 0, "{}", done.stderr);
        assert!(done.stderr.contains(&format!("resuming after step {steps} ")), "{}", done.stderr);
        let whole = Bits::of(&dir.path("whole"));
        whole.assert_same(&Bits::of(&dir.path("part")), &format!("SIG{signal}"));
    }
}

/// Sums are rounded in another order, so the losses agree only nearly.
#[test]
fn another_split_of_a_step_sees_the_same_samples() {
    let dir = Dir::new();
    let split = |out: &str, batch: &str, rest: &str| {
        let line = tiny_but(&[("--batch-size", batch)]);
        let done = dir.run("pretrain", &format!("{line} --out {out} {rest}"));
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{rest}");
        Bits::of(&dir.path(out)).losses()
    };
    let one = split("8x1", "8", "");
    let far = |other: &[f64]| one.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    for (batch, accum) in [("4", "2"), ("2", "4"), ("1", "8")] {
        let other = split(&format!("{batch}x{accum}"), batch, &format!("--accum {accum}"));
        assert_eq!(other.len(), 12);
        assert!(far(&other) < 1e-5, "{batch} times {accum}: {other:?} {one:?}");
    }
    assert!(far(&split("seed", "8", "--seed 43")) > 1e-3);
}
