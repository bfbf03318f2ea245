use crate::check::{Gen, Output, agree, agree_on_gpus, central_differences, devices, dot, matrix};
use crate::check::{notice, notice_on_gpus, put, rows_of, same_bits, take};
use engine::ops::bias::{backward, forward, reference};
use engine::{Device, Element, bf16};
use ndarray::ArrayView1;

/// (N, O)
const SHAPES: [(usize, usize); 7] =
    [(1, 1), (1, 7), (3, 8), (65, 15), (33, 72), (5, 769), (300, 43)];

fn case<E: Element>(dev: &Device, g: &mut Gen, (N, O): (usize, usize)) -> Vec<Output> {
    let (y, dy) = (g.normals::<E>(N * O, 1.0), g.normals::<E>(N * O, 1.0));
    let (b, before) = (g.normals::<E>(O, 1.0), g.normals::<E::Acc>(O, 1.0));
    let (mut sum, mut db) = (put(dev, &y), put(dev, &before));
    forward(dev, sum.view_mut(), put(dev, &b).view());
    backward(dev, db.view_mut(), put(dev, &dy).view());

    let (mut sum_plain, mut db_plain) = (y.clone(), before.clone());
    for i in 0..N * O {
        sum_plain[i] = E::from_acc(y[i].to_acc() + b[i % O].to_acc());
        db_plain[i % O] += dy[i].to_acc();
    }
    let (y, dy, b) = (matrix(&y, O), matrix(&dy, O), matrix(&b, O));
    let db_exact = reference::backward(dy.view()) + matrix(&before, O).row(0);
    vec![
        Output::new("bias y", &take(sum), &sum_plain, reference::forward(y.view(), b.row(0))),
        Output::new("bias db", &take(db), &db_plain, db_exact),
    ]
}

#[test]
fn reference_backward_against_central_differences() {
    let (N, O) = (3, 4);
    let g = &mut Gen::new(0);
    let [y, dy] = [(); 2].map(|()| g.normals::<f64>(N * O, 1.0));
    let b = g.normals::<f64>(O, 1.0);
    let db = reference::backward(rows_of(&dy, O));
    let f = |b: &[f64]| dot(&reference::forward(rows_of(&y, O), ArrayView1::from(b)), &dy);
    central_differences("db", &b, db, f);
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
    notice((33, 72), case::<f32>);
    notice((33, 72), case::<bf16>);
    notice_on_gpus((33, 72), case::<f32>);
    notice_on_gpus((33, 72), case::<bf16>);
}

#[test]
fn bits_do_not_depend_on_threads() {
    same_bits((300, 43), case::<f32>);
    same_bits((300, 43), case::<bf16>);
}

#[test]
fn nan_stays_in_its_column() {
    let (N, O) = (3, 19);
    for dev in devices(1) {
        for at in 0..O {
            let (mut y, mut b) = (vec![1f32; N * O], vec![1f32; O]);
            b[at] = f32::NAN;
            forward(&dev, (&mut y[..]).into(), (&b[..]).into());
            for (i, y) in y.iter().enumerate() {
                assert_eq!(y.is_nan(), i % O == at, "NaN at {at}, element {i}");
            }
        }
    }
}
