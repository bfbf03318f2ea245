//! Sum of squares of a gradient arena.

mod common;

use common::{Bench, Work, numbers};
use engine::ops::norm::sum_of_squares;
use std::hint::black_box;

fn main() {
    let mut bench = Bench::new();
    let dev = &bench.dev.clone();
    for P in [15_191_712, 41_689_600, 109_529_856] {
        bench.run(&format!("norm/sum_of_squares/cpu/f32/P{P}"), Work::Bytes(4 * P), || {
            let x = numbers::<f32>(P);
            move || {
                black_box(sum_of_squares(dev, (&x[..]).into()));
            }
        });
    }
}
