//! C = A * B, C += A * B or C = addend + A * B, for strided A and B and row-major C.
//!
//! Shape of the computation (Goto and van de Geijn 2008): blocks of B are packed into panels of
//! NR columns, by all threads; then tasks own blocks of rows of C. A task holds its rows of A in
//! L2 and streams the panels past them; the sums of a tile stay in registers for a whole block of
//! k and leave them once. A is read in place where its rows are contiguous, and packed by the
//! task otherwise. A product of two bf16 matrices takes pairs of k at a time where the instruction
//! set has dot products of them; otherwise factors are widened to [`Element::Acc`]. Each element
//! of C is the sum over ascending k, whatever the threads do.

use super::Cpu;
use super::simd::{
    DotKernel, Dots, Factors, Isa, Kernel, MAX_LANES, Pair, Rows, Vector, load, prefetch, store,
};
use super::tiles::{Tile, Tiles};
use crate::element::{Element, Real};
use half::bf16;
use std::marker::PhantomData;

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

    /// The transpose, without a copy.
    pub fn t(self) -> Self {
        Mat { rows: self.cols, cols: self.rows, row: self.col, col: self.row, ..self }
    }

    /// The same matrix if its elements are bf16.
    fn as_bf16(self) -> Option<Mat<'a, bf16>> {
        let Mat { data, rows, cols, row, col } = self;
        E::as_bf16(data).map(|data| Mat { data, rows, cols, row, col })
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
/// Most rows of C in a task: a multiple of every tile height.
const ROWS_MAX: usize = 48;
/// Panels, and items of k, that are packed by one task: the source stays in L1.
const PANELS: usize = 8;
const CHUNK: usize = 32;
/// Rows between the one that is packed and the one that is asked of memory.
const AHEAD: usize = 16;
/// Widest NR of any instruction set, for sizes that must not depend on it.
const NR_MAX: usize = 32;
/// Added to rows of A that would otherwise lie a multiple of [`ALIAS`] apart.
const PAD: usize = 16;
/// Bytes after which lines share a set of L1: a dozen rows at this distance evict each other,
/// which cost a tenth of the speed.
const ALIAS: usize = 4096;

/// What panels hold, for sums in `R` of products of elements `A`: one k in an item, or two.
trait Item<R: Real, A>: bytemuck::Pod + Send + Sync {
    const K: usize;
    /// One item: k and, where an item holds two, k + 1.
    fn new(k: A, next: A) -> Self;
    /// Rows of whole items, without a copy.
    fn in_place(rows: &[A]) -> Option<&[Self]>;
    fn run<E: Element<Acc = R>>(isa: Isa, task: Task<'_, '_, E, A, Self>);
}

impl<R: Real, A: Element<Acc = R>> Item<R, A> for R {
    const K: usize = 1;
    #[inline(always)]
    fn new(k: A, _: A) -> R {
        k.to_acc()
    }
    #[inline(always)]
    fn in_place(rows: &[A]) -> Option<&[R]> {
        A::as_acc(rows)
    }
    fn run<E: Element<Acc = R>>(isa: Isa, task: Task<'_, '_, E, A, R>) {
        R::dispatch(isa, task)
    }
}

impl<R: Real> Item<R, bf16> for Pair {
    const K: usize = 2;
    #[inline(always)]
    fn new(k: bf16, next: bf16) -> Pair {
        Pair::new(k, next)
    }
    #[inline(always)]
    fn in_place(rows: &[bf16]) -> Option<&[Pair]> {
        bytemuck::try_cast_slice(rows).ok()
    }
    fn run<E: Element<Acc = R>>(isa: Isa, task: Task<'_, '_, E, bf16, Pair>) {
        R::dispatch_dots(isa, task)
    }
}

/// Length of a block of k, of `K` items in all.
fn block_items(K: usize) -> usize {
    K.div_ceil(K.div_ceil(KC))
}

/// Items between panels of `ks` rows of NR: rows at the same place of several panels must not share
/// a set of L1, for packing writes them together, nor panels those of L2.
fn panel_stride<I>(ks: usize, NR: usize) -> usize {
    let aliased = (ks * NR * size_of::<I>()).is_multiple_of(ALIAS);
    if aliased { (ks + 1) * NR } else { ks * NR }
}

/// Columns of B packed at a time, for a block of `kc` items.
fn pack_cols(kc: usize, N: usize) -> usize {
    (PACK / kc).next_multiple_of(NR_MAX).min(N.next_multiple_of(NR_MAX))
}

