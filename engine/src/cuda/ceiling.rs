//! What a GPU can do at best: the denominators of the shares that a run prints.

use super::product::{Onto, Product};
use super::{Cuda, Rows, storage};
use crate::buf::Buf;
use crate::device::Device;
use crate::element::{Dtype, Element};
use std::time::{Duration, Instant};

/// Rounds of a measurement, at least; the best counts.
const ROUNDS: usize = 8;
/// How long a GPU is kept busy by a measurement, at least: an idle one takes a while to reach its
/// clock.
const BUSY: Duration = Duration::from_millis(200);
/// Bytes of a copy: far beyond the largest level 2 cache (126 MiB).
const COPY: u64 = 1 << 29;

/// TFLOP/s of dense matrix products of bf16 with sums in f32, by a part of the GPU's name, from
/// NVIDIA's data sheets. The first match counts.
const DATA_SHEETS: [(&str, f64); 6] = [
    ("H100 PCIe", 756.0),
    ("H100 NVL", 835.0),
    ("H200 NVL", 835.0),
    ("H100", 989.4),
    ("H200", 989.4),
    ("A100", 312.0),
];

/// FLOP/s of matrix products that the maker states; `None` for f32 and for GPUs that are not listed.
pub fn stated_flops<E: Element>(cuda: &Cuda) -> Option<f64> {
    stated(&cuda.describe()).filter(|_| E::DTYPE == Dtype::Bf16)
}

/// FLOP/s in bf16 of the GPU that is described. Nothing is stated of a part of a GPU (MIG).
fn stated(description: &str) -> Option<f64> {
    let listed = DATA_SHEETS.iter().find(|(part, _)| description.contains(part));
    listed.filter(|_| !description.contains(" MIG ")).map(|(_, tera)| tera * 1e12)
}

/// FLOP/s that a large matrix product in storage type `E` reaches here, by whatever multiplies; NaN
/// after a failure.
pub fn product_flops<E: Element>(cuda: &Cuda) -> f64 {
    let Some(cuda) = &cuda.aside() else { return f64::NAN };
    let n = if cuda.is_emulated() { 128 } else { side(room(cuda), size_of::<E>() as u64) };
    let dev = Device::Cuda(cuda.clone());
    let [mut c, a, b] = [(); 3].map(|()| Buf::<E>::zeros(&dev, n * n));
    let product = Product::forward(n, n, n);
    let (c, a, b) = (c.view_mut().gpu(), a.view().gpu(), b.view().gpu());
    let [room] = cuda.workspace([product.room(cuda.target(), storage::<E>())]);
    let seconds = best(cuda, || product.narrow(cuda, c, a, b, Onto::Zero, room.cast()));
    2.0 * (n as f64).powi(3) / seconds
}

/// Bytes/s, read and written, of a copy within the GPU's memory; NaN after a failure.
pub fn memory_bandwidth(cuda: &Cuda) -> f64 {
    let Some(cuda) = &cuda.aside() else { return f64::NAN };
    let bytes = if cuda.is_emulated() { 1 << 12 } else { copied(room(cuda)) as usize };
    let dev = Device::Cuda(cuda.clone());
    let [mut to, from] = [(); 2].map(|()| Buf::<f32>::zeros(&dev, bytes / 4));
    let [dst, src] = [to.view_mut().gpu().cast_const(), from.view().gpu()];
    let [dst, src] = [dst, src].map(|at| at.addr() as u64);
    let rows = Rows { dst, dst_stride: bytes, src, src_stride: bytes, width: bytes, rows: 1 };
    2.0 * bytes as f64 / best(cuda, || cuda.copy_rows(rows))
}

/// Bytes that a measurement may take: it runs beside a training run, whose memory it must not take.
fn room(cuda: &Cuda) -> u64 {
    cuda.free_bytes().unwrap_or(0) / 2
}

/// Sides of the square matrices of a product, three of which fit into `room`; at least 512.
fn side(room: u64, bytes: u64) -> usize {
    let fits = |&n: &u64| 3 * n * n * bytes <= room;
    [4096, 2048, 1024].into_iter().find(fits).unwrap_or(512) as usize
}

/// Bytes to copy so that both sides fit into `room`; at least 1 MiB.
fn copied(room: u64) -> u64 {
    (room / 2).clamp(1 << 20, COPY) & !0xff
}

/// Seconds of the fastest round; NaN after a failure.
fn best(cuda: &Cuda, work: impl Fn()) -> f64 {
    let round = || {
        let begin = cuda.attempt(|driver| driver.record())?;
        work();
        let ms = cuda.attempt(|driver| {
            let end = driver.record()?;
            driver.sync()?;
            driver.elapsed_ms(&[begin, end])
        })?;
        Some(f64::from(ms[1]) * 1e-3)
    };
    let (busy, start) = (if cuda.is_emulated() { Duration::ZERO } else { BUSY }, Instant::now());
    let (mut fastest, mut rounds) = (f64::NAN, 0);
    while rounds < ROUNDS || start.elapsed() < busy {
        let Some(seconds) = round() else { return f64::NAN };
        fastest = fastest.min(seconds);
        rounds += 1;
    }
    fastest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makers_figures_are_of_whole_gpus() {
        assert_eq!(stated("cuda 0: NVIDIA H100 80GB HBM3, compute"), Some(989.4e12));
        assert_eq!(stated("cuda 0: NVIDIA H100 PCIe, compute"), Some(756e12));
        assert_eq!(stated("cuda 0: NVIDIA H200 NVL, compute"), Some(835e12));
        assert_eq!(stated("cuda 0: NVIDIA H100 80GB HBM3 MIG 1g.10gb, compute"), None);
        assert_eq!(stated("cuda 0: NVIDIA GeForce RTX 4090, compute"), None);
    }

    #[test]
    fn measurements_take_half_of_what_is_free() {
        assert_eq!((side(1 << 40, 4), side(100 << 20, 2), side(1 << 20, 2)), (4096, 4096, 512));
        assert_eq!(side((100 << 20) - 1, 4), 2048);
        assert_eq!((copied(1 << 40), copied(1 << 28), copied(0)), (1 << 29, 1 << 27, 1 << 20));
        assert_eq!(copied((1 << 28) + 998) % 256, 0);
    }
}
