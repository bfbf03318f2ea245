//! Which kernel computes an op, on which grid. Each function's docs list the kernel's arguments in
//! order: pointers to device memory, then scalars (lengths u32 unless they say otherwise, f32).
//! Grids depend on shapes and on the [`Target`], and on nothing that changes from run to run, so sums
//! have the same order on all devices of one type.

use crate::tiles;

/// What a launch must know of the device that it runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Compute capability: 10 * major + minor.
    pub capability: u32,
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Shared memory that a block can ask for, in bytes.
    pub shared_bytes: u32,
}

impl Target {
    /// The largest device of a compute capability: A100, GeForce RTX 3090 and 4090, H100, B200,
    /// GeForce RTX 5090. For choosing without a device; a test holds it to the emulator's cards.
    pub const fn of(capability: u32) -> Target {
        let (multiprocessors, kib) = match capability {
            120.. => (170, 99),
            100..120 => (148, 227),
            90..100 => (132, 227),
            89 => (128, 99),
            86..89 => (82, 99),
            _ => (108, 163),
        };
        Target { capability, multiprocessors, shared_bytes: kib << 10 }
    }
}

/// Storage of activations and of the weights that products read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Storage {
    /// 32 bits.
    F32,
    /// Brain floats.
    Bf16,
}

impl Storage {
    /// Bytes of an element.
    pub const fn bytes(self) -> usize {
        match self {
            Storage::F32 => 4,
            Storage::Bf16 => 2,
        }
    }

    /// Elements that a thread accesses at once in rows of `len`.
    fn lanes(self, len: u32) -> u32 {
        let lanes = 16 / self.bytes() as u32;
        if len.is_multiple_of(lanes) { lanes } else { 1 }
    }

    fn pick(self, f32: &'static str, bf16: &'static str) -> &'static str {
        match self {
            Storage::F32 => f32,
            Storage::Bf16 => bf16,
        }
    }
}

/// One launch of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Its name in the PTX.
    pub kernel: &'static str,
    /// Blocks of the grid.
    pub blocks: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of dynamic shared memory.
    pub shared_bytes: u32,
}

impl Launch {
    fn new(kernel: &'static str, blocks: [u32; 3], threads: u32, shared_bytes: u32) -> Launch {
        Launch { kernel, blocks, threads, shared_bytes }
    }

    /// One thread for each of `count` pieces of work.
    fn flat(kernel: &'static str, count: u64) -> Launch {
        let blocks = count.div_ceil(FLAT).try_into().expect("launch: more than 2^32 blocks");
        Launch::new(kernel, [blocks, 1, 1], FLAT as u32, 0)
    }
}

/// Threads of a block where nothing speaks for another number.
const FLAT: u64 = 256;
/// Bytes in which a block's warps exchange one number each.
const EXCHANGE: u32 = 32 * 8;

/// Threads for a row of `steps` accesses, of which each keeps two.
fn row_threads(steps: u32, most: u32) -> u32 {
    steps.div_ceil(2).next_multiple_of(32).min(most)
}

/// RMSNorm: rows of C, gain w_C.
pub mod rmsnorm {
    use super::*;

    /// Blocks of [`forward`]: enough to fill any device several times over.
    const FORWARD_BLOCKS: u32 = 2048;
    /// Blocks of [`backward`]. Each writes a row of partial sums: few, so that they are cheap.
    const BACKWARD_BLOCKS: u32 = 512;

    /// y_NC, r_N, x_NC, w_C, N, C, eps.
    pub fn forward(storage: Storage, N: u32, C: u32) -> Launch {
        let kernel = storage.pick("rmsnorm_forward_f32", "rmsnorm_forward_bf16");
        let threads = row_threads(C / storage.lanes(C), 1024);
        Launch::new(kernel, [N.min(FORWARD_BLOCKS), 1, 1], threads, EXCHANGE)
    }

    /// The same of x + a, which replaces x: y_NC, r_N, x_acc_NC, a_NC, w_C, N, C, eps.
    pub fn forward_residual(storage: Storage, N: u32, C: u32) -> Launch {
        let kernel = storage.pick("rmsnorm_forward_residual_f32", "rmsnorm_forward_residual_bf16");
        Launch { kernel, ..forward(storage, N, C) }
    }

