//! Operands of the tensor cores in shared memory. A tile is rows of ROW bytes whose 16-byte columns
//! are permuted by the low bits of the row (`math::swizzled`), so that eight neighbouring rows of a
//! column lie in different banks. Tiles start at multiples of 1024 bytes: permuting is an
//! exclusive or with the address.
//!
//! A fragment is 16 x 16: for the left operand 16 rows, 16 deep; for the right one 16 columns, 16
//! deep. Where depth runs along the tile's rows it is read as it lies ([`along`]), where it runs
//! across them it is transposed on the way ([`across`]).

use crate::ptx::{lane, load_matrices, load_matrices_t};

/// Which of the two halves of the fragment's outer dimension, and of its depth, the lane addresses.
/// The four 8x8 parts of a left fragment go through its rows first, of a right one through its depth.
#[inline(always)]
fn halves(left: bool) -> (u32, u32) {
    let part = lane() / 8;
    if left { (part % 2, part / 2) } else { (part / 2, part % 2) }
}

/// The lane's place in fragments of a tile whose rows are `first`, ... and run along the depth.
#[inline(always)]
pub fn along<const ROW: u32>(tile: u32, first: u32, left: bool) -> u32 {
    let ((half, deep), lane) = (halves(left), lane() % 8);
    tile + (first + half * 8 + lane) * ROW + (deep ^ lane) * 16
}
/// Rows 16 * `block`, ... of it, 16 * `step` deep.
///
/// # Safety
/// `place` comes from [`along`] with the same ROW; the fragment lies in the tile.
#[inline(always)]
pub unsafe fn load_along<const ROW: u32>(place: u32, block: usize, step: usize) -> [u32; 4] {
    unsafe { load_matrices((place ^ (step as u32 * 32)) + block as u32 * 16 * ROW) }
}

/// The lane's place in fragments of a tile whose rows are the depth; `first` is a column, a multiple
/// of 64.
#[inline(always)]
pub fn across<const ROW: u32>(tile: u32, first: u32, left: bool) -> u32 {
    let ((half, deep), lane) = (halves(left), lane() % 8);
    tile + (deep * 8 + lane) * ROW + first * 2 + (half ^ lane) * 16
}
/// Columns 16 * `block`, ... of it, 16 * `step` deep.
///
/// # Safety
/// `place` comes from [`across`] with the same ROW; the fragment lies in the tile.
#[inline(always)]
pub unsafe fn load_across<const ROW: u32>(place: u32, block: usize, step: usize) -> [u32; 4] {
    unsafe { load_matrices_t((place ^ (block as u32 * 32)) + step as u32 * 16 * ROW) }
}
