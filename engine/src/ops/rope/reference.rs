//! The formula in f64.
//!
//! ```
//! use engine::{Segments, ops::rope::reference};
//! use ndarray::array;
//!
//! // One head of width 2 for two tokens: the second turns by one radian, and back.
//! let (x_NHD, segments) = (array![[[1.0, 0.0]], [[1.0, 0.0]]], &Segments::equal(1, 2));
//! let y_NHD = reference::forward(x_NHD.view(), segments, 10_000.0);
//! assert_eq!((y_NHD[[0, 0, 0]], y_NHD[[1, 0, 0]]), (1.0, 1f64.cos()));
//! let back = reference::backward(y_NHD.view(), segments, 10_000.0);
//! assert!((back - x_NHD).iter().all(|difference| difference.abs() < 1e-15));
//! ```

use crate::Segments;
use ndarray::{Array3, ArrayView3};

/// Rotated copy of x (rows, heads, D), each row at its position in its segment's sequence.
pub fn forward(x_NHD: ArrayView3<f64>, segments: &Segments, theta: f64) -> Array3<f64> {
    turned(x_NHD, segments, theta, 1.0)
}

/// Gradient turned back.
pub fn backward(dy_NHD: ArrayView3<f64>, segments: &Segments, theta: f64) -> Array3<f64> {
    turned(dy_NHD, segments, theta, -1.0)
}

fn turned(x_NHD: ArrayView3<f64>, segments: &Segments, theta: f64, sign: f64) -> Array3<f64> {
    let D = x_NHD.dim().2;
    let positions: Vec<usize> =
        segments.list().iter().flat_map(|s| s.first..s.first + s.len).collect();
    Array3::from_shape_fn(x_NHD.dim(), |(n, h, d)| {
        let pair = d % (D / 2);
        let angle = sign * positions[n] as f64 / theta.powf(2.0 * pair as f64 / D as f64);
        let (a, b) = (x_NHD[[n, h, pair]], x_NHD[[n, h, pair + D / 2]]);
        if d < D / 2 {
            a * angle.cos() - b * angle.sin()
        } else {
            b * angle.cos() + a * angle.sin()
        }
    })
}
