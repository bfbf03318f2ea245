//! Keys and values of sequences that are being decoded, in slots of equal size: one stream of memory
//! a sequence and one address for a kernel, allocated before the first token like everything else.
//! On the CPU a slot's memory comes into being as it fills.

use engine::{Buf, Device, Dims, Element, ViewMut};

/// What every layer keeps of several sequences.
pub struct KvCache<E: Element> {
    /// For each layer, slots of rows of G key heads and G value heads.
    layers: Vec<Buf<E>>,
    /// Tokens in each slot.
    lens: Vec<usize>,
    capacity: usize,
}

/// What a block's attention needs of a [`KvCache`]: one layer, and whose the segments are.
pub(crate) struct Past<'a, E: Element> {
    pub kept: ViewMut<'a, E>,
    /// The slot of each segment.
    pub slots: &'a [usize],
    pub capacity: usize,
}

impl<E: Element> KvCache<E> {
    /// Room for `slots` sequences of `capacity` tokens.
    pub fn new(dev: &Device, d: &Dims, slots: usize, capacity: usize) -> Self {
        let layer = |_| Buf::zeros(dev, slots * capacity * 2 * d.G * d.D);
        KvCache { layers: (0..d.L).map(layer).collect(), lens: vec![0; slots], capacity }
    }

    /// Sequences that it has room for.
    pub fn slots(&self) -> usize {
        self.lens.len()
    }

    /// Tokens in `slot`.
    pub fn len(&self, slot: usize) -> usize {
        self.lens[slot]
    }

    /// Whether `slot` has no token yet.
    pub fn is_empty(&self, slot: usize) -> bool {
        self.lens[slot] == 0
    }

    /// Tokens that still fit into `slot`.
    pub fn room(&self, slot: usize) -> usize {
        self.capacity - self.lens[slot]
    }

    /// Forgets the sequence in `slot`.
    pub fn clear(&mut self, slot: usize) {
        self.lens[slot] = 0;
    }

    pub(crate) fn past<'a>(&'a mut self, layer: usize, slots: &'a [usize]) -> Past<'a, E> {
        Past { kept: self.layers[layer].view_mut(), slots, capacity: self.capacity }
    }

    /// Counts `new` more tokens in `slot`, once every layer has them.
    pub(crate) fn grow(&mut self, slot: usize, new: usize) {
        self.lens[slot] += new;
    }
}
