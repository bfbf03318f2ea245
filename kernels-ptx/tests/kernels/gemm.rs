use crate::check::{Bf16, Device, F32, Gen, Output, devices, devices_with, int};
use kernels_ptx::launch::{Kernel, Launch, Target};
use kernels_ptx::linear::gemm::{self, AddParts, BK, Layout, RoundParts, Rounded, Wide};
use kernels_ptx::math;
use ptx_emu::{Class, bounds};
use std::ptr::{null, null_mut};

/// (M, N, K): one token, edges in every direction, several blocks, more slices than stages.
const SHAPES: [(usize, usize, usize); 6] =
    [(1, 1, 1), (1, 40, 72), (130, 9, 65), (65, 300, 200), (257, 130, 33), (64, 129, 330)];

/// A launch with tiles of 128 x BN, whatever the shape.
pub fn tiled(kernel: &'static str, BN: u32, M: usize, N: usize, splits: u32) -> Launch {
    Launch {
        kernel,
        blocks: [(M as u32).div_ceil(128) * (N as u32).div_ceil(BN), 1, splits],
        threads: BN,
        shared_bytes: gemm::stages_bytes(BN),
    }
}

/// Rows by columns with a pitch of `ld`; what is beyond a row's end must not be read.
pub fn pitched(x: &[f64], cols: usize, ld: usize) -> Vec<f64> {
    let gap = vec![f64::NAN; ld - cols];
    x.chunks(cols).flat_map(|row| row.iter().chain(&gap).copied()).collect()
}

/// The rows again, and what lies between them.
fn unpitched(x: Vec<f64>, cols: usize, ld: usize) -> (Vec<f64>, Vec<f64>) {
    let rows = || x.chunks(ld).map(|row| row.split_at(cols));
    (
        rows().flat_map(|row| row.0.to_vec()).collect(),
        rows().flat_map(|row| row.1.to_vec()).collect(),
    )
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
    /// Largest product, and largest sum on its way, old values of C included.
    largest: f64,
}

impl Case {
    fn new(layout: Layout, (M, N, K): (usize, usize, usize)) -> Case {
        let g = &mut Gen::new((M * 1_000_000 + N * 1000 + K) as u64);
        let (a, b) = (g.normals(Bf16, M * K, 1.0), g.normals(Bf16, N * K, 1.0));
        let c = g.normals(Bf16, M * N, (K as f64).sqrt());
        let at_a = |m: usize, k: usize| if layout == Layout::Tn { k * M + m } else { m * K + k };
        let at_b = |n: usize, k: usize| if layout == Layout::Nt { n * K + k } else { k * N + n };
        let (mut exact, mut largest) = (vec![0.0; M * N], 0f64);
        for (at, sum) in exact.iter_mut().enumerate() {
            for k in 0..K {
                let product = a[at_a(at / N, k)] * b[at_b(at % N, k)];
                *sum += product;
                largest = largest.max(product.abs()).max(sum.abs() + c[at].abs());
            }
        }
        Case { layout, M, N, K, a, b, c, exact, largest }
    }

    /// Columns of A and of B in memory.
    fn cols(&self) -> (usize, usize) {
        let a = if self.layout == Layout::Tn { self.M } else { self.K };
        (a, if self.layout == Layout::Nt { self.K } else { self.N })
    }

    fn operands(&self, d: &mut Device, wide: bool) -> Operands {
        let (cols_a, cols_b) = self.cols();
        let ld = |cols: usize| if wide { cols.next_multiple_of(8) } else { cols };
        let (lda, ldb) = (ld(cols_a), ld(cols_b));
        let a = d.put_bf16(&pitched(&self.a, cols_a, lda));
        let b = d.put_bf16(&pitched(&self.b, cols_b, ldb));
        let [M, N, K] = [self.M, self.N, self.K];
        Operands { layout: self.layout, a, b, M, N, K, lda, ldb }
    }

