//! RMSNorm, forward and backward.

mod common;

use common::{Bench, MODELS, Work};
use engine::ops::rmsnorm::{backward, forward};
use engine::{Buf, Element, bf16};

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
    let (dev, at, inputs) = (&bench.dev.clone(), bench.at, bench.inputs());
    let (name, row) = (E::NAME, N * C * size_of::<E>());
    bench.run(&format!("rmsnorm/forward/{at}/{name}/N{N}_C{C}"), Work::Bytes(2 * row), || {
        let (x, w) = (inputs.numbers::<E>(N * C), inputs.numbers::<E>(C));
        let (mut y, mut r) = (Buf::<E>::zeros(dev, N * C), Buf::<E::Acc>::zeros(dev, N));
        move || forward(dev, y.view_mut(), r.view_mut(), x.view(), w.view(), EPS)
    });
    bench.run(&format!("rmsnorm/backward/{at}/{name}/N{N}_C{C}"), Work::Bytes(4 * row), || {
        let [x, dy] = [(); 2].map(|()| inputs.numbers::<E>(N * C));
        let (w, r) = (inputs.numbers::<E>(C), inputs.numbers::<E::Acc>(N));
        let (mut dx, mut dw) = (Buf::<E>::zeros(dev, N * C), Buf::<E::Acc>::zeros(dev, C));
        move || {
            let (dx, dw) = (dx.view_mut(), dw.view_mut());
            backward(dev, dx, Some(dw), dy.view(), x.view(), w.view(), r.view())
        }
    });
}
