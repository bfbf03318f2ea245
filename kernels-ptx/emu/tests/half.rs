//! Arithmetic on f16 and bf16 rounds once, against sums and products of whole numbers.

mod common;

use common::Kind::{self, I32};
use common::evaluate;
use common::exact::{FORMATS, Format, Number, Rounding, product, sum};

/// A formula, and the instruction that computes it.
type Row = (&'static str, fn(Number, Number, Number) -> Number);

fn negated(x: Number) -> Number {
    product(x, Number::Finite { negative: true, digits: 1, power: 0 })
}

const ROWS: [Row; 4] = [
    ("add.rn.{} %d, %a, %b;", |a, b, _| sum(a, b)),
    ("sub.rn.{} %d, %a, %b;", |a, b, _| sum(a, negated(b))),
    ("mul.rn.{} %d, %a, %b;", |a, b, _| product(a, b)),
    ("fma.rn.{} %d, %a, %b, %c;", |a, b, c| sum(product(a, b), c)),
];

/// Three operands a row: ends of the format by all others, and random ones, half of them near 1, where
/// sums cancel and products lie on ties.
fn operands(format: Format) -> Vec<Vec<u64>> {
    let one = format.bits(Number::Finite { negative: false, digits: 1, power: 0 }, Rounding::Zero);
    let infinity = format.bits(Number::Infinite { negative: false }, Rounding::Zero);
    let normal = 1 << format.mantissa;
    let ends =
        [0, 1, normal - 1, normal, one - 1, one, one + 1, infinity - 1, infinity, format.nan];
    let ends: Vec<u64> = ends.into_iter().flat_map(|v| [v, v | 0x8000]).collect();
    let mut rows = vec![];
    for &a in &ends {
        rows.extend(ends.iter().flat_map(|&b| ends.iter().map(move |&c| vec![a, b, c])));
    }
    let mut seed = 3u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    };
    for i in 0..40_000 {
        let mut near = |places: u64| {
            let exponent = (one >> format.mantissa) - places / 2 + random() % places;
            (random() & 1) << 15 | exponent << format.mantissa | random() & (normal - 1)
        };
        // A product and what lies just below its last place.
        let row = match i % 3 {
            0 => vec![near(2), near(2), near(2 * u64::from(format.mantissa))],
            1 => vec![near(3), near(3), near(3)],
            _ => vec![random() & 0xffff, random() & 0xffff, random() & 0xffff],
        };
        rows.push(row);
    }
    rows
}

#[test]
fn arithmetic_rounds_once() {
    for format in &FORMATS[..2] {
        let rows = operands(*format);
        // Pairs hold another row above.
        let pairs: Vec<Vec<u64>> = rows
            .iter()
            .zip(rows.iter().rev())
            .map(|(low, high)| low.iter().zip(high).map(|(low, high)| high << 16 | low).collect())
            .collect();
        for (text, formula) in ROWS {
            let want = |row: &[u64]| {
                let [a, b, c] = [0, 1, 2].map(|i| format.number(row[i] & 0xffff));
                format.bits(formula(a, b, c), Rounding::Nearest)
            };
            let single = text.replace("{}", format.name);
            let kinds: [Kind; 3] = [format.kind; 3];
            for (row, got) in rows.iter().zip(evaluate(&single, format.kind, &kinds, &rows)) {
                let want = want(row);
                assert!(got == want, "{single} of {row:#x?}: {got:#x}, expected {want:#x}");
            }
            let pair = text.replace("{}", &format!("{}x2", format.name));
            for (row, got) in pairs.iter().zip(evaluate(&pair, I32, &[I32; 3], &pairs)) {
                let above: Vec<u64> = row.iter().map(|v| v >> 16).collect();
                let want = want(&above) << 16 | want(row);
                assert!(got == want, "{pair} of {row:#x?}: {got:#x}, expected {want:#x}");
            }
        }
    }
}
