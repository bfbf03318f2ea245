//! C = A * B, C += A * B or C = addend + A * B, for strided A and B and row-major C.
//!
//! Shape of the computation (Goto and van de Geijn 2008): blocks of B are packed into panels of
//! NR columns, by all threads; then tasks own blocks of rows of C. A task holds its rows of A in
//! L2 and streams the panels past them; the sums of a tile stay in registers for a whole block of
//! k and leave them once. A is read in place where its rows are contiguous, and packed by the
//! task otherwise. A product of two bf16 matrices takes pairs of k at a time where the instruction
//! set has dot products of them; otherwise factors are widened to [`Element::Acc`]. Each element
//! of C is the sum over ascending k, whatever the threads do.
//!
//! ```
//! use engine::cpu::gemm::{Mat, Onto, product};
//!
//! let cpu = engine::Cpu::new(1).unwrap();
//! let (a, b) = ([1.0f32, 2.0, 3.0, 4.0], [1.0f32, 0.0, 0.0, -1.0]);
//! let mut c = [0.0f32; 4];
//! // C = A B^T, for A and B of 2 rows of 2.
//! product(&cpu, &mut c, Mat::new(&a, 2), Mat::new(&b, 2).t(), Onto::Zero);
//! assert_eq!(c, [1.0, -2.0, 3.0, -4.0]);
//! ```

use super::simd::{
    Factors, ItemKernel, Kernel, Lines, MAX_LANES, Vector, dispatch_items, items_of_columns,
    items_of_row, load, prefetch, store,
};
use super::tiles::{Tile, Tiles};
use super::{Cpu, Space};
use crate::element::{Element, Real};
use bytemuck::Zeroable;

/// A strided read-only matrix: element (i, j) is `data[i * row + j * col]`.
#[derive(Clone, Copy)]
pub struct Mat<'a, E> {
    data: &'a [E],
    rows: usize,
    cols: usize,
    row: usize,
    col: usize,
}

impl<'a, E: Element> Mat<'a, E> {
    /// `data` as rows of `cols`.
    ///
    /// # Panics
    /// If `data` is not a whole number of rows.
    pub fn new(data: &'a [E], cols: usize) -> Self {
        Mat::strided(data, cols, cols)
    }

    /// The first `cols` of each `stride` elements of `data`.
    ///
    /// # Panics
    /// If `data` is not a whole number of strides.
    pub fn strided(data: &'a [E], cols: usize, stride: usize) -> Self {
        let rows = data.len() / stride;
        assert!(0 < cols && cols <= stride && data.len() == rows * stride, "gemm: {rows} rows");
        Mat { data, rows, cols, row: stride, col: 1 }
    }

    /// Columns `first..first + cols` of `data`, which are rows of `stride`.
    ///
    /// # Panics
    /// If rows have fewer columns, or `data` is not a whole number of them.
    pub fn columns(data: &'a [E], first: usize, cols: usize, stride: usize) -> Self {
        assert!(first + cols <= stride, "gemm: columns");
        Mat { data: &data[first..], ..Mat::strided(data, cols, stride) }
    }

    /// The transpose, without a copy.
    pub fn t(self) -> Self {
        Mat { rows: self.cols, cols: self.rows, row: self.col, col: self.row, ..self }
    }

    /// Row `i` of a matrix whose rows have their elements next to each other.
    #[inline(always)]
    fn along(&self, i: usize) -> &'a [E] {
        &self.data[i * self.row..][..self.cols]
    }

    /// The rows that item `k` is made of, of the same matrix; the second is empty beyond the last.
    #[inline(always)]
    fn item(&self, k: usize, values: usize) -> [&'a [E]; 2] {
        let (first, last) = (k * values, (k + 1) * values - 1);
        [self.along(first), if last < self.rows { self.along(last) } else { &[] }]
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn cols(&self) -> usize {
        self.cols
    }
}

/// What C starts from.
#[derive(Clone, Copy)]
pub enum Onto<'a, E> {
    /// Zero: C is overwritten.
    Zero,
    /// C's own values.
    Itself,
    /// Another matrix of C's shape.
    Addend(&'a [E]),
}

