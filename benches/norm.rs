//! Sum of squares of a gradient arena.

mod common;

use common::{Bench, Work};
use engine::Buf;
use engine::ops::norm::sum_of_squares;

fn main() {
    let mut bench = Bench::new();
    let (dev, at, inputs) = (&bench.dev.clone(), bench.at, bench.inputs());
    for P in [15_191_712, 41_689_600, 109_529_856] {
        bench.run(&format!("norm/sum_of_squares/{at}/f32/P{P}"), Work::Bytes(4 * P), || {
            let (x, mut sum_1) = (inputs.numbers::<f32>(P), Buf::zeros(dev, 1));
            move || {
                sum_of_squares(dev, sum_1.view_mut(), x.view());
            }
        });
    }
}
