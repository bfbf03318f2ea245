//! Files as the `safetensors` crate knows them, and every way in which a header can lie.

use super::*;
use safetensors::SafeTensors;

fn entry(name: &str, dtype: Dtype, shape: &[usize]) -> Entry {
    Entry { name: name.to_string(), dtype, shape: shape.to_vec() }
}

fn entries() -> Vec<Entry> {
    vec![
        entry("w", Dtype::F32, &[3, 5]),
        entry("none", Dtype::F64, &[0, 7]),
        entry("gain", Dtype::BF16, &[3]),
        entry("large", Dtype::U8, &[CHUNK + 3]),
        entry("scalar", Dtype::F16, &[]),
    ]
}

/// Bytes of the tensor `i`.
fn content(i: usize, entry: &Entry) -> Vec<u8> {
    let bytes = entry.shape.iter().product::<usize>() * entry.dtype.bitsize() / 8;
    (0..bytes).map(|at| (at * 31 + i * 7 + at * at / 5) as u8).collect()
}

/// The file of [`entries`], each tensor added in parts of `part` bytes.
fn written(part: usize) -> (Vec<u8>, Sum) {
    let entries = entries();
    let layout = Layout::new(&entries, &[("format", "pt")]);
    let mut writer = Writer::new(Vec::new(), &layout).unwrap();
    for (i, entry) in entries.iter().enumerate() {
        writer.begin(&entry.name);
        for bytes in content(i, entry).chunks(part) {
            writer.write(bytes).unwrap();
        }
    }
    let (bytes, sum) = writer.end();
    assert_eq!(bytes.len() as u64, layout.bytes());
    (bytes, sum)
}

/// Reads the file that holds `bytes`.
fn read(bytes: &[u8]) -> Result<Reader, Unusable> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Reader::new(file)
}

fn refusal(bytes: &[u8]) -> String {
    match read(bytes) {
        Err(Unusable::Content(line)) => line,
        other => panic!("{other:?}"),
    }
}

/// A file with the header `json` and `data` bytes behind it.
fn file(json: &str, data: usize) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes(), json.as_bytes(), &vec![0; data]].concat()
}

#[test]
fn what_is_written_in_parts_is_read() {
    let (bytes, sum) = written(usize::MAX);
    for part in [1, 7, CHUNK] {
        assert!(written(part) == (bytes.clone(), sum), "{part}");
    }
    assert_eq!(sum, Sum::of(&bytes));
    let reader = read(&bytes).unwrap();
    assert_eq!(Sum::of_file(&reader.file).unwrap(), sum);
    let entries = entries();
    assert_eq!(reader.names(), entries.iter().map(|e| e.name.clone()).collect::<Vec<_>>());
    for (i, entry) in entries.iter().enumerate() {
        let info = reader.info(&entry.name).unwrap();
        assert_eq!((info.dtype, &info.shape), (entry.dtype, &entry.shape));
        assert!(*reader.bytes(&entry.name).unwrap() == content(i, entry)[..], "{}", entry.name);
    }
    assert!(reader.info("other").is_none());
}

#[test]
fn the_files_are_safetensors_for_everyone() {
    let (bytes, _) = written(9);
    let theirs = SafeTensors::deserialize(&bytes).unwrap();
    for (i, entry) in entries().iter().enumerate() {
        let tensor = theirs.tensor(&entry.name).unwrap();
        assert_eq!((tensor.dtype(), tensor.shape()), (entry.dtype, &entry.shape[..]));
        assert!(tensor.data() == content(i, entry), "{}", entry.name);
    }
    // The data begins on a multiple of 8 bytes.
    assert_eq!(u64::from_le_bytes(bytes[..8].try_into().unwrap()) % 8, 0);
    assert!(Layout::new(&[], &[]).bytes() == 16 && read(&Layout::new(&[], &[]).header).is_ok());
}

/// Tensors may be listed in any order, and begin at any byte.
#[test]
fn another_writers_file_is_read() {
    let json = r#"{"b":{"dtype":"F32","shape":[1],"data_offsets":[3,7]},
        "a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"__metadata__":{"x":"y"}} "#;
    let mut bytes = file(json, 0);
    bytes.extend([1, 2, 3, 4, 5, 6, 7]);
    let reader = read(&bytes).unwrap();
    assert_eq!(reader.names(), ["a", "b"]);
    assert_eq!(
        (&*reader.bytes("a").unwrap(), &*reader.bytes("b").unwrap()),
        (&[1, 2, 3][..], &[4, 5, 6, 7][..])
    );
}

#[test]
fn a_length_that_is_wrong_is_told() {
    let (whole, _) = written(9);
    let size = whole.len();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap());
    for length in 0..8 {
        let want = format!("truncated: {length} bytes are no safetensors file");
        assert_eq!(refusal(&whole[..length]), want);
    }
    for length in [8, header as usize - 1] {
        let want = format!("truncated: {length} bytes, its header alone {header}");
        assert_eq!(refusal(&whole[..length]), want);
    }
    for length in [header as usize, size - 1] {
        let want = format!("truncated: {length} bytes, its header says {size}");
        assert_eq!(refusal(&whole[..length]), want);
    }
    let want = format!("corrupt: {} bytes, its header says {size}", size + 1);
    assert_eq!(refusal(&[&whole[..], &[0]].concat()), want);
    for length in [MAX_HEADER + 1, u64::MAX] {
        let bytes = [&length.to_le_bytes(), &whole[8..]].concat();
        assert_eq!(refusal(&bytes), format!("corrupt: a header of {length} bytes"));
    }
}

