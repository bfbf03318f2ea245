//! Numbers and their formats by arithmetic on whole numbers, which shares nothing with the emulator:
//! what bits stand for, how numbers are rounded, sums and products without any rounding.

use super::Kind::{self, Bf16, F16, F32, F64};
use super::evaluate;

/// A format: bits of exponent and of mantissa, below a sign.
#[derive(Clone, Copy, PartialEq)]
pub struct Format {
    pub name: &'static str,
    pub kind: Kind,
    pub exponent: u32,
    pub mantissa: u32,
    pub nan: u64,
}

pub const FORMATS: [Format; 4] = [
    Format { name: "bf16", kind: Bf16, exponent: 8, mantissa: 7, nan: 0x7fff },
    Format { name: "f16", kind: F16, exponent: 5, mantissa: 10, nan: 0x7fff },
    Format { name: "f32", kind: F32, exponent: 8, mantissa: 23, nan: 0x7fff_ffff },
    Format { name: "f64", kind: F64, exponent: 11, mantissa: 52, nan: 0x7ff8_0000_0000_0000 },
];

/// A finite number is (-1)^negative * digits * 2^power.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Nan,
    Infinite { negative: bool },
    Finite { negative: bool, digits: u128, power: i32 },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rounding {
    Nearest,
    Zero,
    Down,
    Up,
}

pub const ROUNDINGS: [(&str, Rounding); 4] = [
    ("rn", Rounding::Nearest),
    ("rz", Rounding::Zero),
    ("rm", Rounding::Down),
    ("rp", Rounding::Up),
];

impl Format {
    fn bias(self) -> i32 {
        (1 << (self.exponent - 1)) - 1
    }

    fn sign(self) -> u64 {
        1 << (self.exponent + self.mantissa)
    }

    fn infinity(self) -> u64 {
        ((1 << self.exponent) - 1) << self.mantissa
    }

    /// What the bits stand for.
    pub fn number(self, bits: u64) -> Number {
        let negative = bits & self.sign() != 0;
        let (exponent, mantissa) =
            ((bits & self.infinity()) >> self.mantissa, bits & ((1 << self.mantissa) - 1));
        let lowest = 1 - self.bias() - self.mantissa as i32;
        match exponent {
            0 => Number::Finite { negative, digits: mantissa.into(), power: lowest },
            e if e << self.mantissa == self.infinity() => {
                if mantissa == 0 {
                    Number::Infinite { negative }
                } else {
                    Number::Nan
                }
            }
            e => {
                let digits = u128::from(mantissa | 1 << self.mantissa);
                Number::Finite { negative, digits, power: lowest + e as i32 - 1 }
            }
        }
    }

    /// The bits that the number is rounded to.
    pub fn bits(self, number: Number, rounding: Rounding) -> u64 {
        let (negative, digits, power) = match number {
            Number::Nan => return self.nan,
            Number::Infinite { negative } => {
                return self.infinity() | if negative { self.sign() } else { 0 };
            }
            Number::Finite { negative, digits, power } => (negative, digits, power),
        };
        let sign = if negative { self.sign() } else { 0 };
        if digits == 0 {
            return sign;
        }
        // The unit of the last place that the format has at this size.
        let lowest = 1 - self.bias() - self.mantissa as i32;
        let size = power + 127 - digits.leading_zeros() as i32;
        let unit = (size - self.mantissa as i32).max(lowest);
        let mut count = shifted(digits, power - unit, rounding, negative);
        let mut unit = unit;
        if count == 2 << self.mantissa {
            (count, unit) = (count / 2, unit + 1);
        }
        let exponent = (unit - lowest) as u64 + u64::from(count >= 1 << self.mantissa);
        let bits = exponent << self.mantissa | (count as u64 & ((1 << self.mantissa) - 1));
        let inward = match rounding {
            Rounding::Nearest => false,
            Rounding::Zero => true,
            Rounding::Down => !negative,
            Rounding::Up => negative,
        };
        match bits >= self.infinity() {
            true if inward => sign | (self.infinity() - 1),
            true => sign | self.infinity(),
            false => sign | bits,
        }
    }

