//! Sum of squares of a flat arena, for the global gradient norm. One pass over memory.
//!
//! ```
//! use engine::{Buf, Device, ops::norm};
//!
//! let dev = &Device::cpu(1).unwrap();
//! let (mut sum_1, x) = (Buf::zeros(dev, 1), Buf::of(dev, &[3.0f32, 4.0]));
//! norm::sum_of_squares(dev, sum_1.view_mut(), x.view());
//! assert_eq!(sum_1.view().read().unwrap()[0], 25.0);
//! ```

pub(crate) mod cpu;
pub(crate) mod cuda;
#[cfg(feature = "reference")]
pub mod reference;

use crate::{Device, Real, View, ViewMut};

/// Writes the sum of x^2. Not finite exactly if an element is not, or its square overflows.
///
/// # Panics
/// If `sum_1` is not one element: a caller bug.
pub fn sum_of_squares<R: Real>(dev: &Device, sum_1: ViewMut<f64>, x: View<R>) {
    assert_eq!(sum_1.len(), 1, "norm: one sum");
    let _op = dev.op("norm", format_args!("{} elements", x.len()), 2 * x.len(), x.bytes());
    match dev {
        Device::Cpu(cpu) => cpu.compute(cpu::space(x.len()), |cpu| {
            sum_1.host()[0] = (R::cpu().sum_of_squares)(cpu, x.host());
        }),
        Device::Cuda(cuda) => cuda::sum_of_squares(cuda, sum_1, x),
    }
}
