//! Prints the dynamic shared memory of the kernels whose tiles decide it, for `resources.py`: compute
//! capability, kernel, bytes. A kernel that a device is never given is not listed for it.

use kernels_ptx::attention::flash;
use kernels_ptx::launch::{Kernel, Launch, Target};
use kernels_ptx::linear::gemm::{self, Layout};
use kernels_ptx::linear::skinny;
use std::collections::BTreeMap;
use std::ptr::{null, null_mut};

/// The kernels of heads of D, for one sequence of one token.
fn heads(target: Target, D: u32) -> [Launch; 3] {
    let (o_NHD, dqkv, qkv, do_NHD, items) = (null_mut(), null_mut(), null(), null(), null());
    let (T, H, G, scale, count) = (1, 1, 1, 1.0, 1);
    let forward =
        flash::Forward { o_NHD, lse_NH: null_mut(), qkv, items, T, H, G, D, scale, count };
    let (lse_NH, delta_NH) = (null(), null());
    let queries = flash::BackwardQueries {
        dqkv,
        do_NHD,
        qkv,
        lse_NH,
        delta_NH,
        items,
        T,
        H,
        G,
        D,
        scale,
        count,
    };
    let keys = flash::BackwardKeys {
        dqkv,
        do_NHD,
        qkv,
        lse_NH,
        delta_NH,
        items,
        T,
        H,
        G,
        D,
        scale,
        count,
    };
    [forward.launch(target), queries.launch(target), keys.launch(target)]
}

fn launches(target: Target) -> Vec<Launch> {
    let mut all: Vec<Launch> = [64, 128, 32, 256].map(|D| heads(target, D)).concat();
    let (a, b, K) = (null(), null(), 64);
    // Many tiles, few tiles, rows that are not whole multiples of 16 bytes.
    for (M, N, ld) in [(8192, 8192, 8), (128, 256, 8), (128, 256, 1)] {
        let (cut, lda, ldb, ldc) = (gemm::cut(target, M, N, K), ld, ld, N);
        for layout in [Layout::Nt, Layout::Nn, Layout::Tn] {
            let (c, depth, add) = (null_mut(), cut.depth, 0);
            let wide = gemm::Wide { c, a, b, M, N, K, lda, ldb, ldc, depth, add, layout, cut };
            all.push(wide.launch(target));
            if layout != Layout::Tn {
                let (c, r) = (null_mut(), null());
                let rounded = gemm::Rounded { c, r, a, b, M, N, K, lda, ldb, ldc, layout, cut };
                all.push(rounded.launch(target));
            }
        }
    }
    // A decoder's one row, of outputs for one, two and four strips a block.
    for N in [8, 16 * target.multiprocessors, 32 * target.multiprocessors] {
        let (x, w, M, ldx, ldw, ldy) = (null(), null(), 1, K, K, N);
        let (y, r) = (null_mut(), null());
        all.push(skinny::Rounded { y, r, x, w, M, N, K, ldx, ldw, ldy }.launch(target));
        all.push(skinny::Wide { y: null_mut(), x, w, M, N, K, ldx, ldw, ldy }.launch(target));
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
