//! `handgrad prepare`: from documents to the shards that `pretrain` reads.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use super::common::{Dir, finish, text};

/// A folder `in` with two files: 60 documents, of which 20 are there twice and 10 are short.
fn with_documents() -> Dir {
    let dir = Dir::new();
    fs::create_dir(dir.path("in")).unwrap();
    let words = text(40);
    let line = |i: usize| {
        let text = format!("Number {i}. {words} {i}");
        format!("{}\n", json!({ "text": text, "id": i.to_string(), "source": "tales" }))
    };
    fs::write(dir.path("in/a.jsonl"), (0..40).map(line).collect::<String>()).unwrap();
    fs::write(dir.path("in/b.jsonl"), (20..40).map(line).collect::<String>()).unwrap();
    dir
}

fn ok(dir: &Dir, line: &str) -> (Value, String) {
    let done = dir.run("prepare", line);
    assert_eq!(done.code, 0, "{line}: {}", done.stderr);
    (serde_json::from_str(&done.stdout).unwrap_or(Value::Null), done.stderr)
}

#[test]
fn documents_become_shards_that_pretrain_reads() {
    let dir = with_documents();
    let (made, told) = ok(&dir, "documents in --out made --workers 2");
    assert_eq!(made["counts"]["kept"]["documents"], 60, "{told}");
    assert!(told.contains("report.html") && dir.path("made/report.html").exists());

    let (unique, _) = ok(&dir, "dedup made --out unique --set near=false");
    assert_eq!(unique["counts"]["kept"]["documents"], 40);
    let (_, told) = ok(&dir, "tokenizer unique --vocab-size 300 --out tokenizer");
    assert!(told.contains("300 entries"), "{told}");
    let line = "tokenize unique --tokenizer tokenizer/tokenizer.json --out shards";
    let (shards, _) = ok(&dir, line);
    assert_eq!(
        (&shards["complete"], &shards["counts"]["kept"]["documents"]),
        (&json!(true), &json!(40))
    );

    let line = "--data shards/tokens --tokenizer shards/tokenizer.json --model 260k --steps 2 \
        --batch-size 2 --seq-len 16 --eval-tokens 64 --sample-tokens 4 --out run --log-level error";
    let done = dir.run("pretrain", line);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));

    // The same command goes on, and finds all done.
    let before = dir.snapshot();
    ok(&dir, "dedup made --out unique --set near=false");
    assert!(dir.snapshot() == before, "a finished job has written again");
    let told = dir.run("prepare", "explain unique tales/25");
    assert_eq!(told.code, 0, "{}", told.stderr);
    let lines: Vec<_> = told.stdout.lines().filter(|line| line.starts_with("tales 25: ")).collect();
    assert_eq!(lines.len(), 2, "{}", told.stdout);
    assert!(told.stdout.contains("exact_duplicate: dropped"), "{}", told.stdout);
}

#[test]
fn tasks_of_an_array_share_a_folder() {
    let dir = with_documents();
    let run = |i: usize| {
        let mut command = dir.command("prepare", "documents in --out made");
        let done = finish(command.envs([
            ("SLURM_ARRAY_TASK_ID", (i + 1).to_string()),
            ("SLURM_ARRAY_TASK_MIN", "1".to_string()),
            ("SLURM_ARRAY_TASK_COUNT", "2".to_string()),
        ]));
        assert_eq!(done.code, 0, "{}", done.stderr);
        serde_json::from_str::<Value>(&done.stdout).unwrap()["complete"].clone()
    };
    // One shard: the first task does it, the second has nothing to do.
    assert_eq!([run(1), run(0), run(1)], [json!(false), json!(true), json!(true)]);
}

#[test]
fn a_filter_reads_standard_input_and_writes_what_it_keeps() {
    let dir = with_documents();
    let mut command = dir.command("prepare", "pipe documents");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let input = fs::read(dir.path("in/a.jsonl")).unwrap();
    child.stdin.take().unwrap().write_all(&input).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let lines = String::from_utf8(done.stdout).unwrap();
    assert_eq!(lines.lines().count(), 40);
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((&first["id"], &first["source"]), (&json!("0"), &json!("tales")));
}

#[test]
fn every_key_is_printed_as_set_takes_it() {
    let dir = Dir::new();
    for stage in ["documents", "github", "wikipedia", "books", "arxiv", "stackexchange", "dedup"] {
        let done = dir.run("prepare", &format!("{stage} --keys"));
        assert_eq!(done.code, 0, "{}", done.stderr);
        assert!(done.stdout.lines().count() >= 3, "{stage}: {}", done.stdout);
        let mut command = dir.command("prepare", &format!("{stage} --keys"));
        for line in done.stdout.lines() {
            command.args(["--set", line]);
        }
        let again = finish(&mut command);
        assert_eq!((again.code, again.stdout), (0, done.stdout), "{stage}: {}", again.stderr);
    }
    let done = dir.run("prepare", "github --keys --set longest_line=77");
    assert!(done.stdout.contains("longest_line=77"), "{}", done.stdout);
}

#[test]
fn mistakes_are_one_line() {
    let dir = with_documents();
    for (line, code, parts) in [
        ("documents nowhere --out made", 1, &["nowhere", "No such file"][..]),
        ("documents in", 2, &["--out"]),
        ("documents --out made", 2, &["PATH"]),
        ("documents in --out in/made", 1, &["in/made", "lies in the input in"]),
        ("documents in --out .", 1, &["holds", "no job", "empty folder"]),
        ("github in --out made --set longest=3", 2, &["longest=3", "no such key", "--keys"]),
        ("github in --out made --set longest_line", 2, &["longest_line", "KEY=VALUE"]),
        ("github in --out made --set longest_line=many", 2, &["many", "f64"]),
        ("documents in --out made --task 3/3", 2, &["'3/3' for '--task <I/N>'", "from 0 to N - 1"]),
        ("documents in --out made --workers 0", 2, &["--workers", "at least 1"]),
        ("tokenize in --out made", 2, &["--tokenizer"]),
        ("tokenize in --out made --tokenizer nothing.json", 1, &["nothing.json"]),
        ("tokenizer in --out made --vocab-size 20", 1, &["20", "too small"]),
        ("pipe papers", 2, &["papers: no such source"]),
        ("explain in 7", 1, &["in/documents"]),
    ] {
        dir.refused("prepare", line, code, parts);
    }
    ok(&dir, "documents in --out made");
    dir.refused("prepare", "documents in --out made --shard-mib 3", 1, &["shard_bytes", "--out"]);
    dir.refused("prepare", "explain made 77", 1, &["no document 77"]);
}
