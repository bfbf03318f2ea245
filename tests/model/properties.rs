//! What must hold to the last bit: threads, caching modes; and to rounding: accumulation, decoding.
//! On every instruction set of the machine; f64 has one path.

use crate::bench::{Bench, GQA, MHA, config, cpu};
use crate::gpus::gpus;
use engine::ops::loss::{IGNORE, Loss};
use engine::{Device, Dims, Element, Isa, Segments, bf16};
use model::cache::Mode;
use model::generation::Decoder;
use model::llama::Batch;
use optim::adamw::Settings;
use train::trainer::{Recipe, Trainer};

/// Large enough that every op has several tasks.
const WIDE: Dims = Dims { L: 2, C: 72, H: 6, G: 2, D: 16, F: 136, V: 515 };

fn step_bits<E: Element>(isa: Isa, mode: Mode, threads: usize) -> (u64, Vec<u64>) {
    let mut bench = Bench::<E>::on(cpu(isa, threads), &config(WIDE, false), 3, 101, mode);
    let loss = bench.gradients();
    let bits = |g: &E::Acc| engine::Real::to_f64(*g).to_bits();
    (loss.nats.to_bits(), bench.trainer.grads.view().host().iter().map(bits).collect())
}

#[test]
fn threads_do_not_change_a_bit() {
    for isa in Isa::all_available() {
        let one = step_bits::<f32>(isa, Mode::Linear, 1);
        for threads in [2, 3, 4] {
            let more = step_bits::<f32>(isa, Mode::Linear, threads);
            assert!(more == one, "{isa:?}, {threads} threads");
        }
        let one = step_bits::<bf16>(isa, Mode::Linear, 1);
        for threads in [2, 4] {
            let more = step_bits::<bf16>(isa, Mode::Linear, threads);
            assert!(more == one, "{isa:?}, bf16, {threads} threads");
        }
    }
}

#[test]
fn recomputation_does_not_change_a_bit() {
    for isa in Isa::all_available() {
        let [full, linear] = [Mode::Full, Mode::Linear].map(|mode| step_bits::<f32>(isa, mode, 2));
        assert!(full == linear, "{isa:?}");
        let [full, linear] = [Mode::Full, Mode::Linear].map(|mode| step_bits::<bf16>(isa, mode, 2));
        assert!(full == linear, "{isa:?}, bf16");
    }
}

#[test]
fn another_target_changes_the_bits() {
    for isa in Isa::all_available() {
        let mut bench = Bench::<f32>::on(cpu(isa, 2), &config(WIDE, false), 3, 101, Mode::Linear);
        bench.targets[0] = (bench.targets[0] + 1) % WIDE.V as i32;
        let loss = bench.gradients();
        assert_ne!(loss.nats.to_bits(), step_bits::<f32>(isa, Mode::Linear, 2).0, "{isa:?}");
    }
}

/// Four sequences at once, and in passes of one, two and one, of which the first has one target that
/// counts: the step's mean is over its targets, and not over its passes'.
fn accumulated<E: Element>(dev: &Device, weights: Option<&[f32]>, of_loss: f64, of: f64) {
    const T: usize = 9;
    let mut large = Bench::<E>::on(dev.clone(), &config(GQA, false), 4, T, Mode::Linear);
    large.targets[1..T].fill(IGNORE);
    let segments = Segments::equal(4, T);
    let whole =
        Batch { weights_N: weights, ..Batch::new(&large.tokens, &large.targets, &segments) };
    large.trainer.begin_step(whole.weight()).unwrap();
    large.trainer.add_batch(whole);
    let total = large.trainer.loss.read().unwrap();

    let mut small = Bench::<E>::on(dev.clone(), &config(GQA, false), 2, T, Mode::Linear);
    small.trainer.begin_step(total.weight).unwrap();
    for part in [0..T, T..3 * T, 3 * T..4 * T] {
        let segments = &Segments::equal(part.len() / T, T);
        let batch = Batch::new(&large.tokens[part.clone()], &large.targets[part.clone()], segments);
        let weights_N = weights.map(|weights| &weights[part]);
        small.trainer.add_batch(Batch { weights_N, ..batch });
    }
    let loss = small.trainer.loss.read().unwrap();
    let place = format!("{}, {}", dev.describe(), E::NAME);
    assert!((loss.weight - total.weight).abs() <= 1e-12 * total.weight, "{place}");
    assert!((loss.nats - total.nats).abs() <= of_loss * total.nats, "{place}");
    let worst = tensors(&small.trainer).zip(tensors(&large.trainer)).map(|(a, b)| apart(&a, &b));
    let worst = worst.fold(0.0, f64::max);
    println!("{place}: gradients {worst:.1e}");
    assert!(worst <= of, "{place}: {worst:e}");
}

