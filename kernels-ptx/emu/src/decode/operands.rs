//! Operands to slots. Outside loads, stores and conversions a register must have the
//! instruction's width.

use super::{Builder, Place};
use crate::ast::{Base, Operand, Ty};
use crate::error::Result;
use crate::ir::{Address, Reg, Slot, Special, Start};

impl<'a> Builder<'a> {
    fn unknown<T>(&self, name: &str) -> Result<T> {
        self.parse_error(format!("`{name}` is not declared"))
    }

    pub(super) fn pred_reg(&mut self, name: &str) -> Result<Slot> {
        match self.find_reg(name) {
            Some((Reg::Pred(p), _)) => {
                self.uses.push(Reg::Pred(p));
                Ok(p)
            }
            Some(_) => self.parse_error(format!("`{name}` is no predicate")),
            None => self.unknown(name),
        }
    }

    /// A predicate operand and whether it is negated.
    pub(super) fn pred(&mut self, op: &Operand<'a>) -> Result<(Slot, bool)> {
        match op {
            Operand::Name(n) => Ok((self.pred_reg(n)?, false)),
            Operand::Not(n) => Ok((self.pred_reg(n)?, true)),
            Operand::Int(v) => Ok((self.const_pred(*v != 0)?, false)),
            _ => self.operands_error(),
        }
    }

    /// A predicate that is always `value`.
    pub(super) fn const_pred(&mut self, value: bool) -> Result<Slot> {
        let start = Start::Bits(if value { u32::MAX as u64 } else { 0 });
        let known =
            self.program.starts.iter().find(|(r, s)| matches!(r, Reg::Pred(_)) && *s == start);
        let reg = match known {
            Some((reg, _)) => *reg,
            None => {
                let reg = self.new_slot(Ty::Pred)?;
                self.program.starts.push((reg, start));
                reg
            }
        };
        let Reg::Pred(p) = reg else { unreachable!("a predicate slot") };
        Ok(p)
    }

    pub(super) fn dst_pred(&mut self, op: &Operand<'a>) -> Result<Slot> {
        let Operand::Name(name) = op else { return self.operands_error() };
        self.dst_pred_name(name)
    }

    pub(super) fn dst_pred_name(&mut self, name: &str) -> Result<Slot> {
        let reg = match self.find_reg(name) {
            _ if name == "_" => self.new_slot(Ty::Pred)?,
            Some((reg, _)) => reg,
            None => return self.unknown(name),
        };
        let Reg::Pred(p) = reg else {
            return self.parse_error(format!("`{name}` is no predicate"));
        };
        self.defs.push(reg);
        Ok(p)
    }

    /// The destination register, whatever its width; `_` is a register nobody reads.
    pub(super) fn dst_any(&mut self, op: &Operand<'a>, ty: Ty) -> Result<(Reg, Ty)> {
        let Operand::Name(name) = op else { return self.operands_error() };
        if *name == "_" {
            return Ok((self.new_slot(ty)?, ty));
        }
        let Some((reg, declared)) = self.find_reg(name) else { return self.unknown(name) };
        self.defs.push(reg);
        Ok((reg, declared))
    }

    pub(super) fn dst(&mut self, op: &Operand<'a>, ty: Ty) -> Result<Reg> {
        let (reg, declared) = self.dst_any(op, ty)?;
        self.check_width(declared, ty)?;
        Ok(reg)
    }

    fn check_width(&self, declared: Ty, ty: Ty) -> Result<()> {
        if declared.bytes() != ty.bytes() {
            return self.parse_error(format!(
                "a register of {} bits where the instruction has {}",
                declared.bits(),
                ty.bits()
            ));
        }
        Ok(())
    }

    pub(super) fn dst32(&mut self, op: &Operand<'a>, ty: Ty) -> Result<Slot> {
        match self.dst(op, ty)? {
            Reg::R32(s) => Ok(s),
            _ => self.operands_error(),
        }
    }

    pub(super) fn dst64(&mut self, op: &Operand<'a>, ty: Ty) -> Result<Slot> {
        match self.dst(op, ty)? {
            Reg::R64(s) => Ok(s),
            _ => self.operands_error(),
        }
    }

    /// A source of the instruction's width.
    pub(super) fn src(&mut self, op: &Operand<'a>, ty: Ty) -> Result<Reg> {
        let (reg, declared) = self.src_any(op, ty)?;
        if let Some(declared) = declared {
            self.check_width(declared, ty)?;
        }
        Ok(reg)
    }

