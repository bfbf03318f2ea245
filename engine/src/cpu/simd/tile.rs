//! The inner loop of every matrix product: a tile of sums that stays in registers.

use super::{Factors, Vector};
use crate::element::Real;

/// Whole rows of a left factor: element (i, k) is `data[i * row + k * col]`.
#[derive(Clone, Copy)]
pub struct Lines<'a, I> {
    /// From the first element on.
    pub data: &'a [I],
    /// Elements from one row to the next.
    pub row: usize,
    /// Elements from one column to the next.
    pub col: usize,
}

/// How large a tile is, which the number of registers decides.
pub trait TileShape {
    /// Rows.
    const ROWS: usize;
    /// Vectors of columns.
    const VECTORS: usize;
    /// See [`Vector::sums`].
    fn sums<V: Vector, F: Factors<V>, const P: usize>(
        a: [Lines<'_, F::Item>; P],
        b: [&[F::Item]; P],
        k: usize,
        half: bool,
        start: impl Fn(usize, usize, usize) -> V,
        put: impl FnMut(usize, [&[V]; P]),
    );
}

/// Tiles of `M` rows, or two products' of `HALF`, and of `N` vectors of columns.
pub struct Tile<const M: usize, const HALF: usize, const N: usize>;

impl<const M: usize, const HALF: usize, const N: usize> TileShape for Tile<M, HALF, N> {
    const ROWS: usize = M;
    const VECTORS: usize = N;
    #[inline(always)]
    fn sums<V: Vector, F: Factors<V>, const P: usize>(
        a: [Lines<'_, F::Item>; P],
        b: [&[F::Item]; P],
        k: usize,
        half: bool,
        start: impl Fn(usize, usize, usize) -> V,
        put: impl FnMut(usize, [&[V]; P]),
    ) {
        const { assert!(2 * HALF == M && (P == 1 || P == 2)) }
        match (P, half) {
            (1, false) => sums::<V, F, P, M, N, N>(a, b, k, start, put),
            (1, true) => sums::<V, F, P, M, 1, N>(a, b, k, start, put),
            (_, false) => sums::<V, F, P, HALF, N, N>(a, b, k, start, put),
            (_, true) => sums::<V, F, P, HALF, 1, N>(a, b, k, start, put),
        }
    }
}

/// M rows and N vectors of columns of each product, from panels W vectors wide.
#[inline(always)]
fn sums<
    V: Vector,
    F: Factors<V>,
    const P: usize,
    const M: usize,
    const N: usize,
    const W: usize,
>(
    a: [Lines<'_, F::Item>; P],
    b: [&[F::Item]; P],
    K: usize,
    start: impl Fn(usize, usize, usize) -> V,
    mut put: impl FnMut(usize, [&[V]; P]),
) {
    const { assert!(N <= W) };
    let mut acc = [[[V::splat(V::Scalar::ZERO); N]; M]; P];
    for p in 0..P {
        let Lines { data, row, col } = a[p];
        assert!(K > 0 && (M - 1) * row + (K - 1) * col < data.len());
        assert!(K * W * V::LANES <= b[p].len());
        for i in 0..M {
            for j in 0..N {
                acc[p][i][j] = start(p, i, j);
            }
        }
    }
    for k in 0..K {
        for p in 0..P {
            // SAFETY: (k + 1) * W * LANES <= K * W * LANES <= b[p].len(), asserted above.
            let b_k = unsafe { b[p].get_unchecked(k * W * V::LANES..(k + 1) * W * V::LANES) };
            let mut factors = [F::load_items(b_k); N];
            for j in 1..N {
                factors[j] = F::load_items(&b_k[j * V::LANES..]);
            }
            let Lines { data, row, col } = a[p];
            for i in 0..M {
                // SAFETY: i * row + k * col <= (M - 1) * row + (K - 1) * col < data.len(), asserted
                // above.
                let a_ik = F::splat_item(unsafe { *data.get_unchecked(i * row + k * col) });
                for j in 0..N {
                    acc[p][i][j] = a_ik.mul_add(factors[j], acc[p][i][j]);
                }
            }
        }
    }
    // Not a loop: one with as long a body stays a loop, and then sums do not stay in registers.
    const { assert!(M <= 12) };
    put_row(0, &acc, &mut put);
    put_row(1, &acc, &mut put);
    put_row(2, &acc, &mut put);
    put_row(3, &acc, &mut put);
    put_row(4, &acc, &mut put);
    put_row(5, &acc, &mut put);
    put_row(6, &acc, &mut put);
    put_row(7, &acc, &mut put);
    put_row(8, &acc, &mut put);
    put_row(9, &acc, &mut put);
    put_row(10, &acc, &mut put);
    put_row(11, &acc, &mut put);
}

/// Hands on row `i` of each product, if tiles have as many.
#[inline(always)]
fn put_row<V, const P: usize, const M: usize, const N: usize>(
    i: usize,
    sums: &[[[V; N]; M]; P],
    put: &mut impl FnMut(usize, [&[V]; P]),
) {
    if i < M {
        let mut row = [&sums[0][i][..]; P];
        for p in 1..P {
            row[p] = &sums[p][i];
        }
        put(i, row);
    }
}
