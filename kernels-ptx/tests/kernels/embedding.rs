use crate::check::{Bf16, Device, F32, Gen, Output, devices, int};
use kernels_ptx::embedding::{Backward, Forward, Order, order};
use kernels_ptx::launch::Storage;

/// (N, V, C): with few tokens, some come often.
const SHAPES: [(usize, usize, usize); 5] =
    [(1, 1, 1), (5, 9, 7), (40, 3, 8), (13, 50, 20), (100, 7, 264)];

fn backward<E>(
    d: &mut Device,
    storage: Storage,
    dw_acc_VC: *mut f32,
    dx_NC: *const E,
    order: &Order,
    C: usize,
) -> Backward<E> {
    let [rows_N, starts, tokens] = [&order.rows_N, &order.starts, &order.tokens];
    let [rows_N, starts, tokens] = [rows_N, starts, tokens].map(|list| d.put_u32(list));
    let (C, groups) = (int(C), int(order.tokens.len()));
    Backward { storage, dw_acc_VC, dx_NC, rows_N, starts, tokens, C, groups }
}

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
    let order = order(&tokens);
    let context = format!("{storage:?} N{N} V{V} C{C}");
    for mut d in devices() {
        let (w_VC, x_NC) = (d.put(storage, &w), d.room(storage, N * C));
        let tokens_N = d.put_u32(&tokens);
        d.run(&Forward { storage, x_NC, tokens_N, w_VC, N: int(N), C: int(C) });
        assert!(d.get(storage, x_NC, N * C) == x, "{context}: forward copies");
        let (dw_acc_VC, dx_NC) = (d.put_f32(&dw), d.put(storage, &dx));
        let backward = backward(&mut d, storage, dw_acc_VC, dx_NC, &order, C);
        d.run(&backward);
        let got = d.get_f32(dw_acc_VC, V * C);
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
    let order = order(&[7, 3, 7, 5, 3, 7]);
    assert_eq!(order.rows_N, [0, 2, 5, 1, 4, 3]);
    assert_eq!(order.starts, [0, 3, 5, 6]);
    assert_eq!(order.tokens, [7, 3, 5]);
}

#[test]
fn bytes() {
    let (N, V, C) = (256, 16, 512);
    let g = &mut Gen::new(0);
    let tokens: Vec<u32> = (0..N).map(|_| g.below(V) as u32).collect();
    let order = order(&tokens);
    for mut d in devices() {
        let (w_VC, x_NC) = (d.put_bf16(&g.normals(Bf16, V * C, 1.0)), d.room_bf16(N * C));
        let tokens_N = d.put_u32(&tokens);
        d.run(&Forward { storage: Bf16, x_NC, tokens_N, w_VC, N: int(N), C: int(C) });
        d.moved_at_most(2 * N * C * 2);
        let dw_acc_VC = d.put_f32(&g.normals(F32, V * C, 1.0));
        let backward = backward(&mut d, Bf16, dw_acc_VC, x_NC, &order, C);
        d.run(&backward);
        // Every warp also reads the row numbers, one word a row.
        d.moved_at_most(N * C * 2 + 2 * order.tokens.len() * C * 4);
    }
}
