//! Prints the dynamic shared memory of the kernels whose tiles decide it, for `resources.py`.

use kernels_ptx::launch::Storage::Bf16;
use kernels_ptx::launch::gemm::{self, Layout};
use kernels_ptx::launch::{Launch, Target, attention};

fn main() {
    let print = |launch: Launch| println!("{} {}", launch.kernel, launch.shared_bytes);
    for D in [64, 128, 32, 256] {
        print(attention::forward(Bf16, 1, 1, 1, D));
        print(attention::backward_queries(Bf16, 1, 1, 1, D));
        print(attention::backward_keys(Bf16, 1, 1, 1, D));
    }
    // Many tiles, few tiles, rows that are not whole multiples of 16 bytes.
    let target = Target::of(90);
    for (M, N, ld) in [(8192, 8192, 8), (128, 256, 8), (128, 256, 1)] {
        print(gemm::rounded(target, Layout::Nt, M, N, ld, ld));
        print(gemm::rounded(target, Layout::Nn, M, N, ld, ld));
        print(gemm::wide(target, Layout::Nt, M, N, 64, ld, ld, 64));
        print(gemm::wide(target, Layout::Tn, M, N, 64, ld, ld, 64));
    }
}
