//! Cards, their limits, the modules they load, and the errors of approximations.

mod common;

use common::Kind::{self, Bf16, F16, F32};
use common::{evaluate_on, grid, kernel_text};
use half::{bf16, f16};
use ptx_emu::{Arg, Card, Error, Gpu, Hardware, Module, Sums};

#[test]
fn limits_are_the_devices() {
    let limits = [(80, 163, 108), (86, 99, 82), (89, 99, 128), (90, 227, 132), (100, 227, 148)];
    for (capability, kib, multiprocessors) in limits.into_iter().chain([(120, 99, 170)]) {
        let mut gpu = Gpu::with(Hardware::strict(capability).unwrap());
        let card = gpu.hardware().card;
        assert_eq!((card.capability, card.multiprocessors), (capability, multiprocessors));
        assert_eq!(card.block_shared_bytes, kib << 10);
        let text =
            kernel_text(".extern .shared .align 16 .b8 dyn[];\n", "").replace("sm_90", "sm_80");
        let kernel = Module::parse(&text).unwrap().kernel("k").unwrap();
        let args = [Arg::U64(0), Arg::U32(0)];
        gpu.launch(&kernel, grid(1, 32, kib << 10), &args).unwrap();
        let error = gpu.launch(&kernel, grid(1, 32, (kib << 10) + 1), &args).unwrap_err();
        let words = format!("of {} a block can have on an {}", kib << 10, card.name);
        assert!(error.to_string().contains(&words), "{error}");
    }
    assert_eq!((Card::ALL.len(), Card::of(75)), (6, None));
}

#[test]
fn modules_load_where_they_were_made_for() {
    let load = |target: &str, capability: u32| {
        let text = kernel_text("", "").replace("sm_90", target);
        let module = Module::parse(&text).unwrap();
        let mut gpu = Gpu::with(Hardware::strict(capability).unwrap());
        let loaded = gpu.load(&module);
        let launched =
            gpu.launch(&module.kernel("k").unwrap(), grid(1, 32, 0), &[Arg::U64(0), Arg::U32(0)]);
        assert_eq!(loaded.is_ok(), launched.is_ok());
        loaded
    };
    let on = |target: &str| {
        let runs = |card: &Card| load(target, card.capability).is_ok();
        Card::ALL.iter().filter(|card| runs(card)).map(|card| card.capability).collect::<Vec<_>>()
    };
    assert_eq!(on("sm_80"), [80, 86, 89, 90, 100, 120]);
    assert_eq!(on("sm_90"), [90, 100, 120]);
    assert_eq!(on("sm_90a"), [90]);
    assert_eq!(on("sm_100f"), [100]);
    let error = load("sm_90a", 80).unwrap_err();
    assert!(matches!(error, Error::Target { .. }));
    assert_eq!(
        error.to_string(),
        "the module for sm_90a runs on compute capability 9.0 only, this device is an A100 of 8.0"
    );
    let error = Module::parse(".version 8.0\n.target compute_90\n").unwrap_err();
    assert!(error.to_string().contains("bad .target `compute_90`"), "{error}");
}

/// An instruction, the exact function, and how far a result may be from it, at x.
struct Approximation {
    text: &'static str,
    kind: Kind,
    exact: fn(f64) -> f64,
    bound: fn(f64, f64) -> f64,
    /// Operands: from, to.
    range: [f64; 2],
}

fn ulp(x: f64) -> f64 {
    2f64.powi((x.abs().log2().floor() as i32).max(-126) - 23)
}

