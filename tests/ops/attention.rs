use crate::check::wide;
use crate::check::{Gen, Output, agree, agree_on_gpus, central_differences, devices, dot, narrow};
use crate::check::{bounds, notice, notice_on_gpus, on_the_way, put, same_bits, sum_bound, take};
use engine::ops::attention::{Heads, backward, decode, forward, reference};
use engine::{Buf, Device, Element, Real, bf16};
use ndarray::{Array3, ArrayView3, s};

/// (B, T, H, G, D). T around one and two blocks of queries and keys, and long enough to be cut
/// into tasks, of whole blocks and not.
type Shape = (usize, usize, usize, usize, usize);
const SHAPES: [Shape; 14] = [
    (1, 1, 1, 1, 2),
    (2, 1, 4, 2, 10),
    (3, 7, 2, 2, 12),
    (1, 47, 4, 1, 10),
    (2, 48, 2, 1, 48),
    (1, 49, 4, 2, 12),
    (1, 96, 2, 2, 64),
    (2, 97, 4, 1, 80),
    (1, 200, 2, 1, 128),
    (1, 200, 4, 4, 2),
    (2, 192, 2, 1, 16),
    (1, 384, 1, 1, 6),
    (1, 401, 2, 1, 10),
    (1, 518, 1, 1, 6),
];

fn heads((_, _, H, G, D): Shape) -> Heads {
    Heads { H, G, D }
}

fn cube<E: Element>(x: &[E], D: usize, row: usize) -> Array3<f64> {
    Array3::from_shape_vec((x.len() / row, row / D, D), wide(x)).unwrap()
}

/// Scores of query `i` of head `h` in sequence `b` against the keys up to it.
fn scores<E: Element>(qkv: &[E], shape: Shape, b: usize, h: usize, i: usize) -> Vec<E::Acc> {
    let (_, T, H, G, D) = shape;
    let S = heads(shape).qkv();
    let scale = E::Acc::from_f64((D as f64).powf(-0.5));
    let (q, k) = ((b * T + i) * S + h * D, (H + h / (H / G)) * D);
    (0..=i)
        .map(|j| {
            let key = (b * T + j) * S + k;
            (0..D).map(|d| qkv[q + d].to_acc() * qkv[key + d].to_acc()).sum::<E::Acc>() * scale
        })
        .collect()
}

/// (b, h, i) of every query.
fn queries((B, T, H, ..): Shape) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..B * H * T).map(move |n| (n / (H * T), n / T % H, n % T))
}

fn plain_forward<E: Element>(qkv: &[E], shape: Shape) -> (Vec<E>, Vec<E::Acc>) {
    let (B, T, H, G, D) = shape;
    let S = heads(shape).qkv();
    let mut o = vec![E::default(); B * T * H * D];
    let mut lse = vec![E::Acc::ZERO; B * T * H];
    for (b, h, i) in queries(shape) {
        let s = scores(qkv, shape, b, h, i);
        let max = s.iter().fold(E::Acc::NEG_INFINITY, |a, &b| if a > b { a } else { b });
        let e: Vec<E::Acc> = s.iter().map(|&s| (s - max).exp()).collect();
        let sum: E::Acc = e.iter().copied().sum();
        lse[(b * T + i) * H + h] = max + sum.ln();
        for d in 0..D {
            let v = |j: usize| qkv[(b * T + j) * S + (H + G + h / (H / G)) * D + d].to_acc();
            let total: E::Acc = (0..=i).map(|j| e[j] * v(j)).sum();
            o[((b * T + i) * H + h) * D + d] = E::from_acc(total / sum);
        }
    }
    (o, lse)
}

