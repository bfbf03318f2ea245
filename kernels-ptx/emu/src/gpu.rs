//! The device: memory and launches.

use std::collections::HashMap;

use crate::counts::{Class, Counts, LineCounts, Tally};
use crate::error::{Error, Fault, Result};
use crate::exec;
use crate::exec::block::{Failure, Launch};
use crate::hardware::{BLOCK_THREADS, Card, Hardware, Sums, alignment};
use crate::ir::{Inst, Program};
use crate::lex::line_text;
use crate::memory::{MAX_BLOCKS, Memory};
use crate::module::{Inner, Kernel, Module};

/// Address in device memory.
pub type DevicePtr = u64;

/// The shape of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Blocks along x, y, z.
    pub blocks: [u32; 3],
    /// Threads of a block.
    pub threads: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared_bytes: usize,
}

/// One kernel argument. Its size must be the parameter's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arg<'a> {
    /// 4 bytes.
    U32(u32),
    /// 4 bytes.
    I32(i32),
    /// 8 bytes; a [`DevicePtr`] too.
    U64(u64),
    /// 4 bytes.
    F32(f32),
    /// 8 bytes.
    F64(f64),
    /// A structure by value, or bytes as a driver takes them.
    Bytes(&'a [u8]),
}

impl Arg<'_> {
    /// Writes the bytes to a parameter's place; false if it has another size.
    fn write(&self, out: &mut [u8]) -> bool {
        let mut put = |from: &[u8]| {
            let fits = from.len() == out.len();
            if fits {
                out.copy_from_slice(from);
            }
            fits
        };
        match self {
            Arg::U32(v) => put(&v.to_le_bytes()),
            Arg::I32(v) => put(&v.to_le_bytes()),
            Arg::U64(v) => put(&v.to_le_bytes()),
            Arg::F32(v) => put(&v.to_le_bytes()),
            Arg::F64(v) => put(&v.to_le_bytes()),
            Arg::Bytes(b) => put(b),
        }
    }
}

/// An emulated device.
pub struct Gpu {
    hardware: Hardware,
    memory: Memory,
    /// Addresses of the variables of modules seen so far.
    loaded: HashMap<u64, Vec<u64>>,
    races: bool,
    budget: u64,
}

impl Default for Gpu {
    fn default() -> Self {
        Gpu::new()
    }
}

impl Gpu {
    /// An H100, no kinder than a real one: [`Hardware::strict`]. No memory is in use.
    pub fn new() -> Gpu {
        Gpu::with(Hardware::strict(90).expect("an H100 can be emulated"))
    }

    /// Any other device.
    pub fn with(hardware: Hardware) -> Gpu {
        let (memory, loaded) = (Memory::default(), HashMap::new());
        Gpu { hardware, memory, loaded, races: true, budget: 200_000_000 }
    }

    /// What is emulated.
    pub fn hardware(&self) -> &Hardware {
        &self.hardware
    }

    /// Whether races are errors: between threads of a block on shared memory, between blocks on
    /// global memory. On by default. Off, blocks run one after the other on one host thread, and
    /// schemes where a block reads what another wrote behind a fence and an atomic are accepted.
    pub fn check_races(&mut self, on: bool) {
        self.races = on;
    }

    /// Instructions a warp may execute before it counts as an endless loop.
    pub fn set_budget(&mut self, instructions: u64) {
        self.budget = instructions;
    }

    /// Allocates `len` bytes, aligned to 256, that nothing was written to.
    ///
    /// # Errors
    /// If `len` is 0.
    pub fn alloc(&mut self, len: usize) -> Result<DevicePtr> {
        if len == 0 {
            return Err(Error::Memory { what: "allocation of 0 bytes".to_string() });
        }
        Ok(self.memory.alloc(len))
    }

    /// Frees an allocation. Its addresses are never used again.
    ///
    /// # Errors
    /// If `ptr` is not the start of a live allocation.
    pub fn free(&mut self, ptr: DevicePtr) -> Result<()> {
        self.memory.free(ptr)
    }

    /// Copies from the host.
    ///
    /// # Errors
    /// If the range is not within one allocation.
    pub fn write(&mut self, ptr: DevicePtr, data: &[u8]) -> Result<()> {
        self.memory.write(ptr, data)
    }

