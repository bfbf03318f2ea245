//! Loads, stores, atomics, fences, asynchronous copies.

use super::alu::space;
use super::{Builder, Mods, Place};
use crate::ast::{Operand, Space, Ty};
use crate::counts::Class;
use crate::error::Result;
use crate::ir::{Access, Address, AtomOp, Atomic, CpAsync, Op, Reg};

/// Bytes of an access that may go to global memory.
pub(super) fn global_bytes(op: &Op) -> Option<usize> {
    match op {
        Op::Load(a) | Op::Store(a) => {
            let may = matches!(a.space, Space::Global | Space::Generic | Space::Const);
            may.then_some(a.bytes())
        }
        Op::Atomic(a) => Some(a.ty.bytes()),
        Op::CpAsync(c) => Some(c.bytes.into()),
        _ => None,
    }
}

impl<'a> Builder<'a> {
    /// Takes what does not change the result: cache hints, scopes. True if the access is strong.
    fn hints(&self, m: &mut Mods) -> Result<bool> {
        if m.take("L2::cache_hint") {
            return self.unsupported("cache policies");
        }
        m.take("weak");
        let strong = m.take("volatile")
            | m.take("relaxed")
            | m.take("acquire")
            | m.take("release")
            | m.take("acq_rel");
        for word in ["cta", "gpu", "sys", "ca", "cg", "cs", "lu", "cv", "wb", "wt", "nc"] {
            m.take(word);
        }
        if m.take("cluster") {
            return self.unsupported("clusters");
        }
        m.rest.retain(|w| !w.starts_with("L1::") && !w.starts_with("L2::"));
        Ok(strong)
    }

    fn access(&mut self, m: &mut Mods) -> Result<(Access, Ty)> {
        let strong = self.hints(m)?;
        let space = m.take_map(space).unwrap_or(Space::Generic);
        let n = m.take_map(|w| match w {
            "v2" => Some(2),
            "v4" => Some(4),
            _ => None,
        });
        let Some(ty) = m.take_ty() else { return self.parse_error("an access without a type") };
        if matches!(ty, Ty::Pred | Ty::B128) {
            return self.unsupported("an access of this type");
        }
        let (width, n) = (ty.bytes() as u8, n.unwrap_or(1));
        if width * n > 16 {
            return self.unsupported("an access wider than 16 bytes");
        }
        let regs = [Reg::R32(0); 4];
        let addr = Address { base: Reg::R32(0), offset: 0 };
        Ok((Access { space, width, n, signed: ty.signed(), strong, reg_bits: 32, regs, addr }, ty))
    }

