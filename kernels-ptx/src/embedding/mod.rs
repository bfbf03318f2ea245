//! Embedding: row n of x is row `token[n]` of the table.
//!
//! ```
//! use kernels_ptx::embedding::{Backward, order};
//! use kernels_ptx::launch::{Kernel, Storage, Target};
//! use std::ptr::without_provenance_mut as at;
//!
//! // Rows 0 and 2 are of token 7: their gradients are added one after the other, by one block.
//! let order = order(&[7, 9, 7]);
//! assert_eq!((order.rows_N, order.starts), (vec![0, 2, 1], vec![0, 2, 3]));
//! let (dw_acc_VC, dx_NC) = (at(0x10_0000), at(0x20_0000));
//! let (rows_N, starts, tokens) = (at(0x1000), at(0x2000), at(0x3000));
//! let (storage, C, groups) = (Storage::F32, 256, order.tokens.len() as u32);
//! let backward = Backward::<f32> { storage, dw_acc_VC, dx_NC, rows_N, starts, tokens, C, groups };
//! assert_eq!(backward.launch(Target::of(90)).blocks, [2, 1, 1]);
//! ```

#[cfg(target_arch = "nvptx64")]
mod device;
#[cfg(not(target_arch = "nvptx64"))]
mod launch;
#[cfg(not(target_arch = "nvptx64"))]
pub use launch::{Order, order};

kernels! {
    /// Writes x_NC.
    pub struct Forward<E> {
        x_NC: *mut E,
        tokens_N: *const u32,
        w_VC: *const E,
        N: u32,
        C: u32,
    }
    for embedding_forward_f32 { type E = f32; } embedding_forward_bf16 { type E = Bf16; }
    => {
        if ptx::wide::<E>(C) {
            forward::<E, Wide>(x_NC, tokens_N, w_VC, N, C)
        } else {
            forward::<E, Single>(x_NC, tokens_N, w_VC, N, C)
        }
    }

    /// Adds to dw_acc_VC. Rows, starts and tokens are an [`Order`].
    pub struct Backward<E> {
        dw_acc_VC: *mut f32,
        dx_NC: *const E,
        rows_N: *const u32,
        starts: *const u32,
        tokens: *const u32,
        C: u32,
    }
    grid {
        /// Groups of rows: as many as `tokens`.
        groups: u32,
    }
    for embedding_backward_f32 { type E = f32; } embedding_backward_bf16 { type E = Bf16; }
    => {
        if C.is_multiple_of(4) {
            backward::<E, 4>(dw_acc_VC, dx_NC, rows_N, starts, tokens, C)
        } else {
            backward::<E, 1>(dw_acc_VC, dx_NC, rows_N, starts, tokens, C)
        }
    }
}