#[test]
fn a_header_that_lies_is_told() {
    let tensor = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
    };
    let good = tensor("U8", "[4]", "[0,4]");
    assert!(read(&file(&format!(r#"{{"a":{good}}}"#), 4)).is_ok());
    for (what, json) in [
        ("a gap before", format!(r#"{{"a":{}}}"#, tensor("U8", "[3]", "[1,4]"))),
        (
            "a gap between",
            format!(
                r#"{{"a":{},"b":{}}}"#,
                tensor("U8", "[1]", "[0,1]"),
                tensor("U8", "[2]", "[2,4]")
            ),
        ),
        ("overlap", format!(r#"{{"a":{good},"b":{}}}"#, tensor("U8", "[2]", "[2,4]"))),
        ("the same bytes", format!(r#"{{"a":{good},"b":{good}}}"#)),
        ("backwards", format!(r#"{{"a":{}}}"#, tensor("U8", "[0]", "[4,0]"))),
        ("too few bytes", format!(r#"{{"a":{}}}"#, tensor("F32", "[2]", "[0,4]"))),
        ("too many bytes", format!(r#"{{"a":{}}}"#, tensor("F16", "[1]", "[0,4]"))),
        (
            "an endless shape",
            format!(r#"{{"a":{}}}"#, tensor("U8", "[4294967296,4294967296]", "[0,4]")),
        ),
        ("half a byte", format!(r#"{{"a":{}}}"#, tensor("F4", "[1]", "[0,4]"))),
        ("a negative size", format!(r#"{{"a":{}}}"#, tensor("U8", "[-4]", "[0,4]"))),
        ("an unknown type", format!(r#"{{"a":{}}}"#, tensor("F33", "[4]", "[0,4]"))),
        ("a name twice", format!(r#"{{"a":{good},"a":{good}}}"#)),
        (
            "a name twice, once empty",
            format!(r#"{{"a":{},"a":{good}}}"#, tensor("U8", "[0]", "[0,0]")),
        ),
        ("strings twice", format!(r#"{{"__metadata__":{{}},"a":{good},"__metadata__":{{}}}}"#)),
        ("no strings", format!(r#"{{"__metadata__":{{"a":1}},"a":{good}}}"#)),
        ("more than a header", format!(r#"{{"a":{good}}} x"#)),
        ("no object", "[]".to_string()),
        ("no JSON", "{".to_string()),
        ("nothing", String::new()),
    ] {
        let line = refusal(&file(&json, 4));
        assert!(line.starts_with("corrupt safetensors header: "), "{what}: {line}");
    }
    assert!(
        refusal(&file(&format!(r#"{{"a":{good},"a":{good}}}"#), 4)).contains("a is there twice")
    );
    let mut bytes = file(&format!(r#"{{"a":{good}}}"#), 4);
    bytes[10] = 0xff;
    assert!(refusal(&bytes).starts_with("corrupt safetensors header: "));
}

/// No header that was changed in one byte leads outside of the file, or to a panic.
#[test]
fn no_damaged_header_reaches_beyond_the_file() {
    let layout = Layout::new(&entries()[..3], &[("format", "pt")]);
    let data = layout.bytes() as usize - layout.header.len();
    let whole = [&layout.header[..], &vec![0; data]].concat();
    for at in 0..layout.header.len() {
        for byte in [b'0', b'9', b'"', b' ', b'}', whole[at] ^ 1, whole[at] ^ 128] {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            let Ok(reader) = read(&bytes) else { continue };
            for name in reader.names() {
                let info = reader.info(&name).unwrap();
                let bits = info.shape.iter().product::<usize>() * info.dtype.bitsize();
                assert_eq!(reader.bytes(&name).unwrap().len() * 8, bits);
            }
        }
    }
}

#[test]
fn writers_that_leave_the_layout_are_stopped() {
    let entries = [entry("a", Dtype::U8, &[2]), entry("b", Dtype::U8, &[2])];
    let layout = &Layout::new(&entries, &[]);
    // Each step: the tensor to begin, and bytes to add.
    let stops = |steps: &'static [(&'static str, usize)]| {
        let layout = layout.clone();
        std::panic::catch_unwind(move || {
            let mut writer = Writer::new(Vec::new(), &layout).unwrap();
            for &(name, bytes) in steps {
                writer.begin(name);
                writer.write(&vec![0; bytes]).unwrap();
            }
            writer.end();
        })
        .is_err()
    };
    assert!(!stops(&[("a", 2), ("b", 2)]));
    for steps in [
        &[("b", 2), ("a", 2)][..],
        &[("a", 1), ("b", 3)],
        &[("a", 2), ("b", 1)],
        &[("a", 2), ("b", 3)],
        &[("a", 4)],
    ] {
        assert!(stops(steps), "{steps:?}");
    }
    let twice = [entry("a", Dtype::U8, &[1]), entry("a", Dtype::U8, &[0])];
    assert!(std::panic::catch_unwind(|| Layout::new(&twice, &[])).is_err());
}
