//! Work space that a training step needs, known before it runs.

use super::{Target, workspace_bytes};
use crate::dims::Dims;
use crate::element::Element;
use crate::ops::attention::Heads;
use crate::ops::{adamw, attention, embedding, linear, loss, norm, rmsnorm};

/// Bytes of work space for steps over `N` tokens of a model with a flat arena of `len` elements in
/// `slots` parameters: that of the op that needs most.
pub fn workspace<E: Element>(target: Target, d: &Dims, N: usize, len: usize, slots: usize) -> u64 {
    let inputs = [d.C, d.attn(), d.C, d.F];
    let outputs = [d.qkv(), d.C, 2 * d.F, d.C];
    let linears = inputs.into_iter().zip(outputs);
    let most = linears
        .map(|(I, O)| workspace_bytes(&linear::cuda::workspace::<E>(target, [N, I, O])))
        .chain([
            workspace_bytes(&embedding::cuda::workspace(N)),
            workspace_bytes(&rmsnorm::cuda::workspace::<E>(N, d.C)),
            workspace_bytes(&attention::cuda::workspace(Heads { H: d.H, G: d.G, D: d.D }, N)),
            workspace_bytes(&loss::cuda::workspace::<E>(target, N, d.C, d.V)),
            workspace_bytes(&norm::cuda::workspace(len)),
            workspace_bytes(&adamw::cuda::workspace(slots)),
        ])
        .max();
    most.unwrap_or(0) as u64
}
