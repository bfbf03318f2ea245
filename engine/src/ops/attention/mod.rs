//! Causal attention with grouped key/value heads: O = softmax(Q K^T / sqrt(D)) V, where a query
//! sees the keys up to its own position. H query heads share G key/value heads in turn.
//! Tiled softmax: masked tiles are never computed, weights never stored.
//! Source: Rabe and Staats 2021, arXiv:2112.05682; Dao 2023, arXiv:2307.08691.
//! Cached: O and the log-sum-exp of each row; backward rebuilds each tile from them.
//!
//! Rows are tokens: a row of qkv holds H query heads, G key heads and G value heads of D.

pub(crate) mod cpu;
pub(crate) mod cuda;
pub mod reference;

use super::rows;
use crate::{Cpu, Device, Element, View, ViewMut};

/// How heads lie in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub H: usize,
    /// Key/value heads; divides H.
    pub G: usize,
    /// Head width.
    pub D: usize,
}

impl Heads {
    /// Elements of a row of queries, keys and values.
    pub fn qkv(&self) -> usize {
        (self.H + 2 * self.G) * self.D
    }

    /// Elements of a row of outputs.
    pub fn out(&self) -> usize {
        self.H * self.D
    }
}

impl std::fmt::Display for Heads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "H{} G{} D{}", self.H, self.G, self.D)
    }
}

/// Writes o_NHD and lse_NH (nats) for sequences of T tokens.
///
/// # Panics
/// If lengths disagree: a caller bug.
pub fn forward<E: Element>(
    dev: &Device,
    o_NHD: ViewMut<E>,
    lse_NH: ViewMut<E::Acc>,
    qkv: View<E>,
    heads: Heads,
    T: usize,
) {
    let N = check(qkv.len(), o_NHD.len(), lse_NH.len(), heads, T);
    // A product of each query with each key that it sees is o_NHD.len() * (T + 1) FLOP.
    let flop = 2 * o_NHD.len() * (T + 1);
    let bytes = o_NHD.bytes() + lse_NH.bytes() + qkv.bytes();
    let _op = dev.op("attention forward", format_args!("N{N} T{T} {heads}"), flop, bytes);
    match dev {
        Device::Cpu(cpu) => {
            (E::cpu().attention_forward)(cpu, o_NHD.host(), lse_NH.host(), qkv.host(), heads, T)
        }
        Device::Cuda(cuda) => cuda::forward(cuda, o_NHD, lse_NH, qkv, heads, T),
    }
}

/// Writes o_NHD for N new tokens of one sequence, of which the first stands at position `past`.
/// `kv` holds rows of G key heads and G value heads for positions 0..past + N and beyond;
/// q_NS has rows of S elements that start with H query heads.
///
/// # Panics
/// If lengths disagree: a caller bug.
pub fn decode<E: Element>(
    dev: &Device,
    o_NHD: ViewMut<E>,
    q_NS: View<E>,
    kv: View<E>,
    heads: Heads,
    S: usize,
    past: usize,
) {
    let N = rows("attention", q_NS.len(), S);
    assert!(S >= heads.out() && o_NHD.len() == N * heads.out(), "attention: new tokens");
    assert!(rows("attention", kv.len(), 2 * heads.G * heads.D) >= past + N, "attention: kv");
    let seen = ((past + N) * 2 * heads.G * heads.D * size_of::<E>()) as u64;
    let flop = 2 * o_NHD.len() * (2 * past + N + 1);
    let shape = format_args!("N{N} past {past} {heads}");
    let _op = dev.op("attention decode", shape, flop, 2 * o_NHD.bytes() + seen);
    match dev {
        Device::Cpu(cpu) => {
            (E::cpu().attention_decode)(cpu, o_NHD.host(), q_NS.host(), kv.host(), heads, S, past)
        }
        Device::Cuda(cuda) => cuda::decode(cuda, o_NHD, q_NS, kv, heads, S, past),
    }
}

/// Writes dqkv from the gradient do_NHD of the output. With P rebuilt from the log-sum-exp and
/// delta = sum over D of dO*O:
///   dV = P^T dO      dS = P * (dO V^T - delta)      dQ = dS K / sqrt(D)      dK = dS^T Q / sqrt(D)
///
/// # Panics
/// If lengths disagree: a caller bug.
pub fn backward<E: Element>(
    dev: &Device,
    dqkv: ViewMut<E>,
    do_NHD: View<E>,
    qkv: View<E>,
    o_NHD: View<E>,
    lse_NH: View<E::Acc>,
    heads: Heads,
    T: usize,
) {
    let N = check(qkv.len(), o_NHD.len(), lse_NH.len(), heads, T);
    assert_eq!((dqkv.len(), do_NHD.len()), (qkv.len(), o_NHD.len()), "attention: gradients");
    let inputs = do_NHD.bytes() + qkv.bytes() + o_NHD.bytes() + lse_NH.bytes();
    let (flop, bytes) = (5 * o_NHD.len() * (T + 1), inputs + dqkv.bytes());
    let _op = dev.op("attention backward", format_args!("N{N} T{T} {heads}"), flop, bytes);
    match dev {
        Device::Cpu(cpu) => (E::cpu().attention_backward)(
            cpu,
            dqkv.host(),
            do_NHD.host(),
            qkv.host(),
            o_NHD.host(),
            lse_NH.host(),
            heads,
            T,
        ),
        Device::Cuda(cuda) => cuda::backward(cuda, dqkv, do_NHD, qkv, o_NHD, lse_NH, heads, T),
    }
}

/// Elements (of [`Element::Acc`]) that [`backward`] over N tokens needs, for memory plans;
/// forward needs none.
pub fn shared_len(heads: Heads, N: usize, T: usize) -> usize {
    cpu::shared_len(heads, N, T)
}

/// Elements (of [`Element::Acc`]) that a task needs, at most, for memory plans.
pub fn task_len<E: Element>(cpu: &Cpu, heads: Heads, N: usize, T: usize) -> usize {
    cpu::task_len::<E>(cpu, heads, N, T)
}

/// N.
fn check(qkv: usize, o: usize, lse: usize, heads: Heads, T: usize) -> usize {
    let N = rows("attention", qkv, heads.qkv());
    assert!(T > 0 && N.is_multiple_of(T) && heads.H.is_multiple_of(heads.G), "attention: shape");
    assert_eq!((o, lse), (N * heads.out(), N * heads.H), "attention: outputs");
    N
}
