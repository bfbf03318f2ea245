//! Our side of `compare.py` and `gpu_check.py`: measures what it is asked for on stdin, a line a
//! request, and answers with a line of JSON. Between requests it waits and holds no buffers, so that
//! two workers can take turns, each alone in memory.
//!
//! ```text
//! peer step SIZE DTYPE         "STEPS": that many training steps
//! peer ops                     "attention DTYPE fwd|bwd|both T H D CALLS": causal attention
//!                              "gemm DTYPE fwd|dx|dw N I O CALLS": one product of a linear layer
//!                              "memory OP DTYPE N C CALLS": one pass over memory, see `pass`
//! peer open                    seconds until the device is open, and until its first kernel is done
//! peer config SIZE             what a size is, as a config.json
//! peer export SIZE DIR         the same with the weights that steps start from
//! ```
//!
//! `--device=cuda` and `--device=cuda-emulated`, in front, compute there, by the GPU's clock.

#[path = "../common/device.rs"]
mod device;
#[path = "../common/step.rs"]
mod step;

use device::{Clock, Inputs};
use engine::ceiling::product_flops;
use engine::ops::attention::{self, Heads};
use engine::ops::{adamw, linear, rmsnorm, rope, swiglu};
use engine::{Buf, Device, Dtype, Element, Init, Segments, Table, bf16};
use handgrad::model::hf;
use handgrad::train::config::{DeviceChoice, Gemm, LogLevel};
use handgrad::train::memory::{peak_bytes, resident_bytes};
use handgrad::train::progress::init_logging;
use handgrad::{engine, train};
use serde_json::{Value, json};
use std::io::BufRead;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;
use step::{GPU_SIZES, SIZES, Size, Skewed, Training};
use train::Outcome;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const USAGE: &str = "usage: peer [--device=cpu|cuda|cuda-emulated] step \
                     S15|S42|S110|Long|G110|G1B|Tiny f32|bf16, or peer ops, peer open, \
                     peer config SIZE, or peer export SIZE DIR; benches/peers/compare.py does it";

fn main() -> ExitCode {
    train::main_exit(start().map(|()| Outcome::Done))
}

fn start() -> Result<()> {
    init_logging(LogLevel::Info)?;
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let begin = Instant::now();
    let (wanted, args) = match args[..] {
        ["--device=cuda", ref rest @ ..] => (DeviceChoice::Cuda, rest),
        ["--device=cuda-emulated", ref rest @ ..] => (DeviceChoice::CudaEmulated, rest),
        ["--device=cpu", ref rest @ ..] | ref rest => (DeviceChoice::Cpu, rest),
    };
    let dev = &train::device::open(wanted, None, Gemm::Rust)?;
    match *args {
        ["step", size, "f32"] => serve_steps::<f32>(dev, &named(size)?),
        ["step", size, "bf16"] => serve_steps::<bf16>(dev, &named(size)?),
        ["ops"] => {
            let inputs = Inputs::new(dev);
            serve(dev, json!({}), |request| answer(&inputs, request))
        }
        ["open"] => opened(dev, begin),
        ["config", size] => Ok(train::print(&hf::config_json(&named(size)?.config(), Dtype::F32))?),
        ["export", size, dir] => export(dev, &named(size)?, Path::new(dir)),
        _ => Err(USAGE.into()),
    }
}

fn answer(inputs: &Inputs, request: &[&str]) -> Result<Value> {
    match request {
        ["attention", "f32", part, sizes @ ..] => {
            attention::<f32>(inputs, part, numbers_of(sizes)?)
        }
        ["attention", "bf16", part, sizes @ ..] => {
            attention::<bf16>(inputs, part, numbers_of(sizes)?)
        }
        ["gemm", "f32", product, sizes @ ..] => {
            product_of::<f32>(inputs, product, numbers_of(sizes)?)
        }
        ["gemm", "bf16", product, sizes @ ..] => {
            product_of::<bf16>(inputs, product, numbers_of(sizes)?)
        }
        ["memory", op, "f32", sizes @ ..] => pass::<f32>(inputs, op, numbers_of(sizes)?),
        ["memory", op, "bf16", sizes @ ..] => pass::<bf16>(inputs, op, numbers_of(sizes)?),
        _ => Err(USAGE.into()),
    }
}

