//! The whole model: gradients of every parameter against central differences in f64, and those of
//! every storage type and device against f64.

use crate::bench::{Bench, GQA, MHA, config, cpu};
use crate::gpus::gpus;
use engine::{Device, Dims, Element, Isa, bf16};
use model::cache::Mode;
use model::{Bias, Config};

/// Largest error of any parameter element, relative to the largest gradient of its tensor.
fn worst_error(dims: Dims, tied: bool, B: usize, T: usize, mode: Mode, break_it: bool) -> f64 {
    // On the pool's own thread: thousands of tiny ops would spend their time handing over.
    let bench = Bench::<f64>::new(&config(dims, tied), B, T, mode, 1);
    bench.trainer.dev.clone().install(|| worst_error_of(bench, break_it))
}

pub fn worst_error_of(mut bench: Bench<f64>, break_it: bool) -> f64 {
    bench.gradients();
    if break_it {
        let slot = bench.trainer.model.table().rows()[2].slot;
        let grads = bench.trainer.grads.get_mut(slot).host();
        let largest = grads.iter_mut().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap();
        *largest *= 1.01;
    }
    let grads = bench.trainer.grads.view().host().to_vec();
    let mut worst = 0.0f64;
    for row in bench.trainer.model.table().trained().rows() {
        let analytic = &grads[row.slot.range()];
        let scale = analytic.iter().fold(0.0f64, |a, g| a.max(g.abs()));
        assert!(scale > 0.0, "{} has no gradient", row.name);
        for (i, &g) in analytic.iter().enumerate() {
            let at = row.slot.range().start + i;
            let numeric = slope(&mut bench, at, 1e-3);
            worst = worst.max((g - numeric).abs() / scale);
        }
    }
    worst
}

/// Fourth-order central difference of the mean loss by one weight: error O(h^4).
fn slope(bench: &mut Bench<f64>, at: usize, h: f64) -> f64 {
    let w = bench.trainer.weights.master().view().host()[at];
    let mut loss_at = |x: f64| {
        bench.trainer.weights.master_mut().view_mut().host()[at] = x;
        bench.loss().mean()
    };
    let near = loss_at(w + h) - loss_at(w - h);
    let far = loss_at(w + 2.0 * h) - loss_at(w - 2.0 * h);
    loss_at(w);
    (8.0 * near - far) / (12.0 * h)
}

fn check(dims: Dims, tied: bool, B: usize, T: usize, mode: Mode) {
    let worst = worst_error(dims, tied, B, T, mode, false);
    println!("{dims:?} tied {tied} B {B} T {T} {mode:?}: worst relative error {worst:.1e}");
    assert!(worst <= 1e-6, "{worst:e}");
}

#[test]
fn grouped_heads_odd_length() {
    check(GQA, false, 2, 5, Mode::Linear);
}

#[test]
fn grouped_heads_odd_length_recomputed() {
    check(GQA, false, 1, 7, Mode::Full);
}

#[test]
fn tied_head() {
    check(MHA, true, 1, 3, Mode::Linear);
}

#[test]
fn tied_head_recomputed() {
    check(GQA, true, 2, 3, Mode::Full);
}

/// Biases of queries, keys and values, and of attention's output.
#[test]
fn biases() {
    for (bias, mode) in [(Bias::Qkv, Mode::Linear), (Bias::Attention, Mode::Full)] {
        let config = Config { bias, ..config(GQA, false) };
        let bench = Bench::<f64>::new(&config, 1, 5, mode, 1);
        let worst = bench.trainer.dev.clone().install(|| worst_error_of(bench, false));
        assert!(worst <= 1e-6, "{bias:?}: {worst:e}");
    }
}

#[test]
fn one_token() {
    // A single key always gets all weight: query and key have no gradient, so only the rest counts.
    let mut bench = Bench::<f64>::new(&config(MHA, false), 1, 2, Mode::Linear, 1);
    bench.targets = vec![3, 4];
    bench.gradients();
    let at = bench.trainer.model.table().rows()[0].slot.range().start;
    let (first, _) = (bench.tokens[0] as usize, 0);
    let (index, g) = (at + first * MHA.C, bench.trainer.grads.view().host()[at + first * MHA.C]);
    assert!((g - slope(&mut bench, index, 1e-3)).abs() <= 1e-9);
}

#[test]
fn a_gradient_off_by_one_percent_is_caught() {
    assert!(worst_error(MHA, false, 1, 3, Mode::Linear, true) > 1e-3);
}

#[test]
fn storage_types_agree() {
    for bias in [Bias::None, Bias::Attention] {
        let config = &Config { bias, ..config(GQA, false) };
        let mut exact = Bench::<f64>::new(config, 2, 9, Mode::Linear, 2);
        let loss = exact.gradients().mean();
        let check = |dev: &Device| {
            agrees_on::<f32>(config, &exact, loss, dev, 1e-5, 2e-5);
            agrees_on::<bf16>(config, &exact, loss, dev, 3e-2, 0.2);
        };
        Isa::all_available().for_each(|isa| check(&cpu(isa, 2)));
        gpus().for_each(|gpu| check(&gpu));
    }
}

/// Loss and gradients in storage type `E` on `dev`, against those of `exact`.
pub fn agrees_on<E: Element<Acc = f32>>(
    config: &Config,
    exact: &Bench<f64>,
    loss: f64,
    dev: &Device,
    of_loss: f64,
    of: f64,
) {
    let place = format!("{}, {}", dev.describe(), E::NAME);
    let mut narrow = Bench::<E>::on(dev.clone(), config, 2, 9, Mode::Linear);
    assert!((narrow.gradients().mean() - loss).abs() <= of_loss * loss, "{place}");
    for row in exact.trainer.model.table().trained().rows() {
        let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
        let got = narrow.trainer.grads.get(row.slot).read().unwrap();
        let expected = exact.trainer.grads.get(row.slot).host();
        let apart = norm(&mut got.iter().zip(expected).map(|(a, b)| f64::from(*a) - b));
        let error = apart / norm(&mut expected.iter().copied());
        assert!(error <= of, "{place}: {} {error:e}", row.name);
    }
}
