use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use data::corpus::{Layout, Options, Source, dedup, documents, pipe, run};
use data::rng::mix64;

use crate::{assert_same, gzip, lines, tree, write};

/// A folder of inputs of several kinds: some 40 shards of 30 kB.
fn inputs(folder: &Path) -> Vec<PathBuf> {
    let path = folder.join("in");
    write(&path, "a.jsonl", lines(0, 400).as_bytes());
    write(&path, "b.jsonl.gz", &gzip(lines(400, 100).as_bytes()));
    let again = lines(100, 200) + &lines(450, 30).replace(" w00", " w01");
    write(&path, "c.jsonl", again.as_bytes());
    vec![path]
}

fn source() -> Source {
    Source::Documents(documents::Options::default())
}

fn options(inputs: &[PathBuf], out: PathBuf, layout: Layout) -> Options {
    let options = Options::new(source(), inputs.to_vec(), out);
    Options { shard_bytes: 30_000, layout, ..options }
}

fn dedup_options(inputs: &[PathBuf], out: PathBuf, layout: Layout) -> dedup::Options {
    let options = dedup::Options::new(inputs.to_vec(), out);
    dedup::Options { shard_bytes: 30_000, range_rows: 1000, layout, ..options }
}

fn alone(workers: usize) -> Layout {
    Layout { workers, task: (0, 1), wait: false }
}

/// Nine layouts: threads, tasks one after the other, tasks at the same time.
#[test]
fn any_layout_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = inputs(dir.path());
    let mut trees = Vec::new();
    let mut layouts: Vec<Vec<Layout>> = [1, 2, 4].iter().map(|&n| vec![alone(n)]).collect();
    for (count, wait) in [(1, false), (2, false), (4, false), (1, true), (2, true), (4, true)] {
        let task = |i| Layout { workers: 1, task: (i, count), wait };
        layouts.push((0..count).map(task).collect());
    }
    for (at, tasks) in layouts.iter().enumerate() {
        let one = dir.path().join(format!("one-{at}"));
        let two = dir.path().join(format!("two-{at}"));
        let both = |layout: Layout| {
            let first =
                run(&options(&inputs, one.clone(), layout), &Default::default(), &mut |_| {});
            let options = dedup_options(&inputs, two.clone(), layout);
            let second = dedup::run(&options, &Default::default(), &mut |_| {});
            first.unwrap().complete && second.unwrap().complete
        };
        if tasks[0].wait {
            std::thread::scope(|scope| {
                let threads: Vec<_> =
                    tasks.iter().map(|&task| scope.spawn(move || both(task))).collect();
                assert!(threads.into_iter().all(|thread| thread.join().unwrap()), "{tasks:?}");
            });
        } else {
            // A phase needs all of the one before it, so each task has to be called once a phase.
            let rounds = (0..8).find(|_| tasks.iter().filter(|&&task| !both(task)).count() == 0);
            assert!(rounds.is_some(), "{tasks:?} never end");
        }
        trees.push((tree(&one, &[]), tree(&two, &[])));
        assert_same(&trees[0].0, &trees[at].0, &format!("documents, {tasks:?}"));
        assert_same(&trees[0].1, &trees[at].1, &format!("dedup, {tasks:?}"));
    }
    assert!(trees[0].0.len() > 40, "{} files", trees[0].0.len());
}

/// What the parent process of the tests below kills, limits and feeds.
#[test]
#[ignore = "a part of other tests"]
fn child() {
    let variable = |name: &str| PathBuf::from(std::env::var_os(name).unwrap());
    if std::env::var_os("CORPUS_PIPE").is_some() {
        pipe(&source(), std::io::stdout(), &Default::default()).unwrap();
        return;
    }
    let options = dedup_options(&[variable("CORPUS_IN")], variable("CORPUS_OUT"), alone(2));
    if let Err(e) = dedup::run(&options, &Default::default(), &mut |_| {}) {
        eprintln!("error: {e}");
        std::process::exit(9);
    }
}

fn child_command(input: &Path, out: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "jobs::child", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env("CORPUS_IN", input).env("CORPUS_OUT", out).stdout(Stdio::null());
    command
}

