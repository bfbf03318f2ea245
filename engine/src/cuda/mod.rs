//! The CUDA device: memory, work space, launches. Kernels are those of `kernels-ptx`; they run on
//! a GPU through NVIDIA's driver, found at run time, or on an emulator.
//!
//! Ops only queue work. What goes wrong sticks: the first failure is kept with its op's name, what
//! follows is left out, and whoever reads results or calls [`Cuda::check`] gets the error. So a
//! step needs no wait of the host, and no op a `Result`.
//!
//! The feature `cuda` opens GPUs, `emulator` the emulator. Without both nothing makes such a device.
//!
//! ```
//! use engine::{Buf, Cuda, Device, ops::swiglu};
//!
//! # fn main() -> Result<(), engine::Error> {
//! // `Device::cuda(0)` is the first GPU; this one is played by the CPU.
//! let dev = Device::Cuda(Cuda::emulated(80)?);
//! let (mut a, gu) = (Buf::<f32>::zeros(&dev, 8), Buf::of(&dev, &[0.0f32; 16]));
//! swiglu::forward(&dev, a.view_mut(), gu.view(), 8);
//! dev.sync()?;
//! # Ok(())
//! # }
//! ```
#![cfg_attr(not(any(feature = "cuda", feature = "emulator")), allow(dead_code))]

pub(crate) mod ceiling;
mod counted;
#[cfg(feature = "cuda")]
mod cublaslt;
mod driver;
#[cfg(feature = "emulator")]
mod emulated;
#[cfg(feature = "cuda")]
mod image;
pub(crate) mod product;
#[cfg(feature = "cuda")]
mod real;

use crate::element::{Dtype, Element};
use crate::error::Error;
use crate::plan::{Counter, Held, Plan};
use crate::profile::Recorder;
use driver::Driver;
pub(crate) use driver::{Event, Rows};
use kernels_ptx::launch::{Arg, Kernel, Launch};
pub use kernels_ptx::launch::{Storage, Target};
use product::Products;
#[cfg(feature = "emulator")]
pub use ptx_emu::{Card, Hardware, Sums};
use std::sync::{Arc, Mutex, MutexGuard};

/// Alignment of allocations and of the parts of work space.
const ALIGN: usize = 256;

/// A GPU, or its emulator. Clones share it.
#[derive(Clone)]
pub struct Cuda {
    inner: Arc<Inner>,
    products: Arc<Products>,
    pub(crate) recorder: Option<Arc<Recorder>>,
    /// Counts buffers, where nothing is behind the driver.
    counter: Option<Counter>,
}

struct Inner {
    target: Target,
    /// Bytes of memory that the device has.
    memory: u64,
    driver: Arc<dyn Driver>,
    state: Mutex<State>,
}

struct State {
    /// The op that queues work now.
    op: &'static str,
    /// What went wrong first.
    failed: Option<String>,
    /// Work space of whichever op runs: work is queued in order, so all can share it.
    workspace: Block,
    /// Memory that buffers are cut from.
    arena: Block,
    /// Bytes of the arena that are taken.
    taken: usize,
    /// Bytes of buffers that live elsewhere.
    outside: usize,
    /// Most bytes that were held at once.
    peak: usize,
}

impl State {
    fn held(&self) -> usize {
        self.arena.bytes + self.workspace.bytes + self.outside
    }
}

/// A range of device memory.
#[derive(Clone, Copy, Debug, Default)]
struct Block {
    ptr: u64,
    bytes: usize,
}

/// The PTX for a compute capability.
#[cfg(any(feature = "cuda", feature = "emulator"))]
fn ptx_for(capability: u32) -> Option<&'static str> {
    match capability {
        90 => Some(&kernels_ptx::SM_90A),
        80.. => Some(&kernels_ptx::SM_80),
        _ => None,
    }
}

impl Cuda {
    /// GPU number `ordinal`, counted from 0.
    ///
    /// # Errors
    /// [`Error::Device`] if there is no driver, no such GPU, or one of them is too old.
    #[cfg(feature = "cuda")]
    pub fn new(ordinal: usize) -> Result<Self, Error> {
        Self::open(ordinal, &mut |_| ())
    }

