//! Multiplication by a constant.

#[cfg(target_arch = "nvptx64")]
mod device;
#[cfg(not(target_arch = "nvptx64"))]
mod launch;

kernels! {
    /// Multiplies x in place.
    pub struct Scale<E> {
        x: *mut E,
        len: u32,
        factor: f32,
    }
    for scale_f32 { type E = f32; } scale_bf16 { type E = Bf16; }
    => {
        if ptx::wide::<E>(len) {
            scale::<E, Wide>(x, len, factor)
        } else {
            scale::<E, Single>(x, len, factor)
        }
    }
}
