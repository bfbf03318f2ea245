//! Rectangles of row-major matrices as independent `&mut` borrows, so that threads can write
//! different columns of the same rows. The only unsafe code outside of `simd`: a [`Tile`] lends
//! its rows one at a time, and no two tiles of a [`Tiles`] share an element.

use super::Cpu;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A matrix, or a band of its columns, cut into tiles of equal size (smaller at the far edges).
pub struct Tiles<'a, T> {
    data: *mut T,
    rows: usize,
    stride: usize,
    cols: usize,
    tile_rows: usize,
    tile_cols: usize,
    borrow: PhantomData<&'a mut [T]>,
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
        let rows = data.len() / cols;
        let (data, stride) = (data.as_mut_ptr(), cols);
        Tiles { data, rows, stride, cols, tile_rows, tile_cols, borrow: PhantomData }
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
        self.rows.div_ceil(self.tile_rows) * self.across()
    }

    unsafe fn take(&self, i: usize) -> Tile<'a, T> {
        assert!(i < self.count());
        let row = i / self.across() * self.tile_rows;
        let col = i % self.across() * self.tile_cols;
        Tile {
            // SAFETY: row < rows and col < cols, so this is an element of the matrix.
            data: unsafe { self.data.add(row * self.stride + col) },
            rows: self.tile_rows.min(self.rows - row),
            cols: self.tile_cols.min(self.cols - col),
            stride: self.stride,
            row,
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

impl Cpu {
    /// Calls `f` with every tile, on all threads: each takes the next one as it gets free, so that
    /// neighbours in time are neighbours in memory.
    pub fn for_each_tile<S: TileSet>(&self, tiles: S, f: impl Fn(S::Item) + Sync) {
        let (count, next) = (tiles.count(), AtomicUsize::new(0));
        self.broadcast(|| {
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
}
