use crate::check::{Bf16, Device, F32, Gen, Output, devices, int};
use crate::gemm::pitched;
use kernels_ptx::launch::{Kernel, Launch, Target};
use kernels_ptx::linear::skinny::{DEPTH, Rounded, STRIP, WARPS, Wide, stages, takes};
use kernels_ptx::math;
use ptx_emu::{Class, bounds};
use std::ptr::{null, null_mut};

/// (M, N, K): one row, rows around half of a matrix instruction and all of it, an odd number of
/// outputs, one piece of 16 bytes, pieces of K that end anywhere, fewer pieces than warps, more than
/// all rings hold.
const SHAPES: [(usize, usize, usize); 9] = [
    (1, 1, 8),
    (1, 35, 72),
    (2, 33, 40),
    (7, 9, 264),
    (8, 64, 256),
    (9, 31, 1000),
    (16, 24, 8),
    (16, 67, 2104),
    (1, 40, DEPTH as usize * 8 * 8 * 2 + 24),
];

/// Devices on which a product of N outputs takes blocks of 4, 2 and 1 strips.
fn targets(N: usize) -> [Target; 3] {
    [1, N as u32 / 32 + 2, N as u32 / 16 + 2]
        .map(|multiprocessors| Target { multiprocessors, ..Target::of(80) })
}

/// x and W of one case on one device, their rows a little apart.
struct Case {
    x: Vec<f64>,
    w: Vec<f64>,
    N: usize,
    K: usize,
    at: [*const math::Bf16; 2],
    ld: [usize; 2],
}

impl Case {
    fn new(d: &mut Device, (M, N, K): (usize, usize, usize)) -> Case {
        let g = &mut Gen::new((M * 1_000_000 + N * 1000 + K) as u64);
        let (x, w) = (g.normals(Bf16, M * K, 1.0), g.normals(Bf16, N * K, 1.0));
        let ld = [K + 8, K + 16];
        let at = [pitched(&x, K, ld[0]), pitched(&w, K, ld[1])];
        let at = at.map(|rows| d.put_bf16(&rows).cast_const());
        Case { x, w, N, K, at, ld }
    }

    fn exact(&self) -> Vec<f64> {
        let dot = |x: &[f64], w: &[f64]| x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>();
        let row = |x| self.w.chunks(self.K).map(move |w| dot(x, w));
        self.x.chunks(self.K).flat_map(row).collect()
    }

    /// Largest product, and largest sum of products on its way.
    fn largest(&self) -> f64 {
        let mut largest = 0f64;
        for (x, w) in self.x.chunks(self.K).flat_map(|x| self.w.chunks(self.K).map(move |w| (x, w)))
        {
            let mut sum = 0f64;
            for (x, w) in x.iter().zip(w) {
                sum += x * w;
                largest = largest.max((x * w).abs()).max(sum.abs());
            }
        }
        // Warps sum parts of K, each the difference of two sums on their way.
        2.0 * largest
    }

    /// y of M rows from row `first` on; added to `r`, unless it is null.
    fn rounded(
        &self,
        d: &mut Device,
        t: Target,
        first: usize,
        M: usize,
        r: *const math::Bf16,
    ) -> Vec<f64> {
        let y = d.room_bf16(M * self.N);
        d.run_for(t, &self.rounded_to(y, r, first, M));
        d.get_bf16(y, M * self.N)
    }

    fn rounded_to(
        &self,
        y: *mut math::Bf16,
        r: *const math::Bf16,
        first: usize,
        M: usize,
    ) -> Rounded {
        let ([x, w], [M, N, K, ldx, ldw]) = (self.from(first), self.sizes(M));
        Rounded { y, r, x, w, M, N, K, ldx, ldw, ldy: N }
    }

    fn wide(&self, d: &mut Device, t: Target, first: usize, M: usize) -> Vec<f64> {
        let y = d.room_f32(M * self.N);
        let ([x, w], [rows, N, K, ldx, ldw]) = (self.from(first), self.sizes(M));
        d.run_for(t, &Wide { y, x, w, M: rows, N, K, ldx, ldw, ldy: N });
        d.get_f32(y, M * self.N)
    }

    fn from(&self, first: usize) -> [*const math::Bf16; 2] {
        [self.at[0].wrapping_add(first * self.ld[0]), self.at[1]]
    }

    fn sizes(&self, M: usize) -> [u32; 5] {
        [M, self.N, self.K, self.ld[0], self.ld[1]].map(int)
    }
}

/// The launch of a product of M rows and N outputs, wherever they lie.
fn launch(t: Target, M: usize, N: usize) -> Launch {
    let ([x, w], [M, N, K]) = ([null(); 2], [M, N, 8].map(int));
    Rounded { y: null_mut(), r: null(), x, w, M, N, K, ldx: K, ldw: K, ldy: N }.launch(t)
}

