//! SwiGLU, forward and backward.

mod common;

use common::{Bench, MODELS, Work, numbers};
use engine::ops::swiglu::{backward_inplace, forward};
use engine::{Element, bf16};

const N: usize = 2048;

fn main() {
    let mut bench = Bench::new();
    for F in MODELS.map(|model| model.F) {
        run::<f32>(&mut bench, F);
        run::<bf16>(&mut bench, F);
    }
}

fn run<E: Element>(bench: &mut Bench, F: usize) {
    let dev = &bench.dev.clone();
    let (name, row) = (E::NAME, N * F * size_of::<E>());
    bench.run(&format!("swiglu/forward/cpu/{name}/N{N}_F{F}"), Work::Bytes(3 * row), || {
        let (mut a, gu) = (numbers::<E>(N * F), numbers::<E>(2 * N * F));
        move || forward(dev, (&mut a[..]).into(), (&gu[..]).into(), F)
    });
    bench.run(&format!("swiglu/backward/cpu/{name}/N{N}_F{F}"), Work::Bytes(5 * row), || {
        let (da, mut gu) = (numbers::<E>(N * F), numbers::<E>(2 * N * F));
        move || backward_inplace(dev, (&mut gu[..]).into(), (&da[..]).into(), F)
    });
}
