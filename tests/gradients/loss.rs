use crate::check::{Gen, Output, agree, agree_on_gpus, central_differences, everywhere, matrix};
use crate::check::{bounds, narrow, notice, notice_on_gpus, on_the_way, put, rows_of, same_bits};
use crate::check::{sum_bound, take, wide};
use engine::ops::loss::reference;
use engine::ops::loss::{IGNORE, Logits, Loss, Sum, chunk_rows, forward, forward_backward, weight};
use engine::{Buf, Device, Dtype, Element, Real, bf16};

/// (N, C, V). On a GPU dx of the widest is summed in parts; the last has more rows than a chunk of
/// the CPU's.
type Shape = (usize, usize, usize);
const SHAPES: [Shape; 13] = [
    (1, 1, 1),
    (1, 3, 2),
    (2, 7, 15),
    (9, 16, 16),
    (17, 33, 17),
    (9, 64, 61),
    (8, 64, 257),
    (12, 24, 509),
    (63, 12, 1000),
    (5, 340, 31),
    (40, 16, 2309),
    (300, 3, 16_411),
    (521, 2, 16_411),
];

#[test]
fn the_largest_shape_has_more_rows_than_a_chunk() {
    let (N, _, V) = SHAPES[SHAPES.len() - 1];
    assert!(chunk_rows::<f32>(&Device::cpu(1).unwrap(), N, V) < N);
}

const SCALE: f64 = 0.037;

/// What a batch's rows should be.
#[derive(Clone, Copy)]
struct Targets<'a> {
    targets: &'a [i32],
    weights: Option<&'a [f32]>,
}

impl Targets<'_> {
    fn weight(&self, n: usize) -> f64 {
        self.weights.map_or(1.0, |weights| weights[n].into())
    }
}

/// Without weights.
fn all_alike(targets: &[i32]) -> Targets<'_> {
    Targets { targets, weights: None }
}

struct Plain<E: Element> {
    nats: Vec<E::Acc>,
    dx: Vec<E>,
    dw: Vec<E::Acc>,
}

/// `logits` is how a logit is stored.
fn plain<E: Element>(
    dw: &[E::Acc],
    x: &[E],
    w: &[E],
    of: Targets,
    C: usize,
    logits: fn(E::Acc) -> E::Acc,
) -> Plain<E> {
    let (V, nats) = (w.len() / C, vec![E::Acc::ZERO; of.targets.len()]);
    let mut p = Plain { nats, dx: vec![E::default(); x.len()], dw: dw.to_vec() };
    for (n, &target) in of.targets.iter().enumerate().filter(|&(_, &t)| t != IGNORE) {
        let x = &x[n * C..][..C];
        let mut l: Vec<E::Acc> = w
            .chunks(C)
            .map(|w| logits(w.iter().zip(x).map(|(w, x)| w.to_acc() * x.to_acc()).sum()))
            .collect();
        let max = l.iter().fold(E::Acc::NEG_INFINITY, |a, &b| if a > b { a } else { b });
        let at_target = l[target as usize];
        l.iter_mut().for_each(|l| *l = (*l - max).exp());
        let sum: E::Acc = l.iter().copied().sum();
        p.nats[n] = sum.ln() + max - at_target;
        let scale = E::Acc::from_f64(SCALE) * E::Acc::from_f64(of.weight(n));
        let mut dx = vec![E::Acc::ZERO; C];
        for v in 0..V {
            let hit = if v == target as usize { E::Acc::ONE } else { E::Acc::ZERO };
            // Stored, as the logits' gradient is.
            let dlogit = E::from_acc(scale * (l[v] / sum - hit)).to_acc();
            for c in 0..C {
                dx[c] += dlogit * w[v * C + c].to_acc();
                p.dw[v * C + c] += dlogit * x[c].to_acc();
            }
        }
        p.dx[n * C..][..C].iter_mut().zip(dx).for_each(|(to, dx)| *to = E::from_acc(dx));
    }
    p
}

/// What the engine makes of a batch.
#[derive(Debug, PartialEq)]
struct Ran<E: Element> {
    loss: Loss,
    nats: Vec<E::Acc>,
    largest: Vec<i32>,
    dx: Vec<E>,
    dw: Vec<E::Acc>,
}

