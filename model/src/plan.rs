//! Work space of the ops, known before any runs.

use crate::decode::CHUNK;
use engine::cpu::gemm;
use engine::ops::attention::{self, Heads};
use engine::ops::loss;
use engine::{Device, Dims, Element, Segments, Table, cuda};

/// Bytes that ops need besides their arguments, for forward and backward over `N` tokens in
/// sequences of `T`: on the CPU packed factors, and one task's blocks for each thread; on a GPU the
/// most that an op wants.
pub fn workspace<E: Element>(dev: &Device, d: &Dims, table: &Table, N: usize, T: usize) -> u64 {
    let chunk = loss::chunk_rows::<E>(dev, N, d.V);
    // (rows, inner dimension, columns) of every product of a step: forward, dx and dW of each
    // linear.
    let inputs = [d.C, d.attn(), d.C, d.F];
    let outputs = [d.qkv(), d.C, 2 * d.F, d.C];
    let layers =
        inputs.into_iter().zip(outputs).flat_map(|(I, O)| [(N, I, O), (N, O, I), (O, N, I)]);
    let head = [(chunk, d.C, d.V), (chunk, d.V, d.C), (d.V, chunk, d.C)];
    let cpu = match dev {
        Device::Cpu(cpu) => cpu,
        Device::Cuda(cuda) => {
            let (decoded, slots) = (CHUNK.min(T), table.rows().len());
            return cuda::plan::workspace::<E>(cuda, d, N, decoded, table.len(), slots);
        }
    };
    let products = layers.chain(head);
    let (heads, segments) = (Heads { H: d.H, G: d.G, D: d.D }, &Segments::equal(N / T, T));
    let packed = products.map(|(M, K, cols)| gemm::shared_len::<E>(cpu, M, K, cols)).max();
    let shared = packed.unwrap_or(0).max(attention::shared_len(heads, segments));
    let task = gemm::task_len().max(attention::task_len::<E>(cpu, heads, segments));
    ((shared + cpu.threads() * task) * size_of::<E::Acc>()) as u64
}
