use crate::check::{Gen, Output, agree, agree_on_gpus, central_differences, devices, dot, matrix};
use crate::check::{gpus, notice, notice_on_gpus, on_the_way, put, rows_of, same_bits, sum_bound};
use crate::check::{take, wide};
use engine::ops::linear::{FEW, backward_input, backward_weight, reference};
use engine::ops::linear::{forward, forward_residual, forward_wide};
use engine::{Buf, Device, Element, Real, bf16};

/// (N, I, O). Sums above and far above one block of 1024 items (2048 where an item is a pair),
/// columns beyond one packed block (at I = 1024 that is 2048 of them), rows above one task, single
/// rows and columns, and as many rows as still count as few; on a GPU as many rows as its products of
/// a few take and one more, and y, dx and dw in parts (I, O and N of 2048 and more).
const SHAPES: [(usize, usize, usize); 21] = [
    (1, 1, 1),
    (1, 7, 5),
    (5, 1, 3),
    (3, 16, 17),
    (25, 33, 47),
    (48, 64, 96),
    (97, 48, 33),
    (130, 319, 31),
    (2, 321, 300),
    (200, 29, 50),
    (7, 1000, 65),
    (3, 8192, 300),
    (9, 776, 40),
    (16, 1032, 33),
    (17, 136, 24),
    (130, 40, 2104),
    (2100, 16, 24),
    (4, 131, 40),
    (5, 1024, 2051),
    (9, 2049, 37),
    (6, 4099, 33),
];

/// sum over k < K of a(k) * b(k), one after the other.
fn sum<R: Real>(start: R, K: usize, term: impl Fn(usize) -> R) -> R {
    (0..K).fold(start, |sum, k| sum + term(k))
}

fn case<E: Element>(dev: &Device, g: &mut Gen, (N, I, O): (usize, usize, usize)) -> Vec<Output> {
    let zero = E::Acc::ZERO;
    let (x, w) = (g.normals::<E>(N * I, 1.0), g.normals::<E>(O * I, (I as f64).powf(-0.5)));
    let (r, dy) = (g.normals::<E>(N * O, 1.0), g.normals::<E>(N * O, 1.0));
    let start = g.normals::<E::Acc>(O * I, 1.0);

    let [x_at, w_at, r_at, dy_at] = [&x, &w, &r, &dy].map(|values| put(dev, values));
    let [mut y, mut y_r, mut dx] = [&dy, &dy, &x].map(|values| put(dev, values));
    let mut dw = put(dev, &start);
    forward(dev, y.view_mut(), x_at.view(), w_at.view(), I, "");
    forward_residual(dev, y_r.view_mut(), r_at.view(), x_at.view(), w_at.view(), I, "");
    backward_input(dev, dx.view_mut(), dy_at.view(), w_at.view(), I, "");
    backward_weight(dev, dw.view_mut(), dy_at.view(), x_at.view(), I, "");
    let mut logits = put(dev, &vec![zero; N * O]);
    forward_wide(dev, logits.view_mut(), x_at.view(), w_at.view(), I, "");
    let ([y, y_r, dx], dw, logits) = ([y, y_r, dx].map(take), take(dw), take(logits));

    let product = |a: &[E], i: usize, b: &[E], j: usize| a[i].to_acc() * b[j].to_acc();
    let cells = |rows: usize, cols: usize| (0..rows * cols).map(move |i| (i / cols, i % cols));
    let sums: Vec<E::Acc> =
        cells(N, O).map(|(n, o)| sum(zero, I, |i| product(&x, n * I + i, &w, o * I + i))).collect();
    let y_plain: Vec<E> = sums.iter().map(|&s| E::from_acc(s)).collect();
    let y_r_plain: Vec<E> =
        sums.iter().zip(&r).map(|(&s, r)| E::from_acc(r.to_acc() + s)).collect();
    let dx_plain: Vec<E> = cells(N, I)
        .map(|(n, i)| E::from_acc(sum(zero, O, |o| product(&dy, n * O + o, &w, o * I + i))))
        .collect();
    let dw_plain: Vec<E::Acc> = cells(O, I)
        .map(|(o, i)| sum(start[o * I + i], N, |n| product(&dy, n * O + o, &x, n * I + i)))
        .collect();

    let (x, w, dy) = (matrix(&x, I), matrix(&w, I), matrix(&dy, O));
    let way_y = on_the_way(N * O, I, |c, i| x[[c / O, i]] * w[[c % O, i]]);
    let way_dx = on_the_way(N * I, O, |c, o| dy[[c / I, o]] * w[[o, c % I]]);
    let way_dw = on_the_way(O * I, N, |c, n| dy[[n, c / I]] * x[[n, c % I]]);
    let tensor = |output: Output, K: usize, way: f64| {
        output.allowing(dev, |capability| sum_bound::<E>(capability, K, way))
    };
    let exact_y = reference::forward(x.view(), w.view());
    let exact_logits = exact_y.clone();
    let exact_dx = reference::backward_input(dy.view(), w.view());
    let exact_dw = reference::backward_weight(dy.view(), x.view());
    let y = Output::new("linear y", &y, &y_plain, exact_y.iter().copied());
    let y_r = Output::new("linear y+residual", &y_r, &y_r_plain, exact_y + matrix(&r, O));
    let logits = Output::new("linear y, wide", &logits, &sums, exact_logits);
    let dx = Output::new("linear dx", &dx, &dx_plain, exact_dx);
    let dw = Output::new("linear dw", &dw, &dw_plain, exact_dw + matrix(&start, I));
    let of_x = [y, y_r, logits].map(|output| tensor(output, I, way_y));
    of_x.into_iter().chain([tensor(dx, O, way_dx), tensor(dw, N, way_dw)]).collect()
}