/// By the engine, dw on top of `dw`, in chunks of a third of the rows.
fn run<E: Element>(
    dev: &Device,
    dw: &[E::Acc],
    x: &[E],
    w: &[E],
    Targets { targets, weights }: Targets,
    C: usize,
) -> Ran<E> {
    let (N, V) = (targets.len(), w.len() / C);
    let [mut dx, x, w] = [x, x, w].map(|values| put(dev, values));
    let mut dw = put(dev, dw);
    let mut logits = Logits::<E>::of_rows(dev, N.div_ceil(3), V);
    logits.poison();
    let [mut nats, mut nats_alone] = [(); 2].map(|()| Buf::<E::Acc>::zeros(dev, N));
    let [mut ids, mut ids_alone] = [(); 2].map(|()| Buf::<i32>::zeros(dev, N));
    let (x, w, scale, largest) = (x.view(), w.view(), SCALE, Some(ids.view_mut()));
    let (dx_to, dw_to, room) = (dx.view_mut(), dw.view_mut(), &mut logits);
    let nats_to = nats.view_mut();
    forward_backward(
        dev,
        nats_to,
        largest,
        dx_to,
        Some(dw_to),
        room,
        x,
        w,
        targets,
        weights,
        scale,
        C,
    );
    let (nats_to, largest) = (nats_alone.view_mut(), Some(ids_alone.view_mut()));
    forward(dev, nats_to, largest, &mut logits, x, w, targets, C);
    let mut sum = Sum::new(dev);
    sum.add(dev, nats.view(), targets, weights);
    let read = |ids: Buf<i32>| ids.view().read().unwrap().into_owned();
    let (ids, ids_alone) = (read(ids), read(ids_alone));
    let (nats, nats_alone) = (take(nats), take(nats_alone));
    let bits = |nats: &[E::Acc]| nats.iter().map(|x| x.to_f64().to_bits()).collect::<Vec<_>>();
    assert!(bits(&nats) == bits(&nats_alone) && ids == ids_alone, "forward differs");
    Ran { loss: sum.read().unwrap(), nats, largest: ids, dx: take(dx), dw: take(dw) }
}

fn inputs<E: Element>(g: &mut Gen, (N, C, V): Shape) -> (Vec<E>, Vec<E>, Vec<i32>) {
    let (x, w) = (g.normals::<E>(N * C, 1.0), g.normals::<E>(V * C, 2.0 / (C as f64).sqrt()));
    // Every fourth target of a batch does not count.
    let targets = (0..N).map(|n| if n % 4 == 3 { IGNORE } else { g.below(V) as i32 }).collect();
    (x, w, targets)
}

fn case<E: Element>(dev: &Device, g: &mut Gen, shape: Shape) -> Vec<Output> {
    let (x, w, targets) = inputs::<E>(g, shape);
    outputs(dev, g, &x, &w, all_alike(&targets), shape.1)
}

/// Weights of all kinds: none, one, several, less than nothing.
fn weighted_case<E: Element>(dev: &Device, g: &mut Gen, shape: Shape) -> Vec<Output> {
    let (x, w, targets) = inputs::<E>(g, shape);
    let kinds = [2.0, 0.0, 1.0, -0.75, g.normal() as f32];
    let weights: Vec<f32> = (0..targets.len()).map(|n| kinds[n % kinds.len()]).collect();
    outputs(dev, g, &x, &w, Targets { targets: &targets, weights: Some(&weights) }, shape.1)
}

/// One logit of 300 at `place`, once as the target and once not: a largest logit that is missed makes
/// the sum of exponentials infinite.
fn peaked_case<E: Element>(dev: &Device, g: &mut Gen, (V, place): (usize, usize)) -> Vec<Output> {
    let mut w = g.normals::<E>(V, 1.0);
    w[place] = narrow(300.0);
    let (x, targets) = ([narrow(1.0); 2], [place as i32, ((place + 1) % V) as i32]);
    let found = run(dev, &vec![E::Acc::ZERO; V], &x, &w, all_alike(&targets), 1).largest;
    assert_eq!(found, [place as i32; 2], "{}: of {V}", dev.describe());
    outputs(dev, g, &x, &w, all_alike(&targets), 1)
}