    fn rounded(&self, kernel: &'static str, BN: u32, wide: bool) {
        let Case { M, N, K, .. } = *self;
        let launch = tiled(kernel, BN, M, N, 1);
        for mut d in devices_with(launch.shared_bytes) {
            let operands = self.operands(&mut d, wide);
            for (ldc, residual) in [(N, false), (N, true), (N.next_multiple_of(8), true)] {
                let c = d.put_bf16(&vec![7.0; M * ldc]);
                let r = pitched(&self.c, N, ldc);
                let r = if residual { d.put_bf16(&r) } else { null_mut() };
                d.run_as(launch, &operands.rounded(c, r, ldc));
                let context = format!("{kernel} M{M} N{N} K{K} ldc{ldc} residual {residual}");
                let add = |(e, c): (&f64, &f64)| if residual { e + c } else { *e };
                let exact = self.exact.iter().zip(&self.c).map(add).collect();
                let (got, gaps) = unpitched(d.get_bf16(c, M * ldc), N, ldc);
                let most = bounds::sum(d.capability(), K, self.largest);
                Output::new("c", Bf16, got, exact).allowing(most).check(&context);
                assert!(gaps.iter().all(|&x| x == 7.0), "{context}: written between rows");
            }
        }
    }

    fn wide(&self, kernel: &'static str, BN: u32, wide: bool) {
        let Case { M, N, K, .. } = *self;
        let launch = tiled(kernel, BN, M, N, 1);
        for mut d in devices_with(launch.shared_bytes) {
            let operands = self.operands(&mut d, wide);
            let context = format!("{kernel} M{M} N{N} K{K}");
            let sum = |(e, c): (&f64, &f64)| e + c;
            let exact: Vec<f64> = self.exact.iter().zip(&self.c).map(sum).collect();
            let c = d.put_f32(&self.c);
            d.run_as(launch, &operands.wide(c, K.next_multiple_of(64), true));
            let got = d.get_f32(c, M * N);
            let most = bounds::sum(d.capability(), K, self.largest);
            Output::new("c", F32, got, exact.clone()).allowing(most).check(&context);

            // The same in parts of 128, summed afterwards.
            let count = K.div_ceil(128);
            let (acc, parts) = (d.put_f32(&self.c), d.room_f32(count * M * N));
            let launch = tiled(kernel, BN, M, N, int(count));
            d.run_as(launch, &operands.wide(parts, 128, false));
            d.run(&AddParts { acc, parts, len: (M * N) as u64, count: int(count) });
            let got = d.get_f32(acc, M * N);
            Output::new("c in parts", F32, got, exact.clone()).allowing(most).check(&context);

            // The same parts, summed and rounded into rows that lie apart, with a residual and without.
            for (gap, residual) in [(0, true), (N.next_multiple_of(8) - N, false), (3, true)] {
                let ldc = N + gap;
                let (c, r) = (d.put_bf16(&vec![7.0; M * ldc]), pitched(&self.c, N, ldc));
                let r = if residual { d.put_bf16(&r) } else { null_mut() };
                let [rows, N_, pitch, count] = [M, N, ldc, count].map(int);
                d.run(&RoundParts { c, r, parts, M: rows, N: N_, ldc: pitch, count });
                let (got, gaps) = unpitched(d.get_bf16(c, M * ldc), N, ldc);
                let exact = if residual { &exact } else { &self.exact };
                let rounded = Output::new("rounded parts", Bf16, got, exact.clone());
                rounded.allowing(most).check(&context);
                assert!(gaps.iter().all(|&x| x == 7.0), "{context}: written between rows");
            }
        }
    }
}

/// A and B on a device.
pub struct Operands {
    pub layout: Layout,
    pub a: *const math::Bf16,
    pub b: *const math::Bf16,
    pub M: usize,
    pub N: usize,
    pub K: usize,
    pub lda: usize,
    pub ldb: usize,
}

impl Operands {
    fn sizes(&self) -> [u32; 5] {
        [self.M, self.N, self.K, self.lda, self.ldb].map(int)
    }

    /// Cut as if for one block.
    pub fn rounded(&self, c: *mut math::Bf16, r: *const math::Bf16, ldc: usize) -> Rounded {
        let Operands { layout, a, b, .. } = *self;
        let ([M, N, K, lda, ldb], ldc) = (self.sizes(), int(ldc));
        let cut = gemm::cut(Target::of(90), 1, 1, K);
        Rounded { c, r, a, b, M, N, K, lda, ldb, ldc, layout, cut }
    }

