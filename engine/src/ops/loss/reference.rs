//! The formula in f64.

use super::IGNORE;
use ndarray::{Array2, ArrayView2};

/// (loss in nats summed over targets, dx, dw) for the gradient of `scale` times the loss.
pub fn forward_backward(
    x_NC: ArrayView2<f64>,
    w_VC: ArrayView2<f64>,
    targets_N: &[i32],
    scale: f64,
) -> (f64, Array2<f64>, Array2<f64>) {
    let mut nats = 0.0;
    let mut dx_NC = Array2::zeros(x_NC.dim());
    let mut dw_VC = Array2::zeros(w_VC.dim());
    for (n, &target) in targets_N.iter().enumerate().filter(|&(_, &t)| t != IGNORE) {
        let logits_V = w_VC.dot(&x_NC.row(n));
        let max = logits_V.fold(f64::NEG_INFINITY, |a, &b| a.max(b));
        let sum: f64 = logits_V.iter().map(|l| (l - max).exp()).sum();
        nats += sum.ln() + max - logits_V[target as usize];
        for (v, l) in logits_V.iter().enumerate() {
            let hit = if v == target as usize { 1.0 } else { 0.0 };
            let dlogit = scale * ((l - max).exp() / sum - hit);
            for c in 0..x_NC.ncols() {
                dx_NC[[n, c]] += dlogit * w_VC[[v, c]];
                dw_VC[[v, c]] += dlogit * x_NC[[n, c]];
            }
        }
    }
    (nats, dx_NC, dw_VC)
}