    /// Copies to the host.
    ///
    /// # Errors
    /// If the range is not within one allocation, or nothing was written to a part of it.
    pub fn read(&self, ptr: DevicePtr, out: &mut [u8]) -> Result<()> {
        self.memory.read(ptr, out)
    }

    /// Sets `len` bytes.
    ///
    /// # Errors
    /// If the range is not within one allocation.
    pub fn fill(&mut self, ptr: DevicePtr, len: usize, byte: u8) -> Result<()> {
        self.memory.write(ptr, &vec![byte; len])
    }

    /// Copies within the device; what was never written stays so.
    ///
    /// # Errors
    /// If a range is not within one allocation, or they overlap.
    pub fn copy(&mut self, dst: DevicePtr, src: DevicePtr, len: usize) -> Result<()> {
        self.memory.copy(dst, src, len)
    }

    /// Address and size of a module's variable.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is none of that name in device memory.
    pub fn symbol(&mut self, module: &Module, name: &str) -> Result<(DevicePtr, usize)> {
        let found = module.0.globals.iter().position(|g| g.name == name && !g.shared);
        let i = found.ok_or_else(|| Error::Missing { what: format!("variable `{name}`") })?;
        self.load_inner(&module.0)?;
        Ok((self.loaded[&module.0.id][i], module.0.globals[i].bytes.len()))
    }

    /// Loads a module, as the first launch of one of its kernels does: gives its variables their
    /// memory.
    ///
    /// # Errors
    /// [`Error::Target`] if the module was made for other devices.
    pub fn load(&mut self, module: &Module) -> Result<()> {
        self.load_inner(&module.0)
    }

    fn load_inner(&mut self, module: &Inner) -> Result<()> {
        if self.loaded.contains_key(&module.id) {
            return Ok(());
        }
        if let Some(what) = module.target.refusal(self.hardware.card) {
            return Err(Error::Target { target: module.target.to_string(), what });
        }
        let mut places = Vec::with_capacity(module.globals.len());
        for g in &module.globals {
            let place = if g.shared { 0 } else { self.memory.alloc(g.bytes.len().max(1)) };
            if !g.shared {
                self.memory.write(place, &g.bytes)?;
            }
            places.push(place);
        }
        for (g, place) in module.globals.iter().zip(&places) {
            for (at, name, offset) in &g.links {
                let target = module.globals.iter().position(|t| t.name == *name && !t.shared);
                let target =
                    target.ok_or_else(|| Error::Missing { what: format!("variable `{name}`") })?;
                let value = places[target].wrapping_add_signed(*offset);
                self.memory.write(place + *at as u64, &value.to_le_bytes())?;
            }
        }
        self.loaded.insert(module.id, places);
        Ok(())
    }

    /// Runs a kernel to its end.
    ///
    /// # Errors
    /// [`Error::Target`] if the kernel's module was made for other devices; [`Error::Launch`] if shape or arguments do not fit the kernel, and nothing has run;
    /// [`Error::Fault`] if the kernel did something wrong. Memory is then as the kernel left it.
    pub fn launch(&mut self, kernel: &Kernel, grid: Grid, args: &[Arg]) -> Result<Counts> {
        let program = &*kernel.program;
        self.load_inner(&kernel.module)?;
        let Hardware { card, sums, approximate } = self.hardware;
        let (dynamic_at, shared_bytes) = check_shape(card, kernel, &grid)?;
        let params = pack_params(program, args)?;
        let epoch = self.memory.next_epoch();
        let launch = Launch {
            program,
            memory: &self.memory,
            epoch,
            races: self.races,
            budget: self.budget,
            alignment: (sums == Sums::Truncate).then(|| alignment(card.capability)),
            approximate,
            params: &params,
            globals: &self.loaded[&kernel.module.id],
            grid: grid.blocks,
            dims: grid.threads,
            shared_bytes,
            dynamic_at,
        };
        let blocks: u32 = grid.blocks.iter().product();
        let done = exec::run(launch, blocks).map_err(|f| fault(kernel, &grid, f))?;
        let threads = grid.threads.iter().map(|t| u64::from(*t)).product::<u64>();
        let mut counts = Counts {
            launches: 1,
            blocks: blocks.into(),
            threads: threads * u64::from(blocks),
            distinct_read_sectors: done.distinct[0],
            distinct_write_sectors: done.distinct[1],
            ..Counts::default()
        };
        sum_up(&mut counts, &program.code, &done.tally);
        Ok(counts)
    }
}

