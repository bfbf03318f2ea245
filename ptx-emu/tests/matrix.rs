//! Matrix instructions against f64, fragments against the ISA's figures, asynchronous copies.

mod common;

use common::{fault, grid, run};
use half::{bf16, f16};
use ptx_emu::{Arg, FaultKind, Gpu, Module};

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

#[test]
fn mma() {
    let to_bf16 = |v: f32| u32::from(bf16::from_f32(v).to_bits());
    let to_f16 = |v: f32| u32::from(f16::from_f32(v).to_bits());
    let tf32 = |v: f32| v.to_bits() & !0x1fff;
    let shapes = [
        Shape {
            name: "m16n8k16.row.col.f32.bf16.bf16.f32",
            k: 16,
            a: a16,
            b: b16,
            pack: 2,
            bits: to_bf16,
        },
        Shape {
            name: "m16n8k8.row.col.f32.bf16.bf16.f32",
            k: 8,
            a: a16,
            b: b16,
            pack: 2,
            bits: to_bf16,
        },
        Shape {
            name: "m16n8k16.row.col.f32.f16.f16.f32",
            k: 16,
            a: a16,
            b: b16,
            pack: 2,
            bits: to_f16,
        },
        Shape {
            name: "m16n8k8.row.col.f32.f16.f16.f32",
            k: 8,
            a: a16,
            b: b16,
            pack: 2,
            bits: to_f16,
        },
        Shape {
            name: "m16n8k8.row.col.f32.tf32.tf32.f32",
            k: 8,
            a: a_tf32,
            b: b_tf32,
            pack: 1,
            bits: tf32,
        },
        Shape {
            name: "m16n8k4.row.col.f32.tf32.tf32.f32",
            k: 4,
            a: a_tf32,
            b: b_tf32,
            pack: 1,
            bits: tf32,
        },
    ];
    for s in shapes {
        multiply(&s);
    }
}

fn multiply(s: &Shape) {
    // What the format keeps of each factor.
    let kept = |v: &f32| match (s.pack, s.name.contains("bf16")) {
        (1, _) => f32::from_bits((s.bits)(*v)),
        (_, true) => bf16::from_f32(*v).to_f32(),
        _ => f16::from_f32(*v).to_f32(),
    };
    let a_mk: Vec<f32> = noise(16 * s.k, 1).iter().map(kept).collect();
    let b_kn: Vec<f32> = noise(s.k * 8, 2).iter().map(kept).collect();
    let c_mn = noise(16 * 8, 3);
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
        ".version 8.0\n.target sm_90\n.address_size 64\n\
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
    let mut gpu = Gpu::new();
    let (pin, pout) = (gpu.alloc(input.len()).unwrap(), gpu.alloc(512).unwrap());
    gpu.write(pin, &input).unwrap();
    let counts = gpu.launch(&kernel, grid(1, 32, 0), &[Arg::U64(pin), Arg::U64(pout)]).unwrap();
    assert_eq!(counts.total.matrix_flop, 2 * 16 * 8 * s.k as u64);
    let mut out = vec![0; 512];
    gpu.read(pout, &mut out).unwrap();
    for (at, b) in out.chunks(4).enumerate() {
        let (l, i) = (at / 4, at % 4);
        let (m, n) = (l / 4 + i / 2 * 8, l % 4 * 2 + i % 2);
        let dot = (0..s.k).map(|k| f64::from(a_mk[m * s.k + k]) * f64::from(b_kn[k * 8 + n]));
        let want = f64::from(c_mn[m * 8 + n]) + dot.sum::<f64>();
        let got = f32::from_le_bytes(b.try_into().unwrap());
        assert!((f64::from(got) - want).abs() < 4e-6, "{}: d[{m}][{n}] {got} {want}", s.name);
    }
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
