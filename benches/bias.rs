//! Bias of a linear layer, forward and backward.

mod common;

use common::{Bench, MODELS, Model, Work};
use engine::ops::bias::{backward, forward};
use engine::{Element, bf16};

const N: usize = 2048;

fn main() {
    let mut bench = Bench::new();
    for Model { H, G, D, .. } in MODELS {
        run::<f32>(&mut bench, (H + 2 * G) * D);
        run::<bf16>(&mut bench, (H + 2 * G) * D);
    }
}

fn run<E: Element>(bench: &mut Bench, O: usize) {
    let (dev, at, inputs) = (&bench.dev.clone(), bench.at, bench.inputs());
    let (name, rows) = (E::NAME, N * O * size_of::<E>());
    bench.run(&format!("bias/forward/{at}/{name}/N{N}_O{O}"), Work::Bytes(2 * rows), || {
        let (mut y, b) = (inputs.numbers::<E>(N * O), inputs.numbers::<E>(O));
        move || forward(dev, y.view_mut(), b.view())
    });
    bench.run(&format!("bias/backward/{at}/{name}/N{N}_O{O}"), Work::Bytes(rows), || {
        let (mut db, dy) = (inputs.numbers::<E::Acc>(O), inputs.numbers::<E>(N * O));
        move || backward(dev, db.view_mut(), dy.view())
    });
}
