use crate::check::{Bf16, Device, F32, Gen, Output, devices, float, int, ptr, rounded};
use kernels_ptx::launch::{Storage, adamw};

const LR: f64 = 3e-2;
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.95;
const EPS: f64 = 1e-8;
const MAX_NORM: f64 = 2.0;
/// Of the gradients here and others.
const SUM: f64 = 9.0;
const STEP: i32 = 3;

/// Ends of parameters, each with its decay.
const SLOTS: [&[(u64, f64)]; 4] = [
    &[(1, 0.1)],
    &[(7, 0.0)],
    &[(5, 0.1), (6, 0.0), (70, 0.2)],
    &[(16, 0.0), (1040, 0.1), (1057, 0.0), (5000, 0.1), (5003, 0.3)],
];

fn case(copy: Storage, slots: &[(u64, f64)]) {
    let len = slots.last().unwrap().0 as usize;
    let g = &mut Gen::new(len as u64);
    let [w, m, grad] = [1.0, 0.1, 1.0].map(|s| g.normals(F32, len, s));
    let v: Vec<f64> = g.normals(F32, len, 0.1).iter().map(|v| rounded(F32, v * v)).collect();
    let (mut ew, mut em, mut ev) = (vec![], vec![], vec![]);
    let decays: Vec<f64> = slots.iter().map(|&(_, decay)| rounded(F32, decay)).collect();
    for i in 0..len {
        let slot = slots.iter().position(|&(end, _)| (i as u64) < end).unwrap();
        let g = grad[i] * (MAX_NORM / (SUM.sqrt() + 1e-6)).min(1.0);
        let m = BETA1 * m[i] + (1.0 - BETA1) * g;
        let v = BETA2 * v[i] + (1.0 - BETA2) * g * g;
        let hats = (m / (1.0 - BETA1.powi(STEP)), v / (1.0 - BETA2.powi(STEP)));
        ew.push(w[i] * (1.0 - LR * decays[slot]) - LR * hats.0 / (hats.1.sqrt() + EPS));
        em.push(m);
        ev.push(v);
    }
    let context = format!("copy {copy:?}, {len} elements");
    for mut d in devices() {
        let [pw, pm, pv, pg] = [&w, &m, &v, &grad].map(|x| d.put(F32, x));
        let pcopy = d.room(Bf16, len);
        let ends: Vec<u8> = slots.iter().flat_map(|(end, _)| end.to_le_bytes()).collect();
        let (pends, pdecays) = (d.bytes(&ends), d.put(F32, &decays));
        let (rate, root) = (LR / (1.0 - BETA1.powi(STEP)), 1.0 / (1.0 - BETA2.powi(STEP)).sqrt());
        let args = |sum: f64, d: &mut Device| {
            let psum = d.bytes(&sum.to_le_bytes());
            let arenas = match copy {
                F32 => vec![pw, pm, pv, pg, psum, pends, pdecays],
                Bf16 => vec![pw, pcopy, pm, pv, pg, psum, pends, pdecays],
            };
            let mut args: Vec<_> = arenas.into_iter().map(ptr).collect();
            args.push(int(slots.len()));
            args.extend([LR, BETA1, BETA2, EPS, MAX_NORM, rate, root].map(float));
            args
        };
        for bad in [f64::NAN, f64::INFINITY] {
            let args = args(bad, &mut d);
            d.run(adamw::step(copy, len as u64), &args);
            let after = [pw, pm, pv].map(|p| d.get(F32, p, len));
            assert!(after == [&w, &m, &v].map(Clone::clone), "{context}: a norm of {bad} writes");
        }
        let args = args(SUM, &mut d);
        d.run(adamw::step(copy, len as u64), &args);
        let got = d.get(F32, pw, len);
        if copy == Bf16 {
            let exact = got.iter().map(|&w| rounded(Bf16, w)).collect::<Vec<_>>();
            assert!(d.get(Bf16, pcopy, len) == exact, "{context}: the copy is w rounded");
        }
        Output::new("w", F32, got, ew.clone()).check(&context);
        Output::new("m", F32, d.get(F32, pm, len), em.clone()).check(&context);
        Output::new("v", F32, d.get(F32, pv, len), ev.clone()).check(&context);
        if len > 4000 && copy == Bf16 {
            // A few ends and decays a block come on top.
            d.moved_at_most(len * 30 + d.counts.blocks as usize * 8 * 4 * 32);
        }
    }
}

#[test]
fn against_f64() {
    for slots in SLOTS {
        case(F32, slots);
        case(Bf16, slots);
    }
}
