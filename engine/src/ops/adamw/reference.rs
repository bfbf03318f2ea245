//! The formula in f64.
//!
//! ```
//! use engine::ops::adamw::{Step, reference};
//!
//! let max_norm = f64::INFINITY;
//! let of_first = Step { lr: 0.1, beta1: 0.9, beta2: 0.95, eps: 1e-8, max_norm, t: 1 };
//! let (w, m, _) = reference::step(1.0, 0.0, 0.0, 0.5, 0.5, 0.0, of_first);
//! // The first step is as long as its rate, whatever the gradient.
//! assert!((w - 0.9).abs() < 1e-6 && (m - 0.05).abs() < 1e-12);
//! ```

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
