//! RMSNorm: y = w * x * r, r = 1 / sqrt(mean(x^2) + eps). N rows of C, gain w_C.
//!
//! ```
//! use kernels_ptx::launch::{Kernel, Storage, Target};
//! use kernels_ptx::rmsnorm::{Forward, parts};
//! use std::ptr::without_provenance_mut as at;
//!
//! let (y_NC, r_N, x_NC, w_C) = (at(0x100_0000), at(0x1000), at(0x200_0000), at(0x8000));
//! let (storage, N, C, eps) = (Storage::F32, 4096, 2048, 1e-5);
//! let forward = Forward::<f32> { storage, y_NC, r_N, x_NC, w_C, N, C, eps };
//! let launch = forward.launch(Target::of(90));
//! assert_eq!((launch.blocks, launch.threads), ([2048, 1, 1], 256));
//! // Rows of room that backward needs for partial gradients of gains.
//! assert_eq!(parts(N), 512);
//! ```

#[cfg(target_arch = "nvptx64")]
mod device;
#[cfg(not(target_arch = "nvptx64"))]
mod launch;
#[cfg(not(target_arch = "nvptx64"))]
pub use launch::parts;

/// Widest rows whose gradients of gains a block sums in shared memory: 96 KiB of 99.
pub const IN_SHARED: u32 = 24 << 10;

kernels! {
    /// Writes y_NC and r_N.
    pub struct Forward<E> {
        y_NC: *mut E,
        r_N: *mut f32,
        x_NC: *const E,
        w_C: *const E,
        N: u32,
        C: u32,
        eps: f32,
    }
    for rmsnorm_forward_f32 { type E = f32; } rmsnorm_forward_bf16 { type E = Bf16; }
    => {
        ptx::launch_bounds::<1024, 1>();
        let (x_NC, none) = (x_NC.cast_mut(), x_NC);
        if ptx::wide::<E>(C) {
            forward::<E, Wide, false>(y_NC, r_N, x_NC, none, w_C, N, C, eps)
        } else {
            forward::<E, Single, false>(y_NC, r_N, x_NC, none, w_C, N, C, eps)
        }
    }

    /// The same of x + a, which replaces x.
    pub struct ForwardResidual<E> {
        y_NC: *mut E,
        r_N: *mut f32,
        x_acc_NC: *mut E,
        a_NC: *const E,
        w_C: *const E,
        N: u32,
        C: u32,
        eps: f32,
    }
    for
    rmsnorm_forward_residual_f32 { type E = f32; }
    rmsnorm_forward_residual_bf16 { type E = Bf16; }
    => {
        ptx::launch_bounds::<1024, 1>();
        if ptx::wide::<E>(C) {
            forward::<E, Wide, true>(y_NC, r_N, x_acc_NC, a_NC, w_C, N, C, eps)
        } else {
            forward::<E, Single, true>(y_NC, r_N, x_acc_NC, a_NC, w_C, N, C, eps)
        }
    }

    /// Writes y_NC again from r_N, to the same bits.
    pub struct Apply<E> {
        y_NC: *mut E,
        x_NC: *const E,
        w_C: *const E,
        r_N: *const f32,
        N: u32,
        C: u32,
    }
    for rmsnorm_apply_f32 { type E = f32; } rmsnorm_apply_bf16 { type E = Bf16; }
    => {
        ptx::launch_bounds::<1024, 1>();
        if ptx::wide::<E>(C) {
            apply::<E, Wide>(y_NC, x_NC, w_C, r_N, N, C)
        } else {
            apply::<E, Single>(y_NC, x_NC, w_C, r_N, N, C)
        }
    }

    /// Adds to dx_acc_NC and writes dw_part_PC, of which [`BackwardGain`] makes the gradient of gains; P
    /// is [`parts`].
    pub struct Backward<E> {
        dx_acc_NC: *mut E,
        dw_part_PC: *mut f32,
        dy_NC: *const E,
        x_NC: *const E,
        w_C: *const E,
        r_N: *const f32,
        N: u32,
        C: u32,
    }
    for rmsnorm_backward_f32 { type E = f32; } rmsnorm_backward_bf16 { type E = Bf16; }
    => {
        ptx::launch_bounds::<512, 1>();
        if ptx::wide::<E>(C) {
            backward::<E, Wide>(dx_acc_NC, dw_part_PC, dy_NC, x_NC, w_C, r_N, N, C)
        } else {
            backward::<E, Single>(dx_acc_NC, dw_part_PC, dy_NC, x_NC, w_C, r_N, N, C)
        }
    }

    /// Adds the rows of dw_part_PC to dw_acc_C, in an order that depends on P alone. A warp's lanes are
    /// neighbouring columns, its warps take every 32nd row each.
    pub struct BackwardGain {
        dw_acc_C: *mut f32,
        dw_part_PC: *const f32,
        P: u32,
        C: u32,
    }
    for rmsnorm_backward_gain {}
    => {
        let c = (ptx::block() * ptx::WARP + ptx::lane()) as usize;
        let room: *mut f32 = ptx::shared_ptr();
        let mut sum = 0.0;
        if c < C as usize {
            let mut p = ptx::warp();
            while p < P {
                sum += *dw_part_PC.add(p as usize * C as usize + c);
                p += 32;
            }
        }
        *room.add(ptx::thread() as usize) = sum;
        ptx::barrier();
        if ptx::warp() == 0 && c < C as usize {
            let mut sum = *dw_acc_C.add(c);
            for k in 0..32 {
                sum += *room.add(k * 32 + ptx::thread() as usize);
            }
            *dw_acc_C.add(c) = sum;
        }
    }
}