/// Items of packed B at a time: 8 MiB of f32 or of pairs, a part of L3.
const PACK: usize = 1 << 21;
/// Longest block of k, in items: a panel of B and a task's rows of A share L2.
const KC: usize = 1024;
/// Most rows of C in a task: a multiple of every tile height. Packing a transpose reads pieces as long.
const ROWS_MAX: usize = 96;
/// Panels, and items of k, that are packed by one task: the source stays in L1.
const PANELS: usize = 8;
const CHUNK: usize = 32;
/// Rows between the one that is packed and the one that is asked of memory.
const AHEAD: usize = 16;
/// The same in items of a column that is turned.
const AHEAD_IN_COLUMN: usize = 2 * MAX_LANES;
/// Widest NR of any instruction set, for sizes that must not depend on it.
const NR_MAX: usize = 32;
/// Added to rows of A that would otherwise lie a multiple of [`ALIAS`] apart.
const PAD: usize = 16;
/// Bytes after which lines share a set of L1: a dozen rows at this distance evict each other,
/// which cost a tenth of the speed.
const ALIAS: usize = 4096;

/// Length of a block of k, of `K` items in all.
fn block_items(K: usize) -> usize {
    K.div_ceil(K.div_ceil(KC))
}

/// Items between panels of `ks` rows of NR: rows at the same place of several panels must not share
/// a set of L1, for packing writes them together, nor panels those of L2.
fn panel_stride<R: Real>(ks: usize, NR: usize) -> usize {
    let aliased = (ks * NR * size_of::<R>()).is_multiple_of(ALIAS);
    if aliased { (ks + 1) * NR } else { ks * NR }
}

/// Columns of B packed at a time, for a block of `kc` items.
fn pack_cols(kc: usize, N: usize) -> usize {
    (PACK / kc).next_multiple_of(NR_MAX).min(N.next_multiple_of(NR_MAX))
}

/// Rows of C in a task. Enough tasks to balance, enough rows to reuse panels.
fn task_rows(M: usize) -> usize {
    M.div_ceil(16).next_multiple_of(12).clamp(24, ROWS_MAX)
}

/// Elements (of [`Element::Acc`]) of packed B, and of sums that C, in storage `E`, cannot hold between
/// blocks of k.
fn lens<E: Element>(M: usize, K: usize, N: usize) -> [usize; 2] {
    let kc = block_items(K);
    let sums = if K <= kc || E::as_acc(&[]).is_some() { 0 } else { M * N };
    [pack_cols(kc, N) * (kc + 1), sums]
}

/// Values of k in an item of both factors.
fn values<A: Element, B: Element>(cpu: &Cpu) -> usize {
    cpu.item_values::<A>().min(cpu.item_values::<B>())
}

/// Work space of C (M rows of N, in storage `E`) = A * B over K.
pub(crate) fn space<E: Element, A: Element<Acc = E::Acc>, B: Element<Acc = E::Acc>>(
    cpu: &Cpu,
    [M, K, N]: [usize; 3],
) -> Space {
    let lens = lens::<E>(M, K.div_ceil(values::<A, B>(cpu)), N);
    Space::of::<E::Acc>(lens.iter().sum(), TASK)
}

/// Elements (of [`Element::Acc`]) that a task needs, at most.
const TASK: usize = ROWS_MAX * (KC + PAD);

/// C (M rows of N) = onto + a * b, all in one storage type.
///
/// # Panics
/// If shapes disagree: a caller bug.
pub fn product<E: Element>(cpu: &Cpu, c_MN: &mut [E], a: Mat<E>, b: Mat<E>, onto: Onto<E>) {
    (E::cpu().product)(cpu, c_MN, a, b, onto)
}

/// The same with C in the type of sums.
///
/// # Panics
/// As [`product`].
pub fn product_wide<E: Element>(
    cpu: &Cpu,
    c_MN: &mut [E::Acc],
    a: Mat<E>,
    b: Mat<E>,
    onto: Onto<E::Acc>,
) {
    (E::cpu().product_wide)(cpu, c_MN, a, b, onto)
}

/// The same of any types, for the engine's own ops: it is compiled where it is called.
///
/// # Panics
/// As [`product`].
pub(crate) fn gemm<E: Element, A: Element<Acc = E::Acc>, B: Element<Acc = E::Acc>>(
    cpu: &Cpu,
    c_MN: &mut [E],
    a: Mat<A>,
    b: Mat<B>,
    onto: Onto<E>,
) {
    if let Onto::Addend(addend) = onto {
        assert_eq!(addend.len(), c_MN.len(), "gemm: addend");
    }
    multiply(cpu, c_MN, [0, b.cols], a, b, onto);
}

