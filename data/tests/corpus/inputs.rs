use std::io::{BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data::corpus::{Blocks, Document, Meter, Piece, input};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::writer::SerializedFileWriter;

use crate::{gzip, lines, read, read_in_shards, write};

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        out.append_data(&mut header, name, *bytes).unwrap();
    }
    out.into_inner().unwrap()
}

/// A table with `text`, `id` and `year`, in groups of `group` rows.
fn parquet(path: &Path, texts: &[String], group: usize) {
    let schema =
        "message m { required binary text (UTF8); required int64 id; optional int64 year; }";
    let schema = Arc::new(parquet::schema::parser::parse_message_type(schema).unwrap());
    let file = std::fs::File::create(path).unwrap();
    let mut file = SerializedFileWriter::new(file, schema, Default::default()).unwrap();
    for (at, part) in texts.chunks(group).enumerate() {
        let mut out = file.next_row_group().unwrap();
        let values: Vec<_> = part.iter().map(|text| ByteArray::from(text.as_str())).collect();
        let ids: Vec<_> = (0..part.len()).map(|i| (at * group + i) as i64).collect();
        let mut column = out.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
        column.close().unwrap();
        let mut column = out.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&ids, None, None).unwrap();
        column.close().unwrap();
        let mut column = out.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&[], Some(&vec![0; part.len()]), None).unwrap();
        column.close().unwrap();
        out.close().unwrap();
    }
    file.close().unwrap();
}

fn texts(documents: &[Document]) -> Vec<&str> {
    documents.iter().map(|document| &*document.text).collect()
}

#[test]
fn every_packing_holds_the_same_documents() {
    let dir = tempfile::tempdir().unwrap();
    let plain = lines(0, 300);
    let bytes = plain.as_bytes();
    let (a, b) = bytes.split_at(bytes.len() / 3);
    let inside = tar(&[("x/a.jsonl", bytes), ("x/b.md", b"no documents")]);
    let inner = tar(&[("x/a.jsonl.gz", &gzip(bytes))]);
    let expected = read(&[write(dir.path(), "a.jsonl", bytes)]).0;
    assert_eq!(expected.len(), 300);
    for (name, packed) in [
        ("a.jsonl.gz", [gzip(a), gzip(b)].concat()),
        ("a.json.zst", [zstd::encode_all(a, 1).unwrap(), zstd::encode_all(b, 1).unwrap()].concat()),
        ("a.ndjson.bz2", [bzip2(a), bzip2(b)].concat()),
        ("a.tar", inside.clone()),
        ("a.tar.gz", gzip(&inside)),
        ("a.tgz", gzip(&inside)),
        ("a.tar.bz2", bzip2(&inside)),
        ("b.tar", inner),
    ] {
        let (found, counts) = read(&[write(dir.path(), name, &packed)]);
        assert_eq!(counts.damage, [], "{name}");
        assert!(found == expected, "{name}: other documents");
    }
    let folder = dir.path().join("folder");
    write(&folder, "a.jsonl", bytes);
    let path = dir.path().join("a.7z");
    sevenz_rust2::compress_to_path(&folder, &path).unwrap();
    assert!(read(&[path]).0 == expected, "7z: other documents");

    let path = dir.path().join("a.parquet");
    let strings: Vec<String> = expected.iter().map(|document| document.text.clone()).collect();
    parquet(&path, &strings, 70);
    let (found, _) = read(&[path]);
    assert_eq!(texts(&found), texts(&expected));
    assert_eq!((&*found[299].id, &*found[299].source), ("299", "a"));
    assert_eq!(found[0].meta["year"], serde_json::Value::Null);
}

#[test]
fn texts_are_documents_and_names_of_any_length_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    let long = format!("{}/a.txt", "long/".repeat(40));
    let path = write(dir.path(), "a.tar", &tar(&[(&long, b"one"), ("b.txt.gz", &gzip(b"two"))]));
    let (found, _) = read(&[path, write(dir.path(), "c.txt", b"three")]);
    let ids: Vec<_> = found.iter().map(|document| &*document.id).collect();
    assert_eq!(
        (texts(&found), ids),
        (vec!["one", "two", "three"], vec![&*long, "b.txt.gz", "c.txt"])
    );
}

