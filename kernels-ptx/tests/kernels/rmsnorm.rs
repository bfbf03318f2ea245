use crate::check::{Bf16, F32, Gen, Output, devices, int};
use kernels_ptx::launch::Storage;
use kernels_ptx::rmsnorm::{self, Apply, Backward, BackwardGain, Forward, ForwardResidual};

const IN_SHARED: usize = rmsnorm::IN_SHARED as usize;
const EPS: f64 = 1e-5;

/// (N, C): one token, odd widths, more rows than blocks (of backward 512, of forward 2048), widths
/// beyond what registers keep (2048 elements one by one, 16384 in sixteens of bytes), the widest row
/// whose gradients a block sums in shared memory, and wider ones.
const SHAPES: [(usize, usize); 14] = [
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
    (2, 2051),
    (2060, 3),
    (1, 16_392),
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
        let [x_NC, a_NC, dy_NC, dx_acc_NC, w_C] = [&x, &a, &dy, &dx, &w].map(|v| d.put(storage, v));
        let (y_NC, again) = (d.room(storage, N * C), d.room(storage, N * C));
        let (r_N, dw_acc_C) = (d.room_f32(N), d.put_f32(&dw));
        let ([N, C], eps) = ([N, C].map(int), EPS as f32);
        d.run(&Forward { storage, y_NC, r_N, x_NC, w_C, N, C, eps });
        d.run(&Apply { storage, y_NC: again, x_NC, w_C, r_N, N, C });
        let got = d.get(storage, y_NC, x.len());
        assert!(got == d.get(storage, again, x.len()), "{context}: apply differs from forward");
        Output::new("y", storage, got, e.y.clone()).check(&context);
        Output::new("r", F32, d.get_f32(r_N, e.r.len()), e.r.clone()).check(&context);

        let P = rmsnorm::parts(N);
        let dw_part_PC = d.room_f32((P * C) as usize);
        d.run(&Backward { storage, dx_acc_NC, dw_part_PC, dy_NC, x_NC, w_C, r_N, N, C });
        d.run(&BackwardGain { dw_acc_C, dw_part_PC, P, C });
        let got = d.get(storage, dx_acc_NC, x.len());
        Output::new("dx", storage, got, sum(&dx, &e.dx)).check(&context);
        let got = d.get_f32(dw_acc_C, w.len());
        Output::new("dw", F32, got, sum(&dw, &e.dw)).floor(8e-6).check(&context);

        // With the residual: x + a is stored rounded, and its norm is that of what is stored.
        d.run(&ForwardResidual { storage, y_NC, r_N, x_acc_NC: x_NC, a_NC, w_C, N, C, eps });
        let mid = d.get(storage, x_NC, x.len());
        Output::new("x + a", storage, mid.clone(), sum(&x, &a)).check(&context);
        let e = exact(&dy, &mid, &w);
        Output::new("y of x + a", storage, d.get(storage, y_NC, x.len()), e.y).check(&context);
    }
}

#[test]
fn against_f64() {
    for shape in SHAPES {
        case(F32, shape);
        case(Bf16, shape);
    }
}
