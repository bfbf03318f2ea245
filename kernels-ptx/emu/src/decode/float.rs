//! Floating point. Rounding other than to nearest is refused.

use super::{Builder, Mods};
use crate::ast::{Operand, Ty};
use crate::counts::Class;
use crate::error::Result;
use crate::ir::{Alu, F1, F2, FMods, H1, Half, Reg, Testp};

impl<'a> Builder<'a> {
    pub(super) fn float(
        &mut self,
        m: &mut Mods,
        ty: Ty,
        ops: &'a [Operand<'a>],
    ) -> Result<(Alu, Class)> {
        if m.base == "testp" {
            return self.testp(m, ty, ops);
        }
        let full = m.take("full");
        let mods = FMods {
            ftz: m.take("ftz"),
            sat: m.take("sat"),
            approximate: m.take("approx") | full,
            full,
        };
        let nan = m.take("NaN");
        m.take("rn");
        match ty {
            Ty::F32 => self.f32(m, mods, nan, ops),
            // `rcp.approx.ftz.f64` and its kind see 20 bits of the mantissa.
            Ty::F64 if mods.approximate => self.unsupported("approximation of f64"),
            Ty::F64 if mods != FMods::default() => self.unsupported("this modifier on f64"),
            Ty::F64 => self.f64(m, nan, ops),
            Ty::Bf16 | Ty::Bf16x2 | Ty::F16 | Ty::F16x2 => {
                if mods.ftz && matches!(ty, Ty::F16 | Ty::F16x2) || mods.sat {
                    return self.unsupported("this modifier on half precision");
                }
                let half = Half {
                    bf16: matches!(ty, Ty::Bf16 | Ty::Bf16x2),
                    pair: matches!(ty, Ty::Bf16x2 | Ty::F16x2),
                };
                self.half(m, half, ty, nan, ops)
            }
            _ => self.unsupported(format!("`{}` on this type", m.base)),
        }
    }

    fn f32(
        &mut self,
        m: &mut Mods,
        mods: FMods,
        nan: bool,
        ops: &'a [Operand<'a>],
    ) -> Result<(Alu, Class)> {
        let ty = Ty::F32;
        match ops {
            [d, a] => {
                let Some((op, class)) = f1(m.base) else { return self.operands_error() };
                let a = self.src32(a, ty)?;
                Ok((Alu::F32x1(op, mods, self.dst32(d, ty)?, a), class))
            }
            [d, a, b] => {
                let Some((op, class)) = f2(m.base, nan) else { return self.operands_error() };
                // copysign a, b: the sign of a, the magnitude of b.
                let (a, b) = (self.src32(a, ty)?, self.src32(b, ty)?);
                Ok((Alu::F32x2(op, mods, self.dst32(d, ty)?, a, b), class))
            }
            [d, a, b, c] if matches!(m.base, "fma" | "mad") => {
                let (a, b, c) = (self.src32(a, ty)?, self.src32(b, ty)?, self.src32(c, ty)?);
                Ok((Alu::Fma32(mods, self.dst32(d, ty)?, a, b, c), Class::F32))
            }
            _ => self.operands_error(),
        }
    }

    fn f64(&mut self, m: &mut Mods, nan: bool, ops: &'a [Operand<'a>]) -> Result<(Alu, Class)> {
        let ty = Ty::F64;
        match ops {
            [d, a] => {
                let Some((op @ (F1::Abs | F1::Neg | F1::Sqrt | F1::Rcp), _)) = f1(m.base) else {
                    return self.unsupported(format!("`{}` on f64", m.base));
                };
                let a = self.src64(a, ty)?;
                Ok((Alu::F64x1(op, self.dst64(d, ty)?, a), Class::F64))
            }
            [d, a, b] => {
                let Some((op, _)) = f2(m.base, nan) else { return self.operands_error() };
                let (a, b) = (self.src64(a, ty)?, self.src64(b, ty)?);
                Ok((Alu::F64x2(op, self.dst64(d, ty)?, a, b), Class::F64))
            }
            [d, a, b, c] if matches!(m.base, "fma" | "mad") => {
                let (a, b, c) = (self.src64(a, ty)?, self.src64(b, ty)?, self.src64(c, ty)?);
                Ok((Alu::Fma64(self.dst64(d, ty)?, a, b, c), Class::F64))
            }
            _ => self.operands_error(),
        }
    }

    fn half(
        &mut self,
        m: &mut Mods,
        half: Half,
        ty: Ty,
        nan: bool,
        ops: &'a [Operand<'a>],
    ) -> Result<(Alu, Class)> {
        let relu = m.take("relu");
        if relu && m.base != "fma" {
            return self.unsupported("`.relu` here");
        }
        match ops {
            [d, a] => {
                let op = match m.base {
                    "abs" => H1::Abs,
                    "neg" => H1::Neg,
                    "ex2" => H1::Ex2,
                    "tanh" => H1::Tanh,
                    base => return self.unsupported(format!("`{base}` on half precision")),
                };
                let a = self.src32(a, ty)?;
                Ok((Alu::Half1(half, op, self.dst32(d, ty)?, a), Class::Half))
            }
            [d, a, b] => {
                let op = match f2(m.base, nan) {
                    Some((F2::Div | F2::Copysign, _)) | None => {
                        return self.unsupported(format!("`{}` on half precision", m.base));
                    }
                    Some((op, _)) => op,
                };
                let (a, b) = (self.src32(a, ty)?, self.src32(b, ty)?);
                Ok((Alu::Half2(half, op, self.dst32(d, ty)?, a, b), Class::Half))
            }
            [d, a, b, c] if m.base == "fma" => {
                let (a, b, c) = (self.src32(a, ty)?, self.src32(b, ty)?, self.src32(c, ty)?);
                Ok((Alu::HalfFma(half, relu, self.dst32(d, ty)?, a, b, c), Class::Half))
            }
            _ => self.operands_error(),
        }
    }

    fn testp(&mut self, m: &mut Mods, ty: Ty, ops: &'a [Operand<'a>]) -> Result<(Alu, Class)> {
        let [p, a] = ops else { return self.operands_error() };
        let op = m.take_map(|w| {
            Some(match w {
                "finite" => Testp::Finite,
                "infinite" => Testp::Infinite,
                "number" => Testp::Number,
                "notanumber" => Testp::NotANumber,
                "normal" => Testp::Normal,
                "subnormal" => Testp::Subnormal,
                _ => return None,
            })
        });
        let (Some(op), Ty::F32 | Ty::F64) = (op, ty) else {
            return self.unsupported("this testp");
        };
        let a = self.src(a, ty)?;
        let wide = matches!(a, Reg::R64(_));
        Ok((Alu::Testp { op, wide, d: self.dst_pred(p)?, a }, Class::Compare))
    }
}