/// Rows of C in a task. Enough tasks to balance, enough rows to reuse panels.
fn task_rows(M: usize) -> usize {
    M.div_ceil(32).next_multiple_of(12).clamp(24, ROWS_MAX)
}

/// Elements (of [`Element::Acc`]) of packed B, and of sums that C cannot hold between blocks.
fn lens<E: Element>(M: usize, K: usize, N: usize) -> [usize; 2] {
    let kc = block_items(K);
    let sums = if K <= kc || E::as_acc(&[]).is_some() { 0 } else { M * N };
    [pack_cols(kc, N) * (kc + 1), sums]
}

/// Elements (of [`Element::Acc`]) that a product of matrices in storage `E` needs beside them, for
/// memory plans.
pub fn shared_len<E: Element>(cpu: &Cpu, M: usize, K: usize, N: usize) -> usize {
    let pairs = cpu.isa().dots() && E::as_bf16(&[]).is_some();
    lens::<E>(M, if pairs { K.div_ceil(2) } else { K }, N).iter().sum()
}

/// Elements (of [`Element::Acc`]) that a task of a product needs, at most, for memory plans.
pub fn task_len() -> usize {
    ROWS_MAX * (KC + PAD)
}

/// C (M rows of N) = onto + a * b.
///
/// # Panics
/// If shapes disagree: a caller bug.
pub fn gemm<E: Element, A: Element<Acc = E::Acc>, B: Element<Acc = E::Acc>>(
    cpu: &Cpu,
    c_MN: &mut [E],
    a: Mat<A>,
    b: Mat<B>,
    onto: Onto<E>,
) {
    let (M, K, N) = (a.rows, a.cols, b.cols);
    assert!(
        b.rows == K && c_MN.len() == M * N,
        "gemm: {M}x{K} * {}x{N} into {}",
        b.rows,
        c_MN.len()
    );
    if let Onto::Addend(addend) = onto {
        assert_eq!(addend.len(), c_MN.len(), "gemm: addend");
    }
    match (a.as_bf16(), b.as_bf16()) {
        (Some(a), Some(b)) if cpu.isa().dots() => by_items::<E, _, _, Pair>(cpu, c_MN, a, b, onto),
        _ => by_items::<E, _, _, E::Acc>(cpu, c_MN, a, b, onto),
    }
}

fn by_items<E, A, B, I>(cpu: &Cpu, c_MN: &mut [E], a: Mat<A>, b: Mat<B>, onto: Onto<E>)
where
    E: Element,
    A: Element,
    B: Element,
    I: Item<E::Acc, A> + Item<E::Acc, B>,
{
    let (M, K, N) = (a.rows, a.cols.div_ceil(<I as Item<E::Acc, A>>::K), b.cols);
    let [packed, sums] = lens::<E>(M, K, N);
    cpu.reserve_task::<E::Acc>(task_len());
    cpu.with_shared(packed + sums, |shared: &mut [E::Acc]| {
        let (packed, sums) = shared.split_at_mut(packed);
        let packed: &mut [I] = bytemuck::cast_slice_mut(packed);
        if sums.is_empty() {
            return blocks(cpu, c_MN, a, b, onto, packed);
        }
        blocks(cpu, sums, a, b, Onto::Zero, packed);
        let sums = &*sums;
        cpu.for_each_tile(Tiles::new(c_MN, N, task_rows(M), N), |c| {
            E::Acc::dispatch(cpu.isa(), Round { c, sums, onto });
        });
    });
}

