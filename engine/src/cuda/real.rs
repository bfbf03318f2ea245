//! NVIDIA's driver, found at run time by cudarc: no toolkit, nothing at build time.
//!
//! All users of a GPU in one process share one [`Real`]: its primary context is one to the driver in
//! any case, and so is a fault in it, after which the driver answers nothing but that fault.
//!
//! A cold start costs the compilation of all kernels (`ptxas` takes 13 s of a core for them), once for
//! each GPU type, driver and version of the PTX: the driver keeps the result in its cache
//! (`~/.nv/ComputeCache`). A cubin spares it. With CUDA_MODULE_LOADING=LAZY, the default since CUDA
//! 12.2, a kernel goes to the GPU when it is first asked for: a first step pays for that, and an
//! error of loading may come as late.

use super::driver::{Driver, Event, Result, Rows, Stream};
use super::image::{self, Gpu};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUdevice_attribute_enum as Attribute, CUjit_option_enum as Jit};
use kernels_ptx::cubin;
use kernels_ptx::launch::{Arg, Launch, MOST_ARGUMENTS, Target};
use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, c_void};
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

/// Copies up to this size go through pinned memory and do not wait.
const STAGED: usize = 4 << 20;
/// Dynamic shared memory that needs no asking.
const SHARED: u32 = 48 << 10;
/// Bytes for each of the two logs of the driver's compiler.
const LOG: usize = 8 << 10;
/// Seconds of loading from which on the driver must have compiled.
const COMPILED: f32 = 2.0;
const INSTEAD: &str = "or compute on --device cpu";

/// The GPUs that are open, by ordinal.
static OPEN: Mutex<BTreeMap<usize, Weak<Real>>> = Mutex::new(BTreeMap::new());

pub(crate) struct Real {
    context: sys::CUcontext,
    stream: sys::CUstream,
    module: sys::CUmodule,
    gpu: Gpu,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    functions: HashMap<&'static str, Function>,
    staging: Vec<Staging>,
    events: Vec<sys::CUevent>,
    /// Those of `events` that are used up.
    idle: Vec<Event>,
    /// The first fault, after which the driver answers nothing else.
    fault: Option<String>,
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

/// What the driver answered, with what was asked of it in front.
struct Failure {
    text: String,
    code: sys::CUresult,
}

impl From<Failure> for String {
    fn from(failure: Failure) -> String {
        failure.text
    }
}

fn line<T>(
    what: &str,
    result: std::result::Result<T, DriverError>,
) -> std::result::Result<T, Failure> {
    result.map_err(|e| {
        let text =
            e.error_string().map_or_else(|_| format!("{:?}", e.0), |s| s.to_string_lossy().into());
        Failure { text: format!("{what}: {text}"), code: e.0 }
    })
}

/// Whether a process cannot use its GPU any more after this, as the driver's documentation says.
fn is_final(code: sys::CUresult) -> bool {
    use sys::CUresult::*;
    matches!(
        code,
        CUDA_ERROR_ECC_UNCORRECTABLE
            | CUDA_ERROR_NVLINK_UNCORRECTABLE
            | CUDA_ERROR_ILLEGAL_ADDRESS
            | CUDA_ERROR_LAUNCH_TIMEOUT
            | CUDA_ERROR_ASSERT
            | CUDA_ERROR_HARDWARE_STACK_ERROR
            | CUDA_ERROR_ILLEGAL_INSTRUCTION
            | CUDA_ERROR_MISALIGNED_ADDRESS
            | CUDA_ERROR_INVALID_ADDRESS_SPACE
            | CUDA_ERROR_INVALID_PC
            | CUDA_ERROR_LAUNCH_FAILED
    )
}

impl State {
    /// The failure as a line. The first fault is kept, and every later one names it: it is what to
    /// look for.
    fn told(&mut self, failure: Failure) -> String {
        match (&self.fault, is_final(failure.code)) {
            (Some(first), true) => {
                format!(
                    "{}; this process lost the GPU before, at {first}: start it anew",
                    failure.text
                )
            }
            (None, true) => {
                self.fault = Some(failure.text.clone());
                failure.text
            }
            (_, false) => failure.text,
        }
    }
}

/// What to do when the driver does not load the kernels.
fn remedy(code: sys::CUresult) -> &'static str {
    use sys::CUresult::*;
    match code {
        CUDA_ERROR_JIT_COMPILATION_DISABLED => {
            "unset CUDA_DISABLE_PTX_JIT, or name a folder of cubins in HANDGRAD_CUBINS"
        }
        CUDA_ERROR_JIT_COMPILER_NOT_FOUND => {
            "install the driver's library libnvidia-ptxjitcompiler, or name a folder of cubins in HANDGRAD_CUBINS"
        }
        CUDA_ERROR_OUT_OF_MEMORY => "end what else uses the GPU",
        _ => "update the driver",
    }
}

