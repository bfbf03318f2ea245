//! Small kernels around the instructions under test.
#![allow(dead_code)]

pub mod exact;

use ptx_emu::{Arg, Counts, Error, Fault, Gpu, Grid, Hardware, Module, Result};

pub fn grid(blocks: u32, threads: u32, shared_bytes: usize) -> Grid {
    Grid { blocks: [blocks, 1, 1], threads: [threads, 1, 1], shared_bytes }
}

/// A kernel `k(out, n)` whose body finds `%tid` in %t, `out + 4 * tid` in %o, and registers
/// %r<32>, %rd<32>, %f<32>, %h<16>, %p<16> declared. `head` goes before it.
pub fn kernel_text(head: &str, body: &str) -> String {
    format!(
        ".version 8.0\n.target sm_90\n.address_size 64\n{head}\n\
         .visible .entry k(.param .u64 out, .param .u32 n)\n{{\n\
         .reg .b32 %r<32>; .reg .b64 %rd<32>; .reg .b32 %f<32>; .reg .b16 %h<16>;\n\
         .reg .pred %p<16>; .reg .b32 %t; .reg .b64 %o; .reg .b64 %base;\n\
         ld.param.u64 %base, [out];\nmov.u32 %t, %tid.x;\n\
         mad.wide.u32 %o, %t, 4, %base;\n{body}\nret;\n}}\n"
    )
}

/// Runs such a kernel and returns its 32-bit outputs, one a thread.
pub fn run(head: &str, body: &str, shape: Grid) -> Result<(Vec<u32>, Counts)> {
    let mut gpu = Gpu::new();
    let n = shape.blocks[0] as usize * shape.threads.iter().product::<u32>() as usize;
    let out = gpu.alloc(4 * n)?;
    gpu.fill(out, 4 * n, 0)?;
    let kernel = Module::parse(&kernel_text(head, body))?.kernel("k")?;
    let counts = gpu.launch(&kernel, shape, &[Arg::U64(out), Arg::U32(n as u32)])?;
    let mut bytes = vec![0; 4 * n];
    gpu.read(out, &mut bytes)?;
    let words = bytes.chunks(4).map(|b| u32::from_le_bytes(b.try_into().unwrap()));
    Ok((words.collect(), counts))
}

/// Outputs of one warp.
pub fn warp(body: &str) -> Vec<u32> {
    run("", body, grid(1, 32, 0)).unwrap_or_else(|e| panic!("{e}\n{body}")).0
}

/// The fault that a kernel must end with.
pub fn fault(head: &str, body: &str, shape: Grid) -> Fault {
    match run(head, body, shape) {
        Err(Error::Fault(f)) => *f,
        Err(e) => panic!("another error: {e}"),
        Ok(_) => panic!("no fault:\n{body}"),
    }
}

/// A kind of operand: its register's width and the values it is tried with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    I16,
    I32,
    I64,
    F32,
    F64,
    F16,
    Bf16,
    /// Shift amounts and positions: 0 to 70.
    Small,
    Pred,
}

impl Kind {
    pub fn bits(self) -> u32 {
        match self {
            Kind::I16 | Kind::F16 | Kind::Bf16 => 16,
            Kind::I32 | Kind::F32 | Kind::Small | Kind::Pred => 32,
            Kind::I64 | Kind::F64 => 64,
        }
    }

    /// Values that tend to go wrong.
    fn edges(self) -> Vec<u64> {
        let f32s = [
            0.0, -0.0, 1.0, -1.5, 0.1, 3e9, -7e4, 65504.0, 1e-30, 1e-40, -1e-45, 3e38, -3.4e38,
            0.49999997, 2.5, -3.5,
        ];
        let ints = |bits: u32| {
            let top = 1u64 << (bits - 1);
            vec![0, 1, 2, 3, 7, top - 1, top, top + 1, top | (top - 1), 0xff, 0x80, 1234567]
                .into_iter()
                .map(|v| v & (top | (top - 1)))
                .collect::<Vec<u64>>()
        };
        match self {
            Kind::I16 | Kind::I32 | Kind::I64 => ints(self.bits()),
            Kind::Small => vec![0, 1, 5, 8, 15, 16, 17, 31, 32, 33, 63, 64, 70],
            Kind::Pred => vec![0, 1],
            Kind::F32 => {
                let mut v: Vec<u64> = f32s.iter().map(|x: &f32| x.to_bits().into()).collect();
                v.extend([0x7f80_0000, 0xff80_0000, 0x7fc0_0001, 0xffff_ffff, 0x0080_0000]);
                v
            }
            Kind::F64 => {
                let mut v: Vec<u64> = f32s.iter().map(|x| f64::from(*x).to_bits()).collect();
                v.extend([1e300, -1e-310, f64::INFINITY, f64::NAN, 4e18, 2e19].map(f64::to_bits));
                v
            }
            Kind::F16 => {
                [0x0000, 0x8000, 0x3c00, 0xbc01, 0x0001, 0x83ff, 0x7bff, 0x7c00, 0xfc00, 0x7e00]
                    .into()
            }
            Kind::Bf16 => {
                [0x0000, 0x8000, 0x3f80, 0xbf81, 0x0001, 0x807f, 0x7f7f, 0x7f80, 0xff80, 0x7fc0]
                    .into()
            }
        }
    }

