//! The formula in f64.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

/// y and b.
pub fn forward(y_NO: ArrayView2<f64>, b_O: ArrayView1<f64>) -> Array2<f64> {
    &y_NO + &b_O
}

/// db.
pub fn backward(dy_NO: ArrayView2<f64>) -> Array1<f64> {
    dy_NO.sum_axis(Axis(0))
}
