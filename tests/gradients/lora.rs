use crate::check::{
    Gen, Output, agree, agree_on_gpus, central_differences, dot, everywhere, matrix,
};
use crate::check::{notice, notice_on_gpus, on_the_way, put, rows_of, same_bits, sum_bound, take};
use engine::ops::linear;
use engine::ops::lora::{Place, backward_b, backward_input, forward, reference};
use engine::{Buf, Device, Element, Real, bf16};

/// N, I, r, O, the first column of y and columns in all: alone, beside others, at odd places, as few
/// rows as decoding has, and as deep as products go before they are cut.
const SHAPES: [(usize, usize, usize, usize, usize, usize); 8] = [
    (1, 1, 1, 1, 0, 1),
    (5, 7, 3, 4, 2, 9),
    (3, 24, 8, 16, 16, 48),
    (16, 64, 8, 40, 8, 64),
    (17, 33, 4, 14, 14, 28),
    (130, 48, 16, 36, 7, 50),
    (2100, 16, 8, 24, 0, 24),
    (4, 2100, 5, 2056, 4, 2064),
];

/// Not a power of two, so that multiplying by it rounds.
const SCALE: f64 = 1.7;

/// s times the sum of products, rounded as an op rounds: once as a sum, once scaled.
fn low<E: Element>(K: usize, product: impl Fn(usize) -> E::Acc) -> E {
    let sum = (0..K).fold(E::Acc::ZERO, |sum, k| sum + product(k));
    E::from_acc(E::from_acc(sum).to_acc() * E::Acc::from_f64(SCALE))
}

fn case<E: Element>(
    dev: &Device,
    g: &mut Gen,
    (N, I, r, O, first, stride): (usize, usize, usize, usize, usize, usize),
) -> Vec<Output> {
    let (x, y, dy) =
        (g.normals::<E>(N * I, 1.0), g.normals::<E>(N * stride, 1.0), g.normals(N * stride, 1.0));
    let (a, b) = (g.normals::<E>(r * I, (I as f64).powf(-0.5)), g.normals::<E>(O * r, 0.5));
    let (dx, da, db) =
        (g.normals::<E>(N * I, 1.0), g.normals(r * I, 1.0), g.normals::<E::Acc>(O * r, 1.0));
    let at = Place { first, stride, scale: SCALE };

    let [x_at, dy_at, a_at, b_at] = [&x, &dy, &a, &b].map(|values| put(dev, values));
    let (mut y_at, mut dx_at) = (put(dev, &y), put(dev, &dx));
    let (mut da_at, mut db_at) = (put(dev, &da), put(dev, &db));
    let [mut t, mut u] = [(); 2].map(|()| Buf::<E>::zeros(dev, N * r));
    let (a_rI, b_Or, x_NI, dy_NO) = (a_at.view(), b_at.view(), x_at.view(), dy_at.view());
    forward(dev, y_at.view_mut(), t.view_mut(), x_NI, a_rI, b_Or, at, I, "");
    backward_input(dev, dx_at.view_mut(), u.view_mut(), dy_NO, a_rI, b_Or, at, I, "");
    backward_b(dev, db_at.view_mut(), t.view_mut(), dy_NO, x_NI, a_rI, at, I, "");
    linear::backward_weight(dev, da_at.view_mut(), u.view(), x_NI, I, "");
    let (y_got, dx_got, da_got, db_got) = (take(y_at), take(dx_at), take(da_at), take(db_at));

    let mul = |x: E, y: E| x.to_acc() * y.to_acc();
    let dy_of = |n: usize, o: usize| dy[n * stride + first + o];
    let t_of = |n: usize, k: usize| low::<E>(I, |i| mul(x[n * I + i], a[k * I + i]));
    let u_of = |n: usize, k: usize| low::<E>(O, |o| mul(dy_of(n, o), b[o * r + k]));
    let cells = |rows: usize, cols: usize| (0..rows * cols).map(move |i| (i / cols, i % cols));
    let t: Vec<E> = cells(N, r).map(|(n, k)| t_of(n, k)).collect();
    let u: Vec<E> = cells(N, r).map(|(n, k)| u_of(n, k)).collect();
    let sum = |K: usize, of: &dyn Fn(usize) -> E::Acc| (0..K).fold(E::Acc::ZERO, |s, k| s + of(k));
    let mut y_plain = y.clone();
    for (n, o) in cells(N, O) {
        let cell = &mut y_plain[n * stride + first + o];
        *cell = E::from_acc(cell.to_acc() + sum(r, &|k| mul(t[n * r + k], b[o * r + k])));
    }
    let dx_plain: Vec<E> = cells(N, I)
        .map(|(n, i)| {
            let sum = sum(r, &|k| mul(u[n * r + k], a[k * I + i]));
            E::from_acc(dx[n * I + i].to_acc() + sum)
        })
        .collect();
    let da_plain: Vec<E::Acc> = cells(r, I)
        .map(|(k, i)| da[k * I + i] + sum(N, &|n| mul(u[n * r + k], x[n * I + i])))
        .collect();
    let db_plain: Vec<E::Acc> = cells(O, r)
        .map(|(o, k)| db[o * r + k] + sum(N, &|n| mul(dy_of(n, o), t[n * r + k])))
        .collect();

    let [x, a, b] = [(&x, I), (&a, I), (&b, r)].map(|(values, cols)| matrix(values, cols));
    let (y, dy) = (matrix(&y, stride), matrix(&dy, stride));
    let own = ndarray::s![.., first..first + O];
    let mut exact_y = y.clone();
    exact_y
        .slice_mut(own)
        .scaled_add(1.0, &reference::forward(x.view(), a.view(), b.view(), SCALE));
    let dy = dy.slice(own);
    let (of_x, of_a, of_b) = reference::backward(dy, x.view(), a.view(), b.view(), SCALE);
    let (exact_dx, exact_da, exact_db) =
        (of_x + matrix(&dx, I), of_a + matrix(&da, I), of_b + matrix(&db, r));

    // What tensor cores may do to t and u goes on into every product of theirs.
    let largest = |m: &ndarray::Array2<f64>| m.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
    let way_t = on_the_way(N * r, I, |c, i| x[[c / r, i]] * a[[c % r, i]]);
    let way_u = on_the_way(N * r, O, |c, o| dy[[c / r, o]] * b[[o, c % r]]);
    let low_t = |capability| SCALE * sum_bound::<E>(capability, I, way_t);
    let low_u = |capability| SCALE * sum_bound::<E>(capability, O, way_u);
    let most_t = SCALE * way_t;
    let most_u = SCALE * way_u;
    let bound = |K: usize, factor: f64, low: f64, most: f64, capability: u32| {
        K as f64 * factor * low + sum_bound::<E>(capability, K, K as f64 * most * factor)
    };
    let (big_x, big_a, big_b) = (largest(&x), largest(&a), largest(&b));
    let big_dy = dy.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
    vec![
        Output::new("lora y", &y_got, &y_plain, exact_y)
            .allowing(dev, |c| bound(r, big_b, low_t(c), most_t, c)),
        Output::new("lora dx", &dx_got, &dx_plain, exact_dx)
            .allowing(dev, |c| bound(r, big_a, low_u(c), most_u, c)),
        Output::new("lora dA", &da_got, &da_plain, exact_da)
            .allowing(dev, |c| bound(N, big_x, low_u(c), most_u, c)),
        Output::new("lora dB", &db_got, &db_plain, exact_db)
            .allowing(dev, |c| bound(N, big_dy, low_t(c), most_t, c)),
    ]
}

