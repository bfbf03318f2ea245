use crate::check::{Bf16, F32, Gen, Output, devices, int, ptr};
use kernels_ptx::launch::{Storage, swiglu};

/// (N, F)
const SHAPES: [(usize, usize); 6] = [(1, 1), (1, 8), (3, 7), (5, 24), (2, 300), (37, 136)];

fn case(storage: Storage, (N, F): (usize, usize)) {
    let g = &mut Gen::new((N * 1000 + F) as u64);
    let (gu, da) = (g.normals(storage, N * 2 * F, 2.0), g.normals(storage, N * F, 1.0));
    let (mut a, mut dgu) = (vec![], gu.clone());
    for n in 0..N {
        for f in 0..F {
            let (g, u) = (gu[n * 2 * F + f], gu[n * 2 * F + F + f]);
            let (q, da) = (1.0 / (1.0 + (-g).exp()), da[n * F + f]);
            a.push(g * q * u);
            dgu[n * 2 * F + f] = da * u * q * (1.0 + g * (1.0 - q));
            dgu[n * 2 * F + F + f] = da * g * q;
        }
    }
    let context = format!("{storage:?} N{N} F{F}");
    for mut d in devices() {
        let (pgu, pda, pa) = (d.put(storage, &gu), d.put(storage, &da), d.room(storage, N * F));
        let sizes = [int(N), int(F)];
        d.run(
            swiglu::forward(storage, N as u32, F as u32),
            &[&[pa, pgu].map(ptr)[..], &sizes].concat(),
        );
        Output::new("a", storage, d.get(storage, pa, N * F), a.clone()).check(&context);
        d.run(
            swiglu::backward(storage, N as u32, F as u32),
            &[&[pgu, pda].map(ptr)[..], &sizes].concat(),
        );
        let got = d.get(storage, pgu, 2 * N * F);
        Output::new("dgu", storage, got, dgu.clone()).check(&context);
    }
}

#[test]
fn against_f64() {
    for shape in SHAPES {
        case(F32, shape);
        case(Bf16, shape);
    }
}

#[test]
fn bytes() {
    let (N, F) = (64, 256);
    let g = &mut Gen::new(0);
    for mut d in devices() {
        let gu = d.put(Bf16, &g.normals(Bf16, N * 2 * F, 1.0));
        let da = d.put(Bf16, &g.normals(Bf16, N * F, 1.0));
        let a = d.room(Bf16, N * F);
        let sizes = [int(N), int(F)];
        d.run(
            swiglu::forward(Bf16, N as u32, F as u32),
            &[&[ptr(a), ptr(gu)], &sizes[..]].concat(),
        );
        d.moved_at_most(3 * N * F * 2);
        d.run(
            swiglu::backward(Bf16, N as u32, F as u32),
            &[&[ptr(gu), ptr(da)], &sizes[..]].concat(),
        );
        d.moved_at_most(5 * N * F * 2);
    }
}