    /// The same; `tell` gets lines for a log: what is loaded, from where, how long it took. Compiling
    /// the kernels, at the first start on a machine, can take a minute.
    ///
    /// Devices of one ordinal share the driver's stream and kernels, and a kernel's fault, which
    /// takes the GPU from the whole process. Each has memory of its own.
    ///
    /// # Errors
    /// As [`Cuda::new`].
    #[cfg(feature = "cuda")]
    pub fn open(ordinal: usize, tell: &mut dyn FnMut(String)) -> Result<Self, Error> {
        let real = real::Real::open(ordinal, ptx_for, tell).map_err(Error::Device)?;
        Self::over(real)
    }

    /// An emulated GPU of compute capability `capability` (80, 86, 89, 90, 100 or 120), no kinder
    /// than a real one: [`Hardware::strict`].
    ///
    /// # Errors
    /// [`Error::Device`] for any other capability.
    #[cfg(feature = "emulator")]
    pub fn emulated(capability: i32) -> Result<Self, Error> {
        let hardware = u32::try_from(capability).ok().and_then(Hardware::strict);
        let played = Card::ALL.map(|card| card.capability.to_string()).join(", ");
        let other = || format!("no emulator of compute capability {capability}; take {played}");
        Self::emulating(hardware.ok_or_else(|| Error::Device(other()))?)
    }

    /// An emulated GPU of any kind.
    ///
    /// # Errors
    /// [`Error::Device`] if there are no kernels for it.
    #[cfg(feature = "emulator")]
    pub fn emulating(hardware: Hardware) -> Result<Self, Error> {
        let capability = hardware.card.capability;
        let ptx = ptx_for(capability);
        let ptx = ptx.ok_or_else(|| format!("no kernels for compute capability {capability}"));
        let driver = ptx.and_then(|ptx| emulated::Emulated::new(ptx, hardware));
        Self::over(Arc::new(driver.map_err(Error::Device)?))
    }

    fn over(driver: Arc<dyn Driver>) -> Result<Self, Error> {
        let state = State {
            op: "start",
            failed: None,
            workspace: Block::default(),
            arena: Block::default(),
            taken: 0,
            outside: 0,
            peak: 0,
        };
        let target = driver.target();
        let (_, memory) = driver.memory().map_err(Error::Device)?;
        let inner = Arc::new(Inner { target, memory, driver, state: Mutex::new(state) });
        let products = Arc::new(Products::Kernels);
        Ok(Cuda { inner, products, recorder: None, counter: None })
    }

    /// A GPU that is not here, with `memory` bytes: what would be allocated on it is counted, and
    /// nothing is computed. See [`crate::plan`].
    pub fn imagined(target: Target, memory: u64) -> Self {
        let over = Self::over(Arc::new(counted::Counted::new(target, memory)));
        let over = over.expect("memory that is not there is known");
        Cuda { counter: Some(Counter::new()), ..over }
    }

    /// One like this that is imagined.
    pub(crate) fn counting(&self) -> Self {
        Self::imagined(self.target(), self.memory_bytes())
    }

    /// A clone whose buffers are counted under `category`, where they are counted.
    pub(crate) fn under(&self, category: &str) -> Self {
        let counter = self.counter.as_ref().map(|counter| counter.under(category));
        Cuda { counter, ..self.clone() }
    }

    /// Whether this is imagined.
    pub(crate) fn counts(&self) -> bool {
        self.counter.is_some()
    }

    /// What was counted, and bytes of work space: what the block of all ops has grown to.
    pub(crate) fn counted(&self) -> Option<(Plan, u64)> {
        let plan = self.counter.as_ref()?.plan();
        Some((plan, self.state().workspace.bytes as u64))
    }

    /// The same device with matrix products by cuBLASLt.
    ///
    /// # Errors
    /// [`Error::Device`] if its library is not found, or this is the emulator.
    #[cfg(feature = "cuda")]
    pub fn with_cublaslt(&self) -> Result<Self, Error> {
        let products = Products::cublaslt(self.inner.driver.clone()).map_err(Error::Device)?;
        Ok(Cuda { products: Arc::new(products), ..self.clone() })
    }

    /// The same device for a measurement beside a run: what is allocated on it is no part of the
    /// run's memory, and a failure there is not the run's.
    fn aside(&self) -> Option<Self> {
        let aside = Self::over(self.inner.driver.clone()).ok()?;
        Some(Cuda { products: self.products.clone(), ..aside })
    }

