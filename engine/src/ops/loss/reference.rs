//! The formula in f64.
//!
//! ```
//! use engine::ops::loss::{IGNORE, reference::forward_backward};
//! use ndarray::Array2;
//!
//! // Rows that know nothing of 4 ids: ln 4 nats, but where the target does not count.
//! let (x_NC, w_VC) = (Array2::zeros((2, 3)), Array2::zeros((4, 3)));
//! let (nats_N, _, _) = forward_backward(x_NC.view(), w_VC.view(), &[3, IGNORE], None, 1.0);
//! assert!((nats_N[0] - 4f64.ln()).abs() < 1e-12 && nats_N[1] == 0.0);
//! ```

use super::IGNORE;
use ndarray::{Array2, ArrayView2};

/// (nats of each row's target, dx, dw) for the gradient of `scale` times the sum of nats, each row's
/// times its weight.
pub fn forward_backward(
    x_NC: ArrayView2<f64>,
    w_VC: ArrayView2<f64>,
    targets_N: &[i32],
    weights_N: Option<&[f32]>,
    scale: f64,
) -> (Vec<f64>, Array2<f64>, Array2<f64>) {
    let mut nats_N = vec![0.0; targets_N.len()];
    let mut dx_NC = Array2::zeros(x_NC.dim());
    let mut dw_VC = Array2::zeros(w_VC.dim());
    for (n, &target) in targets_N.iter().enumerate().filter(|&(_, &t)| t != IGNORE) {
        let logits_V = w_VC.dot(&x_NC.row(n));
        let max = logits_V.fold(f64::NEG_INFINITY, |a, &b| a.max(b));
        let sum: f64 = logits_V.iter().map(|l| (l - max).exp()).sum();
        nats_N[n] = sum.ln() + max - logits_V[target as usize];
        let weight = weights_N.map_or(1.0, |weights_N| f64::from(weights_N[n]));
        for (v, l) in logits_V.iter().enumerate() {
            let hit = if v == target as usize { 1.0 } else { 0.0 };
            let dlogit = scale * weight * ((l - max).exp() / sum - hit);
            for c in 0..x_NC.ncols() {
                dx_NC[[n, c]] += dlogit * w_VC[[v, c]];
                dw_VC[[v, c]] += dlogit * x_NC[[n, c]];
            }
        }
    }
    (nats_N, dx_NC, dw_VC)
}
