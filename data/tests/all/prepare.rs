use std::path::{Path, PathBuf};

use data::Error;
use data::prepare::{Counts, tokenize_documents, tokenize_to_measure, tokenize_to_source};
use data::shard::{ShardWriter, Sidecar, TokenSource};
use data::stories::Stories;
use data::tokenizer::{Ends, Tokenizer};
use tempfile::TempDir;

use crate::{assert_says, names};

fn prepare(inputs: &[PathBuf], cache: Option<&Path>) -> Result<(Vec<u32>, Counts), Error> {
    let (tokenizer, silent) = (Tokenizer::bytes(), &mut |_, _| {});
    let (source, counts) = tokenize_to_source(inputs, &tokenizer, Ends::Both, cache, silent)?;
    Ok((source.to_vec(0..source.len()), counts))
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// A document, between the tokens that begin and end one.
fn bytes(text: &str) -> Vec<u32> {
    [1].into_iter().chain(text.bytes().map(|b| u32::from(b) + 3)).chain([2]).collect()
}

fn shard(path: &Path, vocab_size: usize, tokenizer: String, ids: &[u32]) {
    let mut shard = ShardWriter::create(path, vocab_size, tokenizer).unwrap();
    shard.push(ids).unwrap();
    shard.count(2, 5);
    shard.finish().unwrap();
}

#[test]
fn files_shards_and_folders_become_one_stream_in_order() {
    let dir = TempDir::new().unwrap();
    let text = write(dir.path(), "z.txt", "last\n");
    let lines = write(dir.path(), "a.jsonl", "{\"text\":\"one\"}\n{\"text\":\"two\"}\n");
    let ready = dir.path().join("m.bin");
    shard(&ready, 259, Tokenizer::bytes().hash(), &[10, 11, 12]);
    let expected = [bytes("one"), bytes("two"), vec![10, 11, 12], bytes("last\n")].concat();
    let counts = Counts { documents: 5, text_bytes: 16, tokens: expected.len() as u64 };
    assert_eq!(prepare(&[lines, ready, text], None).unwrap(), (expected.clone(), counts));
    assert_eq!(prepare(&[dir.path().to_path_buf()], None).unwrap(), (expected, counts));
}

#[test]
fn the_cache_gives_the_same_tokens_and_notices_changes() {
    let (dir, cache) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let input = [write(dir.path(), "a.txt", "hello"), write(dir.path(), "b.txt", "you")];
    let memory = prepare(&input, None).unwrap();
    let first = prepare(&input, Some(cache.path())).unwrap();
    assert_eq!(first, memory);
    let files = names(cache.path());
    assert_eq!(files.len(), 2, "{files:?}");
    let path = cache.path().join(&files[0]);
    let made = std::fs::metadata(&path).unwrap().modified().unwrap();
    assert_eq!(prepare(&input, Some(cache.path())).unwrap(), memory);
    assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), made, "not made again");
    std::fs::remove_file(Sidecar::path(&path)).unwrap();
    assert_eq!(
        prepare(&input, Some(cache.path())).unwrap(),
        memory,
        "without its sidecar made again"
    );
    write(dir.path(), "b.txt", "you two");
    let (ids, _) = prepare(&input, Some(cache.path())).unwrap();
    assert_eq!(ids, [bytes("hello"), bytes("you two")].concat());
    assert_eq!(names(cache.path()).len(), 4);
}

/// Runs from before there was a choice have the end token alone, and shards of their own.
#[test]
fn ends_are_both_tokens_or_the_end_token_alone() {
    let (dir, cache) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let input = [write(dir.path(), "a.txt", "hello"), write(dir.path(), "b.txt", "you")];
    let tokenizer = Tokenizer::bytes();
    for (ends, first) in [(Ends::Both, 0), (Ends::After, 1), (Ends::Both, 0)] {
        let expected = [&bytes("hello")[first..], &bytes("you")[first..]].concat();
        for cache in [None, Some(cache.path())] {
            let (source, _) =
                tokenize_to_source(&input, &tokenizer, ends, cache, &mut |_, _| {}).unwrap();
            assert_eq!(source.to_vec(0..source.len()), expected, "{ends:?}");
        }
    }
    assert_eq!(names(cache.path()).len(), 4);
}

/// What is measured has what a prompt begins with before each document, and nothing after it.
#[test]
fn what_is_measured_is_given_its_beginning() {
    let dir = TempDir::new().unwrap();
    let input = [
        write(dir.path(), "a.jsonl", "{\"text\":\"one\"}\n{\"text\":\"three\"}\n"),
        dir.path().join("b.bin"),
        write(dir.path(), "c.txt", "five"),
    ];
    let tokenizer = Tokenizer::bytes();
    shard(&input[1], 259, tokenizer.hash(), &[1, 7, 2]);
    let measured = tokenize_to_measure(&input, &tokenizer).unwrap();
    let document = |text| bytes(text)[..bytes(text).len() - 1].to_vec();
    let expected = [document("one"), document("three"), vec![1, 7, 2], document("five")].concat();
    assert_eq!(measured.ids, expected);
    assert_eq!(measured.given, [0, 4, 13]);
    let tokens = expected.len() as u64;
    assert_eq!(measured.counts, Counts { documents: 5, text_bytes: 17, tokens });
}

