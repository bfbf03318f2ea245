//! Devices for tests of GPU kernels.

use engine::{Cuda, Device};

/// What can run GPU kernels here: both of the emulator's targets, and a GPU where there is one.
/// HANDGRAD_TEST_GPU=only leaves the emulator out, and fails where there is no GPU.
pub fn gpus() -> Vec<Device> {
    let only = std::env::var("HANDGRAD_TEST_GPU").is_ok_and(|value| value == "only");
    let emulated = [80, 90].map(|capability| Device::Cuda(Cuda::emulated(capability).unwrap()));
    let mut gpus = if only { vec![] } else { emulated.to_vec() };
    match Device::cuda(0) {
        Ok(gpu) => gpus.push(gpu),
        Err(e) if only => panic!("{e}"),
        Err(e) => println!("not on a GPU: {e}"),
    }
    gpus
}
