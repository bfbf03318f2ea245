use crate::check::{Gen, Output, agree, agree_on_gpus, central_differences, devices, dot, matrix};
use crate::check::{bounds, notice, notice_on_gpus, put, rows_of, same_bits, take};
use engine::ops::swiglu::{backward_inplace, forward, reference};
use engine::{Device, Element, Real, bf16};
use ndarray::{Array2, s};

/// (N, F)
const SHAPES: [(usize, usize); 7] =
    [(1, 1), (1, 7), (3, 8), (17, 15), (33, 17), (5, 768), (100, 43)];

fn sigmoid<R: Real>(g: R) -> R {
    R::ONE / (R::ONE + (-g).exp())
}

fn case<E: Element>(dev: &Device, g: &mut Gen, (N, F): (usize, usize)) -> Vec<Output> {
    let (mut gu, da) = (g.normals::<E>(N * 2 * F, 3.0), g.normals::<E>(N * F, 1.0));
    // Gates so large that e^-g leaves the range of f32 or vanishes against 1.
    for (i, gate) in [100.0, -100.0, 30.0, -30.0, 0.0].into_iter().enumerate().take(F) {
        gu[i] = crate::check::narrow(gate);
    }
    let (mut a, mut dgu) = (put(dev, &da), put(dev, &gu));
    forward(dev, a.view_mut(), put(dev, &gu).view(), F);
    backward_inplace(dev, dgu.view_mut(), put(dev, &da).view(), F);
    let (a, dgu) = (take(a), take(dgu));

    let (mut a_plain, mut dgu_plain) = (da.clone(), gu.clone());
    for i in 0..N * F {
        let (gate, up) = (i / F * 2 * F + i % F, i / F * 2 * F + F + i % F);
        let (g, u, d) = (gu[gate].to_acc(), gu[up].to_acc(), da[i].to_acc());
        let (q, one) = (sigmoid(g), E::Acc::ONE);
        a_plain[i] = E::from_acc(g * q * u);
        dgu_plain[gate] = E::from_acc(d * u * q * (one + g * (one - q)));
        dgu_plain[up] = E::from_acc(d * g * q);
    }
    let (of_a, of_dgu) = approximations(&gu, &da, F);
    let gu = matrix(&gu, 2 * F);
    let (gate, up) = (gu.slice(s![.., ..F]), gu.slice(s![.., F..]));
    let exact_dgu = reference::backward(matrix(&da, F).view(), gate, up);
    let a = Output::new("swiglu a", &a, &a_plain, reference::forward(gate, up));
    let dgu = Output::new("swiglu dgu", &dgu, &dgu_plain, exact_dgu);
    vec![a.allowing(dev, |_| of_a), dgu.allowing(dev, |_| of_dgu)]
}

/// The most that a GPU's sigmoid adds to errors of a and of dgu. q = rcp(1 + ex2(-g log2 e)): the
/// exponent is rounded twice, so 2^x errs by EX2 and by two halves of a last bit of |g|; of that q
/// sees the share 1 - q, and RCP and a rounding come on top.
fn approximations<E: Element>(gu: &[E], da: &[E], F: usize) -> (f64, f64) {
    let (mut of_a, mut of_dgu) = (0f64, 0f64);
    for i in 0..da.len() {
        let at = |column: usize| gu[i / F * 2 * F + column].to_acc().to_f64();
        let (g, u, d) = (at(i % F), at(F + i % F), da[i].to_acc().to_f64());
        let q = sigmoid(g);
        let of_power = bounds::EX2 + bounds::LAST_BIT * g.abs();
        let of_q = q * ((1.0 - q) * of_power + bounds::RCP + bounds::LAST_BIT);
        of_a = of_a.max((g * u).abs() * of_q);
        // d u q (1 + g (1 - q)): q changes both factors.
        let by_q = (1.0 + g * (1.0 - q)).abs() + (g * q).abs();
        of_dgu = of_dgu.max((d * u).abs() * by_q * of_q).max((d * g).abs() * of_q);
    }
    (of_a, of_dgu)
}

#[test]
fn reference_backward_against_central_differences() {
    let (N, F) = (3, 4);
    let g = &mut Gen::new(0);
    let [gate, up, da] = [(); 3].map(|()| g.normals::<f64>(N * F, 1.0));
    let dgu = reference::backward(rows_of(&da, F), rows_of(&gate, F), rows_of(&up, F));
    let [dgate, dup]: [Array2<f64>; 2] =
        [s![.., ..F], s![.., F..]].map(|half| dgu.slice(half).to_owned());
    let f = |g: &[f64], u: &[f64]| dot(&reference::forward(rows_of(g, F), rows_of(u, F)), &da);
    central_differences("dgate", &gate, dgate, |g| f(g, &up));
    central_differences("dup", &up, dup, |u| f(&gate, u));
}

#[test]
fn cpu_against_reference() {
    agree(&SHAPES, case::<f64>);
    agree(&SHAPES, case::<f32>);
    agree(&SHAPES, case::<bf16>);
}

#[test]
fn gpu_against_reference() {
    agree_on_gpus(&SHAPES, case::<f32>);
    agree_on_gpus(&SHAPES, case::<bf16>);
}

#[test]
fn planted_errors_are_noticed() {
    notice((33, 17), case::<f32>);
    notice((33, 17), case::<bf16>);
    notice_on_gpus((33, 17), case::<f32>);
    notice_on_gpus((33, 17), case::<bf16>);
}

#[test]
fn bits_do_not_depend_on_threads() {
    same_bits((100, 43), case::<f32>);
    same_bits((100, 43), case::<bf16>);
}

#[test]
fn nan_stays_in_its_place() {
    let F = 19;
    for dev in devices(1) {
        for at in 0..2 * F {
            let (mut gu, mut a) = (vec![1f32; 2 * F], vec![0f32; F]);
            gu[at] = f32::NAN;
            forward(&dev, (&mut a[..]).into(), (&gu[..]).into(), F);
            for (i, a) in a.iter().enumerate() {
                assert_eq!(a.is_nan(), i == at % F, "NaN at {at}, element {i}");
            }
        }
    }
}
