//! Our side of `compare.py`: measures what it is asked for on stdin, a line a request, and answers
//! with a line of JSON. Between requests it waits, so that two workers can take turns.
//!
//! ```text
//! peer step SIZE DTYPE         "STEPS": that many training steps
//! peer attention               "DTYPE T H D CALLS": causal attention, forward and backward
//! peer gemm                    "DTYPE fwd|dx|dw|bwd N I O CALLS": one product of a linear layer, or
//!                              both of its backward, which is what a GPU is asked for
//! peer memory                  "OP DTYPE N C CALLS": one pass over memory, see `pass`
//! peer export SIZE DIR         the weights that steps start from, as a Hugging Face directory
//! ```
//!
//! `--device=cuda` and `--device=cuda-emulated`, in front, compute there, by the GPU's clock.

#[path = "../common/step.rs"]
mod step;

use engine::ceiling::product_flops;
use engine::cpu::gemm::{Mat, Onto, gemm};
use engine::ops::attention::{self, Heads};
use engine::ops::{adamw, linear, rmsnorm, rope, swiglu};
use engine::{Buf, Device, Element, Init, Real, Segments, Table, bf16};
use handgrad::train::memory::{peak_bytes, resident_bytes};
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
                     S15|S42|S110|Long|G110|G1B|Tiny f32|bf16, or peer attention, gemm, memory, or \
                     export SIZE DIR; benches/peers/compare.py does it";

fn main() -> ExitCode {
    train::main_exit(start().map(|()| Outcome::Done))
}

fn start() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (dev, args) = match args[..] {
        ["--device=cuda", ref rest @ ..] => (Device::cuda(0)?, rest),
        ["--device=cuda-emulated", ref rest @ ..] => (Device::cuda_emulated()?, rest),
        ["--device=cpu", ref rest @ ..] | ref rest => (Device::cpu(0)?, rest),
    };
    let dev = &dev;
    match *args {
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
        ["memory"] => serve(dev, json!({}), |request| match request {
            [op, "f32", sizes @ ..] => pass::<f32>(dev, op, numbers_of(sizes)?),
            [op, "bf16", sizes @ ..] => pass::<bf16>(dev, op, numbers_of(sizes)?),
            _ => Err(USAGE.into()),
        }),
        ["export", size, dir] => export(dev, &named(size)?, Path::new(dir)),
        _ => Err(USAGE.into()),
    }
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
    let (base, used) = (resident_bytes(), used_bytes(dev)?);
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
            Device::Cuda(_) => used_bytes(dev)? - used,
        };
        Ok(json!({ "seconds": seconds, "losses": losses, "peak_bytes": bytes }))
    })
}

fn export(dev: &Device, size: &Size, dir: &Path) -> Result<()> {
    Ok(size.trainer::<f32>(dev, 1).export(dir, None)?)
}

/// Bytes of a GPU that are in use, counted from an arbitrary zero. Ours takes no buffer back before
/// it ends, so what is in use is the peak.
fn used_bytes(dev: &Device) -> Result<u64> {
    match dev {
        Device::Cpu(_) => Ok(0),
        Device::Cuda(cuda) => Ok(u64::MAX - cuda.free_bytes()?),
    }
}

fn attention<E: Element>(dev: &Device, [T, H, D, calls]: [usize; 4]) -> Result<Value> {
    let (heads, segments) = (Heads { H, G: H, D }, &Segments::equal(1, T));
    let (qkv, d_o) = (numbers::<E>(dev, T * heads.qkv()), numbers::<E>(dev, T * heads.out()));
    let (mut o, mut dqkv) = (numbers::<E>(dev, d_o.len()), numbers::<E>(dev, qkv.len()));
    let mut lse = numbers::<E::Acc>(dev, T * H);
    timed(dev, calls, |dev| {
        attention::forward(dev, o.view_mut(), lse.view_mut(), qkv.view(), segments, heads);
        let (o, lse) = (o.view(), lse.view());
        attention::backward(dev, dqkv.view_mut(), d_o.view(), qkv.view(), o, lse, segments, heads)
    })
}

