//! kill -9 at random moments: what is left always resumes, and ends with the same bits.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use handgrad::data::rng::Philox;
use rand::RngExt;

use super::common::{Bits, Dir, checkpoints, metrics, tiny_but};

const KILLS: u64 = 200;
const STEPS: u64 = 150;

/// Where the kills have hit.
#[derive(Default)]
struct Hits {
    /// Before the first checkpoint of a run was published.
    before_first: u64,
    /// While starting or resuming: no step was done since.
    starting: u64,
    /// Within a save: its temporary folder was there.
    saving: u64,
    /// After the last step was saved.
    finishing: u64,
    /// By the last step done, in tenths of the run.
    tenths: [u64; 11],
}

#[test]
fn two_hundred_kills_lose_at_most_one_save_and_no_bit() {
    let dir = Dir::new();
    let line = tiny_but(&[
        ("--steps", &STEPS.to_string()),
        ("--keep", "2"),
        ("--eval-every", "50"),
        ("--log-level", "info"),
    ]);
    let start = Instant::now();
    let done = dir.run("pretrain", &format!("{line} --out whole"));
    let life = start.elapsed();
    assert_eq!(done.code, 0, "{}", done.stderr);
    let whole = Bits::of(&dir.path("whole"));
    let start = Instant::now();
    assert_eq!(dir.run("pretrain", &format!("{line} --out whole --resume")).code, 0);
    let start_up = start.elapsed();

    let (mut hits, mut runs, mut kills) = (Hits::default(), 0, 0);
    let mut rng = Philox::new(7, 0, 0);
    let out = dir.path("out");
    while kills < KILLS {
        let mut child = go_on(&dir, &line);
        // Half of the moments lie around the start, half anywhere in what a run takes.
        let most = if rng.random() { start_up * 3 / 2 } else { life };
        let delay = most.mul_f64(rng.random());
        let before = last_step(&dir);
        if ends_within(&mut child, delay) {
            let status = child.wait().unwrap();
            assert!(status.success(), "{}", log(&dir));
            whole.assert_same(&Bits::of(&out), &format!("run {runs}"));
            fs::remove_dir_all(&out).unwrap();
            runs += 1;
            continue;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        check(&dir, before, &mut hits);
    }
    let status = go_on(&dir, &line).wait().unwrap();
    assert!(status.success(), "{}", log(&dir));
    whole.assert_same(&Bits::of(&out), "the last run");
    println!(
        "{KILLS} kills over {} runs of {life:?} ({start_up:?} to start): {} before the first \
         checkpoint, {} while starting, {} while saving, {} after the last step; by tenths of the \
         run {:?}",
        runs + 1,
        hits.before_first,
        hits.starting,
        hits.saving,
        hits.finishing,
        hits.tenths
    );
    // Otherwise the test would prove less than it says.
    assert!(hits.before_first > 0 && hits.starting > 0 && hits.saving > 0);
    assert!(hits.tenths.iter().filter(|&&n| n > 0).count() >= 6);
}

/// Starts the run, or resumes it. Nothing but a checkpoint says which.
fn go_on(dir: &Dir, line: &str) -> Child {
    let how = match checkpoints(&dir.path("out")).last() {
        Some(_) => "--resume",
        None => "--overwrite",
    };
    let log = fs::File::create(dir.path("log")).unwrap();
    let mut command = dir.command("pretrain", &format!("{line} --out out {how}"));
    command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

fn log(dir: &Dir) -> String {
    fs::read_to_string(dir.path("log")).unwrap()
}

/// Whether the process ends by itself before `delay` is over.
fn ends_within(child: &mut Child, delay: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < delay {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    child.try_wait().unwrap().is_some()
}

fn last_step(dir: &Dir) -> u64 {
    metrics(&dir.path("out")).last().map_or(0, |line| line["step"].as_u64().unwrap())
}

/// What a kill has left: the checkpoints reach as far as the metrics, or one save less; and the
/// life that just ended had begun where the one before it ended.
fn check(dir: &Dir, before: u64, hits: &mut Hits) {
    let (saved, step) = (checkpoints(&dir.path("out")), last_step(dir));
    if let Some(&newest) = saved.last() {
        assert!(newest + 1 >= step && newest <= step, "saved {newest}, done {step}");
    } else {
        assert_eq!(step, 0, "a step before the first checkpoint");
        hits.before_first += 1;
    }
    for line in log(dir).lines() {
        assert!(!line.contains("passed over") || line.contains(".tmp-"), "{line}");
        if let Some((_, rest)) = line.split_once("resuming after step ") {
            let from: u64 = rest.split_once(' ').unwrap().0.parse().unwrap();
            assert!(from <= before && from + 1 >= before, "from {from}, done before {before}");
        }
    }
    hits.starting += u64::from(step <= before);
    hits.finishing += u64::from(saved.last() == Some(&STEPS));
    hits.tenths[(10 * step / STEPS) as usize] += 1;
    let entries = fs::read_dir(dir.path("out/checkpoints")).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name().into_string().unwrap());
    hits.saving += u64::from(names.any(|name| name.starts_with(".tmp-")));
}