/// Seconds since `begin`, when the device is open and when it has done a first kernel.
fn opened(dev: &Device, begin: Instant) -> Result<()> {
    let open = begin.elapsed().as_secs_f64();
    let (mut a, gu) = (Buf::<f32>::zeros(dev, 64), Buf::<f32>::zeros(dev, 128));
    swiglu::forward(dev, a.view_mut(), gu.view(), 64);
    dev.sync()?;
    let kernel = begin.elapsed().as_secs_f64();
    let found = json!({ "device": dev.describe(), "open": open, "first_kernel": kernel });
    Ok(train::print(&format!("{found}\n"))?)
}

fn named(name: &str) -> Result<Size> {
    SIZES.into_iter().chain(GPU_SIZES).find(|size| size.name == name).ok_or_else(|| USAGE.into())
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
        // A GPU's peaks are its vendor's product and copy, which the other side measures.
        let peaks = match dev {
            Device::Cpu(_) => {
                json!({ "f32": product_flops::<f32>(dev), "bf16": product_flops::<bf16>(dev) })
            }
            Device::Cuda(_) => Value::Null,
        };
        let mut answer = answer(&line.split_whitespace().collect::<Vec<_>>())?;
        dev.sync()?;
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
        let bytes = match dev {
            Device::Cpu(_) => peak_bytes().saturating_sub(base),
            // Nothing is given back before the end, so what is held is the peak.
            Device::Cuda(cuda) => {
                let (reserved, outside) = cuda.held_bytes();
                reserved + outside
            }
        };
        Ok(json!({ "seconds": seconds, "losses": losses, "peak_bytes": bytes }))
    })
}

fn export(dev: &Device, size: &Size, dir: &Path) -> Result<()> {
    Ok(size.trainer::<f32>(dev, 1).export(dir, None)?)
}

/// Causal attention over one sequence: forward, backward, or one after the other.
fn attention<E: Element>(
    inputs: &Inputs,
    part: &str,
    [T, H, D, calls]: [usize; 4],
) -> Result<Value> {
    let (dev, heads) = (inputs.dev(), Heads { H, G: H, D });
    let segments = &Segments::equal(1, T);
    let (qkv, d_o) = (inputs.numbers::<E>(T * heads.qkv()), inputs.numbers::<E>(T * heads.out()));
    let (mut o, mut dqkv) = (Buf::<E>::zeros(dev, d_o.len()), Buf::<E>::zeros(dev, qkv.len()));
    let mut lse = Buf::<E::Acc>::zeros(dev, T * H);
    let forward = |dev: &Device, o: &mut Buf<E>, lse: &mut Buf<E::Acc>| {
        attention::forward(dev, o.view_mut(), lse.view_mut(), qkv.view(), segments, heads);
    };
    let mut backward = |dev: &Device, o: &Buf<E>, lse: &Buf<E::Acc>| {
        let (dqkv, o, lse) = (dqkv.view_mut(), o.view(), lse.view());
        attention::backward(dev, dqkv, d_o.view(), qkv.view(), o, lse, segments, heads);
    };
    match part {
        "fwd" => timed(dev, calls, |dev| forward(dev, &mut o, &mut lse)),
        "bwd" => {
            forward(dev, &mut o, &mut lse);
            timed(dev, calls, |dev| backward(dev, &o, &lse))
        }
        "both" => timed(dev, calls, |dev| {
            forward(dev, &mut o, &mut lse);
            backward(dev, &o, &lse);
        }),
        _ => Err(USAGE.into()),
    }
}

/// y = x W^T, dx = dy W or dw += dy^T x, for x of N rows of I and W of O rows of I.
fn product_of<E: Element>(
    inputs: &Inputs,
    product: &str,
    [N, I, O, calls]: [usize; 4],
) -> Result<Value> {
    let dev = inputs.dev();
    let [mut x, mut y, w] = [N * I, N * O, O * I].map(|len| inputs.numbers::<E>(len));
    match product {
        "fwd" => {
            timed(dev, calls, |dev| linear::forward(dev, y.view_mut(), x.view(), w.view(), I, ""))
        }
        "dx" => timed(dev, calls, |dev| {
            linear::backward_input(dev, x.view_mut(), y.view(), w.view(), I, "")
        }),
        "dw" => {
            let mut dw = Buf::<E::Acc>::zeros(dev, O * I);
            timed(dev, calls, |dev| {
                linear::backward_weight(dev, dw.view_mut(), y.view(), x.view(), I, "")
            })
        }
        _ => Err(USAGE.into()),
    }
}

