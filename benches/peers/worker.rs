//! Our side of `compare.py`: measures what it is asked for on stdin, a line a request, and answers
//! with a line of JSON. Between requests it waits, so that two workers can take turns.
//!
//! ```text
//! peer step SIZE DTYPE         "STEPS": that many training steps
//! peer attention               "DTYPE T H D CALLS": causal attention, forward and backward
//! peer gemm                    "DTYPE fwd|dx|dw N I O CALLS": one product of a linear layer
//! peer export SIZE DIR         the weights that steps start from, as a Hugging Face directory
//! ```

#[path = "../common/step.rs"]
mod step;

use engine::cpu::gemm::{Mat, Onto, gemm};
use engine::ops::attention::{self, Heads};
use engine::ops::linear;
use engine::{Device, Element, Real, bf16};
use handgrad::model::{hf, llama::Llama};
use handgrad::train::report::{peak_bytes, resident_bytes};
use handgrad::{engine, train};
use serde_json::{Value, json};
use std::io::BufRead;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;
use step::{SIZES, Size, Skewed, Training};
use train::Outcome;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const USAGE: &str = "usage: peer step S15|S42|S110|Long f32|bf16, peer attention, peer gemm, or \
                     peer export SIZE DIR; benches/peers/compare.py does it";

fn main() -> ExitCode {
    train::main_exit(start().map(|()| Outcome::Done))
}

fn start() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let dev = &Device::cpu(0)?;
    match args[..] {
        ["step", size, "f32"] => serve_steps::<f32>(dev, &named(size)?),
        ["step", size, "bf16"] => serve_steps::<bf16>(dev, &named(size)?),
        ["attention"] => serve(dev, json!({}), |request| match request {
            ["f32", sizes @ ..] => attention::<f32>(dev, numbers_of(sizes)?),
            ["bf16", sizes @ ..] => attention::<bf16>(dev, numbers_of(sizes)?),
            _ => Err(USAGE.into()),
        }),
        ["gemm"] => serve(dev, json!({}), |request| match request {
            ["f32", product, sizes @ ..] => product_of::<f32>(dev, product, numbers_of(sizes)?),
            ["bf16", product, sizes @ ..] => product_of::<bf16>(dev, product, numbers_of(sizes)?),
            _ => Err(USAGE.into()),
        }),
        ["export", size, dir] => export(dev, &named(size)?, Path::new(dir)),
        _ => Err(USAGE.into()),
    }
}

fn named(name: &str) -> Result<Size> {
    SIZES.into_iter().find(|size| size.name == name).ok_or_else(|| USAGE.into())
}

fn numbers_of<const N: usize>(words: &[&str]) -> Result<[usize; N]> {
    let numbers = words.iter().map(|word| word.parse()).collect::<std::result::Result<Vec<_>, _>>();
    Ok(numbers?.try_into().map_err(|_| USAGE)?)
}

/// Says `ready`, then answers requests until stdin ends. Every answer tells what the machine could
/// do at best at that moment, by storage type.
fn serve(
    dev: &Device,
    ready: Value,
    mut answer: impl FnMut(&[&str]) -> Result<Value>,
) -> Result<()> {
    train::print(&format!("{ready}\n"))?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let peaks =
            json!({ "f32": dev.product_flops::<f32>(), "bf16": dev.product_flops::<bf16>() });
        let mut answer = answer(&line.split_whitespace().collect::<Vec<_>>())?;
        answer["peak_flops"] = peaks;
        train::print(&format!("{answer}\n"))?;
    }
    Ok(())
}

fn serve_steps<E: Element<Acc = f32>>(dev: &Device, size: &Size) -> Result<()> {
    let base = resident_bytes();
    let (mut training, mut tokens) = (Training::<E>::new(dev, size), Skewed::new(size));
    let ready = json!({ "tokens": size.tokens(), "batch": size.B, "flop": size.flop() });
    serve(dev, ready, |request| {
        let [steps] = numbers_of(request)?;
        // The peak from here on; where the kernel does not allow it, the peak so far.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        let (mut seconds, mut losses) = (Vec::new(), Vec::new());
        for _ in 0..steps {
            let batch = tokens.batch();
            let start = Instant::now();
            losses.push(training.step(&batch));
            seconds.push(start.elapsed().as_secs_f64());
        }
        let bytes = peak_bytes().saturating_sub(base);
        Ok(json!({ "seconds": seconds, "losses": losses, "peak_bytes": bytes }))
    })
}

fn export(dev: &Device, size: &Size, dir: &Path) -> Result<()> {
    let model = Llama::<f32>::new(dev, &size.config(), size.T);
    let weights = size.weights(dev, &model);
    let (config, table) = (model.config(), model.table());
    Ok(hf::write(dir, config, table, weights.master(), hf::Dtype::F32, u64::MAX)?)
}

fn attention<E: Element>(dev: &Device, [T, H, D, calls]: [usize; 4]) -> Result<Value> {
    let heads = Heads { H, G: H, D };
    let (qkv, d_o) = (numbers::<E>(T * heads.qkv()), numbers::<E>(T * heads.out()));
    let (mut o, mut lse, mut dqkv) = (d_o.clone(), numbers::<E::Acc>(T * H), qkv.clone());
    timed(calls, || {
        let (o_to, lse_to) = ((&mut o[..]).into(), (&mut lse[..]).into());
        attention::forward(dev, o_to, lse_to, (&qkv[..]).into(), heads, T);
        let (d_o, qkv, o) = ((&d_o[..]).into(), (&qkv[..]).into(), (&o[..]).into());
        let dqkv = (&mut dqkv[..]).into();
        attention::backward(dev, dqkv, d_o, qkv, o, (&lse[..]).into(), heads, T)
    })
}

/// y = x W^T, dx = dy W or dw += dy^T x, for x of N rows of I and W of O rows of I.
fn product_of<E: Element>(
    dev: &Device,
    product: &str,
    [N, I, O, calls]: [usize; 4],
) -> Result<Value> {
    let Device::Cpu(cpu) = dev else { return Err(USAGE.into()) };
    let (mut x, mut y, w) = (numbers::<E>(N * I), numbers::<E>(N * O), numbers::<E>(O * I));
    match product {
        "fwd" => timed(calls, || {
            linear::forward(dev, (&mut y[..]).into(), (&x[..]).into(), (&w[..]).into(), I)
        }),
        "dx" => {
            timed(calls, || gemm(cpu, &mut x[..], Mat::new(&y, O), Mat::new(&w, I), Onto::Zero))
        }
        "dw" => {
            let mut dw = numbers::<E::Acc>(O * I);
            timed(calls, || {
                gemm(cpu, &mut dw[..], Mat::new(&y, O).t(), Mat::new(&x, I), Onto::Itself)
            })
        }
        _ => Err(USAGE.into()),
    }
}

/// Seconds of each of `calls` calls, after one that does not count.
fn timed(calls: usize, mut call: impl FnMut()) -> Result<Value> {
    call();
    let seconds: Vec<f64> = (0..calls)
        .map(|_| {
            let start = Instant::now();
            call();
            start.elapsed().as_secs_f64()
        })
        .collect();
    Ok(json!({ "seconds": seconds }))
}

/// Numbers between -1 and 1, the same in every run.
fn numbers<E: Element>(len: usize) -> Vec<E> {
    let fraction = |i: usize| (i as f64 * 0.618_033_988_749_895).fract();
    (0..len).map(|i| E::from_acc(E::Acc::from_f64(2.0 * fraction(i) - 1.0))).collect()
}
