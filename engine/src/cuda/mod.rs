//! The CUDA device: memory, work space, launches. Kernels are those of `kernels-ptx`; they run on
//! a GPU through NVIDIA's driver, found at run time, or on an emulator.
//!
//! Ops only queue work. What goes wrong sticks: the first failure is kept with its op's name, what
//! follows is left out, and whoever reads results or calls [`Cuda::check`] gets the error. So a
//! step needs no wait of the host, and no op a `Result`.

pub(crate) mod ceiling;
mod cublaslt;
mod driver;
mod emulated;
pub mod plan;
pub(crate) mod product;
mod real;

use crate::element::{Dtype, Element};
use crate::error::Error;
use crate::profile::Recorder;
use driver::Driver;
pub(crate) use driver::{Arg, Event, Rows};
use kernels_ptx::launch::Launch;
pub use kernels_ptx::launch::{Storage, Target};
use product::Products;
use std::sync::{Arc, Mutex, MutexGuard};

/// Alignment of allocations and of the parts of work space.
const ALIGN: usize = 256;

/// A GPU, or its emulator. Clones share it.
#[derive(Clone)]
pub struct Cuda {
    inner: Arc<Inner>,
    products: Arc<Products>,
    pub(crate) recorder: Option<Arc<Recorder>>,
}

struct Inner {
    target: Target,
    driver: Box<dyn Driver>,
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
}

/// A range of device memory.
#[derive(Clone, Copy, Debug, Default)]
struct Block {
    ptr: u64,
    bytes: usize,
}

/// The PTX for a compute capability.
fn ptx_for(capability: i32) -> Option<&'static str> {
    match capability {
        90 => Some(kernels_ptx::SM_90A),
        80.. => Some(kernels_ptx::SM_80),
        _ => None,
    }
}

impl Cuda {
    /// GPU number `ordinal`, counted from 0.
    ///
    /// # Errors
    /// [`Error::Device`] if there is no driver, no such GPU, or one of them is too old.
    pub fn new(ordinal: usize) -> Result<Self, Error> {
        Self::over(real::Real::new(ordinal, ptx_for).map(|real| Box::new(real) as Box<dyn Driver>))
    }

    /// An emulated GPU that runs the kernels for compute capability `capability` (80 or 90).
    ///
    /// # Errors
    /// [`Error::Device`] if there are no kernels for it.
    pub fn emulated(capability: i32) -> Result<Self, Error> {
        let ptx = ptx_for(capability).ok_or(format!("no kernels for capability {capability}"));
        let target = Target::of(capability.unsigned_abs());
        let driver = ptx.and_then(|ptx| emulated::Emulated::new(ptx, target));
        Self::over(driver.map(|emulated| Box::new(emulated) as Box<dyn Driver>))
    }

    fn over(driver: Result<Box<dyn Driver>, String>) -> Result<Self, Error> {
        let state = State {
            op: "start",
            failed: None,
            workspace: Block::default(),
            arena: Block::default(),
            taken: 0,
            outside: 0,
        };
        let driver = driver.map_err(Error::Device)?;
        let inner = Arc::new(Inner { target: driver.target(), driver, state: Mutex::new(state) });
        Ok(Cuda { inner, products: Arc::new(Products::Kernels), recorder: None })
    }

    /// The same device with matrix products by cuBLASLt.
    ///
    /// # Errors
    /// [`Error::Device`] if its library is not found, or this is the emulator.
    pub fn with_cublaslt(&self) -> Result<Self, Error> {
        let products = Products::cublaslt(&*self.inner.driver).map_err(Error::Device)?;
        Ok(Cuda { products: Arc::new(products), ..self.clone() })
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
        ((state.arena.bytes + state.workspace.bytes) as u64, state.outside as u64)
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
        let (arena, workspace) = (alloc(bytes)?, alloc(workspace)?);
        let state = &mut *self.state();
        for old in [std::mem::replace(&mut state.workspace, workspace), state.arena] {
            assert!(old.bytes == 0, "cuda: memory is reserved once, before it is used");
        }
        state.arena = arena;
        Ok(())
    }

    /// `bytes` of zeros.
    pub(crate) fn zeroed(&self, bytes: usize) -> Allocation {
        let (cuda, bytes) = (self.clone(), bytes.next_multiple_of(ALIGN).max(ALIGN));
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
        self.state().outside += owned;
        let allocation = Allocation { cuda, ptr, owned };
        self.attempt(|driver| driver.zero(ptr, bytes));
        allocation
    }

    /// Addresses of parts of the work space, of so many bytes each, until the op ends.
    pub(crate) fn workspace<const N: usize>(&self, parts: [usize; N]) -> [u64; N] {
        let needed = workspace_bytes(&parts);
        let held = self.state().workspace;
        let block = if held.bytes >= needed {
            held
        } else {
            self.grow_workspace(held, needed).unwrap_or_default()
        };
        let mut next = block.ptr;
        parts.map(|bytes| {
            let at = next;
            next += bytes.next_multiple_of(ALIGN) as u64;
            at
        })
    }

    fn grow_workspace(&self, old: Block, bytes: usize) -> Option<Block> {
        let ptr = self.attempt(|driver| {
            if old.bytes > 0 {
                driver.sync()?;
                driver.free(old.ptr);
            }
            driver.alloc(bytes)
        });
        let block = ptr.map(|ptr| Block { ptr, bytes }).unwrap_or_default();
        self.state().workspace = block;
        ptr.map(|_| block)
    }

