use crate::check::{Bf16, F32, Gen, Output, devices, float, int, ptr};
use kernels_ptx::launch::{Storage, rmsnorm};

const IN_SHARED: usize = kernels_ptx::tiles::rmsnorm::IN_SHARED as usize;
const EPS: f64 = 1e-5;

/// (N, C): one token, odd widths, widths beyond what registers keep, more rows than blocks, the
/// widest row whose gradients a block sums in shared memory, and wider ones.
const SHAPES: [(usize, usize); 11] = [
    (1, 1),
    (1, 7),
    (3, 8),
    (2, 15),
    (33, 64),
    (5, 288),
    (2, 2056),
    (600, 16),
    (1, IN_SHARED),
    (2, IN_SHARED + 1),
    (2, IN_SHARED + 8),
];

struct Exact {
    y: Vec<f64>,
    r: Vec<f64>,
    dx: Vec<f64>,
    dw: Vec<f64>,
}

fn exact(dy: &[f64], x: &[f64], w: &[f64]) -> Exact {
    let C = w.len();
    let mut e = Exact { y: vec![], r: vec![], dx: vec![], dw: vec![0.0; C] };
    for (dy, x) in dy.chunks(C).zip(x.chunks(C)) {
        let r = 1.0 / (x.iter().map(|x| x * x).sum::<f64>() / C as f64 + EPS).sqrt();
        let s: f64 = (0..C).map(|c| w[c] * dy[c] * x[c]).sum();
        e.r.push(r);
        for c in 0..C {
            e.y.push(w[c] * x[c] * r);
            e.dx.push(r * w[c] * dy[c] - r.powi(3) * x[c] * s / C as f64);
            e.dw[c] += dy[c] * x[c] * r;
        }
    }
    e
}

fn sum(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn case(storage: Storage, (N, C): (usize, usize)) {
    let g = &mut Gen::new((N * 1000 + C) as u64);
    let [x, a, dy, dx] = [2.0, 1.0, 1.0, 1.0].map(|s| g.normals(storage, N * C, s));
    let w: Vec<f64> = g.normals(storage, C, 0.5).iter().map(|w| w + 1.0).collect();
    let w: Vec<f64> = w.iter().map(|&w| crate::check::rounded(storage, w)).collect();
    let dw = g.normals(F32, C, 1.0);
    let e = exact(&dy, &x, &w);
    let context = format!("{storage:?} N{N} C{C}");
    for mut d in devices() {
        let [px, pa, pdy, pdx, pw] = [&x, &a, &dy, &dx, &w].map(|v| d.put(storage, v));
        let (y, again) = (d.room(storage, N * C), d.room(storage, N * C));
        let (r, pdw) = (d.room(F32, N), d.put(F32, &dw));
        let sizes = [int(N), int(C), float(EPS)];
        d.run(
            rmsnorm::forward(storage, N as u32, C as u32),
            &[&[y, r, px, pw].map(ptr)[..], &sizes].concat(),
        );
        d.run(
            rmsnorm::apply(storage, N as u32, C as u32),
            &[&[again, px, pw, r].map(ptr)[..], &sizes[..2]].concat(),
        );
        let got = d.get(storage, y, N * C);
        assert!(got == d.get(storage, again, N * C), "{context}: apply differs from forward");
        Output::new("y", storage, got, e.y.clone()).check(&context);
        Output::new("r", F32, d.get(F32, r, N), e.r.clone()).check(&context);

        let backward = rmsnorm::backward(storage, N as u32, C as u32);
        let P = backward.blocks[0] as usize;
        let part = d.room(F32, P * C);
        d.run(backward, &[&[pdx, part, pdy, px, pw, r].map(ptr)[..], &sizes[..2]].concat());
        d.run(rmsnorm::backward_gain(C as u32), &[ptr(pdw), ptr(part), int(P), int(C)]);
        let got = d.get(storage, pdx, N * C);
        Output::new("dx", storage, got, sum(&dx, &e.dx)).check(&context);
        let got = d.get(F32, pdw, C);
        Output::new("dw", F32, got, sum(&dw, &e.dw)).floor(8e-6).check(&context);

        // With the residual: x + a is stored rounded, and its norm is that of what is stored.
        d.run(
            rmsnorm::forward_residual(storage, N as u32, C as u32),
            &[&[y, r, px, pa, pw].map(ptr)[..], &sizes].concat(),
        );
        let mid = d.get(storage, px, N * C);
        Output::new("x + a", storage, mid.clone(), sum(&x, &a)).check(&context);
        let e = exact(&dy, &mid, &w);
        Output::new("y of x + a", storage, d.get(storage, y, N * C), e.y).check(&context);
    }
}

#[test]
fn against_f64() {
    for shape in SHAPES {
        case(F32, shape);
        case(Bf16, shape);
    }
}
