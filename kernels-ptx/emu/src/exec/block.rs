//! One block: its warps in turn until all have exited.

use super::access::Sectors;
use super::regs::{Row64, lanes};
use super::sync::Barrier;
use super::warp::{Pause, State, Warp};
use crate::counts::Tally;
use crate::error::{Bad, FaultKind, bad};
use crate::hardware::Alignment;
use crate::ir::{Program, Reg, Special, Start};
use crate::memory::{Claimant, Memory, Touch};
use crate::shared::{Clocks, Shared};

/// What does not change during a launch.
#[derive(Clone, Copy)]
pub(crate) struct Launch<'a> {
    pub program: &'a Program,
    pub memory: &'a Memory,
    pub epoch: u64,
    /// Look for races: then blocks may run side by side.
    pub races: bool,
    pub budget: u64,
    /// How tensor cores line up what they add; none rounds each sum.
    pub alignment: Option<Alignment>,
    /// Seed of the errors of approximations; none rounds them.
    pub approximate: Option<u64>,
    pub params: &'a [u8],
    /// Address of each module variable, by index.
    pub globals: &'a [u64],
    pub grid: [u32; 3],
    pub dims: [u32; 3],
    pub shared_bytes: usize,
    pub dynamic_at: usize,
}

/// The state of a block, reused from block to block by one host thread.
pub(crate) struct Block<'a> {
    pub program: &'a Program,
    pub memory: &'a Memory,
    pub params: &'a [u8],
    pub epoch: u64,
    pub races: bool,
    pub budget: u64,
    pub alignment: Option<Alignment>,
    pub approximate: Option<u64>,
    pub grid: [u32; 3],
    pub linear: u32,
    pub threads: usize,
    pub shared: Shared,
    pub clocks: Clocks,
    pub barriers: [Barrier; 16],
    pub tally: Vec<Tally>,
    /// Sectors touched for the first time in the launch: read, written.
    pub distinct: [u64; 2],
    launch: Launch<'a>,
}

/// A fault's place within a launch.
pub(crate) struct Failure {
    pub block: u32,
    pub warp: usize,
    pub pc: u32,
    pub bad: Box<Bad>,
}