fn plain_backward<E: Element>(
    d_o: &[E],
    qkv: &[E],
    o: &[E],
    lse: &[E::Acc],
    shape: Shape,
) -> Vec<E> {
    let (_, T, H, G, D) = shape;
    let S = heads(shape).qkv();
    let scale = E::Acc::from_f64((D as f64).powf(-0.5));
    let mut dqkv = vec![E::Acc::ZERO; qkv.len()];
    for (b, h, i) in queries(shape) {
        let (query, out) = ((b * T + i) * S + h * D, ((b * T + i) * H + h) * D);
        let product = |d: usize| o[out + d].to_acc() * d_o[out + d].to_acc();
        let delta: E::Acc = (0..D).map(product).sum();
        for (j, s) in scores(qkv, shape, b, h, i).into_iter().enumerate() {
            let key = (b * T + j) * S + (H + h / (H / G)) * D;
            let value = key + G * D;
            let p = (s - lse[(b * T + i) * H + h]).exp();
            let dp: E::Acc = (0..D).map(|d| d_o[out + d].to_acc() * qkv[value + d].to_acc()).sum();
            let ds = p * (dp - delta) * scale;
            for d in 0..D {
                dqkv[query + d] += ds * qkv[key + d].to_acc();
                dqkv[key + d] += ds * qkv[query + d].to_acc();
                dqkv[value + d] += p * d_o[out + d].to_acc();
            }
        }
    }
    dqkv.into_iter().map(E::from_acc).collect()
}

/// o and lse by the engine.
fn run<E: Element>(dev: &Device, qkv: &[E], heads: Heads, T: usize) -> (Vec<E>, Vec<E::Acc>) {
    let N = qkv.len() / heads.qkv();
    let (mut o, mut lse) = (Buf::zeros(dev, N * heads.out()), Buf::zeros(dev, N * heads.H));
    forward(dev, o.view_mut(), lse.view_mut(), put(dev, qkv).view(), heads, T);
    (take(o), take(lse))
}

fn run_backward<E: Element>(
    dev: &Device,
    d_o: &[E],
    qkv: &[E],
    (o, lse): (&[E], &[E::Acc]),
    heads: Heads,
    T: usize,
) -> Vec<E> {
    let mut dqkv = Buf::zeros(dev, qkv.len());
    let [d_o, qkv, o] = [d_o, qkv, o].map(|values| put(dev, values));
    let lse = put(dev, lse);
    let to = dqkv.view_mut();
    backward(dev, to, d_o.view(), qkv.view(), o.view(), lse.view(), heads, T);
    take(dqkv)
}

fn case<E: Element>(dev: &Device, g: &mut Gen, shape: Shape) -> Vec<Output> {
    let (B, T, _, _, D) = shape;
    let heads = heads(shape);
    // Deviation 1.5: scores are wide enough for the running maximum to move.
    let qkv = g.normals::<E>(B * T * heads.qkv(), 1.5);
    let d_o = g.normals::<E>(B * T * heads.out(), 1.0);
    let (o, lse) = run(dev, &qkv, heads, T);
    let (o_plain, lse_plain) = plain_forward(&qkv, shape);

    let exact_qkv = cube(&qkv, D, heads.qkv());
    let (exact_o, exact_lse) = reference::forward(exact_qkv.view(), heads, T);
    let (cached_o, cached_lse): (Vec<E>, Vec<E::Acc>) = (
        exact_o.iter().map(|&x| narrow(x)).collect(),
        exact_lse.iter().map(|&x| narrow(x)).collect(),
    );
    let dqkv = run_backward(dev, &d_o, &qkv, (&cached_o, &cached_lse), heads, T);
    let dqkv_plain = plain_backward(&d_o, &qkv, &cached_o, &cached_lse, shape);
    let exact_dqkv =
        reference::backward(cube(&d_o, D, heads.out()).view(), exact_qkv.view(), heads, T);
    let o = Output::new("attention o", &o, &o_plain, exact_o);
    let lse = Output::new("attention lse", &lse, &lse_plain, exact_lse);
    let dqkv = Output::new("attention dqkv", &dqkv, &dqkv_plain, exact_dqkv);
    if let Device::Cpu(_) = dev {
        return vec![o, lse, dqkv];
    }
    let sizes = Sizes::of(&wide(&d_o), &wide(&qkv), shape);
    vec![
        o.allowing(dev, |c| sizes.of_o::<E>(c)),
        lse.allowing(dev, |c| sizes.of_lse::<E>(c)),
        dqkv.allowing(dev, |c| sizes.of_dqkv::<E>(c)),
    ]
}