/// The product block by block of B: pack it, then all rows of C take it in. Where k has several
/// blocks, C holds the sums between them.
fn blocks<E, A, B, I>(
    cpu: &Cpu,
    c_MN: &mut [E],
    a: Mat<A>,
    b: Mat<B>,
    onto: Onto<E>,
    packed: &mut [I],
) where
    E: Element,
    A: Element,
    B: Element,
    I: Item<E::Acc, A> + Item<E::Acc, B>,
{
    let (M, K, N) = (a.rows, a.cols.div_ceil(<I as Item<E::Acc, A>>::K), b.cols);
    let (kc, NR) = (block_items(K), E::Acc::panel_width(cpu.isa()));
    let NC = pack_cols(kc, N);
    for col in (0..N).step_by(NC) {
        let cols = NC.min(N - col);
        for k in (0..K).step_by(kc) {
            let ks = kc.min(K - k);
            let stride = panel_stride::<I>(ks, NR);
            let panels = &mut packed[..cols.div_ceil(NR) * stride];
            // Without what lies between panels.
            let (panels, _) = Tiles::new(panels, stride, PANELS, CHUNK * NR)
                .split_columns(ks * NR, [CHUNK * NR, 1]);
            cpu.for_each_tile(panels, |panels| {
                let task = Pack { panels, b, col, cols, k, sums: PhantomData::<E::Acc> };
                E::Acc::dispatch(cpu.isa(), task);
            });
            let panels = &packed[..cols.div_ceil(NR) * stride];
            let onto = if k == 0 { onto } else { Onto::Itself };
            // Whole rows as one band of tiles, then only this block of columns of them.
            let (_, band) =
                Tiles::new(&mut *c_MN, N, task_rows(M), N).split_columns(col, [1, cols]);
            let (band, _) = band.split_columns(cols, [cols, 1]);
            cpu.for_each_tile(band, |c| {
                cpu.with_task(task_len(), |scratch: &mut [E::Acc]| {
                    let scratch = bytemuck::cast_slice_mut(scratch);
                    let task = Task { c, a, panels, onto, N, col, k, ks, scratch };
                    <I as Item<E::Acc, A>>::run(cpu.isa(), task);
                });
            });
        }
    }
}

/// Item `k` of a row whose elements are next to each other, filled up with zero.
#[inline(always)]
fn item<R: Real, A: Element, I: Item<R, A>>(row: &[A], k: usize) -> I {
    let at = k * I::K;
    I::new(row[at], if I::K == 2 && at + 1 < row.len() { row[at + 1] } else { A::default() })
}

/// dst[j] = item `k` of column `col + j` for j < cols, zero from there on, of a matrix whose rows
/// have their elements next to each other.
#[inline(always)]
fn pack_across<R: Real, A: Element, I: Item<R, A>>(
    dst: &mut [I],
    src: Mat<A>,
    k: usize,
    col: usize,
    cols: usize,
) {
    let at = k * I::K;
    let row = &src.data[at * src.row + col..][..cols];
    // Beyond the last row, the row itself stands in and counts as zero.
    let paired = I::K == 2 && at + 1 < src.rows;
    let next = if paired { &src.data[(at + 1) * src.row + col..][..cols] } else { row };
    let pairs = dst[..cols].iter_mut().zip(row.iter().zip(next));
    if paired || I::K == 1 {
        pairs.for_each(|(dst, (&k, &next))| *dst = I::new(k, next));
    } else {
        pairs.for_each(|(dst, (&k, _))| *dst = I::new(k, A::default()));
    }
    dst[cols..].fill(I::zeroed());
}

/// Asks memory for `cols` columns from `col` on of `rows` rows from `row` on, as far as there are
/// such: each row lends a short piece, and no hardware foresees the next.
#[inline(always)]
fn ask<A: Element>(a: Mat<A>, row: usize, rows: usize, col: usize, cols: usize) {
    for row in row..(row + rows).min(a.rows) {
        prefetch(&a.data[row * a.row + col..][..cols]);
    }
}

/// Items of a square that is turned at once.
const SQUARE: usize = 16;

/// Some chunks of k of some panels of B. Panel p holds, for each item of k in turn, NR columns
/// from `col + p * NR` on, zero beyond the last.
struct Pack<'a, 't, R, B, I> {
    panels: Tile<'t, I>,
    b: Mat<'a, B>,
    col: usize,
    cols: usize,
    k: usize,
    sums: PhantomData<R>,
}

impl<R: Real, B: Element, I: Item<R, B>> Kernel<R> for Pack<'_, '_, R, B, I> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = R>>(mut self) {
        let (b, k0) = (self.b, self.k + self.panels.col / V::NR);
        let (panels, ks) = (self.panels.rows(), self.panels.cols() / V::NR);
        // First column of a panel, and how many it has.
        let columns = |row: usize| (self.col + row * V::NR, V::NR.min(self.cols - row * V::NR));
        if b.col == 1 {
            // Along the rows of B, as memory has them.
            let first = self.col + self.panels.row * V::NR;
            let width = (panels * V::NR).min(b.cols - first);
            for k in 0..ks {
                ask(b, (k0 + k) * I::K + AHEAD, I::K, first, width);
                for p in 0..panels {
                    let (col, cols) = columns(self.panels.row + p);
                    let dst = &mut self.panels.row_mut(p)[k * V::NR..][..V::NR];
                    if cols == V::NR {
                        // The usual case, with a length that the compiler knows.
                        pack_across(dst, b, k0 + k, col, V::NR);
                    } else {
                        pack_across(dst, b, k0 + k, col, cols);
                    }
                }
            }
            return;
        }
        for p in 0..panels {
            let (col, cols) = columns(self.panels.row + p);
            let panel = self.panels.row_mut(p);
            for j in (0..V::NR).step_by(SQUARE) {
                turn(panel, V::NR, j, b, k0, col + j, cols.saturating_sub(j).min(SQUARE));
            }
        }
    }
}

