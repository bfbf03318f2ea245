//! The formula in f64.
//!
//! ```
//! use engine::ops::swiglu::reference;
//! use ndarray::array;
//!
//! let a_NF = reference::forward(array![[2.0]].view(), array![[3.0]].view());
//! assert!((a_NF[[0, 0]] - 6.0 / (1.0 + (-2f64).exp())).abs() < 1e-15);
//! ```

use ndarray::{Array2, ArrayView2, concatenate};

/// a from gate and up.
pub fn forward(g_NF: ArrayView2<f64>, u_NF: ArrayView2<f64>) -> Array2<f64> {
    Array2::from_shape_fn(g_NF.dim(), |i| g_NF[i] / (1.0 + (-g_NF[i]).exp()) * u_NF[i])
}

/// dg and du side by side.
pub fn backward(
    da_NF: ArrayView2<f64>,
    g_NF: ArrayView2<f64>,
    u_NF: ArrayView2<f64>,
) -> Array2<f64> {
    let q = g_NF.mapv(|g| 1.0 / (1.0 + (-g).exp()));
    let dg = Array2::from_shape_fn(g_NF.dim(), |i| {
        da_NF[i] * u_NF[i] * (q[i] + g_NF[i] * q[i] * (1.0 - q[i]))
    });
    let du = Array2::from_shape_fn(g_NF.dim(), |i| da_NF[i] * g_NF[i] * q[i]);
    concatenate(ndarray::Axis(1), &[dg.view(), du.view()]).expect("equal rows")
}
