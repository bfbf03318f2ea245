//! placeholder until merged
use super::Cpu;
/// FLOP/s
pub fn fma_flops(_: &Cpu) -> f64 {
    200e9
}