/// y = x W^T, dx = dy W or dw += dy^T x, for x of N rows of I and W of O rows of I; or both of the
/// latter.
fn product_of<E: Element>(
    dev: &Device,
    product: &str,
    [N, I, O, calls]: [usize; 4],
) -> Result<Value> {
    let [mut x, mut y, w] = [N * I, N * O, O * I].map(|len| numbers::<E>(dev, len));
    match (product, dev) {
        ("fwd", _) => {
            timed(dev, calls, |dev| linear::forward(dev, y.view_mut(), x.view(), w.view(), I))
        }
        ("bwd", _) => {
            let (mut dx, mut dw) = (numbers::<E>(dev, N * I), numbers::<E::Acc>(dev, O * I));
            timed(dev, calls, |dev| {
                let (dx, dw) = (dx.view_mut(), dw.view_mut());
                linear::backward(dev, dx, dw, y.view(), x.view(), w.view(), I)
            })
        }
        ("dx", Device::Cpu(cpu)) => timed(dev, calls, |_| {
            let (y, w) = (y.view().host(), w.view().host());
            gemm(cpu, x.view_mut().host(), Mat::new(y, O), Mat::new(w, I), Onto::Zero)
        }),
        ("dw", Device::Cpu(cpu)) => {
            let mut dw = numbers::<E::Acc>(dev, O * I);
            timed(dev, calls, |_| {
                let (y, x) = (y.view().host(), x.view().host());
                gemm(cpu, dw.view_mut().host(), Mat::new(y, O).t(), Mat::new(x, I), Onto::Itself)
            })
        }
        _ => Err(USAGE.into()),
    }
}

/// One pass over N rows of C: a direction of RMSNorm or of SwiGLU, RoPE of heads of 64, or AdamW over
/// N * C parameters.
fn pass<E: Element<Acc = f32>>(dev: &Device, op: &str, [N, C, calls]: [usize; 3]) -> Result<Value> {
    let [mut x, mut y] = [(); 2].map(|()| numbers::<E>(dev, N * C));
    match op {
        "rmsnorm_forward" => {
            let (w, mut r) = (numbers::<E>(dev, C), numbers::<f32>(dev, N));
            timed(dev, calls, |dev| {
                rmsnorm::forward(dev, y.view_mut(), r.view_mut(), x.view(), w.view(), 1e-5)
            })
        }
        "rmsnorm_backward" => {
            let (w, r, dy) = (numbers::<E>(dev, C), numbers(dev, N), numbers::<E>(dev, N * C));
            let mut dw = numbers::<f32>(dev, C);
            timed(dev, calls, |dev| {
                let (dx, dw) = (y.view_mut(), dw.view_mut());
                rmsnorm::backward(dev, dx, dw, dy.view(), x.view(), w.view(), r.view())
            })
        }
        "swiglu_forward" => {
            let gu = numbers::<E>(dev, 2 * N * C);
            timed(dev, calls, |dev| swiglu::forward(dev, y.view_mut(), gu.view(), C))
        }
        "swiglu_backward" => {
            let mut gu = numbers::<E>(dev, 2 * N * C);
            timed(dev, calls, |dev| swiglu::backward_inplace(dev, gu.view_mut(), y.view(), C))
        }
        "rope" => {
            let (table, segments) = (rope::table::<f32>(dev, N, 64, 1e4), &Segments::equal(1, N));
            timed(dev, calls, |dev| {
                rope::forward_inplace(dev, x.view_mut(), table.view(), segments, C, C / 64, 64)
            })
        }
        "adamw" => adamw_pass(dev, &mut y, calls),
        _ => Err(USAGE.into()),
    }
}

fn adamw_pass<E: Element<Acc = f32>>(
    dev: &Device,
    copy: &mut Buf<E>,
    calls: usize,
) -> Result<Value> {
    let len = copy.len();
    let [mut w, mut m, g] = [(); 3].map(|()| numbers::<f32>(dev, len));
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
    let mut seconds = Vec::new();
    // Beyond any L2 cache, so that no call finds its inputs there.
    let gpu = matches!(dev, Device::Cuda(cuda) if !cuda.is_emulated());
    let mut flush = Buf::<f32>::zeros(dev, if gpu { 1 << 26 } else { 1 });
    for _ in 0..calls {
        flush.fill_zero(dev);
        let start = Instant::now();
        match dev {
            Device::Cpu(_) => {
                call(dev);
                seconds.push(start.elapsed().as_secs_f64());
            }
            Device::Cuda(_) => {
                call(&recording);
                let ops = recording.take_calls();
                seconds.push(ops.iter().map(|op| (op.end - op.begin).as_secs_f64()).sum());
            }
        }
    }
    Ok(json!({ "seconds": seconds, "bytes": bytes }))
}

/// Numbers between -1 and 1, the same in every run.
fn numbers<E: Element>(dev: &Device, len: usize) -> Buf<E> {
    let fraction = |i: usize| (i as f64 * 0.618_033_988_749_895).fract();
    let number = |i: usize| E::from_acc(E::Acc::from_f64(2.0 * fraction(i) - 1.0));
    Buf::of(dev, &(0..len).map(number).collect::<Vec<E>>())
}
