//! Every row of a plan against the bytes that are allocated for it, to the byte; and what a plan itself
//! takes, which is nothing that grows with the model.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use engine::cuda;
use engine::ops::loss::{Logits, Sum};
use engine::plan::WORKSPACE;
use engine::{Arena, Cuda, Device, Dims, Element, Plan, Segments, bf16};
use handgrad::{engine, model, optim, train};
use model::cache::{Cache, Mode, Scratch};
use model::generation::Decoder;
use model::llama::{Batch, Llama, Sums};
use model::weights::Weights;
use model::{Config, Lora, Target, init};
use optim::{AdamW, GlobalNorm};
use train::Trainer;
use train::plan::plan;
use train::trainer::Recipe;

use super::{LINE, LINES, LIVE, PEAK, alone};

/// How a device counts the bytes that it holds, and what it rounds an allocation up to. A GPU's work
/// space is apart.
struct Counter<'a> {
    taken: &'a dyn Fn() -> u64,
    unit: u64,
}

impl Counter<'_> {
    /// Makes something, and tells the bytes that it took.
    fn of<T>(&self, make: impl FnOnce() -> T) -> (T, u64) {
        let before = (self.taken)();
        let made = make();
        (made, (self.taken)() - before)
    }
}

/// Tokens of a decoder's prompts: one, a few, all.
fn prompts(T: usize) -> [usize; 3] {
    [1, T.min(20), T]
}

fn check<E: Element<Acc = f32>>(
    dev: &Device,
    counter: &Counter,
    dims: Dims,
    (B, T): (usize, usize),
    mode: Mode,
    lora: Option<Lora>,
) {
    let what = format!("{} {} {dims:?} B{B} T{T} {mode:?} {lora:?}", dev.describe(), E::NAME);
    let recipe = Recipe { cache: mode, context: T, ..Recipe::new(B, T) };
    let config = Config { max_seq_len: T, lora, ..super::bench::config(dims, false) };
    let plan = plan::<E>(dev, &config, &recipe, 0).unwrap();
    let row = |name: &str| {
        let rows: Vec<u64> =
            plan.rows().iter().filter(|row| row.0.starts_with(name)).map(|row| row.1).collect();
        assert!(!rows.is_empty(), "{what}: no {name}");
        rows.into_iter().sum::<u64>()
    };
    let assert = |name: &str, planned: u64, taken: u64| {
        assert_eq!(taken, planned, "{what}: {name}: taken and planned");
    };
    let unit = counter.unit;

    let N = B * T;
    let (model, taken) = counter.of(|| Llama::<E>::new(dev, &config, T));
    let (mut numbers, numbers_take) = counter.of(|| (Sum::new(dev), GlobalNorm::new(dev)));
    assert("sums", 2 * unit, numbers_take);
    // A trainer has a second sum.
    assert("angles", row("angles, losses and norm"), taken + 3 * unit);
    let table = model.table();
    let (mut weights, taken) = counter.of(|| Weights::<E>::zeros(dev, table));
    assert("weights", row("weights"), taken);
    let (mut grads, taken) = counter.of(|| Arena::<f32>::zeros(dev, &table.trained()));
    assert("gradients", row("gradients"), taken);
    let (mut adamw, taken) = counter.of(|| AdamW::<E>::new(dev, table, Default::default()));
    assert("moments", row("AdamW's moments"), taken);
    let (mut cache, taken) = counter.of(|| Cache::<E>::new(dev, &config.dims, N, mode));
    let last = ((N * dims.C * size_of::<E>()) as u64).next_multiple_of(unit);
    assert("kept for backward", row("activations, kept for backward") + last, taken);
    let (mut scratch, taken) = counter.of(|| Scratch::<E>::new(dev, &config, N));
    let (_, taken_by_logits) = counter.of(|| Logits::<E>::new(dev, N, dims.V));
    let logits = row("logits");
    assert("logits", logits, taken_by_logits);
    assert("shared by layers", row("activations, shared by layers") - last + logits, taken);
    let (mut decoder, taken) = counter.of(|| Decoder::<E>::new(dev, &model, 1, T));
    assert("decoder", row("decoder"), taken);

    init::fill(dev, &mut weights, table, 1);
    weights.refresh().unwrap();
    let tokens: Vec<u32> = (0..N).map(|i| (i * 7 % dims.V) as u32).collect();
    let targets: Vec<i32> = (0..N).map(|i| (i * 5 % dims.V) as i32).collect();
    let segments = &Segments::equal(B, T);
    let weights_N = vec![0.5; N];
    // With weights, so that their work space shows.
    let batch = Batch { weights_N: Some(&weights_N), ..Batch::new(&tokens, &targets, segments) };
    let ((), taken) = counter.of(|| {
        for _ in 0..2 {
            let (sum, norm) = &mut numbers;
            model.forward(dev, weights.view(), batch, &mut cache, &mut scratch);
            let (w, cache, scratch) = (weights.view(), &mut cache, &mut scratch);
            let sums = Sums { loss: &mut *sum, grads: &mut grads, scale: 1.0 / N as f64 };
            model.backward(dev, sums, w, batch, cache, scratch);
            norm.measure(dev, &grads);
            adamw.step(dev, weights.trained_mut(), &grads, norm, 1e-3, 1.0);
            model.forward(dev, weights.view(), batch, cache, scratch);
            model.loss(dev, sum, weights.view(), batch, cache, scratch);
            model.score(dev, weights.view(), batch, cache, scratch).unwrap();
            for length in prompts(T) {
                decoder.clear(0);
                decoder.feed(dev, &model, weights.view(), &[(0, &tokens[..length])]).unwrap();
            }
        }
        dev.sync().unwrap();
    });
    let workspace = row("work space of ops");
    match dev {
        Device::Cpu(_) => assert("work space", workspace, taken),
        Device::Cuda(cuda) => {
            assert_eq!(taken, 0, "{what}: a step takes buffers");
            assert_eq!(cuda.held_bytes().0, workspace, "{what}: work space");
        }
    }
    let program = if matches!(dev, Device::Cpu(_)) { row("program") + row("tokens") } else { 0 };
    let rows = [
        "angles",
        "weights",
        "gradients",
        "AdamW",
        "activations",
        "logits",
        "decoder",
        "work space",
    ];
    let sum: u64 = rows.map(row).into_iter().sum();
    assert_eq!(plan.total(), sum + program, "{what}: a row that nothing here allocates");
}

