use crate::check::{Gen, Output, agree, agree_on_gpus, central_differences, everywhere, matrix};
use crate::check::{bounds, narrow, notice, notice_on_gpus, on_the_way, put, rows_of, same_bits};
use crate::check::{sum_bound, take, wide};
use engine::ops::loss::reference;
use engine::ops::loss::{IGNORE, Logits, Loss, Sum, chunk_rows, forward, forward_backward};
use engine::{Device, Element, Real, bf16};

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

struct Plain<E: Element> {
    nats: f64,
    dx: Vec<E>,
    dw: Vec<E::Acc>,
}

/// `logits` is how a logit is stored.
fn plain<E: Element>(
    dw: &[E::Acc],
    x: &[E],
    w: &[E],
    targets: &[i32],
    C: usize,
    logits: fn(E::Acc) -> E::Acc,
) -> Plain<E> {
    let (V, scale) = (w.len() / C, E::Acc::from_f64(SCALE));
    let mut p = Plain { nats: 0.0, dx: vec![E::default(); x.len()], dw: dw.to_vec() };
    for (n, &target) in targets.iter().enumerate().filter(|&(_, &t)| t != IGNORE) {
        let x = &x[n * C..][..C];
        let mut l: Vec<E::Acc> = w
            .chunks(C)
            .map(|w| logits(w.iter().zip(x).map(|(w, x)| w.to_acc() * x.to_acc()).sum()))
            .collect();
        let max = l.iter().fold(E::Acc::NEG_INFINITY, |a, &b| if a > b { a } else { b });
        let at_target = l[target as usize];
        l.iter_mut().for_each(|l| *l = (*l - max).exp());
        let sum: E::Acc = l.iter().copied().sum();
        p.nats += (sum.ln() + max - at_target).to_f64();
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

/// The loss, dx and dw by the engine, on top of `dw`, in chunks of a third of the rows.
fn run<E: Element>(
    dev: &Device,
    dw: &[E::Acc],
    x: &[E],
    w: &[E],
    targets: &[i32],
    C: usize,
) -> (Loss, Vec<E>, Vec<E::Acc>) {
    let V = w.len() / C;
    let [mut dx, x, w] = [x, x, w].map(|values| put(dev, values));
    let mut dw = put(dev, dw);
    let mut logits = Logits::<E>::of_rows(dev, targets.len().div_ceil(3), V);
    logits.poison();
    let [mut loss, mut alone] = [(); 2].map(|()| Sum::new(dev));
    let (dx_to, dw_to, room) = (dx.view_mut(), dw.view_mut(), &mut logits);
    forward_backward(
        dev,
        &mut loss,
        dx_to,
        Some(dw_to),
        room,
        x.view(),
        w.view(),
        targets,
        SCALE,
        C,
    );
    forward(dev, &mut alone, &mut logits, x.view(), w.view(), targets, C);
    let (loss, alone) = (loss.read().unwrap(), alone.read().unwrap());
    assert!(alone == loss || loss.nats.is_nan() && alone.nats.is_nan(), "forward differs");
    (loss, take(dx), take(dw))
}

fn case<E: Element>(dev: &Device, g: &mut Gen, (N, C, V): Shape) -> Vec<Output> {
    let (x, w) = (g.normals::<E>(N * C, 1.0), g.normals::<E>(V * C, 2.0 / (C as f64).sqrt()));
    // Every fourth target of a batch does not count.
    let targets: Vec<i32> =
        (0..N).map(|n| if n % 4 == 3 { IGNORE } else { g.below(V) as i32 }).collect();
    outputs(dev, g, &x, &w, &targets, C)
}

/// One logit of 300 at `place`, once as the target and once not: a largest logit that is missed makes
/// the sum of exponentials infinite.
fn peaked_case<E: Element>(dev: &Device, g: &mut Gen, (V, place): (usize, usize)) -> Vec<Output> {
    let mut w = g.normals::<E>(V, 1.0);
    w[place] = narrow(300.0);
    outputs(dev, g, &[narrow(1.0); 2], &w, &[place as i32, ((place + 1) % V) as i32], 1)
}

fn outputs<E: Element>(
    dev: &Device,
    g: &mut Gen,
    x: &[E],
    w: &[E],
    targets: &[i32],
    C: usize,
) -> Vec<Output> {
    let start = g.normals::<E::Acc>(w.len(), SCALE);
    let (loss, dx, dw) = run(dev, &start, x, w, targets, C);
    assert_eq!(loss.targets, targets.iter().filter(|&&t| t != IGNORE).count());

    // A GPU keeps logits as it keeps activations.
    let logits: fn(E::Acc) -> E::Acc = match dev {
        Device::Cpu(_) => |logit| logit,
        Device::Cuda(_) => |logit| E::from_acc(logit).to_acc(),
    };
    let p = plain(&start, x, w, targets, C, logits);
    let (exact, exact_dx, exact_dw) =
        reference::forward_backward(matrix(x, C).view(), matrix(w, C).view(), targets, SCALE);
    let nats = [loss.nats, p.nats].map(|nats| [narrow::<E::Acc>(nats)]);
    let nats = Output::new("loss nats", &nats[0], &nats[1], [exact]);
    let dx = Output::new("loss dx", &dx, &p.dx, exact_dx);
    let dw = Output::new("loss dw", &dw, &p.dw, exact_dw + matrix(&start, C));
    match dev {
        Device::Cpu(_) => vec![nats, dx, dw],
        Device::Cuda(_) => on_gpu::<E>(dev, (&wide(x), &wide(w), targets), C, [nats, dx, dw]),
    }
}

/// The outputs with what a GPU adds. Each logit errs as tensor cores sum. Each e^x errs by EX2 and
/// a last bit of x, whose mean is below ln V; their sum also by EX2 for each time that a thread's
/// maximum moves, at most once an access of up to 512 threads, and once where threads join. So a
/// probability errs by `of_p` of itself, and the logarithm as its instruction does.
fn on_gpu<E: Element>(
    dev: &Device,
    (x, w, targets): (&[f64], &[f64], &[i32]),
    C: usize,
    [nats, dx, dw]: [Output; 3],
) -> Vec<Output> {
    let (N, V) = (x.len() / C, w.len() / C);
    let product = |n: usize, v: usize, c: usize| x[n * C + c] * w[v * C + c];
    let way = on_the_way(N * V, C, |cell, c| product(cell / V, cell % V, c));
    let mut dlogits = vec![0.0; N * V];
    // The share of each logit's gradient that grows with its probability.
    let mut shares = vec![0.0; N * V];
    for n in (0..N).filter(|&n| targets[n] != IGNORE) {
        let l: Vec<f64> = (0..V).map(|v| (0..C).map(|c| product(n, v, c)).sum()).collect();
        let max = l.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
        let sum: f64 = l.iter().map(|l| (l - max).exp()).sum();
        for v in 0..V {
            let p = (l[v] - max).exp() / sum;
            let hit = f64::from(u8::from(v == targets[n] as usize));
            (shares[n * V + v], dlogits[n * V + v]) = (SCALE * p, SCALE * (p - hit));
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
    let nats = nats.allowing(dev, |c| N as f64 * (2.0 * of_logit(c) + of_sum + of_log));
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
    let f = |x: &[f64], w: &[f64]| {
        reference::forward_backward(rows_of(x, C), rows_of(w, C), &targets, SCALE)
    };
    let (_, dx, dw) = f(&x, &w);
    central_differences("dx", &x, dx, |x| SCALE * f(x, &w).0);
    central_differences("dw", &w, dw, |w| SCALE * f(&x, w).0);
}

#[test]
fn cpu_against_reference_f64() {
    agree(&SHAPES, case::<f64>);
}

#[test]
fn cpu_against_reference_f32() {
    agree(&SHAPES, case::<f32>);
}

#[test]
fn cpu_against_reference_bf16() {
    agree(&SHAPES, case::<bf16>);
}

#[test]
fn gpu_against_reference() {
    // In f32 the emulator is slower; the largest shape is for the CPU's chunks.
    agree_on_gpus(&SHAPES[..10], case::<f32>);
    agree_on_gpus(&SHAPES[..SHAPES.len() - 1], case::<bf16>);
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
}

#[test]
fn bits_do_not_depend_on_threads() {
    same_bits((63, 12, 1000), case::<f32>);
    same_bits((63, 12, 1000), case::<bf16>);
}

#[test]
fn only_ignored_targets_have_no_loss_and_no_gradient() {
    everywhere(|dev| {
        let (x, w) = ([1f32; 6], [2f32; 9]);
        let (loss, dx, dw) = run(dev, &[5.0; 9], &x, &w, &[IGNORE; 2], 3);
        assert_eq!(loss, Loss { nats: 0.0, targets: 0 });
        assert!(loss.mean().is_nan());
        assert_eq!((dx, dw), (vec![0.0; 6], vec![5.0; 9]));
    });
}

#[test]
fn one_bad_logit_spoils_the_loss() {
    let V = 37;
    everywhere(|dev| {
        for (v, bad) in (0..V).flat_map(|v| [(v, f32::NAN), (v, f32::INFINITY)]) {
            let mut w = vec![0.5f32; V];
            w[v] = bad;
            let (loss, ..) = run(dev, &vec![0.0; V], &[1.0, 1.0], &w, &[3, IGNORE], 1);
            assert!(!loss.nats.is_finite(), "{}: {bad} at {v} is lost", dev.describe());
        }
    });
}

#[test]
fn a_logit_of_minus_infinity_has_no_weight() {
    everywhere(|dev| {
        let w = [0.0, f32::NEG_INFINITY, 0.0];
        let [hit, miss] = [0, 1].map(|target| run(dev, &[0.0; 3], &[1.0], &w, &[target], 1).0.nats);
        assert!((hit - 2f64.ln()).abs() < 1e-6 && miss == f64::INFINITY, "{hit} {miss}");
    });
}

#[test]
#[should_panic(expected = "loss: a target is beyond 2")]
fn a_target_beyond_the_vocabulary_panics() {
    let dev = Device::cpu(1).unwrap();
    run(&dev, &[0.0; 2], &[1f32], &[1.0, 2.0], &[2], 1);
}
