//! What this machine can do at best, measured: the denominators of every share that benches and
//! the training loop print. Best of several short rounds, because a round that other programs
//! disturb says nothing about the machine.
//!
//! ```
//! let cpu = engine::Cpu::new(1).unwrap();
//! println!("{:.1} GB/s are read", engine::cpu::ceiling::read_bandwidth(&cpu) / 1e9);
//! ```

use super::Cpu;
use super::simd::{Factors, ItemKernel, Kernel, MAX_LANES, Vector, prefetch_stream};
use super::tiles::Tiles;
use crate::buf::Buf;
use crate::device::Device;
use crate::element::{Dtype, Element, Real};
use half::bf16;
use rayon::prelude::*;
use std::hint::black_box;
use std::time::Instant;

/// Rounds of a measurement of memory.
const ROUNDS: usize = 12;
/// Rounds of a measurement of arithmetic: a run waits for it before its first step.
const SHORT_ROUNDS: usize = 32;
/// Multiply-adds in a chain per round: half a millisecond.
const LINKS: usize = 1 << 17;
/// Elements in a task of the update.
const TASK: usize = 1 << 16;

/// FLOP/s of f32 multiply-adds on all threads, with every operand in a register. Takes about
/// 15 ms.
pub fn fma_flops(cpu: &Cpu) -> f64 {
    best_of_rounds(cpu, || f32::dispatch(cpu.isa(), Chains))
}

/// FLOP/s of dot products of bf16 pairs with sums in f32, as [`fma_flops`]; `None` where the
/// instruction set has none.
pub fn dot_flops(cpu: &Cpu) -> Option<f64> {
    let isa = cpu.isa();
    let work = || {
        let mut flop = 0.0;
        f32::dispatch_dots(isa, DotChains { flop: &mut flop });
        flop
    };
    isa.dots().then(|| best_of_rounds(cpu, work))
}

/// FLOP/s that a matrix product in storage type `E` could reach: [`dot_flops`] for bf16 where
/// there are any, otherwise [`fma_flops`].
pub fn product_flops<E: Element>(cpu: &Cpu) -> f64 {
    let dots = if E::DTYPE == Dtype::Bf16 { dot_flops(cpu) } else { None };
    dots.unwrap_or_else(|| fma_flops(cpu))
}

/// FLOP/s of all threads at `work`, which returns its FLOP. Each thread is timed by itself: a round
/// is short, and what it takes to wake the threads is not theirs.
fn best_of_rounds(cpu: &Cpu, work: impl Fn() -> f64 + Sync) -> f64 {
    let round = || {
        let rates = cpu.pool.broadcast(|_| {
            let start = Instant::now();
            work() / start.elapsed().as_secs_f64()
        });
        rates.into_iter().sum::<f64>()
    };
    (0..SHORT_ROUNDS).map(|_| round()).fold(0.0, f64::max)
}

/// Chains of multiply-adds: enough to hide their latency (two units, up to 5 cycles), few enough
/// that they stay in registers. With 24, AVX-512 kept them in memory and ran at half its pace.
const CHAINS: usize = 12;

/// Independent chains of multiply-adds. Returns FLOP.
struct Chains;

impl Kernel<f32> for Chains {
    type Out = f64;
    #[inline(always)]
    fn run<V: Vector<Scalar = f32>>(self) -> f64 {
        // x = x/2 + 1/2 stays at 1, far from denormals and infinities.
        let half = V::splat(black_box(0.5));
        let mut x = [V::splat(black_box(1.0)); CHAINS];
        for _ in 0..LINKS {
            for i in 0..CHAINS {
                x[i] = x[i].mul_add(half, half);
            }
        }
        black_box(x.map(V::sum));
        (2 * CHAINS * V::LANES * LINKS) as f64
    }
}

/// The same for items of bf16. Writes FLOP.
struct DotChains<'a> {
    flop: &'a mut f64,
}

impl ItemKernel<f32> for DotChains<'_> {
    #[inline(always)]
    fn run<V: Vector<Scalar = f32>, F: Factors<V>>(self) {
        const N: usize = 24;
        // A quarter, for it takes two cycles each, and there are twice as many chains.
        let links = LINKS / 4;
        // x = x + 1/4 - 1/4 stays at 1.
        let half = bf16::from_f32(black_box(0.5));
        let (a, b) = ([half; 2 * MAX_LANES], [[half, -half]; MAX_LANES]);
        let (a, b) = (F::of_row(&a), F::of_row(b.as_flattened()));
        let mut x = [V::splat(black_box(1.0)); N];
        for _ in 0..links {
            for i in 0..N {
                x[i] = a.mul_add(b, x[i]);
            }
        }
        black_box(x.map(V::sum));
        *self.flop = (2 * F::K * N * V::LANES * links) as f64;
    }
}

