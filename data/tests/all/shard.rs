use std::path::{Path, PathBuf};

use data::Error;
use data::rng::mix64;
use data::shard::{ShardWriter, Sidecar, TokenSource};
use tempfile::TempDir;

use crate::{assert_says, names};

fn ids(count: u64, vocab_size: usize) -> Vec<u32> {
    (0..count).map(|i| (mix64(i) % vocab_size as u64) as u32).collect()
}

fn write(path: &Path, vocab_size: usize, ids: &[u32]) -> Sidecar {
    let mut shard = ShardWriter::create(path, vocab_size, "cafe".to_string()).unwrap();
    for part in ids.chunks(7) {
        shard.push(part).unwrap();
        shard.count(1, 10);
    }
    shard.finish().unwrap()
}

fn word(bytes: &[u8], i: usize) -> u32 {
    u32::from_le_bytes(bytes[4 * i..4 * i + 4].try_into().unwrap())
}

fn shard_of(dir: &TempDir, ids: &[u32]) -> PathBuf {
    let path = dir.path().join("x.bin");
    write(&path, 1000, ids);
    std::fs::remove_file(Sidecar::path(&path)).unwrap();
    path
}

#[test]
fn written_in_llmc_layout_and_read_back() {
    let dir = TempDir::new().unwrap();
    for (vocab_size, magic, version, width) in
        [(1 << 16, 20240520, 1, 2), ((1 << 16) + 1, 20240801, 7, 4)]
    {
        let path = dir.path().join(format!("{width}.bin"));
        let mut expected = ids(1000, vocab_size);
        expected[999] = vocab_size as u32 - 1;
        let sidecar = write(&path, vocab_size, &expected);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!((word(&bytes, 0), word(&bytes, 1), word(&bytes, 2)), (magic, version, 1000));
        assert!(bytes[12..1024].iter().all(|&b| b == 0));
        assert_eq!(bytes.len(), 1024 + 1000 * width);
        assert_eq!(&bytes[1024..1024 + width], &expected[0].to_le_bytes()[..width]);
        let (documents, text_bytes) = (143, 1430);
        let tokenizer = "cafe".to_string();
        assert_eq!(sidecar, Sidecar { tokens: 1000, vocab_size, tokenizer, documents, text_bytes });
        assert_eq!(Sidecar::load(&path).unwrap(), Some(sidecar));
        let source = TokenSource::open(&[path]).unwrap();
        assert_eq!(source.to_vec(0..1000), expected);
        source.check_vocab(vocab_size).unwrap();
    }
    assert_eq!(names(dir.path()), ["2.bin", "2.bin.json", "4.bin", "4.bin.json"]);
}

#[test]
fn parts_make_one_stream() {
    let dir = TempDir::new().unwrap();
    let all = ids(100, 70_000);
    let small: Vec<u32> = all[..30].iter().map(|id| id % 1000).collect();
    let (a, b) = (dir.path().join("a.bin"), dir.path().join("b.bin"));
    write(&a, 1000, &small);
    write(&b, 70_000, &all[30..31]);
    let mut source = TokenSource::open(&[a, b]).unwrap();
    source.push_ids(Vec::new());
    source.push_ids(all[31..].to_vec());
    let expected = [&small, &all[30..]].concat();
    assert_eq!(source.len(), 100);
    for start in 0..100 {
        for end in start..=100 {
            assert_eq!(source.to_vec(start as u64..end as u64), expected[start..end]);
        }
    }
}

#[test]
#[should_panic(expected = "shard: 2 ids from 9 on, of 10")]
fn reading_past_the_end_is_a_caller_bug() {
    TokenSource::from_ids(vec![0; 10]).copy(9, &mut [0; 2]);
}

/// Past 2^31 - 1 ids the header is full and the file's size counts. The file is sparse.
#[cfg(target_pointer_width = "64")]
#[test]
fn more_ids_than_the_header_can_count() {
    let dir = TempDir::new().unwrap();
    let path = shard_of(&dir, &[7, 8, 9]);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8..12].copy_from_slice(&i32::MAX.to_le_bytes());
    std::fs::write(&path, &bytes).unwrap();
    let error = TokenSource::open(std::slice::from_ref(&path)).err().unwrap();
    assert_says(&error, &["truncated", "2147483647 ids"]);
    let tokens = (1u64 << 31) + 5;
    std::fs::File::options().write(true).open(&path).unwrap().set_len(1024 + 2 * tokens).unwrap();
    let source = TokenSource::open(&[path]).unwrap();
    assert_eq!(source.len(), tokens);
    assert_eq!(source.to_vec(0..4), [7, 8, 9, 0]);
    assert_eq!(source.to_vec(tokens - 1..tokens), [0]);
}

#[test]
fn a_dropped_writer_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("x.bin");
    let mut shard = ShardWriter::create(&path, 10, String::new()).unwrap();
    shard.push(&[1, 2, 3]).unwrap();
    assert!(!path.exists());
    drop(shard);
    assert!(names(dir.path()).is_empty());
}

#[test]
fn rewriting_replaces_both_files() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("x.bin");
    write(&path, 10, &[1, 2, 3]);
    write(&path, 10, &[4, 5]);
    assert_eq!(TokenSource::open(std::slice::from_ref(&path)).unwrap().to_vec(0..2), [4, 5]);
    assert_eq!(Sidecar::load(&path).unwrap().unwrap().tokens, 2);
    assert_eq!(names(dir.path()), ["x.bin", "x.bin.json"]);
}