#[test]
fn against_f64() {
    for shape in SHAPES {
        let (M, N, K) = shape;
        for mut d in devices() {
            let case = Case::new(&mut d, shape);
            let (exact, most) = (case.exact(), bounds::sum(d.capability(), K, case.largest()));
            let r = Gen::new(1).normals(Bf16, M * N, (K as f64).sqrt());
            let r_at = d.put_bf16(&r);
            for t in targets(N) {
                let context = format!("{} M{M} N{N} K{K}", launch(t, 1, N).kernel);
                let got = case.rounded(&mut d, t, 0, M, null());
                Output::new("y", Bf16, got, exact.clone()).check(&context);
                let got = case.rounded(&mut d, t, 0, M, r_at);
                let sum = exact.iter().zip(&r).map(|(y, r)| y + r).collect();
                Output::new("y + r", Bf16, got, sum).check(&context);
                let got = case.wide(&mut d, t, 0, M);
                let y = Output::new("y, f32", F32, got, exact.clone());
                y.allowing(most).check(&context);
            }
        }
    }
}

/// A row has the same bits alone and beside any others, in blocks of any number of strips.
#[test]
fn bits_depend_on_the_row_alone() {
    let (M, N, K) = (16, 35, 1096);
    for mut d in devices() {
        let case = Case::new(&mut d, (M, N, K));
        let [narrow, ..] = targets(N);
        let (all, wide) =
            (case.rounded(&mut d, narrow, 0, M, null()), case.wide(&mut d, narrow, 0, M));
        for t in targets(N) {
            for (first, rows) in [(0, 16), (0, 9), (0, 8), (3, 5), (7, 1), (15, 1)] {
                let of = first * N..(first + rows) * N;
                assert_eq!(
                    case.rounded(&mut d, t, first, rows, null()),
                    all[of.clone()],
                    "{first}"
                );
                assert_eq!(case.wide(&mut d, t, first, rows), wide[of], "{first}, f32");
            }
        }
    }
}

/// A residual may be the output itself.
#[test]
fn adds_in_place() {
    let (M, N, K) = (3, 20, 96);
    for mut d in devices() {
        let case = Case::new(&mut d, (M, N, K));
        let r = Gen::new(1).normals(Bf16, M * N, 10.0);
        let (apart, both) = (d.put_bf16(&r), d.put_bf16(&r));
        let t = Target::of(90);
        let expected = case.rounded(&mut d, t, 0, M, apart);
        d.run_for(t, &case.rounded_to(both, both, 0, M));
        assert_eq!(d.get_bf16(both, M * N), expected);
    }
}

/// What is not a number stays in its row of x and in its row of W, also in rows that share an
/// instruction with rows that do not exist.
#[test]
fn nan_stays_in_its_row() {
    let (M, N, K) = (5, 21, 72);
    for mut d in devices() {
        let mut case = Case::new(&mut d, (M, N, K));
        (case.x[3 * K + 71], case.w[20 * K + 7]) = (f64::NAN, f64::INFINITY);
        case.ld = [K, K];
        case.at = [&case.x, &case.w].map(|rows| d.put_bf16(rows).cast_const());
        for t in targets(N) {
            for (i, y) in case.wide(&mut d, t, 0, M).into_iter().enumerate() {
                assert_eq!(y.is_finite(), i / N != 3 && i % N != 20, "{i}");
            }
        }
    }
}

/// W is asked for once, x once a block; no bank is met twice; nothing is multiplied that is not W.
#[test]
fn costs() {
    let (N, K) = (300, 1024);
    for M in [1, 8, 9, 16] {
        for mut d in devices() {
            let mut case = Case::new(&mut d, (M, N, K));
            case.ld = [K, K];
            case.at = [&case.x, &case.w].map(|rows| d.put_bf16(rows).cast_const());
            for t in targets(N) {
                for storage in [Bf16, F32] {
                    if storage == Bf16 {
                        case.rounded(&mut d, t, 0, M, null());
                    } else {
                        case.wide(&mut d, t, 0, M);
                    }
                    let blocks = launch(t, M, N).blocks[0] as usize;
                    d.moved_at_most((N + blocks * M) * K * 2 + M * N * storage.bytes());
                    assert_eq!(d.counts.total.conflicts, 0, "M{M} {t:?}");
                    assert_eq!(d.counts.class(Class::Local), 0, "M{M} {t:?}");
                    let strips = (N as u64).div_ceil(u64::from(STRIP) * 4) * 4;
                    let most = 2 * 16 * strips * u64::from(STRIP) * K as u64;
                    assert!(d.counts.total.matrix_flop <= most, "M{M} {t:?}");
                }
            }
        }
    }
}

#[test]
fn choice_of_strips() {
    let choice = |capability, N| {
        let launch = launch(Target::of(capability), 1, N);
        (launch.kernel, launch.blocks[0])
    };
    // On an H100: the products of a 110M model, and the head of a vocabulary of 32000.
    assert_eq!(choice(90, 768), ("skinny_bf16_8", 96));
    assert_eq!(choice(90, 2304), ("skinny_bf16_16", 144));
    assert_eq!(choice(90, 32000), ("skinny_bf16_32", 1000));
    // A GeForce RTX 3090 has fewer multiprocessors.
    assert_eq!(choice(86, 2304), ("skinny_bf16_16", 144));
    assert_eq!(choice(86, 4096), ("skinny_bf16_32", 128));
    assert!(takes(16, 768, 768, 768) && !takes(17, 768, 768, 768));
    assert!(!takes(1, 12, 16, 16) && !takes(1, 16, 16, 20));
    // By Little's law about 25 KB a multiprocessor are under way on an H100: one block has more.
    for strips in [1, 2, 4] {
        assert!(WARPS * stages(strips) * strips * STRIP * DEPTH * 2 >= 32 << 10);
    }
}
