//! No launch asks for more than a device has, for any shape that a configuration allows. Nothing runs.

use crate::check::{Bf16, F32, Stored};
use kernels_ptx::attention::decode::Decode;
use kernels_ptx::attention::{Delta, MAX_D, flash, plain};
use kernels_ptx::launch::{Kernel, Launch, Storage, Target};
use kernels_ptx::linear::gemm::{self, Layout};
use kernels_ptx::linear::skinny;
use kernels_ptx::{adamw, bias, embedding, loss, norm, rmsnorm, rope, scale, swiglu};

/// A100, GeForce RTX 3090 and 4090, H100, B200, GeForce RTX 5090.
const CAPABILITIES: [u32; 6] = [80, 86, 89, 90, 100, 120];

/// Widths: odd ones, a model's, and up to the largest that a configuration may have.
const WIDTHS: [u32; 12] =
    [1, 7, 64, 768, 2048, 8192, 24 << 10, (24 << 10) + 1, 32000, 65536, 128_256, 1 << 20];
const ROWS: [u32; 5] = [1, 16, 17, 512, 32768];

/// What a launch does not depend on: null pointers and zeros.
fn rest<K: Kernel>() -> K {
    // SAFETY: fields are numbers, pointers, enums whose first variant is 0, and structs of numbers.
    unsafe { std::mem::zeroed() }
}

fn passes(target: Target, storage: Storage, N: u32, C: u32) -> Vec<Launch> {
    let (F, O, V, S, groups, len) = (C, C, C, C, N, u64::from(N) * u64::from(C));
    vec![
        rmsnorm::Forward::<Stored> { storage, N, C, ..rest() }.launch(target),
        rmsnorm::ForwardResidual::<Stored> { storage, N, C, ..rest() }.launch(target),
        rmsnorm::Apply::<Stored> { storage, N, C, ..rest() }.launch(target),
        rmsnorm::Backward::<Stored> { storage, N, C, ..rest() }.launch(target),
        rmsnorm::BackwardGain { C, ..rest() }.launch(target),
        bias::Forward::<Stored> { storage, N, O, ..rest() }.launch(target),
        bias::Backward::<Stored> { storage, N, O, ..rest() }.launch(target),
        swiglu::Forward::<Stored> { storage, N, F, ..rest() }.launch(target),
        swiglu::Backward::<Stored> { storage, N, F, ..rest() }.launch(target),
        scale::Scale::<Stored> { storage, len: N.saturating_mul(C), ..rest() }.launch(target),
        embedding::Forward::<Stored> { storage, N, C, ..rest() }.launch(target),
        embedding::Backward::<Stored> { storage, C, groups, ..rest() }.launch(target),
        loss::Forward::<Stored> { storage, V, S, N, ..rest() }.launch(target),
        loss::ForwardBackward::<Stored> { storage, V, S, N, ..rest() }.launch(target),
        loss::Sum { N, ..rest() }.launch(target),
        norm::Squares { len, ..rest() }.launch(target),
        norm::Sum { ..rest() }.launch(target),
        adamw::Step { len, ..rest() }.launch(target),
        adamw::StepAndCopy { len, ..rest() }.launch(target),
        gemm::AddParts { len, ..rest() }.launch(target),
    ]
}

fn products(target: Target, M: u32, N: u32, K: u32) -> Vec<Launch> {
    let cut = gemm::cut(target, M, N, K);
    let mut all = vec![
        gemm::RoundParts { M, N, ..rest() }.launch(target),
        gemm::F32 { M, N, K, ..rest() }.launch(target),
    ];
    for (layout, lda, ldb) in [(Layout::Nt, K, K), (Layout::Nn, K, N), (Layout::Tn, M, N)] {
        let depth = cut.depth;
        all.push(gemm::Wide { M, N, K, lda, ldb, depth, layout, cut, ..rest() }.launch(target));
        if layout != Layout::Tn && cut.parts == 1 {
            all.push(gemm::Rounded { M, N, K, lda, ldb, layout, cut, ..rest() }.launch(target));
        }
    }
    if skinny::takes(M, K, K, K) {
        all.push(skinny::Rounded { M, N, K, ldx: K, ldw: K, ..rest() }.launch(target));
        all.push(skinny::Wide { M, N, K, ldx: K, ldw: K, ..rest() }.launch(target));
    }
    all
}

fn heads(target: Target, storage: Storage, T: u32, D: u32) -> Vec<Launch> {
    let (N, H, G, count) = (T, 8, 2, 1);
    let mut all = vec![
        Decode::<Stored> { storage, N, H, G, D, ..rest() }.launch(target),
        Delta::<Stored> { storage, rows: N * H, D, ..rest() }.launch(target),
    ];
    all.extend(match storage {
        F32 => [
            plain::Forward { N, T, H, G, D, ..rest() }.launch(target),
            plain::BackwardQueries { N, T, H, G, D, ..rest() }.launch(target),
            plain::BackwardKeys { N, T, H, G, D, ..rest() }.launch(target),
        ],
        Bf16 => [
            flash::Forward { T, H, G, D, count, ..rest() }.launch(target),
            flash::BackwardQueries { T, H, G, D, count, ..rest() }.launch(target),
            flash::BackwardKeys { T, H, G, D, count, ..rest() }.launch(target),
        ],
    });
    all
}

fn all(target: Target) -> Vec<Launch> {
    let mut all = vec![];
    for storage in [F32, Bf16] {
        for (N, C) in ROWS.into_iter().flat_map(|N| WIDTHS.map(|C| (N, C))) {
            all.extend(passes(target, storage, N, C));
        }
        for (T, D) in ROWS.into_iter().flat_map(|T| (1..=MAX_D).map(move |D| (T, D))) {
            all.extend(heads(target, storage, T, D));
            if D.is_multiple_of(2) {
                let rotate = rope::Rotate::<Stored> { storage, N: T, S: 12 * D, D, ..rest() };
                all.push(rotate.launch(target));
            }
        }
    }
    for (M, N) in ROWS.into_iter().chain(WIDTHS).flat_map(|M| WIDTHS.map(|N| (M, N))) {
        for K in [1, 8, 768, 11008, 32000] {
            all.extend(products(target, M, N, K));
        }
    }
    all
}

#[test]
fn no_launch_asks_for_more_than_a_block_has() {
    for target in CAPABILITIES.map(Target::of) {
        for launch in all(target) {
            let fits = launch.shared_bytes <= target.shared_bytes && launch.threads <= 1024;
            assert!(fits, "capability {}: {launch:?}", target.capability);
        }
    }
}

/// The check is not empty: some launches take nearly all that the smallest device has, and on larger
/// ones some take more than that.
#[test]
fn some_launch_would_not_fit_elsewhere() {
    let most = |capability| all(Target::of(capability)).iter().map(|l| l.shared_bytes).max();
    let small = Target::of(86).shared_bytes;
    assert!(most(86).unwrap() > small - small / 10);
    assert!(most(90).unwrap() > small);
}