/// What a trainer holds once it has taken steps, evaluated and written, and its plan without what is no
/// buffer of it. A GPU has reserved what the plan says.
fn trainer_and_plan<E: Element<Acc = f32>>(
    dev: &Device,
    taken: &dyn Fn() -> u64,
    config: &Config,
    recipe: Recipe,
) -> [u64; 2] {
    let plan = plan::<E>(dev, config, &recipe, 0).unwrap();
    let before = taken();
    dev.reserve(&plan).unwrap();
    let mut bench = super::bench::Bench::<E>::by(dev.clone(), config, recipe);
    for _ in 0..2 {
        bench.step(1e-3);
        bench.loss();
        let Trainer { dev, model, weights, decoder, .. } = &mut bench.trainer;
        decoder.clear(0);
        let prompt = vec![1; recipe.context - 1];
        for tokens in [&prompt[..], &[2]] {
            decoder.feed(dev, model, weights.view(), &[(0, tokens)]).unwrap();
        }
    }
    [taken() - before, plan.total() - plan.bytes("program")]
}

/// Samples longer than sequences, several passes a step.
#[test]
fn a_trainer_takes_what_its_plan_says() {
    let _alone = alone();
    let dims = Dims { L: 2, C: 48, H: 6, G: 2, D: 16, F: 88, V: 515 };
    let recipe = Recipe { accum: 2, context: 61, ..Recipe::new(3, 17) };
    for lora in [None, Some(Lora::new(3))] {
        let config = Config { lora, ..super::bench::config(dims, true) };
        for isa in engine::Isa::all_available() {
            let dev = &super::bench::cpu(isa, 2);
            let taken = || LINES.load(Relaxed) as u64;
            for [taken, planned] in [
                trainer_and_plan::<f32>(dev, &taken, &config, recipe),
                trainer_and_plan::<bf16>(&super::bench::cpu(isa, 2), &taken, &config, recipe),
            ] {
                assert_eq!(taken, planned, "{}", dev.describe());
            }
        }
        for capability in [80, 90] {
            let cuda = Cuda::emulated(capability).unwrap();
            let dev = &Device::Cuda(cuda.clone());
            let taken = || cuda.held_bytes().0 + cuda.held_bytes().1;
            let [taken, planned] = trainer_and_plan::<bf16>(dev, &taken, &config, recipe);
            assert_eq!((taken, cuda.held_bytes().1), (planned, 0), "sm_{capability}");
            assert_eq!(cuda.peak_bytes(), planned, "sm_{capability}");
        }
    }
}

/// The largest model, on devices that are here and not: what that takes, in host memory and time.
#[test]
fn a_plan_takes_next_to_nothing() {
    let _alone = alone();
    let config = Config::named("65b").unwrap();
    let recipe = Recipe { context: 2048, accum: 4, ..Recipe::new(4, 2048) };
    let imagined = |capability| Cuda::imagined(cuda::Target::of(capability), 80 << 30);
    for dev in [Device::cpu(2).unwrap(), Device::Cuda(imagined(80)), Device::Cuda(imagined(90))] {
        let (before, begin) = (LIVE.load(Relaxed), Instant::now());
        PEAK.store(before, Relaxed);
        let plan: Plan = plan::<bf16>(&dev, &config, &recipe, 0).unwrap();
        let (peak, time) = (PEAK.load(Relaxed) - before, begin.elapsed());
        println!("{}: {peak} bytes, {time:?}\n{plan}", dev.describe());
        // 65.3 billion parameters of 16 bytes, and 2 for the copy.
        assert!(plan.total() > 65_285_660_672 * 18, "{plan}");
        assert!(peak < 1 << 20, "{peak} bytes");
        assert!(time < Duration::from_secs(1), "{time:?}");
    }
}

