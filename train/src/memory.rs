//! The memory that a process took.
//!
//! ```
//! use engine::Device;
//! use train::memory;
//!
//! let dev = Device::cpu(1).unwrap();
//! println!("{} MiB are in RAM", memory::resident_bytes() >> 20);
//! let line = memory::describe(&dev);
//! assert!(line.starts_with("peak memory ") && line.ends_with(" MiB"));
//! ```

use engine::Device;

/// One line for people: the memory that the run took.
pub fn describe(dev: &Device) -> String {
    let mib = |bytes: u64| bytes as f64 / (1u64 << 20) as f64;
    let host = format!("peak memory {:.1} MiB", mib(peak_bytes()));
    match dev {
        Device::Cpu(_) => host,
        Device::Cuda(cuda) => {
            let (reserved, _) = cuda.held_bytes();
            let (reserved, more) = (mib(reserved), mib(cuda.peak_bytes() - reserved));
            format!("{host}; device memory {reserved:.1} MiB as planned, {more:.1} MiB beyond")
        }
    }
}

/// Memory that this process holds in RAM now, in bytes; 0 where the system does not tell.
pub fn resident_bytes() -> u64 {
    process_status("VmRSS:")
}

/// Peak of the memory that this process held in RAM, in bytes; 0 where the system does not tell.
pub fn peak_bytes() -> u64 {
    process_status("VmHWM:")
}

/// A figure that Linux keeps of this process, in bytes.
fn process_status(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}
