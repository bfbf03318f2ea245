//! Work space that a training run needs, known before it begins.

use super::{Cuda, workspace_bytes};
use crate::dims::Dims;
use crate::element::Element;
use crate::ops::attention::Heads;
use crate::ops::{adamw, attention, embedding, linear, lora, loss, norm, rmsnorm};

/// Bytes of work space for steps over `N` tokens of a model whose blocks have `linears` (inputs and
/// outputs of each) and `adapters` (inputs, rank, outputs and columns of a row of y) and whose flat
/// arena of gradients has `len` elements in `slots` parameters, and for a decoder that takes in up to `decoded`
/// tokens at a time: that of the op that needs most.
pub fn workspace<E: Element>(
    cuda: &Cuda,
    d: &Dims,
    (linears, adapters): (&[[usize; 2]], &[[usize; 4]]),
    N: usize,
    decoded: usize,
    [len, slots]: [usize; 2],
) -> u64 {
    let target = cuda.target();
    let linears = linears.iter();
    let forward = |N, I, O| linear::cuda::forward_workspace::<E>(target, [N, I, O]);
    let backward = |N, I, O| linear::cuda::backward_workspace::<E>(target, [N, I, O]);
    let steps = linears.clone().flat_map(|&[I, O]| {
        let [dx, dw] = backward(N, I, O);
        [forward(N, I, O), dx, dw]
    });
    let decoding = linears.flat_map(|&[I, O]| (1..=decoded).map(move |n| forward(n, I, O)));
    let adapters = adapters.iter().flat_map(|&[I, r, O, stride]| {
        let [_, da] = linear::cuda::backward_workspace::<E>(target, [N, I, r]);
        let of = move |n| lora::cuda::workspace::<E>(target, [n, I, r, O], stride);
        (1..=decoded).chain([N]).map(of).chain([da])
    });
    let rows = loss::cuda::chunk_rows::<E>(cuda, N, d.V);
    let most = steps
        .chain(decoding)
        .chain(adapters)
        .chain([forward(1, d.C, d.V)])
        .map(|parts| workspace_bytes(&parts))
        .chain([
            workspace_bytes(&embedding::cuda::workspace(N)),
            workspace_bytes(&rmsnorm::cuda::workspace(N, d.C)),
            workspace_bytes(&attention::cuda::workspace(Heads { H: d.H, G: d.G, D: d.D }, N)),
            workspace_bytes(&loss::cuda::workspace::<E>(target, rows, N, d.C, d.V)),
            workspace_bytes(&norm::cuda::workspace(len)),
            workspace_bytes(&adamw::cuda::workspace(slots)),
        ])
        .max();
    most.unwrap_or(0) as u64
}