/// What errors of a GPU are shares of. A score errs as tensor cores sum; e^x errs by that, by EX2
/// and by a last bit of x, whose mean is below ln T; weights of earlier keys, and their sum, err by
/// EX2 once more for each tile of keys (of 32 or more) in which the maximum moves. The reciprocal
/// adds RCP, the logarithm what its instruction errs by.
struct Sizes {
    shape: Shape,
    /// Largest sum of q k on its way, unscaled, and of dO v.
    scores: f64,
    dp: f64,
    /// Largest |v|.
    values: f64,
    /// Largest sums of sizes, over the elements of dqkv: of what they are sums of, and of its
    /// derivative by dO v.
    terms: f64,
    weights: f64,
}

impl Sizes {
    fn of(d_o: &[f64], qkv: &[f64], shape: Shape) -> Sizes {
        let (B, T, H, G, D) = shape;
        let (S, scale) = (heads(shape).qkv(), (D as f64).powf(-0.5));
        let pairs = |cell: usize| {
            let (n, h, j) = (cell / (H * T), cell / T % H, cell % T);
            let (key, out) = ((n / T * T + j) * S + (H + h / (H / G)) * D, (n * H + h) * D);
            (n * S + h * D, key, key + G * D, out)
        };
        let product = |cell, d| {
            let (q, k, ..) = pairs(cell);
            qkv[q + d] * qkv[k + d]
        };
        let largest_score = on_the_way(B * T * H * T, D, product);
        let product = |cell, d| {
            let (_, _, v, out) = pairs(cell);
            d_o[out + d] * qkv[v + d]
        };
        let dp = on_the_way(B * T * H * T, D, product);
        let of_values = |n: usize| qkv[n * S + (H + G) * D..(n + 1) * S].iter();
        let values = (0..B * T).flat_map(of_values).fold(0.0, |a: f64, v| a.max(v.abs()));
        let (mut terms, mut weights) = (vec![0.0; qkv.len()], vec![0.0; qkv.len()]);
        for (b, h, i) in queries(shape) {
            let s = scores::<f64>(qkv, shape, b, h, i);
            let max = s.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
            let sum: f64 = s.iter().map(|s| (s - max).exp()).sum();
            let p: Vec<f64> = s.iter().map(|s| (s - max).exp() / sum).collect();
            let at = |j: usize| pairs(((b * T + i) * H + h) * T + j);
            let dps: Vec<f64> = (0..=i)
                .map(|j| {
                    let (_, _, v, out) = at(j);
                    (0..D).map(|d| d_o[out + d] * qkv[v + d]).sum()
                })
                .collect();
            let delta: f64 = p.iter().zip(&dps).map(|(p, dp)| p * dp).sum();
            for j in 0..=i {
                let (q, k, v, out) = at(j);
                let (weight, ds) = (p[j] * scale, p[j] * (dps[j] - delta).abs() * scale);
                for d in 0..D {
                    terms[q + d] += ds * qkv[k + d].abs();
                    terms[k + d] += ds * qkv[q + d].abs();
                    terms[v + d] += p[j] * d_o[out + d].abs();
                    weights[q + d] += weight * qkv[k + d].abs();
                    weights[k + d] += weight * qkv[q + d].abs();
                }
            }
        }
        let [terms, weights] = [terms, weights].map(|x| x.into_iter().fold(0.0, f64::max));
        Sizes { shape, scores: largest_score, dp, values, terms, weights }
    }

    /// Of one e^x, relative.
    fn of_power<E: Element>(&self, capability: u32) -> f64 {
        let (_, T, _, _, D) = self.shape;
        let score = sum_bound::<E>(capability, D, self.scores) * (D as f64).powf(-0.5);
        score + bounds::EX2 + bounds::LAST_BIT * (1.0 + (T as f64).ln())
    }

