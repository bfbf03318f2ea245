//! How weights start: distribution, and dependence on seed, name and index alone.

use engine::{Device, Init, Table};
use model::weights::Weights;
use model::{Config, init, table};

fn filled(table: &Table, seed: u64, threads: usize) -> Weights<f32> {
    let dev = Device::cpu(threads).unwrap();
    let mut weights = Weights::zeros(&dev, table);
    init::fill(&dev, &mut weights, table, seed);
    weights
}

fn bits(weights: &Weights<f32>) -> Vec<u32> {
    weights.view().host().iter().map(|x| x.to_bits()).collect()
}

fn moment(xs: &[f32], power: i32) -> f64 {
    xs.iter().map(|&x| f64::from(x).powi(power)).sum::<f64>() / xs.len() as f64
}

#[test]
fn matrices_are_normal_and_gains_are_one() {
    let config = Config::named("260k").unwrap().with_vocab(20_000);
    let (table, _) = table(&config);
    let weights = filled(&table, 1, 2);
    for row in table.rows() {
        let xs = weights.master().get(row.slot).host();
        match row.init {
            Init::Zeros => unreachable!("no adapters and no biases here"),
            Init::Ones => assert!(xs.iter().all(|&x| x == 1.0), "{}", row.name),
            Init::Normal(std) => {
                // Five standard errors of the mean, the variance and the fourth moment.
                let (n, std) = (xs.len() as f64, f64::from(std));
                let unit = [1, 2, 4].map(|power| moment(xs, power) / std.powi(power));
                let near = |got: f64, want: f64, variance: f64| {
                    (got - want).abs() < 5.0 * (variance / n).sqrt()
                };
                assert!(near(unit[0], 0.0, 1.0), "{}: mean {}", row.name, unit[0]);
                assert!(near(unit[1], 1.0, 2.0), "{}: variance {}", row.name, unit[1]);
                assert!(near(unit[2], 3.0, 96.0), "{}: fourth moment {}", row.name, unit[2]);
            }
        }
    }
}

#[test]
fn elements_are_independent_of_their_neighbours_and_of_other_parameters() {
    let (table, _) = table(&Config::named("260k").unwrap());
    let weights = filled(&table, 3, 1);
    let row = |name: &str| {
        let row = table.rows().iter().find(|row| row.name.contains(name)).unwrap();
        weights.master().get(row.slot).host()
    };
    let (gate, up) = (row("gate_proj"), row("up_proj"));
    let correlation = |a: &[f32], b: &[f32]| {
        let sum: f64 = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        sum / a.len() as f64 / 0.02 / 0.02
    };
    let bound = 5.0 / (gate.len() as f64).sqrt();
    assert!(correlation(gate, up).abs() < bound);
    assert!(correlation(gate, &gate[1..]).abs() < bound);
    assert!(correlation(gate, &gate[2..]).abs() < bound);
}

#[test]
fn bits_depend_on_the_seed_and_not_on_threads() {
    let (table, _) = table(&Config::named("260k").unwrap().with_vocab(3001));
    let one = bits(&filled(&table, 42, 1));
    assert_eq!(one, bits(&filled(&table, 42, 4)));
    assert_ne!(one, bits(&filled(&table, 43, 1)));
}

#[test]
fn a_parameter_keeps_its_bits_whatever_else_the_table_holds() {
    let untied = Config { tied: false, ..Config::named("260k").unwrap() };
    let tied = Config { tied: true, ..untied.clone() };
    let (untied, _) = table(&untied);
    let (tied, _) = table(&tied);
    let (a, b) = (filled(&untied, 7, 1), filled(&tied, 7, 1));
    for row in tied.rows() {
        let other = untied.rows().iter().find(|other| other.name == row.name).unwrap();
        assert_eq!(a.get(other.slot).unwrap(), b.get(row.slot).unwrap(), "{}", row.name);
    }
}

/// Any machine must start from these bits, or runs could not be compared between machines. They
/// are those of the formula evaluated in f64 with a C library's functions.
#[test]
fn bits_are_the_same_on_every_machine() {
    let mut table = Table::default();
    let slot = table.push("w", &[200_001, 1], Init::Normal(1.0));
    let weights = filled(&table, 0, 1);
    let want = [
        (0, 0x3e4d_4935),
        (1, 0xbf4e_5c56),
        (2, 0xbf69_7100),
        (131071, 0x3fa1_5182),
        (131072, 0xbe3b_c1f7),
        (131073, 0xbe4f_0258),
        (200000, 0x3fb9_6c41),
    ];
    for (i, bits) in want {
        let x = weights.master().get(slot).host()[i];
        assert_eq!(x.to_bits(), bits, "element {i}: {x}");
    }
}
