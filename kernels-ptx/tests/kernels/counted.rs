//! Every kernel run once for what it costs, beside the least that it must cost: for the bench
//! `counts`, and for the test that holds kernels to it.

use crate::check::{Bf16, Device, F32, Gen, Stored, int};
use kernels_ptx::attention::decode::{Decode, Keep};
use kernels_ptx::attention::flash::{self, D64, D128, D128_SMALL, D256, D256_SMALL, Tiles};
use kernels_ptx::attention::{Delta, plain};
use kernels_ptx::launch::{Kernel, Launch, Storage, Target};
use kernels_ptx::linear::gemm::{self, BK, Layout};
use kernels_ptx::linear::skinny;
use kernels_ptx::{adamw, bias, embedding, loss, math, norm, rmsnorm, rope, scale, swiglu};
use ptx_emu::{Class, Counts};
use std::ptr::{null, null_mut};

/// What must not be exceeded.
#[derive(Debug)]
pub enum Least {
    /// Bytes of every input read once and every output written once.
    Bytes(usize),
    /// Floating-point operations of matrix instructions: those of the formula, and those of the
    /// tiles that cover it.
    Products { formula: u64, tiles: u64 },
    /// A kernel for parity tests in f32, which multiplies without tensor cores.
    Parity,
}

/// One launch.
pub struct Row {
    pub kernel: &'static str,
    pub shape: String,
    pub least: Least,
    pub counts: Counts,
}

/// Bytes moved, as a share of the least.
pub const MOST_BYTES: f64 = 1.05;

impl Row {
    /// The marks: bytes; for products no bank met twice, and only tiles that hold something.
    pub fn good(&self) -> bool {
        let c = &self.counts;
        let enough = match self.least {
            Least::Bytes(least) => c.sector_bytes() as f64 <= MOST_BYTES * least as f64,
            Least::Products { formula, tiles } => {
                c.total.conflicts == 0 && (formula..=tiles).contains(&c.total.matrix_flop)
            }
            Least::Parity => true,
        };
        enough && c.class(Class::Local) == 0
    }
}

/// Shapes to run.
pub struct Sizes {
    /// Rows and columns of what passes over memory, both whole multiples of 32.
    pub rows: usize,
    pub width: usize,
    /// Rows of RMSNorm, and blocks that share them: the launch's own number where it is 0. A block
    /// reads the gain once, which is a small share of many rows alone.
    pub norm_rows: usize,
    pub norm_blocks: u32,
    /// Logits of a row.
    pub vocabulary: usize,
    /// Elements of AdamW, of one parameter a `width` squared.
    pub parameters: usize,
    /// Tokens of a sequence.
    pub T: usize,
    /// M, N and K of products.
    pub product: (usize, usize, usize),
    /// The same of products of a few rows; K a multiple of 64, so that pieces are whole sectors.
    pub skinny: (usize, usize, usize),
}

struct Runs<'a> {
    d: &'a mut Device,
    rows: Vec<Row>,
    s: &'a Sizes,
    /// One seed: what is counted depends on no value but those that the loss looks for.
    g: Gen,
}

/// All kernels on one device.
pub fn all(d: &mut Device, s: &Sizes) -> Vec<Row> {
    let mut runs = Runs { d, rows: vec![], s, g: Gen::new(0) };
    for storage in [F32, Bf16] {
        runs.rmsnorm(storage);
        runs.bias(storage);
        runs.swiglu(storage);
        runs.scale(storage);
        runs.rope(storage);
        runs.embedding(storage);
        runs.loss(storage);
        runs.adamw(storage);
        runs.delta(storage);
        runs.attention_decode(storage);
        runs.attention_keep(storage);
    }
    runs.sums();
    runs.products();
    runs.product_f32();
    runs.skinny();
    // Where a block has less shared memory, wide heads have other tiles.
    for (D, capability) in [(64, 90), (128, 90), (48, 90), (192, 90), (128, 86), (192, 86)] {
        runs.attention(D, Target::of(capability));
    }
    runs.attention_f32();
    runs.rows
}

