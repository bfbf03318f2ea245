//! Moves, integers, logic, comparisons, selections, conversions.

use super::{Builder, Mods};
use crate::ast::{Operand, Space, Ty};
use crate::counts::Class;
use crate::error::Result;
use crate::ir::{Alu, Bool, Cmp, Cvt, Half, Int1, Int2, Int3, Reg, Round};

/// Moves hand on what is undefined.
pub(super) fn is_move(a: &Alu) -> bool {
    matches!(
        a,
        Alu::Mov32(..)
            | Alu::Mov64(..)
            | Alu::MovPred(..)
            | Alu::Pack { .. }
            | Alu::Unpack { .. }
            | Alu::SelPred(..)
            | Alu::Sel32(..)
            | Alu::Sel64(..)
    )
}

impl<'a> Builder<'a> {
    pub(super) fn alu(&mut self, m: &mut Mods, ops: &'a [Operand<'a>]) -> Result<(Alu, Class)> {
        match m.base {
            "mov" => self.mov(m, ops),
            "cvt" => self.cvt(m, ops),
            "cvta" => self.cvta(m, ops),
            "isspacep" => self.isspacep(m, ops),
            "setp" => self.setp(m, ops),
            "selp" => self.selp(m, ops),
            "slct" => self.slct(m, ops),
            "and" | "or" | "xor" | "not" if m.rest.contains(&"pred") => self.pred_logic(m, ops),
            "addc" | "subc" => self.carry(m, ops),
            "add" | "sub" if m.rest.contains(&"cc") => self.carry(m, ops),
            "mad" | "bfe" | "shf" | "prmt" | "lop3" | "sad" | "bfi" => self.int3(m, ops),
            "add" | "sub" | "mul" | "div" | "rem" | "min" | "max" | "and" | "or" | "xor"
            | "shl" | "shr" => match m.take_ty() {
                Some(ty) if ty.integral() => self.int2(m, ty, ops),
                Some(ty) => self.float(m, ty, ops),
                None => self.parse_error("an instruction without a type"),
            },
            "neg" | "abs" | "not" | "cnot" | "clz" | "popc" | "brev" | "bfind" => {
                match m.take_ty() {
                    Some(ty) if ty.integral() => self.int1(m, ty, ops),
                    Some(ty) => self.float(m, ty, ops),
                    None => self.parse_error("an instruction without a type"),
                }
            }
            "fma" | "sqrt" | "rcp" | "rsqrt" | "ex2" | "lg2" | "sin" | "cos" | "tanh"
            | "copysign" | "testp" => match m.take_ty() {
                Some(ty) => self.float(m, ty, ops),
                None => self.parse_error("an instruction without a type"),
            },
            base => self.unsupported(format!("`{base}`")),
        }
    }

    fn mov(&mut self, m: &mut Mods, ops: &'a [Operand<'a>]) -> Result<(Alu, Class)> {
        let Some(ty) = m.take_ty() else { return self.parse_error("mov without a type") };
        let [d, a] = ops else { return self.operands_error() };
        let alu = match (d, a) {
            (Operand::Vec(parts), a) => {
                let (part, n) = self.part_type(ty, parts.len())?;
                let a = self.src(a, ty)?;
                let mut slots = [0; 4];
                for (slot, p) in slots.iter_mut().zip(parts) {
                    *slot = self.dst32(p, part)?;
                }
                Alu::Unpack { parts: slots, n, a }
            }
            (d, Operand::Vec(parts)) => {
                let (part, n) = self.part_type(ty, parts.len())?;
                let mut slots = [0; 4];
                for (slot, p) in slots.iter_mut().zip(parts) {
                    *slot = self.src32(p, part)?;
                }
                Alu::Pack { d: self.dst(d, ty)?, parts: slots, n }
            }
            (d, Operand::Name("%clock" | "%clock64" | "%globaltimer" | "%clock_hi")) => {
                Alu::Clock { d: self.dst(d, ty)? }
            }
            (d, a) if ty == Ty::Pred => {
                let (p, negated) = self.pred(a)?;
                let d = self.dst_pred(d)?;
                if negated { Alu::NotPred(d, p) } else { Alu::MovPred(d, p) }
            }
            (d, a) => {
                let a = self.src(a, ty)?;
                match (self.dst(d, ty)?, a) {
                    (Reg::R32(d), Reg::R32(a)) => Alu::Mov32(d, a),
                    (Reg::R64(d), Reg::R64(a)) => Alu::Mov64(d, a),
                    _ => return self.operands_error(),
                }
            }
        };
        Ok((alu, Class::Move))
    }

    fn part_type(&self, ty: Ty, n: usize) -> Result<(Ty, u8)> {
        match (ty.bytes(), n) {
            (4, 2) | (8, 4) => Ok((Ty::B16, n as u8)),
            (8, 2) => Ok((Ty::B32, 2)),
            _ => self.unsupported(format!("mov between {} bits and {n} parts", ty.bits())),
        }
    }

    fn int1(&mut self, m: &mut Mods, ty: Ty, ops: &'a [Operand<'a>]) -> Result<(Alu, Class)> {
        let [d, a] = ops else { return self.operands_error() };
        let op = match m.base {
            "neg" => Int1::Neg,
            "abs" => Int1::Abs,
            "not" => Int1::Not,
            "cnot" => Int1::Cnot,
            "clz" => Int1::Clz,
            "popc" => Int1::Popc,
            "brev" => Int1::Brev,
            _ => Int1::Bfind { shiftamt: m.take("shiftamt") },
        };
        let counts = matches!(op, Int1::Clz | Int1::Popc | Int1::Bfind { .. });
        let d_ty = if counts { Ty::U32 } else { ty };
        let a = self.src(a, ty)?;
        Ok((Alu::Int1 { op, ty, d: self.dst(d, d_ty)?, a }, Class::Integer))
    }

    fn int2(&mut self, m: &mut Mods, ty: Ty, ops: &'a [Operand<'a>]) -> Result<(Alu, Class)> {
        let [d, a, b] = ops else { return self.operands_error() };
        if m.base == "mul" && m.take("wide") {
            let (a, b) = (self.src32(a, ty)?, self.src32(b, ty)?);
            let d = self.dst(d, double(ty))?;
            return Ok((Alu::Wide { ty, d, a, b, c: None }, Class::Integer));
        }
        let (base, sat) = (m.base, m.take("sat"));
        let op = match base {
            "add" if sat => Int2::AddSat,
            "sub" if sat => Int2::SubSat,
            _ if sat => return self.unsupported("`.sat` here"),
            "add" => Int2::Add,
            "sub" => Int2::Sub,
            "mul" if m.take("hi") => Int2::MulHi,
            "mul" if m.take("lo") => Int2::MulLo,
            "mul" => return self.parse_error("mul without .lo, .hi or .wide"),
            "div" => Int2::Div,
            "rem" => Int2::Rem,
            "min" => Int2::Min,
            "max" => Int2::Max,
            "and" => Int2::And,
            "or" => Int2::Or,
            "xor" => Int2::Xor,
            "shl" => Int2::Shl,
            _ => Int2::Shr,
        };
        let logic = matches!(op, Int2::And | Int2::Or | Int2::Xor | Int2::Shl | Int2::Shr);
        if !logic && !ty.integer() {
            return self.parse_error("arithmetic on bits");
        }
        let b_ty = if matches!(op, Int2::Shl | Int2::Shr) { Ty::U32 } else { ty };
        let signed = ty.signed();
        let a = self.src(a, ty)?;
        let b = self.src(b, b_ty)?;
        let d = self.dst(d, ty)?;
        let alu = match (ty.bytes(), d, a, b) {
            (4, Reg::R32(d), Reg::R32(a), Reg::R32(b)) => Alu::I32(op, signed, d, a, b),
            (2, Reg::R32(d), Reg::R32(a), Reg::R32(b)) => Alu::I16(op, signed, d, a, b),
            (8, Reg::R64(d), Reg::R64(a), Reg::R64(b) | Reg::R32(b)) => {
                Alu::I64(op, signed, d, a, b)
            }
            _ => return self.operands_error(),
        };
        Ok((alu, Class::Integer))
    }

    fn int3(&mut self, m: &mut Mods, ops: &'a [Operand<'a>]) -> Result<(Alu, Class)> {
        let base = m.base;
        let direction = (m.take("l"), m.take("r"), m.take("wrap"), m.take("clamp"));
        let Some(ty) = m.take_ty() else {
            return self.parse_error("an instruction without a type");
        };
        if base == "mad" && !ty.integral() {
            return self.float(m, ty, ops);
        }
        if base == "mad" && m.take("wide") {
            let [d, a, b, c] = ops else { return self.operands_error() };
            let (a, b) = (self.src32(a, ty)?, self.src32(b, ty)?);
            let c = Some(self.src(c, double(ty))?);
            let d = self.dst(d, double(ty))?;
            return Ok((Alu::Wide { ty, d, a, b, c }, Class::Integer));
        }
        if base == "bfi" {
            let [d, a, b, pos, len] = ops else { return self.operands_error() };
            let (a, b) = (self.src(a, ty)?, self.src(b, ty)?);
            let (pos, len) = (self.src32(pos, Ty::U32)?, self.src32(len, Ty::U32)?);
            let d = self.dst(d, ty)?;
            let wide = ty.bytes() == 8;
            return Ok((Alu::Bfi { wide, d, a, b, pos, len }, Class::Integer));
        }
        let (op, third) = match (base, direction) {
            ("mad", _) if m.take("lo") => (Int3::MadLo, ty),
            ("mad", _) if m.take("hi") => (Int3::MadHi, ty),
            ("sad", _) => (Int3::Sad, ty),
            ("bfe", _) => (Int3::Bfe, Ty::U32),
            ("prmt", _) => (Int3::Prmt, Ty::U32),
            ("shf", (true, false, wrap, clamp)) if wrap != clamp => {
                (Int3::ShfLeft { clamp }, Ty::U32)
            }
            ("shf", (false, true, wrap, clamp)) if wrap != clamp => {
                (Int3::ShfRight { clamp }, Ty::U32)
            }
            ("lop3", _) => {
                let [.., Operand::Int(table)] = ops else { return self.operands_error() };
                (Int3::Lop3(*table as u8), ty)
            }
            _ => return self.unsupported(format!("this form of `{base}`")),
        };
        let (d, a, b, c) = match (ops, op) {
            ([d, a, b, c, _], Int3::Lop3(_)) => (d, a, b, c),
            ([d, a, b, c], _) if !matches!(op, Int3::Lop3(_)) => (d, a, b, c),
            _ => return self.operands_error(),
        };
        let second = if op == Int3::Bfe { Ty::U32 } else { ty };
        let (a, b, c) = (self.src(a, ty)?, self.src(b, second)?, self.src(c, third)?);
        Ok((Alu::Int3 { op, ty, d: self.dst(d, ty)?, a, b, c }, Class::Integer))
    }

    fn carry(&mut self, m: &mut Mods, ops: &'a [Operand<'a>]) -> Result<(Alu, Class)> {
        let [d, a, b] = ops else { return self.operands_error() };
        let Some(ty) = m.take_ty() else {
            return self.parse_error("an instruction without a type");
        };
        let (sub, read) = (m.base.starts_with("sub"), m.base.ends_with('c'));
        let write = m.take("cc");
        let (a, b, d) = (self.src(a, ty)?, self.src(b, ty)?, self.dst(d, ty)?);
        let alu = match (d, a, b) {
            (Reg::R32(d), Reg::R32(a), Reg::R32(b)) if ty.bytes() == 4 => {
                Alu::Carry { sub, wide: false, read, write, d, a, b }
            }
            (Reg::R64(d), Reg::R64(a), Reg::R64(b)) => {
                Alu::Carry { sub, wide: true, read, write, d, a, b }
            }
            _ => return self.operands_error(),
        };
        Ok((alu, Class::Integer))
    }

    fn pred_logic(&mut self, m: &mut Mods, ops: &'a [Operand<'a>]) -> Result<(Alu, Class)> {
        m.take("pred");
        let alu = match (m.base, ops) {
            ("not", [d, a]) => {
                let (a, negated) = self.pred(a)?;
                let d = self.dst_pred(d)?;
                if negated { Alu::MovPred(d, a) } else { Alu::NotPred(d, a) }
            }
            (base, [d, a, b]) => {
                let op = match base {
                    "and" => Bool::And,
                    "or" => Bool::Or,
                    _ => Bool::Xor,
                };
                let ((a, false), (b, false)) = (self.pred(a)?, self.pred(b)?) else {
                    return self.unsupported("a negated operand here");
                };
                Alu::Pred2(op, self.dst_pred(d)?, a, b)
            }
            _ => return self.operands_error(),
        };
        Ok((alu, Class::Compare))
    }

    fn setp(&mut self, m: &mut Mods, ops: &'a [Operand<'a>]) -> Result<(Alu, Class)> {
        let ftz = m.take("ftz");
        let Some(ty) = m.take_ty() else { return self.parse_error("setp without a type") };
        let Some(cmp) = m.take_map(|w| comparison(w, ty)) else {
            return self.unsupported("this comparison");
        };
        let bool_op = m.take_map(|w| match w {
            "and" => Some(Bool::And),
            "or" => Some(Bool::Or),
            "xor" => Some(Bool::Xor),
            _ => None,
        });
        if matches!(ty, Ty::F16x2 | Ty::Bf16x2) {
            return self.unsupported("comparison of pairs");
        }
        let (d, a, b, combine) = match (ops, bool_op) {
            ([d, a, b], None) => (d, a, b, None),
            ([d, a, b, c], Some(op)) => {
                let (c, negated) = self.pred(c)?;
                (d, a, b, Some((op, c, negated)))
            }
            _ => return self.operands_error(),
        };
        let (a, b) = (self.src(a, ty)?, self.src(b, ty)?);
        let (p, q) = match d {
            Operand::Pair(p, q) => (self.dst_pred_name(p)?, Some(self.dst_pred_name(q)?)),
            _ => (self.dst_pred(d)?, None),
        };
        Ok((Alu::Setp { cmp, ty, ftz, p, q, a, b, combine }, Class::Compare))
    }

    fn selp(&mut self, m: &mut Mods, ops: &'a [Operand<'a>]) -> Result<(Alu, Class)> {
        let ([d, a, b, p], Some(ty)) = (ops, m.take_ty()) else { return self.operands_error() };
        let (p, negated) = self.pred(p)?;
        let (a, b) = if negated { (b, a) } else { (a, b) };
        if ty == Ty::Pred {
            let ((a, false), (b, false)) = (self.pred(a)?, self.pred(b)?) else {
                return self.unsupported("a negated operand here");
            };
            return Ok((Alu::SelPred(self.dst_pred(d)?, a, b, p), Class::Compare));
        }
        let (a, b) = (self.src(a, ty)?, self.src(b, ty)?);
        let alu = match (self.dst(d, ty)?, a, b) {
            (Reg::R32(d), Reg::R32(a), Reg::R32(b)) => Alu::Sel32(d, a, b, p),
            (Reg::R64(d), Reg::R64(a), Reg::R64(b)) => Alu::Sel64(d, a, b, p),
            _ => return self.operands_error(),
        };
        Ok((alu, Class::Compare))
    }

    fn slct(&mut self, m: &mut Mods, ops: &'a [Operand<'a>]) -> Result<(Alu, Class)> {
        m.take("ftz");
        let [d, a, b, c] = ops else { return self.operands_error() };
        let (Some(ty), Some(cty)) = (m.take_ty(), m.take_ty()) else {
            return self.parse_error("slct without two types");
        };
        let (a, b, c) = (self.src(a, ty)?, self.src(b, ty)?, self.src32(c, cty)?);
        let d = self.dst(d, ty)?;
        Ok((Alu::Slct { d, a, b, c, float: cty == Ty::F32 }, Class::Compare))
    }

    fn cvt(&mut self, m: &mut Mods, ops: &'a [Operand<'a>]) -> Result<(Alu, Class)> {
        let round = m.take_map(|w| match w {
            "rn" | "rni" => Some(Round::Nearest),
            "rna" => Some(Round::Away),
            "rz" | "rzi" => Some(Round::Zero),
            "rm" | "rmi" => Some(Round::Down),
            "rp" | "rpi" => Some(Round::Up),
            _ => None,
        });
        let (ftz, sat, relu) = (m.take("ftz"), m.take("sat"), m.take("relu"));
        let (Some(to), Some(from)) = (m.take_ty(), m.take_ty()) else {
            return self.parse_error("cvt without two types");
        };
        if let Ty::F16x2 | Ty::Bf16x2 = to {
            let half = Half { bf16: to == Ty::Bf16x2, pair: true };
            let ([d, a, b], Ty::F32, false, false) = (ops, from, sat, ftz) else {
                return self.unsupported("this conversion");
            };
            let Some(round @ (Round::Nearest | Round::Zero)) = round else {
                return self.unsupported("this rounding");
            };
            let (a, b) = (self.src32(a, from)?, self.src32(b, from)?);
            let d = self.dst32(d, to)?;
            return Ok((Alu::CvtPair { half, round, relu, d, a, b }, Class::Convert));
        }
        let [d, a] = ops else { return self.operands_error() };
        let narrow_half = matches!(to, Ty::Bf16 | Ty::F16 | Ty::Tf32);
        let refused = matches!(from, Ty::F16x2 | Ty::Bf16x2 | Ty::Tf32 | Ty::Pred | Ty::B128)
            || matches!(to, Ty::Pred | Ty::B128 | Ty::B8 | Ty::B16 | Ty::B32 | Ty::B64)
            || (relu && !narrow_half)
            || (to == Ty::Tf32 && (from != Ty::F32 || sat));
        if refused {
            return self.unsupported("this conversion");
        }
        if round == Some(Round::Away) && to != Ty::Tf32 {
            return self.unsupported("`.rna` here");
        }
        let (a, a_ty) = self.src_any(a, from)?;
        if a_ty.is_some_and(|t| t.bytes() < from.bytes()) {
            return self.parse_error("a source register narrower than its type");
        }
        let (d, d_ty) = self.dst_any(d, to)?;
        if d_ty.bytes() < to.bytes() || (d_ty.bytes() > to.bytes() && !to.integer()) {
            return self.parse_error("a destination register of another width than its type");
        }
        let cvt = Cvt { to, from, round, ftz, sat, relu, width: d_ty.bits() as u8 };
        Ok((Alu::Cvt { cvt, d, a }, Class::Convert))
    }

    fn cvta(&mut self, m: &mut Mods, ops: &'a [Operand<'a>]) -> Result<(Alu, Class)> {
        let [d, a] = ops else { return self.operands_error() };
        let to = m.take("to");
        let Some(space) = m.take_map(space) else { return self.unsupported("this state space") };
        if m.take_ty().map(|t| t.bytes()) != Some(8) {
            return self.unsupported("32-bit addresses");
        }
        let (a, d) = (self.src64(a, Ty::U64)?, self.dst64(d, Ty::U64)?);
        Ok((Alu::Cvta { to, space, d, a }, Class::Integer))
    }

    fn isspacep(&mut self, m: &mut Mods, ops: &'a [Operand<'a>]) -> Result<(Alu, Class)> {
        let [p, a] = ops else { return self.operands_error() };
        let Some(space) = m.take_map(space) else { return self.unsupported("this state space") };
        let (a, p) = (self.src64(a, Ty::U64)?, self.dst_pred(p)?);
        Ok((Alu::IsSpace { space, p, a }, Class::Compare))
    }
}

