//! Attention in f32 on ordinary cores, for comparisons: a warp for a row. D is at most 256.
//!
//! ```
//! use kernels_ptx::attention::plain::Forward;
//! use kernels_ptx::launch::{Kernel, Target};
//! use std::ptr::without_provenance_mut as at;
//!
//! // Sequences of two tokens and of one: the row with the most keys comes first.
//! assert_eq!(Forward::items(&[[0, 2], [2, 1]]), [0, 2, 1, 0, 2, 0, 2, 1, 0]);
//! let (o_NHD, lse_NH, qkv, items) = (at(0x1000), at(0x2000), at(0x3000), at(0x4000));
//! let forward = Forward { o_NHD, lse_NH, qkv, items, N: 3, T: 0, H: 4, G: 2, D: 64, scale: 0.125 };
//! // Four warps a block.
//! assert_eq!(forward.launch(Target::of(90)).blocks, [3, 1, 1]);
//! ```

#[cfg(target_arch = "nvptx64")]
mod device;
#[cfg(not(target_arch = "nvptx64"))]
mod launch;

kernels! {
    /// As [`flash`](crate::attention::flash::Forward).
    pub struct Forward {
        o_NHD: *mut f32,
        lse_NH: *mut f32,
        qkv: *const f32,
        /// Of [`Forward::items`]; null for sequences of equal length. Otherwise T has no meaning.
        items: *const u32,
        N: u32,
        T: u32,
        H: u32,
        G: u32,
        D: u32,
        scale: f32,
    }
    for attention_forward_f32 {}
    => {
        let Some(Place { first: row, t, head: h, .. }) = place(items, N, T, H) else { return };
        let g = ptx::div(h, ptx::div(H, G));
        let at = |t: u32, head: u32| {
            ((row + t) as usize * (H + 2 * G) as usize + head as usize) * D as usize
        };
        let q = qkv.add(at(t, h));
        let (mut max, mut sum): (f32, f32) = (f32::NEG_INFINITY, 0.0);
        let mut out: Row = ptx::zeroed();
        let mut first = 0;
        while first <= t {
            let key = first + ptx::lane();
            let s = if key <= t {
                dot(q, qkv.add(at(key, H + g)), D) * scale
            } else {
                f32::NEG_INFINITY
            };
            let new = ptx::max(max, ptx::warp_max(s));
            let shrink = ptx::exp2((max - new) * math::LOG2_E);
            let p = ptx::exp2((s - new) * math::LOG2_E);
            (max, sum) = (new, ptx::fma(sum, shrink, ptx::warp_sum(p)));
            for i in 0..PER_LANE {
                out[i] *= shrink;
            }
            for k in 0..ptx::opaque((t + 1 - first).min(ptx::WARP)) {
                add_scaled(&mut out, ptx::from_lane(p, k), qkv.add(at(first + k, H + G + g)), D);
            }
            first += ptx::WARP;
        }
        let row = (row + t) as usize * H as usize + h as usize;
        if ptx::lane() == 0 {
            *lse_NH.add(row) = ptx::fma(math::LN_2, ptx::log2(sum), max);
        }
        store(o_NHD.add(row * D as usize), &out, ptx::recip_exact(sum), D);
    }

    /// As [`flash`](crate::attention::flash::BackwardQueries).
    pub struct BackwardQueries {
        dqkv: *mut f32,
        do_NHD: *const f32,
        qkv: *const f32,
        lse_NH: *const f32,
        delta_NH: *const f32,
        /// Of [`BackwardQueries::items`]; null for sequences of equal length. Otherwise T has no meaning.
        items: *const u32,
        N: u32,
        T: u32,
        H: u32,
        G: u32,
        D: u32,
        scale: f32,
    }
    for attention_backward_queries_f32 {}
    => {
        let Some(Place { first: row, t, head: h, .. }) = place(items, N, T, H) else { return };
        let g = ptx::div(h, ptx::div(H, G));
        let at = |t: u32, head: u32| {
            ((row + t) as usize * (H + 2 * G) as usize + head as usize) * D as usize
        };
        let row = (row + t) as usize * H as usize + h as usize;
        let (q, d_o) = (qkv.add(at(t, h)), do_NHD.add(row * D as usize));
        let (lse, delta) = (*lse_NH.add(row), *delta_NH.add(row));
        let mut dq: Row = ptx::zeroed();
        let mut first = 0;
        while first <= t {
            let key = first + ptx::lane();
            let ds = if key <= t {
                let s = dot(q, qkv.add(at(key, H + g)), D) * scale;
                let dp = dot(d_o, qkv.add(at(key, H + G + g)), D);
                ptx::exp2((s - lse) * math::LOG2_E) * (dp - delta)
            } else {
                0.0
            };
            for k in 0..ptx::opaque((t + 1 - first).min(ptx::WARP)) {
                add_scaled(&mut dq, ptx::from_lane(ds, k), qkv.add(at(first + k, H + g)), D);
            }
            first += ptx::WARP;
        }
        store(dqkv.add(at(t, h)), &dq, scale, D);
    }

    /// As [`flash`](crate::attention::flash::BackwardKeys).
    pub struct BackwardKeys {
        dqkv: *mut f32,
        do_NHD: *const f32,
        qkv: *const f32,
        lse_NH: *const f32,
        delta_NH: *const f32,
        /// Of [`BackwardKeys::items`]; null for sequences of equal length. Otherwise T has no meaning.
        items: *const u32,
        N: u32,
        T: u32,
        H: u32,
        G: u32,
        D: u32,
        scale: f32,
    }
    for attention_backward_keys_f32 {}
    => {
        let Some(Place { first: row, T, t, head: g }) = place(items, N, T, G) else { return };
        let at = |t: u32, head: u32| {
            ((row + t) as usize * (H + 2 * G) as usize + head as usize) * D as usize
        };
        let row = |t: u32, h: u32| (row + t) as usize * H as usize + h as usize;
        let (k, v) = (qkv.add(at(t, H + g)), qkv.add(at(t, H + G + g)));
        let (mut dk, mut dv): (Row, Row) = (ptx::zeroed(), ptx::zeroed());
        let group = ptx::div(H, G);
        for h in g * group..(g + 1) * group {
            let mut first = t;
            while first < T {
                let query = first + ptx::lane();
                let (p, ds) = if query < T {
                    let row = row(query, h);
                    let s = dot(qkv.add(at(query, h)), k, D) * scale;
                    let p = ptx::exp2((s - *lse_NH.add(row)) * math::LOG2_E);
                    let dp = dot(do_NHD.add(row * D as usize), v, D);
                    (p, p * (dp - *delta_NH.add(row)))
                } else {
                    (0.0, 0.0)
                };
                for i in 0..ptx::opaque((T - first).min(ptx::WARP)) {
                    let query = first + i;
                    add_scaled(&mut dk, ptx::from_lane(ds, i), qkv.add(at(query, h)), D);
                    let d_o = do_NHD.add(row(query, h) * D as usize);
                    add_scaled(&mut dv, ptx::from_lane(p, i), d_o, D);
                }
                first += ptx::WARP;
            }
        }
        store(dqkv.add(at(t, H + g)), &dk, scale, D);
        store(dqkv.add(at(t, H + G + g)), &dv, 1.0, D);
    }
}
