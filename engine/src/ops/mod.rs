//! One folder an op: `mod.rs` checks lengths and picks the device, `cpu.rs` computes,
//! `reference.rs` is the formula in f64 that tests hold it against.
//!
//! Argument order: device, outputs, inputs, scalars. Backward overwrites its outputs unless a
//! name carries `acc`. Lengths that disagree panic: they are caller bugs.

pub mod adamw;
pub mod attention;
pub mod bias;
pub mod embedding;
pub mod linear;
pub mod lora;
pub mod loss;
pub mod norm;
pub mod rmsnorm;
pub mod rope;
pub mod swiglu;

/// Rows of `C` in `len` elements.
fn rows(op: &str, len: usize, C: usize) -> usize {
    assert!(C > 0 && len.is_multiple_of(C), "{op}: {len} elements are not rows of {C}");
    len / C
}
