//! RMSNorm, forward and backward.

mod common;

use common::{Bench, MODELS, Work, numbers};
use engine::ops::rmsnorm::{backward, forward};
use engine::{Element, bf16};

const N: usize = 4096;
const EPS: f32 = 1e-5;

fn main() {
    let mut bench = Bench::new();
    for C in MODELS.map(|model| model.C) {
        run::<f32>(&mut bench, C);
        run::<bf16>(&mut bench, C);
    }
}

fn run<E: Element>(bench: &mut Bench, C: usize) {
    let dev = &bench.dev.clone();
    let (name, row) = (E::NAME, N * C * size_of::<E>());
    bench.run(&format!("rmsnorm/forward/cpu/{name}/N{N}_C{C}"), Work::Bytes(2 * row), || {
        let (x, w) = (numbers::<E>(N * C), numbers::<E>(C));
        let (mut y, mut r) = (x.clone(), numbers::<E::Acc>(N));
        move || {
            let to = (&mut y[..]).into();
            forward(dev, to, (&mut r[..]).into(), (&x[..]).into(), (&w[..]).into(), EPS)
        }
    });
    bench.run(&format!("rmsnorm/backward/cpu/{name}/N{N}_C{C}"), Work::Bytes(4 * row), || {
        let (x, w, r) = (numbers::<E>(N * C), numbers::<E>(C), numbers::<E::Acc>(N));
        let (dy, mut dx, mut dw) = (x.clone(), x.clone(), numbers::<E::Acc>(C));
        move || {
            backward(
                dev,
                (&mut dx[..]).into(),
                (&mut dw[..]).into(),
                (&dy[..]).into(),
                (&x[..]).into(),
                (&w[..]).into(),
                (&r[..]).into(),
            )
        }
    });
}
