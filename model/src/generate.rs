//! Text token by token: what the model finds likely next is chosen from, and fed back.

use crate::decode::Decoder;
use crate::llama::Llama;
use crate::sample::Sampler;
use engine::{Device, Element, Error, View};

/// Continues `prompt` (token ids, at least one) by up to `count` tokens, each handed to `emit`
/// as soon as it is chosen; stops at a token of `stop`, or where the decoder is full. `uniform` gives
/// a random number in [0, 1) for each choice.
///
/// # Errors
/// Whatever `emit` returns; what went wrong on a GPU.
pub fn generate<E: Element<Acc = f32>, Failure: From<Error>>(
    dev: &Device,
    model: &Llama<E>,
    weights: View<E>,
    decoder: &mut Decoder<E>,
    prompt: &[u32],
    count: usize,
    sampler: Sampler,
    mut uniform: impl FnMut() -> f64,
    stop: &[u32],
    mut emit: impl FnMut(u32) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut next = prompt.to_vec();
    for _ in 0..count {
        if next.len() > decoder.kv().room(0) {
            break;
        }
        let logits_V = dev.install(|| decoder.feed(dev, model, weights, &[(0, &next)]))?;
        let id = sampler.choose(&logits_V, uniform());
        if stop.contains(&id) {
            break;
        }
        emit(id)?;
        next = vec![id];
    }
    Ok(())
}
