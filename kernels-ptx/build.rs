//! Packs the committed PTX, so that a binary carries 1.4 MB of it and not 8.4.

use std::path::Path;

fn main() {
    let out = std::env::var("OUT_DIR").expect("cargo names it");
    for target in ["sm_80", "sm_90a"] {
        let text = format!("ptx/{target}.ptx");
        println!("cargo::rerun-if-changed={text}");
        let bytes = std::fs::read(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let packed = miniz_oxide::deflate::compress_to_vec_zlib(&bytes, 9);
        let path = Path::new(&out).join(format!("{target}.ptx.z"));
        std::fs::write(&path, packed).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}