fn outputs<E: Element>(
    dev: &Device,
    g: &mut Gen,
    x: &[E],
    w: &[E],
    of: Targets,
    C: usize,
) -> Vec<Output> {
    let start = g.normals::<E::Acc>(w.len(), SCALE);
    let ran = run(dev, &start, x, w, of, C);
    sums(dev, &ran, of);

    // A GPU keeps logits as it keeps activations.
    let logits: fn(E::Acc) -> E::Acc = match dev {
        Device::Cpu(_) => |logit| logit,
        Device::Cuda(_) => |logit| E::from_acc(logit).to_acc(),
    };
    let p = plain(&start, x, w, of, C, logits);
    let (x64, w64) = (matrix(x, C), matrix(w, C));
    let (exact, exact_dx, exact_dw) =
        reference::forward_backward(x64.view(), w64.view(), of.targets, of.weights, SCALE);
    let nats = Output::new("loss nats", &ran.nats, &p.nats, exact);
    let dx = Output::new("loss dx", &ran.dx, &p.dx, exact_dx);
    let dw = Output::new("loss dw", &ran.dw, &p.dw, exact_dw + matrix(&start, C));
    match dev {
        Device::Cpu(_) => vec![nats, dx, dw],
        Device::Cuda(_) => on_gpu::<E>(dev, (&wide(x), &wide(w), of), C, [nats, dx, dw]),
    }
}

/// The sum is that of the rows: on the CPU one after the other, on a GPU to the last bits of f64.
fn sums<E: Element>(dev: &Device, ran: &Ran<E>, of: Targets) {
    let terms: Vec<f64> =
        wide(&ran.nats).iter().enumerate().map(|(n, nats)| of.weight(n) * nats).collect();
    let (sum, size) = (terms.iter().sum::<f64>(), terms.iter().map(|x| x.abs()).sum::<f64>());
    let most = match dev {
        Device::Cpu(_) => 0.0,
        Device::Cuda(_) => terms.len() as f64 * f64::EPSILON * size,
    };
    assert!((ran.loss.nats - sum).abs() <= most, "{} is not {sum}", ran.loss.nats);
    let counted = (0..terms.len()).filter(|&n| of.targets[n] != IGNORE);
    assert_eq!(ran.loss.weight, counted.map(|n| of.weight(n)).sum::<f64>());
    assert_eq!(ran.loss.weight, weight(of.targets, of.weights));
}

/// The outputs with what a GPU adds. Each logit errs as tensor cores sum. Each e^x errs by EX2 and
/// a last bit of x, whose mean is below ln V; their sum also by EX2 for each time that a thread's
/// maximum moves, at most once an access of up to 512 threads, and once where threads join. So a
/// probability errs by `of_p` of itself, and the logarithm as its instruction does.
fn on_gpu<E: Element>(
    dev: &Device,
    (x, w, of): (&[f64], &[f64], Targets),
    C: usize,
    [nats, dx, dw]: [Output; 3],
) -> Vec<Output> {
    let (N, V) = (x.len() / C, w.len() / C);
    let product = |n: usize, v: usize, c: usize| x[n * C + c] * w[v * C + c];
    let way = on_the_way(N * V, C, |cell, c| product(cell / V, cell % V, c));
    let mut dlogits = vec![0.0; N * V];
    // The share of each logit's gradient that grows with its probability.
    let mut shares = vec![0.0; N * V];
    for n in (0..N).filter(|&n| of.targets[n] != IGNORE) {
        let l: Vec<f64> = (0..V).map(|v| (0..C).map(|c| product(n, v, c)).sum()).collect();
        let max = l.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
        let sum: f64 = l.iter().map(|l| (l - max).exp()).sum();
        for v in 0..V {
            let p = (l[v] - max).exp() / sum;
            let hit = f64::from(u8::from(v == of.targets[n] as usize));
            let scale = SCALE * of.weight(n);
            (shares[n * V + v], dlogits[n * V + v]) = (scale * p, scale * (p - hit));
        }
    }
    let largest = |cells: usize, K: usize, term: &dyn Fn(usize, usize) -> f64| {
        (0..cells).map(|at| (0..K).map(|k| term(at, k).abs()).sum::<f64>()).fold(0.0, f64::max)
    };
    let of_dx = largest(N * C, V, &|at, v| shares[at / C * V + v] * w[v * C + at % C]);
    let of_dw = largest(V * C, N, &|at, n| shares[n * V + at / C] * x[n * C + at % C]);
    let way_dx = on_the_way(N * C, V, |at, v| dlogits[at / C * V + v] * w[v * C + at % C]);
    let way_dw = on_the_way(V * C, N, |at, n| dlogits[n * V + at / C] * x[n * C + at % C]);

    let moves = V.div_ceil(512) + 1;
    let of_sum = bounds::EX2 * (1 + moves) as f64 + bounds::LAST_BIT * (V as f64).ln();
    let of_logit = |capability| sum_bound::<E>(capability, C, way);
    let of_p = |capability| 2.0 * of_logit(capability) + bounds::EX2 + of_sum + bounds::LAST_BIT;
    let of_log = 2f64.ln() * bounds::lg2((V as f64).log2());
    let nats = nats.allowing(dev, |c| 2.0 * of_logit(c) + of_sum + of_log);
    let dx = dx.allowing(dev, |c| of_p(c) * of_dx + sum_bound::<E>(c, V, way_dx));
    let dw = dw.allowing(dev, |c| of_p(c) * of_dw + sum_bound::<E>(c, N, way_dw));
    vec![nats, dx, dw]
}

