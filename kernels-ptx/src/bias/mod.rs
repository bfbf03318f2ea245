//! Bias of a linear layer: y += b on each row; db is the sum of the rows of dy. Rows of O.

#[cfg(target_arch = "nvptx64")]
mod device;
#[cfg(not(target_arch = "nvptx64"))]
mod launch;

kernels! {
    /// Adds to y_acc_NO.
    pub struct Forward<E> {
        y_acc_NO: *mut E,
        b_O: *const E,
        N: u32,
        O: u32,
    }
    for bias_forward_f32 { type E = f32; } bias_forward_bf16 { type E = Bf16; }
    => {
        if ptx::wide::<E>(O) {
            forward::<E, Wide>(y_acc_NO, b_O, N, O)
        } else {
            forward::<E, Single>(y_acc_NO, b_O, N, O)
        }
    }

    /// Adds to db_acc_O.
    pub struct Backward<E> {
        db_acc_O: *mut f32,
        dy_NO: *const E,
        N: u32,
        O: u32,
    }
    for bias_backward_f32 { type E = f32; } bias_backward_bf16 { type E = Bf16; }
    => {
        backward::<E>(db_acc_O, dy_NO, N, O)
    }
}
