//! One folder an op: `mod.rs` checks lengths and picks the device, `cpu.rs` computes,
//! `reference.rs` is the formula in f64 that tests hold it against (feature `reference`).
//!
//! Argument order: device, outputs, inputs, scalars. Backward overwrites its outputs unless a
//! name carries `acc`. Lengths that disagree panic: they are caller bugs.
//!
//! ```
//! use engine::{Buf, Device, ops::rmsnorm};
//!
//! let dev = &Device::cpu(1).unwrap();
//! let (x_NC, w_C) = (Buf::of(dev, &[3.0f32, -3.0, 1.0, 1.0]), Buf::of(dev, &[1.0f32, 2.0]));
//! let (mut y_NC, mut r_N) = (Buf::zeros(dev, 4), Buf::zeros(dev, 2));
//! rmsnorm::forward(dev, y_NC.view_mut(), r_N.view_mut(), x_NC.view(), w_C.view(), 0.0);
//! assert_eq!(*y_NC.view().read().unwrap(), [1.0, -2.0, 1.0, 2.0]);
//! ```

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
