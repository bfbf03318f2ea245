use crate::check::{
    Gen, Output, agree, agree_on_gpus, central_differences, devices, dot, notice, notice_on_gpus,
};
use crate::check::{put, same_bits, take, wide};
use engine::ops::rope::{backward_inplace, forward_inplace, frequencies, reference, table};
use engine::{Device, Element, Real, Segments, bf16};
use ndarray::{Array2, Array3, ArrayView3, s};

const THETA: f64 = 10000.0;

/// (lengths and first positions of segments, heads, D, further columns of a row)
type Shape = (&'static [(usize, usize)], usize, usize, usize);
/// Equal lengths.
const SHAPES: [Shape; 9] = [
    (&[(1, 0)], 1, 2, 0),
    (&[(5, 0)], 1, 10, 0),
    (&[(7, 0); 3], 3, 12, 5),
    (&[(33, 0); 2], 2, 48, 96),
    (&[(96, 0)], 1, 64, 1),
    (&[(17, 0); 2], 4, 80, 80),
    (&[(40, 0)], 2, 128, 0),
    (&[(1, 0); 5], 3, 34, 2),
    (&[(300, 0)], 1, 32, 0),
];
/// Other lengths, and sequences that go on.
const PACKED: [Shape; 4] = [
    (&[(1, 0), (2, 0), (1, 5)], 1, 2, 0),
    (&[(3, 0), (16, 0), (1, 0), (31, 7)], 2, 48, 3),
    (&[(40, 9)], 1, 64, 1),
    (&[(1, 0), (1, 33), (1, 2)], 3, 10, 5),
];

fn segments((list, ..): Shape) -> Segments {
    let mut segments = Segments::default();
    list.iter().for_each(|&(len, first)| segments.push(len, first));
    segments
}

/// The position of every row.
fn positions((list, ..): Shape) -> Vec<usize> {
    list.iter().flat_map(|&(len, first)| first..first + len).collect()
}

fn plain<E: Element>(x: &[E], table: &[E::Acc], shape: Shape, sign: E::Acc) -> Vec<E> {
    let (_, heads, D, more) = shape;
    let (S, half) = (heads * D + more, D / 2);
    let mut y = x.to_vec();
    for (n, t) in positions(shape).into_iter().enumerate() {
        for h in 0..heads {
            for i in 0..half {
                let (cos, sin) = (table[t * D + i], table[t * D + half + i] * sign);
                let (a, b) = (n * S + h * D + i, n * S + h * D + half + i);
                y[a] = E::from_acc(x[a].to_acc() * cos - x[b].to_acc() * sin);
                y[b] = E::from_acc(x[b].to_acc() * cos + x[a].to_acc() * sin);
            }
        }
    }
    y
}

/// The reference on the heads of each row; the other columns as they were.
fn exact<E: Element>(
    x: &[E],
    shape: Shape,
    turn: fn(ArrayView3<f64>, &Segments, f64) -> Array3<f64>,
) -> Array2<f64> {
    let (_, heads, D, more) = shape;
    let N = positions(shape).len();
    let mut rows = Array2::from_shape_vec((N, heads * D + more), wide(x)).unwrap();
    let x =
        rows.slice(s![.., ..heads * D]).to_owned().into_shape_with_order((N, heads, D)).unwrap();
    let y = turn(x.view(), &segments(shape), THETA).into_shape_with_order((N, heads * D)).unwrap();
    rows.slice_mut(s![.., ..heads * D]).assign(&y);
    rows
}

fn case<E: Element>(dev: &Device, g: &mut Gen, shape: Shape) -> Vec<Output> {
    let (_, heads, D, more) = shape;
    let (S, segments) = (heads * D + more, &segments(shape));
    let N = segments.rows();
    let (x, dy) = (g.normals::<E>(N * S, 1.0), g.normals::<E>(N * S, 1.0));
    let table = table::<E::Acc>(dev, segments.reach() + 1, &frequencies(D, THETA), 1.0);
    let (mut y, mut dx) = (put(dev, &x), put(dev, &dy));
    forward_inplace(dev, y.view_mut(), table.view(), segments, S, heads, D);
    backward_inplace(dev, dx.view_mut(), table.view(), segments, S, heads, D);
    let (y, dx, table) = (take(y), take(dx), take(table));
    let (forwards, back) = (E::Acc::ONE, -E::Acc::ONE);
    let [y_plain, dx_plain] =
        [(&x, forwards), (&dy, back)].map(|(x, sign)| plain(x, &table, shape, sign));
    vec![
        Output::new("rope y", &y, &y_plain, exact(&x, shape, reference::forward)),
        Output::new("rope dx", &dx, &dx_plain, exact(&dy, shape, reference::backward)),
    ]
}

#[test]
fn reference_backward_against_central_differences() {
    let (N, heads, D, packed) = (6, 2, 4, &segments((&[(3, 0), (1, 4), (2, 0)], 2, 4, 0)));
    let g = &mut Gen::new(0);
    let [x, dy] = [(); 2].map(|()| g.normals::<f64>(N * heads * D, 1.0));
    fn cube(x: &[f64]) -> ArrayView3<'_, f64> {
        ArrayView3::from_shape((x.len() / 8, 2, 4), x).unwrap()
    }
    let dx = reference::backward(cube(&dy), packed, THETA);
    central_differences("dx", &x, dx, |x| dot(&reference::forward(cube(x), packed, THETA), &dy));
}

