//! No launch asks for more than a device has, for any shape that a configuration allows. Nothing runs.

use crate::check::{Bf16, F32};
use kernels_ptx::launch::attention::Sequences;
use kernels_ptx::launch::gemm::{self, Layout};
use kernels_ptx::launch::{
    Launch, Storage, Target, adamw, attention, bias, embedding, loss, norm, rmsnorm, rope, scale,
    skinny, swiglu,
};

/// A100, GeForce RTX 3090 and 4090, H100, B200, GeForce RTX 5090.
const CAPABILITIES: [u32; 6] = [80, 86, 89, 90, 100, 120];

/// Widths: odd ones, a model's, and up to the largest that a configuration may have.
const WIDTHS: [u32; 12] =
    [1, 7, 64, 768, 2048, 8192, 24 << 10, (24 << 10) + 1, 32000, 65536, 128_256, 1 << 20];
const ROWS: [u32; 5] = [1, 16, 17, 512, 32768];

fn passes(storage: Storage, N: u32, C: u32) -> Vec<Launch> {
    vec![
        rmsnorm::forward(storage, N, C),
        rmsnorm::forward_residual(storage, N, C),
        rmsnorm::apply(storage, N, C),
        rmsnorm::backward(storage, N, C),
        rmsnorm::backward_gain(C),
        bias::forward(storage, N, C),
        bias::backward(storage, C),
        swiglu::forward(storage, N, C),
        swiglu::backward(storage, N, C),
        scale::scale(storage, N.saturating_mul(C)),
        embedding::forward(storage, N, C),
        embedding::backward(storage, N, C),
        loss::forward(storage, N, C),
        loss::forward_backward(storage, N, C),
        loss::sum(),
        norm::squares(u64::from(N) * u64::from(C)),
        norm::sum(),
        adamw::step(storage, u64::from(N) * u64::from(C)),
        gemm::add_parts(u64::from(N) * u64::from(C)),
    ]
}

fn products(target: Target, M: u32, N: u32, K: u32) -> Vec<Launch> {
    let cut = gemm::cut(target, M, N, K);
    let mut all = vec![gemm::round_parts(M, N), gemm::f32(M, N)];
    for (layout, lda, ldb) in [(Layout::Nt, K, K), (Layout::Nn, K, N), (Layout::Tn, M, N)] {
        all.push(gemm::wide(cut, layout, M, N, lda, ldb));
        if layout != Layout::Tn && cut.parts == 1 {
            all.push(gemm::rounded(cut, layout, M, N, lda, ldb));
        }
    }
    if skinny::takes(M, K, K, K) {
        all.extend([skinny::rounded(target, M, N), skinny::wide(target, M, N)]);
    }
    all
}

fn heads(target: Target, storage: Storage, T: u32, D: u32) -> Vec<Launch> {
    let one = Sequences::Equal { B: 1, T };
    vec![
        attention::forward(target, storage, one, 8, D).launch,
        attention::decode(storage, T, 8, D),
        attention::delta(storage, 8 * T),
        attention::backward_queries(target, storage, one, 8, D).launch,
        attention::backward_keys(target, storage, one, 2, D).launch,
    ]
}

fn all(target: Target) -> Vec<Launch> {
    let mut all = vec![];
    for storage in [F32, Bf16] {
        for (N, C) in ROWS.into_iter().flat_map(|N| WIDTHS.map(|C| (N, C))) {
            all.extend(passes(storage, N, C));
        }
        for (T, D) in ROWS.into_iter().flat_map(|T| (1..=attention::MAX_D).map(move |D| (T, D))) {
            all.extend(heads(target, storage, T, D));
            if D.is_multiple_of(2) {
                all.push(rope::rotate(storage, T, 12 * D, D));
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
