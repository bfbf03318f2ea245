use std::path::{Path, PathBuf};

use data::Error;
use data::text::{Documents, find_files, passed_over};
use tempfile::TempDir;

use crate::assert_says;
use crate::files::{gzip, write};

fn read(path: &Path) -> Result<Vec<String>, Error> {
    Documents::new(find_files(&[path.to_path_buf()])?).collect()
}

fn lines(count: usize) -> String {
    (0..count).map(|i| format!("{{\"text\": \"document {i} of many\"}}\n")).collect()
}

#[test]
fn a_text_file_is_one_document() {
    let dir = TempDir::new().unwrap();
    let path = write(dir.path(), "a.txt", "one\r\n\ntwo \u{1F600}\n".as_bytes());
    assert_eq!(read(&path).unwrap(), ["one\r\n\ntwo \u{1F600}\n"]);
}

#[test]
fn json_lines_give_their_text() {
    let dir = TempDir::new().unwrap();
    let content = "\u{FEFF}{\"id\": 1, \"text\": \"a\\n\\u00e4\\ud83d\\ude00\", \"x\": [{}]}\r\n\n  \n\
                   {\"text\": \"\"}\n{\"text\": \"last\"}";
    let path = write(dir.path(), "a.jsonl", content.as_bytes());
    assert_eq!(read(&path).unwrap(), ["a\n\u{e4}\u{1F600}", "last"]);
}

#[test]
fn compressed_files_of_several_members_are_read_whole() {
    let dir = TempDir::new().unwrap();
    let (a, b) = ("{\"text\": \"one\"}\n{\"text\": \"tw", "o\"}\n{\"text\": \"three\"}\n");
    let gz = [gzip(a.as_bytes()), gzip(b.as_bytes())].concat();
    let zst =
        [zstd::encode_all(a.as_bytes(), 1).unwrap(), zstd::encode_all(b.as_bytes(), 1).unwrap()];
    for path in
        [write(dir.path(), "a.jsonl.gz", &gz), write(dir.path(), "a.JSONL.zst", &zst.concat())]
    {
        assert_eq!(read(&path).unwrap(), ["one", "two", "three"]);
    }
}

#[test]
fn folders_are_read_in_depth_sorted_without_hidden_files() {
    let dir = TempDir::new().unwrap();
    for (name, text) in [
        ("b/2.txt", "3"),
        ("b/10.txt", "2"),
        ("a.txt", "1"),
        ("c.txt", "4"),
        (".hidden.txt", "x"),
        (".git/x.txt", "x"),
        ("notes.md", "x"),
        ("b/x.bin.json", "x"),
        (".txt", "x"),
    ] {
        write(dir.path(), name, text.as_bytes());
    }
    assert_eq!(read(dir.path()).unwrap(), ["1", "2", "3", "4"]);
    let given = [dir.path().join("c.txt"), dir.path().join("b")];
    let documents: Result<Vec<_>, _> = Documents::new(find_files(&given).unwrap()).collect();
    assert_eq!(documents.unwrap(), ["4", "2", "3"]);
}

/// What is passed over is told, unless its name says that it is meant to be.
#[test]
fn files_that_are_not_read_are_named() {
    let dir = TempDir::new().unwrap();
    for name in ["a.txt", "b.bin", "b.bin.json", ".hidden", ".git/x"] {
        write(dir.path(), name, b"x");
    }
    let input = [dir.path().to_path_buf()];
    assert_eq!(passed_over(&input).unwrap(), None);
    assert_eq!(passed_over(&[dir.path().join("a.txt")]).unwrap(), None);
    write(dir.path(), "c/a.txt.gz", b"x");
    let line = passed_over(&input).unwrap().unwrap();
    assert!(line.starts_with("1 file is passed over") && line.contains("c/a.txt.gz"), "{line}");
    for name in ["d.parquet", "e.json", "f.bin.json"] {
        write(dir.path(), name, b"x");
    }
    let line = passed_over(&input).unwrap().unwrap();
    for part in
        ["4 files are passed over", "c/a.txt.gz", "d.parquet", "e.json", "...", ".jsonl.zst"]
    {
        assert!(line.contains(part), "{part} is not in: {line}");
    }
}

#[cfg(unix)]
#[test]
fn names_that_are_not_utf_8_are_read() {
    use std::os::unix::ffi::OsStrExt;
    let dir = TempDir::new().unwrap();
    let name = std::ffi::OsStr::from_bytes(b"\xff\xfe.TXT");
    // Some file systems take no such name.
    if std::fs::write(dir.path().join(name), "text").is_ok() {
        assert_eq!(read(dir.path()).unwrap(), ["text"]);
    }
}

#[test]
fn bytes_read_reaches_the_file_size() {
    let dir = TempDir::new().unwrap();
    let path = write(dir.path(), "a.jsonl.gz", &gzip(lines(1000).as_bytes()));
    let mut documents = Documents::new(vec![path.clone()]);
    assert_eq!(documents.by_ref().count(), 1000);
    assert_eq!(documents.bytes_read(), std::fs::metadata(path).unwrap().len());
}