#[test]
fn reference_backward_against_central_differences() {
    let (N, C, V) = (4, 3, 5);
    let g = &mut Gen::new(0);
    let [x, w] = [N * C, V * C].map(|len| g.normals::<f64>(len, 1.0));
    let targets = [4, IGNORE, 0, 2];
    for weights in [None, Some(&[0.5, 3.0, -1.25, 2.0][..])] {
        let f = |x: &[f64], w: &[f64]| {
            reference::forward_backward(rows_of(x, C), rows_of(w, C), &targets, weights, SCALE)
        };
        let loss = |x: &[f64], w: &[f64]| {
            let weight = |n: usize| weights.map_or(1.0, |weights| f64::from(weights[n]));
            f(x, w).0.iter().enumerate().map(|(n, nats)| SCALE * weight(n) * nats).sum()
        };
        let (_, dx, dw) = f(&x, &w);
        central_differences("dx", &x, dx, |x| loss(x, &w));
        central_differences("dw", &w, dw, |w| loss(&x, w));
    }
}

#[test]
fn cpu_against_reference_f64() {
    agree(&SHAPES, case::<f64>);
    agree(&SHAPES[..9], weighted_case::<f64>);
}

#[test]
fn cpu_against_reference_f32() {
    agree(&SHAPES, case::<f32>);
    agree(&SHAPES[..9], weighted_case::<f32>);
}

#[test]
fn cpu_against_reference_bf16() {
    agree(&SHAPES, case::<bf16>);
    agree(&SHAPES[..9], weighted_case::<bf16>);
}

#[test]
fn gpu_against_reference() {
    // In f32 the emulator is slower; the largest shape is for the CPU's chunks.
    agree_on_gpus(&SHAPES[..10], case::<f32>);
    agree_on_gpus(&SHAPES[..SHAPES.len() - 1], case::<bf16>);
    agree_on_gpus(&SHAPES[2..8], weighted_case::<f32>);
    agree_on_gpus(&SHAPES[2..8], weighted_case::<bf16>);
}

/// Every place of rows around every vector's width.
#[test]
fn the_largest_logit_anywhere() {
    let rows = [2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 37, 47, 65];
    let places: Vec<_> = rows.iter().flat_map(|&V| (0..V).map(move |v| (V, v))).collect();
    agree(&places, peaked_case::<f64>);
    agree(&places, peaked_case::<f32>);
    agree(&places, peaked_case::<bf16>);
}

#[test]
fn the_largest_logit_anywhere_on_gpus() {
    let rows = [2, 7, 8, 37, 264];
    let ends = |V: usize| [0, V / 2, V - 2, V - 1].map(|v| (V, v));
    let places: Vec<_> = rows.into_iter().flat_map(ends).collect();
    agree_on_gpus(&places, peaked_case::<f32>);
    agree_on_gpus(&places, peaked_case::<bf16>);
}

#[test]
fn planted_errors_are_noticed() {
    notice((17, 33, 17), case::<f32>);
    notice((17, 33, 17), case::<bf16>);
    notice_on_gpus((17, 33, 17), case::<f32>);
    notice_on_gpus((17, 33, 17), case::<bf16>);
    notice((17, 33, 17), weighted_case::<f32>);
    notice_on_gpus((17, 33, 17), weighted_case::<f32>);
}

#[test]
fn bits_do_not_depend_on_threads() {
    same_bits((63, 12, 1000), case::<f32>);
    same_bits((63, 12, 1000), case::<bf16>);
}

