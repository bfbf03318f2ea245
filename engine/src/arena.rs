//! One table of parameters, and flat arenas over it. Weights, gradients, moments and master
//! weights are arenas of one table, so zeroing, norms, AdamW and saving are one pass each.

use crate::buf::{Buf, View, ViewMut};
use crate::device::Device;
use crate::element::Element;
use std::ops::Range;

/// Parameters start at a multiple of this many elements: one cache line of f32.
const ALIGN: usize = 16;

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Every element 0.
    Zeros,
    /// Every element 1: gains of norms.
    Ones,
    /// Normal with mean 0 and this standard deviation.
    Normal(f32),
}

/// Where a parameter lies in every arena of its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    offset: usize,
    len: usize,
}

impl Slot {
    /// The elements it covers.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The slot that covers `self` and `next`, which must follow it without a gap.
    ///
    /// # Panics
    /// If there is a gap: a caller bug.
    pub fn join(self, next: Slot) -> Slot {
        assert_eq!(self.offset + self.len, next.offset, "arena: joined slots must touch");
        Slot { offset: self.offset, len: self.len + next.len }
    }
}

/// One parameter.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name in a Hugging Face directory.
    pub name: String,
    /// Outer dimension first; one dimension for gains, two for matrices.
    pub shape: Vec<usize>,
    /// Where it lies.
    pub slot: Slot,
    /// Whether AdamW decays it: matrices yes, gains no.
    pub decay: bool,
    /// How it starts.
    pub init: Init,
}

/// Every parameter once, in the order of the arenas.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
    len: usize,
}

impl Table {
    /// Adds a parameter at the next aligned place. Matrices decay, vectors do not.
    pub fn push(&mut self, name: impl Into<String>, shape: &[usize], init: Init) -> Slot {
        self.len = self.len.next_multiple_of(ALIGN);
        self.push_adjacent(name, shape, init)
    }

    /// Adds a parameter directly behind the last one, so that the two can be joined into one
    /// matrix (query, key and value; gate and up).
    pub fn push_adjacent(&mut self, name: impl Into<String>, shape: &[usize], init: Init) -> Slot {
        let slot = Slot { offset: self.len, len: shape.iter().product() };
        self.len += slot.len;
        let row =
            Row { name: name.into(), shape: shape.to_vec(), slot, decay: shape.len() > 1, init };
        self.rows.push(row);
        slot
    }

    /// The parameters in order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Elements of an arena over this table, gaps included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Elements of all parameters, gaps left out.
    pub fn parameters(&self) -> usize {
        self.rows.iter().map(|row| row.slot.len).sum()
    }
}

/// One value for every element of a table. Gaps stay zero.
pub struct Arena<E> {
    buf: Buf<E>,
}

impl<E: Element> Arena<E> {
    /// Zeros on `dev`.
    pub fn zeros(dev: &Device, table: &Table) -> Self {
        Arena { buf: Buf::zeros(dev, table.len()) }
    }

    /// The elements of `slot`.
    pub fn get(&self, slot: Slot) -> View<'_, E> {
        self.buf.range(slot.range())
    }

    /// The elements of `slot`, to write.
    pub fn get_mut(&mut self, slot: Slot) -> ViewMut<'_, E> {
        self.buf.range_mut(slot.range())
    }

    /// Sets every element to zero.
    pub fn fill_zero(&mut self, dev: &Device) {
        self.buf.fill_zero(dev);
    }

    /// Everything, gaps included.
    pub fn view(&self) -> View<'_, E> {
        self.buf.view()
    }

    /// Everything, gaps included, to write.
    pub fn view_mut(&mut self) -> ViewMut<'_, E> {
        self.buf.view_mut()
    }
}