#[test]
fn reference_backward_against_central_differences() {
    let (N, I, r, O) = (3, 4, 2, 5);
    let g = &mut Gen::new(0);
    let [x, a, b, dy] = [N * I, r * I, O * r, N * O].map(|len| g.normals::<f64>(len, 1.0));
    let f = |x: &[f64], a: &[f64], b: &[f64]| {
        dot(&reference::forward(rows_of(x, I), rows_of(a, I), rows_of(b, r), SCALE), &dy)
    };
    let (dy, at) = (rows_of(&dy, O), (rows_of(&x, I), rows_of(&a, I), rows_of(&b, r)));
    let (dx, da, db) = reference::backward(dy, at.0, at.1, at.2, SCALE);
    central_differences("dx", &x, dx, |x| f(x, &a, &b));
    central_differences("dA", &a, da, |a| f(&x, a, &b));
    central_differences("dB", &b, db, |b| f(&x, &a, b));
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
    notice((5, 7, 3, 4, 2, 9), case::<f32>);
    notice((5, 7, 3, 4, 2, 9), case::<bf16>);
    notice_on_gpus((5, 7, 3, 4, 2, 9), case::<f32>);
    notice_on_gpus((3, 24, 8, 16, 16, 48), case::<bf16>);
}

#[test]
fn bits_do_not_depend_on_threads() {
    same_bits((200, 350, 8, 70, 10, 90), case::<f32>);
    same_bits((200, 350, 8, 70, 10, 90), case::<bf16>);
}

/// Columns beside an adapter's are its neighbours'.
#[test]
fn other_columns_stay_as_they_are() {
    let (N, I, r, stride) = (20, 16, 4, 40);
    everywhere(|dev| {
        let g = &mut Gen::new(3);
        let [x, a, b] = [N * I, r * I, 8 * r].map(|len| put(dev, &g.normals::<bf16>(len, 1.0)));
        let y = g.normals::<bf16>(N * stride, 1.0);
        for first in [0, 3, 16, 32] {
            let (mut y_at, mut t) = (put(dev, &y), Buf::<bf16>::zeros(dev, N * r));
            let at = Place { first, stride, scale: SCALE };
            let (x, a, b) = (x.view(), a.view(), b.view());
            forward(dev, y_at.view_mut(), t.view_mut(), x, a, b, at, I, "");
            for (i, (got, old)) in take(y_at).iter().zip(&y).enumerate() {
                let own = (first..first + 8).contains(&(i % stride));
                assert!(own || got == old, "{}: column {}", dev.describe(), i % stride);
            }
        }
    });
}