/// Small whole numbers, so that every device has the same logits and many of them are equal: of
/// these the least id, whatever vectors, warps or accesses they lie in.
#[test]
fn of_equal_logits_the_first_is_the_largest() {
    fn check<E: Element>(dev: &Device, (N, C, V): Shape) {
        let g = &mut Gen::new(V as u64);
        let mut whole = |len: usize| (0..len).map(|_| g.below(5) as f64 - 2.0).collect::<Vec<_>>();
        let (x, w) = (whole(N * C), whole(V * C));
        let targets: Vec<i32> = (0..N).map(|n| if n % 4 == 3 { IGNORE } else { 0 }).collect();
        let expected: Vec<i32> = (0..N)
            .map(|n| {
                let logit = |v: usize| (0..C).map(|c| x[n * C + c] * w[v * C + c]).sum::<f64>();
                let max = (0..V).map(logit).fold(f64::NEG_INFINITY, f64::max);
                let first = (0..V).find(|&v| logit(v) == max).unwrap();
                if targets[n] == IGNORE { IGNORE } else { first as i32 }
            })
            .collect();
        let [x, w] = [x, w].map(|values| values.into_iter().map(narrow).collect::<Vec<E>>());
        let start = vec![E::Acc::ZERO; V * C];
        let found = run(dev, &start, &x, &w, all_alike(&targets), C).largest;
        assert_eq!(found, expected, "{} {} of {V}", dev.describe(), E::NAME);
    }
    everywhere(|dev| {
        for V in [1, 2, 7, 8, 9, 16, 17, 33, 65, 130, 515] {
            check::<f32>(dev, (9, 4, V));
            check::<bf16>(dev, (9, 4, V));
        }
    });
}

/// What is not asked for changes nothing else.
#[test]
fn the_largest_is_optional() {
    everywhere(|dev| {
        let (N, C, V) = (9, 16, 61);
        let (x, w, targets) = inputs::<f32>(&mut Gen::new(3), (N, C, V));
        let expected = run(dev, &vec![0.0; V * C], &x, &w, all_alike(&targets), C);
        let mut logits = Logits::<f32>::of_rows(dev, N.div_ceil(3), V);
        let [mut dx, x, w] = [&x, &x, &w].map(|values| put(dev, values));
        let mut dw = Buf::<f32>::zeros(dev, V * C);
        let [mut nats, mut nats_alone] = [(); 2].map(|()| Buf::<f32>::zeros(dev, N));
        let (to, dx_to, dw_to) = (nats.view_mut(), dx.view_mut(), dw.view_mut());
        let (x, w, room) = (x.view(), w.view(), &mut logits);
        forward_backward(dev, to, None, dx_to, Some(dw_to), room, x, w, &targets, None, SCALE, C);
        forward(dev, nats_alone.view_mut(), None, &mut logits, x, w, &targets, C);
        assert_eq!((take(nats_alone), take(nats)), (expected.nats.clone(), expected.nats));
        assert_eq!((take(dx), take(dw)), (expected.dx, expected.dw));
    });
}

/// A weight of 0 is no target, and a weight of 2 is the row twice.
#[test]
fn weights_count_rows() {
    fn check<E: Element>(dev: &Device) {
        let (N, C, V) = (9, 8, 37);
        let (x, w, targets) = inputs::<E>(&mut Gen::new(4), (N, C, V));
        let start = vec![E::Acc::ZERO; V * C];
        let ran = |x: &[E], targets: &[i32], weights: Option<&[f32]>| {
            run(dev, &start, x, &w, Targets { targets, weights }, C)
        };
        let place = format!("{} {}", dev.describe(), E::NAME);

        let (mut without, mut zeros) = (targets.clone(), vec![1.0; N]);
        for n in [0, 3, 5] {
            (without[n], zeros[n]) = (IGNORE, 0.0);
        }
        let [ignored, weighed] = [ran(&x, &without, None), ran(&x, &targets, Some(&zeros))];
        assert_eq!(
            (weighed.loss, &weighed.dx, &weighed.dw),
            (ignored.loss, &ignored.dx, &ignored.dw)
        );
        assert!(ignored.nats[0] == E::Acc::ZERO && weighed.nats[0] > E::Acc::ZERO, "{place}");

        // Rows 0, 1, .. 8, then 0 and 5 again.
        let twice = |n: usize| [&x[..], &x[..C], &x[n * C..][..C]].concat();
        let targets_twice = [&targets[..], &[targets[0], targets[5]]].concat();
        let mut twos = vec![1.0; N];
        (twos[0], twos[5]) = (2.0, 2.0);
        let [again, weighed] =
            [ran(&twice(5), &targets_twice, None), ran(&x, &targets, Some(&twos))];
        let near = |a: f64, b: f64, of: f64| (a - b).abs() <= of * a.abs().max(1.0);
        assert_eq!(weighed.loss.weight, again.loss.weight);
        assert!(near(weighed.loss.nats, again.loss.nats, 1e-14), "{place}");
        let pairs = wide(&weighed.dw).into_iter().zip(wide(&again.dw));
        let of = if E::DTYPE == Dtype::F64 { 1e-12 } else { 1e-6 };
        pairs.for_each(|(a, b)| assert!(near(a, b, of), "{place}: dw {a} and {b}"));
        let (weighed, again) = (wide(&weighed.dx), wide(&again.dx));
        for n in 0..N {
            let factor = f64::from(twos[n]);
            for c in n * C..(n + 1) * C {
                assert_eq!(weighed[c], factor * again[c], "{place}: dx of row {n}");
            }
        }
    }
    check::<f64>(&Device::cpu(2).unwrap());
    everywhere(check::<f32>);
    everywhere(check::<bf16>);
}