/// Columns of C from `first` on, as many as b has, += a * b. C has rows of `stride`.
///
/// # Panics
/// If shapes disagree: a caller bug.
pub fn gemm_columns<E: Element>(
    cpu: &Cpu,
    c: &mut [E],
    [first, stride]: [usize; 2],
    a: Mat<E>,
    b: Mat<E>,
) {
    multiply(cpu, c, [first, stride], a, b, Onto::Itself);
}

/// Tiles of all rows of columns `first..first + cols` of `c`, which has rows of `stride`.
fn tiles<E>(c: &mut [E], rows: usize, [first, stride]: [usize; 2], cols: usize) -> Tiles<'_, E> {
    // Whole rows as one band of tiles, then only these columns of them.
    let (_, band) = Tiles::new(c, stride, rows, stride).split_columns(first, [1, cols]);
    band.split_columns(cols, [cols, 1]).0
}

fn multiply<E: Element, A: Element<Acc = E::Acc>, B: Element<Acc = E::Acc>>(
    cpu: &Cpu,
    c: &mut [E],
    at: [usize; 2],
    a: Mat<A>,
    b: Mat<B>,
    onto: Onto<E>,
) {
    let ((M, K, N), [first, stride]) = ((a.rows, a.cols, b.cols), at);
    assert!(
        b.rows == K && c.len() == M * stride && first + N <= stride,
        "gemm: {M}x{K} * {}x{N} into {} of rows of {stride}",
        b.rows,
        c.len()
    );
    let values = values::<A, B>(cpu);
    let [packed, sums] = lens::<E>(M, K.div_ceil(values), N);
    cpu.compute(space::<E, A, B>(cpu, [M, K, N]), |cpu| {
        cpu.with_shared(packed + sums, |shared: &mut [E::Acc]| {
            let (packed, sums) = shared.split_at_mut(packed);
            if sums.is_empty() {
                return blocks(cpu, c, at, a, b, onto, values, packed);
            }
            blocks(cpu, sums, [0, N], a, b, Onto::Zero, values, packed);
            let sums = &*sums;
            cpu.for_each_tile(tiles(c, task_rows(M), at, N), |c| {
                E::Acc::dispatch(cpu.isa(), Round { c, sums, onto });
            });
        });
    });
}

/// The product block by block of B, in items of `values` of k: pack it, then all rows of C take it
/// in. Where k has several blocks, C holds the sums between them.
fn blocks<E: Element, A: Element<Acc = E::Acc>, B: Element<Acc = E::Acc>>(
    cpu: &Cpu,
    c: &mut [E],
    [first, stride]: [usize; 2],
    a: Mat<A>,
    b: Mat<B>,
    onto: Onto<E>,
    values: usize,
    packed: &mut [E::Acc],
) {
    let (M, K, N) = (a.rows, a.cols.div_ceil(values), b.cols);
    let (kc, NR) = (block_items(K), E::Acc::panel_width(cpu.isa()));
    let NC = pack_cols(kc, N);
    let (rows, chunk) = if b.col == 1 { (PANELS, CHUNK) } else { (1, kc) };
    for col in (0..N).step_by(NC) {
        let cols = NC.min(N - col);
        for k in (0..K).step_by(kc) {
            let ks = kc.min(K - k);
            let apart = panel_stride::<E::Acc>(ks, NR);
            let panels = &mut packed[..cols.div_ceil(NR) * apart];
            // Without what lies between panels.
            let (panels, _) =
                Tiles::new(panels, apart, rows, chunk * NR).split_columns(ks * NR, [chunk * NR, 1]);
            cpu.for_each_tile(panels, |panels| {
                dispatch_items(cpu.isa(), values, Pack { panels, b, col, k });
            });
            let panels = &packed[..cols.div_ceil(NR) * apart];
            let onto = if k == 0 { onto } else { Onto::Itself };
            let band = tiles(&mut *c, task_rows(M), [first + col, stride], cols);
            cpu.for_each_tile(band, |c| {
                cpu.with_task(TASK, |scratch| {
                    let task = Task { c, a, panels, onto, N, col, k, ks, scratch };
                    dispatch_items(cpu.isa(), values, task);
                });
            });
        }
    }
}

