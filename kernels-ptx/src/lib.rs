//! kernels
#![cfg_attr(target_arch = "nvptx64", no_std)]
#![cfg_attr(target_arch = "nvptx64", feature(abi_ptx, asm_experimental_arch, link_llvm_intrinsics))]
#![cfg_attr(target_arch = "nvptx64", allow(internal_features, non_snake_case))]

pub mod geometry;
pub mod math;

#[cfg(target_arch = "nvptx64")]
mod device {}
#[cfg(target_arch = "nvptx64")]
mod ptx;
#[cfg(target_arch = "nvptx64")]
mod swiglu;
#[cfg(target_arch = "nvptx64")]
mod rmsnorm;
#[cfg(target_arch = "nvptx64")]
mod rope;
#[cfg(target_arch = "nvptx64")]
mod embedding;
#[cfg(target_arch = "nvptx64")]
mod loss;
#[cfg(target_arch = "nvptx64")]
mod norm;
#[cfg(target_arch = "nvptx64")]
mod adamw;
#[cfg(target_arch = "nvptx64")]
mod gemm;
#[cfg(target_arch = "nvptx64")]
mod fragment;
#[cfg(target_arch = "nvptx64")]
mod attention;

#[cfg(target_arch = "nvptx64")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
