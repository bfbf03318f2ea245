//! The sides of `compare.py gemm` that are other Rust crates: `gemm-peers gemm` or `gemm-peers faer`
//! reads requests "f32 fwd|dx|dw N I O CALLS" on stdin and answers each with a line of JSON.
#![allow(non_snake_case)] // the project's dimension letters

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use std::time::Instant;

/// C = A * B. A and B may be transposes; C is not.
type Product = fn(MatMut<f32>, MatRef<f32>, MatRef<f32>);

fn main() {
    let name = std::env::args().nth(1).unwrap_or_default();
    let product: Product = match name.as_str() {
        "gemm" => with_gemm,
        "faer" => |c, a, b| matmul(c, Accum::Replace, a, b, 1.0, Par::rayon(0)),
        _ => {
            eprintln!(
                "error: {name:?}: usage: gemm-peers gemm|faer; benches/peers/compare.py does it"
            );
            std::process::exit(2);
        }
    };
    println!("{{}}");
    for line in std::io::stdin().lines() {
        let line = line.expect("stdin is text");
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["f32", which, N, I, O, calls] = words[..] else { panic!("no request: {line}") };
        let [N, I, O, calls] = [N, I, O, calls].map(|n| n.parse().expect("a number"));
        println!("{{\"seconds\": {:?}}}", seconds(product, which, [N, I, O], calls));
    }
}

/// Seconds of each call, after one that does not count.
fn seconds(product: Product, which: &str, [N, I, O]: [usize; 3], calls: usize) -> Vec<f64> {
    let (mut x, mut y, mut w) = (numbers(N * I), numbers(N * O), numbers(O * I));
    let mut timed = || {
        let start = Instant::now();
        match which {
            "fwd" => product(to(&mut y, O), of(&x, I), of(&w, I).transpose()),
            "dx" => product(to(&mut x, I), of(&y, O), of(&w, I)),
            "dw" => product(to(&mut w, I), of(&y, O).transpose(), of(&x, I)),
            _ => panic!("no product: {which}"),
        }
        start.elapsed().as_secs_f64()
    };
    timed();
    (0..calls).map(|_| timed()).collect()
}

fn of(data: &[f32], cols: usize) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice(data, data.len() / cols, cols)
}

fn to(data: &mut [f32], cols: usize) -> MatMut<'_, f32> {
    MatMut::from_row_major_slice_mut(data, data.len() / cols, cols)
}

fn with_gemm(c: MatMut<f32>, a: MatRef<f32>, b: MatRef<f32>) {
    assert_eq!((a.nrows(), b.ncols(), a.ncols()), (c.nrows(), c.ncols(), b.nrows()));
    // SAFETY: pointers and strides are those of three matrices whose shapes agree; C is borrowed
    // alone, and not read because `read_dst` is false.
    unsafe {
        gemm::gemm(
            c.nrows(),
            c.ncols(),
            a.ncols(),
            c.as_ptr_mut(),
            c.col_stride(),
            c.row_stride(),
            false,
            a.as_ptr(),
            a.col_stride(),
            a.row_stride(),
            b.as_ptr(),
            b.col_stride(),
            b.row_stride(),
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::Rayon(0),
        )
    }
}

/// Numbers between -1 and 1, the same in every run.
fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|i| (2.0 * (i as f64 * 0.618_033_988_749_895).fract() - 1.0) as f32).collect()
}
