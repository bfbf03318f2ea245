use crate::check::{Gen, Output, agree, agree_on_gpus, central_differences, devices, matrix};
use crate::check::{narrow, notice, put, rows_of, same_bits, take};
use engine::ops::loss::{IGNORE, Loss, Sum, chunk_rows, forward, forward_backward, reference};
use engine::{Device, Element, Real, bf16};

/// (N, C, V). The last has more rows than one chunk.
type Shape = (usize, usize, usize);
const SHAPES: [Shape; 9] = [
    (1, 1, 1),
    (1, 3, 2),
    (2, 7, 15),
    (9, 16, 16),
    (17, 33, 17),
    (8, 64, 257),
    (63, 12, 1000),
    (5, 340, 31),
    (521, 2, 16_411),
];

#[test]
fn the_largest_shape_has_more_rows_than_a_chunk() {
    let (N, _, V) = SHAPES[8];
    assert!(chunk_rows(N, V) < N);
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

/// The loss, dx and dw by the engine, on top of `dw`.
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
    let mut logits = put(dev, &vec![E::Acc::from_f64(f64::NAN); chunk_rows(targets.len(), V) * V]);
    let [mut loss, mut alone] = [(); 2].map(|()| Sum::new(dev));
    let (dx_to, dw_to, room) = (dx.view_mut(), dw.view_mut(), logits.view_mut());
    forward_backward(dev, &mut loss, dx_to, dw_to, room, x.view(), w.view(), targets, SCALE, C);
    forward(dev, &mut alone, logits.view_mut(), x.view(), w.view(), targets, C);
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
    vec![
        Output::new("loss nats", &nats[0], &nats[1], [exact]),
        Output::new("loss dx", &dx, &p.dx, exact_dx),
        Output::new("loss dw", &dw, &p.dw, exact_dw + matrix(&start, C)),
    ]
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
    // Chunks are the host's, the same for both; in bf16 the emulator is faster.
    agree_on_gpus(&SHAPES[..8], case::<f32>);
    agree_on_gpus(&SHAPES, case::<bf16>);
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
}

#[test]
fn bits_do_not_depend_on_threads() {
    same_bits((63, 12, 1000), case::<f32>);
    same_bits((63, 12, 1000), case::<bf16>);
}

#[test]
fn only_ignored_targets_have_no_loss_and_no_gradient() {
    for dev in devices(2) {
        let (x, w) = ([1f32; 6], [2f32; 9]);
        let (loss, dx, dw) = run(&dev, &[5.0; 9], &x, &w, &[IGNORE; 2], 3);
        assert_eq!(loss, Loss { nats: 0.0, targets: 0 });
        assert!(loss.mean().is_nan());
        assert_eq!((dx, dw), (vec![0.0; 6], vec![5.0; 9]));
    }
}

#[test]
fn one_bad_logit_spoils_the_loss() {
    let V = 37;
    for dev in devices(2) {
        for (v, bad) in (0..V).flat_map(|v| [(v, f32::NAN), (v, f32::INFINITY)]) {
            let mut w = vec![0.5f32; V];
            w[v] = bad;
            let (loss, ..) = run(&dev, &vec![0.0; V], &[1.0, 1.0], &w, &[3, IGNORE], 1);
            assert!(!loss.nats.is_finite(), "{}: {bad} at {v} is lost", dev.describe());
        }
    }
}

#[test]
fn a_logit_of_minus_infinity_has_no_weight() {
    for dev in devices(2) {
        let w = [0.0, f32::NEG_INFINITY, 0.0];
        let [hit, miss] =
            [0, 1].map(|target| run(&dev, &[0.0; 3], &[1.0], &w, &[target], 1).0.nats);
        assert!((hit - 2f64.ln()).abs() < 1e-6 && miss == f64::INFINITY, "{hit} {miss}");
    }
}

#[test]
#[should_panic(expected = "loss: a target is beyond 2")]
fn a_target_beyond_the_vocabulary_panics() {
    let dev = Device::cpu(1).unwrap();
    run(&dev, &[0.0; 2], &[1f32], &[1.0, 2.0], &[2], 1);
}