#[test]
fn missing_file() {
    let error = find_files(&[PathBuf::from("nowhere/a.txt")]).unwrap_err();
    assert_says(&error, &["cannot read nowhere/a.txt", "No such file", "check the path"]);
}

/// A link to itself is unreadable even to root.
#[cfg(unix)]
#[test]
fn unreadable_file() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.txt");
    std::os::unix::fs::symlink(&path, &path).unwrap();
    assert_says(&read(&path).unwrap_err(), &["cannot read", "a.txt", "permissions"]);
    assert_says(&read(dir.path()).unwrap_err(), &["cannot read", "a.txt", "permissions"]);
}

#[test]
fn a_file_that_vanishes_is_an_error_not_an_end() {
    let mut documents = Documents::new(vec!["nowhere/a.jsonl".into(), "nowhere/b.txt".into()]);
    let error = documents.next().unwrap().unwrap_err();
    assert_says(&error, &["cannot read nowhere/a.jsonl", "check the path"]);
    assert!(documents.next().is_none(), "ends after an error");
}

#[test]
fn unsupported_file() {
    let dir = TempDir::new().unwrap();
    let path = write(dir.path(), "a.csv", b"x");
    let error = read(&path).unwrap_err();
    assert_says(&error, &["a.csv: unsupported", ".txt, .jsonl, .jsonl.gz, .jsonl.zst, .bin"]);
}

#[test]
fn folder_without_text() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "corpus/a.csv", b"x");
    let error = read(&dir.path().join("corpus")).unwrap_err();
    assert_says(&error, &["corpus: none of .txt", "in this folder", "check the path"]);
}

#[test]
fn invalid_utf8_in_text() {
    let dir = TempDir::new().unwrap();
    let path = write(dir.path(), "a.txt", b"fine\xFF not");
    assert_says(&read(&path).unwrap_err(), &["a.txt: invalid UTF-8 at byte 4", "convert"]);
}

#[test]
fn invalid_utf8_in_json() {
    let dir = TempDir::new().unwrap();
    let path = write(dir.path(), "a.jsonl", b"{\"text\": \"a\"}\n{\"text\": \"\xC3\"}\n");
    let error = read(&path).unwrap_err();
    assert_says(&error, &["a.jsonl: invalid UTF-8 at line 2, byte 10", "convert"]);
    let path = write(dir.path(), "b.jsonl", b"{\"text\": \"\\ud800\"}\n");
    assert_says(&read(&path).unwrap_err(), &["b.jsonl: line 1", "JSON object", "\"text\""]);
}

#[test]
fn json_without_a_string_text() {
    let dir = TempDir::new().unwrap();
    for (bad, why) in [
        ("{\"body\": \"x\"}", "missing field `text`"),
        ("{\"text\": 3}", "invalid type: integer `3`"),
        ("{\"text\": null}", "invalid type: null"),
        ("[1]", "invalid type: integer `1`"),
        ("{\"text\": \"x\"", "EOF while parsing"),
        ("hello", "expected value"),
    ] {
        let path =
            write(dir.path(), "a.jsonl", format!("{{\"text\":\"ok\"}}\n\n{bad}\n").as_bytes());
        let error = read(&path).unwrap_err();
        assert_says(&error, &["a.jsonl: line 3: ", why, "every line must be a JSON object"]);
        assert!(!error.to_string().contains("line 1"), "the parser's own line: {error}");
    }
}

#[test]
fn truncated_or_corrupt_gzip_and_zstd() {
    let dir = TempDir::new().unwrap();
    // Hard to compress, so that whole lines come out before the damage.
    let text: String =
        (0..20000u64).map(|i| format!("{{\"text\": \"{:x}\"}}\n", data::rng::mix64(i))).collect();
    let zst = zstd::encode_all(text.as_bytes(), 1).unwrap();
    for (name, format, whole) in
        [("a.jsonl.gz", "gzip", gzip(text.as_bytes())), ("a.jsonl.zst", "zstd", zst)]
    {
        let cut = &whole[..whole.len() * 3 / 4];
        let error = read(&write(dir.path(), name, cut)).unwrap_err();
        assert_says(&error, &[name, &format!("corrupt {format} data after line 1"), "again"]);
        let mut flipped = whole.clone();
        for byte in &mut flipped[whole.len() / 2..][..64] {
            *byte = !*byte;
        }
        let error = read(&write(dir.path(), name, &flipped)).unwrap_err();
        assert!(matches!(
            error,
            Error::Compressed { .. } | Error::Json { .. } | Error::Utf8 { .. }
        ));
        assert_says(&error, &[name, "line"]);
        let error = read(&write(dir.path(), name, b"plain text, not compressed")).unwrap_err();
        assert_says(&error, &[name, &format!("corrupt {format} data after line 0"), "again"]);
    }
}
