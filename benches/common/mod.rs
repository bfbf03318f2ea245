//! What all benches share: the measured ceilings of this machine, and one line an id with the
//! share of them that the op reaches.
#![allow(dead_code)] // every bench uses a part of it

pub mod step;

use criterion::Criterion;
use engine::cpu::ceiling::{dot_flops, fma_flops, memory_bandwidth};
use engine::{Device, Element, Real, bf16};
use std::time::{Duration, Instant};

/// Sizes of a model, as far as ops see them.
#[derive(Clone, Copy)]
pub struct Model {
    /// Width.
    pub C: usize,
    /// Hidden width.
    pub F: usize,
    /// Query heads.
    pub H: usize,
    /// Key/value heads.
    pub G: usize,
    /// Head width.
    pub D: usize,
    /// Positions.
    pub T: usize,
}

/// 15M, 42M, 110M and 1.1B parameters.
pub const MODELS: [Model; 4] = [
    Model { C: 288, F: 768, H: 6, G: 6, D: 48, T: 256 },
    Model { C: 512, F: 1376, H: 8, G: 8, D: 64, T: 1024 },
    Model { C: 768, F: 2048, H: 12, G: 12, D: 64, T: 1024 },
    Model { C: 2048, F: 5632, H: 32, G: 4, D: 64, T: 2048 },
];
/// Vocabulary of each.
pub const V: usize = 32_000;

/// What a call of an op has to do at least.
pub enum Work {
    /// Floating-point operations of products of a storage type, held against register-resident
    /// multiply-adds, or dot products of bf16 where that is the type and the CPU has them.
    Flop(&'static str, usize),
    /// Bytes read and written, held against memory; inputs that fit into a cache may exceed it.
    Bytes(usize),
}

/// Criterion, with the ceilings.
pub struct Bench {
    /// All cores.
    pub dev: Device,
    criterion: Criterion,
    flops: f64,
    dots: Option<f64>,
    bandwidth: f64,
}

impl Bench {
    /// Measures the ceilings, and reads criterion's options from the command line.
    pub fn new() -> Self {
        let dev = Device::cpu(0).expect("the CPU is always there");
        let Device::Cpu(cpu) = &dev else { unreachable!("it is one") };
        let (flops, dots, bandwidth) = (fma_flops(cpu), dot_flops(cpu), memory_bandwidth(cpu));
        println!(
            "{}: FMA peak {:.1} GFLOP/s, {}memory {:.1} GB/s",
            dev.describe(),
            flops / 1e9,
            dots.map_or(String::new(), |dots| format!("bf16 dot peak {:.1} GFLOP/s, ", dots / 1e9)),
            bandwidth / 1e9
        );
        let criterion = Criterion::default()
            .sample_size(10)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1))
            .configure_from_args();
        Bench { dev, criterion, flops, dots, bandwidth }
    }

    /// Times what `prepare` returns. `prepare` runs only if the id is wanted.
    pub fn run<F: FnMut()>(&mut self, id: &str, work: Work, mut prepare: impl FnMut() -> F) {
        let mut op = None;
        let mut best = f64::INFINITY; // seconds a call
        self.criterion.bench_function(id, |b| {
            let op = op.get_or_insert_with(&mut prepare);
            b.iter_custom(|calls| {
                let start = Instant::now();
                (0..calls).for_each(|_| op());
                let time = start.elapsed();
                best = best.min(time.as_secs_f64() / calls as f64);
                time
            })
        });
        if best.is_infinite() {
            return; // filtered out
        }
        let (amount, ceiling, unit, of) = match (work, self.dots) {
            (Work::Flop(bf16::NAME, n), Some(dots)) => (n, dots, "GFLOP/s", "the bf16 dot peak"),
            (Work::Flop(_, n), _) => (n, self.flops, "GFLOP/s", "the FMA peak"),
            (Work::Bytes(n), _) => (n, self.bandwidth, "GB/s", "memory bandwidth"),
        };
        let done = amount as f64 / best;
        let share = 100.0 * done / ceiling;
        println!("{id}: best {:.3} ms, {:.1} {unit}, {share:.0} % of {of}", 1e3 * best, done / 1e9);
    }
}

/// Numbers between -1 and 1, the same in every run.
pub fn numbers<E: Element>(len: usize) -> Vec<E> {
    let fraction = |i: usize| (i as f64 * 0.618_033_988_749_895).fract();
    (0..len).map(|i| E::from_acc(E::Acc::from_f64(2.0 * fraction(i) - 1.0))).collect()
}