const F32_TABLE: [Approximation; 8] = [
    Approximation {
        text: "ex2.approx.ftz.f32 %d, %a;",
        kind: F32,
        exact: f64::exp2,
        bound: |_, y| 2.0 * ulp(y),
        range: [-120.0, 120.0],
    },
    Approximation {
        text: "lg2.approx.ftz.f32 %d, %a;",
        kind: F32,
        exact: f64::log2,
        bound: |x, y| 2f64.powi(-22) * if 0.5 < x && x < 2.0 { 1.0 } else { y.abs() },
        range: [1e-3, 5.0],
    },
    Approximation {
        text: "rcp.approx.f32 %d, %a;",
        kind: F32,
        exact: f64::recip,
        bound: |_, y| ulp(y),
        range: [-9.0, 9.0],
    },
    Approximation {
        text: "sqrt.approx.f32 %d, %a;",
        kind: F32,
        exact: f64::sqrt,
        bound: |_, y| 2f64.powi(-23) * y,
        range: [1e-6, 1e4],
    },
    Approximation {
        text: "rsqrt.approx.f32 %d, %a;",
        kind: F32,
        exact: |x| x.sqrt().recip(),
        bound: |_, y| 2f64.powf(-22.9) * y,
        range: [1e-6, 1e4],
    },
    Approximation {
        text: "sin.approx.f32 %d, %a;",
        kind: F32,
        exact: f64::sin,
        bound: |_, _| 2f64.powf(-20.5),
        range: [-6.2, 6.2],
    },
    Approximation {
        text: "cos.approx.f32 %d, %a;",
        kind: F32,
        exact: f64::cos,
        bound: |_, _| 2f64.powf(-14.7),
        range: [7.0, 300.0],
    },
    Approximation {
        text: "tanh.approx.f32 %d, %a;",
        kind: F32,
        exact: f64::tanh,
        bound: |_, y| 2f64.powi(-11) * y.abs(),
        range: [-3.0, 3.0],
    },
];

const HALF_TABLE: [Approximation; 4] = [
    Approximation {
        text: "ex2.approx.ftz.bf16 %d, %a;",
        kind: Bf16,
        exact: f64::exp2,
        bound: |_, y| 2f64.powi(-7) * y,
        range: [-20.0, 20.0],
    },
    Approximation {
        text: "tanh.approx.bf16 %d, %a;",
        kind: Bf16,
        exact: f64::tanh,
        bound: |_, _| 2f64.powi(-8),
        range: [-3.0, 3.0],
    },
    Approximation {
        text: "ex2.approx.f16 %d, %a;",
        kind: F16,
        exact: f64::exp2,
        bound: |_, y| 2f64.powf(-9.9) * y,
        range: [-10.0, 10.0],
    },
    Approximation {
        text: "tanh.approx.f16 %d, %a;",
        kind: F16,
        exact: f64::tanh,
        bound: |_, _| 2f64.powf(-10.987),
        range: [-3.0, 3.0],
    },
];

fn encode(kind: Kind, x: f64) -> u64 {
    match kind {
        F32 => (x as f32).to_bits().into(),
        Bf16 => bf16::from_f64(x).to_bits().into(),
        _ => f16::from_f64(x).to_bits().into(),
    }
}

fn decode(kind: Kind, bits: u64) -> f64 {
    match kind {
        F32 => f32::from_bits(bits as u32).into(),
        Bf16 => bf16::from_bits(bits as u16).to_f64(),
        _ => f16::from_bits(bits as u16).to_f64(),
    }
}

fn erring(seed: Option<u64>) -> Hardware {
    Hardware { approximate: seed, ..Hardware::strict(90).unwrap() }
}

#[test]
fn approximations_err_within_their_bounds_and_reach_them() {
    for row in F32_TABLE.iter().chain(&HALF_TABLE) {
        let Approximation { text, kind, exact, bound, range: [from, to] } = *row;
        let count = 997;
        let inputs: Vec<Vec<u64>> = (0..count)
            .map(|i| vec![encode(kind, from + (to - from) * (i as f64 + 0.3) / count as f64)])
            .collect();
        let run = |seed| evaluate_on(erring(seed), text, kind, &[kind], &inputs);
        for (seed, got) in [1, 2, 77].map(|seed| (seed, run(Some(seed)))) {
            assert_eq!(got, run(Some(seed)), "{text}: the same operands, the same results");
            let errors = inputs.iter().zip(&got).map(|(x, y)| {
                let (x, y) = (decode(kind, x[0]), decode(kind, *y));
                (y - exact(x)) / bound(x, exact(x))
            });
            let (low, high) = errors.fold((0f64, 0f64), |(l, h), e| (l.min(e), h.max(e)));
            assert!(high <= 1.0 && low >= -1.0, "{text}: {low} to {high} of the bound");
            assert!(high > 0.9 && low < -0.9, "{text}: only {low} to {high} of the bound");
        }
        assert_ne!(run(Some(1)), run(Some(2)), "{text}: another seed, other errors");
        let nearest = inputs.iter().map(|x| encode(kind, exact(decode(kind, x[0]))));
        assert_eq!(run(None), nearest.collect::<Vec<_>>(), "{text}: without a seed");
    }
}

