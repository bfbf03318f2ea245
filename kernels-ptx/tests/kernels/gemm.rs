use crate::check::{Bf16, Device, F32, Gen, Output, devices, int, ptr};
use kernels_ptx::launch::gemm::{self, Layout};
use kernels_ptx::launch::{Launch, Target};
use kernels_ptx::tiles::gemm::{BK, STAGES};
use ptx_emu::{Arg, Class};

/// (M, N, K): one token, edges in every direction, several blocks, more slices than stages.
const SHAPES: [(usize, usize, usize); 6] =
    [(1, 1, 1), (1, 40, 72), (130, 9, 65), (65, 300, 200), (257, 130, 33), (64, 129, 330)];

/// A launch with tiles of 128 x BN, whatever the shape.
fn tiled(kernel: &'static str, BN: u32, M: usize, N: usize, splits: u32) -> Launch {
    Launch {
        kernel,
        blocks: [(M as u32).div_ceil(128) * (N as u32).div_ceil(BN), 1, splits],
        threads: BN,
        shared_bytes: STAGES * (128 + BN) * BK * 2,
    }
}

/// Rows by columns with a pitch of `ld`; what is beyond a row's end must not be read.
pub fn pitched(x: &[f64], cols: usize, ld: usize) -> Vec<f64> {
    let gap = vec![f64::NAN; ld - cols];
    x.chunks(cols).flat_map(|row| row.iter().chain(&gap).copied()).collect()
}

struct Case {
    layout: Layout,
    M: usize,
    N: usize,
    K: usize,
    /// As they lie in memory, without gaps.
    a: Vec<f64>,
    b: Vec<f64>,
    c: Vec<f64>,
    exact: Vec<f64>,
}

impl Case {
    fn new(layout: Layout, (M, N, K): (usize, usize, usize)) -> Case {
        let g = &mut Gen::new((M * 1_000_000 + N * 1000 + K) as u64);
        let (a, b) = (g.normals(Bf16, M * K, 1.0), g.normals(Bf16, N * K, 1.0));
        let c = g.normals(Bf16, M * N, (K as f64).sqrt());
        let at_a = |m: usize, k: usize| if layout == Layout::Tn { k * M + m } else { m * K + k };
        let at_b = |n: usize, k: usize| if layout == Layout::Nt { n * K + k } else { k * N + n };
        let mut exact = vec![0.0; M * N];
        for m in 0..M {
            for n in 0..N {
                exact[m * N + n] = (0..K).map(|k| a[at_a(m, k)] * b[at_b(n, k)]).sum();
            }
        }
        Case { layout, M, N, K, a, b, c, exact }
    }

    /// Columns of A and of B in memory.
    fn cols(&self) -> (usize, usize) {
        let a = if self.layout == Layout::Tn { self.M } else { self.K };
        (a, if self.layout == Layout::Nt { self.K } else { self.N })
    }

