use crate::check::{Bf16, Device, F32, Gen, Output, Stored, devices, devices_with, int, rounded};
use crate::counted::causal_flop;
use kernels_ptx::attention::decode::{Decode, Keep};
use kernels_ptx::attention::flash::{self, D64, D128, D128_SMALL, Tiles};
use kernels_ptx::attention::{Delta, plain};
use kernels_ptx::launch::{Kernel, Storage, Target};
use ptx_emu::{Class, bounds};
use std::ptr::{null, null_mut};

/// Sequences of these lengths, one after the other.
#[derive(Clone, Copy)]
struct Shape {
    lengths: &'static [usize],
    H: usize,
    G: usize,
    D: usize,
}

const fn shape(lengths: &'static [usize], H: usize, G: usize, D: usize) -> Shape {
    Shape { lengths, H, G, D }
}

impl Shape {
    fn rows(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// First row and rows of each sequence.
    fn list(&self) -> Vec<[u32; 2]> {
        let mut row = 0;
        let of = |&len: &usize| {
            row += len;
            [row - len, len].map(|x| x as u32)
        };
        self.lengths.iter().map(of).collect()
    }

    fn T(&self) -> Option<u32> {
        let T = self.lengths[0];
        self.lengths.iter().all(|&len| len == T).then_some(T as u32)
    }

    /// `items` of these sequences on a device, and how many; none and the number of sequences, where
    /// they have one length.
    fn items(&self, d: &mut Device, items: &[u32]) -> (*const u32, u32) {
        match self.T() {
            Some(_) => (null(), int(self.lengths.len())),
            None => (d.put_u32(items), int(items.len() / 3)),
        }
    }

    /// T, H, G, D.
    fn sizes(&self) -> [u32; 4] {
        let [H, G, D] = [self.H, self.G, self.D].map(int);
        [self.T().unwrap_or(0), H, G, D]
    }

    fn scale(&self) -> f32 {
        1.0 / (self.D as f32).sqrt()
    }
}

/// One token, one head, lengths around the tiles, shared heads, every kernel's widths.
const SHAPES: [Shape; 12] = [
    shape(&[1], 1, 1, 64),
    shape(&[5, 5], 2, 1, 64),
    shape(&[128], 2, 2, 64),
    shape(&[161], 4, 2, 64),
    shape(&[1], 2, 1, 128),
    shape(&[97], 2, 1, 128),
    shape(&[200], 1, 1, 128),
    shape(&[17, 17], 2, 1, 6),
    shape(&[130], 2, 1, 48),
    shape(&[70], 1, 1, 80),
    shape(&[33], 2, 1, 256),
    shape(&[9], 3, 3, 7),
];
/// Sequences of other lengths: single tokens, odd ones, around the tiles, several tiles beside one.
const PACKED: [Shape; 5] = [
    shape(&[1, 2, 1], 2, 1, 64),
    shape(&[129, 1, 63, 128], 2, 1, 64),
    shape(&[3, 150, 33], 2, 2, 128),
    shape(&[70, 5], 1, 1, 48),
    shape(&[2, 66], 1, 1, 256),
];

/// A block's shared memory is largest, and smallest: some tiles differ.
const LARGE: Target = Target::of(90);
const SMALL: Target = Target::of(86);

struct Exact {
    o: Vec<f64>,
    lse: Vec<f64>,
    dqkv: Vec<f64>,
    /// Largest product of a query and a key, and largest sum of them on its way.
    largest: f64,
}

fn exact(qkv: &[f64], d_o: &[f64], shape: Shape) -> Exact {
    let (Shape { H, G, D, .. }, N) = (shape, shape.rows());
    let (S, scale) = ((H + 2 * G) * D, 1.0 / (D as f64).sqrt());
    let [o, lse, dqkv] = [N * H * D, N * H, N * S].map(|len| vec![0.0; len]);
    let mut e = Exact { o, lse, dqkv, largest: 0.0 };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let list = shape.list();
    for ([first, T], h) in list.iter().flat_map(|s| (0..H).map(|h| (s.map(|x| x as usize), h))) {
        let g = h / (H / G);
        let at = |t: usize, head: usize| (first + t) * S + head * D;
        let row = |t: usize, head: usize| &qkv[at(t, head)..][..D];
        for i in 0..T {
            let s: Vec<f64> = (0..=i).map(|j| dot(row(i, h), row(j, H + g)) * scale).collect();
            for j in 0..=i {
                let mut sum = 0.0;
                for (q, k) in row(i, h).iter().zip(row(j, H + g)) {
                    sum += q * k;
                    e.largest = e.largest.max((q * k).abs()).max(f64::abs(sum));
                }
            }
            let max = s.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
            let lse = s.iter().map(|s| (s - max).exp()).sum::<f64>().ln() + max;
            let p: Vec<f64> = s.iter().map(|s| (s - lse).exp()).collect();
            let n = (first + i) * H + h;
            e.lse[n] = lse;
            let d_o = &d_o[n * D..][..D];
            let dp: Vec<f64> = (0..=i).map(|j| dot(d_o, row(j, H + G + g))).collect();
            let delta = dot(&p, &dp);
            for j in 0..=i {
                let ds = p[j] * (dp[j] - delta) * scale;
                for d in 0..D {
                    e.o[n * D + d] += p[j] * row(j, H + G + g)[d];
                    e.dqkv[at(i, h) + d] += ds * row(j, H + g)[d];
                    e.dqkv[at(j, H + g) + d] += ds * row(i, h)[d];
                    e.dqkv[at(j, H + G + g) + d] += p[j] * d_o[d];
                }
            }
        }
    }
    e
}

/// Device memory of one case.
struct Buffers {
    o: *mut Stored,
    lse: *mut f32,
    delta: *mut f32,
    dqkv: *mut Stored,
    qkv: *mut Stored,
    d_o: *mut Stored,
}

fn buffers(d: &mut Device, storage: Storage, qkv: &[f64], d_o: &[f64], s: Shape) -> Buffers {
    let rows = s.rows() * s.H;
    Buffers {
        o: d.room(storage, rows * s.D),
        lse: d.room_f32(rows),
        delta: d.room_f32(rows),
        dqkv: d.room(storage, qkv.len()),
        qkv: d.put(storage, qkv),
        d_o: d.put(storage, d_o),
    }
}

fn forward(d: &mut Device, storage: Storage, b: &Buffers, s: Shape) {
    let ([T, H, G, D], scale, lse_NH) = (s.sizes(), s.scale(), b.lse);
    match storage {
        F32 => {
            let (o_NHD, qkv, N) = (b.o.cast(), b.qkv.cast(), int(s.rows()));
            let (items, _) = s.items(d, &plain::Forward::items(&s.list()));
            d.run(&plain::Forward { o_NHD, lse_NH, qkv, items, N, T, H, G, D, scale });
        }
        Bf16 => {
            let (o_NHD, qkv) = (b.o.cast(), b.qkv.cast());
            let (items, count) = s.items(d, &flash::Forward::items(&s.list(), D));
            d.run(&flash::Forward { o_NHD, lse_NH, qkv, items, T, H, G, D, scale, count });
        }
    }
}

fn delta(d: &mut Device, storage: Storage, b: &Buffers, s: Shape) {
    let (delta_NH, do_NHD, o_NHD) = (b.delta, b.d_o, b.o);
    let [rows, D] = [s.rows() * s.H, s.D].map(int);
    d.run(&Delta { storage, delta_NH, do_NHD, o_NHD, rows, D });
}

fn plain_queries(b: &Buffers, s: Shape, items: *const u32) -> plain::BackwardQueries {
    let [T, H, G, D] = s.sizes();
    plain::BackwardQueries {
        dqkv: b.dqkv.cast(),
        do_NHD: b.d_o.cast(),
        qkv: b.qkv.cast(),
        lse_NH: b.lse,
        delta_NH: b.delta,
        items,
        N: int(s.rows()),
        T,
        H,
        G,
        D,
        scale: s.scale(),
    }
}

fn flash_queries(
    b: &Buffers,
    s: Shape,
    (items, count): (*const u32, u32),
) -> flash::BackwardQueries {
    let [T, H, G, D] = s.sizes();
    flash::BackwardQueries {
        dqkv: b.dqkv.cast(),
        do_NHD: b.d_o.cast(),
        qkv: b.qkv.cast(),
        lse_NH: b.lse,
        delta_NH: b.delta,
        items,
        T,
        H,
        G,
        D,
        scale: s.scale(),
        count,
    }
}

fn plain_keys(b: &Buffers, s: Shape, items: *const u32) -> plain::BackwardKeys {
    let [T, H, G, D] = s.sizes();
    plain::BackwardKeys {
        dqkv: b.dqkv.cast(),
        do_NHD: b.d_o.cast(),
        qkv: b.qkv.cast(),
        lse_NH: b.lse,
        delta_NH: b.delta,
        items,
        N: int(s.rows()),
        T,
        H,
        G,
        D,
        scale: s.scale(),
    }
}

fn flash_keys(b: &Buffers, s: Shape, (items, count): (*const u32, u32)) -> flash::BackwardKeys {
    let [T, H, G, D] = s.sizes();
    flash::BackwardKeys {
        dqkv: b.dqkv.cast(),
        do_NHD: b.d_o.cast(),
        qkv: b.qkv.cast(),
        lse_NH: b.lse,
        delta_NH: b.delta,
        items,
        T,
        H,
        G,
        D,
        scale: s.scale(),
        count,
    }
}

fn run_queries(d: &mut Device, target: Target, storage: Storage, b: &Buffers, s: Shape) {
    match storage {
        F32 => {
            let (items, _) = s.items(d, &plain::BackwardQueries::items(&s.list()));
            d.run_for(target, &plain_queries(b, s, items));
        }
        Bf16 => {
            let items = s.items(d, &flash::BackwardQueries::items(target, &s.list(), int(s.D)));
            d.run_for(target, &flash_queries(b, s, items));
        }
    }
}

fn run_keys(d: &mut Device, target: Target, storage: Storage, b: &Buffers, s: Shape) {
    match storage {
        F32 => {
            let (items, _) = s.items(d, &plain::BackwardKeys::items(&s.list()));
            d.run_for(target, &plain_keys(b, s, items));
        }
        Bf16 => {
            let items = s.items(d, &flash::BackwardKeys::items(target, &s.list(), int(s.D)));
            d.run_for(target, &flash_keys(b, s, items));
        }
    }
}

/// Bytes of shared memory that a block of backward has at most.
fn backward_bytes(target: Target, storage: Storage, s: Shape) -> u32 {
    if storage == F32 {
        return 0;
    }
    let (stored, sums) = (null_mut(), null_mut());
    let none =
        Buffers { o: stored, lse: sums, delta: sums, dqkv: stored, qkv: stored, d_o: stored };
    let queries = flash_queries(&none, s, (null(), 1)).launch(target);
    let keys = flash_keys(&none, s, (null(), 1)).launch(target);
    queries.shared_bytes.max(keys.shared_bytes)
}

fn case(target: Target, storage: Storage, s: Shape) {
    let (Shape { lengths, H, G, D }, N) = (s, s.rows());
    let g = &mut Gen::new((lengths[0] * 1000 + H * 100 + D) as u64);
    let qkv = g.normals(storage, N * (H + 2 * G) * D, 1.5);
    let d_o = g.normals(storage, N * H * D, 1.0);
    let e = exact(&qkv, &d_o, s);
    // P and dS are rounded to brain floats on their way into products, O once more for delta.
    let (out, grad) = if storage == F32 { (5e-6, 2e-5) } else { (0.003, 0.006) };
    let context = format!("{storage:?} {lengths:?} H{H} G{G} D{D}, {}", target.capability);
    for mut d in devices_with(backward_bytes(target, storage, s)) {
        let b = buffers(&mut d, storage, &qkv, &d_o, s);
        forward(&mut d, storage, &b, s);
        let o = d.get(storage, b.o, e.o.len());
        Output::new("o", storage, o.clone(), e.o.clone()).floor(out).check(&context);
        let got = d.get_f32(b.lse, e.lse.len());
        // A score errs as tensor cores sum, and a log-sum by no more than all of its scores.
        let score = if storage == F32 { 0.0 } else { bounds::sum(d.capability(), D, e.largest) };
        let lse = Output::new("lse", F32, got, e.lse.clone()).floor(1e-5);
        lse.allowing(score / (D as f64).sqrt()).check(&context);
        delta(&mut d, storage, &b, s);
        let row = |(o, d_o): (&[f64], &[f64])| o.iter().zip(d_o).map(|(o, d_o)| o * d_o).sum();
        let of_o: Vec<f64> = o.chunks(D).zip(d_o.chunks(D)).map(row).collect();
        let got = d.get_f32(b.delta, of_o.len());
        Output::new("delta", F32, got, of_o).check(&context);
        run_queries(&mut d, target, storage, &b, s);
        run_keys(&mut d, target, storage, &b, s);
        let got = d.get(storage, b.dqkv, e.dqkv.len());
        Output::new("dqkv", storage, got, e.dqkv.clone()).floor(grad).check(&context);
    }
}

#[test]
fn against_f64() {
    for shape in SHAPES.into_iter().chain(PACKED) {
        case(LARGE, F32, shape);
        case(LARGE, Bf16, shape);
        if shape.D > 64 {
            case(SMALL, Bf16, shape);
        }
    }
}

/// No bank is met twice, and tiles that the mask hides cost no matrix instruction.
#[test]
fn no_bank_conflicts_and_no_masked_tiles() {
    for (D, tiles, target) in [(64, D64, LARGE), (128, D128, LARGE), (128, D128_SMALL, SMALL)] {
        let Tiles { width, groups, forward_keys, backward_keys, queries, .. } = tiles;
        let s = shape(&[384], 2, 1, D);
        let g = &mut Gen::new(0);
        let qkv = g.normals(Bf16, s.rows() * 4 * D, 1.0);
        let d_o = g.normals(Bf16, s.rows() * 2 * D, 1.0);
        let T = s.rows() as u32;
        for mut d in devices_with(backward_bytes(target, Bf16, s)) {
            let b = buffers(&mut d, Bf16, &qkv, &d_o, s);
            let check = |d: &Device, products: u64, expected: u64| {
                let c = &d.counts;
                assert_eq!(c.total.conflicts, 0, "D{D}: conflicts");
                assert_eq!(c.class(Class::Local), 0, "D{D}: local memory");
                assert_eq!(c.total.matrix_flop, 2 * products * expected, "D{D}: products");
            };
            forward(&mut d, Bf16, &b, s);
            check(&d, 2, causal_flop(T, 16 * groups, forward_keys, true, width));
            delta(&mut d, Bf16, &b, s);
            d.moved_at_most(2 * d_o.len() * 2 + s.rows() * 2 * 4);
            run_queries(&mut d, target, Bf16, &b, s);
            check(&d, 3, causal_flop(T, 16 * groups, backward_keys, true, width));
            run_keys(&mut d, target, Bf16, &b, s);
            check(&d, 4, causal_flop(T, 16, queries, false, width));
        }
    }
}

/// Scores in the thousands: the running maximum keeps exponentials in range.
#[test]
fn large_scores_stay_finite() {
    let s = shape(&[40], 1, 1, 64);
    let g = &mut Gen::new(0);
    let qkv: Vec<f64> =
        g.normals(Bf16, s.rows() * 3 * s.D, 1.0).iter().map(|x| rounded(Bf16, x * 30.0)).collect();
    let d_o = g.normals(Bf16, s.rows() * s.D, 1.0);
    for mut d in devices() {
        let b = buffers(&mut d, Bf16, &qkv, &d_o, s);
        forward(&mut d, Bf16, &b, s);
        let e = exact(&qkv, &d_o, s);
        let got = d.get(Bf16, b.o, e.o.len());
        Output::new("o", Bf16, got, e.o).floor(0.003).check("large scores");
    }
}

/// New tokens behind a cache see it, themselves and those between.
#[test]
fn decode_against_f64() {
    // Heads of one access a lane and of eight, several keys a warp and one, and more keys than the
    // block's warps take at once.
    for (N, past, H, G, D) in [
        (1, 0, 1, 1, 3),
        (1, 300, 4, 2, 64),
        (3, 31, 4, 4, 24),
        (2, 130, 2, 1, 256),
        (1, 70, 2, 2, 250),
        (1, 2100, 1, 1, 8),
    ] {
        for storage in [F32, Bf16] {
            decode_case(storage, N, past, H, G, D);
        }
    }
}

/// O of N new tokens from position `past` of one sequence.
fn decode(
    d: &mut Device,
    storage: Storage,
    q: &[f64],
    kv: &[f64],
    sizes: [usize; 6],
) -> *const Stored {
    let [N, past, S, H, G, D] = sizes.map(int);
    let (q_NS, kv) = (d.put(storage, q), d.put(storage, kv));
    let o_NHD = d.room(storage, (N * H * D) as usize);
    let (items, scale) = (null(), 1.0 / (D as f32).sqrt());
    d.run(&Decode { storage, o_NHD, q_NS, kv, items, N, past, S, H, G, D, scale });
    o_NHD
}

fn decode_case(storage: Storage, N: usize, past: usize, H: usize, G: usize, D: usize) {
    let g = &mut Gen::new((past * 100 + D) as u64);
    let (S, rows) = ((H + 2 * G) * D, past + N + 2);
    let q = g.normals(storage, N * S, 1.5);
    let kv = g.normals(storage, rows * 2 * G * D, 1.5);
    let mut exact = Vec::new();
    for (n, h) in (0..N).flat_map(|n| (0..H).map(move |h| (n, h))) {
        let row = |t: usize, head: usize| &kv[(t * 2 * G + head) * D..][..D];
        let (q, of) = (&q[n * S + h * D..][..D], h / (H / G));
        let score =
            |t| q.iter().zip(row(t, of)).map(|(a, b)| a * b).sum::<f64>() / (D as f64).sqrt();
        let scores: Vec<f64> = (0..past + n + 1).map(score).collect();
        let max = scores.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
        let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
        let weighted = |d| scores.iter().enumerate().map(move |(t, s)| (t, s, d));
        let value = |(t, s, d): (usize, &f64, usize)| (s - max).exp() / sum * row(t, G + of)[d];
        exact.extend((0..D).map(|d| weighted(d).map(value).sum::<f64>()));
    }
    for mut d in devices() {
        let o = decode(&mut d, storage, &q, &kv, [N, past, S, H, G, D]);
        let context = format!("decode {storage:?} N{N} past {past} H{H} G{G} D{D}");
        let got = d.get(storage, o, exact.len());
        // Each weight errs by its power, and once more each time that its group's maximum moves, at
        // most every fourth key of 16 groups or more, and that groups are joined, at most 6 times; by
        // a last bit of the exponent, whose mean is below the keys' logarithm.
        let keys = past + N;
        let powers = (1 + keys.div_ceil(64) + 6) as f64;
        let of_weight = powers * bounds::EX2 + bounds::LAST_BIT * (1.0 + (keys as f64).ln());
        let values = kv.iter().fold(0.0, |a: f64, v| a.max(v.abs()));
        let most = 2.0 * of_weight * values;
        Output::new("o", storage, got, exact.clone()).allowing(most).check(&context);
    }
}

/// A token's bits are the same beside any other tokens.
#[test]
fn decode_bits_do_not_depend_on_other_tokens() {
    let (past, N, H, G, D) = (45, 3, 4, 2, 64);
    let g = &mut Gen::new(0);
    let S = (H + 2 * G) * D;
    let (q, kv) = (g.normals(Bf16, N * S, 1.5), g.normals(Bf16, (past + N) * 2 * G * D, 1.5));
    for mut d in devices() {
        let kv = d.put_bf16(&kv);
        let mut run = |first: usize, count: usize| {
            let q_NS = d.put_bf16(&q[first * S..][..count * S]);
            let (o_NHD, len) = (d.room_bf16(count * H * D), count * H * D);
            let (storage, items, scale) = (Bf16, null(), 0.125);
            let [N, past, S, H, G, D] = [count, past + first, S, H, G, D].map(int);
            d.run(&Decode { storage, o_NHD, q_NS, kv, items, N, past, S, H, G, D, scale });
            d.get_bf16(o_NHD, len)
        };
        let all = run(0, N);
        for n in 0..N {
            assert_eq!(run(n, 1), all[n * H * D..][..H * D], "token {n}");
        }
    }
}

/// Tokens of several sequences, whose keys lie apart in one cache: each gives the bits that it has
/// alone, and the new keys and values are where they should be.
#[test]
fn decode_of_several_sequences() {
    several_sequences(4, 2, 24);
    // Rows of qkv that are no whole number of accesses, as those of the cache are.
    several_sequences(2, 2, 10);
}

fn several_sequences(H: usize, G: usize, D: usize) {
    let capacity = 50;
    // (slot, tokens before the new one)
    let sequences = [(2, 33), (0, 0), (3, 49)];
    let (N, S, width) = (sequences.len(), (H + 2 * G) * D, 2 * G * D);
    for storage in [F32, Bf16] {
        let g = &mut Gen::new(0);
        let (qkv, kv) = (g.normals(storage, N * S, 1.5), g.normals(storage, 200 * width, 1.5));
        for mut d in devices() {
            let items = sequences.map(|(slot, past)| [slot * capacity, past + 1].map(|x| x as u32));
            let items = d.put_u32(&items.concat()).cast_const();
            let [qkv_NS, cache] = [&qkv, &kv].map(|values| d.put(storage, values));
            let [rows, stride, columns] = [N, S, width].map(int);
            d.run(&Keep { storage, kv: cache, qkv_NS, items, N: rows, S: stride, width: columns });
            let kept = d.get(storage, cache, kv.len());
            let mut expected = kv.clone();
            for (n, (slot, past)) in sequences.into_iter().enumerate() {
                let row = &qkv[n * S + H * D..][..width];
                expected[(slot * capacity + past) * width..][..width].copy_from_slice(row);
            }
            assert_eq!(kept, expected);
            let mut run = |first: usize, count: usize, start: usize, items, past: usize| {
                let q_NS = d.put(storage, &qkv[first * S..]);
                let (o_NHD, len) = (d.room(storage, count * H * D), count * H * D);
                let (kv, scale) = (d.put(storage, &kept[start * width..]), 0.2);
                let [N, past, S, H, G, D] = [count, past, S, H, G, D].map(int);
                d.run(&Decode { storage, o_NHD, q_NS, kv, items, N, past, S, H, G, D, scale });
                d.get(storage, o_NHD, len)
            };
            let all = run(0, N, 0, items, 0);
            for (n, (slot, past)) in sequences.into_iter().enumerate() {
                let alone = run(n, 1, slot * capacity, null(), past);
                assert_eq!(alone, all[n * H * D..][..H * D], "sequence {n}");
            }
        }
    }
}
