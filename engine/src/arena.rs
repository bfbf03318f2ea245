//! One table of parameters, and flat arenas over it, so that zeroing, norms, AdamW and saving are one
//! pass each. Weights are an arena over the whole table. Gradients, moments and master weights are
//! arenas over [`Table::trained`], the rows that training changes: those lie in front, so that a
//! trained parameter has one place in all of them, and frozen ones lie behind, among the weights alone.
//!
//! ```
//! use engine::{Arena, Device, Init, Table};
//!
//! let dev = Device::cpu(1).unwrap();
//! let (table, [gain, matrix]) = Table::list(|table| {
//!     let gain = table.push("norm", &[8], Init::Ones);
//!     [gain, table.push("matrix", &[4, 8], Init::Normal(0.02))]
//! });
//! let mut grads = Arena::<f32>::zeros(&dev, &table);
//! grads.get_mut(matrix).fill(1.0);
//! assert_eq!(table.parameters(), 40);
//! assert_eq!(grads.get(gain).read().unwrap()[0], 0.0);
//! ```

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

/// How tensor-parallel ranks share a parameter.
/// Source: Shoeybi et al. 2019, arXiv:1909.08053, section 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shard {
    /// Each rank has all of it.
    Whole,
    /// By outputs, the rows of a matrix: each rank has whole inputs and computes outputs of its own.
    /// Forward needs nothing of the others; in backward each has a part of the sum that dx is.
    Outputs,
    /// By inputs, the columns: each rank has inputs of its own, and a part of the sum that y is.
    /// Backward needs nothing of the others.
    Inputs,
}

/// Where a parameter lies among the weights and, if it is trained, in every other arena too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    offset: usize,
    len: usize,
    trained: bool,
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

    /// Whether training changes it: it has a gradient, moments and a master weight.
    pub fn is_trained(&self) -> bool {
        self.trained
    }

    /// The slot that covers `self` and `next`, which must follow it without a gap.
    ///
    /// # Panics
    /// If there is a gap, or only one of them is trained: a caller bug.
    pub fn join(self, next: Slot) -> Slot {
        assert_eq!(self.offset + self.len, next.offset, "arena: joined slots must touch");
        assert_eq!(self.trained, next.trained, "arena: joined slots are trained together");
        Slot { len: self.len + next.len, ..self }
    }
}

/// What a table is told of a parameter.
#[derive(Clone, Debug)]
pub struct Parameter<'a> {
    /// Its name in a Hugging Face directory.
    pub name: String,
    /// Outer dimension first; one dimension for gains, two for matrices.
    pub shape: &'a [usize],
    /// How it starts.
    pub init: Init,
    /// How ranks share it.
    pub shard: Shard,
    /// Whether training changes it.
    pub trained: bool,
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
    /// How ranks share it.
    pub shard: Shard,
}

/// Every parameter once, in the order of a Hugging Face directory.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
    /// Where trained rows end.
    trained: usize,
    /// Where frozen rows begin and end; none unless [`Table::list`] has found the former.
    frozen: Option<[usize; 2]>,
}

impl Table {
    /// The table of all that `list` adds, and what it returns. It is called twice: the first time
    /// tells how long trained rows are, for frozen ones lie behind them.
    pub fn list<S>(list: impl Fn(&mut Table) -> S) -> (Table, S) {
        let mut counted = Table { frozen: Some([0; 2]), ..Table::default() };
        list(&mut counted);
        let behind = counted.trained.next_multiple_of(ALIGN);
        let mut table = Table { frozen: Some([behind; 2]), ..Table::default() };
        let listed = list(&mut table);
        assert_eq!(table.trained, counted.trained, "arena: a table is listed the same way twice");
        (table, listed)
    }

    /// Adds a trained parameter of which each rank has all.
    pub fn push(&mut self, name: impl Into<String>, shape: &[usize], init: Init) -> Slot {
        let name = name.into();
        self.add(Parameter { name, shape, init, shard: Shard::Whole, trained: true })
    }

    /// Adds a parameter at the next aligned place. Matrices decay, vectors do not.
    ///
    /// # Panics
    /// If it is frozen, and the table is none that [`Table::list`] makes: a caller bug.
    pub fn add(&mut self, parameter: Parameter) -> Slot {
        let end = self.end(parameter.trained);
        *end = end.next_multiple_of(ALIGN);
        self.add_adjacent(parameter)
    }

