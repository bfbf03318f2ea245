//! The formula in f64.
//!
//! ```
//! use engine::ops::lora::reference;
//! use ndarray::array;
//!
//! let (x_NI, a_rI, b_Or) = (array![[1.0, 2.0]], array![[1.0, 1.0]], array![[1.0], [-1.0]]);
//! assert_eq!(reference::forward(x_NI.view(), a_rI.view(), b_Or.view(), 0.5), array![[1.5, -1.5]]);
//! ```

use ndarray::{Array2, ArrayView2};

/// (s x A^T) B^T.
pub fn forward(
    x_NI: ArrayView2<f64>,
    a_rI: ArrayView2<f64>,
    b_Or: ArrayView2<f64>,
    s: f64,
) -> Array2<f64> {
    let (N, I) = x_NI.dim();
    let (O, r) = b_Or.dim();
    let t = Array2::from_shape_fn((N, r), |(n, k)| {
        s * (0..I).map(|i| x_NI[[n, i]] * a_rI[[k, i]]).sum::<f64>()
    });
    Array2::from_shape_fn((N, O), |(n, o)| (0..r).map(|k| t[[n, k]] * b_Or[[o, k]]).sum())
}

/// (dx, dA, dB).
pub fn backward(
    dy_NO: ArrayView2<f64>,
    x_NI: ArrayView2<f64>,
    a_rI: ArrayView2<f64>,
    b_Or: ArrayView2<f64>,
    s: f64,
) -> (Array2<f64>, Array2<f64>, Array2<f64>) {
    let (N, I) = x_NI.dim();
    let (O, r) = b_Or.dim();
    let t = |n: usize, k: usize| s * (0..I).map(|i| x_NI[[n, i]] * a_rI[[k, i]]).sum::<f64>();
    let u = |n: usize, k: usize| s * (0..O).map(|o| dy_NO[[n, o]] * b_Or[[o, k]]).sum::<f64>();
    let (t, u) = (
        Array2::from_shape_fn((N, r), |(n, k)| t(n, k)),
        Array2::from_shape_fn((N, r), |(n, k)| u(n, k)),
    );
    (
        Array2::from_shape_fn((N, I), |(n, i)| (0..r).map(|k| u[[n, k]] * a_rI[[k, i]]).sum()),
        Array2::from_shape_fn((r, I), |(k, i)| (0..N).map(|n| u[[n, k]] * x_NI[[n, i]]).sum()),
        Array2::from_shape_fn((O, r), |(o, k)| (0..N).map(|n| dy_NO[[n, o]] * t[[n, k]]).sum()),
    )
}
