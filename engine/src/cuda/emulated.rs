//! The driver without a GPU: kernels run on `ptx-emu`, which refuses what hardware would let pass
//! in silence. Far too slow to train with; made to debug and to prove.

use super::driver::{Arg, Driver, Event, Result, Rows};
use kernels_ptx::launch::{Launch, Target};
use ptx_emu::{Gpu, Grid, Kernel, Module};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

pub(crate) struct Emulated {
    target: Target,
    state: Mutex<State>,
}

struct State {
    gpu: Gpu,
    module: Module,
    kernels: HashMap<&'static str, Kernel>,
    events: Vec<Instant>,
}

impl Emulated {
    /// A device that runs `ptx`, and says that it is `target`.
    pub fn new(ptx: &str, target: Target) -> Result<Self> {
        let module = Module::parse(ptx).map_err(|e| e.to_string())?;
        let (gpu, kernels, events) = (Gpu::new(), HashMap::new(), Vec::new());
        Ok(Emulated { target, state: Mutex::new(State { gpu, module, kernels, events }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds the emulator")
    }
}

fn line<T>(result: ptx_emu::Result<T>) -> Result<T> {
    result.map_err(|e| e.to_string())
}

impl Driver for Emulated {
    fn describe(&self) -> String {
        "cuda-emulated: every kernel on the CPU, slow and strict".to_string()
    }

    fn target(&self) -> Target {
        self.target
    }

    fn memory(&self) -> Result<(u64, u64)> {
        Ok((u64::MAX, u64::MAX))
    }

    fn alloc(&self, bytes: usize) -> Result<u64> {
        line(self.state().gpu.alloc(bytes))
    }

    fn free(&self, ptr: u64) {
        self.state().gpu.free(ptr).expect("freed once, by its owner");
    }

    fn zero(&self, ptr: u64, bytes: usize) -> Result<()> {
        line(self.state().gpu.fill(ptr, bytes, 0))
    }

    fn upload(&self, dst: u64, src: &[u8]) -> Result<()> {
        line(self.state().gpu.write(dst, src))
    }

    fn download(&self, dst: &mut [u8], src: u64) -> Result<()> {
        line(self.state().gpu.read(src, dst))
    }

    fn copy_rows(&self, r: Rows) -> Result<()> {
        let gpu = &mut self.state().gpu;
        (0..r.rows).try_for_each(|i| {
            let (dst, src) = (r.dst + (i * r.dst_stride) as u64, r.src + (i * r.src_stride) as u64);
            line(gpu.copy(dst, src, r.width))
        })
    }

    fn launch(&self, launch: &Launch, args: &[Arg]) -> Result<()> {
        let State { gpu, module, kernels, .. } = &mut *self.state();
        if !kernels.contains_key(launch.kernel) {
            kernels.insert(launch.kernel, line(module.kernel(launch.kernel))?);
        }
        let args: Vec<ptx_emu::Arg> = args
            .iter()
            .map(|arg| match *arg {
                Arg::Ptr(x) | Arg::U64(x) => ptx_emu::Arg::U64(x),
                Arg::U32(x) => ptx_emu::Arg::U32(x),
                Arg::F32(x) => ptx_emu::Arg::F32(x),
            })
            .collect();
        let grid = Grid {
            blocks: launch.blocks,
            threads: [launch.threads, 1, 1],
            shared_bytes: launch.shared_bytes as usize,
        };
        line(gpu.launch(&kernels[launch.kernel], grid, &args)).map(|_| ())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn record(&self) -> Result<Event> {
        let events = &mut self.state().events;
        events.push(Instant::now());
        Ok(events.len() - 1)
    }

    fn elapsed_ms(&self, from: Event, to: Event) -> Result<f32> {
        let events = &self.state().events;
        Ok((events[to] - events[from]).as_secs_f32() * 1e3)
    }
}
