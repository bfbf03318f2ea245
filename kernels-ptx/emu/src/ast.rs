//! The syntax of a PTX module, names still being text.

use crate::hardware::Target;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    Generic,
    Global,
    Shared,
    Local,
    Const,
    Param,
}

/// PTX's fundamental types. `B` types have a size and no meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Ty {
    Pred,
    B8,
    B16,
    B32,
    B64,
    B128,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    Tf32,
    F32,
    F64,
}

impl Ty {
    pub fn parse(s: &str) -> Option<Ty> {
        Some(match s {
            "pred" => Ty::Pred,
            "b8" => Ty::B8,
            "b16" => Ty::B16,
            "b32" => Ty::B32,
            "b64" => Ty::B64,
            "b128" => Ty::B128,
            "u8" => Ty::U8,
            "u16" => Ty::U16,
            "u32" => Ty::U32,
            "u64" => Ty::U64,
            "s8" => Ty::S8,
            "s16" => Ty::S16,
            "s32" => Ty::S32,
            "s64" => Ty::S64,
            "f16" => Ty::F16,
            "f16x2" => Ty::F16x2,
            "bf16" => Ty::Bf16,
            "bf16x2" => Ty::Bf16x2,
            "tf32" => Ty::Tf32,
            "f32" => Ty::F32,
            "f64" => Ty::F64,
            _ => return None,
        })
    }

    /// Size in bytes; a predicate has none.
    pub fn bytes(self) -> usize {
        match self {
            Ty::Pred => 0,
            Ty::B8 | Ty::U8 | Ty::S8 => 1,
            Ty::B16 | Ty::U16 | Ty::S16 | Ty::F16 | Ty::Bf16 => 2,
            Ty::B32 | Ty::U32 | Ty::S32 | Ty::F32 | Ty::Tf32 | Ty::F16x2 | Ty::Bf16x2 => 4,
            Ty::B64 | Ty::U64 | Ty::S64 | Ty::F64 => 8,
            Ty::B128 => 16,
        }
    }

    pub fn bits(self) -> u32 {
        self.bytes() as u32 * 8
    }

    pub fn signed(self) -> bool {
        matches!(self, Ty::S8 | Ty::S16 | Ty::S32 | Ty::S64)
    }

    pub fn unsigned(self) -> bool {
        matches!(self, Ty::U8 | Ty::U16 | Ty::U32 | Ty::U64)
    }

    pub fn integer(self) -> bool {
        self.signed() || self.unsigned()
    }

    /// An integer, or bits taken as one.
    pub fn integral(self) -> bool {
        self.integer() || matches!(self, Ty::B8 | Ty::B16 | Ty::B32 | Ty::B64)
    }
}

#[derive(Debug)]
pub(crate) enum Init<'a> {
    Int(u64),
    F32(u32),
    F64(u64),
    /// Address of a variable, plus an offset.
    Symbol(&'a str, i64),
}

#[derive(Debug)]
pub(crate) struct Var<'a> {
    pub line: u32,
    pub space: Space,
    pub name: &'a str,
    pub ty: Ty,
    pub align: usize,
    /// Bytes; 0 for `.extern .shared x[]`, whose size the launch gives.
    pub size: usize,
    pub init: Vec<Init<'a>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operand<'a> {
    Name(&'a str),
    NameOffset(&'a str, i64),
    Not(&'a str),
    Int(u64),
    F32(u32),
    F64(u64),
    Mem {
        base: Base<'a>,
        offset: i64,
        coords: Vec<Operand<'a>>,
    },
    Vec(Vec<Operand<'a>>),
    /// `p|q`
    Pair(&'a str, &'a str),
    /// `(a, b)` of a call
    List(Vec<&'a str>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Base<'a> {
    Name(&'a str),
    Int(u64),
}

#[derive(Debug, Clone)]
pub(crate) struct Guard<'a> {
    pub pred: &'a str,
    pub negated: bool,
}

#[derive(Debug)]
pub(crate) struct Instr<'a> {
    pub line: u32,
    pub guard: Option<Guard<'a>>,
    pub name: &'a str,
    pub operands: Vec<Operand<'a>>,
}

#[derive(Debug)]
pub(crate) enum Stmt<'a> {
    Label(&'a str),
    Reg {
        line: u32,
        ty: Ty,
        name: &'a str,
        count: Option<u32>,
    },
    Var(Var<'a>),
    Open,
    Close,
    /// `label: .branchtargets a, b;`
    Targets(&'a str, Vec<&'a str>),
    Instr(Instr<'a>),
}

#[derive(Debug)]
pub(crate) struct Func<'a> {
    pub line: u32,
    pub entry: bool,
    pub name: &'a str,
    pub rets: Vec<Var<'a>>,
    pub params: Vec<Var<'a>>,
    pub max_threads: Option<[u32; 3]>,
    pub req_threads: Option<[u32; 3]>,
    /// Absent in a declaration.
    pub body: Option<Vec<Stmt<'a>>>,
}

#[derive(Debug, Default)]
pub(crate) struct Ast<'a> {
    pub version: (u32, u32),
    pub target: Option<Target>,
    pub vars: Vec<Var<'a>>,
    pub funcs: Vec<Func<'a>>,
}
