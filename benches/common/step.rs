//! One whole training step: forward, backward, clipping, AdamW, on random tokens. The sizes are
//! those of the tables in the README: 4096 tokens a step, the head not tied.
#![allow(dead_code)] // every bench uses a part of it

use handgrad::engine::{Device, Dims, Element, Segments};
use handgrad::model::config::{Config, hidden};
use handgrad::model::llama::Batch;
use handgrad::train::trainer::{Recipe, Trainer};

/// A model and its batch.
#[derive(Clone, Copy)]
pub struct Size {
    /// What tables call it.
    pub name: &'static str,
    /// Width.
    pub C: usize,
    /// Layers.
    pub L: usize,
    /// Heads.
    pub H: usize,
    /// Vocabulary.
    pub V: usize,
    /// Tokens of a sequence.
    pub T: usize,
    /// Sequences of a step.
    pub B: usize,
}

/// 8, 34 and 134 million parameters, and the second one on a long sequence.
pub const SIZES: [Size; 4] = [
    Size { name: "S15", C: 288, L: 6, H: 6, V: 4096, T: 256, B: 16 },
    Size { name: "S42", C: 512, L: 8, H: 8, V: 8192, T: 512, B: 8 },
    Size { name: "S110", C: 768, L: 12, H: 12, V: 32000, T: 1024, B: 4 },
    Size { name: "Long", C: 512, L: 8, H: 8, V: 8192, T: 4096, B: 1 },
];

/// For GPUs: 134 million and 1.1 billion parameters at the usual lengths, and one for an emulator.
pub const GPU_SIZES: [Size; 3] = [
    Size { name: "G110", C: 768, L: 12, H: 12, V: 32000, T: 1024, B: 32 },
    Size { name: "G1B", C: 2048, L: 20, H: 32, V: 32000, T: 2048, B: 8 },
    Size { name: "Tiny", C: 64, L: 2, H: 2, V: 256, T: 32, B: 2 },
];

impl Size {
    /// Tokens of a step.
    pub fn tokens(&self) -> usize {
        self.B * self.T
    }

    /// Sequences that run forward and backward together: on the CPU about 1024 tokens. Fewer at a
    /// time are the same step in less memory, and there no slower.
    fn together(&self, dev: &Device) -> usize {
        match dev {
            Device::Cpu(_) => (1024 / self.T).clamp(1, self.B),
            Device::Cuda(_) => self.B,
        }
    }

    /// Its model: the hidden width is 8/3 of the width, rounded up to 32.
    pub fn config(&self) -> Config {
        let Size { C, L, H, V, T, .. } = *self;
        let dims = Dims { L, C, H, G: H, D: C / H, F: hidden(C, 32), V };
        let (rope_theta, norm_eps) = (1e4, 1e-5);
        let base = Config::named("15m").expect("a named size");
        Config { dims, rope_theta, norm_eps, tied: false, max_seq_len: T, ..base }
    }

    /// Floating-point operations of a step, see [`Config::flop_per_token`].
    pub fn flop(&self) -> usize {
        self.config().flop_per_token(self.T) as usize * self.tokens()
    }

    /// A trainer of `B` sequences at a time, with the weights that every run starts from.
    pub fn trainer<E: Element<Acc = f32>>(&self, dev: &Device, B: usize) -> Trainer<E> {
        let recipe = Recipe::new(B, self.T);
        let mut trainer = Trainer::new(dev, &self.config(), recipe);
        trainer.init(1).expect("the device has just been opened");
        trainer
    }
}

/// A trainer that takes steps of a size.
pub struct Training<E: Element>(Trainer<E>);

impl<E: Element<Acc = f32>> Training<E> {
    /// Before the first step.
    pub fn new(dev: &Device, size: &Size) -> Self {
        Training(size.trainer(dev, size.together(dev)))
    }

    /// One step on a batch of [`Skewed`]. Returns its loss in nats per token.
    pub fn step(&mut self, (tokens_N, targets_N): &(Vec<u32>, Vec<i32>)) -> f64 {
        let trainer = &mut self.0;
        let (N, T) = (trainer.cache.tokens(), trainer.recipe().seq_len);
        let segments = &Segments::equal(N / T, T);
        trainer.begin_step(tokens_N.len() as f64).expect("every target counts");
        for (tokens_N, targets_N) in tokens_N.chunks(N).zip(targets_N.chunks(N)) {
            trainer.add_batch(Batch::new(tokens_N, targets_N, segments));
        }
        trainer.end_step(1e-3).expect("a step from fresh weights is finite").loss
    }
}

/// Random ids of which low ones are likely, so that the loss can fall: V * u^4.
pub struct Skewed {
    state: u64,
    size: Size,
}

impl Skewed {
    /// The same for every run.
    pub fn new(size: &Size) -> Self {
        Skewed { state: 1235, size: *size }
    }

    fn id(&mut self) -> u32 {
        self.state = self.state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let u = (self.state >> 40) as f64 / (1 << 24) as f64;
        (self.size.V as f64 * (u * u) * (u * u)) as u32
    }

    /// Ids and targets of the next step.
    pub fn batch(&mut self) -> (Vec<u32>, Vec<i32>) {
        let (mut tokens, mut targets) = (Vec::new(), Vec::new());
        for _ in 0..self.size.B {
            let row: Vec<u32> = (0..=self.size.T).map(|_| self.id()).collect();
            tokens.extend(&row[..self.size.T]);
            targets.extend(row[1..].iter().map(|&id| id as i32));
        }
        (tokens, targets)
    }
}