/// One pass over N rows of C: a direction of RMSNorm or of SwiGLU, RoPE of heads of 64, or AdamW over
/// N * C parameters.
fn pass<E: Element<Acc = f32>>(
    inputs: &Inputs,
    op: &str,
    [N, C, calls]: [usize; 3],
) -> Result<Value> {
    let dev = inputs.dev();
    let [mut x, mut y] = [(); 2].map(|()| inputs.numbers::<E>(N * C));
    match op {
        "rmsnorm_forward" => {
            let (w, mut r) = (inputs.numbers::<E>(C), Buf::<f32>::zeros(dev, N));
            timed(dev, calls, |dev| {
                rmsnorm::forward(dev, y.view_mut(), r.view_mut(), x.view(), w.view(), 1e-5)
            })
        }
        "rmsnorm_backward" => {
            let (w, dy) = (inputs.numbers::<E>(C), inputs.numbers::<E>(N * C));
            let (r, mut dw) = (inputs.numbers(N), Buf::<f32>::zeros(dev, C));
            timed(dev, calls, |dev| {
                let (dx, dw) = (y.view_mut(), dw.view_mut());
                rmsnorm::backward(dev, dx, Some(dw), dy.view(), x.view(), w.view(), r.view())
            })
        }
        "swiglu_forward" => {
            let gu = inputs.numbers::<E>(2 * N * C);
            timed(dev, calls, |dev| swiglu::forward(dev, y.view_mut(), gu.view(), C))
        }
        "swiglu_backward" => {
            let mut gu = inputs.numbers::<E>(2 * N * C);
            timed(dev, calls, |dev| swiglu::backward_inplace(dev, gu.view_mut(), y.view(), C))
        }
        "rope" => {
            let table = rope::table::<f32>(dev, N, &rope::frequencies(64, 1e4), 1.0);
            let segments = &Segments::equal(1, N);
            timed(dev, calls, |dev| {
                rope::forward_inplace(dev, x.view_mut(), table.view(), segments, C, C / 64, 64)
            })
        }
        "adamw" => adamw_pass(inputs, &mut y, calls),
        _ => Err(USAGE.into()),
    }
}

fn adamw_pass<E: Element<Acc = f32>>(
    inputs: &Inputs,
    copy: &mut Buf<E>,
    calls: usize,
) -> Result<Value> {
    let (dev, len) = (inputs.dev(), copy.len());
    let [mut w, mut m, g] = [(); 3].map(|()| inputs.numbers::<f32>(len));
    let (mut v, sum) = (Buf::<f32>::zeros(dev, len), Buf::of(dev, &[4.0]));
    let decays = [(Table::default().push("w", &[len, 1], Init::Ones), 0.1)];
    let step = adamw::Step { lr: 1e-4, beta1: 0.9, beta2: 0.95, eps: 1e-8, max_norm: 1.0, t: 9 };
    timed(dev, calls, |dev| {
        let (w, m, v) = (w.view_mut(), m.view_mut(), v.view_mut());
        let copy = Some(copy.view_mut());
        adamw::step::<E>(dev, w, copy, m, v, g.view(), sum.view(), &decays, step)
    })
}

/// Seconds of each of `calls` calls after one that does not count, by the device's own clock, and
/// the least bytes that a call moves.
fn timed(dev: &Device, calls: usize, mut call: impl FnMut(&Device)) -> Result<Value> {
    let recording = dev.recording();
    call(&recording);
    let bytes: u64 = recording.take_calls().iter().map(|op| op.bytes).sum();
    dev.sync()?;
    let mut clock = Clock::new(dev);
    let seconds = (0..calls).map(|_| clock.seconds(&mut call));
    let seconds = seconds.collect::<std::result::Result<Vec<f64>, _>>()?;
    Ok(json!({ "seconds": seconds, "bytes": bytes }))
}