/// The driver, once it has started, and the newest CUDA that it speaks.
fn start() -> Result<String> {
    // SAFETY: loading the driver's library runs its initialisers, which is what they are for.
    if !unsafe { sys::is_culib_present() } {
        return Err(format!(
            "no CUDA driver: neither libcuda.so nor libcuda.so.1 (nvcuda.dll on Windows) was found \
             on the library path; install NVIDIA's driver, {INSTEAD}"
        ));
    }
    line("the CUDA driver does not start", result::init()).map_err(|e| {
        let visible = std::env::var("CUDA_VISIBLE_DEVICES").map_or_else(
            |_| String::new(),
            |list| format!(" (CUDA_VISIBLE_DEVICES is \"{list}\")"),
        );
        format!("{}{visible}; see whether nvidia-smi works, {INSTEAD}", e.text)
    })?;
    let mut version = 0;
    // SAFETY: `version` outlives the call.
    let asked = unsafe { sys::cuDriverGetVersion(&mut version) };
    line("asking the driver's version", asked.result())?;
    let cuda = image::cuda_version(version);
    if version < 12_000 {
        return Err(format!(
            "the CUDA driver is too old: it speaks CUDA {cuda}, the kernels need 12.0; update it, {INSTEAD}"
        ));
    }
    Ok(cuda)
}

/// GPU number `ordinal`, and what it says of itself.
fn find(ordinal: usize, cuda: String) -> Result<(sys::CUdevice, Gpu)> {
    let count = line("counting GPUs", result::device::get_count())?;
    let number = i32::try_from(ordinal).ok().filter(|&n| n < count).ok_or_else(|| {
        format!("GPU {ordinal}: the driver has {count} of them, counted from 0; set CUDA_VISIBLE_DEVICES, {INSTEAD}")
    })?;
    let device = line("opening the GPU", result::device::get(number))?;
    let attribute = |a| {
        // SAFETY: `device` came from the driver.
        let value = unsafe { result::device::get_attribute(device, a) };
        line("asking the GPU", value).map(i32::unsigned_abs)
    };
    let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    let target = Target {
        capability: 10 * major + minor,
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        shared_bytes: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
    };
    // SAFETY: `device` came from the driver.
    let memory = unsafe { result::device::total_mem(device) };
    let gpu = Gpu {
        ordinal,
        name: line("naming the GPU", result::device::get_name(device))?,
        target,
        l2_bytes: attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?,
        memory_bytes: line("asking the GPU", memory)? as u64,
        cuda,
    };
    Ok((device, gpu))
}

