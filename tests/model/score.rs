//! Scores of rows: what a model makes of given tokens.

use crate::bench::{Bench, GQA, MHA, config, cpu};
use crate::gpus::gpus;
use engine::ops::loss::IGNORE;
use engine::{Buf, Device, Element, Isa, Real, Segments, bf16};
use model::cache::Mode;
use model::generation::Decoder;
use model::llama::Batch;
use model::score::{Score, next_tokens};
use train::trainer::Trainer;

fn scores<E: Element>(bench: &mut Bench<E>) -> Vec<Score> {
    let batch = Batch::new(&bench.tokens, &bench.targets, &bench.segments);
    let Trainer { dev, model, weights, cache, scratch, .. } = &mut bench.trainer;
    model.score(dev, weights.view(), batch, cache, scratch).unwrap()
}

#[test]
fn each_token_is_followed_by_the_next_of_its_segment() {
    let segments = Segments::of_lengths([3, 1, 2]);
    let next = next_tokens(&[5, 6, 7, 8, 9, 10], &segments);
    assert_eq!(next, [6, 7, IGNORE, IGNORE, 10, IGNORE]);
    assert!(next_tokens(&[], &Segments::default()).is_empty());
}

/// Against all logits, and against the loss.
fn agree<E: Element>(dev: &Device, of: f64) {
    let place = format!("{}, {}", dev.describe(), E::NAME);
    let segments = Segments::of_lengths([7, 1, 12]);
    let mut bench = Bench::<E>::of_segments(dev.clone(), &config(GQA, false), segments, Mode::Full);
    let (N, V) = (bench.tokens.len(), GQA.V);
    bench.forward();
    let mut logits_NV = Buf::<E::Acc>::zeros(dev, N * V);
    let Trainer { dev, model, weights, cache, scratch, .. } = &mut bench.trainer;
    model.logits(dev, &mut logits_NV, weights.view(), cache, scratch);
    let logits: Vec<f64> = logits_NV.view().read().unwrap().iter().map(|x| x.to_f64()).collect();
    let largest = |n: usize| {
        let row = &logits[n * V..][..V];
        (0..V).fold(0, |best, v| if row[v] > row[best] { v } else { best })
    };
    // Every second target is what greedy decoding would give.
    bench.targets = next_tokens(&bench.tokens, &bench.segments);
    let counts: Vec<bool> = bench.targets.iter().map(|&t| t != IGNORE).collect();
    for n in (0..N).filter(|&n| counts[n]) {
        let v = largest(n);
        bench.targets[n] = if n % 2 == 0 { v } else { (v + 1 + n % (V - 1)) % V } as i32;
    }
    let scores = scores(&mut bench);
    for (n, score) in scores.iter().enumerate() {
        let row = &logits[n * V..][..V];
        let expected = match bench.targets[n] {
            IGNORE => Score { nats: 0.0, greedy: true },
            target => Score {
                nats: row.iter().map(|l| l.exp()).sum::<f64>().ln() - row[target as usize],
                greedy: n % 2 == 0,
            },
        };
        assert!(
            (score.nats - expected.nats).abs() <= of * expected.nats.max(1.0),
            "{place}: row {n}"
        );
        assert_eq!(score.greedy, expected.greedy, "{place}: row {n}");
    }
    let loss = bench.loss();
    let sum: f64 = scores.iter().map(|score| score.nats).sum();
    assert!((loss.nats - sum).abs() <= 1e-14 * sum, "{place}: {} and {sum}", loss.nats);
    assert_eq!(loss.weight, counts.iter().filter(|&&c| c).count() as f64);
}

#[test]
fn scores_are_those_of_the_logits() {
    agree::<f64>(&cpu(Isa::Portable, 2), 1e-12);
    for isa in Isa::all_available() {
        agree::<f32>(&cpu(isa, 2), 1e-5);
        agree::<bf16>(&cpu(isa, 2), 1e-5);
    }
    gpus().for_each(|dev| agree::<f32>(&dev, 1e-4));
}

/// What greedy decoding writes is greedy in every row, and where another token stands it is not.
fn greedy_text<E: Element>(dev: &Device) {
    const PROMPT: usize = 5;
    const T: usize = 20;
    let mut bench = Bench::<E>::on(dev.clone(), &config(MHA, false), 1, T, Mode::Full);
    let Trainer { dev, model, weights, .. } = &bench.trainer;
    let mut decoder = Decoder::<E>::new(dev, model, 1, T);
    let mut text = bench.tokens[..PROMPT].to_vec();
    let mut new = text.clone();
    while text.len() < T {
        let logits = decoder.feed(dev, model, weights.view(), &[(0, &new)]).unwrap();
        let best = (0..MHA.V).fold(0, |best, v| if logits[v] > logits[best] { v } else { best });
        new = vec![best as u32];
        text.push(best as u32);
    }
    bench.tokens = text;
    bench.segments = Segments::equal(1, T);
    let greedy = |bench: &mut Bench<E>| -> Vec<bool> {
        bench.targets = next_tokens(&bench.tokens, &bench.segments);
        bench.targets[..PROMPT - 1].fill(IGNORE);
        scores(bench).iter().map(|score| score.greedy).collect()
    };
    let place = dev.describe();
    assert_eq!(greedy(&mut bench), [true; T], "{place}");
    let last = &mut bench.tokens[T - 1];
    *last = (*last + 1) % MHA.V as u32;
    let found = greedy(&mut bench);
    assert_eq!((&found[..T - 2], found[T - 2]), (&[true; T - 2][..], false), "{place}");
}

#[test]
fn greedy_text_is_greedy() {
    for isa in Isa::all_available() {
        greedy_text::<f32>(&cpu(isa, 2));
    }
    gpus().for_each(|dev| greedy_text::<f32>(&dev));
}
