use std::path::Path;

use data::corpus::tokenize::{self, List, Options};
use data::corpus::{Layout, Source, documents};
use data::shard::{Sidecar, TokenSource};
use data::tokenizer::{Ends, Tokenizer};

use crate::{assert_same, tree, write};

/// Documents of three sources, in an order that mixes them.
fn inputs(folder: &Path) -> Vec<std::path::PathBuf> {
    let text = |i: usize| format!("{} words of number {i}.", "more ".repeat(i % 17));
    let line = |i: usize| {
        let source = ["books", "wikipedia/en", "../odd name"][i % 7 % 3];
        format!("{{\"text\": \"{}\", \"id\": \"{i}\", \"source\": \"{source}\"}}\n", text(i))
    };
    let path = folder.join("in");
    write(&path, "a.jsonl", (0..300).map(line).collect::<String>().as_bytes());
    write(&path, "b.jsonl", (300..350).map(line).collect::<String>().as_bytes());
    vec![path]
}

fn run(inputs: &[std::path::PathBuf], out: &Path, layout: Layout) -> bool {
    let options = Options::new(inputs.to_vec(), out.to_path_buf());
    let options = Options { shard_bytes: 4_000, layout, ..options };
    let summary =
        tokenize::run(&options, &Tokenizer::bytes(), &Default::default(), &mut |_| {}).unwrap();
    summary.complete
}

fn alone(workers: usize) -> Layout {
    Layout { workers, task: (0, 1), wait: false }
}

#[test]
fn shards_hold_each_document_once_by_source_with_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let (inputs, out) = (inputs(dir.path()), dir.path().join("out"));
    assert!(run(&inputs, &out, alone(2)));

    let list: List =
        serde_json::from_slice(&std::fs::read(out.join("tokens.json")).unwrap()).unwrap();
    let tokenizer = Tokenizer::load(&out.join("tokenizer.json")).unwrap();
    assert_eq!(list.tokenizer, tokenizer.hash());
    assert_eq!(list.sources.len(), 3);
    let mut documents = 0;
    for (source, held) in &list.sources {
        let (mut sum, mut ids_seen) = (0, 0);
        for shard in &held.shards {
            let path = out.join(shard);
            let sidecar = Sidecar::load(&path).unwrap().unwrap();
            assert_eq!(sidecar.tokenizer, list.tokenizer);
            let ids = TokenSource::open(std::slice::from_ref(&path)).unwrap();
            let ids = ids.to_vec(0..ids.len());
            let ends = std::fs::read(path.with_extension("bin.ends")).unwrap();
            let ends = ends.chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().unwrap()));
            let mut start = 0;
            for end in ends {
                let document = &ids[start as usize..end as usize];
                let (before, after) = tokenizer.special().around(Ends::Both);
                let (last, text) = document.split_last().unwrap();
                assert_eq!(Some(*last), after, "{source}");
                let text = text.strip_prefix(before).unwrap();
                assert!(tokenizer.decode(text).unwrap().ends_with('.'), "{source}");
                (start, sum) = (end, sum + 1);
            }
            assert_eq!(start as usize, ids.len(), "{source}: ids after the last document");
            ids_seen += start;
        }
        assert_eq!((sum, ids_seen), (held.documents, held.tokens), "{source}");
        documents += sum;
    }
    assert_eq!(documents, 350);
}

#[test]
fn any_layout_gives_the_same_shards() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = inputs(dir.path());
    let outs = [1, 2, 4].map(|workers| {
        let out = dir.path().join(format!("workers-{workers}"));
        assert!(run(&inputs, &out, alone(workers)));
        tree(&out, &[])
    });
    let tasks = dir.path().join("tasks");
    let complete =
        [0, 1, 2].map(|i| run(&inputs, &tasks, Layout { workers: 1, task: (i, 3), wait: false }));
    assert_eq!(complete, [false, false, true]);
    for other in [&outs[1], &outs[2], &tree(&tasks, &[])] {
        assert_same(&outs[0], other, "shards");
    }
}

#[test]
fn of_a_jobs_folder_what_it_kept_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (inputs, made) = (inputs(dir.path()), dir.path().join("corpora/made"));
    let source = Source::Documents(documents::Options::default());
    let mut options = data::corpus::Options::new(source, inputs, made.clone());
    options.keep_dropped_text = true;
    assert!(data::corpus::run(&options, &Default::default(), &mut |_| {}).unwrap().complete);
    std::fs::copy(made.join("documents/000000.jsonl.zst"), made.join("dropped/more.jsonl.zst"))
        .unwrap();

    let corpora = dir.path().join("corpora");
    let out = dir.path().join("out");
    assert!(run(std::slice::from_ref(&corpora), &out, alone(1)));
    let list: List =
        serde_json::from_slice(&std::fs::read(out.join("tokens.json")).unwrap()).unwrap();
    assert_eq!(list.sources.values().map(|held| held.documents).sum::<u64>(), 350);

    std::fs::remove_file(made.join("report.html")).unwrap();
    let options = Options::new(vec![corpora.clone()], dir.path().join("other"));
    let refused = tokenize::run(&options, &Tokenizer::bytes(), &Default::default(), &mut |_| {});
    assert!(refused.unwrap_err().to_string().contains("is not done"));

    let options = Options::new(vec![corpora], made.join("inner"));
    let refused = tokenize::run(&options, &Tokenizer::bytes(), &Default::default(), &mut |_| {});
    assert!(refused.unwrap_err().to_string().contains("lies in the input"));
}
