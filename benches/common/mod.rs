//! What all benches share: the ceilings of this machine, and one line an id with the share of them
//! that the op reaches. HANDGRAD_BENCH_DEVICE is where they run: cpu, cuda, cuda-emulated.
#![allow(dead_code)] // every bench uses a part of it

pub mod device;
pub mod step;

use criterion::Criterion;
use device::{Clock, Inputs};
use engine::cpu::ceiling::{dot_flops, fma_flops};
use engine::{Device, Dtype, Element, bf16};
use std::rc::Rc;
use std::time::Duration;

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
    /// Floating-point operations of products of a storage type, held against the ceiling of its
    /// products.
    Flop(Dtype, usize),
    /// Bytes read and written, held against memory; on the CPU inputs that fit into a cache may
    /// exceed it.
    Bytes(usize),
}

/// A denominator: FLOP or bytes a second, and what it is.
#[derive(Clone, Copy)]
struct Ceiling(f64, &'static str);

/// Criterion, with the ceilings.
pub struct Bench {
    /// All cores, or the GPU. What runs elsewhere is not timed.
    pub dev: Device,
    /// What ids call it.
    pub at: &'static str,
    inputs: Rc<Inputs>,
    clock: Clock,
    criterion: Criterion,
    f32: Ceiling,
    bf16: Ceiling,
    bandwidth: f64,
}

impl Bench {
    /// Opens the device, measures the ceilings, and reads criterion's options from the command line.
    pub fn new() -> Self {
        let (dev, at) = opened();
        let (f32, bf16, bandwidth) =
            (ceiling::<f32>(&dev), ceiling::<bf16>(&dev), engine::ceiling::memory_bandwidth(&dev));
        println!(
            "{}: {} {:.1} GFLOP/s, {} {:.1} GFLOP/s, memory {:.1} GB/s",
            dev.describe(),
            f32.1,
            f32.0 / 1e9,
            bf16.1,
            bf16.0 / 1e9,
            bandwidth / 1e9
        );
        let criterion = Criterion::default()
            .sample_size(10)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1))
            .configure_from_args();
        let (inputs, clock) = (Rc::new(Inputs::new(&dev)), Clock::new(&dev));
        Bench { dev: clock.dev().clone(), at, inputs, clock, criterion, f32, bf16, bandwidth }
    }

    /// Makes buffers of numbers.
    pub fn inputs(&self) -> Rc<Inputs> {
        self.inputs.clone()
    }

    /// Times what `prepare` returns. `prepare` runs only if the id is wanted.
    pub fn run<F: FnMut()>(&mut self, id: &str, work: Work, mut prepare: impl FnMut() -> F) {
        let mut op = None;
        let mut best = f64::INFINITY; // seconds a call
        let clock = &mut self.clock;
        self.criterion.bench_function(id, |b| {
            let op = op.get_or_insert_with(&mut prepare);
            b.iter_custom(|calls| {
                let seconds = (0..calls).map(|_| clock.seconds(|_| op()));
                let seconds =
                    seconds.sum::<Result<f64, _>>().unwrap_or_else(|e| panic!("{id}: {e}"));
                best = best.min(seconds / calls as f64);
                Duration::from_secs_f64(seconds)
            })
        });
        if best.is_infinite() {
            return; // filtered out
        }
        let (amount, Ceiling(ceiling, of), unit) = match work {
            Work::Flop(Dtype::Bf16, n) => (n, self.bf16, "GFLOP/s"),
            Work::Flop(_, n) => (n, self.f32, "GFLOP/s"),
            Work::Bytes(n) => (n, Ceiling(self.bandwidth, "memory bandwidth"), "GB/s"),
        };
        let done = amount as f64 / best;
        let share = 100.0 * done / ceiling;
        println!("{id}: best {:.3} ms, {:.1} {unit}, {share:.0} % of {of}", 1e3 * best, done / 1e9);
    }
}

/// The device that HANDGRAD_BENCH_DEVICE names, and its name.
fn opened() -> (Device, &'static str) {
    let wanted = std::env::var("HANDGRAD_BENCH_DEVICE").unwrap_or("cpu".into());
    let (dev, at) = match wanted.as_str() {
        "cpu" => (Device::cpu(0), "cpu"),
        "cuda" => (Device::cuda(0), "cuda"),
        "cuda-emulated" => (Device::cuda_emulated(), "cuda-emulated"),
        _ => fail(&format!("{wanted}: must be cpu, cuda or cuda-emulated")),
    };
    (dev.unwrap_or_else(|e| fail(&e.to_string())), at)
}

fn fail(why: &str) -> ! {
    eprintln!("error: HANDGRAD_BENCH_DEVICE: {why}");
    std::process::exit(2)
}

/// On the CPU register-resident multiply-adds, or dot products of bf16 where it has them; on a GPU
/// what its maker states, or else what our large product reaches.
fn ceiling<E: Element>(dev: &Device) -> Ceiling {
    let Device::Cpu(cpu) = dev else {
        let (flops, known) = engine::ceiling::products::<E>(dev);
        return Ceiling(
            flops,
            if known == "stated" { "the stated peak" } else { "our large product" },
        );
    };
    match dot_flops(cpu).filter(|_| E::DTYPE == Dtype::Bf16) {
        Some(dots) => Ceiling(dots, "the bf16 dot peak"),
        None => Ceiling(fma_flops(cpu), "the FMA peak"),
    }
}
