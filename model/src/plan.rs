//! Work space of the ops, known before any runs.

use crate::decode::CHUNK;
use crate::params::Slots;
use engine::cpu::gemm;
use engine::ops::attention::{self, Heads};
use engine::ops::loss;
use engine::{Device, Dims, Element, Segments, Table, cuda};

/// Bytes that ops need besides their arguments, for forward and backward over `N` tokens in
/// sequences of `T`: on the CPU packed factors, and one task's blocks for each thread; on a GPU the
/// most that an op wants.
pub fn workspace<E: Element>(
    dev: &Device,
    d: &Dims,
    (table, slots): (&Table, &Slots),
    N: usize,
    T: usize,
) -> u64 {
    let (projections, trained) = (slots.blocks[0].projections(), table.trained());
    let cpu = match dev {
        Device::Cpu(cpu) => cpu,
        Device::Cuda(cuda) => {
            let (linears, decoded) = (projections.map(|p| [p.I, p.O]), CHUNK.min(T));
            let adapters = projections
                .into_iter()
                .flat_map(|p| p.adapters.iter().map(|adapter| [p.I, adapter.r, adapter.O, p.O]));
            let (adapters, parameters) =
                (adapters.collect::<Vec<_>>(), [trained.len(), trained.rows().len()]);
            let layers = (&linears[..], &adapters[..]);
            return cuda::plan::workspace::<E>(cuda, d, layers, N, decoded, parameters);
        }
    };
    // Every product of a step.
    let head = slots.head.products(loss::chunk_rows::<E>(dev, N, d.V));
    let products = projections.into_iter().flat_map(|p| p.products(N)).chain(head);
    let (heads, segments) = (Heads { H: d.H, G: d.G, D: d.D }, &Segments::equal(N / T, T));
    let packed = products.map(|[M, K, cols]| gemm::shared_len::<E>(cpu, M, K, cols)).max();
    let shared = packed.unwrap_or(0).max(attention::shared_len(heads, segments));
    let task = gemm::task_len().max(attention::task_len::<E>(cpu, heads, segments));
    ((shared + cpu.threads() * task) * size_of::<E::Acc>()) as u64
}