    /// y_NC, x_NC, w_C, r_N, N, C.
    pub fn apply(storage: Storage, N: u32, C: u32) -> Launch {
        let kernel = storage.pick("rmsnorm_apply_f32", "rmsnorm_apply_bf16");
        Launch { kernel, shared_bytes: 0, ..forward(storage, N, C) }
    }

    /// dx_acc_NC, dw_part_PC (f32, written), dy_NC, x_NC, w_C, r_N, N, C; P is the number of blocks.
    pub fn backward(storage: Storage, N: u32, C: u32) -> Launch {
        let kernel = storage.pick("rmsnorm_backward_f32", "rmsnorm_backward_bf16");
        let threads = row_threads(C / storage.lanes(C), 512);
        let sums = if C <= tiles::rmsnorm::IN_SHARED { C } else { 0 };
        Launch::new(kernel, [N.min(BACKWARD_BLOCKS), 1, 1], threads, (32 + sums) * 4)
    }

    /// dw_acc_C, dw_part_PC, P, C: after [`backward`].
    pub fn backward_gain(C: u32) -> Launch {
        Launch::new("rmsnorm_backward_gain", [C.div_ceil(32), 1, 1], 1024, 1024 * 4)
    }
}

/// Bias of a linear layer: rows of O.
pub mod bias {
    use super::*;

    /// y_acc_NO, b_O, N, O.
    pub fn forward(storage: Storage, N: u32, O: u32) -> Launch {
        let kernel = storage.pick("bias_forward_f32", "bias_forward_bf16");
        Launch::flat(kernel, u64::from(N) * u64::from(O / storage.lanes(O)))
    }

    /// db_acc_O (f32), dy_NO, N, O.
    pub fn backward(storage: Storage, O: u32) -> Launch {
        let kernel = storage.pick("bias_backward_f32", "bias_backward_bf16");
        Launch::new(kernel, [O.div_ceil(32), 1, 1], 1024, 1024 * 4)
    }
}

/// SwiGLU: rows of F gates and F ups.
pub mod swiglu {
    use super::*;

    fn launch(kernel: &'static str, storage: Storage, N: u32, F: u32) -> Launch {
        Launch::flat(kernel, u64::from(N) * u64::from(F / storage.lanes(F)))
    }

    /// a_NF, gu_N2F, N, F.
    pub fn forward(storage: Storage, N: u32, F: u32) -> Launch {
        launch(storage.pick("swiglu_forward_f32", "swiglu_forward_bf16"), storage, N, F)
    }

    /// gu_N2F (replaced by its gradient), da_NF, N, F.
    pub fn backward(storage: Storage, N: u32, F: u32) -> Launch {
        launch(storage.pick("swiglu_backward_f32", "swiglu_backward_bf16"), storage, N, F)
    }
}

/// Multiplication by a constant.
pub mod scale {
    use super::*;

    /// x (in place), len, factor.
    pub fn scale(storage: Storage, len: u32) -> Launch {
        let kernel = storage.pick("scale_f32", "scale_bf16");
        Launch::flat(kernel, u64::from(len / storage.lanes(len)))
    }
}

/// Rotary embedding of the first heads of rows of S.
pub mod rope {
    use super::*;

    /// x_NS (in place), table_TD (f32), positions_N (u32, or null: row n stands at n mod T), N, T, S,
    /// heads, D, sign: 1 forward, -1 backward.
    pub fn rotate(storage: Storage, N: u32, S: u32, D: u32) -> Launch {
        let lanes = storage.lanes(D / 2).min(storage.lanes(S));
        let count = u64::from(N) * u64::from(D / 2 / lanes);
        Launch {
            threads: 128,
            ..Launch::flat(storage.pick("rope_rotate_f32", "rope_rotate_bf16"), 2 * count)
        }
    }
}

/// Embedding.
pub mod embedding {
    use super::*;

    /// x_NC, tokens_N (u32), w_VC, N, C.
    pub fn forward(storage: Storage, N: u32, C: u32) -> Launch {
        let kernel = storage.pick("embedding_forward_f32", "embedding_forward_bf16");
        Launch::flat(kernel, u64::from(N) * u64::from(C / storage.lanes(C)))
    }

