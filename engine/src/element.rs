//! Storage types. f32 and bf16 train; f64 exists so that whole models can be gradient-checked.
//!
//! ```
//! use engine::{Dtype, Element, bf16};
//!
//! fn bytes_of_model<E: Element>(parameters: usize) -> usize {
//!     parameters * size_of::<E>()
//! }
//! assert_eq!(bytes_of_model::<bf16>(1000), 2000);
//! assert_eq!(<bf16 as Element>::Acc::DTYPE, Dtype::F32);
//! ```

use crate::cpu::ops::Ops;
use crate::cpu::simd::{self, Isa, ItemKernel, Kernel, Vector};
use half::bf16;

/// The name of a storage type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit floats.
    F32,
    /// bfloat16.
    Bf16,
    /// 64-bit floats, which prove gradients.
    F64,
}

impl Dtype {
    /// "f32", "bf16" or "f64".
    pub const fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::Bf16 => "bf16",
            Dtype::F64 => "f64",
        }
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// A type that activations and weights are stored in. Arithmetic happens in [`Element::Acc`].
///
/// Sealed by construction: its methods speak of `Vector`, which only this crate implements.
pub trait Element:
    bytemuck::Pod + Default + PartialEq + PartialOrd + Send + Sync + std::fmt::Debug + 'static
{
    /// The type that sums and products are computed in: f32 for f32 and bf16, f64 for f64.
    /// Gradients of parameters, moments and master weights are stored in it too.
    type Acc: Real;
    /// Which of them it is.
    const DTYPE: Dtype;
    /// "f32", "bf16" or "f64".
    const NAME: &'static str = Self::DTYPE.name();

    /// The CPU's ops in this storage type.
    fn cpu() -> &'static Ops<Self>;
    /// Widens, exactly.
    fn to_acc(self) -> Self::Acc;
    /// Rounds to nearest, ties to even.
    fn from_acc(x: Self::Acc) -> Self;
    /// Loads the first `V::LANES` of `src`.
    fn load<V: Vector<Scalar = Self::Acc>>(src: &[Self]) -> V;
    /// Stores into the first `V::LANES` of `dst`.
    fn store<V: Vector<Scalar = Self::Acc>>(v: V, dst: &mut [Self]);
    /// Loads all of `src`, at most `V::LANES`, zeros behind it.
    fn load_part<V: Vector<Scalar = Self::Acc>>(src: &[Self]) -> V;
    /// Stores into all of `dst`, at most `V::LANES`.
    fn store_part<V: Vector<Scalar = Self::Acc>>(v: V, dst: &mut [Self]);
    /// The slice itself where no conversion is needed to compute with it.
    fn as_acc(src: &[Self]) -> Option<&[Self::Acc]>;
    /// The slice itself where no conversion is needed to store to it.
    fn as_acc_mut(dst: &mut [Self]) -> Option<&mut [Self::Acc]>;
    /// The slice itself if this is bf16.
    fn as_bf16(_: &[Self]) -> Option<&[bf16]> {
        None
    }
    /// The slice itself if this is bf16.
    fn as_bf16_mut(_: &mut [Self]) -> Option<&mut [bf16]> {
        None
    }
}

/// A type that sums and products are computed in.
pub trait Real:
    Element<Acc = Self> + std::ops::Neg<Output = Self> + Arith + std::iter::Sum
{
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// Negative infinity.
    const NEG_INFINITY: Self;
    /// Rounds to nearest.
    fn from_f64(x: f64) -> Self;
    /// Widens, exactly.
    fn to_f64(self) -> f64;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Natural exponential.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Neither NaN nor infinite.
    fn is_finite(self) -> bool;
    /// Columns in a panel of a matrix product on `isa`.
    fn panel_width(isa: Isa) -> usize {
        Self::dispatch(isa, PanelWidth)
    }
    /// Runs `kernel` with this type's vectors on `isa`.
    fn dispatch<K: Kernel<Self>>(isa: Isa, kernel: K) -> K::Out;
    /// Runs `kernel` with the dot products of `isa`, which must have them; f64 has none.
    fn dispatch_dots(isa: Isa, kernel: impl ItemKernel<Self>);
    /// e^x of a vector.
    fn exp_of<V: Vector<Scalar = Self>>(x: V) -> V;
    /// 2^x of a vector.
    fn exp2_of<V: Vector<Scalar = Self>>(x: V) -> V;
}

struct PanelWidth;

impl<R: Real> Kernel<R> for PanelWidth {
    type Out = usize;
    fn run<V: Vector<Scalar = R>>(self) -> usize {
        V::NR
    }
}

/// The four operations, with assignment.
pub trait Arith:
    Copy
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + std::ops::AddAssign
    + std::ops::MulAssign
{
}
impl Arith for f32 {}
impl Arith for f64 {}