/// An imagined GPU is planned like one that is there.
#[test]
fn a_plan_needs_no_device() {
    let dims = Dims { L: 2, C: 128, H: 4, G: 2, D: 32, F: 192, V: 576 };
    let (config, recipe) = (super::bench::config(dims, false), Recipe::new(2, 64));
    for capability in [80, 86, 90] {
        let there = Cuda::emulated(capability).unwrap();
        let imagined = Cuda::imagined(there.target(), there.memory_bytes());
        let [there, imagined] = [there, imagined]
            .map(|cuda| plan::<bf16>(&Device::Cuda(cuda), &config, &recipe, 0).unwrap());
        assert_eq!(there, imagined);
        assert!(there.bytes(WORKSPACE) > 0);
    }
}

/// Sizes of no vector and no line, and one whose sequence is cut into tasks and whose prompt is taken
/// in chunks.
const CASES: [(Dims, usize, usize); 3] = [
    (Dims { L: 2, C: 10, H: 4, G: 2, D: 6, F: 14, V: 23 }, 3, 17),
    (Dims { L: 3, C: 48, H: 6, G: 2, D: 16, F: 88, V: 515 }, 2, 112),
    (Dims { L: 1, C: 32, H: 2, G: 1, D: 16, F: 200, V: 70 }, 1, 528),
];

/// Adapters beside all matrices of a model that learns too, and beside some of a frozen one; ranks of
/// no line, and one that is wider than the model.
fn adapters() -> [Lora; 2] {
    let all = Lora { targets: Target::ALL.to_vec(), frozen: false, ..Lora::new(5) };
    [all, Lora { targets: vec![Target::Key, Target::Down], ..Lora::new(136) }]
}

const MODES: [Mode; 2] = [Mode::Linear, Mode::Full];

#[test]
fn the_cpu_takes_what_each_row_says() {
    let _alone = alone();
    let counter = Counter { taken: &|| LINES.load(Relaxed) as u64, unit: LINE as u64 };
    for (dims, B, T) in CASES {
        for isa in engine::Isa::all_available() {
            for (threads, mode) in [(1, MODES[0]), (3, MODES[0]), (2, MODES[1])] {
                let dev = Device::Cpu(engine::Cpu::with_isa(threads, isa).unwrap());
                check::<f32>(&dev, &counter, dims, (B, T), mode, None);
                let dev = Device::Cpu(engine::Cpu::with_isa(threads, isa).unwrap());
                check::<bf16>(&dev, &counter, dims, (B, T), mode, None);
            }
            for lora in adapters() {
                let dev = Device::Cpu(engine::Cpu::with_isa(2, isa).unwrap());
                check::<f32>(&dev, &counter, dims, (B, T), MODES[0], Some(lora.clone()));
                let dev = Device::Cpu(engine::Cpu::with_isa(2, isa).unwrap());
                check::<bf16>(&dev, &counter, dims, (B, T), MODES[1], Some(lora));
            }
        }
    }
}

#[test]
fn a_gpu_takes_what_each_row_says() {
    let _alone = alone();
    let dims = Dims { L: 2, C: 128, H: 4, G: 2, D: 32, F: 192, V: 576 };
    for mode in MODES {
        for capability in [80, 90] {
            for narrow in [false, true] {
                // A device of its own: its work space only grows.
                let cuda = Cuda::emulated(capability).unwrap();
                let dev = Device::Cuda(cuda.clone());
                let taken = || cuda.held_bytes().1;
                let counter = Counter { taken: &taken, unit: 256 };
                let check = if narrow { check::<bf16> } else { check::<f32> };
                check(&dev, &counter, dims, (2, 64), mode, None);
            }
        }
    }
    for (lora, narrow) in adapters().into_iter().zip([false, true]) {
        let cuda = Cuda::emulated(90).unwrap();
        let dev = Device::Cuda(cuda.clone());
        let taken = || cuda.held_bytes().1;
        let counter = Counter { taken: &taken, unit: 256 };
        let check = if narrow { check::<bf16> } else { check::<f32> };
        check(&dev, &counter, dims, (2, 64), MODES[0], Some(lora));
    }
    // Here the parts of the head's products take most work space.
    let cuda = Cuda::emulated(90).unwrap();
    let taken = || cuda.held_bytes().1;
    let counter = Counter { taken: &taken, unit: 256 };
    let wide = Dims { V: 4160, ..dims };
    check::<bf16>(&Device::Cuda(cuda.clone()), &counter, wide, (2, 64), Mode::Linear, None);
}