    /// dw_acc_VC (f32), dx_NC, rows_N, starts, tokens (u32: an [`Order`]), C.
    pub fn backward(storage: Storage, groups: u32, C: u32) -> Launch {
        let kernel = storage.pick("embedding_backward_f32", "embedding_backward_bf16");
        let threads = if C.is_multiple_of(4) { C / 4 } else { C };
        let block = threads.next_multiple_of(32).min(64);
        Launch::new(kernel, [groups, threads.div_ceil(block), 1], block, 0)
    }

    /// Rows grouped by token.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Order {
        /// Row numbers: those of the first group ascending, then those of the second, ...
        pub rows_N: Vec<u32>,
        /// Where each group starts in `rows_N`; one more for the end.
        pub starts: Vec<u32>,
        /// The token of each group.
        pub tokens: Vec<u32>,
    }

    /// Groups rows by token. The largest groups come first, because a group is one block's work.
    pub fn order(tokens_N: &[u32]) -> Order {
        let mut rows_N: Vec<u32> = (0..tokens_N.len() as u32).collect();
        rows_N.sort_by_key(|&n| tokens_N[n as usize]);
        let same = |a: &u32, b: &u32| tokens_N[*a as usize] == tokens_N[*b as usize];
        let mut groups: Vec<&[u32]> = rows_N.chunk_by(same).collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
        let mut order = Order { starts: vec![0], ..Order::default() };
        for group in groups {
            order.rows_N.extend(group);
            order.starts.push(order.rows_N.len() as u32);
            order.tokens.push(tokens_N[group[0] as usize]);
        }
        order
    }
}

/// Softmax cross-entropy of rows of V logits, S elements apart. A negative target does not count.
pub mod loss {
    use super::*;

    /// S for rows of V: each starts at a line of 128 bytes, as warps and caches move them, whatever V is.
    pub fn stride(storage: Storage, V: u32) -> u32 {
        V.next_multiple_of(128 / storage.bytes() as u32)
    }

    fn launch(kernel: &'static str, storage: Storage, N: u32, V: u32) -> Launch {
        let accesses = V.div_ceil(16 / storage.bytes() as u32);
        Launch::new(kernel, [N, 1, 1], row_threads(accesses, 512), EXCHANGE)
    }

    /// nats_N (f32), largest_N (i32, or null: ids of the largest logits), logits_NS, targets_N (i32),
    /// V, S.
    pub fn forward(storage: Storage, N: u32, V: u32) -> Launch {
        launch(storage.pick("loss_forward_f32", "loss_forward_bf16"), storage, N, V)
    }

    /// nats_N, largest_N, logits_NS (replaced by their gradient times `scale` and the row's weight),
    /// targets_N, weights_N (f32, or null: 1 each), scale, V, S.
    pub fn forward_backward(storage: Storage, N: u32, V: u32) -> Launch {
        let kernel = storage.pick("loss_forward_backward_f32", "loss_forward_backward_bf16");
        launch(kernel, storage, N, V)
    }

    /// sum (one f64, added to), nats_N, weights_N (or null), N. Rows of weight 0 add nothing.
    pub fn sum() -> Launch {
        Launch::new("loss_sum", [1, 1, 1], 1024, EXCHANGE)
    }
}

/// Sums.
pub mod norm {
    use super::*;

    /// part_P (f64, written), x (f32), len (u64); P is the number of blocks.
    pub fn squares(len: u64) -> Launch {
        let blocks = len.div_ceil(tiles::norm::SPAN as u64) as u32;
        Launch::new("norm_squares", [blocks, 1, 1], 256, EXCHANGE)
    }

    /// sum (one f64, written), x (f64), len: after [`squares`].
    pub fn sum() -> Launch {
        Launch::new("sum_f64", [1, 1, 1], 1024, EXCHANGE)
    }
}

/// AdamW.
pub mod adamw {
    use super::*;