#[test]
fn files_are_divided_anywhere_without_loss_or_repetition() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "a.jsonl", lines(0, 100).as_bytes());
    let whole = read(std::slice::from_ref(&path)).0;
    let table = dir.path().join("a.parquet");
    let strings: Vec<String> = whole.iter().map(|document| document.text.clone()).collect();
    parquet(&table, &strings, 7);
    for shard_bytes in [1, 100, 977, 5000, 40_000] {
        let found = read_in_shards(std::slice::from_ref(&path), shard_bytes).0;
        assert!(found == whole, "lines, {shard_bytes}: {} of {}", found.len(), whole.len());
        let found = read_in_shards(std::slice::from_ref(&table), shard_bytes.max(500)).0;
        assert_eq!(texts(&found), texts(&whole), "rows, {shard_bytes}");
    }
}

/// The blocks of a bzip2 file of two streams, from pieces of any size.
#[test]
fn blocks_of_bzip2_belong_to_one_piece_each() {
    let dir = tempfile::tempdir().unwrap();
    let plain: Vec<u8> = lines(0, 900).into_bytes();
    let (a, b) = plain.split_at(plain.len() / 3);
    let packed = [bzip2(a), bzip2(b)].concat();
    let path = write(dir.path(), "a.bz2", &packed);
    for count in [1, 2, 3, 5, 17, 100] {
        let mut joined = Vec::new();
        let pieces = input::split(Piece::whole(&path).unwrap(), packed.len() as u64 / count);
        for piece in &pieces {
            let mut blocks = Blocks::open(piece, &Meter::default()).unwrap();
            loop {
                let block = blocks.fill_buf().unwrap().to_vec();
                if block.is_empty() || blocks.past_end() {
                    break;
                }
                blocks.consume(block.len());
                joined.extend(block);
            }
        }
        assert!(joined == plain, "{count}: {} of {} bytes", joined.len(), plain.len());
    }
}

#[test]
fn a_corrupt_block_costs_its_own_lines_only() {
    let dir = tempfile::tempdir().unwrap();
    let plain = lines(0, 900);
    let mut packed = bzip2(plain.as_bytes());
    let middle = packed.len() / 2;
    for byte in &mut packed[middle..middle + 8] {
        *byte ^= 0x5A;
    }
    let path = write(dir.path(), "a.jsonl.bz2", &packed);
    let (found, counts) = read(std::slice::from_ref(&path));
    let whole = read(&[write(dir.path(), "b.jsonl", plain.as_bytes())]).0;
    assert_eq!(counts.damaged["unreadable"], 1, "{:?}", counts.damage);
    assert!(counts.damage[0].reason.contains("bzip2 block at byte"), "{:?}", counts.damage);
    // A block is 100 kB, a seventh of it all, and two lines are torn.
    assert!(found.len() > 700 && found.len() < 900, "{}", found.len());
    assert!(found.iter().all(|document| whole.contains(document)), "a torn line came through");
    assert_eq!(found.last(), whole.last());

    let path = write(dir.path(), "c.jsonl.bz2", &packed[..packed.len() / 3]);
    let (found, counts) = read(&[path]);
    assert!(!found.is_empty() && counts.damaged["unreadable"] == 1, "{:?}", counts.damage);
}