/// Asks memory for `cols` columns from `col` on of the rows of item `k`, as far as there are such:
/// each row lends a short piece, and no hardware foresees the next.
#[inline(always)]
fn ask<A: Element>(a: Mat<A>, k: usize, values: usize, col: usize, cols: usize) {
    for row in k * values..((k + 1) * values).min(a.rows) {
        prefetch(&a.along(row)[col..][..cols]);
    }
}

/// Some chunks of k of some panels of B. Panel p holds, for each item of k in turn, NR columns
/// from `col + p * NR` on, zero beyond the last.
struct Pack<'a, 't, R, B> {
    panels: Tile<'t, R>,
    b: Mat<'a, B>,
    col: usize,
    k: usize,
}

impl<R: Real, B: Element<Acc = R>> ItemKernel<R> for Pack<'_, '_, R, B> {
    #[inline(always)]
    fn run<V: Vector<Scalar = R>, F: Factors<V>>(mut self) {
        let (b, panels) = (self.b, self.panels.rows());
        let (k0, ks) = (self.k + self.panels.col / V::NR, self.panels.cols() / V::NR);
        let first = self.col + self.panels.row * V::NR;
        if b.col == 1 {
            // Along the rows of B, as memory has them.
            let width = (panels * V::NR).min(b.cols - first);
            for k in 0..ks {
                ask(b, k0 + k + AHEAD, F::K, first, width);
                let rows = b.item(k0 + k, F::K);
                for p in 0..panels {
                    let items: &mut [F::Item] = bytemuck::cast_slice_mut(self.panels.row_mut(p));
                    let items = &mut items[k * V::NR..][..V::NR];
                    for j in (0..V::NR).step_by(V::LANES) {
                        items_of_columns::<B, V, F>(rows, first + p * V::NR + j)
                            .store_items(&mut items[j..]);
                    }
                }
            }
            return;
        }
        for p in 0..panels {
            let items: &mut [F::Item] = bytemuck::cast_slice_mut(self.panels.row_mut(p));
            for j in (0..V::NR).step_by(V::LANES) {
                turn::<B, V, F>(items, j, b.t(), first + p * V::NR + j, k0);
            }
        }
    }
}

/// panel[k * NR + j + i] = item `k0 + k` of row `row + i` for i < LANES, zero where there is none.
#[inline(always)]
fn turn<B: Element, V: Vector<Scalar = B::Acc>, F: Factors<V>>(
    panel: &mut [F::Item],
    j: usize,
    b: Mat<B>,
    row: usize,
    k0: usize,
) {
    let ks = panel.len() / V::NR;
    let mut square = [F::Item::zeroed(); MAX_LANES * MAX_LANES];
    let mut turned = square;
    for k in (0..ks).step_by(V::LANES) {
        for i in 0..V::LANES {
            let square = &mut square[i * V::LANES..][..V::LANES];
            if row + i < b.rows {
                let row = b.along(row + i);
                let ahead = ((k0 + k + AHEAD_IN_COLUMN) * F::K).min(row.len() - 1);
                prefetch(&row[ahead..][..1]);
                items_of_row::<B, V, F>(row, (k0 + k) * F::K).store_items(square);
            } else {
                square.fill(F::Item::zeroed());
            }
        }
        if k + V::LANES <= ks {
            F::transpose_items(&mut panel[k * V::NR + j..], V::NR, &square, V::LANES);
        } else {
            F::transpose_items(&mut turned, V::LANES, &square, V::LANES);
            for (q, turned) in turned.chunks_exact(V::LANES).take(ks - k).enumerate() {
                panel[(k + q) * V::NR + j..][..V::LANES].copy_from_slice(turned);
            }
        }
    }
}

/// One task: rows of C take in one block of B.
struct Task<'a, 't, E: Element, A> {
    c: Tile<'t, E>,
    a: Mat<'a, A>,
    panels: &'a [E::Acc],
    onto: Onto<'a, E>,
    N: usize,
    col: usize,
    k: usize,
    ks: usize,
    scratch: &'a mut [E::Acc],
}