impl<'a> Block<'a> {
    pub fn new(launch: Launch<'a>) -> Block<'a> {
        Block {
            program: launch.program,
            memory: launch.memory,
            params: launch.params,
            epoch: launch.epoch,
            races: launch.races,
            budget: launch.budget,
            alignment: launch.alignment,
            approximate: launch.approximate,
            grid: launch.grid,
            linear: 0,
            threads: launch.dims.iter().map(|d| *d as usize).product(),
            shared: Shared::default(),
            clocks: Clocks::default(),
            barriers: Default::default(),
            tally: vec![Tally::default(); launch.program.code.len()],
            distinct: [0; 2],
            launch,
        }
    }

    /// Runs block number `linear` on `warps`, whose storage is reused.
    pub fn run(&mut self, linear: u32, warps: &mut Vec<Warp>) -> Result<(), Failure> {
        self.linear = linear;
        let count = self.threads.div_ceil(32);
        warps.resize_with(count, Warp::default);
        self.shared.reset(self.launch.shared_bytes, self.races);
        self.clocks.reset(count);
        self.barriers = Default::default();
        for (i, w) in warps.iter_mut().enumerate() {
            w.reset(self.program, i, self.threads);
            self.fill_starts(w);
        }
        let mut left = count;
        let mut done = vec![false; count];
        while left > 0 {
            let mut progress = false;
            for i in 0..count {
                if done[i] || !warps[i].can_run(self) {
                    continue;
                }
                progress = true;
                let paused = warps[i].run(self);
                let fail = |(pc, bad)| Failure { block: linear, warp: i, pc, bad };
                if paused.map_err(fail)? == Pause::Done {
                    done[i] = true;
                    left -= 1;
                }
            }
            if !progress {
                return Err(self.deadlock(warps));
            }
        }
        Ok(())
    }

    pub fn claimant(&self) -> Claimant {
        let block = self.races.then_some(self.linear);
        Claimant { epoch: self.epoch, block, granule: self.program.granule }
    }

    /// Constants, addresses and special registers.
    fn fill_starts(&self, w: &mut Warp) {
        let index = w.index as u64;
        for (reg, start) in &self.program.starts {
            let row: Row64 = match *start {
                Start::Bits(v) if matches!(reg, Reg::Pred(_)) => [v & 1; 32],
                Start::Bits(v) => [v; 32],
                Start::Global(i, offset) => {
                    [self.launch.globals[i as usize].wrapping_add_signed(offset); 32]
                }
                Start::DynamicShared(offset) => {
                    [(self.launch.dynamic_at as u64).wrapping_add_signed(offset); 32]
                }
                Start::Special(s) => std::array::from_fn(|l| self.special(s, index, l as u64)),
            };
            w.regs.put(*reg, &row, u32::MAX);
        }
    }

    fn special(&self, s: Special, warp: u64, lane: u64) -> u64 {
        let split = |v: u64, [x, y, _]: [u32; 3], axis: u8| {
            let (x, y) = (u64::from(x), u64::from(y));
            [v % x, v / x % y, v / (x * y)][axis as usize]
        };
        let (dims, grid) = (self.launch.dims, self.grid);
        match s {
            Special::Tid(a) => split(warp * 32 + lane, dims, a),
            Special::Ntid(a) => dims[a as usize].into(),
            Special::Ctaid(a) => split(self.linear.into(), grid, a),
            Special::Nctaid(a) => grid[a as usize].into(),
            Special::LaneId => lane,
            Special::WarpId => warp,
            Special::NWarpId => self.threads.div_ceil(32) as u64,
            Special::SmId => 0,
            Special::LanemaskEq => 1 << lane,
            Special::LanemaskLt => (1 << lane) - 1,
            Special::LanemaskLe => (2 << lane) - 1,
            Special::LanemaskGt => u64::from(u32::MAX) & !((2 << lane) - 1),
            Special::LanemaskGe => u64::from(u32::MAX) & !((1 << lane) - 1),
            Special::DynamicSharedSize => {
                (self.launch.shared_bytes - self.launch.dynamic_at) as u64
            }
            Special::TotalSharedSize => self.launch.shared_bytes as u64,
        }
    }

    /// No warp can run: names the first that waits.
    fn deadlock(&self, warps: &[Warp]) -> Failure {
        let exited: u32 = warps.iter().map(|w| (w.born & !w.live).count_ones()).sum();
        let all = warps.iter().flat_map(|w| w.groups.iter().map(move |g| (w, g)));
        let (w, g) = all.clone().next().expect("somebody waits");
        if let State::Parked = g.state {
            return Failure { block: self.linear, warp: w.index, pc: g.pc, bad: w.divergent(g) };
        }
        let State::Barrier { id, .. } = g.state else { unreachable!("a ready group would run") };
        let bar = &self.barriers[id as usize];
        let mut what = format!(
            "deadlock: barrier {id} waits for {} threads, {} have come",
            bar.expected, bar.arrived
        );
        if exited > 0 {
            what += &format!(", {exited} have exited");
        }
        let elsewhere = all.clone().find(|(_, o)| o.state != g.state);
        if let Some((_, o)) = elsewhere {
            let line = self.program.code[o.pc as usize - 1].line;
            what += &format!(", others wait at PTX line {line}");
        }
        let bad = bad(FaultKind::Deadlock, g.mask.trailing_zeros(), what);
        Failure { block: self.linear, warp: w.index, pc: g.pc - 1, bad }
    }

    pub fn count_global(&mut self, pc: u32, sectors: &mut Sectors, touch: Touch, asked: u64) {
        let mut n = 0;
        for (alloc, sector) in sectors.distinct() {
            n += 1;
            let alloc = &self.memory.allocs[alloc];
            if touch != Touch::Write {
                self.distinct[0] += u64::from(alloc.first_touch(sector, false, self.epoch));
            }
            if touch != Touch::Read {
                self.distinct[1] += u64::from(alloc.first_touch(sector, true, self.epoch));
            }
        }
        let t = &mut self.tally[pc as usize];
        if touch != Touch::Write {
            t.read_bytes += asked;
            t.read_sectors += n;
        }
        if touch != Touch::Read {
            t.write_bytes += asked;
            t.write_sectors += n;
        }
    }

    /// Counts passes over the banks: lanes go together as far as 128 bytes reach.
    pub fn count_shared(&mut self, pc: u32, addr: &Row64, m: u32, bytes: usize) {
        let unit = bytes.max(4);
        let group = 128 / unit;
        let (mut fronts, mut conflicts) = (0, 0);
        for first in (0..32).step_by(group) {
            let here = m & (u32::MAX >> (32 - group)) << first;
            if here != 0 {
                let passes = bank_passes(addr, here, unit as u64);
                fronts += passes;
                conflicts += passes - 1;
            }
        }
        let t = &mut self.tally[pc as usize];
        t.wavefronts += fronts;
        t.conflicts += conflicts;
    }
}

/// The most distinct units that one bank has to give, where 128 bytes of banks give one each.
fn bank_passes(addr: &Row64, m: u32, unit: u64) -> u64 {
    let (shift, banks) = (unit.trailing_zeros(), 128 / unit as usize);
    let mut seen = [u64::MAX; 32];
    let mut more: Vec<u64> = Vec::new();
    for l in lanes(m) {
        let word = addr[l] >> shift;
        let first = &mut seen[word as usize & (banks - 1)];
        if *first == u64::MAX {
            *first = word;
        } else if *first != word && !more.contains(&word) {
            more.push(word);
        }
    }
    if more.is_empty() {
        return 1;
    }
    let mut depth = [0u64; 32];
    for word in more {
        depth[word as usize & (banks - 1)] += 1;
    }
    1 + depth.into_iter().max().unwrap_or(0)
}
