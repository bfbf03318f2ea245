//! `pretrain --profile`: what it prints and writes adds up, and changes no number.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::common::{Dir, TINY, metrics, tiny_but};

/// Rounding of sums of milliseconds.
const ROUNDING: f64 = 1e-9;

/// Every op of a training step.
const OPS: [&str; 18] = [
    "adamw",
    "attention backward",
    "attention forward",
    "embedding backward",
    "embedding forward",
    "linear backward dW",
    "linear backward dx",
    "linear forward",
    "loss forward and backward",
    "norm",
    "rmsnorm apply",
    "rmsnorm backward",
    "rmsnorm forward",
    "rope backward",
    "rope forward",
    "sum of nats",
    "swiglu backward",
    "swiglu forward",
];

/// What `pretrain --profile` with `line` prints on stdout, and the trace that it writes.
fn profile(dir: &Dir, line: &str) -> (Value, Value) {
    let done = dir.pretrain(&format!("--profile --out out {line}"));
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{line}");
    let read = |name: &str| fs::read_to_string(dir.path("out").join(name)).unwrap();
    assert_eq!(done.stdout, read("profile.json"));
    (
        serde_json::from_str(&done.stdout).unwrap(),
        serde_json::from_str(&read("trace.json")).unwrap(),
    )
}

fn rows(profile: &Value) -> &Vec<Value> {
    profile["ops"].as_array().unwrap()
}

/// Sum of `key` over the rows that `wanted` takes by their op.
fn sum(profile: &Value, key: &str, wanted: impl Fn(&str) -> bool) -> f64 {
    let rows = rows(profile).iter().filter(|row| wanted(row["op"].as_str().unwrap()));
    rows.map(|row| row[key].as_f64().unwrap()).sum()
}

#[test]
fn ops_and_the_time_between_them_are_the_step() {
    let dir = Dir::new();
    let (profile, _) = profile(&dir, "");
    let number = |key: &str| profile[key].as_f64().unwrap();
    let (ops, between, step) =
        (sum(&profile, "ms", |_| true), number("between_ops_ms"), number("step_ms"));
    assert!(between >= 0.0 && (ops + between - step).abs() <= ROUNDING * step, "{profile}");
    let steps = profile["steps"].as_array().unwrap();
    let mut durations: Vec<f64> = steps.iter().map(|step| step["ms"].as_f64().unwrap()).collect();
    durations.sort_by(f64::total_cmp);
    assert_eq!((durations.len(), durations[2]), (5, step), "the step is the one in the middle");
    let own = steps.iter().find(|step| step["step"] == profile["step"]).unwrap();
    assert_eq!(own["ms"], profile["step_ms"]);
    let speed = number("tokens") / step * 1e3;
    assert!((number("tokens_per_second") / speed - 1.0).abs() <= ROUNDING);
    let flops = number("model_flop") / step * 1e3;
    let peak = profile["ceilings"]["flop_per_second"].as_f64().unwrap();
    assert!((number("mfu") / (flops / peak) - 1.0).abs() <= ROUNDING);
    for row in rows(&profile) {
        let [ms, flop, bytes] = ["ms", "flop", "bytes"].map(|key| row[key].as_f64().unwrap());
        let bandwidth = profile["ceilings"]["bytes_per_second"].as_f64().unwrap();
        let least = 1e3 * (flop / peak).max(bytes / bandwidth);
        assert!((row["attained"].as_f64().unwrap() * ms / least - 1.0).abs() <= ROUNDING, "{row}");
        let bound = if flop / peak > bytes / bandwidth { "compute" } else { "memory" };
        assert_eq!(row["bound"], bound, "{row}");
    }
}

