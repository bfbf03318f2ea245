//! Every kernel run once for what it costs, beside the least that it must cost: for the bench
//! `counts`, and for the test that holds kernels to it.

use crate::check::{Bf16, Device, F32, Gen, float, int, ptr};
use kernels_ptx::launch::attention::Sequences;
use kernels_ptx::launch::gemm::{self, Layout};
use kernels_ptx::launch::{
    Launch, Storage, Target, adamw, attention, bias, embedding, loss, norm, rmsnorm, rope, scale,
    skinny, swiglu,
};
use kernels_ptx::tiles::attention::{D64, D128, D128_SMALL, D256, D256_SMALL, Tiles};
use kernels_ptx::tiles::gemm::{BK, STAGES};
use ptx_emu::{Arg, Class, Counts, DevicePtr};

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
    fn run(&mut self, launch: Launch, shape: String, least: Least, args: &[Arg]) {
        self.d.run(launch, args);
        let counts = self.d.counts.clone();
        self.rows.push(Row { kernel: launch.kernel, shape, least, counts });
    }

    fn numbers(&mut self, storage: Storage, len: usize) -> DevicePtr {
        let x = self.g.normals(storage, len, 1.0);
        self.d.put(storage, &x)
    }

    fn rmsnorm(&mut self, storage: Storage) {
        let (N, C, e) = (self.s.norm_rows, self.s.width, storage.bytes());
        let [y, x, a, w, r] = [N * C, N * C, N * C, C, N]
            .map(|len| self.numbers(if len == N { F32 } else { storage }, len));
        let sizes = [int(N), int(C), float(1e-5)];
        let shape = format!("N{N} C{C}");
        let blocks = self.s.norm_blocks;
        let few = |launch: Launch| match blocks {
            0 => launch,
            _ => Launch { blocks: [blocks, 1, 1], ..launch },
        };
        let args = [&[y, r, x, w].map(ptr)[..], &sizes].concat();
        let launch = few(rmsnorm::forward(storage, N as u32, C as u32));
        self.run(launch, shape.clone(), Least::Bytes((2 * N * C + C) * e + N * 4), &args);
        let args = [&[y, r, x, a, w].map(ptr)[..], &sizes].concat();
        let launch = few(rmsnorm::forward_residual(storage, N as u32, C as u32));
        self.run(launch, shape.clone(), Least::Bytes((4 * N * C + C) * e + N * 4), &args);
        let args = [&[y, x, w, r].map(ptr)[..], &sizes[..2]].concat();
        let launch = few(rmsnorm::apply(storage, N as u32, C as u32));
        self.run(launch, shape.clone(), Least::Bytes((2 * N * C + C) * e + N * 4), &args);
        let launch = few(rmsnorm::backward(storage, N as u32, C as u32));
        let P = launch.blocks[0] as usize;
        let part = self.d.room(F32, P * C);
        let args = [&[y, part, a, x, w, r].map(ptr)[..], &sizes[..2]].concat();
        let least = Least::Bytes((4 * N * C + C) * e + N * 4 + P * C * 4);
        self.run(launch, shape, least, &args);
        if storage == F32 {
            let args = [ptr(w), ptr(part), int(P), int(C)];
            let least = Least::Bytes((P + 2) * C * 4);
            self.run(rmsnorm::backward_gain(C as u32), format!("P{P} C{C}"), least, &args);
        }
    }

    /// The bias counts once a row: forward reads it with each.
    fn bias(&mut self, storage: Storage) {
        let (N, O, e) = (self.s.rows, self.s.width, storage.bytes());
        let [y, b] = [N * O, O].map(|len| self.numbers(storage, len));
        let db = self.numbers(F32, O);
        let (sizes, shape) = ([int(N), int(O)], format!("N{N} O{O}"));
        let args = [&[y, b].map(ptr)[..], &sizes].concat();
        let launch = bias::forward(storage, N as u32, O as u32);
        self.run(launch, shape.clone(), Least::Bytes(3 * N * O * e), &args);
        let args = [&[db, y].map(ptr)[..], &sizes].concat();
        let least = Least::Bytes(N * O * e + 2 * O * 4);
        self.run(bias::backward(storage, O as u32), shape, least, &args);
    }

    fn swiglu(&mut self, storage: Storage) {
        let (N, F, e) = (self.s.rows, self.s.width, storage.bytes());
        let [a, gu] = [N * F, 2 * N * F].map(|len| self.numbers(storage, len));
        let sizes = [int(N), int(F)];
        let shape = format!("N{N} F{F}");
        let args = [&[a, gu].map(ptr)[..], &sizes].concat();
        let launch = swiglu::forward(storage, N as u32, F as u32);
        self.run(launch, shape.clone(), Least::Bytes(3 * N * F * e), &args);
        let args = [&[gu, a].map(ptr)[..], &sizes].concat();
        let launch = swiglu::backward(storage, N as u32, F as u32);
        self.run(launch, shape, Least::Bytes(5 * N * F * e), &args);
    }

    fn scale(&mut self, storage: Storage) {
        let len = self.s.rows * self.s.width;
        let args = [ptr(self.numbers(storage, len)), int(len), float(0.5)];
        let least = Least::Bytes(2 * len * storage.bytes());
        self.run(scale::scale(storage, len as u32), format!("{len}"), least, &args);
    }

    /// Queries and keys of twelve heads each. The table counts once a row: T is N here.
    fn rope(&mut self, storage: Storage) {
        let (S, D) = (24 * 64, 64);
        let N = (self.s.rows * self.s.width / S).max(64);
        let (x, table) = (self.numbers(storage, N * S), self.numbers(F32, N * D));
        let sizes = [int(N), int(N), int(S), int(S / D), int(D), float(1.0)];
        let args = [&[ptr(x), ptr(table), ptr(0)], &sizes[..]].concat();
        let least = Least::Bytes(2 * N * S * storage.bytes() + N * D * 4);
        let launch = rope::rotate(storage, N as u32, S as u32, D as u32);
        self.run(launch, format!("N{N} S{S} D{D}"), least, &args);
    }

    fn embedding(&mut self, storage: Storage) {
        let (N, C, V) = (self.s.rows, self.s.width, 16);
        let tokens: Vec<u32> = (0..N).map(|_| self.g.below(V) as u32).collect();
        let order = embedding::order(&tokens);
        let (w, x) = (self.numbers(storage, V * C), self.d.room(storage, N * C));
        let rows = self.d.put_u32(&tokens);
        let args = [&[x, rows, w].map(ptr)[..], &[int(N), int(C)]].concat();
        let launch = embedding::forward(storage, N as u32, C as u32);
        let shape = format!("N{N} V{V} C{C}");
        // Every row reads a row of the table: a real one is larger than the tokens of a step.
        let least = Least::Bytes(2 * N * C * storage.bytes() + N * 4);
        self.run(launch, shape.clone(), least, &args);
        let dw = self.numbers(F32, V * C);
        let index = [&order.rows_N, &order.starts, &order.tokens].map(|v| self.d.put_u32(v));
        let args = [&[dw, x].map(ptr)[..], &index.map(ptr), &[int(C)]].concat();
        let groups = order.tokens.len();
        let least = Least::Bytes(N * C * storage.bytes() + 2 * groups * C * 4 + N * 4);
        self.run(embedding::backward(storage, groups as u32, C as u32), shape, least, &args);
    }

    fn loss(&mut self, storage: Storage) {
        let V = self.s.vocabulary;
        let N = (self.s.rows * self.s.width / V).max(2);
        let S = loss::stride(storage, V as u32) as usize;
        let logits = self.numbers(storage, N * S);
        let [nats, ids] = [(); 2].map(|()| self.d.room(F32, N));
        let targets = self.d.put_u32(&vec![5; N]);
        let shape = format!("N{N} V{V}");
        // Forward reads a row again for its id, from a cache.
        let args = [&[nats, 0, logits, targets].map(ptr)[..], &[int(V), int(S)]].concat();
        let (least, launch) =
            (N * V * storage.bytes() + N * 8, loss::forward(storage, N as u32, V as u32));
        self.run(launch, shape.clone(), Least::Bytes(least), &args);
        let weights = self.numbers(F32, N);
        let pointers = [nats, ids, logits, targets, weights].map(ptr);
        let args = [&pointers[..], &[float(0.5), int(V), int(S)]].concat();
        let launch = loss::forward_backward(storage, N as u32, V as u32);
        let least = least + N * V * storage.bytes() + N * 8;
        self.run(launch, shape, Least::Bytes(least), &args);
    }

    fn adamw(&mut self, copy: Storage) {
        let len = self.s.parameters;
        let slots = len.div_ceil(self.s.width * self.s.width);
        let ends: Vec<u8> = (1..=slots)
            .flat_map(|k| ((k * self.s.width * self.s.width).min(len) as u64).to_le_bytes())
            .collect();
        let [w, m, g] = [(); 3].map(|()| self.numbers(F32, len));
        let (v, decays) = (self.d.put(F32, &vec![0.5; len]), self.d.put(F32, &vec![0.1; slots]));
        let (pcopy, ends) = (self.d.room(Bf16, len), self.d.bytes(&ends));
        let sum = self.d.bytes(&4f64.to_le_bytes());
        let mut pointers = vec![w, pcopy, m, v, g, sum, ends, decays];
        if copy == F32 {
            pointers.remove(1);
        }
        let scalars = [1e-3, 0.9, 0.95, 1e-8, 1.0, 1e-3, 1.0].map(float);
        let args: Vec<Arg> = pointers.into_iter().map(ptr).collect();
        let args = [&args[..], &[int(slots)], &scalars].concat();
        let least = len * (28 + if copy == F32 { 0 } else { 2 }) + slots * 12 + 8;
        let shape = format!("{len}, {slots} slots");
        self.run(adamw::step(copy, len as u64), shape, Least::Bytes(least), &args);
    }

    fn delta(&mut self, storage: Storage) {
        let (rows, D) = (self.s.rows, 64);
        let [d_o, o] = [(); 2].map(|()| self.numbers(storage, rows * D));
        let delta = self.d.room(F32, rows);
        let args = [&[delta, d_o, o].map(ptr)[..], &[int(rows), int(D)]].concat();
        let least = Least::Bytes(2 * rows * D * storage.bytes() + rows * 4);
        let launch = attention::delta(storage, rows as u32);
        self.run(launch, format!("{rows} rows D{D}"), least, &args);
    }

    fn sums(&mut self) {
        let len = self.s.parameters;
        let x = self.numbers(F32, len);
        let launch = norm::squares(len as u64);
        let part = self.d.room_f64(launch.blocks[0] as usize);
        let args = [ptr(part), ptr(x), Arg::U64(len as u64)];
        let least = Least::Bytes(len * 4 + launch.blocks[0] as usize * 8);
        self.run(launch, format!("{len}"), least, &args);
        let terms: Vec<u8> = (0..4096).flat_map(|i| f64::from(i).to_le_bytes()).collect();
        let (terms, sum) = (self.d.bytes(&terms), self.d.room_f64(1));
        let args = [ptr(sum), ptr(terms), int(4096)];
        self.run(norm::sum(), "4096".into(), Least::Bytes(4096 * 8 + 8), &args);
        let [nats, weights] = [(); 2].map(|()| self.numbers(F32, 4096));
        let args = [sum, nats, weights].map(ptr);
        let args = [&args[..], &[int(4096)]].concat();
        self.run(loss::sum(), "4096".into(), Least::Bytes(4096 * 8 + 16), &args);
        let (parts, len) = (3, len / 4);
        let from = self.numbers(F32, parts * len);
        let args = [ptr(x), ptr(from), Arg::U64(len as u64), int(parts)];
        let least = Least::Bytes((parts + 2) * len * 4);
        self.run(gemm::add_parts(len as u64), format!("{len}, {parts} parts"), least, &args);
        let (M, N) = (len / 64, 64);
        let [c, r] = [(); 2].map(|()| self.numbers(Bf16, M * N));
        let args = [&[c, r, from].map(ptr)[..], &[M, N, N, parts].map(int)].concat();
        let least = Least::Bytes(parts * M * N * 4 + 2 * M * N * 2);
        let shape = format!("M{M} N{N}, {parts} parts");
        self.run(gemm::round_parts(M as u32, N as u32), shape, least, &args);
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
        let a = self.numbers(Bf16, lda * if layout == Layout::Tn { K } else { M });
        let b = self.numbers(Bf16, ldb * if layout == Layout::Nt { N } else { K });
        let tiles = |len: usize, tile: u32| (len as u32).div_ceil(tile);
        let launch = Launch {
            kernel,
            blocks: [tiles(M, 128) * tiles(N, BN), 1, 1],
            threads: BN,
            shared_bytes: STAGES * (128 + BN) * BK * 2,
        };
        let covered = u64::from(launch.blocks[0] * 128 * BN) * u64::from(tiles(K, BK) * BK);
        let least = Least::Products { formula: 2 * (M * N * K) as u64, tiles: 2 * covered };
        let sizes = [M, N, K, lda, ldb, N].map(int);
        let args = if wide {
            let c = self.d.room(F32, M * N);
            [&[ptr(c), ptr(a), ptr(b)], &sizes[..], &[int(K.next_multiple_of(64)), int(0)]].concat()
        } else {
            let c = self.d.room(Bf16, M * N);
            [&[ptr(c), ptr(0), ptr(a), ptr(b)], &sizes[..]].concat()
        };
        self.run(launch, format!("M{M} N{N} K{K}"), least, &args);
    }

    fn product_f32(&mut self) {
        let (M, N, K) = self.s.product;
        let [c, a, b] = [M * N, M * K, K * N].map(|len| self.numbers(F32, len));
        let sizes = [M, N, K, K, 1, 1, K, N, 0].map(int);
        let args = [&[c, 0, a, b].map(ptr)[..], &sizes].concat();
        let shape = format!("M{M} N{N} K{K}");
        self.run(gemm::f32(M as u32, N as u32), shape, Least::Parity, &args);
    }

    /// Every block reads x once beside its share of W.
    fn skinny(&mut self) {
        let (M, N, K) = self.s.skinny;
        let [x, w] = [M, N].map(|rows| self.numbers(Bf16, rows * K));
        for storage in [Bf16, F32] {
            let y = self.d.room(storage, M * N);
            // So few multiprocessors that blocks of four strips fill them, then of two, then of one.
            for multiprocessors in [1, N as u32 / 32 + 2, N as u32 / 16 + 2] {
                let target = Target { multiprocessors, ..Target::of(90) };
                let pointers: &[DevicePtr] = match storage {
                    Bf16 => &[y, 0, x, w],
                    F32 => &[y, x, w],
                };
                let launch = match storage {
                    Bf16 => skinny::rounded(target, M as u32, N as u32),
                    F32 => skinny::wide(target, M as u32, N as u32),
                };
                let mut args: Vec<Arg> = pointers.iter().copied().map(ptr).collect();
                args.extend([M, N, K, K, K, N].map(int));
                let rows = N + launch.blocks[0] as usize * M;
                let least = Least::Bytes(rows * K * 2 + M * N * storage.bytes());
                self.run(launch, format!("M{M} N{N} K{K}"), least, &args);
            }
        }
    }

    fn attention(&mut self, D: usize, target: Target) {
        let (T, H, G) = (self.s.T, 2, 1);
        let small = target.shared_bytes < 100 << 10;
        let [qkv, d_o, dqkv, o] = [4 * D, 2 * D, 4 * D, 2 * D].map(|w| self.numbers(Bf16, T * w));
        let [lse, delta] = [(); 2].map(|()| self.numbers(F32, T * H));
        let sizes = [int(T), int(H), int(G), int(D), float(1.0 / (D as f64).sqrt())];
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
        let (one, h, d) = (Sequences::Equal { B: 1, T: T as u32 }, H as u32, D as u32);
        let args = [&[o, lse, qkv, 0].map(ptr)[..], &sizes].concat();
        let least_forward = least(2, 16 * groups, forward_keys, true);
        let launch = attention::forward(target, Bf16, one, h, d).launch;
        self.run(launch, shape.clone(), least_forward, &args);
        let args = [&[dqkv, d_o, qkv, lse, delta, 0].map(ptr)[..], &sizes].concat();
        let least_queries = least(3, 16 * groups, backward_keys, true);
        let launch = attention::backward_queries(target, Bf16, one, h, d).launch;
        self.run(launch, shape.clone(), least_queries, &args);
        // Beyond a width of 128 one block makes dV, of P, and another dK, of P again and dP.
        let least_keys = least(if width <= 128 { 4 } else { 5 }, 16, queries, false);
        let launch = attention::backward_keys(target, Bf16, one, G as u32, d).launch;
        self.run(launch, shape, least_keys, &args);
    }

    fn attention_f32(&mut self) {
        let (T, H, D, target) = (self.s.T.min(128), 2, 64, Target::of(90));
        let [qkv, d_o, dqkv, o] = [4 * D, 2 * D, 4 * D, 2 * D].map(|w| self.numbers(F32, T * w));
        let [lse, delta] = [(); 2].map(|()| self.numbers(F32, T * H));
        let sizes = [int(T), int(T), int(H), int(1), int(D), float(0.125)];
        let shape = format!("T{T} H{H} G1 D{D}");
        let (one, h, d) = (Sequences::Equal { B: 1, T: T as u32 }, H as u32, D as u32);
        let args = [&[o, lse, qkv, 0].map(ptr)[..], &sizes].concat();
        let launch = attention::forward(target, F32, one, h, d).launch;
        self.run(launch, shape.clone(), Least::Parity, &args);
        let args = [&[dqkv, d_o, qkv, lse, delta, 0].map(ptr)[..], &sizes].concat();
        let launch = attention::backward_queries(target, F32, one, h, d).launch;
        self.run(launch, shape.clone(), Least::Parity, &args);
        let launch = attention::backward_keys(target, F32, one, 1, d).launch;
        self.run(launch, shape.clone(), Least::Parity, &args);
    }

    /// One token, each head with keys and values of its own. Every warp reads the query.
    fn attention_decode(&mut self, storage: Storage) {
        let (T, H, D) = (self.s.T, 2, 64);
        let [q, kv, o] = [3 * H * D, T * 2 * H * D, H * D].map(|len| self.numbers(storage, len));
        let sizes = [1, T - 1, 3 * H * D, H, H, D].map(int);
        let args = [&[o, q, kv, 0].map(ptr)[..], &sizes, &[float(0.125)]].concat();
        let least = Least::Bytes((T + 1) * 2 * H * D * storage.bytes());
        let launch = attention::decode(storage, 1, H as u32, D as u32);
        self.run(launch, format!("T{T} H{H} G{H} D{D}"), least, &args);
    }

    /// One new token of each of `rows` sequences.
    fn attention_keep(&mut self, storage: Storage) {
        let (N, H, D) = (self.s.rows, 4, 64);
        let (S, width) = (3 * H * D, 2 * H * D);
        let [kv, qkv] = [N * width, N * S].map(|len| self.numbers(storage, len));
        let items: Vec<u32> = (0..N as u32).flat_map(|n| [n, 1]).collect();
        let args = [kv, qkv, self.d.put_u32(&items)].map(ptr);
        let least = Least::Bytes(N * (2 * width * storage.bytes() + 8));
        let launch = attention::keep(storage, N as u32, S as u32, width as u32);
        let args = [&args[..], &[N, S, width].map(int)].concat();
        self.run(launch, format!("N{N} G{H} D{D}"), least, &args);
    }
}