    /// A clone that keeps the calls of ops.
    pub(crate) fn recording(&self) -> Self {
        Cuda { recorder: Some(Arc::default()), ..self.clone() }
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        format!("{}{}", self.inner.driver.describe(), self.products.describe())
    }

    /// What launches know of the device.
    pub fn target(&self) -> Target {
        self.inner.target
    }

    /// Whether the CPU plays the GPU.
    pub fn is_emulated(&self) -> bool {
        self.inner.driver.stream().is_none()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().expect("no thread panics while it holds the device")
    }

    /// Says which op queues what follows.
    pub(crate) fn begin(&self, op: &'static str) {
        self.state().op = op;
    }

    /// Does `work` unless something has failed; keeps its failure.
    pub(crate) fn attempt<T>(
        &self,
        work: impl FnOnce(&dyn Driver) -> Result<T, String>,
    ) -> Option<T> {
        let state = &mut *self.state();
        if state.failed.is_some() {
            return None;
        }
        match work(&*self.inner.driver) {
            Ok(done) => Some(done),
            Err(e) => {
                state.failed = Some(format!("{}: {e}", state.op));
                None
            }
        }
    }

    /// Waits for everything that was queued.
    ///
    /// # Errors
    /// [`Error::Device`] with what went wrong first, here or before.
    pub fn check(&self) -> Result<(), Error> {
        self.attempt(|driver| driver.sync());
        match &self.state().failed {
            None => Ok(()),
            Some(e) => Err(Error::Device(format!(
                "the GPU failed at {e}; if that is a kernel, CUDA_LAUNCH_BLOCKING=1 names the op exactly"
            ))),
        }
    }

    /// Bytes of device memory that there are, free or not.
    pub fn memory_bytes(&self) -> u64 {
        self.inner.memory
    }

    /// Bytes of device memory that are free.
    ///
    /// # Errors
    /// [`Error::Device`] if the driver does not say.
    pub fn free_bytes(&self) -> Result<u64, Error> {
        self.inner.driver.memory().map(|(free, _)| free).map_err(Error::Device)
    }

    /// Bytes of device memory that this holds: what was reserved, and what did not fit into it.
    pub fn held_bytes(&self) -> (u64, u64) {
        let state = self.state();
        let reserved = state.arena.bytes + state.workspace.bytes;
        (reserved as u64, (state.outside + self.products.held_bytes()) as u64)
    }

    /// Most bytes of device memory that this held at once, work space included: of this device
    /// alone, whatever else is on the GPU.
    pub fn peak_bytes(&self) -> u64 {
        (self.state().peak + self.products.held_bytes()) as u64
    }

    /// Allocates `bytes` at once, from which the buffers that follow are cut, and `workspace` bytes
    /// of work space. What a run needs is then there before its first step, or this fails.
    ///
    /// # Errors
    /// [`Error::Device`] if the device has less.
    pub fn reserve(&self, bytes: u64, workspace: u64) -> Result<(), Error> {
        let mib = |bytes: u64| bytes as f64 / (1u64 << 20) as f64;
        let needed = bytes + workspace;
        let short = |why: String| {
            let free = self.free_bytes().map_or(f64::NAN, mib);
            Error::Device(format!(
                "the run needs {:.1} MiB of device memory ({:.1} MiB of it work space), and {free:.1} MiB are free ({why}); \
                 give a smaller --batch-size with a larger --accum, or --cache full",
                mib(needed),
                mib(workspace)
            ))
        };
        if self.free_bytes()? < needed {
            return Err(short("less than that".into()));
        }
        let alloc = |bytes: u64| {
            let bytes = usize::try_from(bytes).expect("64-bit addresses").max(ALIGN);
            let ptr = self.inner.driver.alloc(bytes).map_err(&short)?;
            Ok::<_, Error>(Block { ptr, bytes })
        };
        let arena = alloc(bytes)?;
        let workspace = alloc(workspace).inspect_err(|_| self.inner.driver.free(arena.ptr))?;
        self.resize(|state| {
            for old in [std::mem::replace(&mut state.workspace, workspace), state.arena] {
                assert!(old.bytes == 0, "cuda: memory is reserved once, before it is used");
            }
            state.arena = arena;
        });
        Ok(())
    }

    /// Changes what is held.
    fn resize(&self, change: impl FnOnce(&mut State)) {
        let state = &mut *self.state();
        change(state);
        state.peak = state.peak.max(state.held());
    }