    /// Of a weight where the maximum is found on the way, relative.
    fn of_weight<E: Element>(&self, capability: u32) -> f64 {
        let moves = self.shape.1.div_ceil(32) as f64;
        self.of_power::<E>(capability) + moves * bounds::EX2
    }

    fn of_o<E: Element>(&self, capability: u32) -> f64 {
        let T = self.shape.1;
        // Weights change, so the mean of values moves between them.
        let by_weights = 2.0 * self.of_weight::<E>(capability) * self.values;
        by_weights
            + bounds::RCP * self.values
            + sum_bound::<E>(capability, T, T as f64 * self.values)
    }

    fn of_lse<E: Element>(&self, capability: u32) -> f64 {
        let T = self.shape.1;
        self.of_weight::<E>(capability) + 2f64.ln() * bounds::lg2((T as f64).log2())
    }

    fn of_dqkv<E: Element>(&self, capability: u32) -> f64 {
        let (_, T, H, G, D) = self.shape;
        let of_dp = sum_bound::<E>(capability, D, self.dp) * self.weights;
        let sums = sum_bound::<E>(capability, T * H / G, self.terms);
        self.of_power::<E>(capability) * self.terms + of_dp + sums
    }
}

/// Scores of hundreds: those of some queries are too far above their own key's to start from it.
fn steep_case<E: Element>(dev: &Device, g: &mut Gen, shape: Shape) -> Vec<Output> {
    let (B, T, H, _, D) = shape;
    let qkv = g.normals::<E>(B * T * heads(shape).qkv(), 8.0);
    let far = queries(shape).filter(|&(b, h, i)| {
        let s = scores(&qkv, shape, b, h, i);
        let top = s.iter().fold(0.0, |top: f64, s| top.max(s.to_f64()));
        top - s[i].to_f64() > 90.0
    });
    assert!(far.count() > T * H / 8, "the case is not steep");
    let (o, lse) = run(dev, &qkv, heads(shape), T);
    let (o_plain, lse_plain) = plain_forward(&qkv, shape);
    let exact = cube(&qkv, D, heads(shape).qkv());
    let (exact_o, exact_lse) = reference::forward(exact.view(), heads(shape), T);
    vec![
        Output::new("attention steep o", &o, &o_plain, exact_o),
        Output::new("attention steep lse", &lse, &lse_plain, exact_lse),
    ]
}

/// One key that every query after it looks at, and at nothing else: a largest score that is missed
/// makes the weights infinite. Forward, and decoding of the last token and of the last ten.
fn peaked_case<E: Element>(dev: &Device, g: &mut Gen, (shape, at): (Shape, usize)) -> Vec<Output> {
    let (_, T, H, G, D) = shape;
    let (heads, S) = (heads(shape), heads(shape).qkv());
    let mut qkv = g.normals::<E>(T * S, 1.0);
    for row in qkv.chunks_mut(S) {
        (0..H).for_each(|h| row[h * D] = narrow(4.0));
    }
    for key in qkv[at * S + H * D..][..G * D].chunks_mut(D) {
        key.fill(narrow(0.0));
        key[0] = narrow(50.0 * (D as f64).sqrt());
    }
    let (o, lse) = run(dev, &qkv, heads, T);
    let (o_plain, lse_plain) = plain_forward(&qkv, shape);
    let (exact_o, exact_lse) = reference::forward(cube(&qkv, D, S).view(), heads, T);
    let kv: Vec<E> = qkv.chunks(S).flat_map(|row| row[H * D..].iter().copied()).collect();
    let kv = put(dev, &kv);
    let mut outputs = vec![];
    for new in [1, 10.min(T)] {
        let (mut to, q) = (Buf::zeros(dev, new * H * D), put(dev, &qkv[(T - new) * S..]));
        decode(dev, to.view_mut(), q.view(), kv.view(), heads, S, T - new);
        let plain = &o_plain[(T - new) * H * D..];
        let exact = exact_o.slice(s![T - new.., .., ..]);
        outputs.push(Output::new(
            "attention peaked decode",
            &take(to),
            plain,
            exact.iter().copied(),
        ));
    }
    outputs.push(Output::new("attention peaked o", &o, &o_plain, exact_o));
    outputs.push(Output::new("attention peaked lse", &lse, &lse_plain, exact_lse));
    outputs
}