/// A state space by its name in an opcode.
pub(super) fn space(word: &str) -> Option<Space> {
    Some(match word {
        "global" => Space::Global,
        "shared" | "shared::cta" => Space::Shared,
        "local" => Space::Local,
        "const" => Space::Const,
        "param" | "param::entry" | "param::func" => Space::Param,
        _ => return None,
    })
}

fn double(ty: Ty) -> Ty {
    match ty {
        Ty::U16 => Ty::U32,
        Ty::S16 => Ty::S32,
        Ty::S32 => Ty::S64,
        _ => Ty::U64,
    }
}

fn comparison(word: &str, ty: Ty) -> Option<Cmp> {
    let float = matches!(ty, Ty::F16 | Ty::Bf16 | Ty::F32 | Ty::F64);
    Some(match word {
        "eq" => Cmp::Eq,
        "ne" => Cmp::Ne,
        "lt" => Cmp::Lt,
        "le" => Cmp::Le,
        "gt" => Cmp::Gt,
        "ge" => Cmp::Ge,
        // Unsigned comparisons have names of their own.
        "lo" if ty.unsigned() => Cmp::Lt,
        "ls" if ty.unsigned() => Cmp::Le,
        "hi" if ty.unsigned() => Cmp::Gt,
        "hs" if ty.unsigned() => Cmp::Ge,
        "equ" if float => Cmp::Equ,
        "neu" if float => Cmp::Neu,
        "ltu" if float => Cmp::Ltu,
        "leu" if float => Cmp::Leu,
        "gtu" if float => Cmp::Gtu,
        "geu" if float => Cmp::Geu,
        "num" if float => Cmp::Num,
        "nan" if float => Cmp::Nan,
        _ => return None,
    })
}
