//! What is executed: each PTX instruction decoded once, its operands register slots.
//!
//! A warp has three register files: 32-bit (16-bit registers live there too, zero-extended), 64-bit,
//! and predicates, one bit a lane. Constants, symbol addresses and special registers are slots
//! filled when a warp starts, so that an operand is always a slot.

use crate::ast::{Space, Ty};
use crate::counts::Class;

/// Index into a register file.
pub(crate) type Slot = u16;

/// A slot of either width, for instructions that take both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Reg {
    R32(Slot),
    R64(Slot),
    Pred(Slot),
}

#[derive(Debug, Clone)]
pub(crate) struct Inst {
    pub op: Op,
    /// Predicate slot and whether it is negated.
    pub guard: Option<(Slot, bool)>,
    pub class: Class,
    pub line: u32,
    /// Index into `Program::tracks`, for registers that may be read before they are written.
    pub track: Option<u32>,
}

/// Registers of one instruction whose initialisation is only known at run time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Track {
    pub uses: Vec<Reg>,
    pub defs: Vec<Reg>,
    /// A move copies what is undefined instead of failing.
    pub copies: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Address {
    pub base: Reg,
    pub offset: i64,
}

/// A load or store: `n` elements of `width` bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access {
    pub space: Space,
    pub width: u8,
    pub n: u8,
    /// Sign-extend into wider registers.
    pub signed: bool,
    /// Relaxed, acquire, release or volatile: does not race.
    pub strong: bool,
    /// Bits of the destination registers.
    pub reg_bits: u8,
    pub regs: [Reg; 4],
    pub addr: Address,
}

