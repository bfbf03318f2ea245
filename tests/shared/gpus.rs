//! Devices for tests of GPU kernels.

use engine::cuda::Hardware;
use engine::{Cuda, Device};
use std::env;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// The emulated devices that tests run on: `HANDGRAD_TEST_TARGETS`, compute capabilities such as
/// `80,86,90,100,120`, and `HANDGRAD_TEST_SUMS`, `truncate` or `round`.
fn emulated() -> Vec<Hardware> {
    let targets = env::var("HANDGRAD_TEST_TARGETS").unwrap_or_else(|_| "80,90".into());
    let sums = env::var("HANDGRAD_TEST_SUMS").unwrap_or_else(|_| "truncate".into());
    let one = |target| format!("{target}-{sums}").parse().unwrap_or_else(|e| panic!("{e}"));
    targets.split(',').map(one).collect()
}

/// What can run GPU kernels here, one device a target for all tests of the process: the emulated
/// ones, and a GPU where there is one. HANDGRAD_TEST_GPU=only leaves the emulator out, and fails
/// where there is no GPU.
static GPUS: LazyLock<Vec<Mutex<Device>>> = LazyLock::new(|| {
    let only = env::var("HANDGRAD_TEST_GPU").is_ok_and(|value| value == "only");
    let emulated = if only { vec![] } else { emulated() };
    let open = |hardware| Device::Cuda(Cuda::emulating(hardware).unwrap());
    let mut gpus: Vec<_> = emulated.into_iter().map(open).collect();
    match Device::cuda(0) {
        Ok(gpu) => gpus.push(gpu),
        Err(e) if only => panic!("{e}"),
        Err(e) => println!("not on a GPU: {e}"),
    }
    gpus.into_iter().map(Mutex::new).collect()
});

/// The devices one after the other, each held by one test at a time: ops of a device share its work
/// space, and what fails sticks to it.
pub fn gpus() -> impl Iterator<Item = MutexGuard<'static, Device>> {
    GPUS.iter().map(|gpu| gpu.lock().unwrap_or_else(PoisonError::into_inner))
}
