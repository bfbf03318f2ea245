//! What a run reports and what it does, against the formulas of its documentation: the learning
//! rate of every step, and the clipping of gradients.

use std::f64::consts::PI;
use std::path::Path;

use safetensors::SafeTensors;

use super::common::{Bits, Dir, TINY, copy_until, metrics, tiny_but};

/// Peak, share of it at the end, steps of warmup, steps.
#[derive(Clone, Copy)]
struct Rate {
    peak: f64,
    share: f64,
    warmup: u64,
    steps: u64,
}

impl Rate {
    /// Of step `s`, counted from 0.
    fn of(self, s: u64) -> f64 {
        let (min, done) = (self.peak * self.share, s as f64);
        let (warmup, steps) = (self.warmup as f64, self.steps as f64);
        if done < warmup {
            self.peak * (done + 1.0) / warmup
        } else {
            let turn = (1.0 + (PI * (done - warmup) / (steps - warmup)).cos()) / 2.0;
            min + (self.peak - min) * turn
        }
    }

    fn flags(self) -> String {
        let Rate { peak, share, warmup, .. } = self;
        format!("--lr {peak} --min-lr-ratio {share} --warmup {warmup}")
    }
}

/// The reported rate of each step.
fn reported(out: &Path) -> Vec<f64> {
    metrics(out).iter().filter_map(|line| line["lr"].as_f64()).collect()
}

fn assert_near(got: f64, expected: f64, tolerance: f64, what: &str) {
    assert!((got / expected - 1.0).abs() <= tolerance, "{what}: {got}, expected {expected}");
}

/// The last norm's gain, from `file` of the checkpoint of `step`, under its name there.
fn gain(out: &Path, step: u64, file: &str, prefix: &str) -> Vec<f64> {
    let path = out.join(format!("checkpoints/step-{step:06}/{file}.safetensors"));
    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor(&format!("{prefix}model.norm.weight")).unwrap();
    let values = tensor.data().chunks_exact(4);
    values.map(|x| f32::from_le_bytes(x.try_into().unwrap()).into()).collect()
}

/// The rate that step `s` has used, from the checkpoints before and after it: gains do not decay, so
/// they have moved by the rate times the corrected moments.
fn used(out: &Path, s: u64) -> f64 {
    let (before, after) = (gain(out, s, "weights", ""), gain(out, s + 1, "weights", ""));
    let (m, v) = (gain(out, s + 1, "optimizer", "m."), gain(out, s + 1, "optimizer", "v."));
    let t = (s + 1) as i32;
    let missing = |beta: f64| 1.0 - beta.powi(t);
    let step = |i: usize| (m[i] / missing(0.9)) / ((v[i] / missing(0.95)).sqrt() + 1e-8);
    let largest = (0..m.len()).max_by(|&i, &j| step(i).abs().total_cmp(&step(j).abs())).unwrap();
    (before[largest] - after[largest]) / step(largest)
}

/// Warmup, cosine, and both ends of each: what is reported to the bit of a few roundings, and what
/// is used as far as weights near 1 in f32 tell.
#[test]
fn every_step_has_the_rate_of_the_formula() {
    let dir = Dir::new();
    let steps = 12;
    for (i, (share, warmup)) in
        [(0.1, 0), (0.1, 1), (0.25, 5), (0.0, 11), (0.1, 12)].iter().enumerate()
    {
        let rate = Rate { peak: 0.02, share: *share, warmup: *warmup, steps };
        let out = format!("out-{i}");
        dir.train(&out, &rate.flags());
        let out = dir.path(&out);
        let reported = reported(&out);
        assert_eq!(reported.len() as u64, steps);
        for (s, &lr) in (0..).zip(&reported) {
            let what = format!("warmup {warmup}, step {}", s + 1);
            assert_near(lr, rate.of(s), 1e-14, &what);
            assert_near(used(&out, s), rate.of(s), 2e-4, &format!("{what}, as used"));
        }
    }
}

