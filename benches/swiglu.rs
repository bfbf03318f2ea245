//! SwiGLU, forward and backward.

mod common;

use common::{Bench, MODELS, Work};
use engine::ops::swiglu::{backward_inplace, forward};
use engine::{Buf, Element, bf16};

const N: usize = 2048;

fn main() {
    let mut bench = Bench::new();
    for F in MODELS.map(|model| model.F) {
        run::<f32>(&mut bench, F);
        run::<bf16>(&mut bench, F);
    }
}

fn run<E: Element>(bench: &mut Bench, F: usize) {
    let (dev, at, inputs) = (&bench.dev.clone(), bench.at, bench.inputs());
    let (name, row) = (E::NAME, N * F * size_of::<E>());
    bench.run(&format!("swiglu/forward/{at}/{name}/N{N}_F{F}"), Work::Bytes(3 * row), || {
        let (mut a, gu) = (Buf::<E>::zeros(dev, N * F), inputs.numbers::<E>(2 * N * F));
        move || forward(dev, a.view_mut(), gu.view(), F)
    });
    bench.run(&format!("swiglu/backward/{at}/{name}/N{N}_F{F}"), Work::Bytes(5 * row), || {
        let (da, mut gu) = (inputs.numbers::<E>(N * F), inputs.numbers::<E>(2 * N * F));
        move || backward_inplace(dev, gu.view_mut(), da.view(), F)
    });
}
