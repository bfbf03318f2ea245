//! Rotary position embedding, in place: element i < D/2 of a head and its partner i + D/2 turn by
//! the angle whose cosine and sine stand at i and i + D/2 of a row of table_TD: the row's position, or
//! without positions n mod T. A thread takes one access of pairs through all heads of a row, so that
//! the table is read once a row.

use crate::ptx::{self, Access, Element, global_thread, zeroed};

/// Heads whose loads are under way together.
const HEADS: u32 = 4;

#[inline(always)]
pub unsafe fn rotate<E: Element, W: Access<E>>(
    x_NS: *mut E,
    table_TD: *const f32,
    positions_N: *const u32,
    N: u32,
    T: u32,
    S: u32,
    heads: u32,
    D: u32,
    sign: f32,
) {
    unsafe {
        let (half, thread) = (D / 2, global_thread());
        let steps = half / W::LANES as u32;
        if thread >= N as usize * steps as usize {
            return;
        }
        let n = ptx::div(thread as u32, steps);
        let i = (thread as u32 - n * steps) * W::LANES as u32;
        let t = if positions_N.is_null() {
            n - ptx::div(n, T) * T
        } else {
            *positions_N.add(n as usize)
        };
        let table = table_TD.add(t as usize * D as usize + i as usize);
        let (mut cos, mut sin): ([f32; 8], [f32; 8]) = (zeroed(), zeroed());
        if W::LANES == 1 {
            (cos[0], sin[0]) = (*table, *table.add(half as usize));
        } else {
            for k in 0..W::LANES / 4 {
                let (c, s) =
                    (ptx::load4(table.add(4 * k)), ptx::load4(table.add(half as usize + 4 * k)));
                for j in 0..4 {
                    (cos[4 * k + j], sin[4 * k + j]) = (c[j], s[j]);
                }
            }
        }
        let row = x_NS.add(n as usize * S as usize + i as usize);
        let place = |h: u32| row.add((h * D) as usize);
        let turn = |to: *mut E, a: W::Packed, b: W::Packed| {
            let (mut a, mut b) = (W::unpack(a), W::unpack(b));
            for j in 0..W::LANES {
                let (sin, cos) = (sign * sin[j], cos[j]);
                (a[j], b[j]) = (a[j] * cos - b[j] * sin, b[j] * cos + a[j] * sin);
            }
            W::store(to, a);
            W::store(to.add(half as usize), b);
        };
        let mut h = 0;
        while h + HEADS <= heads {
            let mut x: [(W::Packed, W::Packed); HEADS as usize] = zeroed();
            for k in 0..HEADS {
                let from = place(h + k);
                x[k as usize] = (W::load(from), W::load(from.add(half as usize)));
            }
            for k in 0..HEADS {
                turn(place(h + k), x[k as usize].0, x[k as usize].1);
            }
            h += HEADS;
        }
        while h < heads {
            let from = place(h);
            turn(from, W::load(from), W::load(from.add(half as usize)));
            h += 1;
        }
    }
}
