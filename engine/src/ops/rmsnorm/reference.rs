//! The formula in f64.
//!
//! ```
//! use engine::ops::rmsnorm::reference;
//! use ndarray::array;
//!
//! let (y_NC, r_N) = reference::forward(array![[2.0, -2.0]].view(), array![1.0, 3.0].view(), 0.0);
//! assert_eq!((y_NC, r_N), (array![[1.0, -3.0]], array![0.5]));
//! ```

use ndarray::{Array1, Array2, ArrayView1, ArrayView2};

/// (y, r).
pub fn forward(
    x_NC: ArrayView2<f64>,
    w_C: ArrayView1<f64>,
    eps: f64,
) -> (Array2<f64>, Array1<f64>) {
    let r_N = Array1::from_shape_fn(x_NC.nrows(), |n| {
        let mean = x_NC.row(n).iter().map(|x| x * x).sum::<f64>() / w_C.len() as f64;
        1.0 / (mean + eps).sqrt()
    });
    let y_NC = Array2::from_shape_fn(x_NC.dim(), |(n, c)| w_C[c] * x_NC[[n, c]] * r_N[n]);
    (y_NC, r_N)
}

/// (dx, dw).
pub fn backward(
    dy_NC: ArrayView2<f64>,
    x_NC: ArrayView2<f64>,
    w_C: ArrayView1<f64>,
    eps: f64,
) -> (Array2<f64>, Array1<f64>) {
    let (N, C) = x_NC.dim();
    let (_, r_N) = forward(x_NC, w_C, eps);
    let dx_NC = Array2::from_shape_fn((N, C), |(n, c)| {
        let s: f64 = (0..C).map(|i| w_C[i] * dy_NC[[n, i]] * x_NC[[n, i]]).sum();
        r_N[n] * w_C[c] * dy_NC[[n, c]] - r_N[n].powi(3) * x_NC[[n, c]] * s / C as f64
    });
    let dw_C =
        Array1::from_shape_fn(C, |c| (0..N).map(|n| dy_NC[[n, c]] * x_NC[[n, c]] * r_N[n]).sum());
    (dx_NC, dw_C)
}