    /// w, copy (only for [`Storage::Bf16`]), m, v, g, sum (one f64: of the squares of all gradients, by
    /// [`norm`]), ends (u64), decays, slots (their number), lr, beta1, beta2, eps, max_norm, lr / (1 -
    /// beta1^t), 1 / sqrt(1 - beta2^t). Slot k ends at `ends[k]`, the last at `len`.
    ///
    /// Gradients are multiplied by min(1, max_norm / (sqrt(sum) + 1e-6)); max_norm may be infinite. If
    /// sum is not finite the kernel writes nothing.
    pub fn step(copy: Storage, len: u64) -> Launch {
        let blocks = len.div_ceil(tiles::adamw::SPAN as u64).try_into();
        let blocks = blocks.expect("adamw: more than 2^32 blocks");
        Launch::new(copy.pick("adamw_f32", "adamw_bf16"), [blocks, 1, 1], 256, 0)
    }
}

/// Matrix products: C (M x N) of A (M x K) and B (K x N).
pub mod gemm {
    use super::*;
    use crate::tiles::gemm::{BK, F32_DEPTH, F32_TILE, STAGES, WARP_TILE};

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
            let two = target.shared_bytes >= 2 * stages(128) + 1024;
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

    /// Bytes of a block's stages.
    const fn stages(BN: u32) -> u32 {
        STAGES * (128 + BN) * BK * 2
    }

    /// The cut of a product of brain floats that promises to take least time: one of few tiles and a
    /// deep K is divided into parts, so that no multiprocessor idles.
    pub fn cut(target: Target, M: u32, N: u32, K: u32) -> Cut {
        const LEAST_DEPTH: u32 = 1024;
        let widest = if stages(256) <= target.shared_bytes { 256 } else { 128 };
        let most = (K / LEAST_DEPTH).clamp(1, 2 * target.multiprocessors);
        let cuts = (1..=most).flat_map(|parts| [widest, 128].map(|BN| Cut::new(BN, K, parts)));
        let cost = |cut: &Cut| cut.cost(target, M, N);
        cuts.min_by(|a, b| cost(a).total_cmp(&cost(b))).expect("one part is a cut")
    }

    /// `kernels` are those of the wide tile, of the other, and for rows that do not start at
    /// multiples of 16 bytes.
    fn grid(kernels: [&'static str; 3], cut: Cut, M: u32, N: u32, lds: [u32; 2]) -> Launch {
        let (kernel, BN) = if !lds.iter().all(|ld| ld.is_multiple_of(8)) {
            (kernels[2], 128)
        } else if cut.BN == 256 {
            (kernels[0], 256)
        } else {
            (kernels[1], 128)
        };
        let threads = 128 / WARP_TILE * BN / WARP_TILE * 32;
        let tiles = Cut { BN, ..cut }.tiles(M, N);
        Launch::new(kernel, [tiles, 1, cut.parts], threads, stages(BN))
    }

    /// Brain floats, C rounded: c, r (laid out like c, added before rounding, or null), a, b, M, N, K,
    /// lda, ldb, ldc.
    ///
    /// # Panics
    /// For [`Layout::Tn`], whose sums are gradients of weights and stay f32: see [`wide`]. If `cut` has
    /// parts: those are [`wide`], and [`round_parts`] follows.
    pub fn rounded(cut: Cut, layout: Layout, M: u32, N: u32, lda: u32, ldb: u32) -> Launch {
        assert_eq!(cut.parts, 1, "gemm: parts are summed before they are rounded");
        let kernels = match layout {
            Layout::Nt => ["gemm_nt_bf16_128x256", "gemm_nt_bf16_128x128", "gemm_nt_bf16_any"],
            Layout::Nn => ["gemm_nn_bf16_128x256", "gemm_nn_bf16_128x128", "gemm_nn_bf16_any"],
            Layout::Tn => panic!("gemm: gradients of weights are f32"),
        };
        grid(kernels, cut, M, N, [lda, ldb])
    }

    /// Brain floats, C in f32: c, a, b, M, N, K, lda, ldb, ldc, depth, add (1: c += AB, 0: c = AB).
    /// If `cut` has parts, c is room for as many products, rows of N, `add` is 0, and [`add_parts`]
    /// or [`round_parts`] follows.
    pub fn wide(cut: Cut, layout: Layout, M: u32, N: u32, lda: u32, ldb: u32) -> Launch {
        let kernels = match layout {
            Layout::Nt => {
                ["gemm_nt_bf16_f32_128x256", "gemm_nt_bf16_f32_128x128", "gemm_nt_bf16_f32_any"]
            }
            Layout::Nn => {
                ["gemm_nn_bf16_f32_128x256", "gemm_nn_bf16_f32_128x128", "gemm_nn_bf16_f32_any"]
            }
            Layout::Tn => {
                ["gemm_tn_bf16_f32_128x256", "gemm_tn_bf16_f32_128x128", "gemm_tn_bf16_f32_any"]
            }
        };
        grid(kernels, cut, M, N, [lda, ldb])
    }

    /// acc (f32), parts, len (u64), count: acc += parts, in ascending order.
    pub fn add_parts(len: u64) -> Launch {
        Launch::flat("gemm_add_parts", len.div_ceil(4))
    }

    /// c (brain floats), r (laid out like c, or null), parts, M, N, ldc, count: c = parts, in ascending
    /// order, + r, rounded.
    pub fn round_parts(M: u32, N: u32) -> Launch {
        Launch::flat("gemm_round_parts", u64::from(M) * u64::from(N.div_ceil(4)))
    }

    /// f32: c, r (or null), a, b, M, N, K, a_row, a_col, b_row, b_col, ldc, add. Element (i, k) of A is
    /// a[i * a_row + k * a_col]; B alike.
    pub fn f32(M: u32, N: u32) -> Launch {
        let shared_bytes = 2 * F32_DEPTH * (F32_TILE + 1) * 4;
        let blocks = [M.div_ceil(F32_TILE), N.div_ceil(F32_TILE), 1];
        Launch::new("gemm_f32", blocks, 256, shared_bytes)
    }
}

/// Products of at most [`skinny::ROWS`] rows with a weight: y (M x N) of x (M x K) and W, N rows of K.
/// Brain floats. Neither the strips that a block takes nor M nor the device changes a row's bits.
pub mod skinny {
    use super::*;
    pub use crate::tiles::skinny::ROWS;
    use crate::tiles::skinny::{STRIP, THREADS, bytes};

