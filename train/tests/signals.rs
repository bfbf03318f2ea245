//! Signals as a run meets them, each in a process of its own: this test binary, started again.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::low_level::raise;
use train::signals::Signals;
use train::{Outcome, main_exit};

/// What the child is to do: signal numbers to raise, one after the other.
const CHILD: &str = "TRAIN_TEST_SIGNALS";

/// Raises the signals it is told, reports what it sees after each, and ends as a run would.
#[test]
fn signals_are_seen_and_the_second_ends_the_process() {
    if let Ok(told) = std::env::var(CHILD) {
        let signals = Signals::install().unwrap();
        for signal in told.split(' ') {
            raise(signal.parse().unwrap()).unwrap();
            println!("saw {:?} {}", signals.requested(), signals.take_save_request());
        }
        let outcome = signals.requested().map_or(Outcome::Done, Outcome::Stopped);
        std::process::exit(i32::from(outcome.exit_code()));
    }
    let int_then_exit = (vec!["Some(2) false"], 130);
    for (raised, (saw, code)) in [
        (vec![SIGINT], int_then_exit.clone()),
        (vec![SIGTERM], (vec!["Some(15) false"], 143)),
        (vec![SIGINT, SIGINT, SIGUSR1], int_then_exit),
        (vec![SIGTERM, SIGINT, SIGUSR1], (vec!["Some(15) false"], 130)),
        (vec![SIGINT, SIGTERM, SIGUSR1], (vec!["Some(2) false"], 143)),
        (vec![SIGUSR1, SIGUSR1], (vec!["None true", "None true"], 0)),
        (vec![SIGUSR1, SIGTERM, SIGUSR1], {
            (vec!["None true", "Some(15) false", "Some(15) true"], 143)
        }),
    ] {
        let told: Vec<String> = raised.iter().map(i32::to_string).collect();
        let test = "signals_are_seen_and_the_second_ends_the_process";
        let output = child(test, &told.join(" ")).wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{raised:?}");
        let stdout = String::from_utf8(output.stdout).unwrap();
        // The test harness may write its own text before the first of our lines.
        let lines: Vec<_> = stdout.lines().filter_map(|l| Some(l.split_once("saw ")?.1)).collect();
        assert_eq!(lines, saw, "{raised:?}");
    }
}

/// A folder's lock ends with the process that held it, even by SIGKILL.
#[test]
fn a_lock_ends_with_its_process() {
    use train::outdir::{Existing, OutDir};
    if let Some(out) = std::env::var_os(CHILD) {
        let _held = OutDir::create(out.as_ref(), Existing::Refuse).unwrap();
        println!("locked");
        std::io::stdout().flush().unwrap();
        loop {
            std::thread::park();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let mut process = child("a_lock_ends_with_its_process", out.to_str().unwrap());
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("locked")));
    let text = OutDir::create(&out, Existing::Refuse).unwrap_err().to_string();
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(text.contains("in use by another process"), "{text}");
    OutDir::create(&out, Existing::Refuse).unwrap();
}

/// Every failure is one line on stderr and its own exit code.
#[test]
fn a_failed_main_prints_one_line() {
    if let Ok(kind) = std::env::var(CHILD) {
        let error: Box<dyn std::error::Error + Send + Sync> = match kind.as_str() {
            "config" => train::Error::Config("first\nsecond".to_string()).into(),
            "diverged" => train::Error::Diverged { step: 7, what: "loss is NaN".into() }.into(),
            _ => "something else".into(),
        };
        // `ExitCode` shows its number only in its debug text.
        println!("code {:?}", main_exit(Err(error)));
        return;
    }
    for (kind, code, line) in [
        ("config", 2, "error: first second\n"),
        ("diverged", 3, "error: diverged at step 7: loss is NaN; start again with a lower --lr"),
        ("other", 1, "error: something else\n"),
    ] {
        let output = child("a_failed_main_prints_one_line", kind).wait_with_output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        let exit = format!("code {:?}", std::process::ExitCode::from(code));
        assert!(stdout.contains(&exit), "{stdout}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.starts_with(line) && stderr.lines().count() == 1, "{stderr}");
    }
}

fn child(test: &str, told: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", test]).env(CHILD, told);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}