/// The first and last places of blocks, tiles and tasks, and of the tails behind them.
fn peaks() -> Vec<(Shape, usize)> {
    let places = [0, 1, 15, 16, 22, 23, 24, 31, 32, 47, 48, 63, 64, 65, 95, 96];
    let short = places.map(|at| ((1, 97, 2, 1, 12), at));
    let long = [0, 63, 64, 127, 128, 190, 191, 192, 193, 198].map(|at| ((1, 199, 4, 2, 6), at));
    let many_heads = [0, 63, 64, 69].map(|at| ((1, 70, 20, 4, 48), at));
    [&short[..], &long, &many_heads].concat()
}

const STEEP: [Shape; 2] = [(1, 100, 2, 1, 12), (1, 200, 1, 1, 64)];

/// The last `new` tokens of one sequence, decoded against a cache that is NaN beyond them.
fn decode_case<E: Element>(dev: &Device, g: &mut Gen, (shape, new): (Shape, usize)) -> Vec<Output> {
    let (_, T, H, G, D) = shape;
    let (heads, S) = (heads(shape), heads(shape).qkv());
    let qkv = g.normals::<E>(T * S, 1.5);
    let mut kv: Vec<E> = qkv.chunks(S).flat_map(|row| row[H * D..].iter().copied()).collect();
    kv.resize(kv.len() + 5 * 2 * G * D, narrow(f64::NAN));
    let mut o = Buf::zeros(dev, new * H * D);
    let (q, kv) = (put(dev, &qkv[(T - new) * S..]), put(dev, &kv));
    decode(dev, o.view_mut(), q.view(), kv.view(), heads, S, T - new);
    let o = take(o);
    let (o_plain, _) = plain_forward(&qkv, shape);
    let (exact, _) = reference::forward(cube(&qkv, D, S).view(), heads, T);
    let plain = &o_plain[(T - new) * H * D..];
    let exact = exact.slice(s![T - new.., .., ..]).to_owned();
    let o = Output::new("attention decode", &o, plain, exact);
    // Decoding sums on ordinary cores, and its reciprocal is rounded. The maximum moves at most every
    // fourth key of 16 groups or more; groups are joined at most 6 times.
    let values = wide(&qkv).iter().fold(0.0, |a: f64, v| a.max(v.abs()));
    let powers = (1 + T.div_ceil(64) + 6) as f64;
    let of_power = powers * bounds::EX2 + bounds::LAST_BIT * (1.0 + (T as f64).ln());
    vec![o.allowing(dev, |_| 2.0 * of_power * values)]
}

/// One token alone, with its keys below, at and beyond whole tasks of 64; and several.
const DECODED: [(Shape, usize); 10] = [
    ((1, 1, 2, 1, 10), 1),
    ((1, 100, 4, 2, 12), 1),
    ((1, 64, 2, 2, 64), 1),
    ((1, 65, 6, 2, 80), 1),
    ((1, 70, 20, 4, 48), 1),
    ((1, 200, 4, 4, 128), 1),
    ((1, 97, 2, 2, 48), 2),
    ((1, 150, 4, 1, 64), 50),
    ((1, 200, 2, 1, 2), 200),
    ((1, 130, 2, 1, 80), 97),
];

