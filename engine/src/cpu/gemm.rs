//! C = A * B, C += A * B or C = addend + A * B, for strided A and B and row-major C.
//!
//! Shape of the computation (Goto and van de Geijn 2008): B is packed once into panels of NR
//! columns, by all threads; then tasks own blocks of rows of C. A task walks k in blocks that
//! keep a panel of B in L1 and its rows of A in L2. A is read in place where its rows are
//! contiguous f32 or f64, and packed per task otherwise. Sums are in [`Element::Acc`]; each
//! element of C is the sum over blocks of k in ascending order, whatever the threads do.

use super::Cpu;
use super::simd::{Kernel, MAX_LANES, Rows, Vector};
use super::tiles::{Tile, Tiles};
use crate::element::{Element, Real};
use rayon::prelude::*;

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
        assert!(cols > 0 && data.len().is_multiple_of(cols), "gemm: {} / {cols}", data.len());
        Mat { data, rows: data.len() / cols, cols, row: cols, col: 1 }
    }

    /// The transpose, without a copy.
    pub fn t(self) -> Self {
        Mat { rows: self.cols, cols: self.rows, row: self.col, col: self.row, ..self }
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

/// Elements of packed B at a time: 8 MiB of f32, a part of L3.
const PACK: usize = 1 << 21;
/// Longest block of k: a panel of B (KC * NR) stays in L1.
const KC: usize = 320;
/// Most rows of C in a task: a multiple of every tile height.
const ROWS_MAX: usize = 96;
/// Columns of C that a task holds back while k runs, where C cannot hold partial sums.
const HELD: usize = 256;
/// Widest NR of any instruction set, for sizes that must not depend on it.
const NR_MAX: usize = 32;

/// Columns of B packed at a time.
fn pack_cols(K: usize, N: usize) -> usize {
    (PACK / K).max(1).next_multiple_of(NR_MAX).min(N.next_multiple_of(NR_MAX))
}

/// Rows of C in a task: by shape only. Enough tasks to balance, enough rows to reuse panels.
fn task_rows(M: usize) -> usize {
    M.div_ceil(16).next_multiple_of(12).clamp(24, ROWS_MAX)
}

/// Elements (of [`Element::Acc`]) that a product needs for packed B, for memory plans.
pub fn shared_len(K: usize, N: usize) -> usize {
    pack_cols(K, N) * K
}

/// Elements (of [`Element::Acc`]) that a task of a product needs, at most, for memory plans.
pub fn task_len() -> usize {
    ROWS_MAX * (KC + HELD)
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
    let NC = pack_cols(K, N);
    cpu.reserve_task::<E::Acc>(task_len());
    cpu.with_shared(NC * K, |packed: &mut [E::Acc]| {
        for col in (0..N).step_by(NC) {
            let cols = NC.min(N - col);
            pack(cpu, packed, b, col, cols, E::Acc::panel_width(cpu.isa()));
            let packed = &*packed;
            // Whole rows as one band of tiles, then only this block of columns of them.
            let (_, band) =
                Tiles::new(&mut *c_MN, N, task_rows(M), N).split_columns(col, [1, cols]);
            let (band, _) = band.split_columns(cols, [cols, 1]);
            cpu.for_each_tile(band, |c| {
                cpu.with_task(task_len(), |scratch| {
                    E::Acc::dispatch(cpu.isa(), Block { c, a, packed, onto, N, col, scratch });
                });
            });
        }
    });
}

/// Copies columns `col..col + cols` of b into panels of `NR`: panel p holds, for each k in turn,
/// the columns from p * NR on, zero beyond the last.
fn pack<E: Element>(
    cpu: &Cpu,
    packed: &mut [E::Acc],
    b: Mat<E>,
    col: usize,
    cols: usize,
    NR: usize,
) {
    let packed = &mut packed[..cols.div_ceil(NR) * NR * b.rows];
    cpu.install(|| {
        packed.par_chunks_exact_mut(b.rows * NR).enumerate().for_each(|(p, panel)| {
            let first = col + p * NR;
            let cols = NR.min(col + cols - first);
            pack_panel::<E>(panel, NR, &b.data[first * b.col..], b.row, b.col, cols);
        })
    });
}

/// panel[k * width + j] = src[k * row + j * col] for j < cols, zero up to width.
#[inline(always)]
fn pack_panel<E: Element>(
    panel: &mut [E::Acc],
    width: usize,
    src: &[E],
    row: usize,
    col: usize,
    cols: usize,
) {
    if col == 1 && cols == width {
        // The usual case, with a length that the compiler knows.
        for (k, dst) in panel.chunks_exact_mut(width).enumerate() {
            let src = &src[k * row..][..width];
            for j in 0..width {
                dst[j] = src[j].to_acc();
            }
        }
        return;
    }
    if col == 1 {
        for (k, dst) in panel.chunks_exact_mut(width).enumerate() {
            let src = &src[k * row..][..cols];
            for j in 0..cols {
                dst[j] = src[j].to_acc();
            }
            dst[cols..].fill(E::Acc::ZERO);
        }
        return;
    }
    panel.chunks_exact_mut(width).for_each(|dst| dst[cols..].fill(E::Acc::ZERO));
    let K = panel.len() / width;
    // Sixteen k at a time: the lines of `panel` stay in L1 while each column passes over them.
    for k0 in (0..K).step_by(16) {
        let ks = 16.min(K - k0);
        for j in 0..cols {
            for k in k0..k0 + ks {
                panel[k * width + j] = src[k * row + j * col].to_acc();
            }
        }
    }
}

/// One task: rows of C, against all packed columns.
struct Block<'a, 't, E: Element, A: Element> {
    c: Tile<'t, E>,
    a: Mat<'a, A>,
    packed: &'a [E::Acc],
    onto: Onto<'a, E>,
    N: usize,
    col: usize,
    scratch: &'a mut [E::Acc],
}

impl<E: Element, A: Element<Acc = E::Acc>> Kernel<E::Acc> for Block<'_, '_, E, A> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>>(mut self) {
        const { assert!(HELD.is_multiple_of(V::NR) && NR_MAX.is_multiple_of(V::NR)) };
        let (K, rows, cols) = (self.a.cols, self.c.rows(), self.c.cols());
        let kc = K.div_ceil(K.div_ceil(KC));
        let in_place = E::as_acc(&[]).is_some();
        let width = if in_place { cols } else { HELD };
        let (packed_a, held) = std::mem::take(&mut self.scratch).split_at_mut(ROWS_MAX * KC);
        for j in (0..cols).step_by(width) {
            let js = width.min(cols - j);
            for k in (0..K).step_by(kc) {
                let ks = kc.min(K - k);
                let a = rows_of(packed_a, self.a, self.c.row, rows, k, ks, V::MR);
                if in_place {
                    self.sum_in_place::<V>(a, k, ks);
                } else {
                    self.sum_held::<V>(a, held, j..j + js, k, ks);
                }
            }
            if !in_place {
                self.release(held, j..j + js);
            }
        }
    }
}

