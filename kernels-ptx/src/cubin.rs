//! Machine code that `ptxas` made of the PTX ahead of time. With it the driver has nothing to compile
//! at the first start on a machine. It is never needed: who has none compiles the PTX.
//!
//! `build-cubins.sh` makes one file for each architecture of [`TARGETS`], and [`name`] puts the hash
//! of the PTX into the file's name, so kernels of another version are never taken for these.
//!
//! ```
//! use kernels_ptx::{SM_80, cubin};
//!
//! let files = [cubin::name("sm_86", &SM_80), cubin::name("sm_80", "earlier PTX")];
//! // A GPU of 8.9 runs code for 8.6.
//! assert_eq!(cubin::choose(89, &SM_80, &files).file.as_ref(), Some(&files[0]));
//! // One of 8.0 has nothing here but what other kernels were made into: it compiles the PTX.
//! let choice = cubin::choose(80, &SM_80, &files);
//! assert_eq!((choice.file, &choice.stale[..]), (None, &files[1..]));
//! ```

use crate::{SM_80, SM_90A};
use std::sync::LazyLock;
use xxhash_rust::xxh3::xxh3_64;

/// Architectures to assemble for, each with the PTX that it is made of.
pub static TARGETS: [(&str, &LazyLock<String>); 6] = [
    ("sm_80", &SM_80),
    ("sm_86", &SM_80),
    ("sm_89", &SM_80),
    ("sm_90a", &SM_90A),
    ("sm_100", &SM_80),
    ("sm_120", &SM_80),
];

/// The target that a PTX text states: "sm_80".
pub fn target(ptx: &str) -> &str {
    let stated = ptx.lines().find_map(|line| line.strip_prefix(".target "));
    stated.map_or("", |stated| stated.split([',', ' ']).next().unwrap_or(""))
}

/// How many kernels a PTX text has.
pub fn kernels(ptx: &str) -> usize {
    ptx.lines().filter(|line| line.starts_with(".visible .entry ")).count()
}

/// The file of the cubin for `architecture` that is made of `ptx`.
pub fn name(architecture: &str, ptx: &str) -> String {
    format!("{architecture}-{:016x}.cubin", xxh3_64(ptx.as_bytes()))
}

/// What a folder of cubins has for a GPU.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The file to load.
    pub file: Option<String>,
    /// Files that would come before it, were they not made of other PTX.
    pub stale: Vec<String>,
}

/// The cubin among `files` that a GPU of `capability` (10 * major + minor) takes in place of `ptx`.
///
/// Code runs on later minor revisions of its major one: a GPU of 8.6 takes sm_86, or else sm_80,
/// and never sm_89. Code for an architecture's own features (sm_90a) runs on that one alone.
pub fn choose(capability: u32, ptx: &str, files: &[String]) -> Choice {
    let (major, minor) = (capability / 10, capability % 10);
    let target = target(ptx);
    let fitting: Vec<String> = match target.ends_with('a') {
        true if target == format!("sm_{capability}a") => vec![target.to_string()],
        true => vec![],
        false => (0..=minor).rev().map(|minor| format!("sm_{major}{minor}")).collect(),
    };
    let mut choice = Choice::default();
    for architecture in fitting {
        let (wanted, prefix) = (name(&architecture, ptx), format!("{architecture}-"));
        if files.contains(&wanted) {
            choice.file = Some(wanted);
            break;
        }
        let of_others = |file: &&String| file.starts_with(&prefix) && file.ends_with(".cubin");
        choice.stale.extend(files.iter().filter(of_others).cloned());
    }
    choice
}