    fn random(self, s: &mut u64) -> u64 {
        *s = s.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let v = *s ^ *s >> 29;
        match self {
            Kind::Small => v % 71,
            Kind::Pred => v & 1,
            // Near each other, so that sums cancel and ties occur.
            Kind::F32 if v & 1 == 0 => u64::from((v >> 32) as u32 & 0x83ff_ffff | 0x3c00_0000),
            Kind::F64 if v & 1 == 0 => v & 0x803f_ffff_ffff_ffff | 0x3fc0_0000_0000_0000,
            _ if self.bits() == 64 => v,
            _ => v & ((1 << self.bits()) - 1),
        }
    }
}

/// Tries an instruction on edge values and random ones against `f`. Operands are %a, %b, %c (or
/// predicates %pa ...), the result %d (or %pd).
pub fn check(text: &str, d: Kind, sources: &[Kind], f: impl Fn(&[u64]) -> u64) {
    let mut rows: Vec<Vec<u64>> = vec![vec![]];
    for k in sources {
        rows = rows
            .into_iter()
            .flat_map(|r| k.edges().into_iter().map(move |e| [r.clone(), vec![e]].concat()))
            .collect();
    }
    // A cross product of three lists is thinned; 7 is coprime to their lengths.
    if rows.len() > 700 {
        rows = rows.into_iter().step_by(7).collect();
    }
    let mut s = 42;
    rows.extend((0..300).map(|_| sources.iter().map(|k| k.random(&mut s)).collect()));
    let got = evaluate(text, d, sources, &rows);
    for (row, got) in rows.iter().zip(got) {
        let want = f(row);
        assert!(got == want, "{text} of {row:#x?}: {got:#x}, expected {want:#x}");
    }
}

/// One thread a row, approximations rounded to nearest.
pub fn evaluate(text: &str, d: Kind, sources: &[Kind], rows: &[Vec<u64>]) -> Vec<u64> {
    evaluate_on(Hardware::rounding(90).unwrap(), text, d, sources, rows)
}

/// The same on any device.
pub fn evaluate_on(
    hardware: Hardware,
    text: &str,
    d: Kind,
    sources: &[Kind],
    rows: &[Vec<u64>],
) -> Vec<u64> {
    let mut body = String::new();
    let mut decl = format!(".reg .b{} %d; .reg .pred %pd;", d.bits());
    for (i, k) in sources.iter().enumerate() {
        let name = ["a", "b", "c", "e", "g"][i];
        let bits = k.bits();
        decl += &format!(" .reg .b{bits} %{name}; .reg .pred %p{name};");
        body += &format!("ld.global.b{bits} %{name}, [%at+{}];\n", 8 * i);
        if *k == Kind::Pred {
            body += &format!("setp.ne.b32 %p{name}, %{name}, 0;\n");
        }
    }
    body += text;
    if d == Kind::Pred {
        body += "\nselp.b32 %d, 1, 0, %pd;";
    }
    let width = 8 * sources.len().max(1);
    let source = format!(
        ".version 8.0\n.target sm_90\n.address_size 64\n\
         .visible .entry k(.param .u64 in, .param .u64 out)\n{{\n\
         .reg .b32 %t, %x, %y; .reg .b64 %at, %to; {decl}\n\
         mov.u32 %x, %ctaid.x;\nmov.u32 %y, %tid.x;\nmad.lo.u32 %t, %x, 64, %y;\n\
         ld.param.u64 %at, [in];\nld.param.u64 %to, [out];\n\
         mad.wide.u32 %at, %t, {width}, %at;\nmad.wide.u32 %to, %t, 8, %to;\n\
         {body}\nst.global.b{} [%to], %d;\nret;\n}}\n",
        d.bits()
    );
    let kernel =
        Module::parse(&source).and_then(|m| m.kernel("k")).unwrap_or_else(|e| panic!("{e}"));
    let n = rows.len().next_multiple_of(64);
    let mut gpu = Gpu::with(hardware);
    let (input, out) = (gpu.alloc(n * width).unwrap(), gpu.alloc(8 * n).unwrap());
    gpu.fill(input, n * width, 0x11).unwrap();
    gpu.fill(out, 8 * n, 0).unwrap();
    for (i, row) in rows.iter().enumerate() {
        for (j, v) in row.iter().enumerate() {
            gpu.write(input + (i * width + 8 * j) as u64, &v.to_le_bytes()).unwrap();
        }
    }
    gpu.launch(&kernel, grid(n as u32 / 64, 64, 0), &[Arg::U64(input), Arg::U64(out)])
        .unwrap_or_else(|e| panic!("{e}"));
    let mut bytes = vec![0; 8 * n];
    gpu.read(out, &mut bytes).unwrap();
    let all = bytes.chunks(8).map(|b| u64::from_le_bytes(b.try_into().unwrap()));
    all.take(rows.len()).collect()
}