/// panel[k * NR + j + i] = item `k0 + k` of column `col + i` for i < cols, zero up to SQUARE, of a
/// matrix whose columns have their elements next to each other.
#[inline(always)]
fn turn<R: Real, B: Element, I: Item<R, B>>(
    panel: &mut [I],
    NR: usize,
    j: usize,
    b: Mat<B>,
    k0: usize,
    col: usize,
    cols: usize,
) {
    let width = SQUARE.min(NR);
    let ks = panel.len() / NR;
    for k in (0..ks).step_by(SQUARE) {
        let mut square = [[I::zeroed(); SQUARE]; SQUARE];
        let whole = ks - k >= SQUARE && (k0 + k + SQUARE) * I::K <= b.rows;
        for i in 0..cols {
            let column = &b.data[(col + i) * b.col..][..b.rows];
            if whole {
                let column = &column[(k0 + k) * I::K..][..SQUARE * I::K];
                for q in 0..SQUARE {
                    square[q][i] = I::new(column[q * I::K], column[q * I::K + I::K - 1]);
                }
            } else {
                for q in 0..SQUARE.min(ks - k) {
                    square[q][i] = item(column, k0 + k + q);
                }
            }
        }
        for (dst, square) in panel[k * NR..].chunks_exact_mut(NR).zip(&square) {
            dst[j..j + width].copy_from_slice(&square[..width]);
        }
    }
}

/// One task: rows of C take in one block of B.
struct Task<'a, 't, E, A, I> {
    c: Tile<'t, E>,
    a: Mat<'a, A>,
    panels: &'a [I],
    onto: Onto<'a, E>,
    N: usize,
    col: usize,
    k: usize,
    ks: usize,
    scratch: &'a mut [I],
}

impl<E: Element, A: Element<Acc = E::Acc>> Kernel<E::Acc> for Task<'_, '_, E, A, E::Acc> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>>(self) {
        self.walk::<V, V>()
    }
}

impl<E: Element> DotKernel<E::Acc> for Task<'_, '_, E, bf16, Pair> {
    type Out = ();
    #[inline(always)]
    fn run<V: Dots<Scalar = E::Acc>>(self) {
        self.walk::<V, V::Pairs>()
    }
}

/// Where a task's rows of A lie: groups of MR rows, `group` items apart.
#[derive(Clone, Copy)]
struct Grouped<'a, I> {
    rows: Rows<'a, I>,
    group: usize,
}

impl<'a, I> Grouped<'a, I> {
    #[inline(always)]
    fn at(&self, i: usize, MR: usize) -> Rows<'a, I> {
        let Rows { data, rows, row, col } = self.rows;
        Rows { data: &data[i / MR * self.group..], rows: rows - i, row, col }
    }
}

/// Rows `row..row + rows` and items `k..k + ks` of `a`: in place if possible, else copied into
/// `packed` (row by row where a row's elements are next to each other, k by k otherwise).
#[inline(always)]
fn rows_of<'a, R: Real, A: Element, I: Item<R, A>, V: Vector<Scalar = R>>(
    packed: &'a mut [I],
    a: Mat<'a, A>,
    row: usize,
    rows: usize,
    k: usize,
    ks: usize,
) -> Grouped<'a, I> {
    if a.col == 1 {
        let whole = a.row.is_multiple_of(I::K) && (k + ks) * I::K <= a.cols;
        if whole && !(a.row * size_of::<A>()).is_multiple_of(ALIAS) {
            let data = &a.data[row * a.row + k * I::K..];
            if let Some(data) = I::in_place(&data[..(rows - 1) * a.row + ks * I::K]) {
                let row = a.row / I::K;
                return Grouped { rows: Rows { data, rows, row, col: 1 }, group: V::MR * row };
            }
        }
        let stride = ks.next_multiple_of(PAD) + PAD;
        let stride = stride + if (stride * size_of::<I>()).is_multiple_of(ALIAS) { PAD } else { 0 };
        for i in 0..rows {
            let src = &a.data[(row + i) * a.row..][..a.cols];
            let dst = &mut packed[i * stride..][..ks];
            if whole {
                for (dst, src) in dst.iter_mut().zip(src[k * I::K..].chunks_exact(I::K)) {
                    *dst = I::new(src[0], src[I::K - 1]);
                }
            } else {
                (0..ks).for_each(|q| dst[q] = item(src, k + q));
            }
        }
        let rows = Rows { data: packed, rows, row: stride, col: 1 };
        return Grouped { rows, group: V::MR * stride };
    }
    let (across, stride) = (a.t(), rows.next_multiple_of(V::MR));
    for q in 0..ks {
        ask(across, (k + q) * I::K + AHEAD, I::K, row, rows);
        pack_across(&mut packed[q * stride..][..stride], across, k + q, row, rows);
    }
    Grouped { rows: Rows { data: packed, rows, row: 1, col: stride }, group: V::MR }
}

