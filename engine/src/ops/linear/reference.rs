//! The formula in f64.
//!
//! ```
//! use engine::ops::linear::reference;
//! use ndarray::array;
//!
//! let (x_NI, w_OI) = (array![[1.0, 2.0]], array![[1.0, 1.0], [1.0, -1.0]]);
//! assert_eq!(reference::forward(x_NI.view(), w_OI.view()), array![[3.0, -1.0]]);
//! let dy_NO = array![[1.0, 0.0]];
//! assert_eq!(reference::backward_input(dy_NO.view(), w_OI.view()), array![[1.0, 1.0]]);
//! assert_eq!(reference::backward_weight(dy_NO.view(), x_NI.view()), array![[1.0, 2.0], [0.0, 0.0]]);
//! ```

use ndarray::{Array2, ArrayView2};

/// y = x W^T.
pub fn forward(x_NI: ArrayView2<f64>, w_OI: ArrayView2<f64>) -> Array2<f64> {
    Array2::from_shape_fn((x_NI.nrows(), w_OI.nrows()), |(n, o)| {
        (0..x_NI.ncols()).map(|i| x_NI[[n, i]] * w_OI[[o, i]]).sum()
    })
}

/// dx = dy W.
pub fn backward_input(dy_NO: ArrayView2<f64>, w_OI: ArrayView2<f64>) -> Array2<f64> {
    let (O, I) = w_OI.dim();
    Array2::from_shape_fn((dy_NO.nrows(), I), |(n, i)| {
        (0..O).map(|o| dy_NO[[n, o]] * w_OI[[o, i]]).sum()
    })
}

/// dw = dy^T x.
pub fn backward_weight(dy_NO: ArrayView2<f64>, x_NI: ArrayView2<f64>) -> Array2<f64> {
    let (N, O) = dy_NO.dim();
    Array2::from_shape_fn((O, x_NI.ncols()), |(o, i)| {
        (0..N).map(|n| dy_NO[[n, o]] * x_NI[[n, i]]).sum()
    })
}