#[test]
fn quotients_err_within_two_units() {
    let pairs: Vec<Vec<u64>> = (1..500)
        .map(|i| vec![encode(F32, 1.0 + f64::from(i) * 0.37), encode(F32, 3.0 - f64::from(i))])
        .collect();
    for text in ["div.approx.f32 %d, %a, %b;", "div.full.f32 %d, %a, %b;"] {
        let got = evaluate_on(erring(Some(5)), text, F32, &[F32, F32], &pairs);
        let errors =
            pairs.iter().zip(got).filter(|(p, _)| decode(F32, p[1]) != 0.0).map(|(p, y)| {
                let exact = decode(F32, p[0]) / decode(F32, p[1]);
                (decode(F32, y) - exact).abs() / ulp(exact)
            });
        let worst = errors.fold(0.0, f64::max);
        assert!(worst > 1.8 && worst <= 2.0, "{text}: {worst}");
    }
}

/// What PTX defines exactly has no error, and nothing becomes infinite, zero or subnormal by one.
#[test]
fn exact_results_stay_exact() {
    let run = |text: &str, x: f32| {
        let results = [1, 2, 3, 4, 5, 6, 7, 8].map(|seed| {
            evaluate_on(erring(Some(seed)), text, F32, &[F32], &[vec![x.to_bits().into()]])[0]
        });
        results.map(|bits| f32::from_bits(bits as u32))
    };
    let inf = f32::INFINITY;
    for (text, x, y) in [
        ("ex2.approx.ftz.f32 %d, %a;", 0.0, 1.0),
        ("ex2.approx.ftz.f32 %d, %a;", -inf, 0.0),
        ("ex2.approx.ftz.f32 %d, %a;", 200.0, inf),
        ("lg2.approx.f32 %d, %a;", 0.0, -inf),
        ("rcp.approx.f32 %d, %a;", inf, 0.0),
        ("rsqrt.approx.f32 %d, %a;", 0.0, inf),
        ("sin.approx.f32 %d, %a;", 0.0, 0.0),
        ("cos.approx.f32 %d, %a;", -0.0, 1.0),
        ("tanh.approx.f32 %d, %a;", inf, 1.0),
    ] {
        assert_eq!(run(text, x), [y; 8], "{text} {x}");
    }
    let least = run("ex2.approx.ftz.f32 %d, %a;", -126.0);
    assert!(least.iter().all(|y| *y >= f32::MIN_POSITIVE), "{least:?}");
    let operands = vec![encode(F32, f32::MAX.into()), encode(F32, 1.0)];
    for seed in 1..9 {
        let text = "div.full.f32 %d, %a, %b;";
        let most = evaluate_on(
            erring(Some(seed)),
            text,
            F32,
            &[F32, F32],
            std::slice::from_ref(&operands),
        );
        assert!(decode(F32, most[0]).is_finite());
    }
}

#[test]
fn modes_have_names() {
    assert_eq!("truncate".parse(), Ok(Sums::Truncate));
    assert_eq!("round".parse(), Ok(Sums::Round));
    let error = "up".parse::<Sums>().unwrap_err();
    assert_eq!(error, "sums `up`; give truncate or round");
    let round = Hardware::with_sums(86, Sums::Round).unwrap();
    assert_eq!((round.sums, round.approximate), (Sums::Round, None));
    assert!(Hardware::with_sums(86, Sums::Truncate).unwrap().approximate.is_some());
    assert_eq!("86-round".parse(), Ok(round));
    assert_eq!("86".parse(), Ok(Hardware::strict(86).unwrap()));
    let error = "75".parse::<Hardware>().unwrap_err();
    let words = "no emulator of compute capability `75`; take 80, 86, 89, 90, 100, 120";
    assert_eq!(error, words);
}
