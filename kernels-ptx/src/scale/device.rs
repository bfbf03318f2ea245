//! x *= factor, in place. One access of each thread.

use crate::ptx::{Access, Element, global_thread};

#[inline(always)]
pub unsafe fn scale<E: Element, W: Access<E>>(x: *mut E, len: u32, factor: f32) {
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