/// Bytes/s that all threads move in a = s * a + b over arrays beyond every cache, two read and one
/// written. It is written where it was read: a line that is only written is read as well, unless
/// the store goes around the caches, and that would be traffic which nobody counts. Takes about
/// 100 ms and 128 MiB, more where the cache is larger.
pub fn memory_bandwidth(cpu: &Cpu) -> f64 {
    let len = (4 * last_level_cache() / (2 * size_of::<f32>())).max(1 << 24);
    let dev = Device::Cpu(cpu.clone());
    let [mut a, mut b] = [(); 2].map(|()| Buf::<f32>::zeros(&dev, len));
    let [a, b] = [&mut a, &mut b].map(|buf| buf.view_mut().host());
    // Pages exist once they are written, near the thread that writes them.
    cpu.install(|| {
        a.par_chunks_mut(TASK).for_each(|a| a.fill(1.0));
        b.par_chunks_mut(TASK).for_each(|b| b.fill(0.5));
    });
    let mut round = || {
        let start = Instant::now();
        cpu.install(|| {
            a.par_chunks_mut(TASK)
                .zip(b.par_chunks(TASK))
                .for_each(|(a, b)| f32::dispatch(cpu.isa(), Update { a, b }))
        });
        (3 * len * size_of::<f32>()) as f64 / start.elapsed().as_secs_f64()
    };
    (0..ROUNDS / 2).map(|_| round()).fold(0.0, f64::max)
}

struct Update<'a> {
    a: &'a mut [f32],
    b: &'a [f32],
}

impl Kernel<f32> for Update<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = f32>>(self) {
        // a = a/2 + 1/2 stays at 1.
        let s = V::splat(black_box(0.5));
        let rows = self.a.chunks_exact_mut(V::LANES).zip(self.b.chunks_exact(V::LANES));
        for (a, b) in rows {
            f32::store(V::load(a).mul_add(s, V::load(b)), a);
        }
    }
}

/// Bytes/s that all threads read from one array beyond every cache: what decoding is bound by, which
/// reads each weight once a token and writes next to nothing. Takes about 100 ms and 128 MiB, more
/// where the cache is larger.
pub fn read_bandwidth(cpu: &Cpu) -> f64 {
    let len = (4 * last_level_cache() / size_of::<f32>()).max(1 << 25);
    let mut data = Buf::<f32>::zeros(&Device::Cpu(cpu.clone()), len);
    let data = data.view_mut().host();
    cpu.install(|| data.par_chunks_mut(TASK).for_each(|data| data.fill(1.0)));
    let mut round = || {
        let start = Instant::now();
        cpu.for_each_tile_in_stretches(Tiles::new(&mut *data, TASK, 1, TASK), |mut tile| {
            black_box(f32::dispatch(cpu.isa(), Read(tile.row_mut(0))));
        });
        (len * size_of::<f32>()) as f64 / start.elapsed().as_secs_f64()
    };
    (0..ROUNDS).map(|_| round()).fold(0.0, f64::max)
}

struct Read<'a>(&'a [f32]);

impl Kernel<f32> for Read<'_> {
    type Out = f32;
    #[inline(always)]
    fn run<V: Vector<Scalar = f32>>(self) -> f32 {
        let mut sums = [V::splat(0.0); CHAINS];
        for data in self.0.chunks_exact(CHAINS * V::LANES) {
            for (data, sum) in data.chunks_exact(V::LANES).zip(&mut sums) {
                prefetch_stream(data);
                *sum = *sum + V::load(data);
            }
        }
        sums.into_iter().fold(V::splat(0.0), |sum, x| sum + x).sum()
    }
}

/// Bytes of the last-level cache, as Linux tells; 32 MiB where nobody tells.
fn last_level_cache() -> usize {
    let told = std::fs::read_to_string("/sys/devices/system/cpu/cpu0/cache/index3/size");
    let kib = told.ok().and_then(|told| told.trim().strip_suffix('K')?.parse::<usize>().ok());
    kib.unwrap_or(32 << 10) << 10
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;

    #[test]
    fn ceilings_are_plausible() {
        for isa in Isa::all_available() {
            let cpu = Cpu::with_isa(2, isa).unwrap();
            // From a hundred million to more than any two threads do.
            let flops = fma_flops(&cpu);
            assert!((1e8..1e12).contains(&flops), "{isa:?}: {flops:e} FLOP/s");
            let dots = dot_flops(&cpu);
            assert_eq!(dots.is_some(), isa.dots(), "{isa:?}");
            assert!(dots.is_none_or(|dots| (1e8..1e12).contains(&dots)), "{isa:?}: {dots:?}");
        }
        let cpu = Cpu::new(2).unwrap();
        for bytes in [memory_bandwidth(&cpu), read_bandwidth(&cpu)] {
            assert!((1e8..1e12).contains(&bytes), "{bytes:e} bytes/s");
        }
    }
}
