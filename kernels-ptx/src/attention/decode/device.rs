//! Attention of a few new tokens over a cache of keys and values: a block for a token and a head.
//! D is at most 256. Tokens are those of one sequence from position `past` on; or, with `items`, each
//! has two numbers: the row of the cache where its sequence begins, and how many rows it sees.
//!
//! Reading the cache sets the pace. A group of lanes takes a key at a time, 16 bytes a lane, so that
//! a warp's request is whole rows of the cache, and has several keys with their values under way.
//! Each group keeps a maximum, a sum and an output of its own under an online softmax; groups of a
//! warp are joined by shuffles, warps through shared memory. Which group takes which key depends on
//! its position and on D alone: a token's bits are the same beside any other tokens.

use super::WARPS;
use crate::math::LOG2_E;
use crate::ptx::{self, Access, Element, WARP, block, from_xor, lane, thread, warp};
use crate::ptx::{global_thread, zeroed};

/// Most elements of a head that a lane holds.
const PER_LANE: usize = 8;
/// Keys that a group reads at a time.
const BATCH: usize = 4;

/// A lane's elements of a row of a head, as they were read.
type Packed<E, W> = [<W as Access<E>>::Packed; PER_LANE];

/// What keys have given so far: the largest score, the sum of their weights relative to it, and the
/// values times those weights.
#[derive(Clone, Copy)]
struct Part {
    max: f32,
    sum: f32,
    out: [f32; PER_LANE],
}

/// e^x.
#[inline(always)]
fn exp(x: f32) -> f32 {
    ptx::exp2(x * LOG2_E)
}

impl Part {
    /// With `max` raised to at least `other`: the factor for what belongs to the old one, and a
    /// number to subtract from scores. That is the maximum, or 0 where nothing has a weight.
    #[inline(always)]
    fn raise(&mut self, other: f32) -> (f32, f32) {
        let max = ptx::max(self.max, other);
        let shift = if max == f32::NEG_INFINITY { 0.0 } else { max };
        let shrink = exp(self.max - shift);
        self.max = max;
        (shrink, shift)
    }

    /// Joins with lane `lane ^ mask`.
    #[inline(always)]
    fn join(&mut self, mask: u32) {
        let other = Part {
            max: from_xor(self.max, mask),
            sum: from_xor(self.sum, mask),
            out: self.out.map(|x| from_xor(x, mask)),
        };
        let (mine, shift) = self.raise(other.max);
        let theirs = exp(other.max - shift);
        self.sum = ptx::fma(self.sum, mine, other.sum * theirs);
        for i in 0..PER_LANE {
            self.out[i] = ptx::fma(self.out[i], mine, other.out[i] * theirs);
        }
    }
}

/// A head of D elements, spread over `share` lanes.
#[derive(Clone, Copy)]
struct Spread {
    D: u32,
    share: u32,
}

impl Spread {
    /// As few lanes as hold D elements, a power of two.
    #[inline(always)]
    fn new<E: Element, W: Access<E>>(D: u32) -> Self {
        let mut share = 1;
        while share < WARP && share * (W::LANES as u32) < D {
            share *= 2;
        }
        Spread { D, share }
    }

    /// First element of the lane's access number k; there is none from D on.
    #[inline(always)]
    fn at<E: Element, W: Access<E>>(&self, k: usize) -> u32 {
        (k as u32 * self.share + lane() % self.share) * W::LANES as u32
    }

    /// The lane's elements of `row`; zeros if there is no row.
    #[inline(always)]
    unsafe fn load<E: Element, W: Access<E>>(&self, row: *const E, exists: bool) -> Packed<E, W> {
        let mut packed: Packed<E, W> = zeroed();
        for k in 0..PER_LANE / W::LANES {
            let d = self.at::<E, W>(k);
            if exists && d < self.D {
                // SAFETY: the row has D elements, D is a multiple of LANES.
                packed[k] = unsafe { W::load(row.add(d as usize)) };
            }
        }
        packed
    }
}

/// The numbers of a packed row.
#[inline(always)]
fn unpack<E: Element, W: Access<E>>(packed: &Packed<E, W>) -> [f32; PER_LANE] {
    let mut x: [f32; PER_LANE] = zeroed();
    for k in 0..PER_LANE / W::LANES {
        let numbers = W::unpack(packed[k]);
        for j in 0..W::LANES {
            x[k * W::LANES + j] = numbers[j];
        }
    }
    x
}