impl<E: Element, A: Element<Acc = E::Acc>> ItemKernel<E::Acc> for Task<'_, '_, E, A> {
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>, F: Factors<V>>(mut self) {
        let (rows, cols) = (self.c.rows(), self.c.cols());
        let scratch = bytemuck::cast_slice_mut(std::mem::take(&mut self.scratch));
        let a = rows_of::<A, V, F>(scratch, self.a, self.c.row, rows, self.k, self.ks);
        let stride = panel_stride::<E::Acc>(self.ks, V::NR);
        for (p, panel) in self.panels.chunks_exact(stride).enumerate() {
            let (j, panel) = (p * V::NR, bytemuck::cast_slice(panel));
            for i in (0..rows).step_by(V::MR) {
                if i + V::MR <= rows && j + V::NR <= cols {
                    self.whole_tile::<V, F>(i, j, a.at(i, V::MR), panel);
                } else {
                    self.cut_tile::<V, F>(i, j, a.at(i, V::MR), panel);
                }
            }
        }
    }
}

/// Where a task's rows of A lie: groups of MR rows, `group` items apart.
#[derive(Clone, Copy)]
struct Grouped<'a, I> {
    lines: Lines<'a, I>,
    group: usize,
}

impl<'a, I> Grouped<'a, I> {
    #[inline(always)]
    fn at(&self, i: usize, MR: usize) -> Lines<'a, I> {
        Lines { data: &self.lines.data[i / MR * self.group..], ..self.lines }
    }
}

/// Rows `row..row + rows` and items `k..k + ks` of `a`: in place if possible, else copied into
/// `packed` (row by row where a row's elements are next to each other, item by item otherwise).
/// Groups are whole: rows beyond the last one of `a` hold arbitrary values.
#[inline(always)]
fn rows_of<'a, A: Element, V: Vector<Scalar = A::Acc>, F: Factors<V>>(
    packed: &'a mut [F::Item],
    a: Mat<'a, A>,
    row: usize,
    rows: usize,
    k: usize,
    ks: usize,
) -> Grouped<'a, F::Item> {
    if a.col == 1 {
        let whole = a.row.is_multiple_of(F::K) && (k + ks) * F::K <= a.cols;
        let aliased = (a.row * size_of::<A>()).is_multiple_of(ALIAS);
        if whole && !aliased && rows.is_multiple_of(V::MR) {
            let data = &a.data[row * a.row + k * F::K..];
            if let Some(data) = F::in_place(&data[..(rows - 1) * a.row + ks * F::K]) {
                let row = a.row / F::K;
                return Grouped { lines: Lines { data, row, col: 1 }, group: V::MR * row };
            }
        }
        let stride = ks.next_multiple_of(PAD) + PAD;
        let aliased = (stride * size_of::<F::Item>()).is_multiple_of(ALIAS);
        let stride = stride + if aliased { PAD } else { 0 };
        for (i, dst) in packed.chunks_exact_mut(stride).take(rows).enumerate() {
            let src = a.along(row + i);
            for q in (0..ks).step_by(V::LANES) {
                items_of_row::<A, V, F>(src, (k + q) * F::K).store_items(&mut dst[q..]);
            }
        }
        let lines = Lines { data: packed, row: stride, col: 1 };
        return Grouped { lines, group: V::MR * stride };
    }
    let (across, stride) = (a.t(), rows.next_multiple_of(V::MR));
    for q in 0..ks {
        ask(across, k + q + AHEAD, F::K, row, rows);
        let item = across.item(k + q, F::K);
        // What the last vector has too much, the next item takes back.
        for i in (0..rows).step_by(V::LANES) {
            items_of_columns::<A, V, F>(item, row + i).store_items(&mut packed[q * stride + i..]);
        }
    }
    Grouped { lines: Lines { data: packed, row: 1, col: stride }, group: V::MR }
}

