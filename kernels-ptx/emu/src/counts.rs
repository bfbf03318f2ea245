//! What a profiler would show of a launch.

use std::ops::AddAssign;

/// Kinds of instruction, as they are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Integer and logic on registers, address arithmetic included.
    Integer,
    /// Add, multiply, fused multiply-add, minimum and maximum in f32.
    F32,
    /// Any arithmetic in f64.
    F64,
    /// f16 and bf16, also in pairs.
    Half,
    /// Division, roots, exponentials, logarithms, sines.
    Special,
    /// `cvt`.
    Convert,
    /// Comparisons and selections.
    Compare,
    /// `mov`, also between a register and its parts.
    Move,
    /// Branches, calls, returns, exits.
    Control,
    /// `mma`.
    Matrix,
    /// `ld.global`.
    GlobalLoad,
    /// `st.global`.
    GlobalStore,
    /// Also `ldmatrix`.
    SharedLoad,
    /// Also `stmatrix`.
    SharedStore,
    /// Loads and stores of a thread's own memory: spills, arrays that fell out of registers.
    Local,
    /// Loads of parameters and constants.
    Constant,
    /// Loads and stores through a generic address; the traffic they cause is counted where it goes.
    Generic,
    /// `atom` and `red`.
    Atomic,
    /// `cp.async` and its waits.
    AsyncCopy,
    /// Shuffles, votes, matches, reductions.
    Warp,
    /// `bar` and `barrier`; a warp's own is in [`Class::Warp`].
    Barrier,
    /// `fence` and `membar`.
    Fence,
}

impl Class {
    /// All classes, in the order in which [`Counts::classes`] holds them.
    pub const ALL: [Class; 22] = [
        Class::Integer,
        Class::F32,
        Class::F64,
        Class::Half,
        Class::Special,
        Class::Convert,
        Class::Compare,
        Class::Move,
        Class::Control,
        Class::Matrix,
        Class::GlobalLoad,
        Class::GlobalStore,
        Class::SharedLoad,
        Class::SharedStore,
        Class::Local,
        Class::Constant,
        Class::Generic,
        Class::Atomic,
        Class::AsyncCopy,
        Class::Warp,
        Class::Barrier,
        Class::Fence,
    ];
}

/// What was counted for one instruction, or for a sum of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Times a warp executed it.
    pub warps: u64,
    /// Lanes that took part, over all those times.
    pub lanes: u64,
    /// Bytes of global memory the lanes asked for.
    pub read_bytes: u64,
    /// The same for stores; an atomic counts in both.
    pub write_bytes: u64,
    /// 32-byte sectors of global memory those bytes lie in, per warp and instruction.
    pub read_sectors: u64,
    /// The same for stores.
    pub write_sectors: u64,
    /// Passes over shared memory's 32 banks.
    pub wavefronts: u64,
    /// Passes beyond what the same bytes need without bank conflicts.
    pub conflicts: u64,
    /// Floating-point operations of matrix instructions, two a multiply-add.
    pub matrix_flop: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, o: Tally) {
        self.warps += o.warps;
        self.lanes += o.lanes;
        self.read_bytes += o.read_bytes;
        self.write_bytes += o.write_bytes;
        self.read_sectors += o.read_sectors;
        self.write_sectors += o.write_sectors;
        self.wavefronts += o.wavefronts;
        self.conflicts += o.conflicts;
        self.matrix_flop += o.matrix_flop;
    }
}

/// One PTX line's share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineCounts {
    /// Line in the module's text, from 1.
    pub line: u32,
    /// Class of its instructions; a line with several classes has an entry for each.
    pub class: Class,
    /// What they did.
    pub tally: Tally,
}

/// Everything counted in one launch. Sums of launches: `a += &b`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Launches summed here: 1 from a launch.
    pub launches: u64,
    /// Blocks run.
    pub blocks: u64,
    /// Threads run.
    pub threads: u64,
    /// Sum over all instructions.
    pub total: Tally,
    /// Warp instructions by class, in the order of [`Class::ALL`].
    pub classes: [u64; 22],
    /// Distinct 32-byte sectors of global memory read and written in the launch: what a perfect
    /// cache would move.
    pub distinct_read_sectors: u64,
    /// The same for stores.
    pub distinct_write_sectors: u64,
    /// By PTX line, ascending; only lines that ran. Empty in a sum of launches.
    pub lines: Vec<LineCounts>,
}

impl Counts {
    /// Warp instructions of one class.
    pub fn class(&self, class: Class) -> u64 {
        self.classes[class as usize]
    }

    /// Bytes in the sectors moved, read and written, per warp and instruction.
    pub fn sector_bytes(&self) -> u64 {
        32 * (self.total.read_sectors + self.total.write_sectors)
    }

    /// Bytes that a perfect cache would move.
    pub fn distinct_bytes(&self) -> u64 {
        32 * (self.distinct_read_sectors + self.distinct_write_sectors)
    }
}

impl AddAssign<&Counts> for Counts {
    fn add_assign(&mut self, o: &Counts) {
        self.launches += o.launches;
        self.blocks += o.blocks;
        self.threads += o.threads;
        self.total += o.total;
        for (a, b) in self.classes.iter_mut().zip(o.classes) {
            *a += b;
        }
        self.distinct_read_sectors += o.distinct_read_sectors;
        self.distinct_write_sectors += o.distinct_write_sectors;
        self.lines.clear();
    }
}
