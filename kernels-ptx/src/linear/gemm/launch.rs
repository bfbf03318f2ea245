use super::{
    AddParts, BK, F32, F32_DEPTH, F32_TILE, RoundParts, Rounded, WARP_TILE, Wide, stages_bytes,
};
use crate::launch::{Launch, Target};

/// How the operands lie in memory, rows of `lda` and `ldb` elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// A is M rows, B is N rows: y = x W^T.
    Nt,
    /// A is M rows, B is K rows: dx = dy W.
    Nn,
    /// A is K rows, B is K rows: dW = dy^T x.
    Tn,
}

/// How blocks share a product: C in tiles of 128 x BN, K in parts of `depth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    BN: u32,
    /// Depth of a part: all of K, in whole slices, if there is one.
    pub depth: u32,
    /// Parts, which are computed beside each other.
    pub parts: u32,
}

impl Cut {
    fn new(BN: u32, K: u32, parts: u32) -> Cut {
        let depth = K.div_ceil(parts).next_multiple_of(BK);
        Cut { BN, depth, parts: K.div_ceil(depth) }
    }

    fn tiles(&self, M: u32, N: u32) -> u32 {
        M.div_ceil(128) * N.div_ceil(self.BN)
    }

    /// An estimate of its time: a unit is what a multiprocessor takes for a slice of a wide tile.
    fn cost(&self, target: Target, M: u32, N: u32) -> f64 {
        // Slices that a block's start and end take.
        const AROUND: f64 = 4.0;
        // What the parts' second launch takes.
        const LAUNCH: f64 = 3.0;
        // FLOP of products in the time in which memory moves a byte, as A100 and H100 reach them.
        const FLOP_PER_BYTE: f64 = 150.0;
        // Parts must promise a tenth: that is how rough this is.
        const DOUBT: f64 = 1.1;
        let on_one = (self.tiles(M, N) * self.parts).div_ceil(target.multiprocessors);
        // A multiprocessor holds one block of the wide tile, or two of the other where shared
        // memory allows, which read it more often; one of those alone leaves the tensor cores
        // waiting.
        let two = target.shared_bytes >= 2 * stages_bytes(128) + 1024;
        let rounds = match (self.BN, two) {
            (256, _) => f64::from(on_one),
            (_, true) => f64::from(on_one / 2) * 1.08 + f64::from(on_one % 2) * 0.6,
            (_, false) => f64::from(on_one) * 0.6,
        };
        let products = rounds * (f64::from(self.depth / BK) + AROUND);
        if self.parts == 1 {
            return products;
        }
        let slice = f64::from(2 * 128 * 256 * BK * target.multiprocessors);
        // Every part is written and read, C read and written: 4 bytes each.
        let bytes = 8.0 * f64::from(self.parts + 1) * f64::from(M) * f64::from(N);
        (products + LAUNCH + bytes * FLOP_PER_BYTE / slice) * DOUBT
    }
}

/// The cut of a product of brain floats that promises to take least time: one of few tiles and a
/// deep K is divided into parts, so that no multiprocessor idles.
pub fn cut(target: Target, M: u32, N: u32, K: u32) -> Cut {
    const LEAST_DEPTH: u32 = 1024;
    let widest = if stages_bytes(256) <= target.shared_bytes { 256 } else { 128 };
    let most = (K / LEAST_DEPTH).clamp(1, 2 * target.multiprocessors);
    let cuts = (1..=most).flat_map(|parts| [widest, 128].map(|BN| Cut::new(BN, K, parts)));
    let cost = |cut: &Cut| cut.cost(target, M, N);
    cuts.min_by(|a, b| cost(a).total_cmp(&cost(b))).expect("one part is a cut")
}

/// `kernels` are those of the wide tile, of the other, and for rows that do not start at multiples of
/// 16 bytes, as `aligned` tells.
fn tiles(kernels: [&'static str; 3], cut: Cut, M: u32, N: u32, aligned: bool) -> Launch {
    let (kernel, BN) = match (aligned, cut.BN) {
        (false, _) => (kernels[2], 128),
        (true, 256) => (kernels[0], 256),
        (true, _) => (kernels[1], 128),
    };
    let threads = 128 / WARP_TILE * BN / WARP_TILE * 32;
    let tiles = Cut { BN, ..cut }.tiles(M, N);
    Launch::new(kernel, [tiles, 1, cut.parts], threads, stages_bytes(BN))
}

/// Whether each row starts at a multiple of 16 bytes. An operand may be columns of wider rows.
fn aligned<E>(operand: *const E, ld: u32) -> bool {
    operand.addr().is_multiple_of(16) && ld.is_multiple_of(16 / size_of::<E>() as u32)
}

impl Rounded {
    pub(super) fn grid(&self, _: Target) -> Launch {
        assert_eq!(self.cut.parts, 1, "gemm: parts are summed before they are rounded");
        let kernels = match self.layout {
            Layout::Nt => {
                [Self::gemm_nt_bf16_128x256, Self::gemm_nt_bf16_128x128, Self::gemm_nt_bf16_any]
            }
            Layout::Nn => {
                [Self::gemm_nn_bf16_128x256, Self::gemm_nn_bf16_128x128, Self::gemm_nn_bf16_any]
            }
            Layout::Tn => panic!("gemm: gradients of weights are f32"),
        };
        let aligned = aligned(self.a, self.lda) && aligned(self.b, self.ldb);
        tiles(kernels, self.cut, self.M, self.N, aligned)
    }
}

impl Wide {
    pub(super) fn grid(&self, _: Target) -> Launch {
        assert_eq!(self.depth, self.cut.depth, "gemm: parts are as deep as they are cut");
        let kernels = match self.layout {
            Layout::Nt => [
                Self::gemm_nt_bf16_f32_128x256,
                Self::gemm_nt_bf16_f32_128x128,
                Self::gemm_nt_bf16_f32_any,
            ],
            Layout::Nn => [
                Self::gemm_nn_bf16_f32_128x256,
                Self::gemm_nn_bf16_f32_128x128,
                Self::gemm_nn_bf16_f32_any,
            ],
            Layout::Tn => [
                Self::gemm_tn_bf16_f32_128x256,
                Self::gemm_tn_bf16_f32_128x128,
                Self::gemm_tn_bf16_f32_any,
            ],
        };
        let aligned = aligned(self.a, self.lda) && aligned(self.b, self.ldb);
        tiles(kernels, self.cut, self.M, self.N, aligned)
    }
}

impl AddParts {
    pub(super) fn grid(&self, _: Target) -> Launch {
        Launch::flat(Self::gemm_add_parts, self.len.div_ceil(4))
    }
}

impl RoundParts {
    pub(super) fn grid(&self, _: Target) -> Launch {
        let count = u64::from(self.M) * u64::from(self.N.div_ceil(4));
        Launch::flat(Self::gemm_round_parts, count)
    }
}

impl F32 {
    pub(super) fn grid(&self, _: Target) -> Launch {
        let shared_bytes = 2 * F32_DEPTH * (F32_TILE + 1) * 4;
        let blocks = [self.M.div_ceil(F32_TILE), self.N.div_ceil(F32_TILE), 1];
        Launch::new(Self::gemm_f32, blocks, 256, shared_bytes)
    }
}
