use crate::check::wide;
use crate::check::{Gen, Output, agree, agree_on_gpus, central_differences, devices, dot, narrow};
use crate::check::{bounds, notice, notice_on_gpus, on_the_way, put, same_bits, sum_bound, take};
use engine::ops::attention::{Heads, backward, decode, forward, reference};
use engine::{Buf, Device, Element, Real, Segment, Segments, bf16};
use ndarray::{Array3, ArrayView3, s};

/// Lengths of the segments; H, G, D.
type Shape = (&'static [usize], usize, usize, usize);
/// Equal lengths: around one and two blocks of queries and keys, and long enough to be cut into
/// tasks, of whole blocks and not.
const SHAPES: [Shape; 14] = [
    (&[1], 1, 1, 2),
    (&[1, 1], 4, 2, 10),
    (&[7, 7, 7], 2, 2, 12),
    (&[47], 4, 1, 10),
    (&[48, 48], 2, 1, 48),
    (&[49], 4, 2, 12),
    (&[96], 2, 2, 64),
    (&[97, 97], 4, 1, 80),
    (&[200], 2, 1, 128),
    (&[200], 4, 4, 2),
    (&[192, 192], 2, 1, 16),
    (&[384], 1, 1, 6),
    (&[401], 2, 1, 10),
    (&[518], 1, 1, 6),
];
/// Other lengths: single tokens, odd ones, edges of blocks of both passes, segments that are cut
/// beside some that are not.
const PACKED: [Shape; 7] = [
    (&[1, 2, 1], 1, 1, 2),
    (&[7, 1, 24, 25], 4, 2, 12),
    (&[48, 1, 97, 31], 2, 1, 64),
    (&[191, 3, 193], 2, 2, 10),
    (&[5, 512, 3, 1], 1, 1, 6),
    (&[256, 100, 256], 1, 1, 16),
    (&[3, 130, 33], 2, 1, 128),
];

fn heads((_, H, G, D): Shape) -> Heads {
    Heads { H, G, D }
}

fn segments((lengths, ..): Shape) -> Segments {
    Segments::of_lengths(lengths.iter().copied())
}

fn cube<E: Element>(x: &[E], D: usize, row: usize) -> Array3<f64> {
    Array3::from_shape_vec((x.len() / row, row / D, D), wide(x)).unwrap()
}

/// Scores of query `i` of head `h` in segment `s` against the keys up to it.
fn scores<E: Element>(qkv: &[E], heads: Heads, s: &Segment, h: usize, i: usize) -> Vec<E::Acc> {
    let (Heads { H, G, D }, S) = (heads, heads.qkv());
    let scale = E::Acc::from_f64((D as f64).powf(-0.5));
    let (q, k) = ((s.offset + i) * S + h * D, (H + h / (H / G)) * D);
    (0..=i)
        .map(|j| {
            let key = (s.offset + j) * S + k;
            (0..D).map(|d| qkv[q + d].to_acc() * qkv[key + d].to_acc()).sum::<E::Acc>() * scale
        })
        .collect()
}

/// (segment, h, i) of every query.
fn queries(segments: &Segments, H: usize) -> impl Iterator<Item = (Segment, usize, usize)> {
    let of = move |s: &Segment| {
        let s = *s;
        (0..H * s.len).map(move |n| (s, n / s.len, n % s.len))
    };
    segments.list().iter().flat_map(of)
}

fn plain_forward<E: Element>(
    qkv: &[E],
    segments: &Segments,
    heads: Heads,
) -> (Vec<E>, Vec<E::Acc>) {
    let (Heads { H, G, D }, S, N) = (heads, heads.qkv(), segments.rows());
    let mut o = vec![E::default(); N * H * D];
    let mut lse = vec![E::Acc::ZERO; N * H];
    for (of, h, i) in queries(segments, H) {
        let s = scores(qkv, heads, &of, h, i);
        let max = s.iter().fold(E::Acc::NEG_INFINITY, |a, &b| if a > b { a } else { b });
        let e: Vec<E::Acc> = s.iter().map(|&s| (s - max).exp()).collect();
        let sum: E::Acc = e.iter().copied().sum();
        let n = (of.offset + i) * H + h;
        lse[n] = max + sum.ln();
        for d in 0..D {
            let v = |j: usize| qkv[(of.offset + j) * S + (H + G + h / (H / G)) * D + d].to_acc();
            let total: E::Acc = (0..=i).map(|j| e[j] * v(j)).sum();
            o[n * D + d] = E::from_acc(total / sum);
        }
    }
    (o, lse)
}

fn plain_backward<E: Element>(
    d_o: &[E],
    qkv: &[E],
    o: &[E],
    lse: &[E::Acc],
    segments: &Segments,
    heads: Heads,
) -> Vec<E> {
    let (Heads { H, G, D }, S) = (heads, heads.qkv());
    let scale = E::Acc::from_f64((D as f64).powf(-0.5));
    let mut dqkv = vec![E::Acc::ZERO; qkv.len()];
    for (of, h, i) in queries(segments, H) {
        let n = (of.offset + i) * H + h;
        let (query, out) = ((of.offset + i) * S + h * D, n * D);
        let product = |d: usize| o[out + d].to_acc() * d_o[out + d].to_acc();
        let delta: E::Acc = (0..D).map(product).sum();
        for (j, s) in scores(qkv, heads, &of, h, i).into_iter().enumerate() {
            let key = (of.offset + j) * S + (H + h / (H / G)) * D;
            let value = key + G * D;
            let p = (s - lse[n]).exp();
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
fn run<E: Element>(
    dev: &Device,
    qkv: &[E],
    segments: &Segments,
    heads: Heads,
) -> (Vec<E>, Vec<E::Acc>) {
    let N = segments.rows();
    let (mut o, mut lse) = (Buf::zeros(dev, N * heads.out()), Buf::zeros(dev, N * heads.H));
    forward(dev, o.view_mut(), lse.view_mut(), put(dev, qkv).view(), segments, heads);
    (take(o), take(lse))
}

fn run_backward<E: Element>(
    dev: &Device,
    d_o: &[E],
    qkv: &[E],
    (o, lse): (&[E], &[E::Acc]),
    segments: &Segments,
    heads: Heads,
) -> Vec<E> {
    let mut dqkv = Buf::zeros(dev, qkv.len());
    let [d_o, qkv, o] = [d_o, qkv, o].map(|values| put(dev, values));
    let lse = put(dev, lse);
    let to = dqkv.view_mut();
    backward(dev, to, d_o.view(), qkv.view(), o.view(), lse.view(), segments, heads);
    take(dqkv)
}

fn case<E: Element>(dev: &Device, g: &mut Gen, shape: Shape) -> Vec<Output> {
    let (heads, segments) = (heads(shape), segments(shape));
    let (N, D) = (segments.rows(), heads.D);
    // Deviation 1.5: scores are wide enough for the running maximum to move.
    let qkv = g.normals::<E>(N * heads.qkv(), 1.5);
    let d_o = g.normals::<E>(N * heads.out(), 1.0);
    let (o, lse) = run(dev, &qkv, &segments, heads);
    let (o_plain, lse_plain) = plain_forward(&qkv, &segments, heads);

    let exact_qkv = cube(&qkv, D, heads.qkv());
    let (exact_o, exact_lse) = reference::forward(exact_qkv.view(), &segments, heads);
    let (cached_o, cached_lse): (Vec<E>, Vec<E::Acc>) = (
        exact_o.iter().map(|&x| narrow(x)).collect(),
        exact_lse.iter().map(|&x| narrow(x)).collect(),
    );
    let dqkv = run_backward(dev, &d_o, &qkv, (&cached_o, &cached_lse), &segments, heads);
    let dqkv_plain = plain_backward(&d_o, &qkv, &cached_o, &cached_lse, &segments, heads);
    let exact_d_o = cube(&d_o, D, heads.out());
    let exact_dqkv = reference::backward(exact_d_o.view(), exact_qkv.view(), &segments, heads);
    let o = Output::new("attention o", &o, &o_plain, exact_o);
    let lse = Output::new("attention lse", &lse, &lse_plain, exact_lse);
    let dqkv = Output::new("attention dqkv", &dqkv, &dqkv_plain, exact_dqkv);
    if let Device::Cpu(_) = dev {
        return vec![o, lse, dqkv];
    }
    let sizes = Sizes::of(&wide(&d_o), &wide(&qkv), &segments, heads);
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
    heads: Heads,
    /// Tokens of the longest segment.
    T: usize,
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
    fn of(d_o: &[f64], qkv: &[f64], segments: &Segments, heads: Heads) -> Sizes {
        let (Heads { H, G, D }, S) = (heads, heads.qkv());
        let scale = (D as f64).powf(-0.5);
        // Where a query, a key, its value and the query's dO begin.
        let pair = |s: &Segment, h: usize, i: usize, j: usize| {
            let (n, key) = (s.offset + i, (s.offset + j) * S + (H + h / (H / G)) * D);
            (n * S + h * D, key, key + G * D, (n * H + h) * D)
        };
        let of = |(s, h, i): (Segment, usize, usize)| (0..s.len).map(move |j| pair(&s, h, i, j));
        let pairs: Vec<_> = queries(segments, H).flat_map(of).collect();
        let product = |cell: usize, d| qkv[pairs[cell].0 + d] * qkv[pairs[cell].1 + d];
        let largest_score = on_the_way(pairs.len(), D, product);
        let product = |cell: usize, d| d_o[pairs[cell].3 + d] * qkv[pairs[cell].2 + d];
        let dp = on_the_way(pairs.len(), D, product);
        let of_values = |n: usize| qkv[n * S + (H + G) * D..(n + 1) * S].iter();
        let values = (0..segments.rows()).flat_map(of_values).fold(0.0, |a: f64, v| a.max(v.abs()));
        let (mut terms, mut weights) = (vec![0.0; qkv.len()], vec![0.0; qkv.len()]);
        for (of, h, i) in queries(segments, H) {
            let s = scores::<f64>(qkv, heads, &of, h, i);
            let max = s.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
            let sum: f64 = s.iter().map(|s| (s - max).exp()).sum();
            let p: Vec<f64> = s.iter().map(|s| (s - max).exp() / sum).collect();
            let at = |j: usize| pair(&of, h, i, j);
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
        let T = segments.list().iter().map(|s| s.len).max().unwrap();
        Sizes { heads, T, scores: largest_score, dp, values, terms, weights }
    }

    /// Of one e^x, relative.
    fn of_power<E: Element>(&self, capability: u32) -> f64 {
        let (T, D) = (self.T, self.heads.D);
        let score = sum_bound::<E>(capability, D, self.scores) * (D as f64).powf(-0.5);
        score + bounds::EX2 + bounds::LAST_BIT * (1.0 + (T as f64).ln())
    }

    /// Of a weight where the maximum is found on the way, relative.
    fn of_weight<E: Element>(&self, capability: u32) -> f64 {
        let moves = self.T.div_ceil(32) as f64;
        self.of_power::<E>(capability) + moves * bounds::EX2
    }

    fn of_o<E: Element>(&self, capability: u32) -> f64 {
        let T = self.T;
        // Weights change, so the mean of values moves between them.
        let by_weights = 2.0 * self.of_weight::<E>(capability) * self.values;
        by_weights
            + bounds::RCP * self.values
            + sum_bound::<E>(capability, T, T as f64 * self.values)
    }

    fn of_lse<E: Element>(&self, capability: u32) -> f64 {
        let T = self.T;
        self.of_weight::<E>(capability) + 2f64.ln() * bounds::lg2((T as f64).log2())
    }

    fn of_dqkv<E: Element>(&self, capability: u32) -> f64 {
        let (T, Heads { H, G, D }) = (self.T, self.heads);
        let of_dp = sum_bound::<E>(capability, D, self.dp) * self.weights;
        let sums = sum_bound::<E>(capability, T * H / G, self.terms);
        self.of_power::<E>(capability) * self.terms + of_dp + sums
    }
}

/// Scores of hundreds: those of some queries are too far above their own key's to start from it.
fn steep_case<E: Element>(dev: &Device, g: &mut Gen, shape: Shape) -> Vec<Output> {
    let (heads, segments) = (heads(shape), segments(shape));
    let qkv = g.normals::<E>(segments.rows() * heads.qkv(), 8.0);
    let far = queries(&segments, heads.H).filter(|(of, h, i)| {
        let s = scores(&qkv, heads, of, *h, *i);
        let top = s.iter().fold(0.0, |top: f64, s| top.max(s.to_f64()));
        top - s[*i].to_f64() > 90.0
    });
    assert!(far.count() > segments.rows() * heads.H / 8, "the case is not steep");
    let (o, lse) = run(dev, &qkv, &segments, heads);
    let (o_plain, lse_plain) = plain_forward(&qkv, &segments, heads);
    let exact = cube(&qkv, heads.D, heads.qkv());
    let (exact_o, exact_lse) = reference::forward(exact.view(), &segments, heads);
    vec![
        Output::new("attention steep o", &o, &o_plain, exact_o),
        Output::new("attention steep lse", &lse, &lse_plain, exact_lse),
    ]
}

/// One key that every query after it looks at, and at nothing else: a largest score that is missed
/// makes the weights infinite. Forward, and decoding of the last token and of the last ten of one
/// sequence.
fn peaked_case<E: Element>(dev: &Device, g: &mut Gen, (shape, at): (Shape, usize)) -> Vec<Output> {
    let ((lengths, H, G, D), heads) = (shape, heads(shape));
    let (T, S, whole) = (lengths[0], heads.qkv(), segments(shape));
    let mut qkv = g.normals::<E>(T * S, 1.0);
    for row in qkv.chunks_mut(S) {
        (0..H).for_each(|h| row[h * D] = narrow(4.0));
    }
    for key in qkv[at * S + H * D..][..G * D].chunks_mut(D) {
        key.fill(narrow(0.0));
        key[0] = narrow(50.0 * (D as f64).sqrt());
    }
    let (o, lse) = run(dev, &qkv, &whole, heads);
    let (o_plain, lse_plain) = plain_forward(&qkv, &whole, heads);
    let (exact_o, exact_lse) = reference::forward(cube(&qkv, D, S).view(), &whole, heads);
    let mut outputs = vec![];
    for new in [1, 10.min(T)] {
        let past = qkv.chunks(S).take(T - new).flat_map(|row| row[H * D..].iter().copied());
        let mut kept: Vec<E> = past.collect();
        kept.resize(T * heads.kv(), narrow(f64::NAN));
        let (mut kept, q) = (put(dev, &kept), put(dev, &qkv[(T - new) * S..]));
        let (mut to, mut last) = (Buf::zeros(dev, new * H * D), Segments::default());
        last.push(new, T - new);
        decode(dev, to.view_mut(), kept.view_mut(), q.view(), &last, &[0], heads, T);
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
    let short = places.map(|at| ((&[97][..], 2, 1, 12), at));
    let long = [0, 63, 64, 127, 128, 190, 191, 192, 193, 198].map(|at| ((&[199][..], 4, 2, 6), at));
    let many_heads = [0, 63, 64, 69].map(|at| ((&[70][..], 20, 4, 48), at));
    [&short[..], &long, &many_heads].concat()
}

const STEEP: [Shape; 2] = [(&[100], 2, 1, 12), (&[200], 1, 1, 64)];

/// Sequences with tokens before the new ones, and new ones; H, G, D.
type Decoded = (&'static [(usize, usize)], usize, usize, usize);

/// Sequences' rows of qkv, the new tokens of all, and outputs of those by `decode`, against slots
/// that are NaN where no earlier token is. Slots are taken from the last one on.
fn decoded<E: Element>(
    dev: &Device,
    g: &mut Gen,
    (sequences, H, G, D): Decoded,
) -> (Vec<Vec<E>>, Vec<E>) {
    let heads = Heads { H, G, D };
    let S = heads.qkv();
    let of = |&(past, new): &(usize, usize)| g.normals::<E>((past + new) * S, 1.5);
    let all: Vec<Vec<E>> = sequences.iter().map(of).collect();
    let capacity = sequences.iter().map(|(past, new)| past + new).max().unwrap() + 5;
    let mut kept = vec![narrow::<E>(f64::NAN); (sequences.len() + 1) * capacity * heads.kv()];
    let (mut segments, mut qkv, mut slots) = (Segments::default(), Vec::new(), Vec::new());
    for (i, (&(past, new), rows)) in sequences.iter().zip(&all).enumerate() {
        segments.push(new, past);
        slots.push(sequences.len() - i);
        let slot = kept[slots[i] * capacity * heads.kv()..].chunks_mut(heads.kv());
        slot.zip(rows.chunks(S).take(past)).for_each(|(to, row)| {
            to.copy_from_slice(&row[heads.out()..]);
        });
        qkv.extend(&rows[past * S..]);
    }
    let mut o = Buf::zeros(dev, segments.rows() * heads.out());
    let (mut kept, qkv) = (put(dev, &kept), put(dev, &qkv));
    let (to, kept_to) = (o.view_mut(), kept.view_mut());
    decode(dev, to, kept_to, qkv.view(), &segments, &slots, heads, capacity);
    let kept = take(kept);
    for (slot, rows) in slots.iter().zip(&all) {
        let slot = kept[slot * capacity * heads.kv()..].chunks(heads.kv());
        for (kept, row) in slot.zip(rows.chunks(S)) {
            assert!(*kept == row[heads.out()..], "new keys and values are kept");
        }
    }
    (all, take(o))
}

fn decode_case<E: Element>(dev: &Device, g: &mut Gen, shape: Decoded) -> Vec<Output> {
    let (sequences, H, G, D) = shape;
    let heads = Heads { H, G, D };
    let (all, o) = decoded::<E>(dev, g, shape);
    let (mut plain, mut exact) = (Vec::new(), Vec::new());
    for (&(past, new), qkv) in sequences.iter().zip(&all) {
        let whole = Segments::equal(1, past + new);
        plain.extend(&plain_forward(qkv, &whole, heads).0[past * H * D..]);
        let (o, _) = reference::forward(cube(qkv, D, heads.qkv()).view(), &whole, heads);
        exact.extend(o.slice(s![past.., .., ..]).iter());
    }
    let o = Output::new("attention decode", &o, &plain, exact);
    // Decoding sums on ordinary cores, and its reciprocal is rounded. The maximum moves at most every
    // fourth key of 16 groups or more; groups are joined at most 6 times.
    let longest = sequences.iter().map(|(past, new)| past + new).max().unwrap();
    let values = all.iter().flat_map(|qkv| wide(qkv)).fold(0.0, |a: f64, v| a.max(v.abs()));
    let powers = (1 + longest.div_ceil(64) + 6) as f64;
    let of_power = powers * bounds::EX2 + bounds::LAST_BIT * (1.0 + (longest as f64).ln());
    vec![o.allowing(dev, |_| 2.0 * of_power * values)]
}

/// One token alone, with its keys below, at and beyond whole tasks of 64; several; and several
/// sequences, of one token and of more.
const DECODED: [Decoded; 13] = [
    (&[(0, 1)], 2, 1, 10),
    (&[(99, 1)], 4, 2, 12),
    (&[(63, 1)], 2, 2, 64),
    (&[(64, 1)], 6, 2, 80),
    (&[(69, 1)], 20, 4, 48),
    (&[(199, 1)], 4, 4, 128),
    (&[(95, 2)], 2, 2, 48),
    (&[(100, 50)], 4, 1, 64),
    (&[(0, 200)], 2, 1, 2),
    (&[(33, 97)], 2, 1, 80),
    (&[(64, 1), (0, 1), (130, 1), (63, 1)], 4, 2, 64),
    (&[(5, 140), (70, 1), (0, 2), (0, 1)], 2, 1, 16),
    (&[(1, 2), (0, 3), (128, 129)], 2, 2, 10),
];

#[test]
fn reference_backward_against_central_differences() {
    let shape: Shape = (&[3, 1, 2], 4, 2, 2);
    let (heads, segments, D) = (heads(shape), &segments(shape), 2);
    let g = &mut Gen::new(0);
    let qkv = g.normals::<f64>(6 * heads.qkv(), 1.0);
    let d_o = g.normals::<f64>(6 * heads.out(), 1.0);
    let view = |x: &[f64]| cube(x, D, heads.qkv());
    let exact_d_o = cube(&d_o, D, heads.out());
    let grad = reference::backward(exact_d_o.view(), view(&qkv).view(), segments, heads);
    central_differences("dqkv", &qkv, grad, |qkv| {
        let qkv: ArrayView3<f64> = ArrayView3::from_shape((6, heads.qkv() / D, D), qkv).unwrap();
        dot(&reference::forward(qkv, segments, heads).0, &d_o)
    });
}

#[test]
fn cpu_against_reference_f64() {
    agree(&SHAPES, case::<f64>);
    agree(&PACKED, case::<f64>);
    agree(&STEEP, steep_case::<f64>);
    agree(&DECODED, decode_case::<f64>);
}

#[test]
fn cpu_against_reference_f32() {
    agree(&SHAPES, case::<f32>);
    agree(&PACKED, case::<f32>);
    agree(&STEEP, steep_case::<f32>);
    agree(&DECODED, decode_case::<f32>);
}

#[test]
fn cpu_against_reference_bf16() {
    agree(&SHAPES, case::<bf16>);
    agree(&PACKED, case::<bf16>);
    agree(&STEEP, steep_case::<bf16>);
    agree(&DECODED, decode_case::<bf16>);
}

#[test]
fn gpu_against_reference() {
    for shapes in [&SHAPES[..], &PACKED] {
        agree_on_gpus(shapes, case::<f32>);
        agree_on_gpus(shapes, case::<bf16>);
    }
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
    let places = [0, 31, 32, 63, 64, 127, 128, 129].map(|at| ((&[130][..], 2, 1, 12), at));
    agree_on_gpus(&places, peaked_case::<f32>);
    agree_on_gpus(&places, peaked_case::<bf16>);
    agree_on_gpus(
        &[((&[70][..], 2, 1, 64), 69), ((&[70][..], 2, 1, 128), 33)],
        peaked_case::<bf16>,
    );
}

#[test]
fn planted_errors_are_noticed() {
    for shape in [SHAPES[5], PACKED[1]] {
        notice(shape, case::<f32>);
        notice(shape, case::<bf16>);
        notice_on_gpus(shape, case::<f32>);
        notice_on_gpus(shape, case::<bf16>);
    }
    for shape in [DECODED[1], DECODED[10]] {
        notice(shape, decode_case::<f32>);
        notice(shape, decode_case::<bf16>);
        notice_on_gpus(shape, decode_case::<f32>);
        notice_on_gpus(shape, decode_case::<bf16>);
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    let shapes: [Shape; 2] = [(&[256, 256], 2, 1, 8), (&[9, 512, 100], 2, 1, 8)];
    for shape in shapes {
        same_bits(shape, case::<f32>);
        same_bits(shape, case::<bf16>);
    }
    for shape in [DECODED[5], DECODED[7], DECODED[11]] {
        same_bits(shape, decode_case::<f32>);
        same_bits(shape, decode_case::<bf16>);
    }
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
    let whole = &Segments::equal(1, T);
    for dev in devices(2) {
        let g = &mut Gen::new(0);
        let qkv = g.normals::<f32>(T * heads.qkv(), 1.0);
        let (o, lse) = run(&dev, &qkv, whole, heads);
        for t in [0, 1, 46, 47, 48, 95, 96, 150, 198] {
            let (other_o, other_lse) = run(&dev, &disturb(&qkv, heads, t + 1, -3.0), whole, heads);
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
    let whole = &Segments::equal(1, T);
    for dev in devices(2) {
        let g = &mut Gen::new(0);
        let qkv = g.normals::<f32>(T * heads.qkv(), 1.0);
        let d_o = g.normals::<f32>(T * heads.out(), 1.0);
        let (o, lse) = run(&dev, &qkv, whole, heads);
        let dqkv = run_backward(&dev, &d_o, &qkv, (&o, &lse), whole, heads);
        // Queries below 48 are one block; the widest vectors pad its keys to 64.
        let other = disturb(&qkv, heads, 64, f32::NAN);
        let (other_o, _) = run(&dev, &other, whole, heads);
        let other_dqkv = run_backward(&dev, &d_o, &other, (&o, &lse), whole, heads);
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
    let whole = &Segments::equal(1, T);
    for dev in devices(2) {
        let g = &mut Gen::new(0);
        let qkv = g.normals::<f32>(T * heads.qkv(), 1.0);
        let mut d_o = g.normals::<f32>(T * heads.out(), 1.0);
        d_o[(t + 1) * heads.out()..].fill(0.0);
        let (o, lse) = run(&dev, &qkv, whole, heads);
        let dqkv = run_backward(&dev, &d_o, &qkv, (&o, &lse), whole, heads);
        let (before, after) = dqkv.split_at((t + 1) * heads.qkv());
        assert!(after.iter().all(|&x| x == 0.0), "{}", dev.describe());
        assert!(before[t * heads.qkv()..].iter().all(|&x| x != 0.0), "{}", dev.describe());
    }
}

#[test]
fn nan_and_infinity_in_a_row_of_scores_stay() {
    let (T, heads) = (100, Heads { H: 1, G: 1, D: 4 });
    let whole = &Segments::equal(1, T);
    for dev in devices(2) {
        for (at, bad) in (0..T).flat_map(|t| [(t, f32::NAN), (t, f32::INFINITY)]) {
            let mut qkv = vec![1f32; T * heads.qkv()];
            qkv[at * heads.qkv() + 5] = bad; // a key: every later query sees it
            let (o, lse) = run(&dev, &qkv, whole, heads);
            for t in 0..T {
                let (finite, seen) = (o[t * 4].is_finite() && lse[t].is_finite(), at <= t);
                assert_eq!(finite, !seen, "{}: {bad} at {at}, query {t}", dev.describe());
            }
        }
    }
}

/// Whatever stands beside a segment: not for the same work cut elsewhere, nor for NaN next door.
#[test]
fn a_segment_gives_the_same_bits_alone_and_beside_others() {
    fn check<E: Element>() {
        let shape: Shape = (&[1, 7, 48, 3, 97, 200, 1], 4, 2, 12);
        let (heads, packed) = (heads(shape), &segments(shape));
        for dev in devices(2) {
            let g = &mut Gen::new(0);
            let qkv = g.normals::<E>(packed.rows() * heads.qkv(), 1.0);
            let d_o = g.normals::<E>(packed.rows() * heads.out(), 1.0);
            let (o, lse) = run(&dev, &qkv, packed, heads);
            let dqkv = run_backward(&dev, &d_o, &qkv, (&o, &lse), packed, heads);
            for s in packed.list() {
                let part = |x: &[E], row: usize| x[s.offset * row..s.end() * row].to_vec();
                let (mut bad, mut bad_d_o) = (qkv.clone(), d_o.clone());
                for (n, row) in bad.chunks_mut(heads.qkv()).enumerate() {
                    if !(s.offset..s.end()).contains(&n) {
                        row.fill(narrow(f64::NAN));
                        bad_d_o[n * heads.out()..][..heads.out()].fill(narrow(f64::NAN));
                    }
                }
                let (bad_o, bad_lse) = run(&dev, &bad, packed, heads);
                let saved = (&bad_o[..], &bad_lse[..]);
                let bad_dqkv = run_backward(&dev, &bad_d_o, &bad, saved, packed, heads);
                let alone = &Segments::equal(1, s.len);
                let (qkv, d_o) = (part(&qkv, heads.qkv()), part(&d_o, heads.out()));
                let (own_o, own_lse) = run(&dev, &qkv, alone, heads);
                let own = run_backward(&dev, &d_o, &qkv, (&own_o, &own_lse), alone, heads);
                let place = format!("{}, {} rows from {}", dev.describe(), s.len, s.offset);
                for (o, dqkv) in [(&o, &dqkv), (&bad_o, &bad_dqkv)] {
                    assert!(part(o, heads.out()) == own_o, "{place}: o");
                    assert!(part(dqkv, heads.qkv()) == own, "{place}: dqkv");
                }
                let rows = s.offset * heads.H..s.end() * heads.H;
                assert!(lse[rows.clone()] == own_lse && bad_lse[rows] == own_lse, "{place}: lse");
            }
        }
    }
    check::<f32>();
    check::<bf16>();
}

#[test]
fn a_sequence_is_decoded_to_the_same_bits_beside_any_others() {
    fn check<E: Element>() {
        let sequences: &[(usize, usize)] = &[(64, 1), (0, 1), (130, 1), (3, 7), (63, 1), (5, 140)];
        let (H, G, D) = (4, 2, 48);
        for dev in devices(2) {
            let (all, o) = decoded::<E>(&dev, &mut Gen::new(3), (sequences, H, G, D));
            let mut row = 0;
            for (i, &(past, new)) in sequences.iter().enumerate() {
                let heads = Heads { H, G, D };
                let mut kept = Buf::<E>::zeros(&dev, (past + new) * heads.kv());
                let (before, after) = all[i].split_at(past * heads.qkv());
                let rows = before.chunks(heads.qkv()).flat_map(|row| &row[heads.out()..]);
                let rows: Vec<E> = rows.copied().collect();
                kept.rows_mut(past, heads.kv()).write(&rows);
                let (mut alone, mut to) = (Segments::default(), Buf::zeros(&dev, new * H * D));
                alone.push(new, past);
                let (kept, qkv) = (kept.view_mut(), put(&dev, after));
                decode(&dev, to.view_mut(), kept, qkv.view(), &alone, &[0], heads, past + new);
                let beside = &o[row * H * D..][..new * H * D];
                assert!(beside == take(to), "{}: {past} and {new}", dev.describe());
                row += new;
            }
        }
    }
    check::<f32>();
    check::<bf16>();
}
