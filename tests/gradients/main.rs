//! Every gradient, in one place. Each op has one file, which holds all of its tests: the f64 reference
//! against central differences; forward and backward against that reference, on every instruction set
//! and every kind of GPU, in every storage type; a planted error that must be noticed; and what the
//! rest of the engine builds on: bits that do not depend on threads, NaN that is never lost.
//! `model` and `adapters` prove the gradient of a whole model by central differences, and `parity`
//! holds it against PyTorch's.

mod adamw;
mod adapters;
mod attention;
#[path = "../shared/bench.rs"]
mod bench;
mod bias;
mod check;
mod embedding;
mod gemm;
#[path = "../shared/generated.rs"]
mod generated;
#[path = "../shared/gpus.rs"]
mod gpus;
mod linear;
mod lora;
mod loss;
mod model;
mod norm;
mod parity;
mod rmsnorm;
mod rope;
mod swiglu;

use std::path::Path;
use std::process::Command;

/// What no op goes without: each begins the name of a test in the op's file.
const PROOFS: [&str; 5] = [
    "reference_",
    "cpu_against_reference",
    "gpu_against_reference",
    "planted_errors_are_noticed",
    "bits_do_not_depend_on_threads",
];

/// An op is a folder of the engine; the tests are asked for their names.
#[test]
fn every_op_has_its_proofs() {
    let ops = Path::new(env!("CARGO_MANIFEST_DIR")).join("engine/src/ops");
    let listed = Command::new(std::env::current_exe().unwrap()).arg("--list").output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let mut seen = 0;
    for entry in ops.read_dir().unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir()) {
        let op = entry.file_name().into_string().unwrap();
        for proof in PROOFS {
            let name = format!("{op}::{proof}");
            let found = listed.lines().any(|line| line.starts_with(&name));
            assert!(found, "tests/gradients/{op}.rs lacks a test whose name begins with {proof}");
        }
        seen += 1;
    }
    assert!(seen >= 10, "{} has {seen} ops", ops.display());
}
