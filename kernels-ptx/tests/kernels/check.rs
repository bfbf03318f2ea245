//! What all kernel tests share: generated inputs, emulated devices with the modules that are theirs,
//! and the comparison with f64.

use kernels_ptx::launch::{Arg, Kernel, Launch, Storage, Target};
use kernels_ptx::math;
use kernels_ptx::{SM_80, SM_90A};
use ptx_emu::{Counts, Error, Gpu, Grid, Hardware, Module};
use std::ptr::without_provenance_mut;
use std::sync::LazyLock;

pub use crate::generated::Gen;
pub use Storage::{Bf16, F32};

/// A number as a case's storage holds it: f32 or a brain float.
pub enum Stored {}

impl Gen {
    /// `len` normal numbers of deviation `scale`, as the storage holds them.
    pub fn normals(&mut self, storage: Storage, len: usize, scale: f64) -> Vec<f64> {
        (0..len).map(|_| rounded(storage, self.normal() * scale)).collect()
    }
}

/// To nearest, ties to even.
fn bf16_bits(x: f64) -> u16 {
    let bits = (x as f32).to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// `x` as the storage holds it.
pub fn rounded(storage: Storage, x: f64) -> f64 {
    match storage {
        F32 => f64::from(x as f32),
        Bf16 => f64::from(f32::from_bits(u32::from(bf16_bits(x)) << 16)),
    }
}

/// The committed PTX, or that of the folder HANDGRAD_PTX (`check-ptx.sh`).
static MODULES: LazyLock<[Module; 2]> = LazyLock::new(|| {
    [("sm_80", &SM_80), ("sm_90a", &SM_90A)].map(|(target, text)| {
        let text = match std::env::var("HANDGRAD_PTX") {
            Ok(folder) => std::fs::read_to_string(format!("{folder}/{target}.ptx")).unwrap(),
            Err(_) => text.to_string(),
        };
        Module::parse(&text).unwrap()
    })
});

/// An emulated device with the kernels that are made for it.
pub struct Device {
    gpu: Gpu,
    module: &'static Module,
    /// What the last launch cost.
    pub counts: Counts,
}

/// The emulated devices that tests run on: `HANDGRAD_TEST_TARGETS`, compute capabilities such as
/// `80,86,90,100,120`, and `HANDGRAD_TEST_SUMS`, `truncate` or `round`.
pub fn devices() -> impl Iterator<Item = Device> {
    let set = |name: &str, otherwise: &str| std::env::var(name).unwrap_or(otherwise.to_string());
    let targets = set("HANDGRAD_TEST_TARGETS", "80,90");
    let sums = set("HANDGRAD_TEST_SUMS", "truncate");
    let one = |target| format!("{target}-{sums}").parse().unwrap_or_else(|e| panic!("{e}"));
    let hardware: Vec<Hardware> = targets.split(',').map(one).collect();
    hardware.into_iter().map(|hardware| {
        let module = &MODULES[usize::from(hardware.card.capability == 90)];
        Device { gpu: Gpu::with(hardware), module, counts: Counts::default() }
    })
}

/// Those of them whose blocks can have so many bytes of shared memory: where one cannot, launches
/// never choose such a kernel.
pub fn devices_with(shared_bytes: u32) -> impl Iterator<Item = Device> {
    devices().filter(move |d| {
        let card = d.gpu.hardware().card;
        let enough = shared_bytes as usize <= card.block_shared_bytes;
        if !enough {
            println!("not on an {}: {shared_bytes} bytes of shared memory a block", card.name);
        }
        enough
    })
}

impl Device {
    /// With another module, which is never freed.
    pub fn of(text: &str) -> Device {
        let module = Box::leak(Box::new(Module::parse(text).unwrap()));
        Device { gpu: Gpu::new(), module, counts: Counts::default() }
    }

    /// Of the card that is emulated.
    pub fn capability(&self) -> u32 {
        self.gpu.hardware().card.capability
    }

    fn target(&self) -> Target {
        Target::of(self.capability())
    }

    /// Names of all kernels.
    pub fn kernels(&self) -> &[String] {
        self.module.kernels()
    }

    /// Room for `bytes`, which nothing was written to: reading it before writing is an error.
    fn alloc<T>(&mut self, bytes: usize) -> *mut T {
        without_provenance_mut(self.gpu.alloc(bytes).unwrap() as usize)
    }

    fn write<T, const N: usize>(&mut self, x: impl Iterator<Item = [u8; N]>) -> *mut T {
        let bytes = x.collect::<Vec<_>>().concat();
        let at = self.alloc::<T>(bytes.len());
        self.gpu.write(at.addr() as u64, &bytes).unwrap();
        at
    }

    /// Numbers in a storage.
    pub fn put(&mut self, storage: Storage, x: &[f64]) -> *mut Stored {
        match storage {
            F32 => self.put_f32(x).cast(),
            Bf16 => self.put_bf16(x).cast(),
        }
    }
    pub fn put_f32(&mut self, x: &[f64]) -> *mut f32 {
        self.write(x.iter().map(|&x| (x as f32).to_le_bytes()))
    }
    pub fn put_bf16(&mut self, x: &[f64]) -> *mut math::Bf16 {
        self.write(x.iter().map(|&x| bf16_bits(x).to_le_bytes()))
    }
    pub fn put_f64(&mut self, x: &[f64]) -> *mut f64 {
        self.write(x.iter().map(|x| x.to_le_bytes()))
    }
    pub fn put_u64(&mut self, x: &[u64]) -> *mut u64 {
        self.write(x.iter().map(|x| x.to_le_bytes()))
    }
    pub fn put_u32(&mut self, x: &[u32]) -> *mut u32 {
        self.write(x.iter().map(|x| x.to_le_bytes()))
    }
    pub fn put_i32(&mut self, x: &[i32]) -> *mut i32 {
        self.write(x.iter().map(|x| x.to_le_bytes()))
    }

    /// Room that nothing was written to.
    pub fn room(&mut self, storage: Storage, len: usize) -> *mut Stored {
        self.alloc(len * storage.bytes())
    }
    pub fn room_f32(&mut self, len: usize) -> *mut f32 {
        self.alloc(len * 4)
    }
    pub fn room_bf16(&mut self, len: usize) -> *mut math::Bf16 {
        self.alloc(len * 2)
    }
    pub fn room_f64(&mut self, len: usize) -> *mut f64 {
        self.alloc(len * 8)
    }
    pub fn room_i32(&mut self, len: usize) -> *mut i32 {
        self.alloc(len * 4)
    }

    fn read<T, const N: usize>(&self, at: *const T, len: usize) -> impl Iterator<Item = [u8; N]> {
        let mut bytes = vec![0; len * N];
        self.gpu.read(at.addr() as u64, &mut bytes).unwrap();
        bytes.chunks_exact(N).map(|b| b.try_into().unwrap()).collect::<Vec<_>>().into_iter()
    }

    /// Reads all of it: every element must have been written.
    pub fn get(&self, storage: Storage, at: *const Stored, len: usize) -> Vec<f64> {
        match storage {
            F32 => self.get_f32(at.cast(), len),
            Bf16 => self.get_bf16(at.cast(), len),
        }
    }
    pub fn get_f32(&self, at: *const f32, len: usize) -> Vec<f64> {
        self.read(at, len).map(|b| f64::from(f32::from_le_bytes(b))).collect()
    }
    pub fn get_bf16(&self, at: *const math::Bf16, len: usize) -> Vec<f64> {
        self.read(at, len).map(|b| math::Bf16::from_le_bytes(b).to_f64()).collect()
    }
    pub fn get_f64(&self, at: *const f64, len: usize) -> Vec<f64> {
        self.read(at, len).map(f64::from_le_bytes).collect()
    }
    pub fn get_i32(&self, at: *const i32, len: usize) -> Vec<i32> {
        self.read(at, len).map(i32::from_le_bytes).collect()
    }

    /// Runs a kernel as it is launched on this device. Out-of-bounds, misaligned or uninitialised
    /// access, races and divergence are errors of the emulator.
    pub fn run(&mut self, kernel: &impl Kernel) {
        self.run_for(self.target(), kernel);
    }

    /// As it is launched on another.
    pub fn run_for(&mut self, target: Target, kernel: &impl Kernel) {
        self.run_as(kernel.launch(target), kernel);
    }

    /// With its arguments, but as `launch` says.
    pub fn run_as(&mut self, launch: Launch, kernel: &impl Kernel) {
        self.try_run(launch, kernel).unwrap_or_else(|e| panic!("{e}"));
    }

    /// As [`Device::run_as`], for faults that are meant.
    pub fn try_run(&mut self, launch: Launch, kernel: &impl Kernel) -> Result<(), Error> {
        let function = self.module.kernel(launch.kernel)?;
        let grid = Grid {
            blocks: launch.blocks,
            threads: [launch.threads, 1, 1],
            shared_bytes: launch.shared_bytes as usize,
        };
        let arguments = kernel.arguments();
        let args = arguments.as_ref().iter().map(|argument| match *argument {
            Arg::Ptr(x) | Arg::U64(x) => ptx_emu::Arg::U64(x),
            Arg::U32(x) => ptx_emu::Arg::U32(x),
            Arg::F32(x) => ptx_emu::Arg::F32(x),
        });
        self.counts = self.gpu.launch(&function, grid, &args.collect::<Vec<_>>())?;
        Ok(())
    }

    /// The last launch moved at most 5 % more bytes than it must, each request counted as often as
    /// it was made.
    pub fn moved_at_most(&self, least: usize) {
        let moved = self.counts.sector_bytes() as f64 / least as f64;
        assert!(moved <= 1.05, "{moved:.3} times the least bytes");
    }
}

/// A length as kernels take it.
pub fn int(x: usize) -> u32 {
    x.try_into().unwrap()
}

/// An output beside what it should be.
pub struct Output {
    what: &'static str,
    storage: Storage,
    got: Vec<f64>,
    exact: Vec<f64>,
    floor: f64,
    /// What the device's arithmetic may add to an error, absolute.
    hardware: f64,
}

/// What f32 arithmetic may add to the error, as a share of the result.
pub const F32_FLOOR: f64 = 2e-6;

impl Output {
    /// `got` from a kernel beside `exact` in f64.
    pub fn new(what: &'static str, storage: Storage, got: Vec<f64>, exact: Vec<f64>) -> Self {
        assert!(got.len() == exact.len() && !exact.is_empty(), "{what}");
        Output { what, storage, got, exact, floor: F32_FLOOR, hardware: 0.0 }
    }

    /// For sums whose terms are rounded to brain floats on the way.
    pub fn floor(self, floor: f64) -> Self {
        Output { floor, ..self }
    }

    /// For what tensor cores sum and approximations make: no element errs by more than `most` for
    /// that, see [`ptx_emu::bounds`].
    pub fn allowing(self, most: f64) -> Self {
        Output { hardware: most, ..self }
    }

    /// Errors of `x` as a share of the exact values: root mean square, and largest by largest.
    fn errors(&self, x: &[f64]) -> (f64, f64) {
        let square = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
        let largest = |x: &[f64]| x.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
        let errors: Vec<f64> = x.iter().zip(&self.exact).map(|(x, e)| x - e).collect();
        let tiny = f64::MIN_POSITIVE;
        let share = |f: &dyn Fn(&[f64]) -> f64| f(&errors) / (f(&self.exact) + tiny);
        (share(&square), share(&largest))
    }

    /// At most twice the error of rounding the exact values to the storage, plus the floor, plus
    /// what the device's arithmetic adds.
    fn good(&self) -> bool {
        let plain: Vec<f64> = self.exact.iter().map(|&x| rounded(self.storage, x)).collect();
        let worse: Vec<f64> = self.exact.iter().map(|x| x + self.hardware).collect();
        let ((mean, largest), plain) = (self.errors(&self.got), self.errors(&plain));
        let worse = self.errors(&worse);
        mean <= 2.0 * plain.0 + self.floor + worse.0
            && largest <= 2.0 * plain.1 + 4.0 * self.floor + worse.1
    }

    /// Holds, and would not with an error of 1 % (5 % in brain floats).
    pub fn check(mut self, context: &str) {
        let ((mean, largest), what) = (self.errors(&self.got), self.what);
        assert!(self.good(), "{context}: {what}: error {mean:.2e}, largest {largest:.2e}");
        let planted = if self.storage == F32 && self.floor == F32_FLOOR { 1.01 } else { 1.05 };
        if self.exact.iter().any(|&x| x != 0.0) {
            self.got.iter_mut().for_each(|x| *x *= planted);
            assert!(!self.good(), "{context}: {what}: a planted error passes");
        }
    }
}
