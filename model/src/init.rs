//! How weights start. An element's value is a function of the seed, the parameter's name and the
//! element's index alone: the same for any number of threads, any order of the table, and, because
//! only exactly rounded operations are used, on every machine.
//!
//! Random bits: the SplitMix64 finaliser over a counter (Steele, Lea and Flood 2014). Normal
//! values: Box and Muller 1958, the logarithm, sine and cosine as short series in f64.
//!
//! ```
//! use engine::Device;
//! use model::weights::Weights;
//! use model::{Config, init, table};
//!
//! let (dev, (table, slots)) = (Device::cpu(1).unwrap(), table(&Config::stories_260k()));
//! let mut weights = Weights::<f32>::zeros(&dev, &table);
//! init::fill(&dev, &mut weights, &table, 42);
//! weights.refresh().unwrap();
//! assert!(weights.get(slots.norm).unwrap().iter().all(|&gain| gain == 1.0));
//! ```

use crate::weights::Weights;
use engine::{Device, Element, Init, Table};
use rayon::prelude::*;

/// Elements a thread fills at once: a pair of elements shares 64 random bits, so it is even.
const CHUNK: usize = 1 << 16;

/// Fills `weights` as `table` says; [`Weights::refresh`] must follow. Gaps between parameters stay as
/// they are.
pub fn fill<E: Element<Acc = f32>>(
    dev: &Device,
    weights: &mut Weights<E>,
    table: &Table,
    seed: u64,
) {
    dev.install(|| {
        for row in table.rows() {
            weights.fill_with(row.slot, |out| match row.init {
                Init::Zeros => out.fill(0.0),
                Init::Ones => out.fill(1.0),
                Init::Normal(std) => fill_normal(out, key(seed, &row.name), std.into()),
            });
        }
    });
}

fn fill_normal(out: &mut [f32], key: u64, std: f64) {
    out.par_chunks_mut(CHUNK).enumerate().for_each(|(c, chunk)| {
        let first = (c * CHUNK / 2) as u64;
        let (pairs, last) = chunk.as_chunks_mut::<2>();
        let last_pair = first + pairs.len() as u64;
        for (counter, pair) in (first..).zip(pairs) {
            *pair = normal_pair(bits(key, counter)).map(|x| (x * std) as f32);
        }
        for x in last {
            *x = (normal_pair(bits(key, last_pair))[0] * std) as f32;
        }
    });
}

/// One stream of random bits for each seed and name: FNV-1a of both.
fn key(seed: u64, name: &str) -> u64 {
    let bytes = seed.to_le_bytes().into_iter().chain(name.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(hash)
}

/// 64 random bits.
fn bits(key: u64, counter: u64) -> u64 {
    mix(key.wrapping_add(counter.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Two independent standard normal values. The upper half of `bits` gives the radius, the lower
/// the angle: two bits a quarter turn, the rest an angle in -pi/4..pi/4 beside it.
fn normal_pair(bits: u64) -> [f64; 2] {
    let (high, low) = ((bits >> 32) as u32, bits as u32);
    let uniform = (f64::from(high) + 0.5) * 2f64.powi(-32);
    let radius = (-2.0 * ln(uniform)).sqrt();
    let turn = f64::from(low & 0x3fff_ffff) + 0.5;
    let angle = (turn * 2f64.powi(-30) - 0.5) * std::f64::consts::FRAC_PI_2;
    let (sin, cos) = sin_cos(angle);
    let [x, y] = if low & 1 << 30 == 0 { [cos, sin] } else { [-sin, cos] };
    let radius = if low & 1 << 31 == 0 { radius } else { -radius };
    [radius * x, radius * y]
}

/// Natural logarithm of a normal x > 0, within 1e-10: ln m = 2 atanh((m - 1) / (m + 1)) for a
/// mantissa m between sqrt(1/2) and sqrt(2).
fn ln(x: f64) -> f64 {
    const MANTISSA: u64 = (1 << 52) - 1;
    const SQRT_HALF: u64 = 0x3fe6_a09e_667f_3bcd;
    // Subtracting the bits of sqrt(1/2) makes the exponent field change where the mantissa wraps.
    let offset = x.to_bits().wrapping_sub(SQRT_HALF);
    let exponent = (offset as i64 >> 52) as f64;
    let m = f64::from_bits((offset & MANTISSA) + SQRT_HALF);
    let s = (m - 1.0) / (m + 1.0);
    let q = s * s;
    let series = [11.0, 9.0, 7.0, 5.0, 3.0, 1.0].iter().fold(0.0, |sum, n| sum * q + 1.0 / n);
    exponent * std::f64::consts::LN_2 + 2.0 * s * series
}

/// Sine and cosine of an angle in -pi/4..pi/4 by their power series, within 1e-11.
fn sin_cos(a: f64) -> (f64, f64) {
    let q = -a * a;
    let horner = |steps: [f64; 6]| steps.iter().fold(1.0, |sum, n| 1.0 + sum * q * (1.0 / n));
    let sin = a * horner([156.0, 110.0, 72.0, 42.0, 20.0, 6.0]);
    let cos = horner([132.0, 90.0, 56.0, 30.0, 12.0, 2.0]);
    (sin, cos)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the machine's own functions, over the whole range of the random bits.
    #[test]
    fn series_agree_with_libm() {
        for i in 0..100_000u64 {
            let bits = match i {
                0 => 0,
                1 => u64::MAX,
                _ => mix(i),
            };
            let uniform = ((bits >> 32) as f64 + 0.5) / 4_294_967_296.0;
            assert!((ln(uniform) - uniform.ln()).abs() < 1e-10, "ln {uniform}");
            let turns = (bits as u32 as f64 + 0.5) / 4_294_967_296.0 - 0.125;
            let (sin, cos) = (turns * std::f64::consts::TAU).sin_cos();
            let radius = (-2.0 * uniform.ln()).sqrt();
            let [x, y] = normal_pair(bits);
            assert!((x - radius * cos).abs() < 1e-9, "{bits:x}: {x}, not {}", radius * cos);
            assert!((y - radius * sin).abs() < 1e-9, "{bits:x}: {y}, not {}", radius * sin);
        }
    }
}