    /// Whether these kernels take M rows of x, K deep: rows of x and W must be whole multiples of 16
    /// bytes. Others go to [`gemm`].
    pub fn takes(M: u32, K: u32, ldx: u32, ldw: u32) -> bool {
        M <= ROWS && [K, ldx, ldw].iter().all(|len| len.is_multiple_of(8))
    }

    /// The most strips a block with which every multiprocessor still has one.
    fn grid(target: Target, kernels: [&'static str; 3], M: u32, N: u32) -> Launch {
        let blocks = |strips: u32| N.div_ceil(STRIP * strips);
        let fills = |strips: &u32| blocks(*strips) >= target.multiprocessors;
        let strips = [4, 2].into_iter().find(fills).unwrap_or(1);
        let kernel = kernels[strips.ilog2() as usize];
        Launch::new(kernel, [blocks(strips), 1, 1], THREADS, bytes(strips, M))
    }

    /// y rounded: y, r (added before rounding, or null), x, w, M, N, K, ldx, ldw, ldy.
    pub fn rounded(target: Target, M: u32, N: u32) -> Launch {
        grid(target, ["skinny_bf16_8", "skinny_bf16_16", "skinny_bf16_32"], M, N)
    }

    /// y in f32: y, x, w, M, N, K, ldx, ldw, ldy.
    pub fn wide(target: Target, M: u32, N: u32) -> Launch {
        grid(target, ["skinny_bf16_f32_8", "skinny_bf16_f32_16", "skinny_bf16_f32_32"], M, N)
    }
}

/// Causal attention of sequences, H query heads that share G key/value heads of D. `scale` is
/// 1/sqrt(D).
pub mod attention {
    use super::*;
    use crate::tiles::attention::{D64, D128, D128_SMALL, D256, D256_SMALL, DECODE_WARPS, Tiles};

    /// Widest head.
    pub const MAX_D: u32 = 256;

    /// Warps of a block in f32.
    const F32_WARPS: u32 = 4;

    /// How the rows of a batch are divided.
    #[derive(Clone, Copy, Debug)]
    pub enum Sequences<'a> {
        /// B sequences of T tokens.
        Equal {
            /// Sequences.
            B: u32,
            /// Tokens of each.
            T: u32,
        },
        /// The first row and the rows of each.
        Listed(&'a [[u32; 2]]),
    }

