//! Loads and stores at the end of a row, where less than a vector is left.

use super::{Factors, MAX_LANES, Vector};
use crate::element::Element;

/// Loads `V::LANES` elements, or what is left of `src`, zeros behind it.
#[inline(always)]
pub fn load<E: Element, V: Vector<Scalar = E::Acc>>(src: &[E]) -> V {
    if src.len() >= V::LANES { E::load(src) } else { E::load_part(src) }
}

/// Stores `V::LANES` elements, or as many as fit into `dst`.
#[inline(always)]
pub fn store<E: Element, V: Vector<Scalar = E::Acc>>(v: V, dst: &mut [E]) {
    if dst.len() >= V::LANES { E::store(v, dst) } else { E::store_part(v, dst) }
}

/// The items of a row's values from `d` on, zeros behind its end.
#[inline(always)]
pub fn items_of_row<E: Element, V: Vector<Scalar = E::Acc>, F: Factors<V>>(
    row: &[E],
    d: usize,
) -> F {
    if d + V::LANES * F::K <= row.len() { F::of_row(&row[d..]) } else { F::of_row(&padded(row, d)) }
}

/// The items of the columns from `d` on of the rows of an item, zeros behind their end; an empty
/// row is all zeros.
#[inline(always)]
pub fn items_of_columns<E: Element, V: Vector<Scalar = E::Acc>, F: Factors<V>>(
    [first, second]: [&[E]; 2],
    d: usize,
) -> F {
    if d + V::LANES <= first.len() && d + V::LANES <= second.len() {
        F::of_columns(&first[d..], &second[d..])
    } else {
        F::of_columns(&padded(first, d), &padded(second, d))
    }
}

/// The values of a row from `d` on, zeros behind its end. Not inlined, for the usual case would clear
/// the room for it as well.
#[cold]
#[inline(never)]
fn padded<E: Element>(row: &[E], d: usize) -> [E; 2 * MAX_LANES] {
    let mut values = [E::default(); 2 * MAX_LANES];
    let row = &row[d.min(row.len())..];
    let len = row.len().min(2 * MAX_LANES);
    values[..len].copy_from_slice(&row[..len]);
    values
}