#[test]
fn every_op_is_there_as_often_as_it_runs() {
    let dir = Dir::new();
    let (L, passes) = (2.0, 3.0);
    let (linear, _) = profile(&dir, "--accum 3");
    let names = |p: &Value| -> BTreeSet<String> {
        rows(p).iter().map(|row| row["op"].as_str().unwrap().to_string()).collect()
    };
    let all = BTreeSet::from(OPS.map(String::from));
    assert_eq!(names(&linear), all);
    let calls = |p: &Value, op: &str| sum(p, "calls", |name| name == op);
    for (op, count) in [
        ("adamw", 1.0),
        ("norm", 1.0),
        ("loss forward and backward", passes),
        ("sum of nats", passes),
        ("embedding forward", passes),
        ("embedding backward", passes),
        ("attention forward", passes * L),
        ("attention backward", passes * L),
        ("linear forward", passes * L * 4.0),
        ("linear backward dx", passes * L * 4.0),
        ("linear backward dW", passes * L * 4.0),
        ("swiglu forward", passes * L * 2.0),
        ("rmsnorm forward", passes * (L * 2.0 + 1.0)),
        ("rmsnorm backward", passes * (L * 2.0 + 1.0)),
    ] {
        assert_eq!(calls(&linear, op), count, "{op}");
    }
    // Blocks computed again, but for their last product.
    let (full, _) = profile(&dir, "--accum 3 --cache full");
    assert_eq!(names(&full), all);
    assert_eq!(calls(&full, "attention forward"), passes * L * 2.0);
    assert_eq!(calls(&full, "linear forward"), passes * L * 7.0);
}

#[test]
fn products_are_those_of_the_formula() {
    let dir = Dir::new();
    // tiny.json: width, hidden width, query heads, key heads, head width, vocabulary, layers.
    let [C, F, H, G, D, V, L] = [16.0, 24.0, 2.0, 1.0, 8.0, 259.0, 2.0];
    let (B, T) = (4.0, 16.0);
    let matrices = L * (C * (H + 2.0 * G) * D + H * D * C + 3.0 * C * F) + V * C;
    for dtype in ["f32", "bf16"] {
        let (profile, _) = profile(&dir, &format!("--dtype {dtype}"));
        let products = |name: &str| name.starts_with("linear") || name.starts_with("loss");
        assert_eq!(sum(&profile, "flop", products), 6.0 * matrices * B * T, "{dtype}");
        // Two products forward; backward four, and the scores again; each for T (T + 1) / 2 pairs.
        let product = 2.0 * L * B * H * D * T * (T + 1.0) / 2.0;
        let of = |op: &str| sum(&profile, "flop", |name| name == op);
        assert_eq!(
            (of("attention forward"), of("attention backward")),
            (2.0 * product, 5.0 * product)
        );
        // The model's formula has six, and T / 2 keys for a query.
        let attention = 6.0 * product * T / (T + 1.0);
        let model = profile["model_flop"].as_f64().unwrap();
        assert!((model - 6.0 * matrices * B * T - attention).abs() < 0.5, "{dtype}: {model}");
        // One pass over the weights in f32: four arrays read, three written, a copy for bf16.
        let bytes = if dtype == "f32" { 28 } else { 30 };
        let adamw = rows(&profile).iter().find(|row| row["op"] == "adamw").unwrap();
        let elements: u64 =
            adamw["shape"].as_str().unwrap().split(' ').next().unwrap().parse().unwrap();
        assert_eq!(
            (&adamw["bytes"], &adamw["flop"]),
            (&(bytes * elements).into(), &(16 * elements).into())
        );
    }
}

#[test]
fn parts_of_a_block_have_names() {
    let dir = Dir::new();
    let (profile, _) = profile(&dir, "");
    for (part, sizes) in
        [("qkv", "I16 O32"), ("output", "I16 O16"), ("gate and up", "I16 O48"), ("down", "I24 O16")]
    {
        let found: Vec<&Value> = rows(&profile).iter().filter(|row| row["part"] == part).collect();
        assert_eq!(found.len(), 3, "{part}: forward, dx and dW");
        assert!(found.iter().all(|row| row["shape"] == format!("N64 {sizes}")), "{found:?}");
    }
}