/// The gradient of each parameter.
fn tensors<E: Element>(trainer: &Trainer<E>) -> impl Iterator<Item = Vec<f64>> {
    let rows = trainer.model.table().rows().iter();
    rows.map(|row| {
        let gradient = trainer.grads.get(row.slot).read().unwrap();
        gradient.iter().map(|&g| engine::Real::to_f64(g)).collect()
    })
}

/// Norm of the difference, as a share of the second's norm.
fn apart(a: &[f64], b: &[f64]) -> f64 {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied())
}

#[test]
fn accumulation_agrees_with_one_large_batch() {
    let weights: Vec<f32> = (0..36).map(|n| [1.0, 0.25, 3.0, 0.0][n % 4]).collect();
    for weights in [None, Some(&weights[..])] {
        accumulated::<f64>(&cpu(Isa::Portable, 2), weights, 1e-12, 1e-12);
        for isa in Isa::all_available() {
            accumulated::<f32>(&cpu(isa, 2), weights, 1e-6, 1e-5);
        }
        gpus().for_each(|dev| accumulated::<f32>(&dev, weights, 1e-6, 1e-5));
    }
}

/// The gradient of the whole model: a weight of 0 is no target, and a weight of 2 is the sequence
/// twice.
#[test]
fn weights_count_targets() {
    let (dev, T) = (cpu(Isa::Portable, 2), 9);
    let config = config(GQA, false);
    let step = |rows: &[usize], weights: Option<&[f32]>, ignored: Option<usize>| {
        let mut bench = Bench::<f64>::on(dev.clone(), &config, 3, T, Mode::Linear);
        let of = |n: usize| n * T..(n + 1) * T;
        if let Some(n) = ignored {
            bench.targets[of(n)].fill(IGNORE);
        }
        let tokens: Vec<u32> = rows.iter().flat_map(|&n| bench.tokens[of(n)].to_vec()).collect();
        let targets: Vec<i32> = rows.iter().flat_map(|&n| bench.targets[of(n)].to_vec()).collect();
        let weights_N: Option<Vec<f32>> =
            weights.map(|weights| weights.iter().flat_map(|&w| [w; 9]).collect());
        let segments = Segments::equal(rows.len(), T);
        let batch =
            Batch { weights_N: weights_N.as_deref(), ..Batch::new(&tokens, &targets, &segments) };
        bench.trainer.begin_step(batch.weight()).unwrap();
        bench.trainer.add_batch(batch);
        let loss = bench.trainer.loss.read().unwrap();
        (loss, tensors(&bench.trainer).collect::<Vec<_>>())
    };
    let near = |a: (Loss, Vec<Vec<f64>>), b: (Loss, Vec<Vec<f64>>)| {
        assert_eq!(a.0.weight, b.0.weight);
        assert!((a.0.nats - b.0.nats).abs() <= 1e-12 * b.0.nats);
        a.1.iter().zip(&b.1).for_each(|(a, b)| assert!(apart(a, b) <= 1e-12));
    };
    near(step(&[0, 1], Some(&[1.0, 0.0]), None), step(&[0, 1], None, Some(1)));
    near(step(&[0, 1], Some(&[1.0, 2.0]), None), step(&[0, 1, 1], None, None));
}