    /// Cut as if for one block, whatever the depth that the kernel is told; rows of N.
    pub fn wide(&self, c: *mut f32, depth: usize, add: bool) -> Wide {
        let Operands { layout, a, b, .. } = *self;
        let [M, N, K, lda, ldb] = self.sizes();
        let (ldc, depth, add) = (N, int(depth), u32::from(add));
        let cut = gemm::cut(Target::of(90), 1, 1, K);
        Wide { c, a, b, M, N, K, lda, ldb, ldc, depth, add, layout, cut }
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
        case.wide("gemm_nt_bf16_f32_128x128", 128, true);
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
        case.wide("gemm_nn_bf16_f32_128x256", 256, true);
        case.wide("gemm_nn_bf16_f32_128x128", 128, true);
        case.wide("gemm_nn_bf16_f32_any", 128, false);
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
                let (pa, pb) = (d.put_f32(&case.a), d.put_f32(&case.b));
                for (add, residual) in [(0, false), (1, false), (0, true)] {
                    let (c, r) = (d.put_f32(&case.c), d.put_f32(&case.c));
                    d.run(&gemm::F32 {
                        c,
                        r: if residual { r } else { null() },
                        a: pa,
                        b: pb,
                        M: int(M),
                        N: int(N),
                        K: int(K),
                        a_row: int(a[0]),
                        a_col: int(a[1]),
                        b_row: int(b[0]),
                        b_col: int(b[1]),
                        ldc: int(N),
                        add,
                    });
                    let old = f64::from(u8::from(add == 1 || residual));
                    let sum = |(e, c): (&f64, &f64)| e + old * c;
                    let exact = case.exact.iter().zip(&case.c).map(sum).collect();
                    let context = format!("f32 {layout:?} M{M} N{N} K{K} add {add}");
                    Output::new("c", F32, d.get_f32(c, M * N), exact).check(&context);
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
        (Layout::Nt, "gemm_nt_bf16_f32_128x256", 256),
        (Layout::Nt, "gemm_nt_bf16_f32_128x128", 128),
        (Layout::Nn, "gemm_nn_bf16_f32_128x256", 256),
        (Layout::Nn, "gemm_nn_bf16_f32_128x128", 128),
        (Layout::Tn, "gemm_tn_bf16_f32_128x256", 256),
        (Layout::Tn, "gemm_tn_bf16_f32_128x128", 128),
    ];
    for (layout, kernel, BN) in kernels {
        let case = Case::new(layout, (128, 256, 256));
        let launch = tiled(kernel, BN, 128, 256, 1);
        for mut d in devices_with(launch.shared_bytes) {
            let operands = case.operands(&mut d, true);
            if kernel.contains("f32") {
                let c = d.room_f32(128 * 256);
                d.run_as(launch, &operands.wide(c, 256, false));
            } else {
                let c = d.room_bf16(128 * 256);
                d.run_as(launch, &operands.rounded(c, null(), 256));
            }
            assert_eq!(d.counts.total.conflicts, 0, "{kernel}");
            assert_eq!(d.counts.total.matrix_flop, 2 * 128 * 256 * 256, "{kernel}");
            assert_eq!(d.counts.class(Class::Local), 0, "{kernel}");
        }
    }
}

/// Operands for launches that nothing runs.
pub fn nowhere(layout: Layout, [M, N, K]: [usize; 3], [lda, ldb]: [usize; 2]) -> Operands {
    Operands { layout, a: null(), b: null(), M, N, K, lda, ldb }
}

/// Devices of every kind that kernels run on.
fn targets() -> impl Iterator<Item = Target> {
    [80, 86, 89, 90, 100, 120].into_iter().map(Target::of)
}

#[test]
fn choice_of_tiles() {
    let rounded = |target, layout, MNK: [usize; 3], lds: [usize; 2]| {
        let cut = gemm::cut(target, int(MNK[0]), int(MNK[1]), int(MNK[2]));
        let rounded = nowhere(layout, MNK, lds).rounded(null_mut(), null(), MNK[1]);
        Rounded { cut, ..rounded }.launch(target).kernel
    };
    let h100 = Target::of(90);
    // The feed-forward of a 1.1B model fills a device with wide tiles, a small model's does not.
    let kernel = rounded(h100, Layout::Nt, [32768, 11264, 2048], [2048; 2]);
    assert_eq!(kernel, "gemm_nt_bf16_128x256");
    assert_eq!(rounded(h100, Layout::Nt, [2048, 768, 768], [768; 2]), "gemm_nt_bf16_128x128");
    assert_eq!(rounded(h100, Layout::Nn, [100, 768, 768], [768, 767]), "gemm_nn_bf16_any");
    // Where a block has 99 KiB, the wide tile does not fit.
    let kernel = rounded(Target::of(89), Layout::Nt, [32768, 11264, 2048], [2048; 2]);
    assert_eq!(kernel, "gemm_nt_bf16_128x128");
    // A gradient of few tiles is summed in parts, of whole slices.
    let cut = gemm::cut(h100, 768, 768, 32768);
    assert_eq!((cut.depth, cut.parts), (4736, 7));
    let wide = nowhere(Layout::Tn, [768, 768, 32768], [768; 2]).wide(null_mut(), 4736, false);
    assert_eq!(Wide { cut, ..wide }.launch(h100).blocks, [18, 1, 7]);
    assert_eq!(gemm::cut(h100, 8192, 8192, 32768).parts, 1);
    // More multiprocessors, more parts: 18 tiles of 8 parts leave 4 of 148 idle.
    assert_eq!(gemm::cut(Target::of(100), 768, 768, 32768).parts, 8);
}

/// No block asks for more shared memory than the device gives; K is covered once, by parts that are
/// deep enough to pay.
#[test]
fn cuts_fit_every_device() {
    let sizes = [1, 3, 100, 128, 768, 2048, 4096, 32000];
    for target in targets() {
        for (M, N, K) in sizes
            .into_iter()
            .flat_map(|M| sizes.into_iter().flat_map(move |N| sizes.map(|K| (M, N, K))))
        {
            let cut = gemm::cut(target, M, N, K);
            assert!(cut.depth.is_multiple_of(BK) && cut.depth * cut.parts >= K);
            assert!(cut.depth * (cut.parts - 1) < K, "{target:?} {M} {N} {K}: an empty part");
            assert!(cut.parts == 1 || cut.depth >= 1024, "{target:?} {M} {N} {K}: {cut:?}");
            for (layout, ld) in [Layout::Nt, Layout::Nn, Layout::Tn].into_iter().zip([8, 1, 16]) {
                let sizes = [M, N, K].map(|size| size as usize);
                let wide = nowhere(layout, sizes, [ld; 2]);
                let wide = wide.wide(null_mut(), cut.depth as usize, false);
                let launch = Wide { cut, ..wide }.launch(target);
                assert!(launch.shared_bytes <= target.shared_bytes, "{target:?} {launch:?}");
            }
        }
    }
}

/// The head's products with a vocabulary that is no multiple of 8 cost what its neighbour does: rows of
/// logits start at whole lines.
#[test]
fn odd_vocabularies_cost_no_more() {
    let (n, C) = (16, 64);
    let cost = |d: &Device| (d.counts.sector_bytes(), d.counts.total.warps);
    for mut d in devices() {
        let [even, odd] = [6280, 6281].map(|V: usize| {
            let S = V.next_multiple_of(64);
            let [logits, x, w] = [n * S, n * C, V * C].map(|len| d.put_bf16(&vec![0.5; len]));
            let dw = d.room_f32(V * C);
            let of = |layout,
                      a: *mut math::Bf16,
                      b: *mut math::Bf16,
                      [M, N, K, lda, ldb]: [usize; 5]| {
                let (a, b) = (a.cast_const(), b.cast_const());
                Operands { layout, a, b, M, N, K, lda, ldb }
            };
            let forward = of(Layout::Nt, x, w, [n, V, C, C, C]).rounded(logits, null(), S);
            d.run_as(tiled("gemm_nt_bf16_128x128", 128, n, V, 1), &forward);
            let forward = cost(&d);
            let dx = of(Layout::Nn, logits, w, [n, C, V, S, C]).rounded(x, null(), C);
            d.run_as(tiled("gemm_nn_bf16_128x128", 128, n, C, 1), &dx);
            let dx = cost(&d);
            let weight = of(Layout::Tn, logits, x, [V, C, n, S, C]);
            let weight = weight.wide(dw, n.next_multiple_of(64), false);
            d.run_as(tiled("gemm_tn_bf16_f32_128x128", 128, V, C, 1), &weight);
            [forward, dx, cost(&d)]
        });
        for ((bytes, warps), (odd_bytes, odd_warps)) in even.into_iter().zip(odd) {
            println!("bytes {bytes} and {odd_bytes}, instructions {warps} and {odd_warps}");
            let share = |a: u64, b: u64| (a as f64 / b as f64 - 1.0).abs();
            assert!(share(odd_bytes, bytes) < 0.01 && share(odd_warps, warps) < 0.01);
        }
    }
}
