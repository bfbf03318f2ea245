//! NVIDIA's driver, found at run time by cudarc: no toolkit, nothing at build time.

use super::driver::{Arg, Driver, Event, Result, Rows};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUdevice_attribute_enum as Attribute};
use kernels_ptx::launch::{Launch, Target};
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::{Mutex, MutexGuard};

/// Copies up to this size go through pinned memory and do not wait.
const STAGED: usize = 4 << 20;
/// Dynamic shared memory that needs no asking.
const SHARED: u32 = 48 << 10;

pub(crate) struct Real {
    context: sys::CUcontext,
    stream: sys::CUstream,
    module: sys::CUmodule,
    describe: String,
    target: Target,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    functions: HashMap<&'static str, Function>,
    staging: Vec<Staging>,
    events: Vec<sys::CUevent>,
}

#[derive(Clone, Copy)]
struct Function {
    handle: sys::CUfunction,
    /// Dynamic shared memory that it may have.
    shared: u32,
}

/// Pinned host memory on its way to the device until `done`.
struct Staging {
    host: *mut u8,
    bytes: usize,
    done: sys::CUevent,
}

// SAFETY: the driver's handles may be used from any thread once its context is current there, which
// every method sees to first; mutable state is behind the mutex.
unsafe impl Send for Real {}
// SAFETY: as above.
unsafe impl Sync for Real {}

fn line<T>(what: &str, result: std::result::Result<T, DriverError>) -> Result<T> {
    result.map_err(|e| {
        let text =
            e.error_string().map_or_else(|_| format!("{:?}", e.0), |s| s.to_string_lossy().into());
        format!("{what}: {text}")
    })
}

impl Real {
    /// GPU number `ordinal`, with the PTX that `choose` gives for its compute capability.
    pub fn new(ordinal: usize, choose: impl Fn(i32) -> Option<&'static str>) -> Result<Self> {
        const INSTEAD: &str = "or compute on --device cpu";
        // SAFETY: loading the driver's library runs its initialisers, which is what they are for.
        if !unsafe { sys::is_culib_present() } {
            return Err(format!(
                "no CUDA driver: neither libcuda.so nor libcuda.so.1 (nvcuda.dll on Windows) was found \
                 on the library path; install NVIDIA's driver, {INSTEAD}"
            ));
        }
        line("the CUDA driver does not start", result::init())
            .map_err(|e| format!("{e}; see whether nvidia-smi works, {INSTEAD}"))?;
        let count = line("counting GPUs", result::device::get_count())?;
        let number = i32::try_from(ordinal).ok().filter(|&n| n < count).ok_or_else(|| {
            format!("GPU {ordinal}: the driver has {count} of them, counted from 0; set CUDA_VISIBLE_DEVICES, {INSTEAD}")
        })?;
        let device = line("opening the GPU", result::device::get(number))?;
        let name = line("naming the GPU", result::device::get_name(device))?;
        // SAFETY: `device` came from the driver.
        let attribute =
            |a| line("asking the GPU", unsafe { result::device::get_attribute(device, a) });
        let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let ptx = choose(10 * major + minor).ok_or_else(|| {
            format!("{name} has compute capability {major}.{minor}; the kernels need 8.0 or newer: take another GPU, {INSTEAD}")
        })?;
        let number = |a| attribute(a).map(i32::unsigned_abs);
        let target = Target {
            capability: 10 * major.unsigned_abs() + minor.unsigned_abs(),
            multiprocessors: number(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            shared_bytes: number(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        };
        let mut version = 0;
        // SAFETY: `version` outlives the call.
        let asked = unsafe { sys::cuDriverGetVersion(&mut version) };
        line("asking the driver's version", asked.result())?;
        let (cuda, needed) = (format!("{}.{}", version / 1000, version % 1000 / 10), "12.0");
        if version < 12_000 {
            return Err(format!(
                "the CUDA driver is too old: it speaks CUDA {cuda}, the kernels need {needed}; update it, {INSTEAD}"
            ));
        }
        // SAFETY: `device` came from the driver.
        let context = line("opening a context", unsafe { result::primary_ctx::retain(device) })?;
        // SAFETY: the context has just been opened, and never ends before the process.
        line("opening a context", unsafe { result::ctx::set_current(context) })?;
        let stream = line(
            "opening a stream",
            result::stream::create(result::stream::StreamKind::NonBlocking),
        )?;
        let text = CString::new(ptx).expect("PTX is text");
        // SAFETY: PTX that ends in a zero, which the driver reads before this returns.
        let module = line("compiling the kernels", unsafe {
            result::module::load_data(text.as_ptr().cast())
        })?;
        let describe =
            format!("cuda {ordinal}: {name}, compute capability {major}.{minor}, CUDA {cuda}");
        Ok(Real { context, stream, module, describe, target, state: Mutex::default() })
    }

    /// Makes the context current on the calling thread.
    fn enter(&self) -> Result<MutexGuard<'_, State>> {
        // SAFETY: retained in `new`, and never released: it ends with the process.
        line("entering the context", unsafe { result::ctx::set_current(self.context) })?;
        Ok(self.state.lock().expect("no thread panics while it holds the driver"))
    }

    fn function(&self, state: &mut State, launch: &Launch) -> Result<sys::CUfunction> {
        let found = state.functions.get(launch.kernel).copied();
        let mut function = match found {
            Some(function) => function,
            None => {
                let name = CString::new(launch.kernel).expect("kernel names are text");
                // SAFETY: the module is loaded until `drop`.
                let handle =
                    line("finding it", unsafe { result::module::get_function(self.module, name) })?;
                Function { handle, shared: SHARED }
            }
        };
        if launch.shared_bytes > function.shared {
            let attribute =
                sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            let bytes = launch.shared_bytes as i32;
            // SAFETY: the handle belongs to the loaded module.
            line("asking for shared memory", unsafe {
                result::function::set_function_attribute(function.handle, attribute, bytes)
            })?;
            function.shared = launch.shared_bytes;
        }
        state.functions.insert(launch.kernel, function);
        Ok(function.handle)
    }

    /// Pinned memory of at least `bytes` that no copy reads any more.
    fn staging<'a>(&self, state: &'a mut State, bytes: usize) -> Result<&'a Staging> {
        // SAFETY: events live as long as their entry.
        let idle =
            |s: &Staging| s.bytes >= bytes && unsafe { result::event::query(s.done) }.is_ok();
        let at = match state.staging.iter().position(idle) {
            Some(at) => at,
            None => {
                let bytes = bytes.next_power_of_two().max(4096);
                // SAFETY: freed in `drop`.
                let host = line("pinning memory", unsafe { result::malloc_host(bytes, 0) })?.cast();
                let done = line(
                    "making an event",
                    result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING),
                )?;
                state.staging.push(Staging { host, bytes, done });
                state.staging.len() - 1
            }
        };
        Ok(&state.staging[at])
    }
}

