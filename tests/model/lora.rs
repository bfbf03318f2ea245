//! Low-rank adapters: gradients against central differences, decoding, merging.

use crate::common::{Bench, GQA, MHA, config, cpu};
use crate::gpus::gpus;
use crate::gradients::{agrees_on, worst_error_of};
use engine::{Buf, Device, Dims, Element, Isa, Real, bf16};
use model::cache::Mode;
use model::decode::Decoder;
use model::{Config, Lora, Target};
use train::trainer::Trainer;

/// Adapters beside some matrices, which leave gaps in the joint ones.
const SOME: [Target; 4] = [Target::Value, Target::Output, Target::Up, Target::Down];

fn adapted(dims: Dims, targets: &[Target], rslora: bool) -> Config {
    let lora = Lora { rslora, targets: targets.to_vec(), alpha: 5.0, ..Lora::new(3) };
    Config { lora: Some(lora), ..config(dims, false) }
}

fn check(config: &Config, B: usize, T: usize, mode: Mode) {
    let bench = Bench::<f64>::new(config, B, T, mode, 1);
    let worst = bench.trainer.dev.clone().install(|| worst_error_of(bench, false));
    println!("{:?} {mode:?}: worst relative error {worst:.1e}", config.lora);
    assert!(worst <= 1e-6, "{worst:e}");
}

#[test]
fn gradients_beside_every_matrix() {
    check(&adapted(GQA, &Target::ALL, false), 2, 5, Mode::Linear);
}

#[test]
fn gradients_beside_some_matrices_recomputed() {
    check(&adapted(GQA, &SOME, true), 1, 5, Mode::Full);
}

#[test]
fn storage_types_agree() {
    let config = adapted(GQA, &Target::ALL, false);
    let mut exact = Bench::<f64>::new(&config, 2, 9, Mode::Linear, 2);
    let loss = exact.gradients().mean();
    let check = |dev: &Device| {
        agrees_on::<f32>(&config, &exact, loss, dev, 1e-5, 2e-5);
        agrees_on::<bf16>(&config, &exact, loss, dev, 3e-2, 0.2);
    };
    Isa::all_available().for_each(|isa| check(&cpu(isa, 2)));
    gpus().for_each(|gpu| check(&gpu));
}

/// Logits of every token of a bench's batch.
fn logits<E: Element>(bench: &mut Bench<E>) -> Vec<f64> {
    bench.forward();
    let V = bench.trainer.model.config().dims.V;
    let mut logits_NV = Buf::zeros(&bench.trainer.dev, bench.tokens.len() * V);
    let Trainer { dev, model, weights, cache, scratch, .. } = &mut bench.trainer;
    model.logits(dev, &mut logits_NV, weights.view(), cache, scratch);
    logits_NV.view().read().unwrap().iter().map(|x| x.to_f64()).collect()
}

fn apart(a: &[f64], b: &[f64]) -> f64 {
    let size = |x: &mut dyn Iterator<Item = f64>| x.fold(0.0f64, |max, x| max.max(x.abs()));
    size(&mut a.iter().zip(b).map(|(a, b)| a - b)) / size(&mut a.iter().copied())
}

fn decodes<E: Element>(dev: &Device, of: f64) {
    let mut bench =
        Bench::<E>::on(dev.clone(), &adapted(GQA, &Target::ALL, false), 1, 24, Mode::Linear);
    let (V, expected) = (GQA.V, logits(&mut bench));
    let Trainer { dev, model, weights, .. } = &bench.trainer;
    let mut decoder = Decoder::<E>::new(dev, model, 1, 24);
    for pieces in [[20, 1, 1, 1, 1].as_slice(), &[1; 24]] {
        decoder.clear(0);
        let mut end = 0;
        for piece in pieces {
            let tokens = &bench.tokens[end..end + piece];
            end += piece;
            let got = decoder.feed(dev, model, weights.view(), &[(0, tokens)]).unwrap();
            let got: Vec<f64> = got.iter().map(|x| x.to_f64()).collect();
            let error = apart(&expected[(end - 1) * V..end * V], &got);
            assert!(error <= of, "{} {}: {error:e} at {end}", dev.describe(), E::NAME);
        }
    }
}

#[test]
fn decoding_gives_the_logits_of_forward() {
    decodes::<f64>(&cpu(Isa::Portable, 2), 1e-10);
    Isa::all_available().for_each(|isa| decodes::<f32>(&cpu(isa, 2), 1e-4));
    gpus().for_each(|gpu| decodes::<f32>(&gpu, 1e-4));
}

fn merges<E: Element>(dev: &Device, of: f64) {
    for (targets, rslora) in [(&Target::ALL[..], false), (&SOME, true)] {
        let config = adapted(MHA, targets, rslora);
        let mut bench = Bench::<E>::on(dev.clone(), &config, 2, 7, Mode::Linear);
        let apart_before = logits(&mut bench);
        bench.trainer.model.merge(dev, &mut bench.trainer.weights).unwrap();
        let merged = logits(&mut bench);
        let error = apart(&apart_before, &merged);
        assert!(error <= of, "{} {}: {error:e}", dev.describe(), E::NAME);
        // And it was the weights that changed: a model of the same sizes without adapters agrees.
        let plain = Config { lora: None, ..config };
        let mut plain = Bench::<E>::on(dev.clone(), &plain, 2, 7, Mode::Linear);
        assert!(apart(&apart_before, &logits(&mut plain)) > 0.05, "adapters change much");
        for row in plain.trainer.model.table().rows() {
            let rows = bench.trainer.model.table().rows();
            let same = rows.iter().find(|other| other.name == row.name).unwrap().slot;
            let values = bench.trainer.weights.master().get(same).read().unwrap().into_owned();
            plain.trainer.weights.master_mut().get_mut(row.slot).write(&values);
        }
        plain.trainer.weights.refresh().unwrap();
        assert!(apart(&merged, &logits(&mut plain)) <= of, "adapters are zero now");
    }
}

#[test]
fn merged_weights_give_the_same_logits() {
    merges::<f64>(&cpu(Isa::Portable, 2), 1e-12);
    Isa::all_available().for_each(|isa| merges::<f32>(&cpu(isa, 2), 1e-5));
    gpus().for_each(|gpu| merges::<f32>(&gpu, 1e-5));
}

#[test]
fn scales_are_those_of_the_papers() {
    let lora = Lora { alpha: 6.0, ..Lora::new(4) };
    assert_eq!(lora.scale(), 1.5);
    assert_eq!(Lora { rslora: true, ..lora }.scale(), 3.0);
}

#[test]
fn a_model_begins_as_it_was() {
    let with = adapted(GQA, &Target::ALL, false);
    let mut with = Bench::<f32>::new(&with, 2, 5, Mode::Linear, 2);
    let mut without = Bench::<f32>::new(&config(GQA, false), 2, 5, Mode::Linear, 2);
    with.trainer.init(3).unwrap();
    without.trainer.init(3).unwrap();
    assert!(logits(&mut with) == logits(&mut without));
    let Trainer { model, weights, .. } = &with.trainer;
    for row in model.table().rows().iter().filter(|row| row.name.contains(".lora_A.")) {
        // Normal, as wide as PEFT's uniform one.
        let (a, I) = (weights.master().get(row.slot).host(), row.shape[1] as f64);
        let square: f64 = a.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / a.len() as f64;
        assert!((0.2..5.0).contains(&(3.0 * I * square)), "{}: {square}", row.name);
    }
}
