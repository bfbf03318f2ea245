//! Where values come from, and that the same values give the same run.

use std::fs;

use super::common::{Bits, Dir, metrics, tiny_but};

#[test]
fn another_runs_configuration_gives_the_same_bits() {
    let dir = Dir::new();
    let first = dir.train("first", "--order sequential --lr 3e-3 --beta2 0.9 --seed 5");
    let line = "--config first/run.toml --out second";
    let done = dir.run("pretrain", line);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    first.assert_same(&Bits::of(&dir.path("second")), line);
    let stored = |out: &str| fs::read_to_string(dir.path(out).join("run.toml")).unwrap();
    assert_eq!(stored("first").replace("out = \"first\"", "out = \"second\""), stored("second"));
}

#[test]
fn later_values_win_and_all_end_up_in_run_toml() {
    let dir = Dir::new();
    let text = "[optim]\nlr = 0.5\nbeta1 = 0.5\nclip = 0.25\n[run]\nsteps = 3\n";
    fs::write(dir.path("base.toml"), text).unwrap();
    let line = tiny_but(&[("--steps", "2")]);
    let more = "--config base.toml --set optim.lr=0.25 --set optim.beta1=0.75 --lr 0.125 --out out";
    let done = dir.run("pretrain", &format!("{line} {more}"));
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    let stored = fs::read_to_string(dir.path("out/run.toml")).unwrap();
    for part in ["lr = 0.125", "beta1 = 0.75", "clip = 0.25", "steps = 2"] {
        assert!(stored.contains(part), "{part}: {stored}");
    }
    assert_eq!(Bits::of(&dir.path("out")).losses().len(), 2);
}

#[test]
fn tokens_stand_for_steps() {
    let dir = Dir::new();
    let line = tiny_but(&[("--steps", "12"), ("--save-every", "0")]).replace("--steps 12", "");
    let done = dir.run("pretrain", &format!("{line} --tokens 10k --out out"));
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    let metrics = metrics(&dir.path("out"));
    // 10,000 tokens are 156.25 steps of 4 times 16.
    let last = metrics.iter().rfind(|line| line["loss"].is_number()).unwrap();
    assert_eq!((&last["step"], &last["tokens"]), (&157.into(), &(157 * 64).into()));
}

#[test]
fn sequential_order_is_another_order_and_repeats_itself_over_seeds() {
    let dir = Dir::new();
    let first = |out: &str, rest: &str| dir.train(out, rest).losses();
    let sequential = first("s", "--order sequential");
    assert_ne!(sequential, first("r", ""));
    // The seed of the weights is another, that of the data does not matter: in step 1 a model that
    // knows nothing loses about the same on the same tokens.
    let other = first("t", "--order sequential --seed 43");
    assert!((sequential[0] - other[0]).abs() < 0.1);
}

#[test]
fn the_plan_prints_and_writes_nothing() {
    let dir = Dir::new();
    let before = dir.snapshot();
    let done = dir.pretrain("--plan --out out");
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    for part in ["weights", "gradients", "moments", "activations", "peak", "MiB"] {
        assert!(done.stdout.contains(part), "{part}: {}", done.stdout);
    }
    // Data need not be there to plan.
    let named = dir.run("pretrain", "--plan --model 110m --data none.txt --out out");
    assert_eq!(named.code, 0, "{}", named.stderr);
    assert!(dir.snapshot() == before);
}
