//! SwiGLU: a = silu(g) * u. Rows of gu_N2F hold F gates, then F ups. One access of each a thread.

use crate::math::LOG2_E;
use crate::ptx::{self, Access, Element, global_thread};

/// 1 / (1 + e^-g).
#[inline(always)]
fn sigmoid(g: f32) -> f32 {
    ptx::recip(1.0 + ptx::exp2(-LOG2_E * g))
}

/// The element of a that this thread starts at, and where its gate lies in gu.
#[inline(always)]
fn place<E: Element, W: Access<E>>(N: u32, F: u32) -> Option<(usize, usize)> {
    let at = global_thread() * W::LANES;
    if at >= N as usize * F as usize {
        return None;
    }
    // SAFETY: F is not zero, or no element would be below N * F.
    let row = unsafe { ptx::div((at / W::LANES) as u32, F / W::LANES as u32) };
    Some((at, at + row as usize * F as usize))
}

#[inline(always)]
pub unsafe fn forward<E: Element, W: Access<E>>(a_NF: *mut E, gu_N2F: *const E, N: u32, F: u32) {
    unsafe {
        let Some((at, gate)) = place::<E, W>(N, F) else { return };
        let (g, u) = (W::load(gu_N2F.add(gate)), W::load(gu_N2F.add(gate + F as usize)));
        let (mut g, u) = (W::unpack(g), W::unpack(u));
        for i in 0..W::LANES {
            g[i] *= sigmoid(g[i]) * u[i];
        }
        W::store(a_NF.add(at), g);
    }
}

/// dg = da * u * q * (1 + g * (1 - q)), du = da * g * q, q = 1 / (1 + e^-g).
#[inline(always)]
pub unsafe fn backward<E: Element, W: Access<E>>(gu_N2F: *mut E, da_NF: *const E, N: u32, F: u32) {
    unsafe {
        let Some((at, gate)) = place::<E, W>(N, F) else { return };
        let (gate, up) = (gu_N2F.add(gate), gu_N2F.add(gate + F as usize));
        let (g, u, da) = (W::load(gate), W::load(up), W::load(da_NF.add(at)));
        let (mut g, mut u, da) = (W::unpack(g), W::unpack(u), W::unpack(da));
        for i in 0..W::LANES {
            let q = sigmoid(g[i]);
            let (dg, du) = (da[i] * u[i] * q * (1.0 + g[i] * (1.0 - q)), da[i] * g[i] * q);
            (g[i], u[i]) = (dg, du);
        }
        W::store(gate, g);
        W::store(up, u);
    }
}