/// Loads code into the current context; beside the outcome what the driver's compiler wrote: its
/// errors, or else its remarks.
///
/// # Safety
/// `code` is PTX that ends in a zero, or a whole ELF file.
unsafe fn load(code: &[u8]) -> (std::result::Result<sys::CUmodule, DriverError>, String) {
    let (mut remarks, mut errors) = ([0u8; LOG], [0u8; LOG]);
    let mut options = [
        Jit::CU_JIT_INFO_LOG_BUFFER,
        Jit::CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES,
        Jit::CU_JIT_ERROR_LOG_BUFFER,
        Jit::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
    ];
    // Sizes are passed as pointers, by value.
    let size = || std::ptr::without_provenance_mut::<c_void>(LOG);
    let mut values = [remarks.as_mut_ptr().cast(), size(), errors.as_mut_ptr().cast(), size()];
    let mut module = std::ptr::null_mut();
    // SAFETY: there are as many values as options, each of the type that its option asks for; the
    // buffers have the sizes given and outlive the call, the driver writes to them only during it;
    // `code` is what the caller promises.
    let answer = unsafe {
        sys::cuModuleLoadDataEx(
            &mut module,
            code.as_ptr().cast(),
            options.len() as u32,
            options.as_mut_ptr(),
            values.as_mut_ptr(),
        )
    };
    let errors = image::log_line(&errors);
    let log = if errors.is_empty() { image::log_line(&remarks) } else { errors };
    (answer.result().map(|()| module), log)
}

/// Loads the kernels into the current context: a cubin where there is one that the driver takes,
/// else `ptx`.
fn kernels(gpu: &Gpu, ptx: &str, tell: &mut dyn FnMut(String)) -> Result<sys::CUmodule> {
    let (count, begin) = (cubin::kernels(ptx), Instant::now());
    if let Some(found) = image::find(gpu.target.capability, ptx, tell) {
        let path = found.path.display();
        // SAFETY: `image::find` gives whole ELF files alone.
        let (module, _) = unsafe { load(&found.bytes) };
        match line("loading it", module) {
            Ok(module) => {
                tell(format!(
                    "{count} kernels from {path} in {:.1} s",
                    begin.elapsed().as_secs_f32()
                ));
                return Ok(module);
            }
            Err(e) => {
                let refusal = image::refusal(gpu, &path.to_string(), &e.text, "");
                tell(format!("{refusal}; it compiles the PTX instead"));
            }
        }
    }
    let what = format!("{count} kernels for {} (PTX for {})", gpu.name, cubin::target(ptx));
    tell(format!(
        "loading {what}; at the first start the driver compiles them, which takes a while"
    ));
    let begin = Instant::now();
    let text = CString::new(ptx).expect("PTX is text");
    // SAFETY: PTX that ends in a zero.
    let (module, log) = unsafe { load(text.as_bytes_with_nul()) };
    let module = line("compiling the kernels", module).map_err(|e| {
        let what = format!("PTX for {}", cubin::target(ptx));
        format!("{}; {}, {INSTEAD}", image::refusal(gpu, &what, &e.text, &log), remedy(e.code))
    })?;
    if !log.is_empty() {
        tell(format!("the driver's compiler says: {log}"));
    }
    let seconds = begin.elapsed().as_secs_f32();
    tell(if seconds < COMPILED {
        format!("loaded {what}: {seconds:.1} s")
    } else {
        format!("compiled {what}: {seconds:.1} s; the driver keeps the result for next time")
    });
    Ok(module)
}

impl Real {
    /// GPU number `ordinal`, with the PTX that `choose` gives for its compute capability. Opened
    /// once: whoever asks while it is open shares it. `tell` gets lines for a log.
    pub fn open(
        ordinal: usize,
        choose: impl Fn(u32) -> Option<&'static str>,
        tell: &mut dyn FnMut(String),
    ) -> Result<Arc<Self>> {
        // Held while opening, so that two threads do not compile the same kernels.
        let open = &mut *OPEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(real) = open.get(&ordinal).and_then(Weak::upgrade) {
            return Ok(real);
        }
        let real = Arc::new(Self::new(ordinal, choose, tell)?);
        open.insert(ordinal, Arc::downgrade(&real));
        Ok(real)
    }

