//! The formula in f64.
//!
//! ```
//! assert_eq!(engine::ops::norm::reference::sum_of_squares(&[3.0, 4.0]), 25.0);
//! ```

/// Sum of squares.
pub fn sum_of_squares(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum()
}
