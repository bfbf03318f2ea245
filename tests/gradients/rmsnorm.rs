use crate::check::{Gen, Output, agree, agree_on_gpus, central_differences, dot, matrix, narrow};
use crate::check::{notice, notice_on_gpus, put, rows_of, same_bits, take, wide};
use engine::ops::rmsnorm::{apply, backward, forward, reference};
use engine::{Device, Element, Real, bf16};
use ndarray::{Array1, ArrayView1};

const EPS: f32 = 1e-5;

/// (N, C)
const SHAPES: [(usize, usize); 9] =
    [(1, 1), (1, 7), (3, 8), (2, 15), (31, 16), (33, 17), (32, 64), (5, 288), (200, 129)];

/// y, r and what [`reference::backward`] gives, each by a sequential loop.
struct Plain<E: Element> {
    y: Vec<E>,
    r: Vec<E::Acc>,
    dx: Vec<E>,
    dw: Vec<E::Acc>,
}

fn plain<E: Element>(dx: &[E], dw: &[E::Acc], dy: &[E], x: &[E], w: &[E]) -> Plain<E> {
    let C = w.len();
    let width = E::Acc::from_f64(C as f64);
    let mut p = Plain { y: x.to_vec(), r: vec![], dx: dx.to_vec(), dw: dw.to_vec() };
    for n in 0..x.len() / C {
        let at = |a: &[E], c: usize| a[n * C + c].to_acc();
        let mean = (0..C).map(|c| at(x, c) * at(x, c)).sum::<E::Acc>() / width;
        let r = E::Acc::ONE / (mean + E::Acc::from_f64(EPS.into())).sqrt();
        let s: E::Acc = (0..C).map(|c| w[c].to_acc() * at(dy, c) * at(x, c)).sum();
        p.r.push(r);
        for c in 0..C {
            p.y[n * C + c] = E::from_acc(w[c].to_acc() * at(x, c) * r);
            let grad = r * (w[c].to_acc() * at(dy, c) - at(x, c) * s * r * r / width);
            p.dx[n * C + c] = E::from_acc(at(dx, c) + grad);
            p.dw[c] += at(dy, c) * at(x, c) * r;
        }
    }
    p
}

fn case<E: Element>(dev: &Device, g: &mut Gen, (N, C): (usize, usize)) -> Vec<Output> {
    let [x, dy, dx_start] = [(); 3].map(|()| g.normals::<E>(N * C, 2.0));
    let w: Vec<E> = (0..C).map(|_| narrow(1.0 + 0.5 * g.normal())).collect();
    let dw_start: Vec<E::Acc> = g.normals(C, 1.0);

    let [x_at, dy_at, w_at] = [&x, &dy, &w].map(|values| put(dev, values));
    let [mut y, mut again] = [(); 2].map(|()| put(dev, &g.normals::<E>(N * C, 1.0)));
    let mut r = put(dev, &g.normals::<E::Acc>(N, 1.0));
    forward(dev, y.view_mut(), r.view_mut(), x_at.view(), w_at.view(), EPS);
    apply(dev, again.view_mut(), x_at.view(), w_at.view(), r.view());
    let (mut dx, mut dw) = (put(dev, &dx_start), put(dev, &dw_start));
    let (dx_to, dw_to) = (dx.view_mut(), dw.view_mut());
    backward(dev, dx_to, Some(dw_to), dy_at.view(), x_at.view(), w_at.view(), r.view());
    let (y, r, dx, dw) = (take(y), take(r), take(dx), take(dw));
    assert!(wide(&y) == wide(&take(again)), "apply differs from forward");

    let p = plain(&dx_start, &dw_start, &dy, &x, &w);
    let (x, w) = (matrix(&x, C), Array1::from(wide(&w)));
    let (exact_y, exact_r) = reference::forward(x.view(), w.view(), EPS.into());
    let (exact_dx, exact_dw) =
        reference::backward(matrix(&dy, C).view(), x.view(), w.view(), EPS.into());
    vec![
        Output::new("rmsnorm y", &y, &p.y, exact_y),
        Output::new("rmsnorm r", &r, &p.r, exact_r),
        Output::new("rmsnorm dx", &dx, &p.dx, exact_dx + matrix(&dx_start, C)),
        Output::new("rmsnorm dw", &dw, &p.dw, exact_dw + Array1::from(wide(&dw_start))),
    ]
}

#[test]
fn reference_backward_against_central_differences() {
    let (N, C, eps) = (3, 5, 0.1);
    let g = &mut Gen::new(0);
    let [x, dy] = [(); 2].map(|()| g.normals::<f64>(N * C, 1.0));
    let w = g.normals::<f64>(C, 1.0);
    let (dx, dw) = reference::backward(rows_of(&dy, C), rows_of(&x, C), (&w[..]).into(), eps);
    let f = |x: &[f64], w: &[f64]| {
        dot(&reference::forward(rows_of(x, C), ArrayView1::from(w), eps).0, &dy)
    };
    central_differences("dx", &x, dx, |x| f(x, &w));
    central_differences("dw", &w, dw, |w| f(&x, w));
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
    same_bits((200, 129), case::<f32>);
    same_bits((200, 129), case::<bf16>);
}

#[test]
fn nan_stays_in_its_row() {
    let (N, C) = (3, 19);
    for dev in crate::check::devices(2) {
        for at in 0..C {
            let mut x = vec![1f32; N * C];
            x[C + at] = f32::NAN;
            let (mut y, mut r, w) = (vec![0f32; N * C], [0f32; 3], vec![1f32; C]);
            forward(
                &dev,
                (&mut y[..]).into(),
                (&mut r[..]).into(),
                (&x[..]).into(),
                (&w[..]).into(),
                EPS,
            );
            let finite: Vec<bool> = y.iter().map(|y| y.is_finite()).collect();
            assert!(finite[..C].iter().chain(&finite[2 * C..]).all(|&f| f), "other rows");
            assert!(finite[C..2 * C].iter().all(|&f| !f), "NaN at {at} is lost");
        }
    }
}