    fn new(
        ordinal: usize,
        choose: impl Fn(u32) -> Option<&'static str>,
        tell: &mut dyn FnMut(String),
    ) -> Result<Self> {
        let (device, gpu) = find(ordinal, start()?)?;
        let ptx = choose(gpu.target.capability).ok_or_else(|| {
            let capability = image::capability(gpu.target);
            format!(
                "{} has compute capability {capability}; the kernels need 8.0 or newer: take another GPU, {INSTEAD}",
                gpu.name
            )
        })?;
        // The context's flags stay as they are: a thread that waits for the GPU spins where the
        // machine has cores for it, and a step waits once.
        // SAFETY: `device` came from the driver.
        let context = line("opening a context", unsafe { result::primary_ctx::retain(device) })?;
        // SAFETY: the context has just been opened, and never ends before the process.
        line("opening a context", unsafe { result::ctx::set_current(context) })?;
        let module = kernels(&gpu, ptx, tell)?;
        // Not ordered with the default stream, on which nothing of ours runs.
        let stream = line(
            "opening a stream",
            result::stream::create(result::stream::StreamKind::NonBlocking),
        )?;
        Ok(Real { context, stream, module, gpu, state: Mutex::default() })
    }

    /// Makes the context current on the calling thread, at every call: whatever else this thread runs
    /// may have made another one current.
    fn enter(&self) -> std::result::Result<(), Failure> {
        // SAFETY: retained in `new`, and never released: it ends with the process.
        line("entering the context", unsafe { result::ctx::set_current(self.context) })
    }

    /// Does `work` with the context current on the calling thread.
    fn within<T>(
        &self,
        work: impl FnOnce(&mut State) -> std::result::Result<T, Failure>,
    ) -> Result<T> {
        let state = &mut *self.state.lock().expect("no thread panics while it holds the driver");
        self.enter().and_then(|()| work(state)).map_err(|failure| state.told(failure))
    }

    fn function(
        &self,
        state: &mut State,
        launch: &Launch,
    ) -> std::result::Result<sys::CUfunction, Failure> {
        let found = state.functions.get(launch.kernel).copied();
        let mut function = match found {
            Some(function) => function,
            None => {
                let name = CString::new(launch.kernel).expect("kernel names are text");
                // SAFETY: the module is loaded until `drop`.
                let handle = line("loading it onto the GPU", unsafe {
                    result::module::get_function(self.module, name)
                })?;
                Function { handle, shared: SHARED }
            }
        };
        if launch.shared_bytes > function.shared {
            let attribute =
                sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            let bytes = launch.shared_bytes as i32;
            let what = format!(
                "asking for {bytes} bytes of shared memory of {}",
                self.gpu.target.shared_bytes
            );
            // SAFETY: the handle belongs to the loaded module.
            line(&what, unsafe {
                result::function::set_function_attribute(function.handle, attribute, bytes)
            })?;
            function.shared = launch.shared_bytes;
        }
        state.functions.insert(launch.kernel, function);
        Ok(function.handle)
    }