#[test]
fn a_step_without_targets_is_refused() {
    let mut bench = Bench::<f32>::new(&config(GQA, false), 1, 8, Mode::Linear, 1);
    bench.targets.fill(IGNORE);
    let batch = Batch::new(&bench.tokens, &bench.targets, &bench.segments);
    let refused = bench.trainer.begin_step(batch.weight()).unwrap_err().to_string();
    assert!(refused.contains("step 1: its targets weigh 0 in all"), "{refused}");
    let weights = [0.0; 8];
    let targets = [1; 8];
    let batch =
        Batch { weights_N: Some(&weights), ..Batch::new(&bench.tokens, &targets, &bench.segments) };
    assert!(bench.trainer.begin_step(batch.weight()).is_err());
}

#[test]
#[should_panic(expected = "trainer: targets weigh 7, not 8")]
fn a_step_that_lacks_targets_panics() {
    let mut bench = Bench::<f32>::new(&config(GQA, false), 1, 8, Mode::Linear, 1);
    bench.trainer.begin_step(8.0).unwrap();
    bench.trainer.add_batch(Batch::new(&bench.tokens, &bench.targets, &bench.segments));
    let _ = bench.trainer.end_step(1e-3);
}

#[test]
fn the_future_does_not_reach_the_past() {
    for isa in Isa::all_available() {
        let mut bench = Bench::<f32>::on(cpu(isa, 2), &config(GQA, false), 1, 50, Mode::Linear);
        bench.targets[30..].fill(IGNORE);
        let before = bench.loss();
        bench.tokens[30..].iter_mut().for_each(|t| *t = (*t + 1) % GQA.V as u32);
        assert_eq!(bench.loss(), before, "{isa:?}");
        bench.tokens[29] = (bench.tokens[29] + 1) % GQA.V as u32;
        assert_ne!(bench.loss(), before, "{isa:?}");
    }
}

/// Mean loss of the sequence, from the logits of a decoder fed in `pieces`.
fn decoded_loss<E: Element>(isa: Isa, dims: Dims, pieces: &[usize]) -> (f64, f64) {
    let T = pieces.iter().sum();
    let mut bench = Bench::<E>::on(cpu(isa, 2), &config(dims, false), 1, T, Mode::Linear);
    let whole = bench.loss();
    let mut decoder = Decoder::<E>::new(&bench.trainer.dev, &bench.trainer.model, 1, T);
    let mut end = 0;
    let mut nats = 0.0;
    for &piece in pieces {
        let tokens = &bench.tokens[end..end + piece];
        let Trainer { dev, model, weights, .. } = &bench.trainer;
        let logits = decoder.feed(dev, model, weights.view(), &[(0, tokens)]).unwrap();
        end += piece;
        if bench.targets[end - 1] >= 0 {
            let logits: Vec<f64> = logits.iter().map(|&l| engine::Real::to_f64(l)).collect();
            let sum: f64 = logits.iter().map(|l| l.exp()).sum();
            nats += sum.ln() - logits[bench.targets[end - 1] as usize];
        }
    }
    (nats, whole.nats)
}

#[test]
fn decoding_token_by_token_gives_the_training_loss() {
    for dims in [GQA, MHA] {
        let (decoded, whole) = decoded_loss::<f64>(Isa::Portable, dims, &[1; 40]);
        assert!((decoded - whole).abs() <= 1e-10 * whole, "{decoded} and {whole}");
        for isa in Isa::all_available() {
            let (decoded, whole) = decoded_loss::<f32>(isa, dims, &[1; 40]);
            assert!((decoded - whole).abs() <= 1e-4 * whole, "{isa:?}: {decoded} and {whole}");
        }
    }
}

