//! PTX as rustc 1.96 prints it: `ptx/rustc.rs` compiled for sm_80, against the same in Rust.

use ptx_emu::{Arg, Class, Gpu, Grid, Module};

fn module() -> Module {
    Module::parse(include_str!("ptx/rustc.ptx")).unwrap()
}

fn floats(n: usize, seed: u32) -> Vec<f32> {
    let mut s = seed;
    let next = |_| {
        s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (s >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(next).collect()
}

fn bytes(v: &[f32]) -> Vec<u8> {
    v.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn upload(gpu: &mut Gpu, v: &[f32]) -> u64 {
    let p = gpu.alloc(4 * v.len()).unwrap();
    gpu.write(p, &bytes(v)).unwrap();
    p
}

fn download(gpu: &Gpu, p: u64, n: usize) -> Vec<f32> {
    let mut out = vec![0; 4 * n];
    gpu.read(p, &mut out).unwrap();
    out.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
fn rmsnorm() {
    let (n, c) = (5, 300);
    let (x, w) = (floats(n * c, 1), floats(c, 2));
    let mut gpu = Gpu::new();
    let (px, pw) = (upload(&mut gpu, &x), upload(&mut gpu, &w));
    let (py, pb) = (gpu.alloc(4 * n * c).unwrap(), gpu.alloc(2 * n * c).unwrap());
    let kernel = module().kernel("rmsnorm").unwrap();
    let grid = Grid { blocks: [n as u32, 1, 1], threads: [96, 1, 1], shared_bytes: 12 };
    let args = [py, pb, px, pw].map(Arg::U64);
    let args = [&args[..], &[Arg::U32(c as u32), Arg::F32(1e-5)]].concat();
    let counts = gpu.launch(&kernel, grid, &args).unwrap();
    let y = download(&gpu, py, n * c);
    let mut halves = vec![0; 2 * n * c];
    gpu.read(pb, &mut halves).unwrap();
    for row in 0..n {
        let x = &x[row * c..][..c];
        let mean = x.iter().map(|v| f64::from(v * v)).sum::<f64>() / c as f64;
        let r = (mean + 1e-5).sqrt().recip();
        for i in 0..c {
            let want = f64::from(x[i]) * r * f64::from(w[i]);
            let got = y[row * c + i];
            assert!((f64::from(got) - want).abs() <= 1e-6 * want.abs(), "{got} {want}");
            let at = 2 * (row * c + i);
            let half = u32::from(u16::from_le_bytes([halves[at], halves[at + 1]])) << 16;
            assert!((f32::from_bits(half) - got).abs() <= got.abs() / 256.0);
        }
    }
    assert_eq!(counts.threads, 480);
    // x is read twice, w once; 300 floats are 38 sectors with one shared by two rows where rows
    // do not begin on a sector.
    assert_eq!(counts.total.read_bytes, (3 * 4 * n * c) as u64);
    assert_eq!(counts.distinct_read_sectors, (4 * n * c).div_ceil(32) as u64 + 38);
    assert_eq!(counts.class(Class::Barrier), 15);
}

#[test]
fn swiglu() {
    let n = 1000;
    let (g, u) = (floats(n, 3), floats(n, 4));
    let mut gpu = Gpu::new();
    let (pg, pu) = (upload(&mut gpu, &g), upload(&mut gpu, &u));
    let py = gpu.alloc(4 * n).unwrap();
    let kernel = module().kernel("swiglu").unwrap();
    let grid = Grid { blocks: [8, 1, 1], threads: [128, 1, 1], shared_bytes: 0 };
    let args = [Arg::U64(py), Arg::U64(pg), Arg::U64(pu), Arg::U32(n as u32)];
    gpu.launch(&kernel, grid, &args).unwrap();
    for ((y, g), u) in download(&gpu, py, n).into_iter().zip(g).zip(u) {
        let (g, u) = (f64::from(g), f64::from(u));
        let want = g / (1.0 + (-g).exp()) * u;
        assert!((f64::from(y) - want).abs() <= 5e-7 * want.abs().max(1e-3), "{y} {want}");
    }
}

/// A structure by value, a function call with an array in local memory, a jump table.
#[test]
fn misc() {
    let (a, b, n) = (7u32, 2.5f32, 987_654_321_012_345_678u64);
    let c: [u16; 6] = [1, 20, 300, 4000, 50000, 6];
    let tab = [3u32, 1, 4, 1, 5, 9, 2, 6];
    let threads = 64;
    let mut gpu = Gpu::new();
    let p = gpu.alloc(4 * threads).unwrap();
    // Par as rustc lays it out: a, b, c, p.
    let mut par = Vec::new();
    par.extend(a.to_le_bytes());
    par.extend(b.to_le_bytes());
    par.extend(c.iter().flat_map(|v| v.to_le_bytes()));
    par.extend([0; 4]);
    par.extend(p.to_le_bytes());
    let kernel = module().kernel("misc").unwrap();
    let grid = Grid { blocks: [1, 1, 1], threads: [threads as u32, 1, 1], shared_bytes: 0 };
    gpu.launch(&kernel, grid, &[Arg::Bytes(&par), Arg::U64(n)]).unwrap();
    let mut out = vec![0; 4 * threads];
    gpu.read(p, &mut out).unwrap();
    for t in 0..threads as u32 {
        let digits: Vec<u8> =
            (n + u64::from(t) * 12345).to_string().bytes().rev().map(|d| d - b'0').collect();
        let mut s = 0u32;
        for (i, d) in digits.iter().enumerate() {
            s += u32::from(*d) * tab[(t as usize + i) % 8] + u32::from(c[i % 6]);
        }
        let want = match (t + a) % 11 {
            0 => s.leading_zeros(),
            1 => s.count_ones(),
            2 => s.rotate_left(t),
            3 => s.swap_bytes(),
            4 => s.reverse_bits(),
            5 => (s as f32 * b) as u32,
            6 => ((s as i32).wrapping_neg() >> 3) as u32,
            7 => (i32::from(s as i16) / 7) as u32,
            8 => s.trailing_zeros(),
            9 => ((u64::from(s).wrapping_mul(n)) >> 32) as u32,
            _ => s.saturating_sub(100),
        };
        let at = 4 * t as usize;
        let got = u32::from_le_bytes(out[at..at + 4].try_into().unwrap());
        assert_eq!(got, want, "thread {t}, case {}", (t + a) % 11);
    }
}
