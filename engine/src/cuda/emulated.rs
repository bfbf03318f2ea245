//! The driver without a GPU: kernels run on the emulator, which refuses what hardware would let pass
//! in silence. Far too slow to train with; made to debug and to prove.

use super::driver::{Driver, Event, Result, Rows};
use kernels_ptx::launch::{Arg, Launch, Target};
use ptx_emu::{Gpu, Grid, Hardware, Kernel, Module, Sums};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

pub(crate) struct Emulated {
    hardware: Hardware,
    state: Mutex<State>,
}

struct State {
    gpu: Gpu,
    module: Module,
    kernels: HashMap<&'static str, Kernel>,
    events: Vec<Instant>,
    /// Those of `events` that are used up.
    idle: Vec<Event>,
}

impl Emulated {
    /// A device with `ptx` loaded.
    pub fn new(ptx: &str, hardware: Hardware) -> Result<Self> {
        let module = line(Module::parse(ptx))?;
        let mut gpu = Gpu::with(hardware);
        line(gpu.load(&module))?;
        let state = State { gpu, module, kernels: HashMap::new(), events: vec![], idle: vec![] };
        Ok(Emulated { hardware, state: Mutex::new(state) })
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
        let Hardware { card, sums, .. } = self.hardware;
        let (major, minor) = (card.capability / 10, card.capability % 10);
        let sums = match sums {
            Sums::Truncate => "strict",
            Sums::Round => "strict, every sum rounded",
        };
        format!(
            "cuda-emulated: {} (compute capability {major}.{minor}), every kernel on the CPU, slow and {sums}",
            card.name
        )
    }

    fn target(&self) -> Target {
        let card = self.hardware.card;
        Target {
            capability: card.capability,
            multiprocessors: card.multiprocessors,
            shared_bytes: card.block_shared_bytes as u32,
        }
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
        let State { events, idle, .. } = &mut *self.state();
        let event = idle.pop().unwrap_or_else(|| {
            events.push(Instant::now());
            events.len() - 1
        });
        events[event] = Instant::now();
        Ok(event)
    }

    fn elapsed_ms(&self, moments: &[Event]) -> Result<Vec<f32>> {
        let State { events, idle, .. } = &mut *self.state();
        idle.extend(moments);
        let since = |&event: &Event| (events[event] - events[moments[0]]).as_secs_f32() * 1e3;
        Ok(moments.iter().map(since).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_used_again() {
        let ptx = ".version 7.0\n.target sm_80\n.address_size 64\n";
        let driver = Emulated::new(ptx, Hardware::strict(80).unwrap()).unwrap();
        for _ in 0..3 {
            let moments = [(); 3].map(|()| driver.record().unwrap());
            let ms = driver.elapsed_ms(&moments).unwrap();
            assert!(ms[0] == 0.0 && ms[0] <= ms[1] && ms[1] <= ms[2], "{ms:?}");
        }
        assert_eq!(driver.state().events.len(), 3);
    }
}
