//! The GPU side of the engine's ops. Every kernel is Rust, compiled to PTX by rustc's own NVPTX
//! backend (`build-ptx.sh`); the PTX is committed, so that building the engine needs neither that
//! compiler nor CUDA.
//!
//! One crate with two faces. For the host it is the PTX text ([`SM_80`], [`SM_90A`]), [`cubin`]: what
//! may be loaded in its place, and [`launch`]: which kernel computes an op, on which grid, with which
//! arguments. For the target nvptx64 it is the kernels, one file an op, on top of `ptx` (the machine's
//! instructions) and `fragment` (operands of the tensor cores). [`math`] and [`tiles`] belong to both.
//!
//! Storage is f32 or bf16 and sums are f32. Pointers must be aligned to 16 bytes. Rows that are whole
//! multiples of 16 bytes are read 16 bytes at a time, others element by element. No kernel uses
//! float atomics: the same inputs give the same bits.
#![cfg_attr(target_arch = "nvptx64", no_std)]
#![cfg_attr(target_arch = "nvptx64", feature(abi_ptx, asm_experimental_arch, link_llvm_intrinsics))]

pub mod math;
pub mod tiles;

#[cfg(not(target_arch = "nvptx64"))]
pub mod cubin;
#[cfg(not(target_arch = "nvptx64"))]
pub mod launch;
#[cfg(not(target_arch = "nvptx64"))]
pub use text::{SM_80, SM_90A};

#[cfg(not(target_arch = "nvptx64"))]
mod text {
    /// All kernels for compute capability 8.0 and newer, as PTX.
    pub const SM_80: &str = include_str!("../ptx/sm_80.ptx");
    /// All kernels for compute capability 9.0 alone (H100, H200), as PTX.
    pub const SM_90A: &str = include_str!("../ptx/sm_90a.ptx");
}

#[cfg(target_arch = "nvptx64")]
mod adamw;
#[cfg(target_arch = "nvptx64")]
mod attention;
#[cfg(target_arch = "nvptx64")]
mod attention_decode;
#[cfg(target_arch = "nvptx64")]
mod attention_f32;
#[cfg(target_arch = "nvptx64")]
mod bias;
#[cfg(target_arch = "nvptx64")]
mod embedding;
#[cfg(target_arch = "nvptx64")]
mod fragment;
#[cfg(target_arch = "nvptx64")]
mod gemm;
#[cfg(target_arch = "nvptx64")]
mod loss;
#[cfg(target_arch = "nvptx64")]
mod norm;
#[cfg(target_arch = "nvptx64")]
mod ptx;
#[cfg(target_arch = "nvptx64")]
mod rmsnorm;
#[cfg(target_arch = "nvptx64")]
mod rope;
#[cfg(target_arch = "nvptx64")]
mod scale;
#[cfg(target_arch = "nvptx64")]
mod skinny;
#[cfg(target_arch = "nvptx64")]
mod swiglu;

/// Nothing in a kernel panics; the compiler wants to know where it would go.
#[cfg(target_arch = "nvptx64")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
