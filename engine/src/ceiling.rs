//! What a device can do at best. Above devices and buffers: it measures with both.
//!
//! ```
//! use engine::{Device, ceiling};
//!
//! let dev = Device::cpu(1).unwrap();
//! let (flops, known) = ceiling::products::<f32>(&dev);
//! println!("{known}: {:.0} GFLOP/s, {:.1} GB/s", flops / 1e9, ceiling::memory_bandwidth(&dev) / 1e9);
//! assert!(flops > 1e8);
//! ```

use crate::cpu;
use crate::cuda;
use crate::device::Device;
use crate::element::Element;

/// FLOP/s that matrix products in storage type `E` could reach at most, and where that is known
/// from: "measured", or "stated" by a GPU's maker.
pub fn products<E: Element>(dev: &Device) -> (f64, &'static str) {
    match dev {
        Device::Cpu(_) => (product_flops::<E>(dev), "measured"),
        Device::Cuda(cuda) => match cuda::ceiling::stated_flops::<E>(cuda) {
            Some(flops) => (flops, "stated"),
            None => (product_flops::<E>(dev), "measured"),
        },
    }
}

/// FLOP/s of matrix products in storage type `E`, measured: on the CPU of multiply-adds in
/// registers, on a GPU of a large product.
pub fn product_flops<E: Element>(dev: &Device) -> f64 {
    match dev {
        Device::Cpu(cpu) => cpu::ceiling::product_flops::<E>(cpu),
        Device::Cuda(cuda) => cuda::ceiling::product_flops::<E>(cuda),
    }
}

/// Bytes/s to and from memory, measured.
pub fn memory_bandwidth(dev: &Device) -> f64 {
    match dev {
        Device::Cpu(cpu) => cpu::ceiling::memory_bandwidth(cpu),
        Device::Cuda(cuda) => cuda::ceiling::memory_bandwidth(cuda),
    }
}
