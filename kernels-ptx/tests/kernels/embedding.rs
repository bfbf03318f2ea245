use crate::check::{Bf16, F32, Gen, Output, devices, int, ptr};
use kernels_ptx::launch::{Storage, embedding};

/// (N, V, C): with few tokens, some come often.
const SHAPES: [(usize, usize, usize); 5] =
    [(1, 1, 1), (5, 9, 7), (40, 3, 8), (13, 50, 20), (100, 7, 264)];

fn case(storage: Storage, (N, V, C): (usize, usize, usize)) {
    let g = &mut Gen::new((N * 1000 + C) as u64);
    let tokens: Vec<u32> = (0..N).map(|_| g.below(V) as u32).collect();
    let (w, dx) = (g.normals(storage, V * C, 1.0), g.normals(storage, N * C, 1.0));
    let dw = g.normals(F32, V * C, 1.0);
    let row = |n: usize| tokens[n] as usize * C;
    let x: Vec<f64> = (0..N * C).map(|i| w[row(i / C) + i % C]).collect();
    let mut exact = dw.clone();
    for i in 0..N * C {
        exact[row(i / C) + i % C] += dx[i];
    }
    let order = embedding::order(&tokens);
    let context = format!("{storage:?} N{N} V{V} C{C}");
    for mut d in devices() {
        let (pw, px) = (d.put(storage, &w), d.room(storage, N * C));
        let ptokens = d.put_u32(&tokens);
        d.run(
            embedding::forward(storage, N as u32, C as u32),
            &[ptr(px), ptr(ptokens), ptr(pw), int(N), int(C)],
        );
        assert!(d.get(storage, px, N * C) == x, "{context}: forward copies");
        let (pdw, pdx) = (d.put(F32, &dw), d.put(storage, &dx));
        let [rows, starts, groups] =
            [&order.rows_N, &order.starts, &order.tokens].map(|v| d.put_u32(v));
        d.run(
            embedding::backward(storage, order.tokens.len() as u32, C as u32),
            &[&[pdw, pdx, rows, starts, groups].map(ptr)[..], &[int(C)]].concat(),
        );
        let got = d.get(F32, pdw, V * C);
        Output::new("dw", F32, got, exact.clone()).check(&context);
    }
}

#[test]
fn against_f64() {
    for shape in SHAPES {
        case(F32, shape);
        case(Bf16, shape);
    }
}

#[test]
fn order_groups_rows_by_token() {
    let order = embedding::order(&[7, 3, 7, 5, 3, 7]);
    assert_eq!(order.rows_N, [0, 2, 5, 1, 4, 3]);
    assert_eq!(order.starts, [0, 3, 5, 6]);
    assert_eq!(order.tokens, [7, 3, 5]);
}

#[test]
fn bytes() {
    let (N, V, C) = (256, 16, 512);
    let g = &mut Gen::new(0);
    let tokens: Vec<u32> = (0..N).map(|_| g.below(V) as u32).collect();
    let order = embedding::order(&tokens);
    for mut d in devices() {
        let (w, x) = (d.put(Bf16, &g.normals(Bf16, V * C, 1.0)), d.room(Bf16, N * C));
        let ptokens = d.put_u32(&tokens);
        d.run(
            embedding::forward(Bf16, N as u32, C as u32),
            &[ptr(x), ptr(ptokens), ptr(w), int(N), int(C)],
        );
        d.moved_at_most(2 * N * C * 2);
        let dw = d.put(F32, &g.normals(F32, V * C, 1.0));
        let [rows, starts, groups] =
            [&order.rows_N, &order.starts, &order.tokens].map(|v| d.put_u32(v));
        d.run(
            embedding::backward(Bf16, order.tokens.len() as u32, C as u32),
            &[&[dw, x, rows, starts, groups].map(ptr)[..], &[int(C)]].concat(),
        );
        // Every warp also reads the row numbers, one word a row.
        d.moved_at_most(N * C * 2 + 2 * order.tokens.len() * C * 4);
    }
}
