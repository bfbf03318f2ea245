use crate::check::{Bf16, F32, Gen, Output, devices, int};
use kernels_ptx::launch::Storage;
use kernels_ptx::swiglu::{Backward, Forward};

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
        let (gu_N2F, da_NF) = (d.put(storage, &gu), d.put(storage, &da));
        let a_NF = d.room(storage, N * F);
        d.run(&Forward { storage, a_NF, gu_N2F, N: int(N), F: int(F) });
        Output::new("a", storage, d.get(storage, a_NF, N * F), a.clone()).check(&context);
        d.run(&Backward { storage, gu_N2F, da_NF, N: int(N), F: int(F) });
        let got = d.get(storage, gu_N2F, 2 * N * F);
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
        let gu_N2F = d.put_bf16(&g.normals(Bf16, N * 2 * F, 1.0));
        let da_NF = d.put_bf16(&g.normals(Bf16, N * F, 1.0));
        let a_NF = d.room_bf16(N * F);
        d.run(&Forward { storage: Bf16, a_NF, gu_N2F, N: int(N), F: int(F) });
        d.moved_at_most(3 * N * F * 2);
        d.run(&Backward { storage: Bf16, gu_N2F, da_NF, N: int(N), F: int(F) });
        d.moved_at_most(5 * N * F * 2);
    }
}