/// Where a task's rows of A lie: groups of MR rows, `group` elements apart.
#[derive(Clone, Copy)]
struct Grouped<'a, R> {
    rows: Rows<'a, R>,
    group: usize,
}

impl<'a, R: Real> Grouped<'a, R> {
    #[inline(always)]
    fn at(&self, i: usize, MR: usize) -> Rows<'a, R> {
        let data = &self.rows.data[i / MR * self.group..];
        Rows { data, rows: self.rows.rows - i, ..self.rows }
    }
}

/// Rows `row..row + rows` and columns `k..k + ks` of `a`: in place if possible, else copied into
/// `packed` (a plain copy where a row is contiguous, groups of MR columns where a column is).
#[inline(always)]
fn rows_of<'a, A: Element>(
    packed: &'a mut [A::Acc],
    a: Mat<'a, A>,
    row: usize,
    rows: usize,
    k: usize,
    ks: usize,
    MR: usize,
) -> Grouped<'a, A::Acc> {
    if a.col == 1 {
        if let Some(data) = A::as_acc(a.data) {
            let data = &data[row * a.row + k..];
            return Grouped { rows: Rows { data, rows, row: a.row, col: 1 }, group: MR * a.row };
        }
        for i in 0..rows {
            let src = &a.data[(row + i) * a.row + k..][..ks];
            let dst = &mut packed[i * ks..][..ks];
            for j in 0..ks {
                dst[j] = src[j].to_acc();
            }
        }
        return Grouped { rows: Rows { data: packed, rows, row: ks, col: 1 }, group: MR * ks };
    }
    for i in (0..rows).step_by(MR) {
        let group = &mut packed[i * ks..][..ks * MR];
        let cols = MR.min(rows - i);
        pack_panel::<A>(group, MR, &a.data[(row + i) * a.row + k * a.col..], a.col, a.row, cols);
    }
    Grouped { rows: Rows { data: packed, rows, row: 1, col: MR }, group: MR * ks }
}

impl<E: Element, A: Element<Acc = E::Acc>> Block<'_, '_, E, A> {
    /// Adds one block of k to C, or starts C with it.
    #[inline(always)]
    fn sum_in_place<V: Vector<Scalar = E::Acc>>(
        &mut self,
        a: Grouped<'_, E::Acc>,
        k: usize,
        ks: usize,
    ) {
        let (rows, cols) = (self.c.rows(), self.c.cols());
        for j in (0..cols).step_by(V::NR) {
            let panel = panel::<V>(self.packed, self.a.cols, j, k);
            for i in (0..rows).step_by(V::MR) {
                let start = (self.c.row + i) * self.N + self.col + j;
                let base = match self.onto {
                    Onto::Zero if k == 0 => Base::Zero,
                    Onto::Addend(addend) if k == 0 => {
                        Base::Other(E::as_acc(&addend[start..]).expect("as C"), self.N)
                    }
                    _ => Base::Itself,
                };
                let to = (&mut self.c, i, j);
                if i + V::MR <= rows && j + V::NR <= cols {
                    whole_tile::<V, E>(to, a.at(i, V::MR), panel, ks, base);
                } else {
                    cut_tile::<V, E>(to, a.at(i, V::MR), panel, ks, base);
                }
            }
        }
    }

