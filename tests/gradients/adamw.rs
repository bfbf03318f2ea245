use crate::check::{
    Gen, Output, agree, agree_on_gpus, devices, everywhere, narrow, notice, notice_on_gpus,
};
use crate::check::{put, same_bits, take, wide};
use engine::ops::adamw::{Step, reference, step};
use engine::{Device, Element, Init, Real, Slot, Table, ViewMut, bf16};

/// Lengths of the parameters, and t. Parameters are aligned, so odd lengths leave gaps; the last
/// parameter of each table is left out of the step.
type Shape = (&'static [usize], u64);
const SHAPES: [Shape; 5] = [
    (&[1, 1], 1),
    (&[7, 8, 9, 3], 1),
    (&[33, 1, 17, 250, 4], 10),
    (&[16_384, 5, 16_383, 40_001, 31], 2),
    (&[50_000, 100], 1_000_000),
];

/// What is done to an element: None in gaps.
fn decay_of(decays: &[(Slot, f64)], i: usize) -> Option<f64> {
    decays.iter().find(|(slot, _)| slot.range().contains(&i)).map(|&(_, decay)| decay)
}

/// The formula in R, one element.
fn plain<R: Real>([w, m, v, g]: [R; 4], norm: f64, decay: f64, s: Step) -> [R; 3] {
    let c = R::from_f64;
    let g = g * c((s.max_norm / (norm + 1e-6)).min(1.0));
    let m = c(s.beta1) * m + c(1.0 - s.beta1) * g;
    let v = c(s.beta2) * v + c(1.0 - s.beta2) * g * g;
    let m_hat = m / c(1.0 - s.beta1.powf(s.t as f64));
    let v_hat = v / c(1.0 - s.beta2.powf(s.t as f64));
    [w * c(1.0 - s.lr * decay) - c(s.lr) * m_hat / (v_hat.sqrt() + c(s.eps)), m, v]
}

fn case<E: Element>(dev: &Device, gen_: &mut Gen, (lengths, t): Shape) -> Vec<Output> {
    let mut table = Table::default();
    for &len in lengths {
        table.push("p", &[len], Init::Ones);
    }
    let rows = &table.rows()[..lengths.len() - 1];
    let decays: Vec<(Slot, f64)> =
        rows.iter().enumerate().map(|(i, row)| (row.slot, 0.1 * i as f64)).collect();
    let s = Step { lr: 0.02, beta1: 0.9, beta2: 0.95, eps: 1e-8, max_norm: 3.0, t };

    let len = table.len();
    let [mut w, mut m, mut g] = [1.0, 0.1, 0.5].map(|scale| gen_.normals::<E::Acc>(len, scale));
    let mut v: Vec<E::Acc> = gen_.normals(len, 0.3);
    v.iter_mut().for_each(|v| *v = *v * *v);
    let mut copy_before: Vec<E> = gen_.normals(len, 1.0);
    let end = decays.last().map_or(0, |(slot, _)| slot.range().end);
    for i in (0..end).filter(|&i| decay_of(&decays, i).is_none()) {
        (w[i], m[i], v[i], g[i]) = (E::Acc::ZERO, E::Acc::ZERO, E::Acc::ZERO, E::Acc::ZERO);
        copy_before[i] = narrow(0.0);
    }
    let mut copy = put(dev, &copy_before);

    // Of these gradients and others: clipped where there are many.
    let norm = (len as f64).sqrt();
    let run = |copy: Option<ViewMut<E>>, sum: f64| {
        let [mut w, mut m, mut v, g] = [&w, &m, &v, &g].map(|values| put(dev, values));
        let (w_to, m_to, v_to) = (w.view_mut(), m.view_mut(), v.view_mut());
        step(dev, w_to, copy, m_to, v_to, g.view(), put(dev, &[sum]).view(), &decays, s);
        [w, m, v].map(take)
    };
    let unchanged = [w.clone(), m.clone(), v.clone()];
    for bad in [f64::NAN, f64::INFINITY] {
        let after = run(Some(copy.view_mut()), bad);
        assert!(after == unchanged, "a norm of {bad} changes something");
    }
    assert!(copy.view().read().unwrap() == copy_before, "and the copy");
    let got = run(Some(copy.view_mut()), norm * norm);
    let copy = take(copy);
    assert_eq!(got, run(None, norm * norm), "the copy changes the step");

    let (mut by_plain, mut exact) =
        ([w.clone(), m.clone(), v.clone()], [&w, &m, &v].map(|x| wide(x)));
    let mut exact_copy = wide(&copy_before);
    let mut copy_plain = copy_before;
    for i in 0..len {
        let Some(decay) = decay_of(&decays, i) else { continue };
        let [w_i, m_i, v_i, g_i] = [w[i], m[i], v[i], g[i]].map(R64::to_f64);
        let e = reference::step(w_i, m_i, v_i, g_i, norm, decay, s);
        let p = plain([w[i], m[i], v[i], g[i]], norm, decay, s);
        (exact[0][i], exact[1][i], exact[2][i], exact_copy[i]) = (e.0, e.1, e.2, e.0);
        (by_plain[0][i], by_plain[1][i], by_plain[2][i]) = (p[0], p[1], p[2]);
        copy_plain[i] = E::from_acc(p[0]);
    }
    let [exact_w, exact_m, exact_v] = exact;
    vec![
        Output::new("adamw w", &got[0], &by_plain[0], exact_w),
        Output::new("adamw m", &got[1], &by_plain[1], exact_m),
        Output::new("adamw v", &got[2], &by_plain[2], exact_v),
        Output::new("adamw copy", &copy, &copy_plain, exact_copy),
    ]
}
use engine::Real as R64;

/// AdamW has no backward pass. Its reference is held against two steps done by hand.
#[test]
fn reference_against_numbers_by_hand() {
    const NORM: f64 = 4.0 - 1e-6;
    let s = Step { lr: 0.1, beta1: 0.5, beta2: 0.75, eps: 0.25, max_norm: 2.0, t: 1 };
    // A norm of 4 - 1e-6 is clipped by half. g' = 2: m = 1, v = 1; m/(1/2) = 2, v/(1/4) = 4; w = 3*(1 - 0.1*0.5) - 0.1 * 2/(2 + 0.25).
    let (w, m, v) = reference::step(3.0, 0.0, 0.0, 4.0, NORM, 0.5, s);
    assert_eq!((m, v), (1.0, 1.0));
    assert!((w - (2.85 - 0.2 / 2.25)).abs() < 1e-15);
    // g' = -2: m = -1/2, v = 3/4 + 1 = 7/4; m/(3/4) = -2/3, v/(7/16) = 4.
    let (w, m, v) = reference::step(1.0, 1.0, 1.0, -4.0, NORM, 0.0, Step { t: 2, ..s });
    assert_eq!((m, v), (-0.5, 1.75));
    assert!((w - (1.0 + 0.1 * (2.0 / 3.0) / 2.25)).abs() < 1e-15);
}

#[test]
fn cpu_against_reference() {
    agree(&SHAPES, case::<f64>);
    agree(&SHAPES, case::<f32>);
    agree(&SHAPES, case::<bf16>);
}

#[test]
fn gpu_against_reference() {
    // With a copy in bf16, and without one.
    agree_on_gpus(&SHAPES, case::<bf16>);
}

#[test]
fn planted_errors_are_noticed() {
    notice(SHAPES[2], case::<f32>);
    notice(SHAPES[2], case::<bf16>);
    notice_on_gpus(SHAPES[2], case::<bf16>);
}

#[test]
fn bits_do_not_depend_on_threads() {
    same_bits(SHAPES[3], case::<f32>);
    same_bits(SHAPES[3], case::<bf16>);
}

/// The same step with gradients of norm `norm`, clipped to `max_norm`: w, m, v and the copy.
fn clipped(dev: &Device, len: usize, norm: f64, max_norm: f64) -> ([Vec<f32>; 3], Vec<bf16>) {
    let mut table = Table::default();
    let slot = table.push("p", &[len], Init::Ones);
    let g = &mut Gen::new(len as u64);
    let [mut w, mut m, mut v] =
        [1.0, 0.0, 0.0].map(|scale| put(dev, &g.normals::<f32>(len, scale)));
    let values = g.normals::<f64>(len, 1.0);
    let by = norm / values.iter().map(|x| x * x).sum::<f64>().sqrt();
    let values: Vec<f32> = values.iter().map(|x| (x * by) as f32).collect();
    let mut copy = put(dev, &vec![narrow::<bf16>(0.0); len]);
    let s = Step { lr: 0.02, beta1: 0.9, beta2: 0.95, eps: 1e-8, max_norm, t: 3 };
    let (w_to, m_to, v_to) = (w.view_mut(), m.view_mut(), v.view_mut());
    let (values, sum) = (put(dev, &values), put(dev, &[norm * norm]));
    let copy_to = Some(copy.view_mut());
    step(dev, w_to, copy_to, m_to, v_to, values.view(), sum.view(), &[(slot, 0.1)], s);
    ([w, m, v].map(take), take(copy))
}

/// Gradients whose norm is below the limit are taken as they are, to the bit, however far below.
#[test]
fn clipping_leaves_small_gradients_alone() {
    everywhere(|dev| {
        for len in [1, 5, 31, 4_099, 16_391] {
            for norm in [1e-12, 1e-6, 0.01, 0.9, 30.0] {
                let free = clipped(dev, len, norm, f64::INFINITY);
                for above in [1.001, 2.0, 1e3, 1e30] {
                    // The formula's 1e-6 joins the norm.
                    let max_norm = (norm + 1e-6) * above;
                    let what = format!("{}: {len}, norm {norm}, limit {max_norm}", dev.describe());
                    assert!(clipped(dev, len, norm, max_norm) == free, "{what}");
                }
            }
        }
    });
}

/// From the limit on, what the moments take of a gradient has the norm of the limit.
#[test]
fn clipping_scales_large_gradients_down_to_the_limit() {
    let norm_of = |x: &[f32]| x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    everywhere(|dev| {
        for len in [1, 5, 31, 4_099, 16_391] {
            for (norm, max_norm) in [(2.0, 2.0), (2.0, 1.999), (2.0, 1.0), (50.0, 0.25)] {
                let ([_, m, _], _) = clipped(dev, len, norm, max_norm);
                // The first moment starts at zero.
                let got = norm_of(&m) / (1.0 - 0.9);
                let error = (got / (max_norm * norm / (norm + 1e-6)) - 1.0).abs();
                let what = format!("{}: {len}, {norm} to {max_norm}: {got}", dev.describe());
                assert!(error < 1e-6, "{what}");
            }
        }
    });
}

/// Where gradients are as small as eps it is all that counts where eps stands: beside the root of the
/// second moment. g = 2e-8: m/(1-b1) = 2e-8, sqrt(v/(1-b2)) = 2e-8, and w falls by lr * 2/3.
#[test]
fn eps_joins_the_root() {
    let mut table = Table::default();
    let slot = table.push("p", &[21], Init::Ones);
    let s = Step { lr: 0.03, beta1: 0.9, beta2: 0.95, eps: 1e-8, max_norm: f64::INFINITY, t: 1 };
    everywhere(|dev| {
        let [mut w, mut m, mut v, g] =
            [1.0, 0.0, 0.0, 2e-8].map(|x: f32| put(dev, &vec![x; table.len()]));
        let (w_to, m_to, v_to) = (w.view_mut(), m.view_mut(), v.view_mut());
        let sum = put(dev, &[1e-15]);
        step::<f32>(dev, w_to, None, m_to, v_to, g.view(), sum.view(), &[(slot, 0.0)], s);
        let w = take(w);
        assert!(w.iter().all(|w| (w - 0.98).abs() < 1e-6), "{}: {w:?}", dev.describe());
    });
}

/// A parameter whose gradient has always been zero does not move, and a NaN gradient is seen.
#[test]
fn zero_stays_and_nan_stays() {
    let mut table = Table::default();
    let slot = table.push("p", &[3], Init::Ones);
    let s = Step { lr: 0.1, beta1: 0.9, beta2: 0.95, eps: 1e-8, max_norm: f64::INFINITY, t: 1 };
    for dev in devices(1) {
        let (mut w, mut m, mut v) = ([1f32, 1.0, 1.0], [0f32; 3], [0f32; 3]);
        let mut copy = [narrow::<bf16>(0.0); 3];
        let [w_to, m_to, v_to] = [&mut w, &mut m, &mut v].map(|x| (&mut x[..]).into());
        let copy_to = Some((&mut copy[..]).into());
        let (g, sum) = ((&[0.0, f32::NAN, 1.0][..]).into(), (&[1.0][..]).into());
        step::<bf16>(&dev, w_to, copy_to, m_to, v_to, g, sum, &[(slot, 0.0)], s);
        assert!(w[0] == 1.0 && w[1].is_nan() && w[2] < 1.0, "{w:?}");
        assert!(wide(&copy)[1].is_nan());
    }
}
