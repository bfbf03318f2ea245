//! From `--device`, `--threads` and `--gemm` to a device.
//!
//! ```
//! use train::config::{DeviceChoice, Gemm};
//! use train::device;
//!
//! # fn main() -> Result<(), train::Error> {
//! let dev = device::open(DeviceChoice::Cpu, Some(2), Gemm::Rust)?;
//! assert!(matches!(dev, engine::Device::Cpu(cpu) if cpu.threads() == 2));
//! assert!(device::open(DeviceChoice::Cpu, None, Gemm::Cublaslt).is_err());
//! # Ok(())
//! # }
//! ```

use engine::{Cuda, Device};
use tracing::info;

use crate::config::{DeviceChoice, Gemm};
use crate::error::Error;

/// The device that a run asked for. `auto` takes the first GPU where there is one that can run the
/// kernels, and says in the log why it does not.
///
/// # Errors
/// For one that this machine lacks, or matrix products that it cannot have.
pub fn open(wanted: DeviceChoice, threads: Option<usize>, gemm: Gemm) -> Result<Device, Error> {
    let cpu = || Device::cpu(threads.unwrap_or(0));
    let gpu = || Ok(Device::Cuda(Cuda::open(0, &mut |line| info!("{line}"))?));
    let dev = match wanted {
        DeviceChoice::Cpu => cpu()?,
        DeviceChoice::Cuda => named("--device cuda", gpu())?,
        DeviceChoice::CudaEmulated => named("--device cuda-emulated", Device::cuda_emulated())?,
        DeviceChoice::Auto => match gpu() {
            Ok(gpu) => gpu,
            Err(why) => {
                let why = why.to_string();
                let why = why.split_once("; ").map_or(&*why, |(why, _remedy)| why);
                info!("--device auto takes the CPU: {why}");
                cpu()?
            }
        },
    };
    match (gemm, dev) {
        (Gemm::Rust, dev) => Ok(dev),
        (Gemm::Cublaslt, Device::Cuda(cuda)) => {
            Ok(Device::Cuda(named("--gemm cublaslt", cuda.with_cublaslt())?))
        }
        (Gemm::Cublaslt, Device::Cpu(_)) => Err(Error::Config(
            "--gemm cublaslt multiplies on a GPU, and this run computes on the CPU; take --gemm rust"
                .into(),
        )),
    }
}

/// The same, with the flag in front of what went wrong.
fn named<T>(flag: &str, result: Result<T, engine::Error>) -> Result<T, Error> {
    result.map_err(|e| Error::Config(format!("{flag}: {e}")))
}
