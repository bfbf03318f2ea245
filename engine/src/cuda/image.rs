//! What a GPU loads: a cubin where there is one for it, else PTX, which its driver compiles. And what
//! there is to say about that, for a log and for errors. Nothing here calls the driver.

use kernels_ptx::cubin;
use kernels_ptx::launch::Target;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The environment variable that names a folder of cubins; empty for none at all.
const FOLDER: &str = "HANDGRAD_CUBINS";

/// Machine code from a file.
#[derive(Debug)]
pub(super) struct Cubin {
    pub path: PathBuf,
    /// A whole ELF file: see [`cubin::is_whole`].
    pub bytes: Vec<u8>,
}

/// The cubin for a GPU of `capability` that was made of `ptx`, if there is one: in the folder that
/// HANDGRAD_CUBINS names, or in `cubin` beside the executable.
pub(super) fn find(capability: u32, ptx: &str, tell: &mut dyn FnMut(String)) -> Option<Cubin> {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.join("cubin"));
    folder(std::env::var_os(FOLDER), beside).and_then(|folder| load(&folder, capability, ptx, tell))
}

fn folder(named: Option<OsString>, beside: impl FnOnce() -> Option<PathBuf>) -> Option<PathBuf> {
    match named {
        Some(named) if named.is_empty() => None,
        Some(named) => Some(named.into()),
        None => beside().filter(|folder| folder.is_dir()),
    }
}

fn load(folder: &Path, capability: u32, ptx: &str, tell: &mut dyn FnMut(String)) -> Option<Cubin> {
    let instead = "so the driver compiles the PTX";
    let listed = std::fs::read_dir(folder).and_then(|entries| {
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    });
    let files: Vec<String> = match listed {
        Ok(files) => files,
        Err(e) => {
            tell(format!("{}: {e}; {instead}", folder.display()));
            return None;
        }
    };
    let choice = cubin::choose(capability, ptx, &files);
    for stale in &choice.stale {
        let path = folder.join(stale);
        tell(format!(
            "{}: passed over, made of other kernels; kernels-ptx/build-cubins.sh makes it anew",
            path.display()
        ));
    }
    let path = folder.join(choice.file?);
    match std::fs::read(&path) {
        Ok(bytes) if cubin::is_whole(&bytes) => Some(Cubin { path, bytes }),
        Ok(bytes) => {
            tell(format!("{}: cut off after {} bytes; {instead}", path.display(), bytes.len()));
            None
        }
        Err(e) => {
            tell(format!("{}: {e}; {instead}", path.display()));
            None
        }
    }
}

