//! The matrix product on whole numbers so small that every storage type holds every sum: it must
//! be exact, whatever the order of additions.

use crate::check::{Gen, narrow, wide};
use engine::cpu::gemm::{Mat, Onto, product, product_wide};
use engine::{Cpu, Element, Isa, bf16};

/// Whole numbers from -1 to 1; sums of up to 200 products are exact in bf16.
fn small<E: Element>(g: &mut Gen, len: usize) -> Vec<E> {
    (0..len).map(|_| narrow(g.below(3) as f64 - 1.0)).collect()
}

/// A product of matrices in E, which writes C.
type Product<E, C> = fn(&Cpu, &mut [C], Mat<E>, Mat<E>, Onto<C>);

/// C = onto + A * B; bit 0 and 1 of `layout` transpose A and B.
fn check<E: Element, C: Element>(
    cpu: &Cpu,
    g: &mut Gen,
    [M, N, K]: [usize; 3],
    layout: usize,
    multiply: Product<E, C>,
) {
    let (a, b) = (small::<E>(g, M * K), small::<E>(g, K * N));
    let (addend, start) = (small::<C>(g, M * N), small::<C>(g, M * N));
    let (a_t, b_t) = (layout & 1 != 0, layout & 2 != 0);
    let (a_view, b_view) = (
        if a_t { Mat::new(&a, M).t() } else { Mat::new(&a, K) },
        if b_t { Mat::new(&b, K).t() } else { Mat::new(&b, N) },
    );
    let (wide_a, wide_b) = (wide(&a), wide(&b));
    let exact: Vec<f64> = (0..M * N)
        .map(|c| {
            let (i, j) = (c / N, c % N);
            let a = |k: usize| wide_a[if a_t { k * M + i } else { i * K + k }];
            let b = |k: usize| wide_b[if b_t { j * K + k } else { k * N + j }];
            (0..K).map(|k| a(k) * b(k)).sum()
        })
        .collect();
    for (onto, base) in [
        (Onto::Zero, vec![0.0; M * N]),
        (Onto::Itself, wide(&start)),
        (Onto::Addend(&addend), wide(&addend)),
    ] {
        let mut c = start.clone();
        multiply(cpu, &mut c, a_view, b_view, onto);
        let expected: Vec<f64> = base.iter().zip(&exact).map(|(base, p)| base + p).collect();
        let what = ["A B", "A^T B", "A B^T", "A^T B^T"][layout & 3];
        let isa = cpu.isa();
        assert!(
            wide(&c) == expected,
            "{isa:?} {} into {} {what}: {M} x {K} x {N}",
            E::NAME,
            C::NAME
        );
    }
}

/// Every M and N up to 40 with some K up to 40, in all layouts and storage types by turns.
#[test]
fn small_products_are_exact() {
    for isa in Isa::all_available() {
        let (cpu, g) = (Cpu::with_isa(1, isa).unwrap(), &mut Gen::new(0));
        for (M, N) in (1..=40).flat_map(|M| (1..=40).map(move |N| (M, N))) {
            let (shape, layout) = ([M, N, 1 + g.below(40)], g.below(4));
            check::<f32, f32>(&cpu, g, shape, layout, product);
            check::<bf16, bf16>(&cpu, g, shape, layout, product);
            match g.below(2) {
                0 => check::<bf16, f32>(&cpu, g, shape, layout, product_wide),
                _ => check::<f64, f64>(&cpu, g, shape, layout, product),
            }
        }
    }
}

/// Several tasks of rows, several blocks of k, several packed blocks of columns.
#[test]
fn large_products_are_exact() {
    for isa in Isa::all_available() {
        let (cpu, g) = (Cpu::with_isa(2, isa).unwrap(), &mut Gen::new(1));
        // The last two are wider than a packed block, which at K = 1024 has 2048 columns.
        for shape in [
            [200, 70, 50],
            [3, 300, 8192],
            [1, 1, 700],
            [97, 290, 321],
            [3001, 9, 2],
            [3, 2081, 1024],
            [2, 2051, 2048],
        ] {
            for layout in 0..4 {
                check::<f32, f32>(&cpu, g, shape, layout, product);
                check::<bf16, f32>(&cpu, g, shape, layout, product_wide);
                check::<f64, f64>(&cpu, g, shape, layout, product);
            }
        }
        // bf16 keeps sums of 200 products exactly, and those of 3000 whose signs are random. The last
        // two are summed in several blocks.
        for (shape, layout) in
            [[200, 70, 50], [97, 520, 180], [30, 600, 200], [50, 70, 3001], [5, 2081, 2050]]
                .into_iter()
                .zip([0, 1, 2, 3, 2])
        {
            check::<bf16, bf16>(&cpu, g, shape, layout, product);
            check::<bf16, f32>(&cpu, g, shape, layout, product_wide);
        }
    }
}

#[test]
#[should_panic(expected = "gemm: 2x3 * 2x2 into 4")]
fn shapes_that_disagree_panic() {
    let cpu = Cpu::new(1).unwrap();
    let (a, b, mut c) = ([0f32; 6], [0f32; 4], [0f32; 4]);
    product(&cpu, &mut c, Mat::new(&a, 3), Mat::new(&b, 2), Onto::Zero);
}
