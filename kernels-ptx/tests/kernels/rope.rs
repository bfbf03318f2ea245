use crate::check::{Bf16, F32, Gen, Output, devices, int};
use kernels_ptx::launch::Storage;
use kernels_ptx::rope::Rotate;
use std::ptr::null;

/// (N, T, heads to turn, heads that stay, D)
const SHAPES: [Shape; 6] = [
    (1, 1, 1, 0, 2),
    (6, 3, 3, 1, 8),
    (10, 5, 5, 1, 64),
    (4, 4, 2, 2, 128),
    (7, 7, 9, 1, 6),
    (33, 11, 4, 2, 16),
];

type Shape = (usize, usize, usize, usize, usize);

/// Row n at position n mod T, which the kernel knows, or at one that it reads.
fn case(storage: Storage, (N, T, heads, rest, D): Shape, given: bool) {
    let at = |n: usize| if given { n * 7 % T } else { n % T };
    let g = &mut Gen::new((N * 1000 + D) as u64);
    let S = (heads + rest) * D;
    let x = g.normals(storage, N * S, 1.0);
    let angle = |t: usize, i: usize| t as f64 / 10000f64.powf(2.0 * i as f64 / D as f64);
    let table: Vec<f64> = (0..T * D)
        .map(|i| (i / D, i % D))
        .map(|(t, i)| if i < D / 2 { angle(t, i).cos() } else { angle(t, i - D / 2).sin() })
        .collect();
    for sign in [1.0, -1.0] {
        let mut y = x.clone();
        for (n, row) in y.chunks_mut(S).enumerate() {
            for head in row.chunks_mut(D).take(heads) {
                for i in 0..D / 2 {
                    let (sin, cos) = (sign * angle(at(n), i)).sin_cos();
                    let (a, b) = (head[i], head[i + D / 2]);
                    (head[i], head[i + D / 2]) = (a * cos - b * sin, b * cos + a * sin);
                }
            }
        }
        for mut d in devices() {
            let (x_NS, table_TD) = (d.put(storage, &x), d.put_f32(&table));
            let positions: Vec<u32> = (0..N).map(|n| at(n) as u32).collect();
            let rotate = Rotate {
                storage,
                x_NS,
                table_TD,
                positions_N: if given { d.put_u32(&positions) } else { null() },
                N: int(N),
                T: int(if given { 0 } else { T }),
                S: int(S),
                heads: int(heads),
                D: int(D),
                sign: sign as f32,
            };
            d.run(&rotate);
            let context = format!("{storage:?} N{N} T{T} S{S} D{D} sign {sign}, given {given}");
            let got = d.get(storage, x_NS, N * S);
            Output::new("x", storage, got, y.clone()).check(&context);
        }
    }
}

#[test]
fn against_f64() {
    for shape in SHAPES {
        for given in [false, true] {
            case(F32, shape, given);
            case(Bf16, shape, given);
        }
    }
}

#[test]
fn bytes() {
    let (N, heads, D) = (64, 40, 128);
    let g = &mut Gen::new(0);
    for mut d in devices() {
        let rotate = Rotate {
            storage: Bf16,
            x_NS: d.put_bf16(&g.normals(Bf16, N * heads * D, 1.0)),
            table_TD: d.put_f32(&g.normals(F32, N * D, 1.0)),
            positions_N: null(),
            N: int(N),
            T: int(N),
            S: int(heads * D),
            heads: int(heads),
            D: int(D),
            sign: 1.0,
        };
        d.run(&rotate);
        d.moved_at_most(2 * N * heads * D * 2);
    }
}