#[test]
fn a_truncated_gzip_gives_what_came_before() {
    let dir = tempfile::tempdir().unwrap();
    let packed = gzip(lines(0, 300).as_bytes());
    let path = write(dir.path(), "a.jsonl.gz", &packed[..packed.len() / 2]);
    let (found, counts) = read(std::slice::from_ref(&path));
    assert!(found.len() > 100 && found.len() < 200, "{}", found.len());
    assert_eq!(counts.damaged["unreadable"], 1);
    assert!(counts.damage[0].place.starts_with(&path.display().to_string()), "{:?}", counts.damage);
    let inside = tar(&[("a.jsonl.gz", &packed[..packed.len() / 2]), ("b.txt", b"behind it")]);
    let (found, counts) = read(&[write(dir.path(), "a.tar", &inside)]);
    assert_eq!(
        (found.last().unwrap().text.as_str(), counts.damaged["unreadable"]),
        ("behind it", 1)
    );
    let (found, counts) = read(&[write(dir.path(), "b.tar", &inside[..inside.len() / 3])]);
    assert!(found.len() > 20, "{}", found.len());
    assert!(counts.damaged["unreadable"] >= 1);
}

#[test]
fn nonsense_is_named_and_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let noise: Vec<u8> = (0..5000u64).flat_map(|i| data::rng::mix64(i).to_le_bytes()).collect();
    for name in ["a.jsonl.gz", "a.jsonl.zst", "a.jsonl.bz2", "a.parquet", "a.tar", "a.tgz", "a.7z"]
    {
        for bytes in [&noise[..], &noise[..3]] {
            let (found, counts) = read(&[write(dir.path(), name, bytes)]);
            assert_eq!(found, [], "{name}");
            assert!(counts.damaged["unreadable"] >= 1, "{name}: {counts:?}");
        }
    }
    let (_, counts) = read(&[write(dir.path(), "a.txt", &noise)]);
    assert_eq!(counts.damaged["not_utf8"], 1);
    for name in ["a.parquet", "a.7z", "a.jsonl.gz"] {
        let (found, _) = read(&[write(dir.path(), name, b"")]);
        assert_eq!(found, [], "{name}, empty");
    }
}

/// Every cut and many flips of small archives: any answer but a crash.
#[test]
fn damaged_archives_never_crash() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("folder");
    write(&folder, "a.jsonl", lines(0, 20).as_bytes());
    let seven = dir.path().join("whole.7z");
    sevenz_rust2::compress_to_path(&folder, &seven).unwrap();
    let table = dir.path().join("whole.parquet");
    parquet(&table, &(0..40).map(|i| format!("text {i}")).collect::<Vec<_>>(), 10);
    for (name, bytes) in [
        ("a.tar", tar(&[("a.jsonl", lines(0, 5).as_bytes()), ("b.txt", b"text")])),
        ("a.7z", std::fs::read(&seven).unwrap()),
        ("a.parquet", std::fs::read(&table).unwrap()),
        ("a.jsonl.bz2", bzip2(lines(0, 20).as_bytes())),
    ] {
        for i in 0..200u64 {
            let at = data::rng::mix64(i) as usize % bytes.len();
            read(&[write(dir.path(), name, &bytes[..at])]);
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (i % 8);
            read(&[write(dir.path(), name, &flipped)]);
        }
    }
}

#[test]
fn a_bomb_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_path("zeros.txt").unwrap();
    header.set_size(3 << 30);
    header.set_cksum();
    let zeros = std::io::repeat(0).take(3 << 30);
    let packed = zstd::encode_all((&header.as_bytes()[..]).chain(zeros), 1).unwrap();
    assert!(packed.len() < 1 << 20, "{}", packed.len());
    let (found, counts) = read(&[write(dir.path(), "bomb.tar.zst", &packed)]);
    assert_eq!((found.len(), counts.damaged["too_long"]), (0, 1));
    assert!(counts.damage[1].reason.contains("1000 times its size"), "{:?}", counts.damage);
}

#[test]
fn a_long_name_in_an_archive_is_not_held() {
    let dir = tempfile::tempdir().unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_path("././@LongLink").unwrap();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(1 << 40);
    header.set_cksum();
    let packed = [&header.as_bytes()[..], &[b'a'; 4096]].concat();
    let path: PathBuf = write(dir.path(), "a.tar", &packed);
    assert_eq!(read(&[path]).1.damaged["unreadable"], 1);
}
