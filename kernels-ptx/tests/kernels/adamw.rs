use crate::check::{Bf16, Device, F32, Gen, Output, devices, int, rounded};
use kernels_ptx::adamw::Step;
use kernels_ptx::launch::Storage;
use kernels_ptx::math;
use std::ptr::null_mut;

const LR: f64 = 3e-2;
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.95;
const EPS: f64 = 1e-8;
const STEP: i32 = 3;

/// Ends of parameters, each with its decay.
const SLOTS: [&[(u64, f64)]; 4] = [
    &[(1, 0.1)],
    &[(7, 0.0)],
    &[(5, 0.1), (6, 0.0), (70, 0.2)],
    &[(16, 0.0), (1040, 0.1), (1057, 0.0), (5000, 0.1), (5003, 0.3)],
];

/// Norms to clip to, as shares of the gradient's norm: by half, not quite, not at all.
const MAX_NORMS: [f64; 3] = [0.5, 1.001, f64::INFINITY];

/// Launches a step of the arenas w, m, v, g; in brain floats with `copy`.
fn step(
    d: &mut Device,
    storage: Storage,
    [w, m, v, g]: [*mut f32; 4],
    copy: *mut math::Bf16,
    slots: &[(u64, f64)],
    sum: f64,
    max_norm: f64,
) {
    let ends: Vec<u64> = slots.iter().map(|&(end, _)| end).collect();
    let decays: Vec<f64> = slots.iter().map(|&(_, decay)| decay).collect();
    let step = Step {
        w,
        m,
        v,
        g,
        sum: d.put_f64(&[sum]),
        ends: d.put_u64(&ends),
        decays: d.put_f32(&decays),
        slots: int(slots.len()),
        lr: LR as f32,
        beta1: BETA1 as f32,
        beta2: BETA2 as f32,
        eps: EPS as f32,
        max_norm: max_norm as f32,
        rate: (LR / (1.0 - BETA1.powi(STEP))) as f32,
        root: (1.0 / (1.0 - BETA2.powi(STEP)).sqrt()) as f32,
        len: *ends.last().unwrap(),
    };
    match storage {
        F32 => d.run(&step),
        Bf16 => d.run(&step.and_copy(copy)),
    }
}

fn case(copy: Storage, slots: &[(u64, f64)], max_norm: f64) {
    let len = slots.last().unwrap().0 as usize;
    let g = &mut Gen::new(len as u64);
    let [w, m, grad] = [1.0, 0.1, 1.0].map(|s| g.normals(F32, len, s));
    let v: Vec<f64> = g.normals(F32, len, 0.1).iter().map(|v| rounded(F32, v * v)).collect();
    let (mut ew, mut em, mut ev) = (vec![], vec![], vec![]);
    let sum: f64 = grad.iter().map(|g| g * g).sum();
    let max_norm = rounded(F32, max_norm * sum.sqrt());
    let clip = (max_norm / (sum.sqrt() + 1e-6)).min(1.0);
    let decays: Vec<f64> = slots.iter().map(|&(_, decay)| rounded(F32, decay)).collect();
    for i in 0..len {
        let slot = slots.iter().position(|&(end, _)| (i as u64) < end).unwrap();
        let g = grad[i] * clip;
        let m = BETA1 * m[i] + (1.0 - BETA1) * g;
        let v = BETA2 * v[i] + (1.0 - BETA2) * g * g;
        let hats = (m / (1.0 - BETA1.powi(STEP)), v / (1.0 - BETA2.powi(STEP)));
        ew.push(w[i] * (1.0 - LR * decays[slot]) - LR * hats.0 / (hats.1.sqrt() + EPS));
        em.push(m);
        ev.push(v);
    }
    let context = format!("copy {copy:?}, {len} elements, max_norm {max_norm}");
    for mut d in devices() {
        let arenas = [&w, &m, &v, &grad].map(|x| d.put_f32(x));
        let [pw, pm, pv, _] = arenas;
        let pcopy = d.room_bf16(len);
        step(&mut d, copy, arenas, pcopy, slots, sum, max_norm);
        let got = d.get_f32(pw, len);
        if copy == Bf16 {
            let exact = got.iter().map(|&w| rounded(Bf16, w)).collect::<Vec<_>>();
            assert!(d.get_bf16(pcopy, len) == exact, "{context}: the copy is w rounded");
        }
        Output::new("w", F32, got, ew.clone()).check(&context);
        Output::new("m", F32, d.get_f32(pm, len), em.clone()).check(&context);
        Output::new("v", F32, d.get_f32(pv, len), ev.clone()).check(&context);
        if len > 4000 && copy == Bf16 {
            // A few ends and decays a block come on top.
            d.moved_at_most(len * 30 + d.counts.blocks as usize * 8 * 4 * 32);
        }
    }
}

#[test]
fn against_f64() {
    for slots in SLOTS {
        for max_norm in MAX_NORMS {
            case(F32, slots, max_norm);
            case(Bf16, slots, max_norm);
        }
    }
}

/// A gradient of zeros clips nothing: weights decay, moments shrink.
#[test]
fn no_gradient() {
    for mut d in devices() {
        let arenas = [1.0, 0.5, 0.25, 0.0].map(|x| d.put_f32(&[x; 5]));
        step(&mut d, F32, arenas, null_mut(), &[(5, 0.0)], 0.0, 1.0);
        Output::new("m", F32, d.get_f32(arenas[1], 5), vec![0.5 * BETA1; 5]).check("zeros");
    }
}

/// A step whose gradient is no number, or too large for one, changes no bit.
#[test]
fn nothing_is_written_where_the_norm_is_not_finite() {
    let slots = SLOTS[3];
    let len = slots.last().unwrap().0 as usize;
    for (copy, sum) in [F32, Bf16]
        .into_iter()
        .flat_map(|copy| [f64::NAN, f64::INFINITY, -1.0].map(|sum| (copy, sum)))
    {
        for mut d in devices() {
            let before = [1.0, 2.0, 3.0, f64::NAN].map(|x| Gen::new(0).normals(F32, len, x));
            let arenas = [0, 1, 2, 3].map(|i| d.put_f32(&before[i]));
            let pcopy = d.put_bf16(&before[0]);
            step(&mut d, copy, arenas, pcopy, slots, sum, 1.0);
            for i in 0..3 {
                assert!(d.get_f32(arenas[i], len) == before[i], "{copy:?}, sum {sum}: {i}");
            }
            let rounded = before[0].iter().map(|&w| rounded(Bf16, w)).collect::<Vec<_>>();
            assert!(d.get_bf16(pcopy, len) == rounded, "{copy:?}, sum {sum}: copy");
        }
    }
}
