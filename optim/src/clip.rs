//! Clipping by the global L2 norm. Gradients are not touched: AdamW multiplies by the factor in
//! the pass that reads them anyway.

use engine::ops::norm;
use engine::{Arena, Device, Real};

/// The global norm, and the factor min(1, max_norm / (norm + 1e-6)) that clips to `max_norm`; no
/// clipping if that is infinite. The small term is PyTorch's, so that runs compare.
pub fn by_global_norm<R: Real>(dev: &Device, grads: &Arena<R>, max_norm: f64) -> (f64, f64) {
    let norm = norm::sum_of_squares(dev, grads.view()).sqrt();
    (norm, if max_norm.is_finite() { (max_norm / (norm + 1e-6)).min(1.0) } else { 1.0 })
}
