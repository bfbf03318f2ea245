//! The formula in f64.

use super::Step;

/// One element: (w, m, v) after the step, where all gradients together have `norm`.
pub fn step(w: f64, m: f64, v: f64, g: f64, norm: f64, decay: f64, s: Step) -> (f64, f64, f64) {
    let g = g * (s.max_norm / (norm + 1e-6)).min(1.0);
    let m = s.beta1 * m + (1.0 - s.beta1) * g;
    let v = s.beta2 * v + (1.0 - s.beta2) * g * g;
    let m_hat = m / (1.0 - s.beta1.powi(s.t as i32));
    let v_hat = v / (1.0 - s.beta2.powi(s.t as i32));
    (w - s.lr * decay * w - s.lr * m_hat / (v_hat.sqrt() + s.eps), m, v)
}
