//! What lanes do together: barriers, shuffles, votes, matrix instructions.

use super::{Builder, Mods};
use crate::ast::{Operand, Ty};
use crate::counts::Class;
use crate::error::Result;
use crate::ir::{AtomOp, Factor, Mma, Op, Shuffle, Slot, Vote};

impl<'a> Builder<'a> {
    pub(super) fn warp_op(&mut self, m: &mut Mods, ops: &'a [Operand<'a>]) -> Result<(Op, Class)> {
        match m.base {
            "bar" | "barrier" => return Ok((self.barrier(m, ops)?, Class::Barrier)),
            "activemask" => {
                m.take_ty();
                let [d] = ops else { return self.operands_error() };
                return Ok((Op::ActiveMask { d: self.dst32(d, Ty::B32)? }, Class::Warp));
            }
            _ => {}
        }
        if !m.take("sync") {
            return self.unsupported("a warp instruction without `.sync`");
        }
        let op = match m.base {
            "shfl" => self.shuffle(m, ops)?,
            "vote" => self.vote(m, ops)?,
            "match" => self.matches(m, ops)?,
            "redux" => self.redux(m, ops)?,
            _ => self.elect(ops)?,
        };
        Ok((op, Class::Warp))
    }

    fn barrier(&mut self, m: &mut Mods, ops: &'a [Operand<'a>]) -> Result<Op> {
        let short = m.base == "bar";
        if short && m.take("warp") {
            m.take("sync");
            let [mask] = ops else { return self.operands_error() };
            return Ok(Op::WarpSync { mask: self.src32(mask, Ty::B32)? });
        }
        m.take("cta");
        if m.rest.iter().any(|w| matches!(*w, "red" | "cluster")) {
            return self.unsupported("this barrier");
        }
        let arrive = m.take("arrive");
        let aligned = m.take("aligned") || short;
        if m.take("sync") == arrive {
            return self.unsupported("this barrier");
        }
        let (id, threads) = match ops {
            [id] if !arrive => (id, None),
            [id, n] => (id, Some(n)),
            _ => return self.operands_error(),
        };
        let id = self.src32(id, Ty::U32)?;
        let threads = threads.map(|n| self.src32(n, Ty::U32)).transpose()?;
        Ok(Op::Barrier { id, threads, aligned, arrive })
    }

    /// `d` or `d|p`.
    fn pair(&mut self, op: &Operand<'a>, ty: Ty) -> Result<(Slot, Option<Slot>)> {
        match op {
            Operand::Pair(d, p) => {
                let d = self.dst32(&Operand::Name(d), ty)?;
                Ok((d, Some(self.dst_pred_name(p)?)))
            }
            _ => Ok((self.dst32(op, ty)?, None)),
        }
    }

    fn shuffle(&mut self, m: &mut Mods, ops: &'a [Operand<'a>]) -> Result<Op> {
        let mode = m.take_map(|w| {
            Some(match w {
                "up" => Shuffle::Up,
                "down" => Shuffle::Down,
                "bfly" => Shuffle::Bfly,
                "idx" => Shuffle::Idx,
                _ => return None,
            })
        });
        let ([d, a, b, c, mask], Some(mode), Some(_)) = (ops, mode, m.take_ty()) else {
            return self.operands_error();
        };
        let (a, b) = (self.src32(a, Ty::B32)?, self.src32(b, Ty::B32)?);
        let (c, mask) = (self.src32(c, Ty::B32)?, self.src32(mask, Ty::B32)?);
        let (d, p) = self.pair(d, Ty::B32)?;
        Ok(Op::Shuffle { mode, d, p, a, b, c, mask })
    }

    fn vote(&mut self, m: &mut Mods, ops: &'a [Operand<'a>]) -> Result<Op> {
        let mode = m.take_map(|w| {
            Some(match w {
                "all" => Vote::All,
                "any" => Vote::Any,
                "uni" => Vote::Uni,
                "ballot" => Vote::Ballot,
                _ => return None,
            })
        });
        let ([d, a, mask], Some(mode), Some(ty)) = (ops, mode, m.take_ty()) else {
            return self.operands_error();
        };
        let (a, negated) = self.pred(a)?;
        let mask = self.src32(mask, Ty::B32)?;
        let d = self.dst(d, ty)?;
        if (mode == Vote::Ballot) != (ty == Ty::B32) {
            return self.parse_error("a vote with another type of result");
        }
        Ok(Op::Vote { mode, d, a, negated, mask })
    }

    fn matches(&mut self, m: &mut Mods, ops: &'a [Operand<'a>]) -> Result<Op> {
        let all = m.take("all");
        if all == m.take("any") {
            return self.unsupported("this match");
        }
        let ([d, a, mask], Some(ty)) = (ops, m.take_ty()) else { return self.operands_error() };
        let (a, mask) = (self.src(a, ty)?, self.src32(mask, Ty::B32)?);
        let (d, p) = self.pair(d, Ty::B32)?;
        Ok(Op::Match { all, d, p, a, mask })
    }

    fn redux(&mut self, m: &mut Mods, ops: &'a [Operand<'a>]) -> Result<Op> {
        let op = m.take_map(|w| {
            Some(match w {
                "add" => AtomOp::Add,
                "min" => AtomOp::Min,
                "max" => AtomOp::Max,
                "and" => AtomOp::And,
                "or" => AtomOp::Or,
                "xor" => AtomOp::Xor,
                _ => return None,
            })
        });
        let ([d, a, mask], Some(op), Some(ty)) = (ops, op, m.take_ty()) else {
            return self.unsupported("this reduction");
        };
        if !ty.integral() || ty.bytes() != 4 {
            return self.unsupported("this reduction");
        }
        let (a, mask) = (self.src32(a, ty)?, self.src32(mask, Ty::B32)?);
        Ok(Op::Redux { op, signed: ty.signed(), d: self.dst32(d, ty)?, a, mask })
    }

    fn elect(&mut self, ops: &'a [Operand<'a>]) -> Result<Op> {
        let [Operand::Pair(d, p), mask] = ops else { return self.operands_error() };
        let mask = self.src32(mask, Ty::B32)?;
        let d = match *d {
            "_" => None,
            d => Some(self.dst32(&Operand::Name(d), Ty::B32)?),
        };
        Ok(Op::Elect { d, p: self.dst_pred_name(p)?, mask })
    }

    pub(super) fn matrix(&mut self, m: &mut Mods, ops: &'a [Operand<'a>]) -> Result<(Op, Class)> {
        if !m.take("sync") || !m.take("aligned") {
            return self.unsupported("a matrix instruction without `.sync.aligned`");
        }
        if m.base == "mma" {
            return Ok((self.mma(m, ops)?, Class::Matrix));
        }
        let n = m.take_map(|w| match w {
            "x1" => Some(1),
            "x2" => Some(2),
            "x4" => Some(4),
            _ => None,
        });
        let trans = m.take("trans");
        let shape = m.take("m8n8") && (m.take("shared") | m.take("shared::cta"));
        let (Some(n), true, Some(Ty::B16)) = (n, shape, m.take_ty()) else {
            return self.unsupported("this shape of matrix");
        };
        let load = m.base == "ldmatrix";
        let (list, addr) = match ops {
            [list, addr] if load => (list, addr),
            [addr, list] => (list, addr),
            _ => return self.operands_error(),
        };
        let (addr, _) = self.address(addr)?;
        let regs = self.slots::<4>(list, n as usize, load)?;
        if load {
            Ok((Op::LdMatrix { regs, n, trans, addr }, Class::SharedLoad))
        } else {
            Ok((Op::StMatrix { regs, n, trans, addr }, Class::SharedStore))
        }
    }

    /// `{r, r, ...}` of `n` 32-bit registers, or one register alone.
    fn slots<const N: usize>(
        &mut self,
        op: &'a Operand<'a>,
        n: usize,
        write: bool,
    ) -> Result<[Slot; N]> {
        let parts = match op {
            Operand::Vec(parts) => &parts[..],
            one => std::slice::from_ref(one),
        };
        if parts.len() != n || n > N {
            return self.parse_error(format!("{n} registers were expected"));
        }
        let mut out = [0; N];
        for (slot, p) in out.iter_mut().zip(parts) {
            *slot = if write { self.dst32(p, Ty::B32)? } else { self.src32(p, Ty::B32)? };
        }
        Ok(out)
    }

    fn mma(&mut self, m: &mut Mods, ops: &'a [Operand<'a>]) -> Result<Op> {
        let shape = m.take_map(|w| match w {
            "m16n8k16" => Some(16),
            "m16n8k8" => Some(8),
            "m16n8k4" => Some(4),
            _ => None,
        });
        let layouts = m.take("row") && m.take("col");
        let types = [m.take_ty(), m.take_ty(), m.take_ty(), m.take_ty()];
        let [Some(Ty::F32), Some(ta), Some(tb), Some(Ty::F32)] = types else {
            return self.unsupported("these types of matrix");
        };
        let (k, factor) = match (shape, ta) {
            (Some(k @ (8 | 16)), Ty::Bf16) => (k, Factor::Bf16),
            (Some(k @ (8 | 16)), Ty::F16) => (k, Factor::F16),
            (Some(k @ (4 | 8)), Ty::Tf32) => (k, Factor::Tf32),
            _ => return self.unsupported("this shape of matrix"),
        };
        if ta != tb || !layouts {
            return self.unsupported("these types or layouts of matrix");
        }
        let [d, a, b, c] = ops else { return self.operands_error() };
        let n = if factor == Factor::Tf32 { k as usize / 2 } else { k as usize / 4 };
        let (a, b) = (self.slots(a, n, false)?, self.slots(b, n / 2, false)?);
        let c = self.slots(c, 4, false)?;
        let d = self.slots(d, 4, true)?;
        Ok(Op::Mma(Mma { factor, k, d, a, b, c }))
    }
}