    /// A launch, and the numbers that its kernel takes from memory: three for each item, of which
    /// there are none for sequences of equal length. The kernel's pointer to them is then null;
    /// otherwise its T has no meaning.
    #[derive(Clone, Debug)]
    pub struct Work {
        /// The launch.
        pub launch: Launch,
        /// First row of a sequence, its rows, and the first of them that a tile takes; the tiles with
        /// the most work come first.
        pub items: Vec<u32>,
    }

    /// Work in tiles of `rows` tokens of a sequence, for `heads` of each. `work` grows with the work
    /// of a tile, given its sequence's length and its first token.
    fn tiled(
        kernel: &'static str,
        sequences: Sequences,
        [heads, rows, parts]: [u32; 3],
        threads: u32,
        shared_bytes: u32,
        work: fn(u32, u32) -> u32,
    ) -> Work {
        let (blocks, items) = match sequences {
            Sequences::Equal { B, T } => ([B * heads, T.div_ceil(rows), parts], Vec::new()),
            Sequences::Listed(list) => {
                let tiles = items(list, rows, work);
                ([heads, tiles.len() as u32, parts], tiles.concat())
            }
        };
        Work { launch: Launch::new(kernel, blocks, threads, shared_bytes), items }
    }

    fn items(list: &[[u32; 2]], rows: u32, work: fn(u32, u32) -> u32) -> Vec<[u32; 3]> {
        let tiles = list.iter().flat_map(|&[row, len]| {
            (0..len).step_by(rows as usize).map(move |first| [row, len, first])
        });
        let mut tiles: Vec<[u32; 3]> = tiles.collect();
        tiles.sort_by_key(|&[_, len, first]| std::cmp::Reverse(work(len, first)));
        tiles
    }

    /// The same in f32, where a warp takes a row of one of `heads`.
    fn by_rows(
        kernel: &'static str,
        sequences: Sequences,
        heads: u32,
        work: fn(u32, u32) -> u32,
    ) -> Work {
        let (N, items) = match sequences {
            Sequences::Equal { B, T } => (B * T, Vec::new()),
            Sequences::Listed(list) => {
                let rows = items(list, 1, work);
                (rows.len() as u32, rows.concat())
            }
        };
        let blocks = [(N * heads).div_ceil(F32_WARPS), 1, 1];
        Work { launch: Launch::new(kernel, blocks, F32_WARPS * 32, 0), items }
    }

    /// Work of queries, which grows with the keys before them; and of keys, with the queries behind.
    const KEYS_BEFORE: fn(u32, u32) -> u32 = |_, first| first;
    const QUERIES_BEHIND: fn(u32, u32) -> u32 = |len, first| len - first;

    /// Tiles and the kernel that has them: the first of a head's choices whose `bytes` of shared
    /// memory a block can have on the target.
    fn pick(
        target: Target,
        D: u32,
        bytes: fn(&Tiles) -> u32,
        choices: fn(u32) -> &'static [(Tiles, &'static str)],
    ) -> (Tiles, &'static str) {
        check_width(D);
        let choices = choices(D);
        let fits = |(tiles, _): &&(Tiles, _)| bytes(tiles) <= target.shared_bytes;
        *choices.iter().find(fits).unwrap_or(&choices[choices.len() - 1])
    }

    fn check_width(D: u32) {
        assert!(D > 0 && D <= MAX_D, "attention: heads of {D}, of {MAX_D} at most");
    }

    /// o_NHD, lse_NH (f32), qkv, items, T, H, G, D, scale; in f32 N stands before T.
    ///
    /// # Panics
    /// If D is beyond [`MAX_D`]: a caller bug.
    pub fn forward(target: Target, storage: Storage, sequences: Sequences, H: u32, D: u32) -> Work {
        if storage == Storage::F32 {
            return by_rows("attention_forward_f32", sequences, H, KEYS_BEFORE);
        }
        let (tiles, kernel) = pick(target, D, Tiles::forward_bytes, |D| match D {
            64 => &[(D64, "attention_forward_bf16_64")],
            ..64 => &[(D64, "attention_forward_bf16_any64")],
            128 => &[(D128, "attention_forward_bf16_128")],
            _ => &[(D256, "attention_forward_bf16_any256")],
        });
        let (grid, bytes) = ([H, tiles.rows(), 1], tiles.forward_bytes());
        tiled(kernel, sequences, grid, 128, bytes, KEYS_BEFORE)
    }