    fn operands(&self, d: &mut Device, wide: bool) -> ([Arg<'static>; 2], [usize; 2]) {
        let (cols_a, cols_b) = self.cols();
        let ld = |cols: usize| if wide { cols.next_multiple_of(8) } else { cols };
        let (lda, ldb) = (ld(cols_a), ld(cols_b));
        let a = d.put(Bf16, &pitched(&self.a, cols_a, lda));
        let b = d.put(Bf16, &pitched(&self.b, cols_b, ldb));
        ([ptr(a), ptr(b)], [lda, ldb])
    }

    fn sizes(&self, lds: [usize; 2], ldc: usize) -> [Arg<'static>; 6] {
        [self.M, self.N, self.K, lds[0], lds[1], ldc].map(int)
    }

    fn rounded(&self, kernel: &'static str, BN: u32, wide: bool) {
        let Case { M, N, K, .. } = *self;
        for mut d in devices() {
            let (operands, lds) = self.operands(&mut d, wide);
            let launch = tiled(kernel, BN, M, N, 1);
            for residual in [false, true] {
                let c = d.room(Bf16, M * N);
                let r = if residual { d.put(Bf16, &self.c) } else { 0 };
                let sizes = self.sizes(lds, N);
                d.run(launch, &[&[ptr(c), ptr(r)], &operands[..], &sizes].concat());
                let context = format!("{kernel} M{M} N{N} K{K} residual {residual}");
                let add = |(e, c): (&f64, &f64)| if residual { e + c } else { *e };
                let exact = self.exact.iter().zip(&self.c).map(add).collect();
                Output::new("c", Bf16, d.get(Bf16, c, M * N), exact).check(&context);
            }
        }
    }

    fn wide(&self, kernel: &'static str, BN: u32, wide: bool) {
        let Case { M, N, K, .. } = *self;
        for mut d in devices() {
            let (operands, lds) = self.operands(&mut d, wide);
            let context = format!("{kernel} M{M} N{N} K{K}");
            let sum = |(e, c): (&f64, &f64)| e + c;
            let exact: Vec<f64> = self.exact.iter().zip(&self.c).map(sum).collect();
            let sizes = self.sizes(lds, N);
            let c = d.put(F32, &self.c);
            let tail = [int(K.next_multiple_of(64)), int(1)];
            let launch = tiled(kernel, BN, M, N, 1);
            d.run(launch, &[&[ptr(c)], &operands[..], &sizes, &tail].concat());
            let got = d.get(F32, c, M * N);
            Output::new("c", F32, got, exact.clone()).check(&context);

            // The same in parts of 128, summed afterwards.
            let splits = K.div_ceil(128);
            let (c, parts) = (d.put(F32, &self.c), d.room(F32, splits * M * N));
            let launch = tiled(kernel, BN, M, N, splits as u32);
            let tail = [int(128), int(0)];
            d.run(launch, &[&[ptr(parts)], &operands[..], &sizes, &tail].concat());
            let len = (M * N) as u64;
            d.run(gemm::add_parts(len), &[ptr(c), ptr(parts), Arg::U64(len), int(splits)]);
            let got = d.get(F32, c, M * N);
            Output::new("c in parts", F32, got, exact).check(&context);
        }
    }
}

#[test]
fn nt_against_f64() {
    for shape in SHAPES {
        let case = Case::new(Layout::Nt, shape);
        case.rounded("gemm_nt_bf16_128x256", 256, true);
        case.rounded("gemm_nt_bf16_128x128", 128, true);
        case.rounded("gemm_nt_bf16_any", 128, false);
        case.wide("gemm_nt_bf16_f32_128x256", 256, true);
        case.wide("gemm_nt_bf16_f32_any", 128, false);
    }
}

#[test]
fn nn_against_f64() {
    for shape in SHAPES {
        let case = Case::new(Layout::Nn, shape);
        case.rounded("gemm_nn_bf16_128x256", 256, true);
        case.rounded("gemm_nn_bf16_128x128", 128, true);
        case.rounded("gemm_nn_bf16_any", 128, false);
    }
}

#[test]
fn tn_against_f64() {
    for shape in SHAPES {
        let case = Case::new(Layout::Tn, shape);
        case.wide("gemm_tn_bf16_f32_128x256", 256, true);
        case.wide("gemm_tn_bf16_f32_128x128", 128, true);
        case.wide("gemm_tn_bf16_f32_any", 128, false);
    }
}

#[test]
fn f32_against_f64() {
    for (M, N, K) in SHAPES {
        for layout in [Layout::Nt, Layout::Nn, Layout::Tn] {
            let case = Case::new(layout, (M, N, K));
            let (cols_a, cols_b) = case.cols();
            let a = if layout == Layout::Tn { [1, cols_a] } else { [cols_a, 1] };
            let b = if layout == Layout::Nt { [1, cols_b] } else { [cols_b, 1] };
            for mut d in devices() {
                let (pa, pb) = (d.put(F32, &case.a), d.put(F32, &case.b));
                for (add, residual) in [(0, false), (1, false), (0, true)] {
                    let (c, r) = (d.put(F32, &case.c), d.put(F32, &case.c));
                    let r = if residual { r } else { 0 };
                    let strides = [M, N, K, a[0], a[1], b[0], b[1], N, add].map(int);
                    let args = [&[c, r, pa, pb].map(ptr)[..], &strides].concat();
                    d.run(gemm::f32(M as u32, N as u32), &args);
                    let old = f64::from(u8::from(add == 1 || residual));
                    let sum = |(e, c): (&f64, &f64)| e + old * c;
                    let exact = case.exact.iter().zip(&case.c).map(sum).collect();
                    let context = format!("f32 {layout:?} M{M} N{N} K{K} add {add}");
                    Output::new("c", F32, d.get(F32, c, M * N), exact).check(&context);
                }
            }
        }
    }
}

/// The main loop meets no bank twice, and multiplies nothing that is not asked for.
#[test]
fn no_bank_conflicts() {
    let kernels = [
        (Layout::Nt, "gemm_nt_bf16_128x256", 256),
        (Layout::Nt, "gemm_nt_bf16_128x128", 128),
        (Layout::Nn, "gemm_nn_bf16_128x256", 256),
        (Layout::Nn, "gemm_nn_bf16_128x128", 128),
        (Layout::Tn, "gemm_tn_bf16_f32_128x256", 256),
        (Layout::Tn, "gemm_tn_bf16_f32_128x128", 128),
    ];
    for (layout, kernel, BN) in kernels {
        let case = Case::new(layout, (128, 256, 256));
        for mut d in devices() {
            let (operands, lds) = case.operands(&mut d, true);
            let (c, sizes) = (d.room(F32, 128 * 256), case.sizes(lds, 256));
            let args = if layout == Layout::Tn {
                [&[ptr(c)], &operands[..], &sizes, &[int(256), int(0)]].concat()
            } else {
                [&[ptr(c), ptr(0)], &operands[..], &sizes].concat()
            };
            d.run(tiled(kernel, BN, 128, 256, 1), &args);
            assert_eq!(d.counts.total.conflicts, 0, "{kernel}");
            assert_eq!(d.counts.total.matrix_flop, 2 * 128 * 256 * 256, "{kernel}");
            assert_eq!(d.counts.class(Class::Local), 0, "{kernel}");
        }
    }
}

#[test]
fn choice_of_tiles() {
    use gemm::{part_depth, rounded, wide};
    let t = Target::of(90);
    // The feed-forward of a 1.1B model fills a device with wide tiles, a small model's does not.
    assert_eq!(rounded(t, Layout::Nt, 32768, 11264, 2048, 2048).kernel, "gemm_nt_bf16_128x256");
    assert_eq!(rounded(t, Layout::Nt, 2048, 768, 768, 768).kernel, "gemm_nt_bf16_128x128");
    assert_eq!(rounded(t, Layout::Nn, 100, 768, 768, 767).kernel, "gemm_nn_bf16_any");
    // A gradient of few tiles is summed in parts, of whole slices.
    let depth = part_depth(t, 768, 768, 32768);
    assert_eq!(depth, 4736);
    assert_eq!(wide(t, Layout::Tn, 768, 768, 32768, 768, 768, depth).blocks[2], 7);
    assert_eq!(part_depth(t, 8192, 8192, 32768), 32768);
}