impl Access {
    pub fn bytes(&self) -> usize {
        self.width as usize * self.n as usize
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtomOp {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Inc,
    Dec,
    Exch,
    Cas,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Atomic {
    pub space: Space,
    pub op: AtomOp,
    pub ty: Ty,
    pub addr: Address,
    /// Absent for `red`.
    pub d: Option<Reg>,
    pub a: Reg,
    /// The new value of `cas`.
    pub b: Option<Reg>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shuffle {
    Up,
    Down,
    Bfly,
    Idx,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vote {
    All,
    Any,
    Uni,
    Ballot,
}

/// Element type of a matrix instruction's factors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Factor {
    Bf16,
    F16,
    Tf32,
}

/// `mma.sync.aligned.m16n8kK.row.col.f32.T.T.f32`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mma {
    pub factor: Factor,
    pub k: u8,
    pub d: [Slot; 4],
    pub a: [Slot; 4],
    pub b: [Slot; 2],
    pub c: [Slot; 4],
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct CpAsync {
    pub dst: Address,
    pub src: Address,
    pub bytes: u8,
    /// Bytes to read; the rest of `bytes` becomes zero.
    pub src_size: Option<Slot>,
}

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Alu(Alu),
    Nop,
    Bra {
        target: u32,
    },
    BrxIdx {
        index: Slot,
        table: u32,
    },
    Call {
        target: u32,
        ret: Slot,
    },
    /// Of a function; a kernel's is `Exit`.
    Ret {
        ret: Slot,
    },
    Exit,
    Trap,
    Load(Access),
    Store(Access),
    /// A kernel parameter, the same for every lane.
    LoadParam {
        offset: u32,
        access: Access,
    },
    Atomic(Atomic),
    Fence,
    Barrier {
        id: Slot,
        threads: Option<Slot>,
        aligned: bool,
        arrive: bool,
    },
    WarpSync {
        mask: Slot,
    },
    Shuffle {
        mode: Shuffle,
        d: Slot,
        p: Option<Slot>,
        a: Slot,
        b: Slot,
        c: Slot,
        mask: Slot,
    },
    Vote {
        mode: Vote,
        d: Reg,
        a: Slot,
        negated: bool,
        mask: Slot,
    },
    Match {
        all: bool,
        d: Slot,
        p: Option<Slot>,
        a: Reg,
        mask: Slot,
    },
    Redux {
        op: AtomOp,
        signed: bool,
        d: Slot,
        a: Slot,
        mask: Slot,
    },
    ActiveMask {
        d: Slot,
    },
    Elect {
        d: Option<Slot>,
        p: Slot,
        mask: Slot,
    },
    Mma(Mma),
    LdMatrix {
        regs: [Slot; 4],
        n: u8,
        trans: bool,
        addr: Address,
    },
    StMatrix {
        regs: [Slot; 4],
        n: u8,
        trans: bool,
        addr: Address,
    },
    CpAsync(CpAsync),
    CpCommit,
    /// Waits until at most `pending` groups are under way.
    CpWait {
        pending: u32,
    },
    CpWaitAll,
    /// Copies an argument between two variables of a thread's frame.
    CopyFrame {
        dst: u32,
        src: u32,
        bytes: u32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Int1 {
    Neg,
    Abs,
    Not,
    Cnot,
    Clz,
    Popc,
    Brev,
    Bfind { shiftamt: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Int2 {
    Add,
    AddSat,
    Sub,
    SubSat,
    MulLo,
    MulHi,
    Div,
    Rem,
    Min,
    Max,
    And,
    Or,
    Xor,
    Shl,
    Shr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Int3 {
    MadLo,
    MadHi,
    Bfe,
    ShfLeft { clamp: bool },
    ShfRight { clamp: bool },
    Prmt,
    Lop3(u8),
    Sad,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum F1 {
    Abs,
    Neg,
    Sqrt,
    Rcp,
    Rsqrt,
    Ex2,
    Lg2,
    Sin,
    Cos,
    Tanh,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum F2 {
    Add,
    Sub,
    Mul,
    Div,
    Min,
    Max,
    /// `.NaN`: a NaN operand wins.
    MinNan,
    MaxNan,
    Copysign,
}

/// Half-precision formats, alone or in pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Half {
    pub bf16: bool,
    pub pair: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum H1 {
    Abs,
    Neg,
    Ex2,
    Tanh,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct FMods {
    /// Flush subnormal operands and results to zero.
    pub ftz: bool,
    /// Clamp to [0, 1], NaN to 0.
    pub sat: bool,
    /// `.approx` or `.full`: the result may err.
    pub approximate: bool,
    /// `.full`: the whole range of divisors.
    pub full: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cmp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// Float comparisons that hold for NaN.
    Equ,
    Neu,
    Ltu,
    Leu,
    Gtu,
    Geu,
    Num,
    Nan,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bool {
    And,
    Or,
    Xor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Round {
    /// To nearest, ties to even; for integers `.rni`.
    Nearest,
    /// To nearest, ties away from zero: `cvt.rna.tf32`.
    Away,
    Zero,
    Down,
    Up,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cvt {
    pub to: Ty,
    pub from: Ty,
    pub round: Option<Round>,
    pub ftz: bool,
    pub sat: bool,
    pub relu: bool,
    /// Bits of the destination register.
    pub width: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Testp {
    Finite,
    Infinite,
    Number,
    NotANumber,
    Normal,
    Subnormal,
}

/// Instructions on registers alone.
#[derive(Debug, Clone)]
pub(crate) enum Alu {
    Mov32(Slot, Slot),
    Mov64(Slot, Slot),
    MovPred(Slot, Slot),
    NotPred(Slot, Slot),
    Pred2(Bool, Slot, Slot, Slot),
    /// `mov` between one register and its parts, low part first.
    Pack {
        d: Reg,
        parts: [Slot; 4],
        n: u8,
    },
    Unpack {
        parts: [Slot; 4],
        n: u8,
        a: Reg,
    },
    Int1 {
        op: Int1,
        ty: Ty,
        d: Reg,
        a: Reg,
    },
    I32(Int2, bool, Slot, Slot, Slot),
    I64(Int2, bool, Slot, Slot, Slot),
    I16(Int2, bool, Slot, Slot, Slot),
    Int3 {
        op: Int3,
        ty: Ty,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    Bfi {
        wide: bool,
        d: Reg,
        a: Reg,
        b: Reg,
        pos: Slot,
        len: Slot,
    },
    /// Product of twice the width, plus `c` where there is one.
    Wide {
        ty: Ty,
        d: Reg,
        a: Slot,
        b: Slot,
        c: Option<Reg>,
    },
    /// Add or subtract with the lanes' carry bits.
    Carry {
        sub: bool,
        wide: bool,
        read: bool,
        write: bool,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    F32x1(F1, FMods, Slot, Slot),
    F32x2(F2, FMods, Slot, Slot, Slot),
    Fma32(FMods, Slot, Slot, Slot, Slot),
    F64x1(F1, Slot, Slot),
    F64x2(F2, Slot, Slot, Slot),
    Fma64(Slot, Slot, Slot, Slot),
    Half1(Half, H1, Slot, Slot),
    Half2(Half, F2, Slot, Slot, Slot),
    HalfFma(Half, bool, Slot, Slot, Slot, Slot),
    Testp {
        op: Testp,
        wide: bool,
        d: Slot,
        a: Reg,
    },
    Setp {
        cmp: Cmp,
        ty: Ty,
        ftz: bool,
        p: Slot,
        q: Option<Slot>,
        a: Reg,
        b: Reg,
        combine: Option<(Bool, Slot, bool)>,
    },
    Sel32(Slot, Slot, Slot, Slot),
    Sel64(Slot, Slot, Slot, Slot),
    SelPred(Slot, Slot, Slot, Slot),
    /// `a` where `c` is at least zero, else `b`.
    Slct {
        d: Reg,
        a: Reg,
        b: Reg,
        c: Slot,
        float: bool,
    },
    Cvt {
        cvt: Cvt,
        d: Reg,
        a: Reg,
    },
    /// `cvt.rn.T.f32 d, a, b`: `a` goes to the upper half.
    CvtPair {
        half: Half,
        round: Round,
        relu: bool,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    Cvta {
        to: bool,
        space: Space,
        d: Slot,
        a: Slot,
    },
    IsSpace {
        space: Space,
        p: Slot,
        a: Slot,
    },
    Clock {
        d: Reg,
    },
}

/// Where a slot's starting value comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Start {
    Bits(u64),
    /// Address of a module variable.
    Global(u32, i64),
    /// Address in shared memory: after the static variables.
    DynamicShared(i64),
    Special(Special),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Special {
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    LaneId,
    WarpId,
    NWarpId,
    SmId,
    LanemaskEq,
    LanemaskLt,
    LanemaskLe,
    LanemaskGt,
    LanemaskGe,
    DynamicSharedSize,
    TotalSharedSize,
}

#[derive(Debug, Clone)]
pub(crate) struct Param {
    pub offset: usize,
    pub size: usize,
}

/// One kernel and the functions it calls, callees first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Program {
    pub name: String,
    pub code: Vec<Inst>,
    pub entry: u32,
    pub tracks: Vec<Track>,
    pub tables: Vec<Vec<u32>>,
    pub r32: usize,
    pub r64: usize,
    pub preds: usize,
    pub starts: Vec<(Reg, Start)>,
    /// Bytes of local memory a thread has: variables, parameters and arguments of functions.
    pub frame: usize,
    pub static_shared: usize,
    pub dynamic_align: usize,
    pub params: Vec<Param>,
    pub param_bytes: usize,
    pub max_threads: Option<[u32; 3]>,
    pub req_threads: Option<[u32; 3]>,
    /// log2 of the bytes of the narrowest access that may go to global memory.
    pub granule: u32,
    /// Module variables the code names.
    pub globals: Vec<u32>,
}