#[test]
fn a_prompt_in_one_piece_gives_the_same_logits() {
    // More than a decoder takes in at a time.
    let T = 600;
    let mut bench = Bench::<f64>::new(&config(GQA, false), 1, T, Mode::Linear, 2);
    bench.forward();
    let weights = bench.trainer.weights.view();
    let mut at_once = Decoder::<f64>::new(&bench.trainer.dev, &bench.trainer.model, 1, T);
    let mut apart = Decoder::<f64>::new(&bench.trainer.dev, &bench.trainer.model, 1, T);
    let expected = at_once
        .feed(&bench.trainer.dev, &bench.trainer.model, weights, &[(0, &bench.tokens)])
        .unwrap()
        .to_vec();
    for piece in bench.tokens.chunks(7) {
        apart.feed(&bench.trainer.dev, &bench.trainer.model, weights, &[(0, piece)]).unwrap();
    }
    assert_eq!((apart.kv().len(0), apart.kv().room(0)), (T, 0));
    apart.clear(0);
    let mut logits = Vec::new();
    for piece in bench.tokens.chunks(7) {
        logits = apart
            .feed(&bench.trainer.dev, &bench.trainer.model, weights, &[(0, piece)])
            .unwrap()
            .to_vec();
    }
    let worst = logits.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst <= 1e-10, "{worst:e}");
}

#[test]
fn activations_per_token_follow_the_formula() {
    // Head width times heads is the model's width here, so it is 8h + 4k + 4f + 4a + 8 in bf16.
    let Dims { L, C, H, G, D, F, .. } = MHA;
    let formula = L * (8 * C + 4 * G * D + 4 * F + 4 * H + 8);
    assert_eq!(config(MHA, false).activation_bytes_per_token(2), formula as u64);
    for dims in [MHA, GQA] {
        let (N, last) = (2 * 7, (2 * 7 * dims.C) as u64);
        let kept = |bytes| N as u64 * config(dims, false).activation_bytes_per_token(bytes);
        let half = Bench::<bf16>::new(&config(dims, false), 2, 7, Mode::Linear, 1);
        assert_eq!(half.trainer.cache.bytes(), kept(2) + 2 * last);
        let single = Bench::<f32>::new(&config(dims, false), 2, 7, Mode::Linear, 1);
        assert_eq!(single.trainer.cache.bytes(), kept(4) + 4 * last);
    }
}

#[test]
fn one_batch_is_learnt_by_heart() {
    let adamw = Settings { weight_decay: 0.0, ..Settings::default() };
    let recipe = Recipe { adamw, max_norm: f64::INFINITY, ..Recipe::new(2, 8) };
    for isa in Isa::all_available() {
        let mut bench = Bench::<f32>::by(cpu(isa, 2), &config(GQA, false), recipe);
        let first = bench.loss().mean();
        (0..200).for_each(|_| bench.step(1e-2));
        let last = bench.loss().mean();
        assert!(first > 2.0 && last < 0.01, "{isa:?}: from {first} to {last}");
    }
}

#[test]
fn the_first_bad_number_is_named() {
    let mut bench = Bench::<f32>::new(&config(GQA, false), 1, 8, Mode::Linear, 2);
    let find = |bench: &mut Bench<f32>| {
        let batch = Batch::new(&bench.tokens, &bench.targets, &bench.segments);
        let Trainer { dev, model, weights, cache, scratch, .. } = &mut bench.trainer;
        model.first_non_finite(dev, weights.view(), batch, cache, scratch)
    };
    assert_eq!(find(&mut bench), None);
    let row =
        bench.trainer.model.table().rows().iter().find(|r| r.name.contains("1.mlp.gate")).unwrap();
    let (slot, name) = (row.slot, row.name.clone());
    bench.trainer.weights.master_mut().get_mut(slot).host().fill(f32::MAX);
    let found = find(&mut bench).unwrap();
    assert!(found.starts_with("block 1, "), "{found}");
    bench.trainer.weights.master_mut().get_mut(slot).host()[3] = f32::NAN;
    assert_eq!(find(&mut bench).unwrap(), format!("parameter {name}"));
}
