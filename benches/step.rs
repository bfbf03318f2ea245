//! One whole training step at the sizes of the README.

mod common;

use common::step::{SIZES, Size, Skewed, Training};
use common::{Bench, Work};
use engine::{Element, bf16};

fn main() {
    let mut bench = Bench::new();
    for size in &SIZES {
        run::<f32>(&mut bench, size);
        run::<bf16>(&mut bench, size);
    }
}

fn run<E: Element<Acc = f32>>(bench: &mut Bench, size: &Size) {
    let (dev, at) = (&bench.dev.clone(), bench.at);
    let id = format!("step/{}/{at}/{}/N{}", size.name, E::NAME, size.tokens());
    bench.run(&id, Work::Flop(E::DTYPE, size.flop()), || {
        let (mut training, mut tokens) = (Training::<E>::new(dev, size), Skewed::new(size));
        move || {
            training.step(&tokens.batch());
        }
    });
}