    /// Pinned memory of at least `bytes` that no copy reads any more.
    fn staging<'a>(
        &self,
        state: &'a mut State,
        bytes: usize,
    ) -> std::result::Result<&'a Staging, Failure> {
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
        self.gpu.describe()
    }

    fn target(&self) -> Target {
        self.gpu.target
    }

    fn memory(&self) -> Result<(u64, u64)> {
        self.within(|_| line("asking for memory", result::mem_get_info()))
            .map(|(free, all)| (free as u64, all as u64))
    }

    fn alloc(&self, bytes: usize) -> Result<u64> {
        self.within(|_| {
            let mib = |bytes: usize| bytes as f64 / (1u64 << 20) as f64;
            // SAFETY: whoever reads it has written it before: buffers are zeroed, work space is not read.
            let allocated = unsafe { result::malloc_sync(bytes) };
            line(&format!("allocating {:.1} MiB", mib(bytes)), allocated).map_err(|mut e| {
                if let Ok((free, all)) = result::mem_get_info() {
                    let (free, all) = (mib(free), mib(all));
                    e.text += &format!("; {free:.1} MiB of {all:.1} MiB are free");
                }
                e
            })
        })
    }

    fn free(&self, ptr: u64) {
        // An error here is an earlier one, which has been reported.
        let _ = self.within(|_| {
            // SAFETY: the stream lives until `drop`. Its owner gives the range back once, and after
            // the wait nothing that was queued uses it.
            unsafe {
                line("waiting for the GPU", result::stream::synchronize(self.stream))?;
                line("freeing memory", result::free_sync(ptr))
            }
        });
    }

    fn zero(&self, ptr: u64, bytes: usize) -> Result<()> {
        self.within(|_| {
            // SAFETY: the caller owns the range.
            line("zeroing", unsafe { result::memset_d8_async(ptr, 0, bytes, self.stream) })
        })
    }

    fn upload(&self, dst: u64, src: &[u8]) -> Result<()> {
        self.within(|state| {
            if src.len() > STAGED {
                // SAFETY: the caller owns the range; after the wait nothing reads `src` any more.
                return unsafe {
                    line("copying to the GPU", result::memcpy_htod_async(dst, src, self.stream))?;
                    line("copying to the GPU", result::stream::synchronize(self.stream))
                };
            }
            let staging = self.staging(state, src.len())?;
            // SAFETY: `staging` has room for `src` and is not touched again before `done`; the caller
            // owns the range on the device.
            unsafe {
                let pinned = std::slice::from_raw_parts_mut(staging.host, src.len());
                pinned.copy_from_slice(src);
                line("copying to the GPU", result::memcpy_htod_async(dst, pinned, self.stream))?;
                line("recording an event", result::event::record(staging.done, self.stream))
            }
        })
    }

    fn download(&self, dst: &mut [u8], src: u64) -> Result<()> {
        self.within(|_| {
            // SAFETY: the caller owns the range; the wait comes before `dst` is used.
            unsafe {
                line("copying from the GPU", result::memcpy_dtoh_async(dst, src, self.stream))?;
                line("waiting for the GPU", result::stream::synchronize(self.stream))
            }
        })
    }

    fn copy_rows(&self, rows: Rows) -> Result<()> {
        self.within(|_| {
            let gapless = rows.src_stride == rows.width && rows.dst_stride == rows.width;
            if rows.rows == 1 || gapless {
                let bytes = rows.width * rows.rows;
                // SAFETY: the caller owns both ranges, and they do not overlap.
                let copied =
                    unsafe { result::memcpy_dtod_async(rows.dst, rows.src, bytes, self.stream) };
                return line("copying", copied);
            }
            // SAFETY: plain numbers and null pointers, for which zero is a value.
            let mut copy: sys::CUDA_MEMCPY2D = unsafe { std::mem::zeroed() };
            copy.srcMemoryType = sys::CUmemorytype::CU_MEMORYTYPE_DEVICE;
            copy.dstMemoryType = sys::CUmemorytype::CU_MEMORYTYPE_DEVICE;
            (copy.srcDevice, copy.srcPitch) = (rows.src, rows.src_stride);
            (copy.dstDevice, copy.dstPitch) = (rows.dst, rows.dst_stride);
            (copy.WidthInBytes, copy.Height) = (rows.width, rows.rows);
            // SAFETY: the caller owns both ranges, and they do not overlap.
            line("copying rows", unsafe { sys::cuMemcpy2DAsync_v2(&copy, self.stream) }.result())
        })
    }

    fn launch(&self, launch: &Launch, args: &[Arg]) -> Result<()> {
        self.within(|state| {
            let function = self.function(state, launch)?;
            let mut params = [std::ptr::null_mut::<c_void>(); MOST_ARGUMENTS];
            for (param, arg) in params.iter_mut().zip(args) {
                *param = match arg {
                    Arg::Ptr(x) | Arg::U64(x) => (x as *const u64).cast_mut().cast(),
                    Arg::U32(x) => (x as *const u32).cast_mut().cast(),
                    Arg::F32(x) => (x as *const f32).cast_mut().cast(),
                };
            }
            let params = &mut params[..args.len()];
            let ([x, y, z], threads, shared) = (launch.blocks, launch.threads, launch.shared_bytes);
            // SAFETY: arguments and kernel are of one declaration in `kernels_ptx` (the emulator checks
            // number and sizes in every test run); the driver copies them before it returns. Ops have checked lengths against the grid.
            let launched = unsafe {
                let (grid, block) = ((x, y, z), (threads, 1, 1));
                result::launch_kernel(function, grid, block, shared, self.stream, params)
            };
            line("launching", launched).map_err(|mut e| {
                e.text += &format!(
                    " ({x} x {y} x {z} blocks of {threads} threads and {shared} bytes of shared memory)"
                );
                e
            })
        })
    }

    fn sync(&self) -> Result<()> {
        self.within(|_| {
            // SAFETY: the stream lives until `drop`.
            line("waiting for the GPU", unsafe { result::stream::synchronize(self.stream) })
        })
    }

    fn record(&self) -> Result<Event> {
        self.within(|state| {
            let event = match state.idle.pop() {
                Some(event) => event,
                None => {
                    let made = result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT);
                    state.events.push(line("making an event", made)?);
                    state.events.len() - 1
                }
            };
            // SAFETY: event and stream are of this context.
            let recorded = unsafe { result::event::record(state.events[event], self.stream) };
            line("recording an event", recorded).map(|()| event)
        })
    }

    fn elapsed_ms(&self, moments: &[Event]) -> Result<Vec<f32>> {
        self.within(|state| {
            state.idle.extend(moments);
            let since = |&event: &Event| {
                // SAFETY: both were recorded, and live until `drop`.
                line("reading the clock", unsafe {
                    result::event::elapsed(state.events[moments[0]], state.events[event])
                })
            };
            moments.iter().map(since).collect()
        })
    }

    fn stream(&self) -> Option<Result<Stream<'_>>> {
        Some(self.within(|_| Ok(Stream::of(self, self.stream.cast()))))
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