/// More text than one batch holds, as many documents and as one.
#[test]
fn batches_do_not_show() {
    let stories: Vec<String> = Stories::new(1).take(8000).collect();
    let total: usize = stories.iter().map(String::len).sum();
    assert!(total > 5 << 20);
    let tokenizer = Tokenizer::bytes();
    let documents = stories.iter().cloned().map(Ok);
    let (source, counts) = tokenize_documents(documents, &tokenizer, Ends::Both).unwrap();
    let expected: Vec<u32> = stories.iter().flat_map(|s| bytes(s)).collect();
    assert_eq!(source.to_vec(0..source.len()), expected);
    let tokens = expected.len() as u64;
    assert_eq!(counts, Counts { documents: 8000, text_bytes: total as u64, tokens });
    let dir = TempDir::new().unwrap();
    let all = stories.concat();
    assert_eq!(prepare(&[write(dir.path(), "a.txt", &all)], None).unwrap().0, bytes(&all));
}

#[test]
fn progress_rises_to_the_whole() {
    let dir = TempDir::new().unwrap();
    let input = [write(dir.path(), "a.txt", "hello"), write(dir.path(), "b.txt", "you")];
    let mut heard = Vec::new();
    let (tokenizer, mut hear) = (Tokenizer::bytes(), |done, of| heard.push((done, of)));
    tokenize_to_source(&input, &tokenizer, Ends::Both, None, &mut hear).unwrap();
    assert!(heard.is_sorted() && heard.last() == Some(&(8, 8)), "{heard:?}");
}

#[test]
fn empty_data() {
    let (dir, cache) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let inputs =
        [write(dir.path(), "a.txt", ""), write(dir.path(), "b.jsonl", "\n{\"text\": \"\"}\n")];
    for cache in [None, Some(cache.path())] {
        let error = prepare(&inputs, cache).unwrap_err();
        assert_says(&error, &["a.txt, ", "b.jsonl: no text and no tokens", "not empty"]);
    }
    assert!(names(cache.path()).is_empty());
    let error = tokenize_documents(std::iter::empty(), &Tokenizer::bytes(), Ends::Both);
    let error = error.err().unwrap();
    assert_says(&error, &["the documents: no text", "not empty"]);
}

#[test]
fn an_error_on_the_way_leaves_no_cache() {
    let (dir, cache) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let lines = "{\"text\": \"fine\"}\n{\"text\": 1}\n";
    let error = prepare(&[write(dir.path(), "a.jsonl", lines)], Some(cache.path())).unwrap_err();
    assert_says(&error, &["a.jsonl: line 2"]);
    assert!(names(cache.path()).is_empty());
}

#[test]
fn cache_folder_that_is_not_there() {
    let dir = TempDir::new().unwrap();
    let input = [write(dir.path(), "a.txt", "hello")];
    let error = prepare(&input, Some(&dir.path().join("nowhere"))).unwrap_err();
    assert_says(&error, &["cannot write", "nowhere/tokens-", "check that the folder exists"]);
}

#[test]
fn shard_of_another_tokenizer() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("m.bin");
    let own = Tokenizer::bytes().hash();
    // As long as the right one, and not.
    let near = own.chars().rev().collect::<String>();
    assert_ne!(near, own);
    for other in [near, "beef".to_string()] {
        shard(&path, 259, other.clone(), &[10, 11, 12]);
        let error = prepare(std::slice::from_ref(&path), None).unwrap_err();
        let written = format!("m.bin: written with tokenizer {other}");
        assert_says(&error, &[&written, &own, "--tokenizer"]);
    }
    // Without a sidecar nobody knows, and the ids decide.
    std::fs::remove_file(Sidecar::path(&path)).unwrap();
    assert_eq!(prepare(&[path], None).unwrap().0, [10, 11, 12]);
}

#[test]
fn shard_with_ids_outside_the_vocabulary() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("m.bin");
    shard(&path, 300, String::new(), &[10, 259]);
    std::fs::remove_file(Sidecar::path(&path)).unwrap();
    TokenSource::open(std::slice::from_ref(&path)).unwrap();
    let error = prepare(&[path], None).unwrap_err();
    assert_says(
        &error,
        &["m.bin: token 259 at position 1", "vocabulary of 259", "use the tokenizer"],
    );
}