/// `HANDGRAD_KILLS` asks for more of them.
#[test]
fn a_job_that_is_killed_goes_on() {
    let kills = std::env::var("HANDGRAD_KILLS").map_or(12, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let inputs = inputs(dir.path());
    let whole = dir.path().join("whole");
    let began = Instant::now();
    assert!(child_command(&inputs[0], &whole).status().unwrap().success());
    let time = began.elapsed();
    let expected = tree(&whole, &[]);
    let (mut killed, mut round) = (0, 0u64);
    while killed < kills {
        let out = dir.path().join(format!("killed-{round}"));
        // Several kills of one job, each a little later than the work that is left begins.
        for _ in 0..3 {
            round += 1;
            let mut child = child_command(&inputs[0], &out).spawn().unwrap();
            std::thread::sleep(time.mul_f64(mix64(round) as f64 / u64::MAX as f64));
            child.kill().unwrap();
            killed += usize::from(!child.wait().unwrap().success());
        }
        assert!(child_command(&inputs[0], &out).status().unwrap().success());
        assert_same(&expected, &tree(&out, &[]), &format!("round {round}"));
        std::fs::remove_dir_all(&out).unwrap();
    }
}

/// A limit on the size of files is a disk that is full, as far as a program can see.
#[cfg(unix)]
#[test]
fn a_full_disk_is_said_in_one_line_and_goes_on_later() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = inputs(dir.path());
    let out = dir.path().join("out");
    let child = child_command(&inputs[0], &out);
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$@\"", "sh"]);
    shell.arg(child.get_program()).args(child.get_args());
    shell.envs(child.get_envs().map(|(name, value)| (name, value.unwrap()))).stdout(Stdio::null());
    let output = shell.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(9), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{said}");
    assert!(said.contains("cannot write ") && said.contains("free space"), "{said}");
    assert!(child_command(&inputs[0], &out).status().unwrap().success());
    let whole = dir.path().join("whole");
    assert!(child_command(&inputs[0], &whole).status().unwrap().success());
    assert_same(&tree(&whole, &[]), &tree(&out, &[]), "after a full disk");
}

#[test]
fn a_stop_is_obeyed_at_once_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = inputs(dir.path());
    let (out, whole) = (dir.path().join("out"), dir.path().join("whole"));
    let mut stops = 0;
    loop {
        let stop = Arc::new(AtomicBool::new(false));
        let options = dedup_options(&inputs, out.clone(), alone(2));
        let mut asked = None;
        let result = dedup::run(&options, &stop, &mut |progress| {
            if progress.tasks.0 > stops {
                asked.get_or_insert_with(Instant::now);
                stop.store(true, Ordering::Relaxed);
            }
        });
        match result {
            Err(data::Error::Stopped) => {}
            other => {
                assert!(other.unwrap().complete);
                break;
            }
        }
        assert!(
            asked.unwrap().elapsed() < Duration::from_secs(1),
            "{:?}",
            asked.unwrap().elapsed()
        );
        stops += 3;
        assert!(stops < 1000, "no progress");
    }
    assert!(stops > 0, "never stopped");
    dedup::run(&dedup_options(&inputs, whole.clone(), alone(1)), &Default::default(), &mut |_| {})
        .unwrap();
    assert_same(&tree(&whole, &[]), &tree(&out, &[]), "after stops");
}