#[test]
fn reference_backward_against_central_differences() {
    let (shape, T) = ((2, 3, 4, 2, 2), 3);
    let (heads, D) = (heads(shape), 2);
    let g = &mut Gen::new(0);
    let qkv = g.normals::<f64>(6 * heads.qkv(), 1.0);
    let d_o = g.normals::<f64>(6 * heads.out(), 1.0);
    let view = |x: &[f64]| cube(x, D, heads.qkv());
    let grad = reference::backward(cube(&d_o, D, heads.out()).view(), view(&qkv).view(), heads, T);
    central_differences("dqkv", &qkv, grad, |qkv| {
        let qkv: ArrayView3<f64> = ArrayView3::from_shape((6, heads.qkv() / D, D), qkv).unwrap();
        dot(&reference::forward(qkv, heads, T).0, &d_o)
    });
}

#[test]
fn cpu_against_reference_f64() {
    agree(&SHAPES, case::<f64>);
    agree(&STEEP, steep_case::<f64>);
    agree(&DECODED, decode_case::<f64>);
}

#[test]
fn cpu_against_reference_f32() {
    agree(&SHAPES, case::<f32>);
    agree(&STEEP, steep_case::<f32>);
    agree(&DECODED, decode_case::<f32>);
}

#[test]
fn cpu_against_reference_bf16() {
    agree(&SHAPES, case::<bf16>);
    agree(&STEEP, steep_case::<bf16>);
    agree(&DECODED, decode_case::<bf16>);
}

#[test]
fn gpu_against_reference() {
    agree_on_gpus(&SHAPES, case::<f32>);
    agree_on_gpus(&SHAPES, case::<bf16>);
    agree_on_gpus(&DECODED, decode_case::<f32>);
    agree_on_gpus(&DECODED, decode_case::<bf16>);
}

#[test]
fn the_largest_score_anywhere() {
    agree(&peaks(), peaked_case::<f64>);
    agree(&peaks(), peaked_case::<f32>);
    agree(&peaks(), peaked_case::<bf16>);
}

#[test]
fn the_largest_score_anywhere_on_gpus() {
    let places = [0, 31, 32, 63, 64, 127, 128, 129].map(|at| ((1, 130, 2, 1, 12), at));
    agree_on_gpus(&places, peaked_case::<f32>);
    agree_on_gpus(&places, peaked_case::<bf16>);
    agree_on_gpus(&[((1, 70, 2, 1, 64), 69), ((1, 70, 2, 1, 128), 33)], peaked_case::<bf16>);
}

#[test]
fn planted_errors_are_noticed() {
    notice((1, 49, 4, 2, 12), case::<f32>);
    notice((1, 49, 4, 2, 12), case::<bf16>);
    notice(((1, 100, 4, 2, 12), 1), decode_case::<f32>);
    notice(((1, 100, 4, 2, 12), 1), decode_case::<bf16>);
    notice_on_gpus((1, 49, 4, 2, 12), case::<f32>);
    notice_on_gpus((1, 49, 4, 2, 12), case::<bf16>);
    notice_on_gpus(((1, 100, 4, 2, 12), 1), decode_case::<f32>);
    notice_on_gpus(((1, 100, 4, 2, 12), 1), decode_case::<bf16>);
}

#[test]
fn bits_do_not_depend_on_threads() {
    same_bits((2, 192, 2, 1, 8), case::<f32>);
    same_bits((2, 192, 2, 1, 8), case::<bf16>);
    same_bits(((1, 150, 4, 1, 12), 50), decode_case::<f32>);
    same_bits(((1, 150, 4, 1, 12), 50), decode_case::<bf16>);
    same_bits(((1, 150, 4, 2, 80), 1), decode_case::<f32>);
    same_bits(((1, 150, 4, 2, 80), 1), decode_case::<bf16>);
}

/// Multiplies keys and values at positions from `from` on by `by`.
fn disturb(qkv: &[f32], heads: Heads, from: usize, by: f32) -> Vec<f32> {
    let mut other = qkv.to_vec();
    for row in other.chunks_mut(heads.qkv()).skip(from) {
        row[heads.out()..].iter_mut().for_each(|x| *x *= by);
    }
    other
}

