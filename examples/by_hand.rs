//! Pretraining by plain calls: what `handgrad pretrain` does between its reports and checkpoints,
//! with nothing hidden. The copy to read, and to start from.
//!
//!     cargo run --release --example by_hand [STEPS]

use std::sync::Arc;

use handgrad::data::bytes;
use handgrad::data::loader::{Loader, LoaderConfig, Order};
use handgrad::data::rng::Philox;
use handgrad::data::shard::TokenSource;
use handgrad::data::stories::Stories;
use handgrad::engine::ops::loss::{Sum, weight};
use handgrad::engine::{Arena, Device, Segments, bf16};
use handgrad::model::cache::{Cache, Mode, Scratch};
use handgrad::model::generation::{Decoder, Request, Sampler, generate};
use handgrad::model::llama::{Batch, Llama, Sums};
use handgrad::model::weights::Weights;
use handgrad::model::{Config, init};
use handgrad::optim::{AdamW, GlobalNorm, Schedule, adamw};
use rand::RngExt;

/// Sequences of a step, and tokens of a sequence.
const B: usize = 8;
const T: usize = 128;
const SEED: u64 = 1;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let steps = std::env::args().nth(1).map_or(Ok(200), |text| text.parse())?;

    // Text to tokens, a byte each: documents one after the other, each closed by the end token.
    let mut ids = Vec::new();
    for story in Stories::new(SEED).documents(2000) {
        ids.extend(bytes::encode(&story?).chain([bytes::EOS]));
    }
    let order =
        LoaderConfig { seq_len: T, seed: SEED, order: Order::Shuffled, range: 0..ids.len() as u64 };
    let loader = Loader::new(Arc::new(TokenSource::from_ids(ids)), order)?;

    // A model, and everything that a step needs, before the first one. Storage is bf16; sums,
    // gradients, moments and master weights are f32.
    let dev = Device::cpu(0)?;
    let config = Config::named("260k").expect("a named size").with_vocab(bytes::VOCAB);
    let model = Llama::<bf16>::new(&dev, &config, 2 * T);
    let mut weights = Weights::zeros(&dev, model.table());
    init::fill(&dev, &mut weights, model.table(), SEED);
    weights.refresh()?;
    let mut grads = Arena::zeros(&dev, &model.table().trained());
    let mut optimizer = AdamW::new(&dev, model.table(), adamw::Settings::default());
    let mut cache = Cache::new(&dev, &config.dims, B * T, Mode::Linear);
    let mut scratch = Scratch::new(&dev, &config, B * T);
    let (mut sum, mut norm) = (Sum::new(&dev), GlobalNorm::new(&dev));
    let (mut tokens_N, mut targets_N) = (vec![0; B * T], vec![0; B * T]);
    let segments = Segments::equal(B, T);

    let schedule = Schedule { peak: 3e-3, min_ratio: 0.1, warmup: steps / 10, steps };
    for step in 0..steps {
        loader.fill_batch(step * B as u64, B, &mut tokens_N, &mut targets_N);
        let batch = Batch::new(&tokens_N, &targets_N, &segments);
        // The gradient is that of the mean over targets.
        let scale = 1.0 / weight(&targets_N, None);
        sum.clear(&dev);
        grads.fill_zero(&dev);
        let w = weights.view();
        model.forward(&dev, w, batch, &mut cache, &mut scratch);
        let sums = Sums { loss: &mut sum, grads: &mut grads, scale };
        model.backward(&dev, sums, w, batch, &mut cache, &mut scratch);
        norm.measure(&dev, &grads);
        optimizer.step(&dev, weights.trained_mut(), &grads, &norm, schedule.lr(step), 1.0);
        if step % 20 == 0 || step + 1 == steps {
            println!("step {step}: {:.3} nats per token", sum.read()?.mean());
        }
    }

    // What it has learned to write.
    let (mut decoder, mut random) = (Decoder::new(&dev, &model, 1, 2 * T), Philox::new(SEED, 0, 0));
    let start: Vec<_> = bytes::encode("Once upon a time").collect();
    let sampler = Sampler { temperature: 0.7, top_p: 0.95 };
    let request = Request { prompt: &start, count: T, sampler, stop: &[bytes::EOS] };
    let (w, draw, mut text) = (weights.view(), || random.random(), Vec::new());
    generate(&dev, &model, w, &mut decoder, &request, draw, |id| {
        text.push(id);
        Ok::<_, handgrad::engine::Error>(())
    })?;
    println!("Once upon a time{}", bytes::decode(&text));
    Ok(())
}