#[test]
fn a_job_notices_what_changed() {
    let dir = tempfile::tempdir().unwrap();
    let input = write(dir.path(), "in.jsonl", lines(0, 50).as_bytes());
    let inputs = [input.clone()];
    let usual = options(&inputs, dir.path().join("out"), alone(1));
    let run = |options: &Options| {
        let mut done = 0;
        let result = run(options, &Default::default(), &mut |progress| done = progress.work.1);
        result.map(|_| done).map_err(|e| e.to_string())
    };
    assert!(run(&usual).unwrap() > 0);
    assert_eq!(run(&usual).unwrap(), 0, "done is done");

    let fields = documents::Options { text: "id".to_string(), ..Default::default() };
    let other = Options { source: Source::Documents(fields), ..usual.clone() };
    let said = run(&other).unwrap_err();
    assert!(said.contains("source.documents.text = \"text\", now it is \"id\""), "{said}");
    assert!(said.contains("job.json") && said.contains("give another --out"), "{said}");
    let said = run(&Options { shard_bytes: 7000, ..usual.clone() }).unwrap_err();
    assert!(said.contains("shard_bytes = 30000, now it is 7000"), "{said}");

    // A new time alone is no change; other bytes of the same size are, and so is another size.
    write(dir.path(), "in.jsonl", lines(0, 50).as_bytes());
    assert_eq!(run(&usual).unwrap(), 0);
    write(dir.path(), "in.jsonl", lines(0, 50).replace("w00", "v00").as_bytes());
    let said = run(&usual).unwrap_err();
    assert!(said.contains("in.jsonl: has changed since shards 0"), "{said}");
    write(dir.path(), "in.jsonl", lines(0, 60).as_bytes());
    let said = run(&usual).unwrap_err();
    assert!(said.contains("other inputs") && said.contains("in.jsonl"), "{said}");

    let folder = dir.path().join("other");
    write(&folder, "precious.txt", b"");
    let said = run(&Options { out: folder, ..usual }).unwrap_err();
    assert!(said.contains("precious.txt") && said.contains("empty folder"), "{said}");
}

#[test]
fn progress_ends_where_it_should() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = inputs(dir.path());
    let (mut tasks, mut last) = (0, String::new());
    let mut hear = |progress: &data::corpus::Progress| {
        assert!(progress.tasks.0 >= tasks && progress.work.0 <= progress.work.1, "{progress}");
        tasks = progress.tasks.0;
        last = progress.to_string();
    };
    run(&options(&inputs, dir.path().join("out"), alone(2)), &Default::default(), &mut hear)
        .unwrap();
    assert!(last.starts_with(&format!("shards {tasks}/{tasks} ")), "{last}");
    assert!(last.contains(" MB/s 0 s left, 730 of 730 documents kept"), "{last}");
}

/// Files of a job that were lost or cut are made again.
#[test]
fn a_lost_file_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = inputs(dir.path());
    let options = options(&inputs, dir.path().join("out"), alone(2));
    run(&options, &Default::default(), &mut |_| {}).unwrap();
    let before = tree(&options.out, &[]);
    std::fs::remove_file(options.out.join("documents/000003.jsonl.zst")).unwrap();
    std::fs::write(options.out.join("documents/000005.jsonl.zst"), b"cut").unwrap();
    std::fs::write(options.out.join("shards/000007.json"), b"{").unwrap();
    run(&options, &Default::default(), &mut |_| {}).unwrap();
    assert_same(&before, &tree(&options.out, &[]), "repaired");
}

#[test]
fn the_environment_says_which_task_this_is() {
    let task = |pairs: &[(&str, &str)]| {
        let get = |name: &str| pairs.iter().find(|p| p.0 == name).map(|p| p.1.to_string());
        Layout::task_of(get).map_err(|e| e.to_string())
    };
    assert_eq!(task(&[]), Ok(None));
    let slurm = [("SLURM_ARRAY_TASK_ID", "7"), ("SLURM_ARRAY_TASK_COUNT", "4")];
    assert!(task(&slurm).unwrap_err().contains("SLURM_ARRAY_TASK_COUNT is 4"));
    let with_min = [slurm[0], slurm[1], ("SLURM_ARRAY_TASK_MIN", "5")];
    assert_eq!(task(&with_min), Ok(Some((2, 4))));
    let indexed = [("JOB_COMPLETION_INDEX", "1"), ("JOB_COMPLETIONS", "3")];
    assert_eq!(task(&indexed), Ok(Some((1, 3))));
    assert!(task(&indexed[..1]).unwrap_err().contains("JOB_COMPLETIONS is not set"));
    assert!(task(&[("JOB_COMPLETION_INDEX", "x")]).unwrap_err().contains("\"x\" is no number"));
}

#[test]
fn a_source_is_a_filter_too() {
    let mut command = child_command(Path::new("."), Path::new("."));
    command.env("CORPUS_PIPE", "1").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let text = lines(0, 30);
    child.stdin.take().unwrap().write_all((text.clone() + "nonsense\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    // The test runner's own words stand on the same lines.
    let found: Vec<&str> =
        said.lines().filter_map(|line| line.find('{').map(|at| &line[at..])).collect();
    assert_eq!(found, text.lines().collect::<Vec<_>>());
}