/// Tiles of rows x cols that hold at least one pair of a query and a key it sees: what one product
/// over them costs at width W.
pub fn causal_flop(T: u32, rows: u32, cols: u32, queries_are_rows: bool, W: u32) -> u64 {
    let tiles = |r: u32| {
        (0..T.div_ceil(cols)).filter(move |c| {
            if queries_are_rows { c * cols < r + rows } else { c * cols + cols > r }
        })
    };
    let count: usize = (0..T.div_ceil(rows)).map(|r| tiles(r * rows).count()).sum();
    2 * count as u64 * u64::from(rows * cols * W)
}

impl Runs<'_> {
    fn run(&mut self, kernel: &impl Kernel, shape: &str, least: Least) {
        self.run_for(Target::of(self.d.capability()), kernel, shape, least);
    }

    fn run_for(&mut self, target: Target, kernel: &impl Kernel, shape: &str, least: Least) {
        self.run_as(kernel.launch(target), kernel, shape, least);
    }

    fn run_as(&mut self, launch: Launch, kernel: &impl Kernel, shape: &str, least: Least) {
        self.d.run_as(launch, kernel);
        let (counts, shape) = (self.d.counts.clone(), shape.to_string());
        self.rows.push(Row { kernel: launch.kernel, shape, least, counts });
    }

    fn numbers(&mut self, storage: Storage, len: usize) -> *mut Stored {
        let x = self.g.normals(storage, len, 1.0);
        self.d.put(storage, &x)
    }

    fn floats(&mut self, len: usize) -> *mut f32 {
        self.numbers(F32, len).cast()
    }

    fn brain_floats(&mut self, len: usize) -> *mut math::Bf16 {
        self.numbers(Bf16, len).cast()
    }

    fn rmsnorm(&mut self, storage: Storage) {
        let (N, C, e) = (self.s.norm_rows, self.s.width, storage.bytes());
        let [y_NC, x_NC, a_NC, w_C] =
            [N * C, N * C, N * C, C].map(|len| self.numbers(storage, len));
        let (r_N, eps, shape) = (self.floats(N), 1e-5, format!("N{N} C{C}"));
        let P = match self.s.norm_blocks {
            0 => rmsnorm::parts(int(N)),
            few => few,
        };
        let (dw_part_PC, parts) = (self.d.room_f32(P as usize * C), P as usize);
        let bytes = |passes: usize| (passes * N * C + C) * e + N * 4;
        let [N, C] = [N, C].map(int);
        let kernel = rmsnorm::Forward { storage, y_NC, r_N, x_NC, w_C, N, C, eps };
        self.few(&kernel, &shape, Least::Bytes(bytes(2)));
        let x_acc_NC = x_NC;
        let kernel =
            rmsnorm::ForwardResidual { storage, y_NC, r_N, x_acc_NC, a_NC, w_C, N, C, eps };
        self.few(&kernel, &shape, Least::Bytes(bytes(4)));
        let kernel = rmsnorm::Apply { storage, y_NC, x_NC, w_C, r_N, N, C };
        self.few(&kernel, &shape, Least::Bytes(bytes(2)));
        let (dx_acc_NC, dy_NC) = (y_NC, a_NC);
        let kernel =
            rmsnorm::Backward { storage, dx_acc_NC, dw_part_PC, dy_NC, x_NC, w_C, r_N, N, C };
        let of_parts = parts * C as usize * 4;
        self.few(&kernel, &shape, Least::Bytes(bytes(4) + of_parts));
        if storage == F32 {
            let kernel = rmsnorm::BackwardGain { dw_acc_C: w_C.cast(), dw_part_PC, P, C };
            let least = Least::Bytes(of_parts + 2 * C as usize * 4);
            self.run(&kernel, &format!("P{P} C{C}"), least);
        }
    }

    /// On as many blocks as the sizes say.
    fn few(&mut self, kernel: &impl Kernel, shape: &str, least: Least) {
        let mut launch = kernel.launch(Target::of(self.d.capability()));
        if self.s.norm_blocks > 0 {
            launch.blocks = [self.s.norm_blocks, 1, 1];
        }
        self.run_as(launch, kernel, shape, least);
    }

    /// The bias counts once a row: forward reads it with each.
    fn bias(&mut self, storage: Storage) {
        let (rows, width, e) = (self.s.rows, self.s.width, storage.bytes());
        let [y_acc_NO, b_O] = [rows * width, width].map(|len| self.numbers(storage, len));
        let (db_acc_O, [N, O]) = (self.floats(width), [rows, width].map(int));
        let shape = format!("N{N} O{O}");
        let kernel = bias::Forward { storage, y_acc_NO, b_O, N, O };
        self.run(&kernel, &shape, Least::Bytes(3 * rows * width * e));
        let kernel = bias::Backward { storage, db_acc_O, dy_NO: y_acc_NO, N, O };
        self.run(&kernel, &shape, Least::Bytes(rows * width * e + 2 * width * 4));
    }

    fn swiglu(&mut self, storage: Storage) {
        let (len, e) = (self.s.rows * self.s.width, storage.bytes());
        let [a_NF, gu_N2F] = [len, 2 * len].map(|len| self.numbers(storage, len));
        let [N, F] = [self.s.rows, self.s.width].map(int);
        let shape = format!("N{N} F{F}");
        let kernel = swiglu::Forward { storage, a_NF, gu_N2F, N, F };
        self.run(&kernel, &shape, Least::Bytes(3 * len * e));
        let kernel = swiglu::Backward { storage, gu_N2F, da_NF: a_NF, N, F };
        self.run(&kernel, &shape, Least::Bytes(5 * len * e));
    }

    fn scale(&mut self, storage: Storage) {
        let len = self.s.rows * self.s.width;
        let x = self.numbers(storage, len);
        let kernel = scale::Scale { storage, x, len: int(len), factor: 0.5 };
        self.run(&kernel, &format!("{len}"), Least::Bytes(2 * len * storage.bytes()));
    }

    /// Queries and keys of twelve heads each. The table counts once a row: T is N here.
    fn rope(&mut self, storage: Storage) {
        let (S, D) = (24 * 64, 64);
        let N = (self.s.rows * self.s.width / S).max(64);
        let (x_NS, table_TD) = (self.numbers(storage, N * S), self.floats(N * D));
        let (positions_N, sign, shape) = (null(), 1.0, format!("N{N} S{S} D{D}"));
        let least = Least::Bytes(2 * N * S * storage.bytes() + N * D * 4);
        let [N, S, heads, D] = [N, S, S / D, D].map(int);
        let kernel =
            rope::Rotate { storage, x_NS, table_TD, positions_N, N, T: N, S, heads, D, sign };
        self.run(&kernel, &shape, least);
    }

    fn embedding(&mut self, storage: Storage) {
        let (N, C, V) = (self.s.rows, self.s.width, 16);
        let tokens: Vec<u32> = (0..N).map(|_| self.g.below(V) as u32).collect();
        let order = embedding::order(&tokens);
        let (w_VC, x_NC) = (self.numbers(storage, V * C), self.d.room(storage, N * C));
        let (tokens_N, shape) = (self.d.put_u32(&tokens), format!("N{N} V{V} C{C}"));
        let kernel = embedding::Forward { storage, x_NC, tokens_N, w_VC, N: int(N), C: int(C) };
        // Every row reads a row of the table: a real one is larger than the tokens of a step.
        self.run(&kernel, &shape, Least::Bytes(2 * N * C * storage.bytes() + N * 4));
        let (dw_acc_VC, dx_NC, groups) = (self.floats(V * C), x_NC, order.tokens.len());
        let [rows_N, starts, tokens] =
            [&order.rows_N, &order.starts, &order.tokens].map(|list| self.d.put_u32(list));
        let least = Least::Bytes(N * C * storage.bytes() + 2 * groups * C * 4 + N * 4);
        let [C, groups] = [C, groups].map(int);
        let kernel =
            embedding::Backward { storage, dw_acc_VC, dx_NC, rows_N, starts, tokens, C, groups };
        self.run(&kernel, &shape, least);
    }

    fn loss(&mut self, storage: Storage) {
        let V = self.s.vocabulary;
        let N = (self.s.rows * self.s.width / V).max(2);
        let S = loss::stride(storage, int(V));
        let logits_NS = self.numbers(storage, N * S as usize);
        let (nats_N, largest_N) = (self.d.room_f32(N), self.d.room_i32(N));
        let (targets_N, weights_N) = (self.d.put_i32(&vec![5; N]), self.floats(N));
        let (shape, scale) = (format!("N{N} V{V}"), 0.5);
        let least = N * V * storage.bytes() + N * 8;
        let more = N * V * storage.bytes() + N * 8;
        let [N, V] = [N, V].map(int);
        // Forward reads a row again for its id, from a cache.
        let none = null_mut();
        let kernel =
            loss::Forward { storage, nats_N, largest_N: none, logits_NS, targets_N, V, S, N };
        self.run(&kernel, &shape, Least::Bytes(least));
        let kernel = loss::ForwardBackward {
            storage,
            nats_N,
            largest_N,
            logits_NS,
            targets_N,
            weights_N,
            scale,
            V,
            S,
            N,
        };
        self.run(&kernel, &shape, Least::Bytes(least + more));
    }

    fn adamw(&mut self, storage: Storage) {
        let (len, one) = (self.s.parameters, self.s.width * self.s.width);
        let slots = len.div_ceil(one);
        let ends: Vec<u64> = (1..=slots).map(|k| (k * one).min(len) as u64).collect();
        let [w, m, g] = [(); 3].map(|()| self.floats(len));
        let kernel = adamw::Step {
            w,
            m,
            v: self.d.put_f32(&vec![0.5; len]),
            g,
            sum: self.d.put_f64(&[4.0]),
            ends: self.d.put_u64(&ends),
            decays: self.d.put_f32(&vec![0.1; slots]),
            slots: int(slots),
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            max_norm: 1.0,
            rate: 1e-3,
            root: 1.0,
            len: len as u64,
        };
        let (least, shape) = (len * 28 + slots * 12 + 8, format!("{len}, {slots} slots"));
        if storage == F32 {
            return self.run(&kernel, &shape, Least::Bytes(least));
        }
        let copy = self.d.room_bf16(len);
        self.run(&kernel.and_copy(copy), &shape, Least::Bytes(least + 2 * len));
    }

    fn delta(&mut self, storage: Storage) {
        let (rows, D) = (self.s.rows, 64);
        let [do_NHD, o_NHD] = [(); 2].map(|()| self.numbers(storage, rows * D));
        let delta_NH = self.d.room_f32(rows);
        let least = Least::Bytes(2 * rows * D * storage.bytes() + rows * 4);
        let [rows, D] = [rows, D].map(int);
        let kernel = Delta { storage, delta_NH, do_NHD, o_NHD, rows, D };
        self.run(&kernel, &format!("{rows} rows D{D}"), least);
    }

    fn sums(&mut self) {
        let len = self.s.parameters;
        let (x, P) = (self.floats(len), norm::parts(len as u64));
        let part_P = self.d.room_f64(P as usize);
        let kernel = norm::Squares { part_P, x, len: len as u64 };
        self.run(&kernel, &format!("{len}"), Least::Bytes(len * 4 + P as usize * 8));
        let terms: Vec<f64> = (0..4096).map(f64::from).collect();
        let (terms, sum) = (self.d.put_f64(&terms), self.d.room_f64(1));
        let kernel = norm::Sum { sum, x: terms, len: 4096 };
        self.run(&kernel, "4096", Least::Bytes(4096 * 8 + 8));
        let [nats_N, weights_N] = [(); 2].map(|()| self.floats(4096));
        let kernel = loss::Sum { sum, nats_N, weights_N, N: 4096 };
        self.run(&kernel, "4096", Least::Bytes(4096 * 8 + 16));
        let (count, len) = (3, len / 4);
        let parts = self.floats(count * len);
        let shape = format!("{len}, {count} parts");
        let least = Least::Bytes((count + 2) * len * 4);
        let kernel = gemm::AddParts { acc: x, parts, len: len as u64, count: int(count) };
        self.run(&kernel, &shape, least);
        let (M, N) = (len / 64, 64);
        let [c, r] = [(); 2].map(|()| self.brain_floats(M * N));
        let shape = format!("M{M} N{N}, {count} parts");
        let least = Least::Bytes(count * M * N * 4 + 2 * M * N * 2);
        let [M, N, count] = [M, N, count].map(int);
        self.run(&gemm::RoundParts { c, r, parts, M, N, ldc: N, count }, &shape, least);
    }

    fn products(&mut self) {
        let rounded = [
            (Layout::Nt, "gemm_nt_bf16_128x256", 256),
            (Layout::Nt, "gemm_nt_bf16_128x128", 128),
            (Layout::Nt, "gemm_nt_bf16_any", 128),
            (Layout::Nn, "gemm_nn_bf16_128x256", 256),
            (Layout::Nn, "gemm_nn_bf16_128x128", 128),
            (Layout::Nn, "gemm_nn_bf16_any", 128),
        ];
        let wide = [
            (Layout::Nt, "gemm_nt_bf16_f32_128x256", 256),
            (Layout::Nt, "gemm_nt_bf16_f32_128x128", 128),
            (Layout::Nt, "gemm_nt_bf16_f32_any", 128),
            (Layout::Nn, "gemm_nn_bf16_f32_128x256", 256),
            (Layout::Nn, "gemm_nn_bf16_f32_128x128", 128),
            (Layout::Nn, "gemm_nn_bf16_f32_any", 128),
            (Layout::Tn, "gemm_tn_bf16_f32_128x256", 256),
            (Layout::Tn, "gemm_tn_bf16_f32_128x128", 128),
            (Layout::Tn, "gemm_tn_bf16_f32_any", 128),
        ];
        let both = rounded.into_iter().map(|of| (of, false)).chain(wide.map(|of| (of, true)));
        for ((layout, kernel, BN), wide) in both {
            self.product(layout, kernel, BN, wide);
        }
    }

    fn product(&mut self, layout: Layout, kernel: &'static str, BN: u32, wide: bool) {
        let (M, N, K) = self.s.product;
        // Rows of an odd number of elements are what the kernels for any rows are for.
        let pitch =
            |cols: usize| if kernel.ends_with("any") { cols | 1 } else { cols.next_multiple_of(8) };
        let lda = pitch(if layout == Layout::Tn { M } else { K });
        let ldb = pitch(if layout == Layout::Nt { K } else { N });
        let a = self.brain_floats(lda * if layout == Layout::Tn { K } else { M });
        let b = self.brain_floats(ldb * if layout == Layout::Nt { N } else { K });
        let tiles = |len: usize, tile: u32| int(len).div_ceil(tile);
        let launch = Launch {
            kernel,
            blocks: [tiles(M, 128) * tiles(N, BN), 1, 1],
            threads: BN,
            shared_bytes: gemm::stages_bytes(BN),
        };
        let covered = u64::from(launch.blocks[0] * 128 * BN) * u64::from(tiles(K, BK) * BK);
        let least = Least::Products { formula: 2 * (M * N * K) as u64, tiles: 2 * covered };
        let (shape, len) = (format!("M{M} N{N} K{K}"), M * N);
        let [M, N, K, lda, ldb] = [M, N, K, lda, ldb].map(int);
        let (ldc, cut) = (N, gemm::cut(Target::of(90), 1, 1, K));
        if wide {
            let (c, depth, add) = (self.d.room_f32(len), cut.depth, 0);
            let kernel = gemm::Wide { c, a, b, M, N, K, lda, ldb, ldc, depth, add, layout, cut };
            self.run_as(launch, &kernel, &shape, least);
        } else {
            let (c, r) = (self.d.room_bf16(len), null());
            let kernel = gemm::Rounded { c, r, a, b, M, N, K, lda, ldb, ldc, layout, cut };
            self.run_as(launch, &kernel, &shape, least);
        }
    }

    fn product_f32(&mut self) {
        let (M, N, K) = self.s.product;
        let [c, a, b] = [M * N, M * K, K * N].map(|len| self.floats(len));
        let shape = format!("M{M} N{N} K{K}");
        let [M, N, K] = [M, N, K].map(int);
        let kernel = gemm::F32 {
            c,
            r: null(),
            a,
            b,
            M,
            N,
            K,
            a_row: K,
            a_col: 1,
            b_row: 1,
            b_col: K,
            ldc: N,
            add: 0,
        };
        self.run(&kernel, &shape, Least::Parity);
    }

    /// Every block reads x once beside its share of W.
    fn skinny(&mut self) {
        let (M, N, K) = self.s.skinny;
        let [x, w] = [M, N].map(|rows| self.brain_floats(rows * K));
        let (y, y_wide) = (self.d.room_bf16(M * N), self.d.room_f32(M * N));
        let shape = format!("M{M} N{N} K{K}");
        let least = |launch: Launch, bytes: usize| {
            let rows = N + launch.blocks[0] as usize * M;
            Least::Bytes(rows * K * 2 + M * N * bytes)
        };
        let [m, n, k] = [M, N, K].map(int);
        let (ldx, ldw, ldy) = (k, k, n);
        // So few multiprocessors that blocks of four strips fill them, then of two, then of one.
        for multiprocessors in [1, n / 32 + 2, n / 16 + 2] {
            let target = Target { multiprocessors, ..Target::of(90) };
            let kernel = skinny::Rounded { y, r: null(), x, w, M: m, N: n, K: k, ldx, ldw, ldy };
            let bytes = least(kernel.launch(target), 2);
            self.run_for(target, &kernel, &shape, bytes);
            let kernel = skinny::Wide { y: y_wide, x, w, M: m, N: n, K: k, ldx, ldw, ldy };
            let bytes = least(kernel.launch(target), 4);
            self.run_for(target, &kernel, &shape, bytes);
        }
    }

    fn attention(&mut self, D: usize, target: Target) {
        let (T, H, G) = (self.s.T, 2, 1);
        let small = target.shared_bytes < 100 << 10;
        let [qkv, do_NHD, dqkv, o_NHD] =
            [4 * D, 2 * D, 4 * D, 2 * D].map(|w| self.brain_floats(T * w));
        let [lse_NH, delta_NH] = [(); 2].map(|()| self.floats(T * H));
        let tiles = match D {
            ..=64 => D64,
            128 if small => D128_SMALL,
            128 => D128,
            _ if small => D256_SMALL,
            _ => D256,
        };
        let Tiles { width, groups, forward_keys, backward_keys, queries, .. } = tiles;
        let pairs = (T * (T + 1) / 2 * H * D) as u64;
        let least = |products: u64, rows: u32, cols: u32, queries_are_rows: bool| {
            let one = causal_flop(T as u32, rows, cols, queries_are_rows, width);
            Least::Products { formula: 2 * products * pairs, tiles: products * H as u64 * one }
        };
        let shape = format!("T{T} H{H} G{G} D{D}");
        let least_forward = least(2, 16 * groups, forward_keys, true);
        let least_queries = least(3, 16 * groups, backward_keys, true);
        // Beyond a width of 128 one block makes dV, of P, and another dK, of P again and dP.
        let least_keys = least(if width <= 128 { 4 } else { 5 }, 16, queries, false);
        let (items, count, scale) = (null(), 1, 1.0 / (D as f32).sqrt());
        let [T, H, G, D] = [T, H, G, D].map(int);
        let kernel = flash::Forward { o_NHD, lse_NH, qkv, items, T, H, G, D, scale, count };
        self.run_for(target, &kernel, &shape, least_forward);
        let kernel = flash::BackwardQueries {
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
        self.run_for(target, &kernel, &shape, least_queries);
        let kernel = flash::BackwardKeys {
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
        self.run_for(target, &kernel, &shape, least_keys);
    }

    fn attention_f32(&mut self) {
        let (T, H, G, D) = (self.s.T.min(128), 2, 1, 64);
        let [qkv, do_NHD, dqkv, o_NHD] = [4 * D, 2 * D, 4 * D, 2 * D].map(|w| self.floats(T * w));
        let [lse_NH, delta_NH] = [(); 2].map(|()| self.floats(T * H));
        let (items, scale, shape) = (null(), 0.125, format!("T{T} H{H} G{G} D{D}"));
        let [N, T, H, G, D] = [T, T, H, G, D].map(int);
        let kernel = plain::Forward { o_NHD, lse_NH, qkv, items, N, T, H, G, D, scale };
        self.run(&kernel, &shape, Least::Parity);
        let kernel = plain::BackwardQueries {
            dqkv,
            do_NHD,
            qkv,
            lse_NH,
            delta_NH,
            items,
            N,
            T,
            H,
            G,
            D,
            scale,
        };
        self.run(&kernel, &shape, Least::Parity);
        let kernel = plain::BackwardKeys {
            dqkv,
            do_NHD,
            qkv,
            lse_NH,
            delta_NH,
            items,
            N,
            T,
            H,
            G,
            D,
            scale,
        };
        self.run(&kernel, &shape, Least::Parity);
    }

    /// One token, each head with keys and values of its own. Every warp reads the query.
    fn attention_decode(&mut self, storage: Storage) {
        let (T, H, D) = (self.s.T, 2, 64);
        let [q_NS, kv, o_NHD] =
            [3 * H * D, T * 2 * H * D, H * D].map(|len| self.numbers(storage, len));
        let least = Least::Bytes((T + 1) * 2 * H * D * storage.bytes());
        let (items, scale, shape) = (null(), 0.125, format!("T{T} H{H} G{H} D{D}"));
        let [N, past, S, H, G, D] = [1, T - 1, 3 * H * D, H, H, D].map(int);
        let kernel = Decode { storage, o_NHD, q_NS, kv, items, N, past, S, H, G, D, scale };
        self.run(&kernel, &shape, least);
    }

    /// One new token of each of `rows` sequences.
    fn attention_keep(&mut self, storage: Storage) {
        let (N, H, D) = (self.s.rows, 4, 64);
        let (S, width) = (3 * H * D, 2 * H * D);
        let [kv, qkv_NS] = [N * width, N * S].map(|len| self.numbers(storage, len));
        let items: Vec<u32> = (0..N as u32).flat_map(|n| [n, 1]).collect();
        let items = self.d.put_u32(&items);
        let (least, shape) = (N * (2 * width * storage.bytes() + 8), format!("N{N} G{H} D{D}"));
        let [N, S, width] = [N, S, width].map(int);
        let kernel = Keep { storage, kv, qkv_NS, items, N, S, width };
        self.run(&kernel, &shape, Least::Bytes(least));
    }
}