#[test]
fn cpu_against_reference() {
    for shapes in [&SHAPES[..], &PACKED] {
        agree(shapes, case::<f64>);
        agree(shapes, case::<f32>);
        agree(shapes, case::<bf16>);
    }
}

#[test]
fn gpu_against_reference() {
    for shapes in [&SHAPES[..], &PACKED] {
        agree_on_gpus(shapes, case::<f32>);
        agree_on_gpus(shapes, case::<bf16>);
    }
}

#[test]
fn planted_errors_are_noticed() {
    for shape in [SHAPES[3], PACKED[1]] {
        notice(shape, case::<f32>);
        notice(shape, case::<bf16>);
        notice_on_gpus(shape, case::<f32>);
        notice_on_gpus(shape, case::<bf16>);
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    same_bits(SHAPES[3], case::<f32>);
    same_bits(PACKED[1], case::<bf16>);
}

#[test]
fn nan_stays_in_its_pair() {
    let (D, whole) = (38, &Segments::equal(1, 2));
    for dev in devices(1) {
        let table = table::<f32>(&dev, 2, &frequencies(D, THETA), 1.0);
        for at in 0..D {
            let mut x = vec![1f32; 2 * D];
            x[D + at] = f32::NAN;
            forward_inplace(&dev, (&mut x[..]).into(), table.view(), whole, D, 1, D);
            for (i, x) in x.iter().enumerate() {
                let hit = i >= D && (i - D) % (D / 2) == at % (D / 2);
                assert_eq!(x.is_nan(), hit, "NaN at {at}, element {i}");
            }
        }
    }
}

/// Other frequencies, and cosines and sines that are scaled: elements turn by their own angle, and
/// backward is the transposed of forward.
#[test]
fn any_frequencies_and_a_scale() {
    let (frequencies, scale, segments) = ([0.7, 0.01, 0.3], 1.25, &segments((&[(5, 2)], 1, 6, 0)));
    let g = &mut Gen::new(3);
    for dev in devices(1) {
        let table = table::<f32>(&dev, 7, &frequencies, scale);
        let [x, dy] = [(); 2].map(|()| g.normals::<f32>(5 * 6, 1.0));
        let (mut y, mut dx) = (put(&dev, &x), put(&dev, &dy));
        forward_inplace(&dev, y.view_mut(), table.view(), segments, 6, 1, 6);
        backward_inplace(&dev, dx.view_mut(), table.view(), segments, 6, 1, 6);
        let (y, dx) = (take(y), take(dx));
        for n in 0..5 {
            for (i, frequency) in frequencies.iter().enumerate() {
                let (sin, cos) = ((n + 2) as f64 * frequency).sin_cos();
                let [a, b] = [i, i + 3].map(|i| f64::from(x[n * 6 + i]));
                let want = [scale * (a * cos - b * sin), scale * (b * cos + a * sin)];
                for (i, want) in [i, i + 3].into_iter().zip(want) {
                    assert!((f64::from(y[n * 6 + i]) - want).abs() < 1e-6, "row {n}, element {i}");
                }
            }
        }
        let products = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
        };
        assert!((products(&dy, &y) - products(&dx, &x)).abs() < 1e-5);
    }
}
