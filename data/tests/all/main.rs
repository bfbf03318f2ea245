//! Tests of the data crate, one module for each of its own.

#[path = "../shared/files.rs"]
mod files;
mod loader;
mod prepare;
mod rng;
mod sentencepiece;
mod shard;
mod stories;
mod text;
mod tokenizer;

/// Checks that an error is one line that says all of `parts`.
fn assert_says(error: &data::Error, parts: &[&str]) {
    let message = error.to_string();
    assert!(!message.contains('\n'), "more than one line: {message}");
    for part in parts {
        assert!(message.contains(part), "no {part:?} in: {message}");
    }
}

/// The names in a folder, sorted.
fn names(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
