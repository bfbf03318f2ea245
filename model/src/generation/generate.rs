//! Text token by token: what the model finds likely next is chosen from, and fed back.

use super::{Decoder, Sampler};
use crate::llama::Llama;
use engine::{Device, Element, Error, View};

/// What is to be continued, and how.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Token ids, at least one.
    pub prompt: &'a [u32],
    /// Tokens to add, at most.
    pub count: usize,
    /// How each is chosen.
    pub sampler: Sampler,
    /// Tokens that end the text and are no part of it.
    pub stop: &'a [u32],
}

/// Continues a prompt in the decoder's slot 0, which must be empty or hold what comes before it. Each
/// token is handed to `emit` as soon as it is chosen; the text ends at a stop token, or where the
/// decoder is full. `uniform` gives a random number in [0, 1) for each choice.
///
/// # Errors
/// Whatever `emit` returns; what went wrong on a GPU.
pub fn generate<E: Element<Acc = f32>, Failure: From<Error>>(
    dev: &Device,
    model: &Llama<E>,
    weights: View<E>,
    decoder: &mut Decoder<E>,
    request: &Request,
    mut uniform: impl FnMut() -> f64,
    mut emit: impl FnMut(u32) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut next = request.prompt.to_vec();
    for _ in 0..request.count {
        if next.len() > decoder.kv().room(0) {
            break;
        }
        let logits_V = dev.install(|| decoder.feed(dev, model, weights, &[(0, &next)]))?;
        let id = request.sampler.choose(&logits_V, uniform());
        if request.stop.contains(&id) {
            break;
        }
        emit(id)?;
        next = vec![id];
    }
    Ok(())
}
