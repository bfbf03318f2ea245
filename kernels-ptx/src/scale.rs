//! x *= factor, in place. One access of each thread.

use crate::math::Bf16;
use crate::ptx::{self, Access, Element, Single, Wide, global_thread};

#[inline(always)]
unsafe fn scale<E: Element, W: Access<E>>(x: *mut E, len: u32, factor: f32) {
    unsafe {
        let at = global_thread() * W::LANES;
        if at >= len as usize {
            return;
        }
        let mut values = W::unpack(W::load(x.add(at)));
        for i in 0..W::LANES {
            values[i] *= factor;
        }
        W::store(x.add(at), values);
    }
}

macro_rules! kernels {
    ($E:ty, $scale:ident) => {
        #[unsafe(no_mangle)]
        unsafe extern "ptx-kernel" fn $scale(x: *mut $E, len: u32, factor: f32) {
            unsafe {
                if ptx::wide::<$E>(len) {
                    scale::<$E, Wide>(x, len, factor)
                } else {
                    scale::<$E, Single>(x, len, factor)
                }
            }
        }
    };
}
kernels!(f32, scale_f32);
kernels!(Bf16, scale_bf16);