    /// `bytes` of zeros.
    pub(crate) fn zeroed(&self, bytes: usize) -> Allocation {
        let (cuda, bytes) = (self.clone(), bytes.next_multiple_of(ALIGN));
        let counted = self.counter.as_ref().map(|counter| counter.hold(bytes));
        if bytes == 0 {
            return Allocation { cuda, ptr: 0, owned: 0, counted };
        }
        let cut = {
            let state = &mut *self.state();
            let fits = state.taken + bytes <= state.arena.bytes;
            fits.then(|| {
                state.taken += bytes;
                state.arena.ptr + (state.taken - bytes) as u64
            })
        };
        let ptr = cut.or_else(|| self.attempt(|driver| driver.alloc(bytes))).unwrap_or(0);
        let owned = if cut.is_none() && ptr != 0 { bytes } else { 0 };
        self.resize(|state| state.outside += owned);
        let allocation = Allocation { cuda, ptr, owned, counted };
        self.attempt(|driver| driver.zero(ptr, bytes));
        allocation
    }

    /// Addresses of parts of the work space, of so many bytes each, until the op ends. A caller says by
    /// `cast` what it keeps there.
    pub(crate) fn workspace<const N: usize>(&self, parts: [usize; N]) -> [*mut u8; N] {
        let needed = workspace_bytes(&parts);
        let held = self.state().workspace;
        let block = if held.bytes >= needed {
            held
        } else {
            self.grow_workspace(held, needed).unwrap_or_default()
        };
        let mut next = block.ptr;
        parts.map(|bytes| {
            let at = pointer(next);
            next += bytes.next_multiple_of(ALIGN) as u64;
            at
        })
    }

    fn grow_workspace(&self, old: Block, bytes: usize) -> Option<Block> {
        self.attempt(|driver| {
            if old.bytes > 0 {
                driver.free(old.ptr);
            }
            Ok(())
        })?;
        self.resize(|state| state.workspace = Block::default());
        let ptr = self.attempt(|driver| driver.alloc(bytes))?;
        let block = Block { ptr, bytes };
        self.resize(|state| state.workspace = block);
        Some(block)
    }

    /// Queues a kernel, on the grid that suits this device.
    pub(crate) fn launch(&self, kernel: &impl Kernel) {
        self.queue(kernel.launch(self.target()), kernel.arguments().as_ref());
    }

    fn queue(&self, launch: Launch, args: &[Arg]) {
        let (needed, most) = (launch.shared_bytes, self.target().shared_bytes);
        self.attempt(|driver| {
            let done = if needed > most {
                Err(format!(
                    "it needs {needed} bytes of shared memory a block, of {most} that this GPU has; \
                     take another GPU, or compute on --device cpu"
                ))
            } else {
                driver.launch(&launch, args)
            };
            done.map_err(|e| format!("kernel {}: {e}", launch.kernel))
        });
    }

    /// Copies `src` to `dst`.
    pub(crate) fn upload<E: bytemuck::Pod>(&self, dst: *mut E, src: &[E]) {
        if !src.is_empty() {
            self.attempt(|driver| driver.upload(dst.addr() as u64, bytemuck::cast_slice(src)));
        }
    }

    /// Copies `src` to `dst` once everything before is done.
    pub(crate) fn download<E: bytemuck::Pod>(&self, dst: &mut [E], src: u64) -> Result<(), Error> {
        if !dst.is_empty() {
            self.attempt(|driver| driver.download(bytemuck::cast_slice_mut(dst), src));
        }
        self.check()
    }

    /// Sets bytes to zero.
    pub(crate) fn zero(&self, ptr: u64, bytes: usize) {
        if bytes > 0 {
            self.attempt(|driver| driver.zero(ptr, bytes));
        }
    }

    /// Copies rows.
    pub(crate) fn copy_rows(&self, rows: Rows) {
        if rows.rows > 0 {
            self.attempt(|driver| driver.copy_rows(rows));
        }
    }
}

/// An address in device memory, as kernels take it.
pub(crate) fn pointer<T>(address: u64) -> *mut T {
    std::ptr::without_provenance_mut(address as usize)
}

/// Bytes of work space with these parts.
pub(crate) fn workspace_bytes(parts: &[usize]) -> usize {
    parts.iter().map(|bytes| bytes.next_multiple_of(ALIGN)).sum()
}