/// A resume goes on in the middle of the schedule; one that is told another number of steps follows
/// the formula for those.
#[test]
fn a_resume_goes_on_with_the_formula() {
    let dir = Dir::new();
    let rate = Rate { peak: 0.02, share: 0.1, warmup: 3, steps: 12 };
    dir.train("whole", &rate.flags());
    for (from, steps) in [(1, 12), (3, 12), (7, 12), (7, 17), (12, 15)] {
        let out = format!("from-{from}-{steps}");
        copy_until(&dir.path("whole"), &dir.path(&out), from);
        let line = format!("--resume --out {out} --log-level error --set run.steps={steps}");
        let done = dir.run("pretrain", &line);
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{line}");
        let out = dir.path(&out);
        let reported = reported(&out);
        assert_eq!(reported.len() as u64, steps, "{line}");
        for (s, &lr) in (0..).zip(&reported) {
            let rate = if s < from { rate } else { Rate { steps, ..rate } };
            let what = format!("{line}: step {}", s + 1);
            assert_near(lr, rate.of(s), 1e-14, &what);
            if s >= from {
                assert_near(used(&out, s), rate.of(s), 2e-4, &format!("{what}, as used"));
            }
        }
    }
}

/// Without `--warmup` it is a tenth of the steps, and the rate falls to a tenth.
#[test]
fn the_defaults_follow_the_paper() {
    let dir = Dir::new();
    let line = tiny_but(&[("--steps", "30"), ("--save-every", "0"), ("--eval-every", "0")]);
    let done = dir.run("pretrain", &format!("{line} --out out --lr 0.001"));
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    let rate = Rate { peak: 0.001, share: 0.1, warmup: 3, steps: 30 };
    for (s, &lr) in (0..).zip(&reported(&dir.path("out"))) {
        assert_near(lr, rate.of(s), 1e-14, &format!("step {}", s + 1));
    }
}

/// A limit that no gradient reaches changes nothing, to the bit; one that all reach does, but not
/// the norm that is reported, which is that before clipping.
#[test]
fn clipping_changes_only_what_is_above_the_limit() {
    let dir = Dir::new();
    let free = dir.train("free", "--clip 0");
    let norms = |out: &str| -> Vec<f64> {
        let lines = metrics(&dir.path(out));
        lines.iter().filter_map(|line| line["grad_norm"].as_f64()).collect()
    };
    let largest = norms("free").into_iter().fold(0.0, f64::max);
    let smallest = norms("free").into_iter().fold(f64::INFINITY, f64::min);
    assert!(smallest > 0.0 && largest < 1e3);
    for (i, limit) in [1.01 * largest, 10.0 * largest, 1e6, 1e30].into_iter().enumerate() {
        let out = format!("above-{i}");
        free.assert_same(&dir.train(&out, &format!("--clip {limit}")), &format!("limit {limit}"));
    }
    let tight = dir.train("tight", &format!("--clip {}", 0.5 * smallest));
    assert!(tight.losses() != free.losses(), "no gradient was clipped");
    assert_eq!(norms("tight")[0], norms("free")[0], "the norm of step 1");
    let m = |out: &str| {
        let m = gain(&dir.path(out), 1, "optimizer", "m.");
        m.iter().map(|x| x * x).sum::<f64>().sqrt()
    };
    let factor = 0.5 * smallest / (norms("free")[0] + 1e-6);
    assert_near(m("tight"), m("free") * factor, 1e-5, "the first moment of step 1");
}

/// On the emulator as well.
#[test]
fn clipping_changes_nothing_below_the_limit_on_a_gpu() {
    let dir = Dir::new();
    let line = tiny_but(&[("--steps", "2"), ("--eval-every", "0"), ("--sample-tokens", "0")]);
    let run = |out: &str, clip: &str| {
        let rest = format!("--device cuda-emulated --dtype bf16 --clip {clip} --out {out}");
        let done = dir.run("pretrain", &format!("{line} {rest}"));
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{rest}");
        Bits::of(&dir.path(out))
    };
    run("free", "0").assert_same(&run("high", "1e6"), "limit 1e6");
    assert!(TINY.contains("--save-every 1"), "the weights of each step are compared");
}