#[cfg(test)]
mod tests {
    use super::*;
    use sys::CUresult;

    fn failure(text: &str, code: CUresult) -> Failure {
        Failure { text: text.into(), code }
    }

    #[test]
    fn what_follows_a_fault_names_it() {
        let mut state = State::default();
        let full = || failure("allocating: out of memory", CUresult::CUDA_ERROR_OUT_OF_MEMORY);
        let fault = |at: &str| failure(at, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
        assert_eq!(state.told(full()), "allocating: out of memory");
        assert_eq!(state.told(fault("waiting: illegal address")), "waiting: illegal address");
        assert_eq!(
            state.told(fault("zeroing: illegal address")),
            "zeroing: illegal address; this process lost the GPU before, at waiting: illegal address: start it anew"
        );
        assert_eq!(state.told(full()), "allocating: out of memory");
    }

    #[test]
    fn a_refused_module_has_a_remedy_of_its_kind() {
        assert!(remedy(CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION).contains("update the driver"));
        let disabled = remedy(CUresult::CUDA_ERROR_JIT_COMPILATION_DISABLED);
        assert!(disabled.contains("CUDA_DISABLE_PTX_JIT"), "{disabled}");
        let missing = remedy(CUresult::CUDA_ERROR_JIT_COMPILER_NOT_FOUND);
        assert!(missing.contains("libnvidia-ptxjitcompiler"), "{missing}");
    }
}
