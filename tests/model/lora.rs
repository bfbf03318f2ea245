//! Low-rank adapters: decoding, merging, training, files. Their gradients are in `tests/gradients`.

use crate::bench::{Bench, GQA, MHA, SOME, adapted, config, cpu};
use crate::gpus::gpus;
use engine::{Buf, Device, Dims, Element, Isa, Real, bf16};
use model::cache::Mode;
use model::generation::Decoder;
use model::{Config, Lora, Target};
use train::trainer::Trainer;

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
        Bench::<E>::on(dev.clone(), &adapted(GQA, &Target::ALL, false, true), 1, 24, Mode::Linear);
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
    for (targets, rslora, frozen) in [(&Target::ALL[..], false, true), (&SOME, true, false)] {
        let config = adapted(MHA, targets, rslora, frozen);
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
            let values = bench.trainer.weights.get(same).unwrap().into_owned();
            plain.trainer.weights.fill_with(row.slot, |to| to.copy_from_slice(&values));
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
    let with = adapted(GQA, &Target::ALL, false, true);
    let mut with = Bench::<f32>::new(&with, 2, 5, Mode::Linear, 2);
    let mut without = Bench::<f32>::new(&config(GQA, false), 2, 5, Mode::Linear, 2);
    with.trainer.init(3).unwrap();
    without.trainer.init(3).unwrap();
    assert!(logits(&mut with) == logits(&mut without));
    let Trainer { model, weights, .. } = &with.trainer;
    for row in model.table().rows().iter().filter(|row| row.name.contains(".lora_A.")) {
        // Normal, as wide as PEFT's uniform one.
        let (a, I) = (weights.get(row.slot).unwrap(), row.shape[1] as f64);
        let square: f64 = a.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / a.len() as f64;
        assert!((0.2..5.0).contains(&(3.0 * I * square)), "{}: {square}", row.name);
    }
}

/// Bits of all rows that are trained, or of those that are not, as they are stored.
fn bits<E: Element<Acc = f32>>(bench: &Bench<E>, trained: bool) -> Vec<u32> {
    let rows = bench.trainer.model.table().rows().iter();
    let rows = rows.filter(|row| row.slot.is_trained() == trained);
    let values = rows.flat_map(|row| bench.trainer.weights.get(row.slot).unwrap().into_owned());
    values.map(f32::to_bits).collect()
}

fn steps<E: Element<Acc = f32>>(dev: &Device) {
    let config = adapted(GQA, &Target::ALL, false, true);
    let mut bench = Bench::<E>::on(dev.clone(), &config, 2, 5, Mode::Linear);
    bench.trainer.init(7).unwrap();
    let (trained, frozen) = (bits(&bench, true), bits(&bench, false));
    let before = bench.loss().mean();
    // The first step refuses a parameter without a gradient, but A, whose B is zero.
    (0..10).for_each(|_| bench.step(1e-2));
    let place = format!("{} {}", dev.describe(), E::NAME);
    assert!(bits(&bench, false) == frozen, "{place}: frozen rows keep their bits");
    assert!(bits(&bench, true) != trained, "{place}: adapters learn");
    assert!(bench.loss().mean() < before, "{place}");
}

#[test]
fn training_changes_adapters_and_nothing_else() {
    for isa in Isa::all_available() {
        steps::<f32>(&cpu(isa, 2));
        steps::<bf16>(&cpu(isa, 2));
    }
    gpus().for_each(|gpu| steps::<bf16>(&gpu));
}

/// The first step's check knows when A must have no gradient, and when it must.
#[test]
fn a_gradient_that_should_not_be_there_is_refused() {
    let config = adapted(GQA, &[Target::Query], false, true);
    let mut bench = Bench::<f32>::new(&config, 2, 5, Mode::Linear, 1);
    let slots = |name: &str| {
        let rows = bench.trainer.model.table().rows().iter();
        rows.filter(|row| row.name.contains(name)).map(|row| row.slot).collect::<Vec<_>>()
    };
    let (a, b) = (slots("lora_A"), slots("lora_B"));
    bench.trainer.init(7).unwrap();
    bench.gradients();
    bench.trainer.grads.get_mut(a[1]).host()[2] = 1e-3;
    let error = bench.trainer.end_step(1e-3).unwrap_err().to_string();
    assert!(error.contains("1.self_attn.q_proj.lora_A") && error.contains("not zero"), "{error}");

    let mut bench = Bench::<f32>::new(&config, 2, 5, Mode::Linear, 1);
    bench.trainer.init(7).unwrap();
    bench.trainer.weights.fill_with(b[0], |b| b.fill(0.1));
    bench.gradients();
    bench.trainer.grads.get_mut(a[0]).host().fill(0.0);
    let error = bench.trainer.end_step(1e-3).unwrap_err().to_string();
    assert!(error.contains("0.self_attn.q_proj.lora_A") && error.contains("is zero"), "{error}");
}

/// A run that is stopped goes on to the same bits, frozen rows included.
#[test]
fn a_checkpoint_holds_what_is_frozen_and_what_is_trained() {
    let config = adapted(GQA, &SOME, false, true);
    let root = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("lora-checkpoint");
    let _ = std::fs::remove_dir_all(&root);
    let new = || Bench::<bf16>::new(&config, 2, 5, Mode::Linear, 2);
    let mut bench = new();
    bench.trainer.init(7).unwrap();
    (0..3).for_each(|_| bench.step(1e-2));
    bench.trainer.save(&root, &Default::default()).unwrap();
    (0..3).for_each(|_| bench.step(1e-2));

    let mut again = new();
    let found = train::checkpoint::latest(&root).unwrap().require(&root).unwrap();
    again.trainer.resume(&found).unwrap();
    (0..3).for_each(|_| again.step(1e-2));
    for trained in [false, true] {
        assert!(bits(&bench, trained) == bits(&again, trained), "trained {trained}");
    }
}

/// What Hugging Face loads is a model without adapters.
#[test]
fn an_export_is_merged_first() {
    // transformers wants the heads to divide the width.
    let config = adapted(Dims { C: 12, ..GQA }, &SOME, false, true);
    let out = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("lora-export");
    let _ = std::fs::remove_dir_all(&out);
    let mut bench = Bench::<f32>::new(&config, 2, 5, Mode::Linear, 2);
    let error = bench.trainer.export(&out, None).unwrap_err().to_string();
    assert!(error.contains("lora_B") && error.contains("merge") && !out.exists(), "{error}");
    let expected = logits(&mut bench);
    let Trainer { dev, model, weights, .. } = &mut bench.trainer;
    model.merge(dev, weights).unwrap();
    bench.trainer.export(&out, None).unwrap();

    let plain = model::hf::load(&out).unwrap();
    assert_eq!(plain, Config { lora: None, ..config.clone() });
    let mut read = Bench::<f32>::new(&plain, 2, 5, Mode::Linear, 2);
    read.trainer.init_from(&out).unwrap();
    assert!(apart(&expected, &logits(&mut read)) <= 1e-5);
    // And a model with adapters begins with such weights.
    let mut adapted = Bench::<f32>::new(&config, 2, 5, Mode::Linear, 2);
    adapted.trainer.init(1).unwrap();
    adapted.trainer.init_from(&out).unwrap();
    assert!(logits(&mut adapted) == logits(&mut read));
}