fn refuse<T>(kernel: &str, what: String) -> Result<T> {
    Err(Error::Launch { kernel: kernel.to_string(), what })
}

/// Where dynamic shared memory begins, and how much there is in all.
fn check_shape(card: Card, kernel: &Kernel, grid: &Grid) -> Result<(usize, usize)> {
    let (p, name) = (&kernel.program, kernel.name());
    let product = |d: [u32; 3]| d.iter().map(|v| u64::from(*v)).product::<u64>();
    let (threads, blocks) = (product(grid.threads), product(grid.blocks));
    if threads == 0 || blocks == 0 {
        return refuse(name, format!("an empty grid: {:?} x {:?}", grid.blocks, grid.threads));
    }
    if threads > BLOCK_THREADS || grid.threads[2] > 64 {
        return refuse(name, format!("{threads} threads a block, of {BLOCK_THREADS} at most"));
    }
    if let Some(max) = p.max_threads
        && threads > product(max)
    {
        return refuse(
            name,
            format!("{threads} threads a block, .maxntid allows {}", product(max)),
        );
    }
    if let Some(required) = p.req_threads
        && grid.threads != required
    {
        return refuse(name, format!("{:?} threads, .reqntid demands {required:?}", grid.threads));
    }
    if grid.blocks[1] > 65535 || grid.blocks[2] > 65535 || grid.blocks[0] > i32::MAX as u32 {
        return refuse(name, format!("a grid of {:?} blocks", grid.blocks));
    }
    if blocks > MAX_BLOCKS {
        return refuse(name, format!("{blocks} blocks, more than are told apart ({MAX_BLOCKS})"));
    }
    let dynamic_at = p.static_shared.next_multiple_of(p.dynamic_align);
    let total =
        if grid.shared_bytes == 0 { p.static_shared } else { dynamic_at + grid.shared_bytes };
    let limit = card.block_shared_bytes;
    if total > limit {
        return refuse(
            name,
            format!(
                "{total} bytes of shared memory, of {limit} a block can have on an {} (compute capability {}.{})",
                card.name,
                card.capability / 10,
                card.capability % 10
            ),
        );
    }
    Ok((dynamic_at.min(total), total))
}

fn pack_params(program: &Program, args: &[Arg]) -> Result<Vec<u8>> {
    let name = &program.name;
    if args.len() != program.params.len() {
        let (got, want) = (args.len(), program.params.len());
        return refuse(name, format!("{got} arguments for {want} parameters"));
    }
    let mut out = vec![0; program.param_bytes];
    for (i, (arg, p)) in args.iter().zip(&program.params).enumerate() {
        if !arg.write(&mut out[p.offset..p.offset + p.size]) {
            return refuse(
                name,
                format!("argument {i} is {arg:?}, the parameter has {} bytes", p.size),
            );
        }
    }
    Ok(out)
}

fn fault(kernel: &Kernel, grid: &Grid, f: Failure) -> Error {
    let split = |v: u32, [x, y, _]: [u32; 3]| [v % x, v / x % y, v / (x * y)];
    let line = kernel.program.code[f.pc as usize].line;
    Error::Fault(Box::new(Fault {
        kind: f.bad.kind,
        kernel: kernel.name().to_string(),
        line,
        text: line_text(&kernel.module.source, line),
        block: split(f.block, grid.blocks),
        thread: split(f.warp as u32 * 32 + f.bad.lane, grid.threads),
        what: f.bad.what,
    }))
}

fn sum_up(counts: &mut Counts, code: &[Inst], tally: &[Tally]) {
    let mut lines: Vec<LineCounts> = Vec::new();
    for (inst, t) in code.iter().zip(tally).filter(|(_, t)| t.warps > 0) {
        counts.total += *t;
        counts.classes[inst.class as usize] += t.warps;
        lines.push(LineCounts { line: inst.line, class: inst.class, tally: *t });
    }
    lines.sort_by_key(|l| l.line);
    lines.dedup_by(|b, a| {
        let same = a.line == b.line && a.class == b.class;
        if same {
            a.tally += b.tally;
        }
        same
    });
    counts.lines = lines;
    debug_assert_eq!(Class::ALL.len(), counts.classes.len());
}
