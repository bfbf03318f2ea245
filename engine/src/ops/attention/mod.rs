//! Causal attention with grouped key/value heads: O = softmax(Q K^T / sqrt(D)) V, where a query
//! sees the keys of its own segment up to its own position, and no other. H query heads share G
//! key/value heads in turn.
//! Tiled softmax: masked tiles are never computed, weights never stored.
//! Source: Rabe and Staats 2021, arXiv:2112.05682; Dao 2023, arXiv:2307.08691.
//! Cached: O and the log-sum-exp of each row; backward rebuilds each tile from them.
//!
//! Rows are tokens: a row of qkv holds H query heads, G key heads and G value heads of D.
//!
//! ```
//! use engine::ops::attention::{Heads, forward};
//! use engine::{Buf, Device, Segments};
//!
//! let dev = &Device::cpu(1).unwrap();
//! // Two tokens of one head of width 2: a row is a query, a key and a value.
//! let heads = Heads { H: 1, G: 1, D: 2 };
//! let qkv = Buf::of(dev, &[0.0f32, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 3.0, 4.0]);
//! let (mut o, mut lse) = (Buf::<f32>::zeros(dev, 4), Buf::zeros(dev, 2));
//! forward(dev, o.view_mut(), lse.view_mut(), qkv.view(), &Segments::equal(1, 2), heads);
//! // The first sees itself, the second the mean of both.
//! assert_eq!(*o.view().read().unwrap(), [1.0, 2.0, 2.0, 3.0]);
//! ```

pub(crate) mod cpu;
pub(crate) mod cuda;
#[cfg(feature = "reference")]
pub mod reference;

use super::rows;
use crate::{Device, Element, Segments, View, ViewMut};

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

    /// Elements of a row of keys and values.
    pub fn kv(&self) -> usize {
        2 * self.G * self.D
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

/// Writes o_NHD and lse_NH (nats). A segment's keys are its own rows, whatever its first position.
///
/// # Panics
/// If lengths disagree: a caller bug.
pub fn forward<E: Element>(
    dev: &Device,
    o_NHD: ViewMut<E>,
    lse_NH: ViewMut<E::Acc>,
    qkv: View<E>,
    segments: &Segments,
    heads: Heads,
) {
    let N = check(qkv.len(), o_NHD.len(), lse_NH.len(), segments, heads);
    // Two products for each query and each key that it sees.
    let flop = 4 * heads.out() * segments.pairs();
    let bytes = o_NHD.bytes() + lse_NH.bytes() + qkv.bytes();
    let _op = dev.op("attention forward", format_args!("N{N} {segments} {heads}"), flop, bytes);
    match dev {
        Device::Cpu(cpu) => cpu.compute(cpu::forward_space::<E>(cpu, heads, segments), |cpu| {
            let (o_NHD, lse_NH, qkv) = (o_NHD.host(), lse_NH.host(), qkv.host());
            (E::cpu().attention_forward)(cpu, o_NHD, lse_NH, qkv, segments, heads)
        }),
        Device::Cuda(cuda) => cuda::forward(cuda, o_NHD, lse_NH, qkv, segments, heads),
    }
}

/// Writes o_NHD for new tokens of several sequences, whose earlier keys and values are kept in slots
/// of `capacity` rows of G key heads and G value heads. Segment i belongs to the sequence in slot
/// `slots[i]`: its keys and values join the slot's, at its positions. What a segment's rows become
/// depends on no other segment, to the bit.
///
/// # Panics
/// If lengths disagree, a slot has no room, or two segments share one: a caller bug.
pub fn decode<E: Element>(
    dev: &Device,
    o_NHD: ViewMut<E>,
    kept: ViewMut<E>,
    qkv: View<E>,
    segments: &Segments,
    slots: &[usize],
    heads: Heads,
    capacity: usize,
) {
    let N = rows("attention", qkv.len(), heads.qkv());
    assert!(segments.rows() == N && o_NHD.len() == N * heads.out(), "attention: new tokens");
    let count = rows("attention", kept.len(), capacity * heads.kv());
    check_slots(slots, segments, count, capacity);
    let seen: usize = segments.list().iter().map(|s| s.first + s.len).sum();
    let flop = 4 * heads.out() * segments.pairs_with_past();
    let bytes = 2 * o_NHD.bytes() + (seen * heads.kv() * size_of::<E>()) as u64;
    let shape = format_args!("N{N} in {} seen {seen} {heads}", slots.len());
    let _op = dev.op("attention decode", shape, flop, bytes);
    match dev {
        Device::Cpu(cpu) => {
            cpu.compute(cpu::decode_space::<E>(cpu, heads, segments, capacity), |cpu| {
                let (o_NHD, kept, qkv) = (o_NHD.host(), kept.host(), qkv.host());
                let decode = E::cpu().attention_decode;
                decode(cpu, o_NHD, kept, qkv, segments, slots, heads, capacity)
            })
        }
        Device::Cuda(cuda) => {
            cuda::decode(cuda, o_NHD, kept, qkv, segments, slots, heads, capacity)
        }
    }
}

fn check_slots(slots: &[usize], segments: &Segments, count: usize, capacity: usize) {
    assert_eq!(slots.len(), segments.list().len(), "attention: slots");
    for (i, (s, slot)) in segments.list().iter().zip(slots).enumerate() {
        assert!(*slot < count && !slots[..i].contains(slot), "attention: slot {slot} of {count}");
        let end = s.first + s.len;
        assert!(end <= capacity, "attention: {end} positions in a slot of {capacity}");
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
    segments: &Segments,
    heads: Heads,
) {
    let N = check(qkv.len(), o_NHD.len(), lse_NH.len(), segments, heads);
    assert_eq!((dqkv.len(), do_NHD.len()), (qkv.len(), o_NHD.len()), "attention: gradients");
    let inputs = do_NHD.bytes() + qkv.bytes() + o_NHD.bytes() + lse_NH.bytes();
    let (flop, bytes) = (10 * heads.out() * segments.pairs(), inputs + dqkv.bytes());
    let _op = dev.op("attention backward", format_args!("N{N} {segments} {heads}"), flop, bytes);
    match dev {
        Device::Cpu(cpu) => cpu.compute(cpu::backward_space::<E>(cpu, heads, segments), |cpu| {
            let (dqkv, do_NHD, qkv) = (dqkv.host(), do_NHD.host(), qkv.host());
            let (o_NHD, lse_NH, backward) =
                (o_NHD.host(), lse_NH.host(), E::cpu().attention_backward);
            backward(cpu, dqkv, do_NHD, qkv, o_NHD, lse_NH, segments, heads)
        }),
        Device::Cuda(cuda) => {
            cuda::backward(cuda, dqkv, do_NHD, qkv, o_NHD, lse_NH, segments, heads)
        }
    }
}

/// N.
fn check(qkv: usize, o: usize, lse: usize, segments: &Segments, heads: Heads) -> usize {
    let N = rows("attention", qkv, heads.qkv());
    assert!(segments.rows() == N && heads.H.is_multiple_of(heads.G), "attention: shape");
    assert_eq!((o, lse), (N * heads.out(), N * heads.H), "attention: outputs");
    N
}
