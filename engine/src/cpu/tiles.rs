//! Rectangles of row-major matrices as independent `&mut` borrows, so that threads can write
//! different columns of the same rows. The only unsafe code outside of `simd`: a [`Tile`] lends
//! its rows one at a time, and no two tiles of a [`Tiles`] share an element.

use super::Cpu;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A matrix, or a band of its columns, cut into tiles: of equal size (smaller at the far edges), or
/// with rows as a list has them.
pub struct Tiles<'a, T> {
    data: *mut T,
    rows: RowsOfTiles<'a>,
    stride: usize,
    cols: usize,
    tile_cols: usize,
    borrow: PhantomData<&'a mut [T]>,
}

/// Which rows the tiles have, from the first row of tiles to the last.
#[derive(Clone, Copy)]
enum RowsOfTiles<'a> {
    /// So many each, of all there are.
    Each { rows: usize, all: usize },
    /// Ranges that do not overlap, inside the matrix.
    Listed(&'a [Range<usize>]),
}

impl RowsOfTiles<'_> {
    fn count(&self) -> usize {
        match self {
            RowsOfTiles::Each { rows, all } => all.div_ceil(*rows),
            RowsOfTiles::Listed(list) => list.len(),
        }
    }

    fn of(&self, i: usize) -> Range<usize> {
        match self {
            RowsOfTiles::Each { rows, all } => i * rows..((i + 1) * rows).min(*all),
            RowsOfTiles::Listed(list) => list[i].clone(),
        }
    }
}

// SAFETY: a Tiles stands for the `&mut [T]` it was made from.
unsafe impl<T: Send> Send for Tiles<'_, T> {}
// SAFETY: sharing a Tiles lets other threads take tiles, which `for_each` hands out once each.
unsafe impl<T: Send> Sync for Tiles<'_, T> {}

impl<'a, T> Tiles<'a, T> {
    /// `data` as rows of `cols`, in tiles of `tile_rows` by `tile_cols`.
    ///
    /// # Panics
    /// If `data` is not a whole number of rows, or a tile is empty.
    pub fn new(data: &'a mut [T], cols: usize, tile_rows: usize, tile_cols: usize) -> Self {
        assert!(tile_rows > 0 && tile_cols > 0 && data.len().is_multiple_of(cols));
        let rows = RowsOfTiles::Each { rows: tile_rows, all: data.len() / cols };
        let (data, stride) = (data.as_mut_ptr(), cols);
        Tiles { data, rows, stride, cols, tile_cols, borrow: PhantomData }
    }

    /// The same with tiles that have the rows of `list` each; the other rows belong to none.
    ///
    /// # Panics
    /// As [`Tiles::new`], and if ranges are not ascending, overlap, or leave `data`.
    pub fn listed(
        data: &'a mut [T],
        cols: usize,
        list: &'a [Range<usize>],
        tile_cols: usize,
    ) -> Self {
        assert!(tile_cols > 0 && data.len().is_multiple_of(cols));
        let last = list.iter().try_fold(0, |end, rows| {
            (end <= rows.start && rows.start < rows.end).then_some(rows.end)
        });
        assert!(last.is_some_and(|end| end <= data.len() / cols), "tiles: rows of the list");
        let (data, stride, rows) = (data.as_mut_ptr(), cols, RowsOfTiles::Listed(list));
        Tiles { data, rows, stride, cols, tile_cols, borrow: PhantomData }
    }

    /// The columns before `col` and those from it on, each cut into tiles of `tile_cols`.
    pub fn split_columns(self, col: usize, tile_cols: [usize; 2]) -> (Self, Self) {
        assert!(col <= self.cols && tile_cols.iter().all(|&c| c > 0));
        let left = Tiles { cols: col, tile_cols: tile_cols[0], ..self };
        // wrapping_add: an empty right band may start where nothing is allocated.
        let data = self.data.wrapping_add(col);
        let right = Tiles { data, cols: self.cols - col, tile_cols: tile_cols[1], ..self };
        (left, right)
    }

    fn across(&self) -> usize {
        self.cols.div_ceil(self.tile_cols)
    }
}

/// One rectangle of a matrix.
pub struct Tile<'a, T> {
    data: *mut T,
    rows: usize,
    cols: usize,
    stride: usize,
    /// First row of the tile in its matrix.
    pub row: usize,
    /// First column of the tile in its band.
    pub col: usize,
    borrow: PhantomData<&'a mut [T]>,
}

impl<T> Tile<'_, T> {
    /// Rows of this tile.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of this tile.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Row `i` of the tile.
    #[inline(always)]
    pub fn row_mut(&mut self, i: usize) -> &mut [T] {
        assert!(i < self.rows);
        // SAFETY: row i and its `cols` elements lie inside the matrix and inside this tile, and
        // the borrow of self keeps any other row of this tile from being lent meanwhile.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(i * self.stride), self.cols) }
    }
}

/// One or several [`Tiles`] that are walked together.
pub trait TileSet: Sync {
    /// A tile of each.
    type Item;
    /// Number of tiles; the same for each member.
    fn count(&self) -> usize;
    /// Tile `i`, counted along the rows of tiles.
    ///
    /// # Safety
    /// Each `i < count()` may be taken once while the set lives.
    unsafe fn take(&self, i: usize) -> Self::Item;
    /// The same tiles, the last one first.
    fn reversed(self) -> Reversed<Self>
    where
        Self: Sized,
    {
        Reversed(self)
    }
}

/// A set in reverse order.
pub struct Reversed<S>(S);

impl<S: TileSet> TileSet for Reversed<S> {
    type Item = S::Item;