/// Whether `bytes` are a 64-bit ELF file whose headers and sections all lie inside of it. The driver
/// is given an address and no length: it would read past the end of a file that was cut off.
pub fn is_whole(bytes: &[u8]) -> bool {
    let int = |at: usize, len: usize| {
        let field = bytes.get(at..at.checked_add(len)?)?;
        Some(field.iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte)))
    };
    let size = bytes.len() as u64;
    let inside = |at: u64, len: u64| at.checked_add(len).is_some_and(|end| end <= size);
    // A table of headers, as its fields in the file's header say: offset, bytes of one, how many.
    let table = |offset: usize, entry: usize| {
        let (at, bytes, count) = (int(offset, 8)?, int(entry, 2)?, int(entry + 2, 2)?);
        inside(at, bytes * count).then_some((at, bytes, count))
    };
    let sections = || {
        let (_, (at, bytes, count)) = (table(0x20, 0x36)?, table(0x28, 0x3a)?);
        const NO_BITS: u64 = 8;
        let whole = (0..count).all(|i| {
            let header = (at + i * bytes) as usize;
            let field = |offset: usize, len: usize| int(header + offset, len);
            let (Some(kind), Some(at), Some(len)) = (field(4, 4), field(0x18, 8), field(0x20, 8))
            else {
                return false;
            };
            kind == NO_BITS || inside(at, len)
        });
        (count > 0).then_some(whole)
    };
    bytes.starts_with(b"\x7fELF\x02\x01") && sections() == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PTX: &str = "//\n.version 7.0\n.target sm_80\n.visible .entry a(\n.visible .entry b(\n";
    const PTX_90A: &str = ".version 8.0\n.target sm_90a, debug\n";

    fn files(architectures: &[&str], ptx: &str) -> Vec<String> {
        architectures.iter().map(|architecture| name(architecture, ptx)).collect()
    }

    #[test]
    fn ptx_says_what_it_is() {
        assert_eq!((target(PTX), kernels(PTX)), ("sm_80", 2));
        assert_eq!((target(PTX_90A), target("")), ("sm_90a", ""));
        assert_eq!((target(&SM_80), target(&SM_90A)), ("sm_80", "sm_90a"));
        assert!(kernels(&SM_80) > 50 && kernels(&SM_80) == kernels(&SM_90A));
    }

    #[test]
    fn a_cubin_is_of_its_gpu_or_of_an_earlier_minor_revision() {
        let all = files(&["sm_80", "sm_86", "sm_89", "sm_100", "sm_120"], PTX);
        let taken = |capability| choose(capability, PTX, &all).file;
        let expect = [
            (80, Some("sm_80")),
            (86, Some("sm_86")),
            (87, Some("sm_86")),
            (89, Some("sm_89")),
            (100, Some("sm_100")),
            (103, Some("sm_100")),
            (110, None),
            (120, Some("sm_120")),
            (121, Some("sm_120")),
        ];
        for (capability, architecture) in expect {
            let file = architecture.map(|architecture| name(architecture, PTX));
            assert_eq!(taken(capability), file, "capability {capability}");
        }
        let older = choose(89, PTX, &files(&["sm_80", "sm_90"], PTX));
        assert_eq!(older.file, Some(name("sm_80", PTX)));
        assert_eq!(choose(80, PTX, &files(&["sm_86"], PTX)), Choice::default());
    }

    #[test]
    fn code_for_an_architectures_own_features_runs_there_alone() {
        let files = files(&["sm_90a"], PTX_90A);
        assert_eq!(choose(90, PTX_90A, &files).file, Some(files[0].clone()));
        assert_eq!(choose(100, PTX_90A, &files), Choice::default());
        assert_eq!(choose(91, PTX_90A, &files), Choice::default());
    }

    #[test]
    fn cubins_of_other_ptx_are_passed_over_and_named() {
        let mut all = files(&["sm_86", "sm_89"], "other");
        all.extend(files(&["sm_80"], PTX));
        all.push("sm_86-notes.txt".into());
        let choice = choose(86, PTX, &all);
        assert_eq!(choice.file, Some(name("sm_80", PTX)));
        assert_eq!(choice.stale, [name("sm_86", "other")]);
        assert_ne!(name("sm_80", &SM_80), name("sm_80", &SM_90A));
    }

    /// An ELF file with one section of 8 bytes behind its headers.
    fn elf() -> Vec<u8> {
        let mut bytes = vec![0; 64 + 64 + 8];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[0x28] = 64; // section headers begin
        bytes[0x3a] = 64; // bytes of one
        bytes[0x3c] = 1; // how many
        bytes[64 + 4] = 1; // kind: bits
        bytes[64 + 0x18] = 128; // where
        bytes[64 + 0x20] = 8; // how many
        bytes
    }

    #[test]
    fn a_file_that_is_cut_off_is_not_whole() {
        let whole = elf();
        assert!(is_whole(&whole));
        for len in 0..whole.len() {
            assert!(!is_whole(&whole[..len]), "{len} of {} bytes", whole.len());
        }
        for at in [0x28 + 7, 0x3c + 1, 64 + 0x18 + 7, 64 + 0x20 + 7] {
            let mut torn = whole.clone();
            torn[at] = 0xff;
            assert!(!is_whole(&torn), "byte {at}");
        }
    }
}