    /// Of N new tokens, the first at position `past`, over a cache of rows of G keys and G values:
    /// o_NHD, q_NS, kv, items, N, past, S, H, G, D, scale. With items `past` has no meaning, and each
    /// token may be another sequence's: the row of the cache where that begins, and how many it sees.
    ///
    /// # Panics
    /// As [`forward`].
    pub fn decode(storage: Storage, N: u32, H: u32, D: u32) -> Launch {
        check_width(D);
        let kernel = storage.pick("attention_decode_f32", "attention_decode_bf16");
        Launch::new(kernel, [N * H, 1, 1], DECODE_WARPS * 32, DECODE_WARPS * (D + 2) * 4)
    }

    /// Before [`decode`] with items: kv, qkv_NS, items, N, S, width: the last `width` = 2 * G * D
    /// elements of each token's row join the cache.
    pub fn keep(storage: Storage, N: u32, S: u32, width: u32) -> Launch {
        let kernel = storage.pick("attention_keep_f32", "attention_keep_bf16");
        let lanes = storage.lanes(width).min(storage.lanes(S));
        Launch::flat(kernel, u64::from(N) * u64::from(width / lanes))
    }

    /// delta_NH (f32), do_NHD, o_NHD, N * H, D: before the backward kernels.
    pub fn delta(storage: Storage, rows: u32) -> Launch {
        let kernel = storage.pick("attention_delta_f32", "attention_delta_bf16");
        Launch::flat(kernel, 8 * u64::from(rows))
    }

    /// dQ: dqkv, do_NHD, qkv, lse_NH, delta_NH, items, T, H, G, D, scale; in f32 N stands before T.
    ///
    /// # Panics
    /// As [`forward`].
    pub fn backward_queries(
        target: Target,
        storage: Storage,
        sequences: Sequences,
        H: u32,
        D: u32,
    ) -> Work {
        if storage == Storage::F32 {
            return by_rows("attention_backward_queries_f32", sequences, H, KEYS_BEFORE);
        }
        let (tiles, kernel) = pick(target, D, Tiles::queries_bytes, |D| match D {
            64 => &[(D64, "attention_backward_queries_bf16_64")],
            ..64 => &[(D64, "attention_backward_queries_bf16_any64")],
            128 => &[(D128, "attention_backward_queries_bf16_128")],
            _ => &[
                (D256, "attention_backward_queries_bf16_any256"),
                (D256_SMALL, "attention_backward_queries_bf16_any256_small"),
            ],
        });
        let (grid, bytes) = ([H, tiles.rows(), 1], tiles.queries_bytes());
        tiled(kernel, sequences, grid, 128, bytes, KEYS_BEFORE)
    }

    /// dK and dV: arguments as [`backward_queries`].
    ///
    /// # Panics
    /// As [`forward`].
    pub fn backward_keys(
        target: Target,
        storage: Storage,
        sequences: Sequences,
        G: u32,
        D: u32,
    ) -> Work {
        if storage == Storage::F32 {
            return by_rows("attention_backward_keys_f32", sequences, G, QUERIES_BEHIND);
        }
        let (tiles, kernel) = pick(target, D, Tiles::keys_bytes, |D| match D {
            64 => &[(D64, "attention_backward_keys_bf16_64")],
            ..64 => &[(D64, "attention_backward_keys_bf16_any64")],
            128 => &[
                (D128, "attention_backward_keys_bf16_128"),
                (D128_SMALL, "attention_backward_keys_bf16_128_small"),
            ],
            _ => &[
                (D256, "attention_backward_keys_bf16_any256"),
                (D256_SMALL, "attention_backward_keys_bf16_any256_small"),
            ],
        });
        // Beyond a width of 128 dK and dV are a block each.
        let parts = if tiles.width <= 128 { 1 } else { 2 };
        let (grid, bytes) = ([G, 16 * tiles.warps, parts], tiles.keys_bytes());
        tiled(kernel, sequences, grid, 32 * tiles.warps, bytes, QUERIES_BEHIND)
    }
}