    fn count(&self) -> usize {
        self.0.count()
    }

    unsafe fn take(&self, i: usize) -> S::Item {
        // SAFETY: the caller takes each i once, so each tile from the other end is taken once.
        unsafe { self.0.take(self.0.count() - 1 - i) }
    }
}

impl<'a, T: Send> TileSet for Tiles<'a, T> {
    type Item = Tile<'a, T>;

    fn count(&self) -> usize {
        self.rows.count() * self.across()
    }

    unsafe fn take(&self, i: usize) -> Tile<'a, T> {
        assert!(i < self.count());
        let rows = self.rows.of(i / self.across());
        let col = i % self.across() * self.tile_cols;
        Tile {
            // SAFETY: the tile's rows lie inside the matrix and col < cols, so this is an element of
            // it.
            data: unsafe { self.data.add(rows.start * self.stride + col) },
            rows: rows.len(),
            cols: self.tile_cols.min(self.cols - col),
            stride: self.stride,
            row: rows.start,
            col,
            borrow: PhantomData,
        }
    }
}

impl<A: TileSet, B: TileSet> TileSet for (A, B) {
    type Item = (A::Item, B::Item);

    fn count(&self) -> usize {
        assert_eq!(self.0.count(), self.1.count(), "tiles: sets walked together differ in number");
        self.0.count()
    }

    unsafe fn take(&self, i: usize) -> Self::Item {
        // SAFETY: the caller takes each i once, so each member's tile i is taken once.
        unsafe { (self.0.take(i), self.1.take(i)) }
    }
}

/// A range of tiles that threads take from: its owner from the front, others from the back.
struct Stretch(AtomicU64);

impl Stretch {
    /// At most this many, whatever the number of threads: they live on the stack.
    const MOST: usize = 64;

    fn new(tiles: Range<usize>) -> Self {
        assert!(tiles.end <= u32::MAX as usize, "tiles: too many");
        Stretch(AtomicU64::new((tiles.start as u64) << 32 | tiles.end as u64))
    }

    /// A tile that nobody else gets, the first or the last; `None` once all are taken.
    fn take(&self, first: bool) -> Option<usize> {
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tiles| {
            let (start, end) = (tiles >> 32, tiles & u64::from(u32::MAX));
            let rest = if first { (start + 1) << 32 | end } else { start << 32 | (end - 1) };
            (start < end).then_some(rest)
        });
        let tiles = taken.ok()?;
        Some(if first { (tiles >> 32) as usize } else { tiles as u32 as usize - 1 })
    }
}

impl Cpu {
    /// Calls `f` with every tile, on all threads: each takes the next one as it gets free, so that
    /// neighbours in time are neighbours in memory.
    pub fn for_each_tile<S: TileSet>(&self, tiles: S, f: impl Fn(S::Item) + Sync) {
        let (count, next) = (tiles.count(), AtomicUsize::new(0));
        self.broadcast(|_| {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= count {
                    break;
                }
                // SAFETY: the counter yields each i < count once, and `tiles` is owned here.
                f(unsafe { tiles.take(i) })
            }
        });
    }

    /// The same for tiles that come from memory: each thread has a stretch of its own and walks
    /// along it, so that hardware runs ahead from tile to tile, and at its end helps the others.
    pub fn for_each_tile_in_stretches<S: TileSet>(&self, tiles: S, f: impl Fn(S::Item) + Sync) {
        let (count, n) = (tiles.count(), self.threads().min(Stretch::MOST));
        let stretches: [Stretch; Stretch::MOST] = std::array::from_fn(|i| {
            let i = i.min(n);
            Stretch::new(i * count / n..(i + 1).min(n) * count / n)
        });
        self.broadcast(|thread| {
            for other in 0..n {
                let stretch = &stretches[(thread + other) % n];
                while let Some(i) = stretch.take(other == 0) {
                    // SAFETY: the stretches are apart and yield each i < count once, and `tiles` is
                    // owned here.
                    f(unsafe { tiles.take(i) })
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tile_is_taken_once() {
        for threads in [1, 2, 5] {
            let cpu = Cpu::new(threads).unwrap();
            for tiles in [0, 1, 3, 4, 5, 1000] {
                let mut taken = vec![0; tiles];
                cpu.for_each_tile(Tiles::new(&mut taken, 1, 1, 1), |mut t| t.row_mut(0)[0] += 1);
                let again = Tiles::new(&mut taken, 1, 1, 1);
                cpu.for_each_tile_in_stretches(again, |mut t| t.row_mut(0)[0] += 10);
                assert!(taken.iter().all(|&n| n == 11), "{threads} threads: {taken:?}");
            }
        }
    }

    #[test]
    fn listed_rows_are_taken_and_no_others() {
        let cpu = Cpu::new(2).unwrap();
        let mut taken = vec![0; 3 * 10];
        let list = [0..1, 1..4, 6..9];
        let tiles = Tiles::listed(&mut taken, 3, &list, 2);
        cpu.for_each_tile(tiles, |mut tile| {
            for i in 0..tile.rows() {
                let at = tile.row + i;
                tile.row_mut(i).iter_mut().for_each(|x| *x += at + 1);
            }
        });
        let expected = [1, 2, 3, 4, 0, 0, 7, 8, 9, 0].map(|x| [x; 3]);
        assert_eq!(taken, expected.concat());
    }

    #[test]
    #[should_panic(expected = "rows of the list")]
    fn overlapping_rows_are_refused() {
        Tiles::listed(&mut [0; 9], 1, &[0..4, 3..9], 1);
    }
}
