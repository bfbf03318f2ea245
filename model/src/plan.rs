//! Work space of the ops, known before any runs.

use engine::cpu::gemm;
use engine::ops::attention::{self, Heads};
use engine::ops::loss;
use engine::{Device, Dims, Element};

/// Bytes that ops need besides their arguments, for forward and backward over `N` tokens in
/// sequences of `T`: packed factors, and one task's blocks for each thread.
pub fn workspace<E: Element>(dev: &Device, d: &Dims, N: usize, T: usize) -> u64 {
    let chunk = loss::chunk_rows(N, d.V);
    // (inner dimension, columns) of every product of a step: forward, dx and dW of each linear.
    let inputs = [d.C, d.attn(), d.C, d.F];
    let outputs = [d.qkv(), d.C, 2 * d.F, d.C];
    let layers = inputs.into_iter().zip(outputs).flat_map(|(I, O)| [(I, O), (O, I), (N, I)]);
    let head = [(d.C, d.V), (d.V, d.C), (chunk, d.C)];
    let packed = layers.chain(head).map(|(K, cols)| gemm::shared_len(K, cols)).max();
    let task = gemm::task_len().max(attention::task_len(Heads { H: d.H, G: d.G, D: d.D }, T));
    let elements = match dev {
        Device::Cpu(cpu) => packed.unwrap_or(0) + cpu.threads() * task,
    };
    (elements * size_of::<E::Acc>()) as u64
}