    /// Values around every rule: all of 16 bits; otherwise each sign and exponent (of f64 those that
    /// f32 has, and the ends) with mantissas that lie on ties of the narrower formats, next to them,
    /// and at random.
    pub fn values(self) -> Vec<u64> {
        let width = 1 + self.exponent + self.mantissa;
        if width == 16 {
            return (0..1 << 16).collect();
        }
        let mut seed = 7u64;
        let mut values = vec![];
        let ends = 1u64 << self.exponent;
        let narrow = |e: &u64| e.abs_diff(1 << (self.exponent - 1)) < 160;
        for exponent in (0..ends).filter(|e| *e < 3 || ends - e < 4 || narrow(e)) {
            let mut mantissas = vec![0, 1, (1 << self.mantissa) - 1];
            for kept in [0, 1, 2, 7, 10, 23].into_iter().filter(|&kept| kept < self.mantissa) {
                // Half a unit of what is kept, above an even and an odd digit.
                let half = 1u64 << (self.mantissa - kept - 1);
                for below in [0, 2 * half, (1 << self.mantissa) - 2 * half] {
                    let tie = (below | half) & ((1 << self.mantissa) - 1);
                    mantissas.extend([tie, tie.wrapping_sub(1), tie + 1]);
                }
            }
            for _ in 0..4 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                mantissas.push(seed >> 11);
            }
            for mantissa in mantissas {
                let bits = exponent << self.mantissa | mantissa & ((1 << self.mantissa) - 1);
                values.extend([bits, bits | self.sign()]);
            }
        }
        values
    }
}

/// digits * 2^by as a whole number.
pub fn shifted(digits: u128, by: i32, rounding: Rounding, negative: bool) -> u128 {
    if by >= 0 {
        return digits << by;
    }
    // Beyond 127 places nothing is left but a rest below one half.
    let by = by.unsigned_abs();
    let (whole, rest, half) = match by {
        0..=126 => (digits >> by, digits & ((1 << by) - 1), 1 << (by - 1)),
        _ => (0, u128::from(digits != 0), 2),
    };
    let up = match rounding {
        Rounding::Nearest => rest > half || rest == half && whole & 1 == 1,
        Rounding::Zero => false,
        Rounding::Down => negative && rest != 0,
        Rounding::Up => !negative && rest != 0,
    };
    whole + u128::from(up)
}

pub fn all(text: &str, to: Kind, from: Kind, values: &[u64], want: impl Fn(u64) -> u64) {
    let rows: Vec<Vec<u64>> = values.iter().map(|&v| vec![v]).collect();
    for (v, got) in values.iter().zip(evaluate(text, to, &[from], &rows)) {
        let want = want(*v);
        assert!(got == want, "{text} of {v:#x}: {got:#x}, expected {want:#x}");
    }
}

/// a * b.
pub fn product(a: Number, b: Number) -> Number {
    use Number::{Finite, Infinite, Nan};
    let sign = |a: bool, b: bool| a != b;
    match (a, b) {
        (Nan, _) | (_, Nan) => Nan,
        (Infinite { .. }, Finite { digits: 0, .. })
        | (Finite { digits: 0, .. }, Infinite { .. }) => Nan,
        (
            Finite { negative: n, digits, power },
            Finite { negative: other, digits: by, power: more },
        ) => Finite { negative: sign(n, other), digits: digits * by, power: power + more },
        (
            Infinite { negative: n } | Finite { negative: n, .. },
            Infinite { negative: other } | Finite { negative: other, .. },
        ) => Infinite { negative: sign(n, other) },
    }
}

/// a + b. What lies more than a hundred places below the larger counts as one last digit, which
/// rounds as it would.
pub fn sum(a: Number, b: Number) -> Number {
    use Number::{Finite, Infinite, Nan};
    let (a, b) = match (a, b) {
        (Nan, _) | (_, Nan) => return Nan,
        (Infinite { negative: n }, Infinite { negative: other }) if n != other => return Nan,
        (infinite @ Infinite { .. }, _) | (_, infinite @ Infinite { .. }) => return infinite,
        (Finite { negative: n, digits: 0, .. }, Finite { negative: other, digits: 0, .. }) => {
            return Finite { negative: n && other, digits: 0, power: 0 };
        }
        (Finite { digits: 0, .. }, b) => return b,
        (a, Finite { digits: 0, .. }) => return a,
        both => both,
    };
    let parts = |x: Number| match x {
        Finite { negative, digits, power } => (negative, digits, power),
        _ => unreachable!("finite from here on"),
    };
    let size = |(_, digits, power): (bool, u128, i32)| power + 127 - digits.leading_zeros() as i32;
    let (a, b) = (parts(a), parts(b));
    let unit = a.2.min(b.2).max(size(a).max(size(b)) - 100) - 2;
    let whole = |(negative, digits, power): (bool, u128, i32)| {
        let kept = shifted(digits, power - unit, Rounding::Zero, false);
        let lost = shifted(digits, power - unit, Rounding::Up, false) != kept;
        let kept = kept as i128 | i128::from(lost);
        if negative { -kept } else { kept }
    };
    let total = whole(a) + whole(b);
    Finite { negative: total < 0, digits: total.unsigned_abs(), power: unit }
}
