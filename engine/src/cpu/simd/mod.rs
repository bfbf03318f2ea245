//! Vectors of one width per instruction set, and the choice between sets at run time.
//!
//! Kernels are written once, generic in [`Vector`], and compiled once per instruction set by
//! [`dispatch_f32`]. Everything between there and the instruction must inline, hence
//! `#[inline(always)]` throughout. Results are the same for any number of threads on one set;
//! two sets may differ in the last bits, because their sums have different lane counts.
//!
//! `vector` is what kernels ask of a set; `avx512`, `avx2`, `neon` and `portable` answer, one set
//! each, and hold nothing that could be said for all of them.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod exp;
mod isa;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod prefetch;
mod rows;
#[cfg(test)]
mod tests;
mod tile;
mod vector;

use crate::element::Real;
pub use exp::{exp_f32, exp_f64, exp2_f32, exp2_f64};
pub use isa::Isa;
use portable::Portable;
pub use prefetch::{prefetch, prefetch_stream};
pub use rows::{items_of_columns, items_of_row, load, store};
pub use tile::{Lines, TileShape};
pub use vector::{Factors, MAX_LANES, Vector};

/// Work that is compiled once per instruction set. Mark `run` `#[inline(always)]`.
pub trait Kernel<R: Real> {
    /// What it returns.
    type Out;
    /// Does the work with vectors `V`.
    fn run<V: Vector<Scalar = R>>(self) -> Self::Out;
}

/// Work on items of factors, compiled for items of one value of k, and for pairs where a set has
/// dot products of them. Mark `run` `#[inline(always)]`.
pub trait ItemKernel<R: Real> {
    /// Does the work with vectors `V` and registers of items `F`.
    fn run<V: Vector<Scalar = R>, F: Factors<V>>(self);
}

/// An [`ItemKernel`] on items of one value: the vectors themselves.
struct OneByOne<K>(K);

impl<R: Real, K: ItemKernel<R>> Kernel<R> for OneByOne<K> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = R>>(self) {
        self.0.run::<V, V>()
    }
}

/// Runs `kernel` with the f32 vectors of `isa`.
///
/// # Panics
/// If this CPU lacks `isa`: a caller bug, [`Isa::choose`] checks.
pub fn dispatch_f32<K: Kernel<f32>>(isa: Isa, kernel: K) -> K::Out {
    assert!(isa.available(), "{isa:?} is not available on this CPU");
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the set is available: every feature was detected.
        Isa::Avx512Bf16 | Isa::Avx512 => unsafe { avx512::run(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the set is available: AVX2 and FMA were detected.
        Isa::Avx2 => unsafe { avx2::run(kernel) },
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => kernel.run::<neon::Neon>(),
        Isa::Portable => kernel.run::<Portable<f32, 8>>(),
        #[allow(unreachable_patterns)]
        _ => unreachable!("{isa:?} is not a path of this architecture"),
    }
}

/// Runs `kernel` in f64, which is for proofs and has one path.
pub fn dispatch_f64<K: Kernel<f64>>(_: Isa, kernel: K) -> K::Out {
    kernel.run::<Portable<f64, 4>>()
}

/// Runs `kernel` with the dot products of `isa`.
///
/// # Panics
/// If `isa` has none, or this CPU lacks it: a caller bug.
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "no set has them"))]
pub fn dispatch_dots(isa: Isa, kernel: impl ItemKernel<f32>) {
    assert!(isa.available(), "{isa:?} is not available on this CPU");
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the set is available: every feature was detected.
        Isa::Avx512Bf16 => unsafe { avx512::run_dots(kernel) },
        _ => unreachable!("{isa:?} has no dot products of bf16"),
    }
}

/// Runs `kernel` on items of `values` of k: on the dot products of `isa` if there are two in one,
/// else on its vectors.
pub fn dispatch_items<R: Real>(isa: Isa, values: usize, kernel: impl ItemKernel<R>) {
    if values == 2 { R::dispatch_dots(isa, kernel) } else { R::dispatch(isa, OneByOne(kernel)) }
}
