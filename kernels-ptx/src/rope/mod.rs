//! Rotary position embedding of the first heads of rows of S.
//!
//! ```
//! use kernels_ptx::launch::{Kernel, Storage, Target};
//! use kernels_ptx::math::Bf16;
//! use kernels_ptx::rope::Rotate;
//! use std::ptr::{null, without_provenance_mut as at};
//!
//! // 32 heads of queries and 8 of keys, of rows that hold 8 of values too.
//! let (x_NS, table_TD, positions_N) = (at(0x100_0000), at(0x1000), null());
//! let (storage, N, T, S, heads, D, sign) = (Storage::Bf16, 4096, 2048, 48 * 128, 40, 128, 1.0);
//! let rotate = Rotate::<Bf16> { storage, x_NS, table_TD, positions_N, N, T, S, heads, D, sign };
//! let launch = rotate.launch(Target::of(90));
//! assert_eq!((launch.kernel, launch.blocks), ("rope_rotate_bf16", [256, 1, 1]));
//! ```

#[cfg(target_arch = "nvptx64")]
mod device;
#[cfg(not(target_arch = "nvptx64"))]
mod launch;

kernels! {
    /// Turns the heads of x_NS in place.
    pub struct Rotate<E> {
        x_NS: *mut E,
        table_TD: *const f32,
        /// Null: row n stands at n mod T. Otherwise T has no meaning.
        positions_N: *const u32,
        N: u32,
        T: u32,
        S: u32,
        heads: u32,
        D: u32,
        /// 1 forward, -1 backward.
        sign: f32,
    }
    for rope_rotate_f32 { type E = f32; } rope_rotate_bf16 { type E = Bf16; }
    => {
        if ptx::wide::<E>(D / 2) && ptx::wide::<E>(S) {
            rotate::<E, Wide>(x_NS, table_TD, positions_N, N, T, S, heads, D, sign)
        } else {
            rotate::<E, Single>(x_NS, table_TD, positions_N, N, T, S, heads, D, sign)
        }
    }
}