impl Driver for Real {
    fn describe(&self) -> String {
        self.describe.clone()
    }

    fn target(&self) -> Target {
        self.target
    }

    fn memory(&self) -> Result<(u64, u64)> {
        let _state = self.enter()?;
        line("asking for memory", result::mem_get_info())
            .map(|(free, all)| (free as u64, all as u64))
    }

    fn alloc(&self, bytes: usize) -> Result<u64> {
        let _state = self.enter()?;
        // SAFETY: whoever reads it has written it before: buffers are zeroed, work space is not read.
        line("out of memory", unsafe { result::malloc_sync(bytes) })
    }

    fn free(&self, ptr: u64) {
        if let Ok(_state) = self.enter() {
            // SAFETY: its owner gives it back once. The driver waits for work that uses it.
            // An error here is an earlier one, which has been reported.
            let _ = unsafe { result::free_sync(ptr) };
        }
    }

    fn zero(&self, ptr: u64, bytes: usize) -> Result<()> {
        let _state = self.enter()?;
        // SAFETY: the caller owns the range.
        line("zeroing", unsafe { result::memset_d8_async(ptr, 0, bytes, self.stream) })
    }

    fn upload(&self, dst: u64, src: &[u8]) -> Result<()> {
        let mut state = self.enter()?;
        if src.len() > STAGED {
            // SAFETY: the caller owns the range; after the wait nothing reads `src` any more.
            return unsafe {
                line("copying to the GPU", result::memcpy_htod_async(dst, src, self.stream))?;
                line("copying to the GPU", result::stream::synchronize(self.stream))
            };
        }
        let staging = self.staging(&mut state, src.len())?;
        // SAFETY: `staging` has room for `src` and is not touched again before `done`; the caller
        // owns the range on the device.
        unsafe {
            let pinned = std::slice::from_raw_parts_mut(staging.host, src.len());
            pinned.copy_from_slice(src);
            line("copying to the GPU", result::memcpy_htod_async(dst, pinned, self.stream))?;
            line("recording an event", result::event::record(staging.done, self.stream))
        }
    }