    /// The same into `held` (rows of HELD), for the columns `js` of C.
    #[inline(always)]
    fn sum_held<V: Vector<Scalar = E::Acc>>(
        &self,
        a: Grouped<'_, E::Acc>,
        held: &mut [E::Acc],
        js: std::ops::Range<usize>,
        k: usize,
        ks: usize,
    ) {
        let rows = self.c.rows();
        for j in js.clone().step_by(V::NR) {
            let panel = panel::<V>(self.packed, self.a.cols, j, k);
            for i in (0..rows).step_by(V::MR) {
                V::tile::<V>(
                    a.at(i, V::MR),
                    panel,
                    ks,
                    #[inline(always)]
                    |di, dj, v| {
                        let (i, j) = (i + di, j + dj - js.start);
                        if i < rows {
                            let dst = &mut held[i * HELD + j..(i + 1) * HELD];
                            (if k == 0 { v } else { V::load(dst) + v }).store(dst);
                        }
                    },
                );
            }
        }
    }

    /// Rounds held sums into C, onto what C starts from.
    #[inline(always)]
    fn release(&mut self, held: &[E::Acc], js: std::ops::Range<usize>) {
        for i in 0..self.c.rows() {
            let start = (self.c.row + i) * self.N + self.col + js.start;
            let dst = &mut self.c.row_mut(i)[js.clone()];
            let sums = &held[i * HELD..];
            for j in 0..dst.len() {
                let base = match self.onto {
                    Onto::Zero => E::Acc::ZERO,
                    Onto::Itself => dst[j].to_acc(),
                    Onto::Addend(addend) => addend[start + j].to_acc(),
                };
                dst[j] = E::from_acc(base + sums[j]);
            }
        }
    }
}

/// The panel of packed B that starts at column `j`, from row `k` on.
#[inline(always)]
fn panel<V: Vector>(packed: &[V::Scalar], K: usize, j: usize, k: usize) -> &[V::Scalar] {
    &packed[(j / V::NR * K + k) * V::NR..]
}

/// What a tile is added to before it is stored.
#[derive(Clone, Copy)]
enum Base<'a, R> {
    Zero,
    Itself,
    /// A matrix, from the tile's first element on, with its row length.
    Other(&'a [R], usize),
}

/// Columns of row `i` of C from `j` on. Only where C holds sums.
#[inline(always)]
fn sums<'c, E: Element>(c: &'c mut Tile<'_, E>, i: usize, j: usize) -> &'c mut [E::Acc] {
    &mut E::as_acc_mut(c.row_mut(i)).expect("sums fit into C")[j..]
}

/// A tile that lies inside C. One copy of the loop for each base, so that the sums go from
/// registers to C.
#[inline(always)]
fn whole_tile<V: Vector<Scalar = E::Acc>, E: Element>(
    (c, i, j): (&mut Tile<'_, E>, usize, usize),
    a: Rows<'_, E::Acc>,
    panel: &[E::Acc],
    k: usize,
    base: Base<'_, E::Acc>,
) {
    match base {
        Base::Zero => V::tile::<V>(
            a,
            panel,
            k,
            #[inline(always)]
            |di, dj, v| v.store(sums(c, i + di, j + dj)),
        ),
        Base::Itself => V::tile::<V>(
            a,
            panel,
            k,
            #[inline(always)]
            |di, dj, v| {
                let dst = sums(c, i + di, j + dj);
                (V::load(dst) + v).store(dst);
            },
        ),
        Base::Other(src, row) => V::tile::<V>(
            a,
            panel,
            k,
            #[inline(always)]
            |di, dj, v| (V::load(&src[di * row + dj..]) + v).store(sums(c, i + di, j + dj)),
        ),
    }
}

/// A tile that reaches beyond C's last row or column.
#[inline(always)]
fn cut_tile<V: Vector<Scalar = E::Acc>, E: Element>(
    (c, i, j): (&mut Tile<'_, E>, usize, usize),
    a: Rows<'_, E::Acc>,
    panel: &[E::Acc],
    k: usize,
    base: Base<'_, E::Acc>,
) {
    let (rows, cols) = (c.rows() - i, c.cols() - j);
    V::tile::<V>(
        a,
        panel,
        k,
        #[inline(always)]
        |di, dj, v| {
            if di < rows && dj < cols {
                let mut lanes = [E::Acc::ZERO; MAX_LANES];
                v.store(&mut lanes);
                let dst = sums(c, i + di, j + dj);
                for l in 0..dst.len().min(V::LANES) {
                    let base = match base {
                        Base::Zero => E::Acc::ZERO,
                        Base::Itself => dst[l],
                        Base::Other(src, row) => src[di * row + dj + l],
                    };
                    dst[l] = base + lanes[l];
                }
            }
        },
    );
}
