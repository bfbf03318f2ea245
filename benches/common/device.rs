//! What benches and `compare.py`'s worker share about devices: buffers of numbers that cost no
//! time to fill, and a clock that is the device's own.
#![allow(dead_code)] // every bench uses a part of it

use handgrad::engine::buf::copy;
use handgrad::engine::{Buf, Device, Dtype, Element, Error, bf16};
use std::time::Instant;

/// What buffers are filled with: near-normal numbers, as PyTorch's workers have, the same in every
/// run. One block of them is made; a buffer repeats it by copies on its device, so that gigabytes
/// cost the host no time. The block is no multiple of a row, so rows differ.
pub struct Inputs {
    dev: Device,
    f32: Buf<f32>,
    bf16: Buf<bf16>,
}

/// Numbers of a block: whole vectors of 16 bytes.
const BLOCK: usize = 1_000_008;

impl Inputs {
    /// Makes the block.
    pub fn new(dev: &Device) -> Self {
        // SplitMix64.
        let mut state = 0u64;
        let mut uniform = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) as f64 / u64::MAX as f64
        };
        // A sum of four uniform numbers, of deviation 1.
        let mut normal = || (uniform() + uniform() + uniform() + uniform() - 2.0) * 3f64.sqrt();
        let block: Vec<f32> = (0..BLOCK).map(|_| normal() as f32).collect();
        let rounded: Vec<bf16> = block.iter().map(|&x| bf16::from_f32(x)).collect();
        Inputs { dev: dev.clone(), f32: Buf::of(dev, &block), bf16: Buf::of(dev, &rounded) }
    }

    /// Where the buffers lie.
    pub fn dev(&self) -> &Device {
        &self.dev
    }

    /// A buffer of `len` numbers.
    pub fn numbers<E: Element>(&self, len: usize) -> Buf<E> {
        let block = match E::DTYPE {
            Dtype::F32 => self.f32.view().same::<E>(),
            Dtype::Bf16 => self.bf16.view().same::<E>(),
            Dtype::F64 => panic!("benches are of what trains"),
        };
        let mut buf = Buf::zeros(&self.dev, len);
        for first in (0..len).step_by(BLOCK) {
            let width = BLOCK.min(len - first);
            let to = buf.range_mut(first..first + width);
            copy(&self.dev, to, block.range(0..width));
        }
        buf
    }
}

/// Times calls by the device's own clock: on a GPU by events around their kernels.
pub struct Clock {
    dev: Device,
    /// Beyond any L2 cache: written before each call, so that none finds its inputs there.
    flush: Buf<f32>,
}

impl Clock {
    /// A clock of `dev`.
    pub fn new(dev: &Device) -> Self {
        let (timed, flush) = match dev {
            Device::Cpu(_) => (dev.clone(), 1),
            Device::Cuda(cuda) => (dev.recording(), if cuda.is_emulated() { 1 } else { 1 << 26 }),
        };
        Clock { dev: timed, flush: Buf::zeros(dev, flush) }
    }

    /// The device that timed calls must run on.
    pub fn dev(&self) -> &Device {
        &self.dev
    }

    /// Seconds of `call`, from the begin of its first op to the end of its last.
    ///
    /// # Errors
    /// If the GPU has failed.
    ///
    /// # Panics
    /// If `call` calls no op on a GPU: a caller bug.
    pub fn seconds(&mut self, call: impl FnOnce(&Device)) -> Result<f64, Error> {
        if let Device::Cpu(_) = self.dev {
            let start = Instant::now();
            call(&self.dev);
            return Ok(start.elapsed().as_secs_f64());
        }
        self.flush.fill_zero(&self.dev);
        call(&self.dev);
        let ops = self.dev.take_calls();
        self.dev.sync()?;
        let (first, last) = (ops.first().expect("an op"), ops.last().expect("an op"));
        Ok((last.end - first.begin).as_secs_f64())
    }
}