impl<E: Element, A: Element<Acc = E::Acc>> Task<'_, '_, E, A> {
    /// A tile that lies inside C. One copy of the loop for each base, so that the sums go from
    /// registers to C.
    #[inline(always)]
    fn whole_tile<V: Vector<Scalar = E::Acc>, F: Factors<V>>(
        &mut self,
        i: usize,
        j: usize,
        a: Lines<'_, F::Item>,
        panel: &[F::Item],
    ) {
        let (c, N, ks) = (&mut self.c, self.N, self.ks);
        let start = (c.row + i) * N + self.col + j;
        // What the sums go to comes while they are made.
        for di in 0..V::MR {
            prefetch(&c.row_mut(i + di)[j..][..V::NR]);
            if let Onto::Addend(addend) = self.onto {
                prefetch(&addend[start + di * N..][..V::NR]);
            }
        }
        match self.onto {
            Onto::Zero => sums::<V, F>(
                a,
                panel,
                ks,
                #[inline(always)]
                |di, sums| {
                    let dst = &mut c.row_mut(i + di)[j..][..V::NR];
                    for (&v, dst) in sums.iter().zip(dst.chunks_exact_mut(V::LANES)) {
                        F::store_sums(v, dst);
                    }
                },
            ),
            Onto::Itself => sums::<V, F>(
                a,
                panel,
                ks,
                #[inline(always)]
                |di, sums| {
                    let dst = &mut c.row_mut(i + di)[j..][..V::NR];
                    for (&v, dst) in sums.iter().zip(dst.chunks_exact_mut(V::LANES)) {
                        F::store_sums(E::load::<V>(dst) + v, dst);
                    }
                },
            ),
            Onto::Addend(addend) => sums::<V, F>(
                a,
                panel,
                ks,
                #[inline(always)]
                |di, sums| {
                    let dst = &mut c.row_mut(i + di)[j..][..V::NR];
                    let addend = &addend[start + di * N..][..V::NR];
                    let vectors = dst.chunks_exact_mut(V::LANES).zip(addend.chunks_exact(V::LANES));
                    for (&v, (dst, base)) in sums.iter().zip(vectors) {
                        F::store_sums(E::load::<V>(base) + v, dst);
                    }
                },
            ),
        }
    }

    /// A tile that reaches beyond C's last row or column.
    #[inline(always)]
    fn cut_tile<V: Vector<Scalar = E::Acc>, F: Factors<V>>(
        &mut self,
        i: usize,
        j: usize,
        a: Lines<'_, F::Item>,
        panel: &[F::Item],
    ) {
        let (c, N, onto) = (&mut self.c, self.N, self.onto);
        let rows = c.rows() - i;
        let start = (c.row + i) * N + self.col + j;
        sums::<V, F>(
            a,
            panel,
            self.ks,
            #[inline(always)]
            |di, sums| {
                if di >= rows {
                    return;
                }
                let dst = &mut c.row_mut(i + di)[j..];
                for (dj, &v) in (0..dst.len()).step_by(V::LANES).zip(sums) {
                    let dst = &mut dst[dj..];
                    let base = match onto {
                        Onto::Zero => V::splat(E::Acc::ZERO),
                        Onto::Itself => load::<E, V>(dst),
                        Onto::Addend(addend) => {
                            load::<E, V>(&addend[start + di * N + dj..][..dst.len()])
                        }
                    };
                    store::<E, V>(base + v, dst);
                }
            },
        );
    }
}

/// Sums over `k` items of a tile, handed to `put` row by row.
#[inline(always)]
fn sums<V: Vector, F: Factors<V>>(
    a: Lines<'_, F::Item>,
    panel: &[F::Item],
    k: usize,
    mut put: impl FnMut(usize, &[V]),
) {
    V::sums::<F, 1>(
        [a],
        [panel],
        k,
        false,
        #[inline(always)]
        |_, _, _| V::splat(V::Scalar::ZERO),
        #[inline(always)]
        |i, [sums]| put(i, sums),
    );
}

/// Rounds sums into rows of C, onto what C starts from.
struct Round<'a, 't, E: Element> {
    c: Tile<'t, E>,
    sums: &'a [E::Acc],
    onto: Onto<'a, E>,
}

impl<E: Element> Kernel<E::Acc> for Round<'_, '_, E> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>>(mut self) {
        let N = self.c.cols();
        for i in 0..self.c.rows() {
            let start = (self.c.row + i) * N;
            let dst = self.c.row_mut(i);
            for j in (0..N).step_by(V::LANES) {
                let sums = load::<E::Acc, V>(&self.sums[start + j..start + N]);
                let sums = match self.onto {
                    Onto::Zero => sums,
                    Onto::Itself => load::<E, V>(&dst[j..]) + sums,
                    Onto::Addend(base) => load::<E, V>(&base[start + j..start + N]) + sums,
                };
                store(sums, &mut dst[j..]);
            }
        }
    }
}