macro_rules! real {
    ($t:ident, $dtype:ident, $dispatch:path, $dots:expr, $exp:path, $exp2:path) => {
        impl Element for $t {
            type Acc = $t;
            const DTYPE: Dtype = Dtype::$dtype;
            fn cpu() -> &'static Ops<$t> {
                static OPS: Ops<$t> = Ops::new();
                if cfg!(test) { no_ops() } else { &OPS }
            }
            #[inline(always)]
            fn to_acc(self) -> $t {
                self
            }
            #[inline(always)]
            fn from_acc(x: $t) -> $t {
                x
            }
            #[inline(always)]
            fn load<V: Vector<Scalar = $t>>(src: &[$t]) -> V {
                V::load(src)
            }
            #[inline(always)]
            fn store<V: Vector<Scalar = $t>>(v: V, dst: &mut [$t]) {
                v.store(dst)
            }
            #[inline(always)]
            fn load_part<V: Vector<Scalar = $t>>(src: &[$t]) -> V {
                V::load_part(src)
            }
            #[inline(always)]
            fn store_part<V: Vector<Scalar = $t>>(v: V, dst: &mut [$t]) {
                v.store_part(dst)
            }
            #[inline(always)]
            fn as_acc(src: &[$t]) -> Option<&[$t]> {
                Some(src)
            }
            #[inline(always)]
            fn as_acc_mut(dst: &mut [$t]) -> Option<&mut [$t]> {
                Some(dst)
            }
        }
        impl Real for $t {
            const ZERO: $t = 0.0;
            const ONE: $t = 1.0;
            const NEG_INFINITY: $t = $t::NEG_INFINITY;
            #[inline(always)]
            fn from_f64(x: f64) -> $t {
                x as $t
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn sqrt(self) -> $t {
                $t::sqrt(self)
            }
            #[inline(always)]
            fn exp(self) -> $t {
                $t::exp(self)
            }
            #[inline(always)]
            fn ln(self) -> $t {
                $t::ln(self)
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                $t::is_finite(self)
            }
            fn dispatch<K: Kernel<$t>>(isa: Isa, kernel: K) -> K::Out {
                $dispatch(isa, kernel)
            }
            fn dispatch_dots(isa: Isa, kernel: impl ItemKernel<$t>) {
                $dots(isa, kernel)
            }
            #[inline(always)]
            fn exp_of<V: Vector<Scalar = $t>>(x: V) -> V {
                $exp(x)
            }
            #[inline(always)]
            fn exp2_of<V: Vector<Scalar = $t>>(x: V) -> V {
                $exp2(x)
            }
        }
    };
}
real!(f32, F32, simd::dispatch_f32, simd::dispatch_dots, simd::exp_f32, simd::exp2_f32);
real!(f64, F64, simd::dispatch_f64, no_pairs, simd::exp_f64, simd::exp2_f64);

/// The crate's own tests are a build of the crate: an op in them would compile every kernel for every
/// instruction set once more, and take as long as the crate itself.
fn no_ops() -> ! {
    unreachable!("unit tests run no op on the CPU: tests/gradients is the place")
}

/// Pairs are made of bf16, whose sums are f32.
fn no_pairs(isa: Isa, _: impl ItemKernel<f64>) {
    unreachable!("{isa:?}: f64 has no pairs")
}

impl Element for bf16 {
    type Acc = f32;
    const DTYPE: Dtype = Dtype::Bf16;
    fn cpu() -> &'static Ops<bf16> {
        static OPS: Ops<bf16> = Ops::new();
        if cfg!(test) { no_ops() } else { &OPS }
    }
    #[inline(always)]
    fn to_acc(self) -> f32 {
        f32::from_bits((self.to_bits() as u32) << 16)
    }
    #[inline(always)]
    fn from_acc(x: f32) -> bf16 {
        bf16::from_f32(x)
    }
    #[inline(always)]
    fn load<V: Vector<Scalar = f32>>(src: &[bf16]) -> V {
        V::load_bf16(src)
    }
    #[inline(always)]
    fn store<V: Vector<Scalar = f32>>(v: V, dst: &mut [bf16]) {
        v.store_bf16(dst)
    }
    #[inline(always)]
    fn load_part<V: Vector<Scalar = f32>>(src: &[bf16]) -> V {
        V::load_part_bf16(src)
    }
    #[inline(always)]
    fn store_part<V: Vector<Scalar = f32>>(v: V, dst: &mut [bf16]) {
        v.store_part_bf16(dst)
    }
    #[inline(always)]
    fn as_acc(_: &[bf16]) -> Option<&[f32]> {
        None
    }
    #[inline(always)]
    fn as_acc_mut(_: &mut [bf16]) -> Option<&mut [f32]> {
        None
    }
    #[inline(always)]
    fn as_bf16(src: &[bf16]) -> Option<&[bf16]> {
        Some(src)
    }
    #[inline(always)]
    fn as_bf16_mut(dst: &mut [bf16]) -> Option<&mut [bf16]> {
        Some(dst)
    }
}
