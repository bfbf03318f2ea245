//! The formula in f64.
//!
//! ```
//! use engine::ops::embedding::reference;
//! use ndarray::array;
//!
//! let x_NC = reference::forward(&[1, 0], array![[1.0, 2.0], [3.0, 4.0]].view());
//! assert_eq!(x_NC, array![[3.0, 4.0], [1.0, 2.0]]);
//! let dw_VC = reference::backward(array![[1.0], [2.0]].view(), &[1, 1], 2);
//! assert_eq!(dw_VC, array![[0.0], [3.0]]);
//! ```

use ndarray::{Array2, ArrayView2, Axis};

/// Rows of the table.
pub fn forward(tokens_N: &[u32], w_VC: ArrayView2<f64>) -> Array2<f64> {
    let ids: Vec<usize> = tokens_N.iter().map(|&id| id as usize).collect();
    w_VC.select(Axis(0), &ids)
}

/// dw for a vocabulary of V.
pub fn backward(dx_NC: ArrayView2<f64>, tokens_N: &[u32], V: usize) -> Array2<f64> {
    let mut dw_VC = Array2::zeros((V, dx_NC.ncols()));
    for (n, &id) in tokens_N.iter().enumerate() {
        let mut row = dw_VC.row_mut(id as usize);
        row += &dx_NC.row(n);
    }
    dw_VC
}