/// The kernels' name for E.
///
/// # Panics
/// For f64, which exists to check gradients on the CPU: a caller bug.
pub(crate) fn storage<E: Element>() -> Storage {
    match E::DTYPE {
        Dtype::F32 => Storage::F32,
        Dtype::Bf16 => Storage::Bf16,
        Dtype::F64 => panic!("cuda: no kernels for f64"),
    }
}

/// A length as kernels take it.
///
/// # Panics
/// If it is beyond 32 bits, which no kernel counts in: the batch is too large for one device.
pub(crate) fn int(len: usize) -> u32 {
    u32::try_from(len).unwrap_or_else(|_| panic!("cuda: a length of {len} is beyond 32 bits"))
}

/// Device memory that is given back when this is dropped.
pub(crate) struct Allocation {
    pub cuda: Cuda,
    pub ptr: u64,
    /// Its bytes, if it is no part of the arena.
    owned: usize,
    #[allow(dead_code, reason = "it counts until it is dropped")]
    counted: Option<Held>,
}

impl Drop for Allocation {
    fn drop(&mut self) {
        if self.owned > 0 {
            self.cuda.inner.driver.free(self.ptr);
            self.cuda.state().outside -= self.owned;
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let state = self.state.get_mut().expect("no thread panics while it holds the device");
        for block in [state.workspace, state.arena] {
            if block.bytes > 0 {
                self.driver.free(block.ptr);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{Buf, Device, ops::swiglu};
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    /// Launches that a [`Fake`] was asked for.
    pub(crate) type Seen = Arc<Mutex<Vec<Launch>>>;

    /// A driver without a device: it keeps launches, fails one of them, and has some memory.
    struct Fake {
        target: Target,
        memory: u64,
        next: AtomicU64,
        seen: Seen,
        fails: Option<usize>,
    }

    impl Driver for Fake {
        fn describe(&self) -> String {
            "fake".into()
        }
        fn target(&self) -> Target {
            self.target
        }
        fn memory(&self) -> driver::Result<(u64, u64)> {
            Ok((self.memory, self.memory))
        }
        fn alloc(&self, bytes: usize) -> driver::Result<u64> {
            let at = self.next.fetch_add(bytes as u64, Relaxed);
            if at + bytes as u64 > self.memory { Err("out of memory".into()) } else { Ok(at + 256) }
        }
        fn free(&self, _: u64) {}
        fn zero(&self, _: u64, _: usize) -> driver::Result<()> {
            Ok(())
        }
        fn upload(&self, _: u64, _: &[u8]) -> driver::Result<()> {
            Ok(())
        }
        fn download(&self, _: &mut [u8], _: u64) -> driver::Result<()> {
            Ok(())
        }
        fn copy_rows(&self, _: Rows) -> driver::Result<()> {
            Ok(())
        }
        fn launch(&self, launch: &Launch, _: &[Arg]) -> driver::Result<()> {
            let mut seen = self.seen.lock().unwrap();
            seen.push(*launch);
            match self.fails {
                Some(at) if at == seen.len() => Err("an illegal address".into()),
                _ => Ok(()),
            }
        }
        fn sync(&self) -> driver::Result<()> {
            Ok(())
        }
        fn record(&self) -> driver::Result<Event> {
            Ok(0)
        }
        fn elapsed_ms(&self, moments: &[Event]) -> driver::Result<Vec<f32>> {
            Ok(vec![0.0; moments.len()])
        }
    }

    fn fake_that_fails(target: Target, memory: u64, fails: Option<usize>) -> (Cuda, Seen) {
        let seen = Seen::default();
        let driver = Fake { target, memory, next: AtomicU64::new(0), seen: seen.clone(), fails };
        (Cuda::over(Arc::new(driver)).unwrap(), seen)
    }

    /// A device that executes nothing, and what it was asked to.
    pub(crate) fn fake(target: Target, memory: u64) -> (Cuda, Seen) {
        fake_that_fails(target, memory, None)
    }

    /// An H100 with some memory.
    fn some(memory: u64) -> Cuda {
        fake(Target::of(90), memory).0
    }

    #[test]
    fn a_failure_names_op_and_kernel_and_stops_what_follows() {
        let (cuda, seen) = fake_that_fails(Target::of(90), 1 << 30, Some(2));
        let dev = Device::Cuda(cuda);
        let (mut a, gu) = (Buf::<f32>::zeros(&dev, 8), Buf::<f32>::zeros(&dev, 16));
        swiglu::forward(&dev, a.view_mut(), gu.view(), 8);
        dev.sync().unwrap();
        for _ in 0..3 {
            swiglu::forward(&dev, a.view_mut(), gu.view(), 8);
        }
        assert_eq!(seen.lock().unwrap().len(), 2, "nothing is queued after a failure");
        for error in [dev.sync().unwrap_err(), a.view().read().unwrap_err()] {
            let error = error.to_string();
            let place = "swiglu forward: kernel swiglu_forward_f32: an illegal address";
            assert!(error.contains(place) && error.contains("CUDA_LAUNCH_BLOCKING"), "{error}");
        }
    }

    #[test]
    fn a_recording_device_keeps_the_times_of_its_calls() {
        let dev = Device::cuda_emulated().unwrap().recording();
        let (mut a, gu) = (Buf::<f32>::zeros(&dev, 8), Buf::<f32>::zeros(&dev, 16));
        for _ in 0..2 {
            (0..3).for_each(|_| swiglu::forward(&dev, a.view_mut(), gu.view(), 8));
            let calls = dev.take_calls();
            assert_eq!(calls.len(), 3);
            assert!(calls.iter().all(|call| call.begin < call.end), "{calls:?}");
            assert!(calls.windows(2).all(|pair| pair[0].end <= pair[1].begin), "{calls:?}");
        }
        assert!(dev.take_calls().is_empty());
    }

    #[test]
    fn a_launch_that_no_block_can_have_is_told_before_it_runs() {
        let (cuda, seen) = fake(Target::of(90), 1 << 30);
        let most = cuda.target().shared_bytes;
        let launch = Launch { kernel: "greedy", blocks: [1; 3], threads: 32, shared_bytes: most };
        cuda.queue(launch, &[]);
        cuda.check().unwrap();
        cuda.queue(Launch { shared_bytes: most + 1, ..launch }, &[]);
        let error = cuda.check().unwrap_err().to_string();
        assert!(error.contains("kernel greedy") && error.contains("of 232448 that"), "{error}");
        assert_eq!(seen.lock().unwrap().len(), 1);
    }

    #[test]
    fn too_little_memory_is_told_with_the_plan() {
        let cuda = some(100 << 20);
        let error = cuda.reserve(90 << 20, 20 << 20).unwrap_err().to_string();
        assert!(error.contains("110.0 MiB") && error.contains("100.0 MiB are free"), "{error}");
        assert!(error.contains("--batch-size"), "{error}");
    }

    #[test]
    fn buffers_are_cut_from_what_was_reserved() {
        let cuda = some(1 << 20);
        cuda.reserve(1000, 600).unwrap();
        let dev = Device::Cuda(cuda.clone());
        let inside = Buf::<f32>::zeros(&dev, 100); // 512 bytes with padding
        assert_eq!(cuda.held_bytes(), (1600, 0));
        let outside = Buf::<f32>::zeros(&dev, 200);
        assert_eq!(cuda.held_bytes(), (1600, 1024));
        drop((inside, outside));
        assert_eq!(cuda.held_bytes(), (1600, 0));
        let parts = cuda.workspace([300, 88]).map(|part| part.addr());
        assert_eq!(parts[1] - parts[0], 512);
        assert_eq!(cuda.held_bytes(), (1768, 0), "work space grows where the plan was short");
        assert_eq!(cuda.peak_bytes(), 1600 + 1024, "the buffer that is gone counts at its time");
        let more = Buf::<f32>::zeros(&dev, 300);
        assert_eq!(cuda.peak_bytes(), 1768 + 1280);
        drop(more);
        assert_eq!((cuda.held_bytes(), cuda.peak_bytes()), ((1768, 0), 1768 + 1280));
    }

    #[test]
    fn a_buffer_that_does_not_fit_is_an_error_when_it_is_read() {
        let cuda = some(1 << 20);
        let buf = Buf::<f32>::zeros(&Device::Cuda(cuda), 1 << 20);
        let error = buf.view().read().unwrap_err().to_string();
        assert!(error.contains("out of memory"), "{error}");
    }
}