    pub(super) fn load(&mut self, m: &mut Mods, ops: &'a [Operand<'a>]) -> Result<(Op, Class)> {
        let [d, from] = ops else { return self.operands_error() };
        let (mut access, ty) = self.access(m)?;
        let (addr, place) = self.address(from)?;
        access.addr = addr;
        let parts = std::slice::from_ref(d);
        let parts = if let Operand::Vec(parts) = d { &parts[..] } else { parts };
        if parts.len() != access.n as usize {
            return self.operands_error();
        }
        for (i, part) in parts.iter().enumerate() {
            let (reg, declared) = self.dst_any(part, ty)?;
            if declared.bytes() < ty.bytes() {
                return self.parse_error("a register narrower than the load");
            }
            access.regs[i] = reg;
            access.reg_bits = declared.bits() as u8;
        }
        match (access.space, place) {
            (Space::Param, Some(Place::Param(at))) => {
                let offset = (at as i64 + access.addr.offset) as u32;
                return Ok((Op::LoadParam { offset, access }, Class::Constant));
            }
            (Space::Param, Some(Place::Frame(_))) => access.space = Space::Local,
            (Space::Param, _) => return self.unsupported("a computed parameter address"),
            _ => {}
        }
        let class = match access.space {
            Space::Global => Class::GlobalLoad,
            Space::Shared => Class::SharedLoad,
            Space::Local => Class::Local,
            Space::Const | Space::Param => Class::Constant,
            Space::Generic => Class::Generic,
        };
        Ok((Op::Load(access), class))
    }

    pub(super) fn store(&mut self, m: &mut Mods, ops: &'a [Operand<'a>]) -> Result<(Op, Class)> {
        let [to, a] = ops else { return self.operands_error() };
        let (mut access, ty) = self.access(m)?;
        let (addr, place) = self.address(to)?;
        access.addr = addr;
        let parts = std::slice::from_ref(a);
        let parts = if let Operand::Vec(parts) = a { &parts[..] } else { parts };
        if parts.len() != access.n as usize {
            return self.operands_error();
        }
        for (i, part) in parts.iter().enumerate() {
            let (reg, declared) = self.src_any(part, ty)?;
            if declared.is_some_and(|t| t.bytes() < ty.bytes()) {
                return self.parse_error("a register narrower than the store");
            }
            access.regs[i] = reg;
        }
        let class = match (access.space, place) {
            (Space::Param, Some(Place::Frame(_))) => {
                access.space = Space::Local;
                Class::Local
            }
            (Space::Global, _) => Class::GlobalStore,
            (Space::Shared, _) => Class::SharedStore,
            (Space::Local, _) => Class::Local,
            (Space::Generic, _) => Class::Generic,
            _ => return self.parse_error("a store to memory that is read-only"),
        };
        Ok((Op::Store(access), class))
    }

    pub(super) fn atomic(&mut self, m: &mut Mods, ops: &'a [Operand<'a>]) -> Result<(Op, Class)> {
        let red = m.base == "red";
        self.hints(m)?;
        m.take("noftz");
        let space = m.take_map(space).unwrap_or(Space::Generic);
        let op = m.take_map(|w| {
            Some(match w {
                "add" => AtomOp::Add,
                "min" => AtomOp::Min,
                "max" => AtomOp::Max,
                "and" => AtomOp::And,
                "or" => AtomOp::Or,
                "xor" => AtomOp::Xor,
                "inc" => AtomOp::Inc,
                "dec" => AtomOp::Dec,
                "exch" => AtomOp::Exch,
                "cas" => AtomOp::Cas,
                _ => return None,
            })
        });
        let (Some(op), Some(ty)) = (op, m.take_ty()) else {
            return self.unsupported("this atomic operation");
        };
        let known = match op {
            AtomOp::Add => matches!(ty, Ty::U32 | Ty::S32 | Ty::U64 | Ty::S64 | Ty::F32 | Ty::F64),
            AtomOp::Min | AtomOp::Max => ty.integer() && ty.bytes() >= 4,
            AtomOp::Inc | AtomOp::Dec => ty == Ty::U32,
            _ => ty.integral() && ty.bytes() >= 4,
        };
        if !known || !matches!(space, Space::Generic | Space::Global | Space::Shared) {
            return self.unsupported("this atomic operation");
        }
        let (d, ops) = match ops {
            [d, rest @ ..] if !red => (Some(d), rest),
            _ => (None, ops),
        };
        let (to, a, b) = match ops {
            [to, a] if op != AtomOp::Cas => (to, a, None),
            [to, a, b] if op == AtomOp::Cas => (to, a, Some(b)),
            _ => return self.operands_error(),
        };
        let (addr, _) = self.address(to)?;
        let a = self.src(a, ty)?;
        let b = b.map(|b| self.src(b, ty)).transpose()?;
        let d = d.map(|d| self.dst(d, ty)).transpose()?;
        Ok((Op::Atomic(Atomic { space, op, ty, addr, d, a, b }), Class::Atomic))
    }

    pub(super) fn fence(&mut self, m: &mut Mods) -> Result<(Op, Class)> {
        for word in ["sc", "acq_rel", "acquire", "release", "cta", "gl", "gpu", "sys"] {
            m.take(word);
        }
        Ok((Op::Fence, Class::Fence))
    }

    /// `cp.async` and its groups; bulk copies are refused.
    pub(super) fn copy(&mut self, m: &mut Mods, ops: &'a [Operand<'a>]) -> Result<(Op, Class)> {
        if !m.take("async") || m.take("bulk") {
            return self.unsupported("this copy");
        }
        if m.take("commit_group") {
            return Ok((Op::CpCommit, Class::AsyncCopy));
        }
        if m.take("wait_all") {
            return Ok((Op::CpWaitAll, Class::AsyncCopy));
        }
        if m.take("wait_group") {
            let [Operand::Int(n)] = ops else { return self.operands_error() };
            return Ok((Op::CpWait { pending: *n as u32 }, Class::AsyncCopy));
        }
        let (ca, cg) = (m.take("ca"), m.take("cg"));
        self.hints(m)?;
        let spaces = (m.take("shared") | m.take("shared::cta"), m.take("global"));
        if ca == cg || spaces != (true, true) {
            return self.unsupported("this copy");
        }
        let (dst, src, bytes, size) = match ops {
            [dst, src, Operand::Int(bytes)] => (dst, src, *bytes, None),
            [dst, src, Operand::Int(bytes), size] => (dst, src, *bytes, Some(size)),
            _ => return self.operands_error(),
        };
        if !(bytes == 16 || (ca && (bytes == 4 || bytes == 8))) {
            return self.parse_error("cp.async copies 4, 8 or 16 bytes, .cg only 16");
        }
        let (dst, _) = self.address(dst)?;
        let (src, _) = self.address(src)?;
        let src_size = size.map(|s| self.src32(s, Ty::U32)).transpose()?;
        let copy = CpAsync { dst, src, bytes: bytes as u8, src_size };
        Ok((Op::CpAsync(copy), Class::AsyncCopy))
    }
}
