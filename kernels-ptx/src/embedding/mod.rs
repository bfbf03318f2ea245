//! Embedding: row n of x is row token[n] of the table.

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

    /// Adds to dw_acc_VC. Rows, starts and tokens are an [`Order`](crate::embedding::Order).
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
