//! The GPU side of the engine's ops. Every kernel is Rust, compiled to PTX by rustc's own NVPTX
//! backend (`build-ptx.sh`); the PTX is committed, so that building the engine needs neither that
//! compiler nor CUDA.
//!
//! One crate with two faces, and a folder for each op. Its `mod.rs` belongs to both: it declares the
//! op's kernels, each once (`declare.rs`), and the sizes that kernels and launches share. For the target
//! nvptx64 a declaration is a kernel, whose work is done in `device.rs`, on top of `ptx` (the machine's
//! instructions) and `fragment` (operands of the tensor cores). For the host it is a [`launch::Kernel`]:
//! a struct of named arguments, for which `launch.rs` chooses the grid. The host also has the PTX text
//! ([`SM_80`], [`SM_90A`]), packed in the binary until a device asks for it, and [`cubin`]: what may be loaded in its place.
//!
//! Storage is f32 or bf16 and sums are f32. Pointers must be aligned to 16 bytes. Rows that are whole
//! multiples of 16 bytes are read 16 bytes at a time, others element by element. No kernel uses
//! float atomics: the same inputs give the same bits.
#![cfg_attr(target_arch = "nvptx64", no_std)]
#![cfg_attr(target_arch = "nvptx64", feature(abi_ptx, asm_experimental_arch, link_llvm_intrinsics))]

#[macro_use]
mod declare;

pub mod adamw;
pub mod attention;
pub mod bias;
pub mod embedding;
pub mod linear;
pub mod loss;
pub mod math;
pub mod norm;
pub mod rmsnorm;
pub mod rope;
pub mod scale;
pub mod swiglu;

#[cfg(not(target_arch = "nvptx64"))]
pub mod cubin;
#[cfg(not(target_arch = "nvptx64"))]
pub mod launch;
#[cfg(not(target_arch = "nvptx64"))]
pub use text::{SM_80, SM_90A};

#[cfg(not(target_arch = "nvptx64"))]
mod text {
    use std::sync::LazyLock;

    /// All kernels for compute capability 8.0 and newer, as PTX. Unpacked when first asked for.
    pub static SM_80: LazyLock<String> =
        LazyLock::new(|| unpack(include_bytes!(concat!(env!("OUT_DIR"), "/sm_80.ptx.z"))));
    /// All kernels for compute capability 9.0 alone (H100, H200), as PTX. Unpacked when first asked for.
    pub static SM_90A: LazyLock<String> =
        LazyLock::new(|| unpack(include_bytes!(concat!(env!("OUT_DIR"), "/sm_90a.ptx.z"))));

    /// The text that `build.rs` packed.
    fn unpack(packed: &[u8]) -> String {
        let bytes = miniz_oxide::inflate::decompress_to_vec_zlib(packed);
        String::from_utf8(bytes.expect("packed by build.rs")).expect("PTX is text")
    }
}

#[cfg(target_arch = "nvptx64")]
mod fragment;
#[cfg(target_arch = "nvptx64")]
mod ptx;

/// Nothing in a kernel panics; the compiler wants to know where it would go.
#[cfg(target_arch = "nvptx64")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
