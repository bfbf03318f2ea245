use super::{PIECE, ROWS, Rounded, STRIP, THREADS, WARPS, Wide, stages};
use crate::launch::{Launch, Target};

/// Whether these kernels take M rows of x, K deep: rows of x and W must be whole multiples of 16
/// bytes. Others go to [`gemm`](crate::linear::gemm).
pub fn takes(M: u32, K: u32, ldx: u32, ldw: u32) -> bool {
    M <= ROWS && [K, ldx, ldw].iter().all(|len| len.is_multiple_of(8))
}

/// Bytes of shared memory of a block, for M rows of x.
fn shared_bytes(strips: u32, M: u32) -> u32 {
    let halves = if M > ROWS / 2 { 2 } else { 1 };
    WARPS * stages(strips) * (strips + halves) * PIECE
}

/// The most strips a block with which every multiprocessor still has one.
fn strips(target: Target, kernels: [&'static str; 3], M: u32, N: u32) -> Launch {
    let blocks = |strips: u32| N.div_ceil(STRIP * strips);
    let fills = |strips: &u32| blocks(*strips) >= target.multiprocessors;
    let strips = [4, 2].into_iter().find(fills).unwrap_or(1);
    let kernel = kernels[strips.ilog2() as usize];
    Launch::new(kernel, [blocks(strips), 1, 1], THREADS, shared_bytes(strips, M))
}

impl Rounded {
    pub(super) fn grid(&self, target: Target) -> Launch {
        let kernels = [Self::skinny_bf16_8, Self::skinny_bf16_16, Self::skinny_bf16_32];
        strips(target, kernels, self.M, self.N)
    }
}

impl Wide {
    pub(super) fn grid(&self, target: Target) -> Launch {
        let kernels = [Self::skinny_bf16_f32_8, Self::skinny_bf16_f32_16, Self::skinny_bf16_f32_32];
        strips(target, kernels, self.M, self.N)
    }
}
