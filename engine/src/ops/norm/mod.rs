//! Sum of squares of a flat arena, for the global gradient norm. One pass over memory.

mod cpu;
pub mod reference;

use crate::{Device, Real, View};

/// Sum of x^2 in f64. Not finite exactly if an element is not, or its square overflows.
pub fn sum_of_squares<R: Real>(dev: &Device, x: View<R>) -> f64 {
    let _op = dev.op("norm", format_args!("{} elements", x.len()), 2 * x.len(), x.bytes());
    match dev {
        Device::Cpu(cpu) => cpu::sum_of_squares(cpu, x.host()),
    }
}