#[test]
fn reference_backward_against_central_differences() {
    let (N, I, O) = (3, 4, 5);
    let g = &mut Gen::new(0);
    let [x, w, dy] = [N * I, O * I, N * O].map(|len| g.normals::<f64>(len, 1.0));
    let dx = reference::backward_input(rows_of(&dy, O), rows_of(&w, I));
    let dw = reference::backward_weight(rows_of(&dy, O), rows_of(&x, I));
    let f = |x: &[f64], w: &[f64]| dot(&reference::forward(rows_of(x, I), rows_of(w, I)), &dy);
    central_differences("dx", &x, dx, |x| f(x, &w));
    central_differences("dw", &w, dw, |w| f(&x, w));
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
    agree_on_gpus(&SHAPES, case::<f32>);
    agree_on_gpus(&SHAPES, case::<bf16>);
}

#[test]
fn planted_errors_are_noticed() {
    notice((25, 33, 47), case::<f32>);
    notice((25, 33, 47), case::<bf16>);
    notice_on_gpus((25, 33, 47), case::<f32>);
    // The longer the sums, the larger the budget.
    notice_on_gpus((7, 1000, 65), case::<bf16>);
}

#[test]
fn bits_do_not_depend_on_threads() {
    same_bits((200, 350, 70), case::<f32>);
    same_bits((200, 350, 70), case::<bf16>);
}

/// The rows of all three forward products, as bits.
fn rows<E: Element>(dev: &Device, x: &[E], r: &[E], w: &[E], I: usize) -> Vec<Vec<f64>> {
    let (N, O) = (x.len() / I, w.len() / I);
    let [x, r, w] = [x, r, w].map(|values| put(dev, values));
    let [mut y, mut y_r] = [(); 2].map(|()| Buf::<E>::zeros(dev, N * O));
    let mut logits = Buf::<E::Acc>::zeros(dev, N * O);
    forward(dev, y.view_mut(), x.view(), w.view(), I, "");
    forward_residual(dev, y_r.view_mut(), r.view(), x.view(), w.view(), I, "");
    forward_wide(dev, logits.view_mut(), x.view(), w.view(), I, "");
    let (y, y_r, logits) = (wide(&take(y)), wide(&take(y_r)), wide(&take(logits)));
    (0..N).map(|n| [&y, &y_r, &logits].map(|y| &y[n * O..][..O]).concat()).collect()
}

fn few_rows<E: Element>(dev: &Device, (I, O): (usize, usize), counts: &[usize]) {
    let g = &mut Gen::new(5);
    let [x, r, w] = [FEW * I, FEW * O, O * I].map(|len| g.normals::<E>(len, 1.0));
    let alone = |n: usize| rows(dev, &x[n * I..][..I], &r[n * O..][..O], &w, I).remove(0);
    let alone: Vec<_> = (0..FEW).map(alone).collect();
    for &N in counts {
        // Each row stands in another place each time.
        let first = FEW - N;
        let together = rows(dev, &x[first * I..], &r[first * O..], &w, I);
        let place = format!("{}, {}, I {I}", dev.describe(), E::NAME);
        for (n, row) in together.iter().enumerate() {
            assert!(row == &alone[first + n], "{place}: row {n} of {N}");
        }
    }
    assert!(alone[0] != alone[1], "rows differ");
}

#[test]
fn a_row_of_few_has_the_same_bits_beside_any_others() {
    let counts: Vec<usize> = (1..=FEW).collect();
    for dev in devices(2) {
        for shape in [(7, 5), (48, 33), (1000, 40)] {
            few_rows::<f32>(&dev, shape, &counts);
            few_rows::<bf16>(&dev, shape, &counts);
        }
    }
}

#[test]
fn a_row_of_few_has_the_same_bits_beside_any_others_on_the_gpu() {
    for dev in gpus() {
        for shape in [(7, 5), (264, 40)] {
            few_rows::<f32>(&dev, shape, &[2, FEW]);
            few_rows::<bf16>(&dev, shape, &[2, 9, FEW]);
        }
    }
}

#[test]
fn nan_stays_in_its_row() {
    let (N, I, O) = (30, 40, 21);
    for dev in devices(2) {
        for at in 0..I {
            let (mut x, w) = (vec![1f32; N * I], vec![1f32; O * I]);
            x[7 * I + at] = f32::NAN;
            let mut y = vec![0f32; N * O];
            forward(&dev, (&mut y[..]).into(), (&x[..]).into(), (&w[..]).into(), I, "");
            for (n, y) in y.chunks(O).enumerate() {
                assert!(y.iter().all(|y| y.is_nan() == (n == 7)), "NaN at {at}, row {n}");
            }
        }
    }
}