    /// Adds a parameter directly behind the last one of its kind, trained or frozen, so that the two
    /// can be joined into one matrix (query, key and value; gate and up).
    ///
    /// # Panics
    /// As [`Table::add`].
    pub fn add_adjacent(&mut self, parameter: Parameter) -> Slot {
        let Parameter { name, shape, init, shard, trained } = parameter;
        let end = self.end(trained);
        let slot = Slot { offset: *end, len: shape.iter().product(), trained };
        *end += slot.len;
        let (shape, decay) = (shape.to_vec(), shape.len() > 1);
        self.rows.push(Row { name, shape, slot, decay, init, shard });
        slot
    }

    /// Where the rows of a kind end.
    fn end(&mut self, trained: bool) -> &mut usize {
        match (trained, &mut self.frozen) {
            (true, _) => &mut self.trained,
            (false, Some([_, end])) => end,
            (false, None) => panic!("arena: frozen rows are listed by Table::list"),
        }
    }

    /// The rows that training changes, where they lie in this table: what gradients, moments and
    /// master weights are arenas over.
    pub fn trained(&self) -> Table {
        Table { frozen: None, ..self.only(|row| row.slot.trained) }
    }

    /// Some of its rows, where they lie in this table.
    pub fn only(&self, wanted: impl Fn(&Row) -> bool) -> Table {
        let rows = self.rows.iter().filter(|row| wanted(row)).cloned().collect();
        Table { rows, ..*self }
    }

    /// The parameters in order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Elements of an arena over this table, gaps included.
    pub fn len(&self) -> usize {
        match self.frozen {
            Some([start, end]) if end > start => end,
            _ => self.trained,
        }
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

    /// The elements of `slot` to write, if it is trained: an arena over trained rows has no others.
    pub fn trained_mut(&mut self, slot: Slot) -> Option<ViewMut<'_, E>> {
        slot.trained.then(|| self.get_mut(slot))
    }

    /// The first `len` elements, to write.
    pub fn first_mut(&mut self, len: usize) -> ViewMut<'_, E> {
        self.buf.range_mut(0..len)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn list(table: &mut Table) -> [Slot; 5] {
        let mut add = |name: &str, rows: usize, trained: bool, adjacent: bool| {
            let (name, shape) = (name.to_string(), &[rows, 5][..]);
            let new = Parameter { name, shape, init: Init::Ones, shard: Shard::Whole, trained };
            if adjacent { table.add_adjacent(new) } else { table.add(new) }
        };
        let [q, a, k] =
            [add("q", 1, false, false), add("a", 3, true, false), add("k", 2, false, true)];
        [q, a, k, add("b", 2, true, false), add("o", 4, false, false)]
    }

    #[test]
    fn trained_rows_lie_in_front_and_frozen_ones_behind() {
        let (table, [q, a, k, b, o]) = Table::list(list);
        assert_eq!([a, b].map(|slot| slot.range()), [0..15, 16..26]);
        assert_eq!([q, k, o].map(|slot| slot.range()), [32..37, 37..47, 48..68]);
        assert_eq!(q.join(k).range(), 32..47);
        let (trained, names) = (table.trained(), |table: &Table| {
            table.rows().iter().map(|row| row.name.as_str()).collect::<String>()
        });
        assert_eq!((table.len(), trained.len()), (68, 26));
        assert_eq!((names(&table), names(&trained)), ("qakbo".into(), "ab".into()));
        assert_eq!((table.parameters(), trained.parameters()), (60, 25));
        let mut grads = Arena::<f32>::zeros(&Device::cpu(1).unwrap(), &trained);
        assert_eq!(grads.trained_mut(b).unwrap().len(), 10);
        assert!(grads.trained_mut(o).is_none());
    }

    #[test]
    fn a_table_without_frozen_rows_has_no_room_for_them() {
        let (table, slot) = Table::list(|table| table.push("w", &[3, 7], Init::Ones));
        assert_eq!((table.len(), table.trained().len(), slot.range()), (21, 21, 0..21));
    }

    #[test]
    #[should_panic(expected = "trained together")]
    fn a_joint_matrix_is_trained_or_not() {
        let (_, [_, a, ..]) = Table::list(list);
        let frozen = Slot { offset: a.range().end, trained: false, ..a };
        a.join(frozen);
    }
}