#[test]
fn profiling_does_not_change_a_bit_of_the_losses() {
    let dir = Dir::new();
    for dtype in ["f32", "bf16"] {
        dir.train(dtype, &format!("--dtype {dtype}"));
        let losses: Vec<(Value, Value)> = metrics(&dir.path(dtype))
            .into_iter()
            .filter(|line| {
                line["loss"].is_number() && (4..=8).contains(&line["step"].as_u64().unwrap())
            })
            .map(|line| (line["step"].clone(), line["loss"].clone()))
            .collect();
        let (profile, _) = profile(&dir, &format!("--dtype {dtype}"));
        let steps = profile["steps"].as_array().unwrap().iter();
        let profiled: Vec<_> = steps.map(|s| (s["step"].clone(), s["loss"].clone())).collect();
        assert_eq!(profiled, losses, "{dtype}");
    }
}

#[test]
fn the_trace_holds_calls_in_order_within_their_steps() {
    let dir = Dir::new();
    let (profile, trace) = profile(&dir, "");
    let events = trace["traceEvents"].as_array().unwrap();
    let span = |event: &Value| {
        let [begin, length] = ["ts", "dur"].map(|key| event[key].as_f64().unwrap());
        // Microseconds with three digits, as whole nanoseconds.
        let [begin, length] = [begin, length].map(|us| (1e3 * us).round() as u64);
        (begin, begin + length)
    };
    let (mut step, mut last, mut steps) = ((0, 0), 0, Vec::new());
    for event in events.iter().filter(|event| event["ph"] == "X") {
        let (begin, end) = span(event);
        if event["cat"] == "step" {
            assert!(begin >= step.1, "steps overlap");
            (step, last) = ((begin, end), begin);
            steps.push(Vec::new());
            continue;
        }
        assert!(last <= begin && begin <= end && end <= step.1, "{event} is outside of its step");
        assert!(event["args"]["FLOP"].is_u64() && event["args"]["bytes"].is_u64(), "{event}");
        last = end;
        steps.last_mut().expect("a step comes first").push(event);
    }
    assert_eq!(steps.len(), 5);
    let calls = sum(&profile, "calls", |_| true) as usize;
    assert!(steps.iter().all(|step| step.len() == calls), "each step has the calls of the table");
    let flop: u64 = steps[0].iter().map(|call| call["args"]["FLOP"].as_u64().unwrap()).sum();
    assert_eq!(flop as f64, sum(&profile, "flop", |_| true));
}

#[test]
fn the_table_goes_to_stderr() {
    let dir = Dir::new();
    let line = tiny_but(&[("--log-level", "info")]);
    let done = dir.run("pretrain", &format!("{line} --profile --out out"));
    assert_eq!(done.code, 0, "{}", done.stderr);
    for part in ["linear backward dW, down", "between ops", "attained", "ceilings", "trace.json"] {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
}

#[test]
fn a_profile_leaves_a_run_as_it_is_and_no_trace_of_its_own() {
    let dir = Dir::new();
    let mut expected = dir.snapshot();
    profile(&dir, "");
    let mut found = dir.snapshot();
    for name in ["out", "out/profile.json", "out/trace.json"] {
        assert!(found.remove(&dir.path(name)).is_some(), "{name}");
    }
    assert!(found == expected);
    dir.train("out", "");
    expected = dir.snapshot();
    profile(&dir, "");
    found = dir.snapshot();
    for name in ["out/profile.json", "out/trace.json"] {
        assert_ne!(found.remove(&dir.path(name)), expected.remove(&dir.path(name)), "{name}");
    }
    assert!(found == expected);
}

#[test]
fn what_cannot_be_profiled_is_refused() {
    let dir = Dir::new();
    let refused = |line: &str, code, parts: &[&str]| {
        let line = format!("{} --profile {line}", TINY);
        dir.refused("pretrain", &line, code, parts);
    };
    refused("--out text.txt", 2, &["text.txt", "is a file", "--out"]);
    refused("--out text.txt/out", 1, &["text.txt/out", "Not a directory", "check the path"]);
    fs::create_dir_all(dir.path("taken/profile.json/inside")).unwrap();
    refused("--out taken", 1, &["cannot write the profile", "taken/profile.json"]);
    for flag in ["--plan", "--resume", "--overwrite"] {
        refused(&format!("{flag} --out out"), 2, &["--profile", flag]);
    }
}