/// What the driver's compiler wrote into a buffer of its log, as one line: the lines that speak of
/// errors, or else all, three at most. Empty if there are none.
pub(super) fn log_line(buffer: &[u8]) -> String {
    let text = buffer.split(|&byte| byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let grave = |line: &&&str| ["error", "fatal"].iter().any(|word| line.contains(word));
    let mut told: Vec<&str> = lines.iter().filter(grave).copied().collect();
    if told.is_empty() {
        told = lines;
    }
    let more = told.len().saturating_sub(3);
    told.truncate(3);
    // Without "; ", behind which a message has its remedy.
    let words = |line: &&str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let joined = told.iter().map(words).collect::<Vec<_>>().join(", ").replace("; ", ", ");
    if more > 0 { format!("{joined}, {more} more") } else { joined }
}

/// Why `what` could not be loaded: the driver's error, with what its compiler's log says.
pub(super) fn refusal(gpu: &Gpu, what: &str, error: &str, log: &str) -> String {
    let log = if log.is_empty() { String::new() } else { format!(" ({log})") };
    let capability = capability(gpu.target);
    format!(
        "{} (compute capability {capability}, driver for CUDA {}) refuses {what}: {error}{log}",
        gpu.name, gpu.cuda
    )
}

/// What a GPU and its driver say of themselves.
#[derive(Clone, Debug)]
pub(super) struct Gpu {
    pub ordinal: usize,
    pub name: String,
    pub target: Target,
    pub l2_bytes: u32,
    pub memory_bytes: u64,
    /// The newest CUDA that the driver speaks: "12.4".
    pub cuda: String,
}

impl Gpu {
    /// One line for people, which also tells a log what a figure was measured on.
    pub fn describe(&self) -> String {
        format!(
            "cuda {}: {}, compute capability {}, {} multiprocessors, {} KiB of shared memory a block, \
             {:.0} MiB of L2, {:.1} GiB, CUDA {}",
            self.ordinal,
            self.name,
            capability(self.target),
            self.target.multiprocessors,
            self.target.shared_bytes >> 10,
            f64::from(self.l2_bytes) / (1u64 << 20) as f64,
            self.memory_bytes as f64 / (1u64 << 30) as f64,
            self.cuda
        )
    }
}

/// "8.6" for a capability of 86.
pub(super) fn capability(target: Target) -> String {
    format!("{}.{}", target.capability / 10, target.capability % 10)
}

/// "13.0" for 13000, as the driver counts.
pub(super) fn cuda_version(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernels_ptx::{SM_80, SM_90A};

    fn gpu() -> Gpu {
        Gpu {
            ordinal: 0,
            name: "NVIDIA H100 80GB HBM3".into(),
            target: Target::of(90),
            l2_bytes: 50 << 20,
            memory_bytes: 85_017_755_648,
            cuda: cuda_version(13_000),
        }
    }

    /// An ELF file of headers alone: one section without bits.
    fn elf() -> Vec<u8> {
        let mut bytes = vec![0; 128];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (bytes[0x28], bytes[0x3a], bytes[0x3c], bytes[64 + 4]) = (64, 64, 1, 8);
        bytes
    }

    /// What is loaded from a folder with these files, and what is told of it.
    fn loaded(files: &[(&str, &[u8])], capability: u32, ptx: &str) -> (Option<Cubin>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        files
            .iter()
            .for_each(|(name, bytes)| std::fs::write(dir.path().join(name), bytes).unwrap());
        let mut told = vec![];
        (load(dir.path(), capability, ptx, &mut |line| told.push(line)), told)
    }

    #[test]
    fn a_folder_is_named_or_beside_the_executable() {
        let dir = tempfile::tempdir().unwrap();
        let beside = || Some(dir.path().to_path_buf());
        assert_eq!(folder(Some("/x".into()), beside), Some("/x".into()));
        assert_eq!(folder(Some("".into()), beside), None);
        assert_eq!(folder(None, beside), beside());
        assert_eq!(folder(None, || Some(dir.path().join("missing"))), None);
    }

    #[test]
    fn a_whole_cubin_of_this_ptx_is_loaded_in_silence() {
        let name = cubin::name("sm_90a", &SM_90A);
        let (found, told) = loaded(&[(&name, &elf())], 90, &SM_90A);
        assert_eq!(found.unwrap().bytes, elf());
        assert!(told.is_empty(), "{told:?}");
    }

    #[test]
    fn a_cubin_that_cannot_be_taken_is_named() {
        let stale = cubin::name("sm_86", "older");
        let (found, told) = loaded(&[(&stale, &elf())], 86, &SM_80);
        assert!(found.is_none() && told.len() == 1, "{told:?}");
        assert!(told[0].contains(&stale) && told[0].contains("build-cubins.sh"), "{told:?}");

        let name = cubin::name("sm_86", &SM_80);
        let (found, told) = loaded(&[(&name, &elf()[..100])], 86, &SM_80);
        assert!(found.is_none() && told.len() == 1, "{told:?}");
        assert!(told[0].contains(&name) && told[0].contains("cut off after 100 bytes"), "{told:?}");

        let mut told = vec![];
        let missing = tempfile::tempdir().unwrap().path().join("gone");
        assert!(load(&missing, 86, &SM_80, &mut |line| told.push(line)).is_none());
        assert!(told[0].contains("gone") && told[0].contains("compiles the PTX"), "{told:?}");
    }

    #[test]
    fn a_log_is_cut_to_what_matters() {
        let log = b"info    : 0 bytes gmem\n\nptxas application ptx input, line 9; fatal   : \
            Unsupported .version 9.0; current version is '8.0'\nptxas fatal   : Ptx assembly aborted \
            due to errors\n\0\0garbage";
        assert_eq!(
            log_line(log),
            "ptxas application ptx input, line 9, fatal : Unsupported .version 9.0, current version \
             is '8.0', ptxas fatal : Ptx assembly aborted due to errors"
        );
        assert_eq!(log_line(b"a\nb  c\n\0"), "a, b c");
        assert_eq!(
            log_line(b"error 1\nerror 2\nnote\nerror 3\nerror 4\nerror 5\0"),
            "error 1, error 2, error 3, 2 more"
        );
        assert_eq!(log_line(b"\0\0"), "");
        assert_eq!(log_line(b""), "");
    }

    #[test]
    fn a_refusal_names_gpu_capability_and_what_was_refused() {
        let text = refusal(
            &gpu(),
            "PTX for sm_90a",
            "the provided PTX was compiled with an unsupported toolchain.",
            "fatal",
        );
        assert_eq!(
            text,
            "NVIDIA H100 80GB HBM3 (compute capability 9.0, driver for CUDA 13.0) refuses PTX for sm_90a: \
             the provided PTX was compiled with an unsupported toolchain. (fatal)"
        );
        assert!(!refusal(&gpu(), "x", "y", "").contains("()"));
    }

    #[test]
    fn a_gpu_describes_itself_for_a_log() {
        assert_eq!(
            gpu().describe(),
            "cuda 0: NVIDIA H100 80GB HBM3, compute capability 9.0, 132 multiprocessors, 227 KiB of \
             shared memory a block, 50 MiB of L2, 79.2 GiB, CUDA 13.0"
        );
        assert_eq!(cuda_version(12_080), "12.8");
    }
}