    /// A source and, if it is a declared register, its type.
    pub(super) fn src_any(&mut self, op: &Operand<'a>, ty: Ty) -> Result<(Reg, Option<Ty>)> {
        let wide = ty.bytes() == 8;
        let bits = match op {
            Operand::Int(v) if matches!(ty, Ty::F32 | Ty::F64) => {
                return self.unsupported(format!("the integer {v} as a float operand"));
            }
            Operand::Int(v) => match ty.bytes() {
                1 => *v as u8 as u64,
                2 => *v as u16 as u64,
                4 => *v as u32 as u64,
                _ => *v,
            },
            Operand::F32(v) => *v as u64,
            Operand::F64(v) if wide => *v,
            Operand::F64(v) => (f64::from_bits(*v) as f32).to_bits() as u64,
            Operand::Name(name) => return self.named_source(name, wide),
            Operand::NameOffset(name, offset) => {
                return Ok((self.symbol(name, *offset, wide)?, None));
            }
            _ => return self.operands_error(),
        };
        Ok((self.constant(wide, bits)?, None))
    }

    fn named_source(&mut self, name: &str, wide: bool) -> Result<(Reg, Option<Ty>)> {
        if let Some((reg, ty)) = self.find_reg(name) {
            self.uses.push(reg);
            return Ok((reg, Some(ty)));
        }
        if name == "WARP_SZ" {
            return Ok((self.constant(wide, 32)?, None));
        }
        if let Some(special) = special(name) {
            return Ok((self.start(wide, Start::Special(special))?, None));
        }
        if name.starts_with('%') {
            return self.unsupported(format!("the register `{name}`, neither declared nor known"));
        }
        Ok((self.symbol(name, 0, wide)?, None))
    }

    /// Address of a variable within its own state space.
    fn symbol(&mut self, name: &str, offset: i64, wide: bool) -> Result<Reg> {
        let start = match self.place(name) {
            None => return self.unknown(name),
            Some(Place::Global(_)) if !wide => {
                return self.parse_error("a global address in 32 bits");
            }
            Some(Place::Global(i)) => Start::Global(i, offset),
            Some(Place::DynamicShared) => Start::DynamicShared(offset),
            Some(Place::Shared(at) | Place::Frame(at) | Place::Param(at)) => {
                Start::Bits((at as i64 + offset) as u64)
            }
        };
        self.start(wide, start)
    }

    pub(super) fn src32(&mut self, op: &Operand<'a>, ty: Ty) -> Result<Slot> {
        match self.src(op, ty)? {
            Reg::R32(s) => Ok(s),
            _ => self.operands_error(),
        }
    }

    pub(super) fn src64(&mut self, op: &Operand<'a>, ty: Ty) -> Result<Slot> {
        match self.src(op, ty)? {
            Reg::R64(s) => Ok(s),
            _ => self.operands_error(),
        }
    }

    /// `[register + offset]` or `[variable + offset]`. A kernel parameter or a frame variable
    /// comes back with its place.
    pub(super) fn address(&mut self, op: &Operand<'a>) -> Result<(Address, Option<Place>)> {
        let Operand::Mem { base, offset, coords } = op else { return self.operands_error() };
        if !coords.is_empty() {
            return self.unsupported("tensor coordinates");
        }
        let name = match base {
            Base::Int(v) => {
                return Ok((Address { base: self.constant(true, *v)?, offset: *offset }, None));
            }
            Base::Name(name) => name,
        };
        if let Some((reg, _)) = self.find_reg(name) {
            self.uses.push(reg);
            if matches!(reg, Reg::Pred(_)) {
                return self.operands_error();
            }
            return Ok((Address { base: reg, offset: *offset }, None));
        }
        let Some(place) = self.place(name) else { return self.unknown(name) };
        let base = self.symbol(name, 0, true)?;
        Ok((Address { base, offset: *offset }, Some(place)))
    }
}

fn special(name: &str) -> Option<Special> {
    let axis = |s: &str| match s {
        ".x" => Some(0),
        ".y" => Some(1),
        ".z" => Some(2),
        _ => None,
    };
    for (prefix, make) in [
        ("%tid", Special::Tid as fn(u8) -> Special),
        ("%ntid", Special::Ntid),
        ("%ctaid", Special::Ctaid),
        ("%nctaid", Special::Nctaid),
    ] {
        if let Some(a) = name.strip_prefix(prefix).and_then(axis) {
            return Some(make(a));
        }
    }
    Some(match name {
        "%laneid" => Special::LaneId,
        "%warpid" => Special::WarpId,
        "%nwarpid" => Special::NWarpId,
        "%smid" => Special::SmId,
        "%lanemask_eq" => Special::LanemaskEq,
        "%lanemask_lt" => Special::LanemaskLt,
        "%lanemask_le" => Special::LanemaskLe,
        "%lanemask_gt" => Special::LanemaskGt,
        "%lanemask_ge" => Special::LanemaskGe,
        "%dynamic_smem_size" => Special::DynamicSharedSize,
        "%total_smem_size" => Special::TotalSharedSize,
        _ => return None,
    })
}