    fn download(&self, dst: &mut [u8], src: u64) -> Result<()> {
        let _state = self.enter()?;
        // SAFETY: the caller owns the range; the wait comes before `dst` is used.
        unsafe {
            line("copying from the GPU", result::memcpy_dtoh_async(dst, src, self.stream))?;
            line("waiting for the GPU", result::stream::synchronize(self.stream))
        }
    }

    fn copy_rows(&self, rows: Rows) -> Result<()> {
        let _state = self.enter()?;
        // SAFETY: plain numbers and null pointers, for which zero is a value.
        let mut copy: sys::CUDA_MEMCPY2D = unsafe { std::mem::zeroed() };
        copy.srcMemoryType = sys::CUmemorytype::CU_MEMORYTYPE_DEVICE;
        copy.dstMemoryType = sys::CUmemorytype::CU_MEMORYTYPE_DEVICE;
        (copy.srcDevice, copy.srcPitch) = (rows.src, rows.src_stride);
        (copy.dstDevice, copy.dstPitch) = (rows.dst, rows.dst_stride);
        (copy.WidthInBytes, copy.Height) = (rows.width, rows.rows);
        // SAFETY: the caller owns both ranges, and they do not overlap.
        line("copying rows", unsafe { sys::cuMemcpy2DAsync_v2(&copy, self.stream) }.result())
    }

    fn launch(&self, launch: &Launch, args: &[Arg]) -> Result<()> {
        let mut state = self.enter()?;
        let function = self.function(&mut state, launch)?;
        let mut params: Vec<*mut c_void> = args
            .iter()
            .map(|arg| match arg {
                Arg::Ptr(x) | Arg::U64(x) => (x as *const u64).cast_mut().cast(),
                Arg::U32(x) => (x as *const u32).cast_mut().cast(),
                Arg::F32(x) => (x as *const f32).cast_mut().cast(),
            })
            .collect();
        let [x, y, z] = launch.blocks;
        // SAFETY: arguments are those that `kernels_ptx::launch` documents for this kernel, in its
        // order and sizes (the emulator checks both in every test run); the driver copies them
        // before it returns. Ops have checked lengths against the grid.
        line("launching", unsafe {
            let threads = (launch.threads, 1, 1);
            result::launch_kernel(
                function,
                (x, y, z),
                threads,
                launch.shared_bytes,
                self.stream,
                &mut params,
            )
        })
    }

    fn sync(&self) -> Result<()> {
        let _state = self.enter()?;
        // SAFETY: the stream lives until `drop`.
        line("waiting for the GPU", unsafe { result::stream::synchronize(self.stream) })
    }

    fn record(&self) -> Result<Event> {
        let mut state = self.enter()?;
        let event =
            line("making an event", result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT))?;
        // SAFETY: event and stream are of this context.
        line("recording an event", unsafe { result::event::record(event, self.stream) })?;
        state.events.push(event);
        Ok(state.events.len() - 1)
    }

    fn elapsed_ms(&self, from: Event, to: Event) -> Result<f32> {
        let state = self.enter()?;
        // SAFETY: both were recorded, and live until `drop`.
        line("reading the clock", unsafe {
            result::event::elapsed(state.events[from], state.events[to])
        })
    }

    fn stream(&self) -> Option<*mut c_void> {
        Some(self.stream.cast())
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        if self.enter().is_err() {
            return;
        }
        let state = self.state.get_mut().expect("no thread panics while it holds the driver");
        // SAFETY: each was made by this value and nothing uses them after it. Errors at the end are
        // those of work whose results nobody reads any more.
        unsafe {
            let _ = result::stream::synchronize(self.stream);
            for event in state.events.drain(..) {
                let _ = result::event::destroy(event);
            }
            for staging in state.staging.drain(..) {
                let _ = result::event::destroy(staging.done);
                let _ = result::free_host(staging.host.cast());
            }
            let _ = result::module::unload(self.module);
            let _ = result::stream::destroy(self.stream);
        }
    }
}
