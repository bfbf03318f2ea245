//! Matrix instructions against f64, fragments against the ISA's figures, asynchronous copies.

mod common;

use common::{fault, grid, run};
use half::{bf16, f16};
use ptx_emu::{Arg, FaultKind, Gpu, Hardware, Module};

fn noise(n: usize, mut s: u64) -> Vec<f32> {
    (0..n)
        .map(|_| {
            s = s.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (s >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// Fragments by the ISA's formulas: for lane and element, the row and column.
struct Shape {
    name: &'static str,
    k: usize,
    /// Elements of A and B a lane holds, and how many a register.
    a: fn(usize, usize) -> (usize, usize),
    b: fn(usize, usize) -> (usize, usize),
    pack: usize,
    bits: fn(f32) -> u32,
}

/// m16n8k16: a0..a7; row by i in {0,1,4,5}, columns from 8 on by i >= 4.
fn a16(l: usize, i: usize) -> (usize, usize) {
    let row = if (i < 2) || (4..6).contains(&i) { l / 4 } else { l / 4 + 8 };
    (row, l % 4 * 2 + (i & 1) + if i < 4 { 0 } else { 8 })
}

fn b16(l: usize, i: usize) -> (usize, usize) {
    (l % 4 * 2 + (i & 1) + if i < 2 { 0 } else { 8 }, l / 4)
}

fn a_tf32(l: usize, i: usize) -> (usize, usize) {
    (l / 4 + i % 2 * 8, l % 4 + if i < 2 { 0 } else { 4 })
}

fn b_tf32(l: usize, i: usize) -> (usize, usize) {
    (l % 4 + 4 * i, l / 4)
}

fn to_bf16(v: f32) -> u32 {
    u32::from(bf16::from_f32(v).to_bits())
}

fn to_f16(v: f32) -> u32 {
    u32::from(f16::from_f32(v).to_bits())
}

fn to_tf32(v: f32) -> u32 {
    v.to_bits() & !0x1fff
}

const fn shape16(name: &'static str, k: usize, bits: fn(f32) -> u32) -> Shape {
    Shape { name, k, a: a16, b: b16, pack: 2, bits }
}

const fn shape_tf32(name: &'static str, k: usize) -> Shape {
    Shape { name, k, a: a_tf32, b: b_tf32, pack: 1, bits: to_tf32 }
}

const BF16: Shape = shape16("m16n8k16.row.col.f32.bf16.bf16.f32", 16, to_bf16);
const SHAPES: [Shape; 6] = [
    BF16,
    shape16("m16n8k8.row.col.f32.bf16.bf16.f32", 8, to_bf16),
    shape16("m16n8k16.row.col.f32.f16.f16.f32", 16, to_f16),
    shape16("m16n8k8.row.col.f32.f16.f16.f32", 8, to_f16),
    shape_tf32("m16n8k8.row.col.f32.tf32.tf32.f32", 8),
    shape_tf32("m16n8k4.row.col.f32.tf32.tf32.f32", 4),
];

impl Shape {
    /// What the format keeps of a factor.
    fn kept(&self, v: f32) -> f32 {
        match (self.pack, self.name.contains("bf16")) {
            (1, _) => f32::from_bits((self.bits)(v)),
            (_, true) => bf16::from_f32(v).to_f32(),
            _ => f16::from_f32(v).to_f32(),
        }
    }
}

#[test]
fn mma() {
    let hardware = [Hardware::strict(80), Hardware::strict(90), Hardware::rounding(80)];
    for (s, hardware) in SHAPES.iter().flat_map(|s| hardware.map(|h| (s, h.unwrap()))) {
        let a_mk: Vec<f32> = noise(16 * s.k, 1).into_iter().map(|v| s.kept(v)).collect();
        let b_kn: Vec<f32> = noise(s.k * 8, 2).into_iter().map(|v| s.kept(v)).collect();
        let c_mn = noise(16 * 8, 3);
        for (at, got) in multiply(hardware, s, &a_mk, &b_kn, &c_mn).into_iter().enumerate() {
            let (m, n) = (at / 8, at % 8);
            let dot = (0..s.k).map(|k| f64::from(a_mk[m * s.k + k]) * f64::from(b_kn[k * 8 + n]));
            let want = f64::from(c_mn[at]) + dot.sum::<f64>();
            assert!((f64::from(got) - want).abs() < 4e-6, "{}: d[{m}][{n}] {got} {want}", s.name);
        }
    }
}

/// The products and sums of one instruction, rows of 8.
fn multiply(hardware: Hardware, s: &Shape, a_mk: &[f32], b_kn: &[f32], c_mn: &[f32]) -> Vec<f32> {
    let (na, nb) = (16 * s.k / 32, s.k * 8 / 32);
    let mut input = Vec::new();
    for l in 0..32 {
        let mut push = |n: usize, f: &dyn Fn(usize) -> f32| {
            for r in 0..n / s.pack {
                let word = (0..s.pack).map(|h| (s.bits)(f(r * s.pack + h)) << (16 * h));
                input.extend(word.sum::<u32>().to_le_bytes());
            }
        };
        push(na, &|i| {
            let (m, k) = (s.a)(l, i);
            a_mk[m * s.k + k]
        });
        push(nb, &|i| {
            let (k, n) = (s.b)(l, i);
            b_kn[k * 8 + n]
        });
        for i in 0..4 {
            input.extend(c_mn[(l / 4 + i / 2 * 8) * 8 + l % 4 * 2 + i % 2].to_le_bytes());
        }
    }
    let (ra, rb) = (na / s.pack, nb / s.pack);
    let list = |from: usize, n: usize| {
        let names: Vec<String> = (from..from + n).map(|i| format!("%r{i}")).collect();
        format!("{{{}}}", names.join(", "))
    };
    let loads: String =
        (0..ra + rb + 4).map(|i| format!("ld.global.b32 %r{i}, [%rd1+{}];\n", 4 * i)).collect();
    let text = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n\
         .visible .entry k(.param .u64 in, .param .u64 out)\n{{\n\
         .reg .b32 %r<16>, %f<4>, %t; .reg .b64 %rd<4>;\n\
         ld.param.u64 %rd1, [in]; ld.param.u64 %rd2, [out]; mov.u32 %t, %laneid;\n\
         mad.wide.u32 %rd1, %t, {}, %rd1; mad.wide.u32 %rd2, %t, 16, %rd2;\n{loads}\
         mma.sync.aligned.{} {{%f0, %f1, %f2, %f3}}, {}, {}, {};\n\
         st.global.v4.b32 [%rd2], {{%f0, %f1, %f2, %f3}}; ret;\n}}\n",
        4 * (ra + rb + 4),
        s.name,
        list(0, ra),
        list(ra, rb),
        list(ra + rb, 4),
    );
    let kernel = Module::parse(&text).unwrap().kernel("k").unwrap_or_else(|e| panic!("{e}"));
    let mut gpu = Gpu::with(hardware);
    let (pin, pout) = (gpu.alloc(input.len()).unwrap(), gpu.alloc(512).unwrap());
    gpu.write(pin, &input).unwrap();
    let counts = gpu.launch(&kernel, grid(1, 32, 0), &[Arg::U64(pin), Arg::U64(pout)]).unwrap();
    assert_eq!(counts.total.matrix_flop, 2 * 16 * 8 * s.k as u64);
    let mut out = vec![0; 512];
    gpu.read(pout, &mut out).unwrap();
    let mut d_mn = vec![0.0; 128];
    for (at, b) in out.chunks(4).enumerate() {
        let (l, i) = (at / 4, at % 4);
        d_mn[(l / 4 + i / 2 * 8) * 8 + l % 4 * 2 + i % 2] =
            f32::from_le_bytes(b.try_into().unwrap());
    }
    d_mn
}

/// c + a * 1 over 16 brain floats, every element of D being the same.
fn sum(capability: u32, c: f32, a_k: &[(usize, f32)]) -> f32 {
    let products: Vec<_> = a_k.iter().map(|&(k, a)| (k, a, 1.0)).collect();
    sum_of_products(Hardware::strict(capability).unwrap(), c, &products)
}

fn sum_of_products(hardware: Hardware, c: f32, products: &[(usize, f32, f32)]) -> f32 {
    let (mut a_mk, mut b_kn) = (vec![0.0; 256], vec![0.0; 128]);
    for &(k, a, b) in products {
        (0..16).for_each(|m| a_mk[m * 16 + k] = a);
        (0..8).for_each(|n| b_kn[k * 8 + n] = b);
    }
    let d = multiply(hardware, &BF16, &a_mk, &b_kn, &[c; 128]);
    assert!(d.iter().all(|x| x.to_bits() == d[0].to_bits()));
    d[0]
}

/// By hand. An A100 keeps 24 bits below the leading one of the largest, of 8 products and the sum
/// so far; an H100 keeps 25, of 16 products.
#[test]
fn sums_are_cut_off() {
    let two_to = |n: i32| 2f32.powi(n);
    let all = |x: f32| (0..16).map(|k| (k, x)).collect::<Vec<_>>();
    // 16 times a share of 1: rounded one by one they vanish, here only below the last bit kept.
    for (capability, last_bit) in [(80, -24), (86, -24), (89, -24), (90, -25), (120, -25)] {
        let kept = 1.0 + 16.0 * two_to(last_bit);
        assert_eq!(sum(capability, 1.0, &all(two_to(last_bit))), kept, "{capability}");
        assert_eq!(sum(capability, 1.0, &all(two_to(last_bit - 1))), 1.0, "{capability}");
        assert_eq!(sum(capability, 1.0, &all(-two_to(last_bit - 1))), 1.0, "{capability}");
        assert_eq!(sum(capability, -1.0, &all(-two_to(last_bit))), -kept, "{capability}");
    }
    let one_by_one: Vec<_> = (0..16).map(|k| (k, two_to(-24), 1.0)).collect();
    assert_eq!(sum_of_products(Hardware::rounding(90).unwrap(), 1.0, &one_by_one), 1.0);
    // The result is cut off too: 3/4 of its last bit go, and below 1 that bit is half as large.
    let most = [(3, 1.5 * two_to(-24))];
    assert_eq!(sum(90, 1.0, &most), 1.0);
    let rounded = sum_of_products(Hardware::rounding(90).unwrap(), 1.0, &[(3, most[0].1, 1.0)]);
    assert_eq!(rounded, 1.0 + two_to(-23));
    assert_eq!(sum(90, 1.0, &[(3, -two_to(-25))]), 1.0 - two_to(-24));
}

#[test]
fn sums_are_made_in_blocks() {
    // 2^24 + 1 - 2^24: on an A100 the 1 is lost between the first 8 and the last.
    let large = 2f32.powi(24);
    let cancel = |last: usize| [(0, large), (1, 1.0), (last, -large)];
    assert_eq!((sum(80, 0.0, &cancel(7)), sum(80, 0.0, &cancel(8))), (1.0, 0.0));
    assert_eq!((sum(90, 0.0, &cancel(7)), sum(90, 0.0, &cancel(15))), (1.0, 1.0));
    // 1.5 * 1.5 lies beyond 2, but counts as 2^0 when bits are lined up.
    let mut products = vec![(0, 1.5, 1.5)];
    products.extend((1..5).map(|k| (k, 2f32.powi(-24), 1.0)));
    let got = sum_of_products(Hardware::strict(80).unwrap(), 0.0, &products);
    assert_eq!(got, 2.25 + 2f32.powi(-22));
}

#[test]
fn sums_of_special_values() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    for capability in [80, 90] {
        let sum = |c: f32, a_k: &[(usize, f32)]| sum(capability, c, a_k);
        assert_eq!(sum(1.0, &[(0, inf)]), inf);
        assert_eq!(sum(-inf, &[(0, 1.0)]), -inf);
        for (c, a) in [(-inf, inf), (nan, 1.0), (1.0, nan)] {
            assert_eq!(sum(c, &[(9, a)]).to_bits(), 0x7fff_ffff, "{c} + {a}");
        }
        let strict = Hardware::strict(capability).unwrap();
        assert!(sum_of_products(strict, 0.0, &[(2, inf, 0.0)]).is_nan());
        assert_eq!(sum(-0.0, &[]).to_bits(), 0);
        assert_eq!(sum(-0.0, &[(0, -0.0)]).to_bits(), 0);
        // Subnormal factors, sums and results count.
        let least = 2f32.powi(-133);
        assert_eq!(sum(0.0, &[(0, least), (15, least)]), 2.0 * least);
        assert_eq!(sum(f32::from_bits(1), &[(5, least)]), least + f32::from_bits(1));
        assert_eq!(sum_of_products(strict, 0.0, &[(0, least, 0.5)]), 0.5 * least);
        // Beyond the range; and not, because the sum is cut off.
        let top = 2f32.powi(127);
        assert_eq!(sum(f32::MAX, &[(0, top)]), inf);
        assert_eq!(sum(f32::MAX, &[(0, 2f32.powi(101))]), f32::MAX);
        assert_eq!(sum_of_products(strict, 0.0, &[(0, top, 4.0), (1, -top, 4.0)]), 0.0);
    }
}

/// Against whole numbers of 128 bits, on factors of many sizes.
#[test]
fn truncated_sums_bit_by_bit() {
    for (seed, s) in SHAPES.iter().enumerate() {
        for (capability, block, extra) in [(80, 8, 1), (89, 8, 1), (90, 16, 2), (100, 16, 2)] {
            let block = if s.pack == 1 { block / 2 } else { block };
            let spread = |n: usize, salt: u64| {
                let sizes = noise(n, 100 * salt + seed as u64);
                let values = noise(n, 7 * salt + 1);
                let size = |v: &f32| 2f32.powi((v * 9.0) as i32);
                values.iter().zip(&sizes).map(|(v, at)| v * size(at)).collect::<Vec<f32>>()
            };
            let a_mk: Vec<f32> = spread(16 * s.k, 1).into_iter().map(|v| s.kept(v)).collect();
            let b_kn: Vec<f32> = spread(s.k * 8, 2).into_iter().map(|v| s.kept(v)).collect();
            let c_mn = spread(128, 3);
            let hardware = Hardware::strict(capability).unwrap();
            for (at, got) in multiply(hardware, s, &a_mk, &b_kn, &c_mn).into_iter().enumerate() {
                let mut want = c_mn[at];
                for first in (0..s.k).step_by(block) {
                    let ks = first..(first + block).min(s.k);
                    let factors = ks.map(|k| (a_mk[at / 8 * s.k + k], b_kn[k * 8 + at % 8]));
                    want = by_whole_numbers(want, &factors.collect::<Vec<_>>(), extra);
                }
                assert_eq!(got.to_bits(), want.to_bits(), "{capability} {} {at}", s.name);
            }
        }
    }
}

/// A chain of sums stays within the bound that budgets take, and comes near enough to need it.
#[test]
fn chains_of_sums_are_within_their_bound() {
    for capability in [80, 86, 89, 90, 100, 120] {
        let hardware = Hardware::strict(capability).unwrap();
        let (mut c, mut exact) = (vec![1.0f32; 128], 1.0);
        // Each loses nearly a last bit of the sum, always downwards.
        let (a_mk, b_kn) = (vec![1.0 - 2f32.powi(-8); 256], vec![2f32.powi(-20); 128]);
        let steps = 64;
        for _ in 0..steps {
            c = multiply(hardware, &BF16, &a_mk, &b_kn, &c);
            exact += 16.0 * f64::from(a_mk[0]) * f64::from(b_kn[0]);
        }
        let bound = ptx_emu::bounds::sum(capability, 16 * steps, exact);
        let error = exact - f64::from(c[0]);
        assert!(error <= bound && error > bound / 10.0, "{capability}: {error:e} of {bound:e}");
    }
}

/// Significand, with its sign, and the exponent of its unit. Normal numbers only.
fn parts(x: f32) -> (i128, i32) {
    let bits = x.to_bits();
    if x == 0.0 {
        return (0, -1000);
    }
    let significand = i128::from(bits & 0x7f_ffff | 0x80_0000);
    (if x < 0.0 { -significand } else { significand }, (bits >> 23 & 0xff) as i32 - 150)
}

fn by_whole_numbers(c: f32, factors: &[(f32, f32)], extra: i32) -> f32 {
    // Significands of 23 bits below the leading one, products of 46.
    let mut addends = vec![(parts(c).0, parts(c).1, parts(c).1 + 23)];
    for &(a, b) in factors {
        let ((a, ea), (b, eb)) = (parts(a), parts(b));
        addends.push((a * b, ea + eb, ea + eb + 46));
    }
    let unit = addends.iter().map(|(.., leading)| leading).max().unwrap() - 23 - extra;
    let cut = |(significand, exponent, _): &(i128, i32, i32)| {
        let shift = exponent - unit;
        let size = significand.abs();
        let size =
            if shift >= 0 { size << shift } else { size.checked_shr(-shift as u32).unwrap_or(0) };
        if *significand < 0 { -size } else { size }
    };
    let total: i128 = addends.iter().map(cut).sum();
    let mut size = total.abs();
    let mut exponent = unit;
    while size >= 1 << 24 {
        size >>= 1;
        exponent += 1;
    }
    (size as f64 * 2f64.powi(exponent)).copysign(total as f64) as f32
}

/// Element (matrix, row, column) holds 64 * matrix + 8 * row + column; the figure says who gets it.
#[test]
fn ldmatrix_and_stmatrix() {
    let head = ".shared .align 128 .b8 tile[512];\n.shared .align 128 .b8 back[512];\n";
    for (n, list) in [(1, "{%r10}"), (2, "{%r10, %r11}"), (4, "{%r10, %r11, %r12, %r13}")] {
        for trans in ["", ".trans"] {
            let stores: String = (0..n)
                .map(|i| {
                    format!(
                        "mad.lo.u32 %r20, %t, 4, %r1; st.shared.b32 [%r20+{}], %r{};\n",
                        i * 128,
                        10 + i
                    )
                })
                .collect();
            // Fill: thread t writes halves 8t..8t+8; then load, and store each register aside.
            let body = format!(
                "mov.u32 %r2, tile; mov.u32 %r1, back; mul.lo.u32 %r3, %t, 8; mov.u32 %r4, 0;\n\
                 mad.lo.u32 %r5, %t, 16, %r2;\n\
                 FILL: add.u32 %r6, %r3, %r4; cvt.u16.u32 %h1, %r6; shl.b32 %r7, %r4, 1;\n\
                 add.u32 %r7, %r7, %r5; st.shared.b16 [%r7], %h1; add.u32 %r4, %r4, 1;\n\
                 setp.lt.u32 %p1, %r4, 8; @%p1 bra FILL;\n bar.sync 0;\n\
                 and.b32 %r8, %t, {}; mad.lo.u32 %r8, %r8, 16, %r2;\n\
                 ldmatrix.sync.aligned.m8n8.x{n}{trans}.shared.b16 {list}, [%r8];\n{stores}\
                 bar.sync 0; mov.u32 %r9, %ctaid.x; mad.lo.u32 %r20, %r9, 4, %r1;\n\
                 mad.lo.u32 %r20, %t, 4, %r1; ld.shared.b32 %r14, [%r20];\n\
                 st.global.b32 [%o], %r14;",
                8 * n - 1
            );
            let out = run(head, &body, grid(1, 32, 0)).unwrap_or_else(|e| panic!("{e}")).0;
            for (l, got) in out.into_iter().enumerate() {
                let (major, minor) = (l / 4, l % 4 * 2);
                let at = |i: usize| match trans {
                    "" => 8 * major + minor + i,
                    _ => 8 * (minor + i) + major,
                };
                assert_eq!(got as usize, at(0) | at(1) << 16, "x{n}{trans} lane {l}");
            }
            // stmatrix is the inverse.
            let inverse = format!(
                "{} mad.lo.u32 %r8, %t, 0, %r8; and.b32 %r8, %t, {}; mad.lo.u32 %r8, %r8, 16, %r1;\n\
                 stmatrix.sync.aligned.m8n8.x{n}{trans}.shared.b16 [%r8], {list};\n bar.sync 0;\n\
                 mad.lo.u32 %r20, %t, 4, %r1; ld.shared.b32 %r14, [%r20];\n st.global.b32 [%o], %r14;",
                &body[..body.find("mad.lo.u32 %r20").unwrap()],
                8 * n - 1
            );
            let out = run(head, &inverse, grid(1, 32, 0)).unwrap_or_else(|e| panic!("{e}")).0;
            for (l, got) in out.into_iter().enumerate() {
                assert_eq!(got as usize, (2 * l) | ((2 * l + 1) << 16), "stmatrix x{n}{trans}");
            }
        }
    }
}

const COPY: &str = "mov.u32 %r1, buf; mad.lo.u32 %r2, %t, 16, %r1; mov.u64 %rd1, src;\n\
                    mad.wide.u32 %rd1, %t, 16, %rd1;\n";
const BUF: &str =
    ".shared .align 16 .b8 buf[1024];\n.global .align 16 .b32 src[256] = {7, 8, 9, 10};\n";

fn copy_body(copy: &str, wait: &str) -> String {
    format!(
        "{COPY}{copy}\n cp.async.commit_group;\n{wait}\n ld.shared.u32 %r3, [%r2+12];\n\
         add.u32 %r3, %r3, %t; bar.sync 0; st.global.u32 [%o], %r3;"
    )
}

#[test]
fn cp_async() {
    // 8 threads copy 16 bytes each; the last word of each is read, 10 for the first.
    let wait = "cp.async.wait_group 0;";
    let copy = "cp.async.cg.shared.global [%r2], [%rd1], 16;";
    let out = run(BUF, &copy_body(copy, wait), grid(1, 8, 0)).unwrap().0;
    assert_eq!(out, [10, 1, 2, 3, 4, 5, 6, 7]);
    // A part is read, the rest becomes zero: 13 bytes are three words and 10's low byte.
    let part = "cp.async.ca.shared.global [%r2], [%rd1], 16, 13;";
    let out = run(BUF, &copy_body(part, wait), grid(1, 8, 0)).unwrap().0;
    assert_eq!(out, [10, 1, 2, 3, 4, 5, 6, 7]);
    let part = part.replace("13", "12");
    assert_eq!(run(BUF, &copy_body(&part, wait), grid(1, 8, 0)).unwrap().0[0], 0);
    // Nothing is read: the source may lie anywhere, as long as it is aligned.
    let none = "cp.async.ca.shared.global [%r2], [%rd1+6400], 16, 0;";
    assert_eq!(run(BUF, &copy_body(none, wait), grid(1, 8, 0)).unwrap().0[0], 0);
    let over = none.replace(", 0;", ", 17;");
    assert_eq!(fault(BUF, &copy_body(&over, wait), grid(1, 8, 0)).kind, FaultKind::Operand);
    let off = copy.replace("[%r2]", "[%r2+8]");
    assert_eq!(fault(BUF, &copy_body(&off, wait), grid(1, 8, 0)).kind, FaultKind::Misaligned);
}

#[test]
fn cp_async_groups() {
    // Two groups; after wait_group 1 only the first has come.
    let copy = "cp.async.ca.shared.global [%r2], [%rd1], 4; cp.async.commit_group;\n\
                cp.async.ca.shared.global [%r2+4], [%rd1+4], 4;";
    let body = |wait: &str, at: u32| {
        format!(
            "{COPY}{copy} cp.async.commit_group; {wait} ld.shared.u32 %r3, [%r2+{at}]; bar.sync 0;\n\
                 st.global.u32 [%o], %r3;"
        )
    };
    let shape = grid(1, 8, 0);
    assert!(run(BUF, &body("cp.async.wait_group 1;", 0), shape).is_ok());
    let f = fault(BUF, &body("cp.async.wait_group 1;", 4), shape);
    assert_eq!(f.kind, FaultKind::Pending);
    assert!(f.what.contains("cp.async has not been waited for"), "{f}");
    assert!(run(BUF, &body("cp.async.wait_all;", 4), shape).is_ok());
    assert_eq!(fault(BUF, &body("", 0), shape).kind, FaultKind::Pending);
}

#[test]
fn cp_async_is_seen_by_others_after_a_barrier() {
    let copy = "cp.async.cg.shared.global [%r2], [%rd1], 16; cp.async.wait_all;";
    let body = |barrier: &str| {
        format!(
            "{COPY}{copy} {barrier} xor.b32 %r2, %r2, 16; ld.shared.u32 %r3, [%r2]; bar.sync 0;\n\
                 st.global.u32 [%o], %r3;"
        )
    };
    assert!(run(BUF, &body("bar.sync 0;"), grid(1, 8, 0)).is_ok());
    assert_eq!(fault(BUF, &body(""), grid(1, 8, 0)).kind, FaultKind::Race);
    // Overwriting what is on its way.
    let over =
        format!("{COPY} cp.async.cg.shared.global [%r2], [%rd1], 16; st.shared.u32 [%r2], %t;");
    assert_eq!(fault(BUF, &over, grid(1, 8, 0)).kind, FaultKind::Pending);
}
