//! Low-rank adapters beside a model's matrices: gradients of both, as in `model.rs`.

use crate::bench::{Bench, GQA, MHA, SOME, adapted, cpu};
use crate::gpus::gpus;
use crate::model::{agrees_on, worst_error_of};
use engine::{Device, Isa, bf16};
use model::cache::Mode;
use model::{Config, Target};

fn check(config: &Config, B: usize, T: usize, mode: Mode) {
    let bench = Bench::<f64>::new(config, B, T, mode, 1);
    let worst = bench.trainer.dev.clone().install(|| worst_error_of(bench, false));
    println!("{:?} {mode:?}: worst relative error {worst:.1e}", config.lora);
    assert!(worst <= 1e-6, "{worst:e}");
}

#[test]
fn gradients_beside_every_matrix() {
    check(&adapted(GQA, &Target::ALL, false, false), 2, 5, Mode::Linear);
}

#[test]
fn gradients_beside_some_matrices_recomputed() {
    check(&adapted(GQA, &SOME, true, false), 1, 5, Mode::Full);
}

#[test]
fn gradients_of_adapters_alone() {
    check(&adapted(GQA, &SOME, false, true), 2, 5, Mode::Linear);
    check(&adapted(MHA, &Target::ALL, true, true), 1, 5, Mode::Full);
}

#[test]
fn storage_types_agree() {
    for frozen in [false, true] {
        storage_types_agree_where(frozen);
    }
}

fn storage_types_agree_where(frozen: bool) {
    let config = adapted(GQA, &Target::ALL, false, frozen);
    let mut exact = Bench::<f64>::new(&config, 2, 9, Mode::Linear, 2);
    let loss = exact.gradients().mean();
    let check = |dev: &Device| {
        agrees_on::<f32>(&config, &exact, loss, dev, 1e-5, 2e-5);
        agrees_on::<bf16>(&config, &exact, loss, dev, 3e-2, 0.2);
    };
    Isa::all_available().for_each(|isa| check(&cpu(isa, 2)));
    gpus().for_each(|gpu| check(&gpu));
}