fn f1(base: &str) -> Option<(F1, Class)> {
    Some(match base {
        "abs" => (F1::Abs, Class::F32),
        "neg" => (F1::Neg, Class::F32),
        "sqrt" => (F1::Sqrt, Class::Special),
        "rcp" => (F1::Rcp, Class::Special),
        "rsqrt" => (F1::Rsqrt, Class::Special),
        "ex2" => (F1::Ex2, Class::Special),
        "lg2" => (F1::Lg2, Class::Special),
        "sin" => (F1::Sin, Class::Special),
        "cos" => (F1::Cos, Class::Special),
        "tanh" => (F1::Tanh, Class::Special),
        _ => return None,
    })
}

fn f2(base: &str, nan: bool) -> Option<(F2, Class)> {
    Some(match base {
        "add" => (F2::Add, Class::F32),
        "sub" => (F2::Sub, Class::F32),
        "mul" => (F2::Mul, Class::F32),
        "div" => (F2::Div, Class::Special),
        "min" if nan => (F2::MinNan, Class::F32),
        "max" if nan => (F2::MaxNan, Class::F32),
        "min" => (F2::Min, Class::F32),
        "max" => (F2::Max, Class::F32),
        "copysign" => (F2::Copysign, Class::F32),
        _ => return None,
    })
}
