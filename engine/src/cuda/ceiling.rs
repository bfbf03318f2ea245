//! What a GPU can do at best: the denominators of the shares that a run prints.

use super::product::{Onto, Product};
use super::{Cuda, Rows, storage};
use crate::buf::Buf;
use crate::device::Device;
use crate::element::{Dtype, Element};

/// Rounds of a measurement; the best counts.
const ROUNDS: usize = 8;

/// TFLOP/s of dense matrix products of bf16 with sums in f32, by a part of the GPU's name, from
/// NVIDIA's data sheets. The first match counts.
const DATA_SHEETS: [(&str, f64); 5] =
    [("H100 PCIe", 756.0), ("H100 NVL", 835.0), ("H100", 989.4), ("H200", 989.4), ("A100", 312.0)];

/// FLOP/s of matrix products that the maker states; `None` for f32 and for GPUs that are not listed.
pub fn stated_flops<E: Element>(cuda: &Cuda) -> Option<f64> {
    let name = cuda.describe();
    let listed = DATA_SHEETS.iter().find(|(part, _)| name.contains(part));
    listed.filter(|_| E::DTYPE == Dtype::Bf16).map(|(_, tera)| tera * 1e12)
}

/// FLOP/s that a large matrix product in storage type `E` reaches here, by whatever multiplies.
pub fn product_flops<E: Element>(cuda: &Cuda) -> f64 {
    let n = if cuda.is_emulated() { 128 } else { 4096 };
    let dev = Device::Cuda(cuda.clone());
    let [mut c, a, b] = [(); 3].map(|()| Buf::<E>::zeros(&dev, n * n));
    let product = Product::forward(n, n, n);
    let (c, a, b) = (c.view_mut().gpu(), a.view().gpu(), b.view().gpu());
    let seconds = best(cuda, || product.narrow(cuda, storage::<E>(), c, a, b, Onto::Zero));
    2.0 * (n as f64).powi(3) / seconds
}

/// Bytes/s, read and written, of a copy within the GPU's memory.
pub fn memory_bandwidth(cuda: &Cuda) -> f64 {
    let bytes = if cuda.is_emulated() { 1 << 12 } else { 1 << 28 };
    let dev = Device::Cuda(cuda.clone());
    let [mut to, from] = [(); 2].map(|()| Buf::<f32>::zeros(&dev, bytes / 4));
    let (dst, src) = (to.view_mut().gpu(), from.view().gpu());
    let rows = Rows { dst, dst_stride: bytes, src, src_stride: bytes, width: bytes, rows: 1 };
    2.0 * bytes as f64 / best(cuda, || cuda.copy_rows(rows))
}

/// Seconds of the fastest round; NaN after a failure.
fn best(cuda: &Cuda, work: impl Fn()) -> f64 {
    let round = || {
        let begin = cuda.attempt(|driver| driver.record())?;
        work();
        let ms = cuda.attempt(|driver| {
            let end = driver.record()?;
            driver.sync()?;
            driver.elapsed_ms(begin, end)
        })?;
        Some(f64::from(ms) * 1e-3)
    };
    (0..ROUNDS).filter_map(|_| round()).fold(f64::NAN, f64::min)
}