/// As an ignored row does not: its number is bad, and no other.
#[test]
fn a_bad_row_of_weight_zero_does_not_reach_the_loss() {
    everywhere(|dev| {
        let (x, w) = ([f32::INFINITY, 1.0], [1.0, 2.0, 3.0]);
        let of = Targets { targets: &[1, 1], weights: Some(&[0.0, 1.0]) };
        let ran = run(dev, &[0.0; 3], &x, &w, of, 1);
        let (bad, good) = (ran.nats[0], f64::from(ran.nats[1]));
        assert!(!bad.is_finite() && ran.loss == Loss { nats: good, weight: 1.0 }, "{ran:?}");
        assert_eq!(ran.dx[0], 0.0);
    });
}

#[test]
fn no_rows_are_no_work() {
    everywhere(|dev| {
        for weights in [None, Some(&[][..])] {
            let of = Targets { targets: &[], weights };
            let ran = run::<f32>(dev, &[5.0; 6], &[], &[1.0; 6], of, 3);
            let loss = Loss { nats: 0.0, weight: 0.0 };
            let (nats, largest, dx, dw) = (vec![], vec![], vec![], vec![5.0; 6]);
            assert_eq!(ran, Ran { loss, nats, largest, dx, dw });
        }
        dev.sync().unwrap();
    });
}

#[test]
fn only_ignored_targets_have_no_loss_and_no_gradient() {
    everywhere(|dev| {
        let (x, w) = ([1f32; 6], [2f32; 9]);
        let ran = run(dev, &[5.0; 9], &x, &w, all_alike(&[IGNORE; 2]), 3);
        let loss = Loss { nats: 0.0, weight: 0.0 };
        let (nats, largest, dx, dw) = (vec![0.0; 2], vec![IGNORE; 2], vec![0.0; 6], vec![5.0; 9]);
        assert!(ran.loss.mean().is_nan());
        assert_eq!(ran, Ran { loss, nats, largest, dx, dw });
    });
}

#[test]
fn one_bad_logit_spoils_the_loss() {
    let V = 37;
    everywhere(|dev| {
        for (v, bad) in (0..V).flat_map(|v| [(v, f32::NAN), (v, f32::INFINITY)]) {
            let mut w = vec![0.5f32; V];
            w[v] = bad;
            let ran = run(dev, &vec![0.0; V], &[1.0, 1.0], &w, all_alike(&[3, IGNORE]), 1);
            assert!(!ran.loss.nats.is_finite(), "{}: {bad} at {v} is lost", dev.describe());
        }
    });
}

#[test]
fn a_logit_of_minus_infinity_has_no_weight() {
    everywhere(|dev| {
        let w = [0.0, f32::NEG_INFINITY, 0.0];
        let [hit, miss] =
            [0, 1].map(|target| run(dev, &[0.0; 3], &[1.0], &w, all_alike(&[target]), 1).loss.nats);
        assert!((hit - 2f64.ln()).abs() < 1e-6 && miss == f64::INFINITY, "{hit} {miss}");
    });
}

#[test]
#[should_panic(expected = "loss: a target is beyond 2")]
fn a_target_beyond_the_vocabulary_panics() {
    let dev = Device::cpu(1).unwrap();
    run(&dev, &[0.0; 2], &[1f32], &[1.0, 2.0], all_alike(&[2]), 1);
}

#[test]
#[should_panic(expected = "loss: a weight is not finite")]
fn a_weight_that_is_no_number_panics() {
    let dev = Device::cpu(1).unwrap();
    let of = Targets { targets: &[1], weights: Some(&[f32::NAN]) };
    run(&dev, &[0.0; 2], &[1f32], &[1.0, 2.0], of, 1);
}