/// Runs itself again under a limit on file size, with the signal for it ignored, so that writing
/// fails as it does on a full disk.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_nothing() {
    const FOLDER: &str = "HANDGRAD_TEST_FULL_DISK";
    if let Some(folder) = std::env::var_os(FOLDER) {
        let path = Path::new(&folder).join("x.bin");
        let mut shard = ShardWriter::create(&path, 1000, String::new()).unwrap();
        let pushed = shard.push(&ids(1 << 20, 1000));
        let error = pushed.and_then(|()| shard.finish().map(drop)).unwrap_err();
        assert_says(&error, &["cannot write", "x.bin", "File too large", "free space"]);
        return;
    }
    let dir = TempDir::new().unwrap();
    let script =
        "trap '' XFSZ; ulimit -f 64; exec \"$0\" --exact shard::a_full_disk_leaves_nothing";
    let status = std::process::Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .env(FOLDER, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&status.stdout);
    assert!(status.status.success() && said.contains("1 passed"), "{said}");
    assert!(names(dir.path()).is_empty());
}

#[test]
fn unwritable_folder() {
    let error = ShardWriter::create(Path::new("nowhere/x.bin"), 10, String::new()).err().unwrap();
    assert_says(&error, &["cannot write nowhere/x.bin", "check that the folder exists"]);
}

#[test]
fn empty_shard() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("x.bin");
    let error = ShardWriter::create(&path, 10, String::new()).unwrap().finish().unwrap_err();
    assert_says(&error, &["x.bin: no text and no tokens", "not empty"]);
    assert!(names(dir.path()).is_empty());
    let mut bytes = std::fs::read(shard_of(&dir, &[1])).unwrap();
    bytes.truncate(1024);
    bytes[8] = 0;
    std::fs::write(&path, bytes).unwrap();
    assert_says(&TokenSource::open(&[path]).err().unwrap(), &["x.bin: no text and no tokens"]);
}

#[test]
fn missing_shard() {
    let error = TokenSource::open(&["nowhere/x.bin".into()]).err().unwrap();
    assert_says(&error, &["cannot read nowhere/x.bin", "check the path"]);
}

/// Damages a good shard and opens it.
fn open_damaged(damage: impl Fn(&mut Vec<u8>)) -> Error {
    let dir = TempDir::new().unwrap();
    let path = shard_of(&dir, &[1, 2, 3, 4]);
    let mut bytes = std::fs::read(&path).unwrap();
    damage(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
    TokenSource::open(&[path]).err().unwrap()
}

#[test]
fn truncated_shard() {
    let error = open_damaged(|bytes| bytes.truncate(1024 + 7));
    assert_says(
        &error,
        &["x.bin", "truncated: 7 bytes", "counts 4 ids of 2", "write the shard again"],
    );
    let error = open_damaged(|bytes| bytes.truncate(100));
    assert_says(&error, &["x.bin", "100 bytes", "header of 1024", "write the shard again"]);
    assert_says(&open_damaged(Vec::clear), &["x.bin", "0 bytes"]);
}

#[test]
fn corrupt_shard() {
    let error = open_damaged(|bytes| bytes[0] ^= 1);
    assert_says(&error, &["x.bin", "magic 20240521", "20240520", "write the shard again"]);
    let error = open_damaged(|bytes| bytes[4] = 2);
    assert_says(&error, &["x.bin", "version 2", "write the shard again"]);
    let error = open_damaged(|bytes| bytes.push(0));
    assert_says(&error, &["x.bin", "longer than its header", "write the shard again"]);
    let error = open_damaged(|bytes| bytes[8] = 3);
    assert_says(&error, &["x.bin", "longer than its header", "counts 3 ids"]);
}

#[test]
fn sidecar_of_another_shard() {
    let dir = TempDir::new().unwrap();
    let (a, b) = (dir.path().join("a.bin"), dir.path().join("b.bin"));
    write(&a, 10, &[1, 2]);
    write(&b, 10, &[1, 2, 3]);
    std::fs::copy(Sidecar::path(&b), Sidecar::path(&a)).unwrap();
    let error = TokenSource::open(std::slice::from_ref(&a)).err().unwrap();
    assert_says(&error, &["a.bin: not a usable", "2 ids, but", "a.bin.json says 3"]);
    std::fs::write(Sidecar::path(&a), "{").unwrap();
    let error = TokenSource::open(&[a]).err().unwrap();
    assert_says(&error, &["a.bin: not a usable", "a.bin.json does not parse"]);
}

#[test]
fn id_outside_the_vocabulary() {
    let dir = TempDir::new().unwrap();
    let mut all = ids((1 << 21) + 100, 500);
    all[(1 << 20) + 3] = 700;
    all[(1 << 21) + 3] = 800;
    let path = shard_of(&dir, &all);
    let source = TokenSource::open(&[path]).unwrap();
    source.check_vocab(801).unwrap();
    let error = source.check_vocab(600).unwrap_err();
    assert_says(
        &error,
        &["x.bin: token 700 at position 1048579", "vocabulary of 600", "use the tokenizer"],
    );
}