    /// Queues a kernel.
    pub(crate) fn launch(&self, launch: Launch, args: &[Arg]) {
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
    pub(crate) fn upload<E: bytemuck::Pod>(&self, dst: u64, src: &[E]) {
        if !src.is_empty() {
            self.attempt(|driver| driver.upload(dst, bytemuck::cast_slice(src)));
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
mod tests {
    use super::*;
    use crate::{Buf, Device, ops::swiglu};
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    /// A driver without a device: it counts launches, fails the second, and has some memory.
    struct Fake {
        free: u64,
        next: AtomicU64,
        launches: Arc<AtomicU64>,
    }

    impl Driver for Fake {
        fn describe(&self) -> String {
            "fake".into()
        }
        fn target(&self) -> Target {
            Target::of(90)
        }
        fn memory(&self) -> driver::Result<(u64, u64)> {
            Ok((self.free, self.free))
        }
        fn alloc(&self, bytes: usize) -> driver::Result<u64> {
            let at = self.next.fetch_add(bytes as u64, Relaxed);
            if at + bytes as u64 > self.free { Err("out of memory".into()) } else { Ok(at + 256) }
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
        fn launch(&self, _: &Launch, _: &[Arg]) -> driver::Result<()> {
            match self.launches.fetch_add(1, Relaxed) {
                1 => Err("an illegal address".into()),
                _ => Ok(()),
            }
        }
        fn sync(&self) -> driver::Result<()> {
            Ok(())
        }
        fn record(&self) -> driver::Result<Event> {
            Ok(0)
        }
        fn elapsed_ms(&self, _: Event, _: Event) -> driver::Result<f32> {
            Ok(0.0)
        }
    }

    fn fake(free: u64) -> (Cuda, Arc<AtomicU64>) {
        let launches = Arc::<AtomicU64>::default();
        let driver = Fake { free, next: AtomicU64::new(0), launches: launches.clone() };
        (Cuda::over(Ok(Box::new(driver))).unwrap(), launches)
    }

    #[test]
    fn a_failure_names_op_and_kernel_and_stops_what_follows() {
        let (cuda, launches) = fake(1 << 30);
        let dev = Device::Cuda(cuda);
        let (mut a, gu) = (Buf::<f32>::zeros(&dev, 8), Buf::<f32>::zeros(&dev, 16));
        swiglu::forward(&dev, a.view_mut(), gu.view(), 8);
        dev.sync().unwrap();
        for _ in 0..3 {
            swiglu::forward(&dev, a.view_mut(), gu.view(), 8);
        }
        assert_eq!(launches.load(Relaxed), 2, "nothing is queued after a failure");
        for error in [dev.sync().unwrap_err(), a.view().read().unwrap_err()] {
            let error = error.to_string();
            let place = "swiglu forward: kernel swiglu_forward_f32: an illegal address";
            assert!(error.contains(place) && error.contains("CUDA_LAUNCH_BLOCKING"), "{error}");
        }
    }

    #[test]
    fn a_launch_that_no_block_can_have_is_told_before_it_runs() {
        let (cuda, launches) = fake(1 << 30);
        let most = cuda.target().shared_bytes;
        let launch = Launch { kernel: "greedy", blocks: [1; 3], threads: 32, shared_bytes: most };
        cuda.launch(launch, &[]);
        cuda.check().unwrap();
        cuda.launch(Launch { shared_bytes: most + 1, ..launch }, &[]);
        let error = cuda.check().unwrap_err().to_string();
        assert!(error.contains("kernel greedy") && error.contains("of 232448 that"), "{error}");
        assert_eq!(launches.load(Relaxed), 1);
    }

    #[test]
    fn too_little_memory_is_told_with_the_plan() {
        let (cuda, _) = fake(100 << 20);
        let error = cuda.reserve(90 << 20, 20 << 20).unwrap_err().to_string();
        assert!(error.contains("110.0 MiB") && error.contains("100.0 MiB are free"), "{error}");
        assert!(error.contains("--batch-size"), "{error}");
    }

    #[test]
    fn buffers_are_cut_from_what_was_reserved() {
        let (cuda, _) = fake(1 << 20);
        cuda.reserve(1000, 600).unwrap();
        let dev = Device::Cuda(cuda.clone());
        let inside = Buf::<f32>::zeros(&dev, 100); // 512 bytes with padding
        assert_eq!(cuda.held_bytes(), (1600, 0));
        let outside = Buf::<f32>::zeros(&dev, 200);
        assert_eq!(cuda.held_bytes(), (1600, 1024));
        drop((inside, outside));
        assert_eq!(cuda.held_bytes(), (1600, 0));
        assert_eq!(cuda.workspace([300, 88])[1] - cuda.workspace([300, 88])[0], 512);
        assert_eq!(cuda.held_bytes(), (1768, 0), "work space grows where the plan was short");
    }

    #[test]
    fn a_buffer_that_does_not_fit_is_an_error_when_it_is_read() {
        let (cuda, _) = fake(1 << 20);
        let buf = Buf::<f32>::zeros(&Device::Cuda(cuda), 1 << 20);
        let error = buf.view().read().unwrap_err().to_string();
        assert!(error.contains("out of memory"), "{error}");
    }
}
