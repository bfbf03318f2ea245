//! cuBLASLt's calls against a library of loops (`fake.c`, built with the C compiler that the data
//! crate needs as well): what is found, in which context, and that layouts and turns are right.

use super::*;
use crate::cuda::Target;
use crate::cuda::driver::{Event, Rows};
use half::bf16;
use kernels_ptx::launch::{Arg, Launch};
use ptx_emu::Hardware;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A driver whose device memory is the host's.
#[derive(Default)]
struct Host {
    /// How often its stream was lent.
    lent: AtomicUsize,
    /// Addresses that are out.
    out: Mutex<HashMap<u64, Vec<u128>>>,
}

impl Driver for Host {
    fn describe(&self) -> String {
        "host".into()
    }
    fn target(&self) -> Target {
        Target::of(90)
    }
    fn memory(&self) -> Result<(u64, u64), String> {
        Ok((1 << 30, 1 << 30))
    }
    fn alloc(&self, bytes: usize) -> Result<u64, String> {
        let memory = vec![0u128; bytes.div_ceil(16)];
        let at = memory.as_ptr() as u64;
        self.out.lock().unwrap().insert(at, memory);
        Ok(at)
    }
    fn free(&self, ptr: u64) {
        self.out.lock().unwrap().remove(&ptr).expect("freed once");
    }
    fn zero(&self, _: u64, _: usize) -> Result<(), String> {
        unreachable!("products do not zero")
    }
    fn upload(&self, _: u64, _: &[u8]) -> Result<(), String> {
        unreachable!("products do not copy")
    }
    fn download(&self, _: &mut [u8], _: u64) -> Result<(), String> {
        unreachable!("products do not copy")
    }
    fn copy_rows(&self, _: Rows) -> Result<(), String> {
        unreachable!("products do not copy")
    }
    fn launch(&self, _: &Launch, _: &[Arg]) -> Result<(), String> {
        unreachable!("the library launches")
    }
    fn sync(&self) -> Result<(), String> {
        Ok(())
    }
    fn record(&self) -> Result<Event, String> {
        Ok(0)
    }
    fn elapsed_ms(&self, moments: &[Event]) -> Result<Vec<f32>, String> {
        Ok(vec![0.0; moments.len()])
    }
    fn stream(&self) -> Option<Result<Stream<'_>, String>> {
        self.lent.fetch_add(1, Relaxed);
        Some(Ok(Stream::of(self, 1 as _)))
    }
}

/// Builds the fake library under `name`.
fn build(dir: &Path, name: &str, flags: &[&str]) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cuda/cublaslt/fake.c");
    let library = dir.join(name);
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).args(flags);
    assert!(cc.status().expect("a C compiler, cc").success());
    library
}

fn values(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7 + seed * 13) % 17) as f32 - 8.0).collect()
}

/// C of [`Product`] by its definition, in small whole numbers, so that every order of sums agrees.
fn expected(p: &Product, a: &[f32], b: &[f32], c: &[f32], r: &[f32], onto: Onto<f32>) -> Vec<f32> {
    let at = |m: usize, n: usize| {
        let a = |k: usize| if p.layout == Layout::Tn { a[k * p.lda + m] } else { a[m * p.lda + k] };
        let b = |k: usize| if p.layout == Layout::Nt { b[n * p.ldb + k] } else { b[k * p.ldb + n] };
        let sum: f32 = (0..p.K).map(|k| a(k) * b(k)).sum();
        sum + match onto {
            Onto::Zero => 0.0,
            Onto::Other(_) => r[m * p.N + n],
            Onto::Itself => c[m * p.N + n],
        }
    };
    (0..p.M * p.N).map(|i| at(i / p.N, i % p.N)).collect()
}

#[test]
fn products_are_those_of_the_definition() {
    let dir = tempfile::tempdir().unwrap();
    let driver = Arc::new(Host::default());
    let library = build(dir.path(), "libcublasLt.so.13", &[]);
    let lt =
        CublasLt::found(driver.clone(), &[dir.path().join("libcublasLt.so.14"), library]).unwrap();
    assert_eq!(lt.version(), "13.0.2");
    let (N, I, O) = (5, 7, 3);
    let products = [
        Product::forward(N, I, O),
        Product::backward_input(N, I, O),
        Product::backward_weight(N, I, O),
    ];
    for p in products {
        let r = values(p.M * p.N, 3);
        for onto in [Onto::Zero, Onto::Other(r.as_ptr()), Onto::Itself] {
            let (a, b) = (values(N * I.max(O), 1), values(N.max(I) * I.max(O), 2));
            let start = values(p.M * p.N, 4);
            let wanted = expected(&p, &a, &b, &start, &r, onto);
            let lent = driver.lent.load(Relaxed);

            let mut c = start.clone();
            lt.multiply(&p, c.as_mut_ptr(), a.as_ptr(), b.as_ptr(), onto).unwrap();
            assert_eq!(c, wanted, "{p:?} {onto:?}");

            let [a, b] = [a, b].map(|x| x.into_iter().map(bf16::from_f32).collect::<Vec<_>>());
            let mut c = start.clone();
            lt.multiply(&p, c.as_mut_ptr(), a.as_ptr(), b.as_ptr(), onto).unwrap();
            assert_eq!(c, wanted, "{p:?} {onto:?} of bf16");
            assert_eq!(driver.lent.load(Relaxed), lent + 2, "each product enters the context");
        }
    }
    drop(lt);
    assert!(driver.out.lock().unwrap().is_empty(), "the work space is given back");
}

#[test]
fn addresses_need_no_more_alignment_than_they_have() {
    let dir = tempfile::tempdir().unwrap();
    let library = build(dir.path(), "libcublasLt.so.12", &[]);
    let lt = CublasLt::found(Arc::new(Host::default()), &[library]).unwrap();
    let (p, memory) = (Product::forward(2, 2, 2), values(64, 1));
    for offset in 0..8 {
        let mut c = vec![0.0; 4 + offset];
        let (a, b) = (&memory[offset..offset + 4], &memory[offset + 4..offset + 8]);
        let to = c[offset..].as_mut_ptr();
        lt.multiply(&p, to, a.as_ptr(), b.as_ptr(), Onto::Zero).unwrap();
        assert_eq!(c[offset..], expected(&p, a, b, &[], &[], Onto::Zero), "offset {offset}");
    }
}

#[test]
fn a_library_that_does_not_start_is_passed_over_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let newer = build(dir.path(), "libcublasLt.so.13", &["-DCREATED=1"]);
    let older = build(dir.path(), "libcublasLt.so.12", &[]);
    let driver = || Arc::new(Host::default());
    assert!(CublasLt::found(driver(), &[&newer, &older]).is_ok());

    let missing = dir.path().join("libcublasLt.so");
    let error = CublasLt::found(driver(), &[&newer, &missing]).err().unwrap();
    for part in [
        "libcublasLt.so.13: ",
        "not initialized",
        "libcublasLt.so: ",
        "LD_LIBRARY_PATH",
        "--gemm rust",
    ] {
        assert!(error.contains(part), "{part} in {error}");
    }
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn an_emulator_has_no_stream_to_multiply_on() {
    let driver =
        crate::cuda::emulated::Emulated::new(&kernels_ptx::SM_80, Hardware::strict(80).unwrap())
            .unwrap();
    let error = CublasLt::new(Arc::new(driver)).err().unwrap();
    assert!(error.contains("needs a GPU") && error.contains("--gemm rust"), "{error}");
}
