//! Prints the dynamic shared memory of the kernels whose tiles decide it, for `resources.py`: compute
//! capability, kernel, bytes. A kernel that a device is never given is not listed for it.

use kernels_ptx::launch::Storage::Bf16;
use kernels_ptx::launch::attention::Sequences;
use kernels_ptx::launch::gemm::{self, Layout};
use kernels_ptx::launch::{Launch, Target, attention, skinny};
use std::collections::BTreeMap;

fn launches(target: Target) -> Vec<Launch> {
    let (mut all, one) = (vec![], Sequences::Equal { B: 1, T: 1 });
    for D in [64, 128, 32, 256] {
        all.extend([
            attention::forward(target, Bf16, one, 1, D).launch,
            attention::backward_queries(target, Bf16, one, 1, D).launch,
            attention::backward_keys(target, Bf16, one, 1, D).launch,
        ]);
    }
    // Many tiles, few tiles, rows that are not whole multiples of 16 bytes.
    for (M, N, ld) in [(8192, 8192, 8), (128, 256, 8), (128, 256, 1)] {
        let cut = gemm::cut(target, M, N, 64);
        all.extend([Layout::Nt, Layout::Nn].map(|layout| gemm::rounded(cut, layout, M, N, ld, ld)));
        let layouts = [Layout::Nt, Layout::Nn, Layout::Tn];
        all.extend(layouts.map(|layout| gemm::wide(cut, layout, M, N, ld, ld)));
    }
    // A decoder's one row, of outputs for one, two and four strips a block.
    for N in [8, 16 * target.multiprocessors, 32 * target.multiprocessors] {
        all.extend([skinny::rounded(target, 1, N), skinny::wide(target, 1, N)]);
    }
    all
}

fn main() {
    for capability in [80, 86, 89, 90, 100, 120] {
        let all = launches(Target::of(capability));
        let all: BTreeMap<_, _> = all.iter().map(|l| (l.kernel, l.shared_bytes)).collect();
        all.iter().for_each(|(kernel, bytes)| println!("{capability} {kernel} {bytes}"));
    }
}