impl<E: Element, A: Element, I: Item<E::Acc, A>> Task<'_, '_, E, A, I> {
    #[inline(always)]
    fn walk<V: Vector<Scalar = E::Acc>, F: Factors<V, Item = I>>(mut self) {
        let (rows, cols) = (self.c.rows(), self.c.cols());
        let scratch = std::mem::take(&mut self.scratch);
        let a = rows_of::<_, _, _, V>(scratch, self.a, self.c.row, rows, self.k, self.ks);
        let stride = panel_stride::<I>(self.ks, V::NR);
        for (p, panel) in self.panels.chunks_exact(stride).enumerate() {
            let j = p * V::NR;
            for i in (0..rows).step_by(V::MR) {
                if i + V::MR <= rows && j + V::NR <= cols {
                    self.whole_tile::<V, F>(i, j, a.at(i, V::MR), panel);
                } else {
                    self.cut_tile::<V, F>(i, j, a.at(i, V::MR), panel);
                }
            }
        }
    }

    /// A tile that lies inside C. One copy of the loop for each base, so that the sums go from
    /// registers to C.
    #[inline(always)]
    fn whole_tile<V: Vector<Scalar = E::Acc>, F: Factors<V, Item = I>>(
        &mut self,
        i: usize,
        j: usize,
        a: Rows<'_, I>,
        panel: &[I],
    ) {
        let (c, N, ks) = (&mut self.c, self.N, self.ks);
        let start = (c.row + i) * N + self.col + j;
        match self.onto {
            Onto::Zero => V::tile::<F>(
                a,
                panel,
                ks,
                #[inline(always)]
                |di, dj, v| F::store(v, &mut c.row_mut(i + di)[j + dj..]),
            ),
            Onto::Itself => V::tile::<F>(
                a,
                panel,
                ks,
                #[inline(always)]
                |di, dj, v| {
                    let dst = &mut c.row_mut(i + di)[j + dj..];
                    F::store(E::load::<V>(dst) + v, dst);
                },
            ),
            Onto::Addend(addend) => V::tile::<F>(
                a,
                panel,
                ks,
                #[inline(always)]
                |di, dj, v| {
                    let base = E::load::<V>(&addend[start + di * N + dj..]);
                    F::store(base + v, &mut c.row_mut(i + di)[j + dj..]);
                },
            ),
        }
    }

    /// A tile that reaches beyond C's last row or column.
    #[inline(always)]
    fn cut_tile<V: Vector<Scalar = E::Acc>, F: Factors<V, Item = I>>(
        &mut self,
        i: usize,
        j: usize,
        a: Rows<'_, I>,
        panel: &[I],
    ) {
        let (c, N, onto) = (&mut self.c, self.N, self.onto);
        let (rows, cols) = (c.rows() - i, c.cols() - j);
        let start = (c.row + i) * N + self.col + j;
        V::tile::<F>(
            a,
            panel,
            self.ks,
            #[inline(always)]
            |di, dj, v| {
                if di < rows && dj < cols {
                    let mut lanes = [E::Acc::ZERO; MAX_LANES];
                    v.store(&mut lanes);
                    let dst = &mut c.row_mut(i + di)[j + dj..];
                    for l in 0..dst.len().min(V::LANES) {
                        let base = match onto {
                            Onto::Zero => E::Acc::ZERO,
                            Onto::Itself => dst[l].to_acc(),
                            Onto::Addend(addend) => addend[start + di * N + dj + l].to_acc(),
                        };
                        dst[l] = E::from_acc(base + lanes[l]);
                    }
                }
            },
        );
    }
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