#[inline(always)]
pub unsafe fn decode<E: Element, W: Access<E>>(
    o_NHD: *mut E,
    q_NS: *const E,
    kv: *const E,
    items: *const u32,
    N: u32,
    past: u32,
    S: u32,
    H: u32,
    G: u32,
    D: u32,
    scale: f32,
) {
    unsafe {
        let n = ptx::div(block(), H);
        if n >= N {
            return;
        }
        let h = block() - n * H;
        let g = ptx::div(h, ptx::div(H, G));
        let (start, keys) = if items.is_null() {
            (0, past + n + 1)
        } else {
            let item = items.add(2 * n as usize);
            (*item, *item.add(1))
        };
        let row = |t: u32, head: u32| {
            kv.add(((start + t) as usize * (2 * G) as usize + head as usize) * D as usize)
        };
        let spread = Spread::new::<E, W>(D);
        let q = q_NS.add(n as usize * S as usize + (h * D) as usize);
        let q = unpack::<E, W>(&spread.load::<E, W>(q, true));
        // Groups of the warp, and the first key of this one.
        let groups = ptx::div(WARP, spread.share);
        let mut first = ptx::uniform_warp() * groups * BATCH as u32;
        let own = ptx::div(lane(), spread.share) * BATCH as u32;
        let mut part = Part { max: f32::NEG_INFINITY, sum: 0.0, out: zeroed() };
        while first < keys {
            let (mut k, mut v): ([Packed<E, W>; BATCH], [Packed<E, W>; BATCH]) =
                (zeroed(), zeroed());
            for i in 0..BATCH {
                let t = first + own + i as u32;
                k[i] = spread.load::<E, W>(row(t, g), t < keys);
                v[i] = spread.load::<E, W>(row(t, G + g), t < keys);
            }
            let mut s: [f32; BATCH] = zeroed();
            for i in 0..BATCH {
                let k = unpack::<E, W>(&k[i]);
                for j in 0..PER_LANE {
                    s[i] = ptx::fma(q[j], k[j], s[i]);
                }
            }
            let mut mask = spread.share / 2;
            while mask > 0 {
                for i in 0..BATCH {
                    s[i] += from_xor(s[i], mask);
                }
                mask /= 2;
            }
            let mut most = f32::NEG_INFINITY;
            for i in 0..BATCH {
                let exists = first + own + (i as u32) < keys;
                s[i] = if exists { s[i] * scale } else { f32::NEG_INFINITY };
                most = ptx::max(most, s[i]);
            }
            let (shrink, shift) = part.raise(most);
            part.sum *= shrink;
            for j in 0..PER_LANE {
                part.out[j] *= shrink;
            }
            for i in 0..BATCH {
                let (p, v) = (exp(s[i] - shift), unpack::<E, W>(&v[i]));
                part.sum += p;
                for j in 0..PER_LANE {
                    part.out[j] = ptx::fma(p, v[j], part.out[j]);
                }
            }
            first += WARPS * groups * BATCH as u32;
        }
        let mut mask = spread.share;
        while mask < WARP {
            part.join(mask);
            mask *= 2;
        }
        store::<E, W>(o_NHD.add((block() * D) as usize), &part, spread);
    }
}

/// Joins the parts of all warps, and writes the head.
#[inline(always)]
unsafe fn store<E: Element, W: Access<E>>(o_D: *mut E, part: &Part, spread: Spread) {
    unsafe {
        let D = spread.D;
        let room: *mut f32 = ptx::shared_ptr();
        let of = |warp: u32| room.add((warp * (D + 2)) as usize);
        let mine = of(warp());
        if lane() == 0 {
            (*mine, *mine.add(1)) = (part.max, part.sum);
        }
        if lane() < spread.share {
            for k in 0..PER_LANE / W::LANES {
                let d = spread.at::<E, W>(k);
                for j in 0..W::LANES {
                    if d < D {
                        *mine.add(2 + d as usize + j) = part.out[k * W::LANES + j];
                    }
                }
            }
        }
        ptx::barrier();
        let d = thread();
        if d < D {
            let mut most = f32::NEG_INFINITY;
            for w in 0..WARPS {
                most = ptx::max(most, *of(w));
            }
            let (mut sum, mut total) = (0.0, 0.0);
            for w in 0..WARPS {
                let part = of(w);
                let share = exp(*part - most);
                sum = ptx::fma(*part.add(1), share, sum);
                total = ptx::fma(*part.add(2 + d as usize), share, total);
            }
            *o_D.add(d as usize) = E::of(total * ptx::recip_exact(sum));
        }
    }
}

/// Copies the last `width` elements of rows of S to the last row that each token sees. A thread takes
/// one access.
#[inline(always)]
pub unsafe fn keep<E: Element, W: Access<E>>(
    kv: *mut E,
    qkv_NS: *const E,
    items: *const u32,
    N: u32,
    S: u32,
    width: u32,
) {
    unsafe {
        let (steps, thread) = (width / W::LANES as u32, global_thread());
        if thread >= N as usize * steps as usize {
            return;
        }
        let n = ptx::div(thread as u32, steps);
        let i = (thread as u32 - n * steps) * W::LANES as u32;
        let [first, seen] = ptx::load8(items.add(2 * n as usize));
        let row = (first + seen - 1) as usize;
        let from = qkv_NS.add(n as usize * S as usize + (S - width + i) as usize);
        W::store(kv.add(row * width as usize + i as usize), W::unpack(W::load(from)));
    }
}