#[test]
fn a_query_does_not_see_later_positions() {
    let (T, heads) = (200, Heads { H: 4, G: 2, D: 12 });
    for dev in devices(2) {
        let g = &mut Gen::new(0);
        let qkv = g.normals::<f32>(T * heads.qkv(), 1.0);
        let (o, lse) = run(&dev, &qkv, heads, T);
        for t in [0, 1, 46, 47, 48, 95, 96, 150, 198] {
            let (other_o, other_lse) = run(&dev, &disturb(&qkv, heads, t + 1, -3.0), heads, T);
            let (seen, rows) = ((t + 1) * heads.out(), (t + 1) * heads.H);
            assert_eq!(o[..seen], other_o[..seen], "outputs up to {t}");
            assert_eq!(lse[..rows], other_lse[..rows], "log-sums up to {t}");
            assert_ne!(o[seen..], other_o[seen..], "outputs after {t}");
        }
    }
}

/// 0 * NaN is NaN, so a masked tile that is computed and weighted by 0 would show.
#[test]
fn masked_tiles_are_never_computed() {
    let (T, heads, t) = (200, Heads { H: 2, G: 1, D: 12 }, 48);
    for dev in devices(2) {
        let g = &mut Gen::new(0);
        let qkv = g.normals::<f32>(T * heads.qkv(), 1.0);
        let d_o = g.normals::<f32>(T * heads.out(), 1.0);
        let (o, lse) = run(&dev, &qkv, heads, T);
        let dqkv = run_backward(&dev, &d_o, &qkv, (&o, &lse), heads, T);
        // Queries below 48 are one block; the widest vectors pad its keys to 64.
        let other = disturb(&qkv, heads, 64, f32::NAN);
        let (other_o, _) = run(&dev, &other, heads, T);
        let other_dqkv = run_backward(&dev, &d_o, &other, (&o, &lse), heads, T);
        assert_eq!(o[..t * heads.out()], other_o[..t * heads.out()], "{}", dev.describe());
        for row in 0..t {
            let dq = row * heads.qkv()..row * heads.qkv() + heads.out();
            assert_eq!(dqkv[dq.clone()], other_dqkv[dq], "{}: dq of {row}", dev.describe());
        }
        assert!(other_o[64 * heads.out()..].iter().all(|x| x.is_nan()), "NaN is lost");
    }
}

#[test]
fn keys_after_the_last_gradient_get_none() {
    let (T, heads, t) = (150, Heads { H: 2, G: 1, D: 10 }, 61);
    for dev in devices(2) {
        let g = &mut Gen::new(0);
        let qkv = g.normals::<f32>(T * heads.qkv(), 1.0);
        let mut d_o = g.normals::<f32>(T * heads.out(), 1.0);
        d_o[(t + 1) * heads.out()..].fill(0.0);
        let (o, lse) = run(&dev, &qkv, heads, T);
        let dqkv = run_backward(&dev, &d_o, &qkv, (&o, &lse), heads, T);
        let (before, after) = dqkv.split_at((t + 1) * heads.qkv());
        assert!(after.iter().all(|&x| x == 0.0), "{}", dev.describe());
        assert!(before[t * heads.qkv()..].iter().all(|&x| x != 0.0), "{}", dev.describe());
    }
}

#[test]
fn nan_and_infinity_in_a_row_of_scores_stay() {
    let (T, heads) = (100, Heads { H: 1, G: 1, D: 4 });
    for dev in devices(2) {
        for (at, bad) in (0..T).flat_map(|t| [(t, f32::NAN), (t, f32::INFINITY)]) {
            let mut qkv = vec![1f32; T * heads.qkv()];
            qkv[at * heads.qkv() + 5] = bad; // a key: every later query sees it
            let (o, lse) = run(&dev, &qkv, heads, T);
            for t in 0..T {
                let (finite, seen) = (o[t * 4].is_finite() && lse[t].is_finite(), at <= t);
                assert_eq!(finite, !seen, "{}: {bad} at {at}, query {t}", dev.describe());
            }
        }
    }
}
