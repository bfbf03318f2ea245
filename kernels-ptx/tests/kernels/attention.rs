use crate::check::{
    Bf16, Device, F32, Gen, Output, devices, devices_with, float, int, ptr, rounded,
};
use crate::counted::causal_flop;
use kernels_ptx::launch::attention::{Sequences, Work};
use kernels_ptx::launch::{Storage, Target, attention};
use kernels_ptx::tiles::attention::{D64, D128, D128_SMALL, Tiles};
use ptx_emu::{Arg, Class, DevicePtr, bounds};

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

    /// What launches are given; `list` is [`Shape::list`].
    fn sequences<'a>(&self, list: &'a [[u32; 2]]) -> Sequences<'a> {
        match self.T() {
            Some(T) => Sequences::Equal { B: list.len() as u32, T },
            None => Sequences::Listed(list),
        }
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
    o: DevicePtr,
    lse: DevicePtr,
    delta: DevicePtr,
    dqkv: DevicePtr,
    qkv: DevicePtr,
    d_o: DevicePtr,
}

/// A kernel's arguments: pointers, items, sizes.
fn args(
    d: &mut Device,
    storage: Storage,
    pointers: &[DevicePtr],
    work: &Work,
    s: Shape,
) -> Vec<Arg<'static>> {
    let items = if work.items.is_empty() { 0 } else { d.put_u32(&work.items) };
    let sizes = [s.T().unwrap_or(0) as usize, s.H, s.G, s.D].map(int);
    let mut args: Vec<_> = pointers.iter().copied().chain([items]).map(ptr).collect();
    if storage == F32 {
        args.push(int(s.rows()));
    }
    args.extend(sizes);
    args.push(float(1.0 / (s.D as f64).sqrt()));
    args
}

fn buffers(d: &mut Device, storage: Storage, qkv: &[f64], d_o: &[f64], s: Shape) -> Buffers {
    let rows = s.rows() * s.H;
    Buffers {
        o: d.room(storage, rows * s.D),
        lse: d.room(F32, rows),
        delta: d.room(F32, rows),
        dqkv: d.room(storage, qkv.len()),
        qkv: d.put(storage, qkv),
        d_o: d.put(storage, d_o),
    }
}

fn forward(d: &mut Device, storage: Storage, b: &Buffers, s: Shape) {
    let (list, [H, D]) = (s.list(), [s.H, s.D].map(|x| x as u32));
    let work = attention::forward(LARGE, storage, s.sequences(&list), H, D);
    let args = args(d, storage, &[b.o, b.lse, b.qkv], &work, s);
    d.run(work.launch, &args);
}

fn delta(d: &mut Device, storage: Storage, b: &Buffers, s: Shape) {
    let rows = s.rows() * s.H;
    let args = [ptr(b.delta), ptr(b.d_o), ptr(b.o), int(rows), int(s.D)];
    d.run(attention::delta(storage, rows as u32), &args);
}

fn run_queries(d: &mut Device, target: Target, storage: Storage, b: &Buffers, s: Shape) {
    let (list, [H, D]) = (s.list(), [s.H, s.D].map(|x| x as u32));
    let work = attention::backward_queries(target, storage, s.sequences(&list), H, D);
    let args = args(d, storage, &[b.dqkv, b.d_o, b.qkv, b.lse, b.delta], &work, s);
    d.run(work.launch, &args);
}

fn run_keys(d: &mut Device, target: Target, storage: Storage, b: &Buffers, s: Shape) {
    let (list, [G, D]) = (s.list(), [s.G, s.D].map(|x| x as u32));
    let work = attention::backward_keys(target, storage, s.sequences(&list), G, D);
    let args = args(d, storage, &[b.dqkv, b.d_o, b.qkv, b.lse, b.delta], &work, s);
    d.run(work.launch, &args);
}

/// Bytes of shared memory that a block of backward has at most.
fn backward_bytes(target: Target, storage: Storage, s: Shape) -> u32 {
    let (list, [H, G, D]) = (s.list(), [s.H, s.G, s.D].map(|x| x as u32));
    let queries = attention::backward_queries(target, storage, s.sequences(&list), H, D).launch;
    let keys = attention::backward_keys(target, storage, s.sequences(&list), G, D).launch;
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
        let got = d.get(F32, b.lse, e.lse.len());
        // A score errs as tensor cores sum, and a log-sum by no more than all of its scores.
        let score = if storage == F32 { 0.0 } else { bounds::sum(d.capability(), D, e.largest) };
        let lse = Output::new("lse", F32, got, e.lse.clone()).floor(1e-5);
        lse.allowing(score / (D as f64).sqrt()).check(&context);
        delta(&mut d, storage, &b, s);
        let row = |(o, d_o): (&[f64], &[f64])| o.iter().zip(d_o).map(|(o, d_o)| o * d_o).sum();
        let of_o: Vec<f64> = o.chunks(D).zip(d_o.chunks(D)).map(row).collect();
        let got = d.get(F32, b.delta, of_o.len());
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
        let (pq, pkv) = (d.put(storage, &q), d.put(storage, &kv));
        let o = d.room(storage, N * H * D);
        let sizes = [N, past, S, H, G, D].map(int);
        let pointers = [o, pq, pkv, 0].map(ptr);
        let args = [&pointers[..], &sizes, &[float(1.0 / (D as f64).sqrt())]].concat();
        d.run(attention::decode(storage, N as u32, H as u32, D as u32), &args);
        let context = format!("decode {storage:?} N{N} past {past} H{H} G{G} D{D}");
        let got = d.get(storage, o, N * H * D);
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
        let pkv = d.put(Bf16, &kv);
        let mut run = |first: usize, N: usize| {
            let (pq, o) = (d.put(Bf16, &q[first * S..][..N * S]), d.room(Bf16, N * H * D));
            let sizes = [N, past + first, S, H, G, D].map(int);
            let args = [&[o, pq, pkv, 0].map(ptr)[..], &sizes, &[float(0.125)]].concat();
            d.run(attention::decode(Bf16, N as u32, H as u32, D as u32), &args);
            d.get(Bf16, o, N * H * D)
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
            let items_at = d.put_u32(&items.concat());
            let [pqkv, pkv] = [&qkv, &kv].map(|values| d.put(storage, values));
            let args = [&[pkv, pqkv, items_at].map(ptr)[..], &[N, S, width].map(int)].concat();
            d.run(attention::keep(storage, N as u32, S as u32, width as u32), &args);
            let kept = d.get(storage, pkv, kv.len());
            let mut expected = kv.clone();
            for (n, (slot, past)) in sequences.into_iter().enumerate() {
                let row = &qkv[n * S + H * D..][..width];
                expected[(slot * capacity + past) * width..][..width].copy_from_slice(row);
            }
            assert_eq!(kept, expected);
            let mut run = |first: usize, N: usize, start: usize, items: DevicePtr, past: usize| {
                let (pq, o) = (d.put(storage, &qkv[first * S..]), d.room(storage, N * H * D));
                let kv = d.put(storage, &kept[start * width..]);
                let sizes = [N, past, S, H, G, D].map(int);
                let args = [&[o, pq, kv, items].map(ptr)[..], &sizes, &[float(0.2)]].concat();
                d.run(attention::decode(storage, N as u32, H as u32, D as u32), &args);
                d.get(storage, o, N * H * D)
            };
            let all = run(0, N, 0, items_at, 0);
            for (n, (slot, past)) in sequences.into_iter().enumerate() {
                let alone = run(n, 1, slot * capacity, 0, past);
                assert_eq!(alone, all[n * H * D..][..H * D], "sequence {n}");
            }
        }
    }
}
