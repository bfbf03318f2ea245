use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use data::corpus::{Layout, dedup};

use crate::{assert_same, tree, words, write};

/// Texts with everything in between a copy and a stranger: copies, and texts of which some words
/// were replaced. The order is mixed.
fn texts() -> Vec<String> {
    let mut texts = Vec::new();
    for family in 0..60u64 {
        let original = words(family, 30 + 15 * family as usize % 400);
        for copy in 0..6u64 {
            let mut changed = original.clone();
            // copy 0 and 1 are the original; others lose more and more.
            for i in 0..changed.len() {
                let random = data::rng::mix64(family << 32 | copy << 20 | i as u64) % 1000;
                if random < copy.saturating_sub(1) * 12 {
                    changed[i] = format!("x{random}");
                }
            }
            texts.push((data::rng::mix64(family * 10 + copy), changed.join(" ")));
        }
    }
    texts.sort();
    texts.push((0, String::new()));
    texts.push((0, " ... ".to_string()));
    texts.into_iter().map(|(_, text)| text).collect()
}

fn input(folder: &Path, texts: &[String]) -> PathBuf {
    let line = |(i, text): (usize, &String)| {
        let object = serde_json::json!({"text": text, "source": "made", "id": i.to_string()});
        object.to_string() + "\n"
    };
    let lines: String = texts.iter().enumerate().map(line).collect();
    write(folder, "in.jsonl", lines.as_bytes())
}

fn options(input: &Path, out: PathBuf) -> dedup::Options {
    let options = dedup::Options::new(vec![input.to_path_buf()], out);
    let layout = Layout { workers: 2, task: (0, 1), wait: false };
    dedup::Options { shard_bytes: 50_000, range_rows: 500, layout, ..options }
}

fn run(options: &dedup::Options) -> data::corpus::Summary {
    dedup::run(options, &Default::default(), &mut |_| {}).unwrap()
}

/// Numbers of the documents that stayed.
fn kept(out: &Path) -> BTreeSet<usize> {
    let mut kept = BTreeSet::new();
    for (name, bytes) in tree(out, &[]) {
        if name.starts_with("documents") {
            let plain = String::from_utf8(zstd::decode_all(&bytes[..]).unwrap()).unwrap();
            for line in plain.lines() {
                let document: data::corpus::Document = serde_json::from_str(line).unwrap();
                kept.insert(document.id.parse().unwrap());
            }
        }
    }
    kept
}

/// Five words in a row, as a set, with no hash in it.
fn shingles(text: &str) -> HashSet<Vec<&str>> {
    let words: Vec<&str> =
        text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
    words.windows(5.min(words.len()).max(1)).map(<[&str]>::to_vec).collect()
}

fn jaccard(a: &HashSet<Vec<&str>>, b: &HashSet<Vec<&str>>) -> f64 {
    let common = a.intersection(b).count();
    common as f64 / (a.len() + b.len() - common).max(1) as f64
}

/// Held against all pairs, compared with plain sets: whatever went has an earlier text that it is a
/// copy of or that is near enough; whatever stayed has no earlier copy, and hardly ever a near one.
#[test]
fn duplicates_go_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let texts = texts();
    let options = options(&input(dir.path(), &texts), dir.path().join("out"));
    let summary = run(&options);
    let kept = kept(&options.out);
    let sets: Vec<_> = texts.iter().map(|text| shingles(text)).collect();
    let (mut copies, mut missed, mut near) = (0, 0, 0);
    for (i, text) in texts.iter().enumerate() {
        let copy = texts[..i].contains(text);
        let most = sets[..i].iter().map(|set| jaccard(set, &sets[i])).fold(0.0, f64::max);
        copies += u64::from(copy);
        near += usize::from(!copy && most >= 0.8);
        if kept.contains(&i) {
            assert!(!copy, "{i} is a copy and stayed");
            missed += usize::from(most >= 0.8);
        } else {
            assert!(copy || most >= 0.8, "{i} went, but the nearest text before it has {most}");
        }
    }
    assert!(near > 40, "too few near-duplicates to say anything: {near}");
    // 20 bands of 7 miss at most 0.9 % of pairs.
    assert!(missed <= 2, "{missed} of {near} near-duplicates stayed");
    let rules = &summary.counts.rules;
    assert_eq!(rules["exact_duplicate"].dropped.documents, copies);
    assert_eq!(rules["near_duplicate"].dropped.documents as usize, near - missed);
    assert_eq!(rules["near_duplicate"].kept as usize, kept.len());
    assert_eq!(summary.counts.kept.documents as usize, kept.len());
}

#[test]
fn ranges_and_shards_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let input = input(dir.path(), &texts());
    let first = options(&input, dir.path().join("a"));
    run(&first);
    let other = dedup::Options { range_rows: 1 << 22, ..options(&input, dir.path().join("b")) };
    run(&other);
    assert_eq!(kept(&first.out), kept(&other.out));
    let other = dedup::Options { shard_bytes: 9000, ..options(&input, dir.path().join("c")) };
    run(&other);
    assert_eq!(kept(&first.out), kept(&other.out));
    let rules = dedup::Rules { near: false, ..Default::default() };
    let exact = dedup::Options { rules, ..options(&input, dir.path().join("d")) };
    let summary = run(&exact);
    assert!(!summary.counts.rules.contains_key("near_duplicate"));
    let different: BTreeSet<String> = texts().into_iter().collect();
    assert_eq!(kept(&exact.out).len(), different.len());
}

/// A Python with DuckDB: `HANDGRAD_PYTHON`, or whatever `python3` is.
fn python() -> Option<String> {
    let name = std::env::var("HANDGRAD_PYTHON").unwrap_or("python3".to_string());
    let there = Command::new(&name).args(["-c", "import duckdb"]).output();
    there.is_ok_and(|output| output.status.success()).then_some(name)
}

/// The published query, on our tables, chooses what ours chooses; and a job takes its choice.
#[test]
fn sql_selects_the_same_documents() {
    let Some(python) = python() else {
        println!("skipped: no Python with duckdb; pip install duckdb, HANDGRAD_PYTHON=...");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let input = input(dir.path(), &texts());
    let ours = dedup::Options { tables: true, ..options(&input, dir.path().join("ours")) };
    run(&ours);
    let until = dedup::Until::Hashes;
    let theirs =
        dedup::Options { tables: true, until, ..options(&input, dir.path().join("theirs")) };
    assert!(run(&theirs).complete);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let selection = dir.path().join("selection");
    let output = Command::new(python)
        .arg(root.join("tests/corpora/dedup-sql.py"))
        .args([&theirs.out, &selection])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs =
        dedup::Options { until: dedup::Until::Documents, selection: Some(selection), ..theirs };
    assert!(run(&theirs).complete);
    let own = ["exact", "pairs", "members", "sets", "near", "shards"];
    assert_same(&tree(&ours.out, &own), &tree(&theirs.out, &own), "ours and SQL's");
}
