//! The formula in f64, weights and all.
//!
//! ```
//! use engine::Segments;
//! use engine::ops::attention::{Heads, reference};
//! use ndarray::array;
//!
//! // Two tokens of one head of width 2: a query, a key and a value each.
//! let qkv = array![[[0.0, 0.0], [0.0, 0.0], [1.0, 2.0]], [[0.0, 0.0], [0.0, 0.0], [3.0, 4.0]]];
//! let (o, lse_NH) = reference::forward(qkv.view(), &Segments::equal(1, 2), Heads { H: 1, G: 1, D: 2 });
//! assert_eq!(o, array![[[1.0, 2.0]], [[2.0, 3.0]]]);
//! assert_eq!(lse_NH, array![[0.0], [2f64.ln()]]);
//! ```

use super::Heads;
use crate::{Segment, Segments};
use ndarray::{Array2, Array3, ArrayView3};

/// Weights of one head over one segment, rows of queries.
fn weights(
    q: &dyn Fn(usize, usize) -> f64,
    k: &dyn Fn(usize, usize) -> f64,
    T: usize,
    D: usize,
) -> (Array2<f64>, Vec<f64>) {
    let mut p = Array2::zeros((T, T));
    let mut lse = vec![0.0; T];
    for i in 0..T {
        let s: Vec<f64> = (0..=i)
            .map(|j| (0..D).map(|d| q(i, d) * k(j, d)).sum::<f64>() / (D as f64).sqrt())
            .collect();
        let max = s.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
        lse[i] = s.iter().map(|s| (s - max).exp()).sum::<f64>().ln() + max;
        for j in 0..=i {
            p[[i, j]] = (s[j] - lse[i]).exp();
        }
    }
    (p, lse)
}

/// Every head of every segment.
fn each_head(segments: &Segments, H: usize) -> impl Iterator<Item = (&Segment, usize)> {
    segments.list().iter().flat_map(move |s| (0..H).map(move |h| (s, h)))
}

/// (o, lse) from qkv as (N, H + 2G, D).
pub fn forward(
    qkv: ArrayView3<f64>,
    segments: &Segments,
    heads: Heads,
) -> (Array3<f64>, Array2<f64>) {
    let Heads { H, G, D } = heads;
    let N = qkv.dim().0;
    let mut o = Array3::zeros((N, H, D));
    let mut lse_NH = Array2::zeros((N, H));
    for (&Segment { offset, len: T, .. }, h) in each_head(segments, H) {
        let g = h / (H / G);
        let at = |head: usize| move |t: usize, d: usize| qkv[[offset + t, head, d]];
        let (p, lse) = weights(&at(h), &at(H + g), T, D);
        for t in 0..T {
            lse_NH[[offset + t, h]] = lse[t];
            for d in 0..D {
                o[[offset + t, h, d]] = (0..=t).map(|j| p[[t, j]] * at(H + G + g)(j, d)).sum();
            }
        }
    }
    (o, lse_NH)
}

/// dqkv as (N, H + 2G, D).
pub fn backward(
    dO: ArrayView3<f64>,
    qkv: ArrayView3<f64>,
    segments: &Segments,
    heads: Heads,
) -> Array3<f64> {
    let Heads { H, G, D } = heads;
    let scale = 1.0 / (D as f64).sqrt();
    let mut dqkv = Array3::zeros(qkv.dim());
    for (&Segment { offset, len: T, .. }, h) in each_head(segments, H) {
        let (k, v) = (H + h / (H / G), H + G + h / (H / G));
        let at = |head: usize| move |t: usize, d: usize| qkv[[offset + t, head, d]];
        let (p, _) = weights(&at(h), &at(k), T, D);
        for i in 0..T {
            let n = offset + i;
            let dp: Vec<f64> =
                (0..=i).map(|j| (0..D).map(|d| dO[[n, h, d]] * at(v)(j, d)).sum()).collect();
            let delta: f64 = (0..=i).map(|j| p[[i, j]] * dp[j]).sum();
            for j in 0..=i {
                let ds = p[[i, j]] * (dp[j] - delta) * scale;
                for d in 0..D {
                    dqkv[[n, h, d]] += ds * at(k)(j, d);
                    dqkv[[offset + j, k, d]] += ds * at(h)(i, d);
                    dqkv[[offset + j, v, d]] += p[[i, j]] * dO[[n, h, d]];
                }
            }
        }
    }
    dqkv
}
