//! Embedding, forward and backward.

mod common;

use common::{Bench, MODELS, V, Work};
use engine::ops::embedding::{backward, forward};
use engine::{Buf, Element, bf16};

const N: usize = 4096;

fn main() {
    let mut bench = Bench::new();
    for C in MODELS.map(|model| model.C) {
        run::<f32>(&mut bench, C);
        run::<bf16>(&mut bench, C);
    }
}

fn run<E: Element>(bench: &mut Bench, C: usize) {
    let (dev, at, inputs) = (&bench.dev.clone(), bench.at, bench.inputs());
    let (name, row) = (E::NAME, N * C * size_of::<E>());
    let tokens: &[u32] = &(0..N as u32).map(|n| n * 7919 % V as u32).collect::<Vec<_>>();
    bench.run(&format!("embedding/forward/{at}/{name}/N{N}_C{C}"), Work::Bytes(2 * row), || {
        let (mut x, w) = (Buf::<E>::zeros(dev, N * C), inputs.numbers::<E>(V * C));
        move || forward(dev, x.view_mut(), tokens, w.view(), C)
    });
    // Reads dx, reads and writes as many rows of dw.
    let bytes = row + 2 * N * C * size_of::<E::Acc>();
    bench.run(&format!("embedding/backward/{at}/{name}/N{N}_C{C}"), Work::Bytes(bytes), || {
        let (dx, mut dw) = (inputs.numbers::<E>(N * C), Buf::<E::Acc>::zeros(dev, V * C));
        move || backward(dev, dw.view_mut(), dx.view(), tokens, C)
    });
}
