use crate::check::{
    Gen, Output, agree, agree_on_gpus, central_differences, dot, matrix, notice, notice_on_gpus,
};
use crate::check::{put, rows_of, same_bits, take, wide};
use engine::ops::embedding::{backward, forward, reference};
use engine::{Device, Element, bf16};

/// (N, V, C)
const SHAPES: [(usize, usize, usize); 6] =
    [(1, 1, 1), (1, 37, 7), (3, 5, 8), (65, 16, 17), (130, 17, 33), (500, 301, 48)];

fn case<E: Element>(dev: &Device, g: &mut Gen, (N, V, C): (usize, usize, usize)) -> Vec<Output> {
    let tokens: Vec<u32> = (0..N).map(|_| g.below(V) as u32).collect();
    let w: Vec<E> = g.normals(V * C, 1.0);
    let dx: Vec<E> = g.normals(N * C, 1.0);
    let mut x = put(dev, &g.normals::<E>(N * C, 1.0));
    forward(dev, x.view_mut(), &tokens, put(dev, &w).view(), C);
    let x = take(x);
    let x_plain: Vec<E> =
        tokens.iter().flat_map(|&id| w[id as usize * C..][..C].iter().copied()).collect();

    let start: Vec<E::Acc> = g.normals(V * C, 1.0);
    let (mut dw, mut dw_plain) = (put(dev, &start), start.clone());
    backward(dev, dw.view_mut(), put(dev, &dx).view(), &tokens, C);
    let dw = take(dw);
    for n in 0..N {
        for c in 0..C {
            dw_plain[tokens[n] as usize * C + c] += dx[n * C + c].to_acc();
        }
    }
    let exact_dw = matrix(&start, C) + reference::backward(matrix(&dx, C).view(), &tokens, V);
    vec![
        Output::new("embedding x", &x, &x_plain, reference::forward(&tokens, matrix(&w, C).view())),
        Output::new("embedding dw", &dw, &dw_plain, exact_dw),
    ]
}

#[test]
fn reference_backward_against_central_differences() {
    let (N, V, C) = (5, 4, 3);
    let g = &mut Gen::new(0);
    let tokens: Vec<u32> = (0..N).map(|_| g.below(V) as u32).collect();
    let (w, dx) = (g.normals::<f64>(V * C, 1.0), g.normals::<f64>(N * C, 1.0));
    let dw = reference::backward(rows_of(&dx, C), &tokens, V);
    central_differences("dw", &w, dw, |w| dot(&reference::forward(&tokens, rows_of(w, C)), &dx));
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
    notice((65, 16, 17), case::<f32>);
    notice((65, 16, 17), case::<bf16>);
    notice_on_gpus((65, 16, 17), case::<f32>);
    notice_on_gpus((65, 16, 17), case::<bf16>);
}

#[test]
fn bits_do_not_depend_on_threads() {
    same_bits((500, 301, 48), case::<f32>);
    same_bits((500, 301, 48), case::<bf16>);
}

#[test]
fn nan_stays() {
    let dev = Device::cpu(2).unwrap();
    let (mut x, w) = ([0f32; 4], [1.0, f32::NAN]);
    forward(&dev, (&mut x[..]).into(), &[0, 1, 1, 0], (&w[..]).into(), 1);
    assert_eq!(wide(&x).iter().map(|x| x.is_nan()).collect::<Vec<_>>(), [false, true, true, false]);
}

#[test]
#[should_panic(expected = "embedding: a token id is beyond 2")]
fn a_token_beyond_the_table_panics() {
    let dev = Device::cpu(1).unwrap();
    forward(&dev, (&mut [0f32][..]).into(), &[2], (&[1f32, 2.0][..]).into(), 1);
}
