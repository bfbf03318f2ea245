//! Linear layers, forward and backward: query/key/value, gate and up, down.

mod common;

use common::{Bench, MODELS, Work};
use engine::ops::linear::{backward_input, backward_weight, forward};
use engine::{Buf, Element, bf16};

fn main() {
    let mut bench = Bench::new();
    for m in MODELS {
        let N = if m.C < 1024 { 1024 } else { 256 };
        for (I, O) in [(m.C, (m.H + 2 * m.G) * m.D), (m.C, 2 * m.F), (m.F, m.C)] {
            run::<f32>(&mut bench, N, I, O);
            run::<bf16>(&mut bench, N, I, O);
        }
    }
}

fn run<E: Element>(bench: &mut Bench, N: usize, I: usize, O: usize) {
    let (dev, at, inputs) = (&bench.dev.clone(), bench.at, bench.inputs());
    let (name, shape, flop) = (E::NAME, format!("N{N}_I{I}_O{O}"), 2 * N * I * O);
    bench.run(&format!("linear/forward/{at}/{name}/{shape}"), Work::Flop(E::DTYPE, flop), || {
        let [x, w] = [N * I, O * I].map(|len| inputs.numbers::<E>(len));
        let mut y = Buf::<E>::zeros(dev, N * O);
        move || forward(dev, y.view_mut(), x.view(), w.view(), I, "")
    });
    let id = format!("linear/backward_input/{at}/{name}/{shape}");
    bench.run(&id, Work::Flop(E::DTYPE, flop), || {
        let [w, dy] = [O * I, N * O].map(|len| inputs.numbers::<E>(len));
        let mut dx = Buf::<E>::zeros(dev, N * I);
        move || backward_input(dev, dx.view_mut(), dy.view(), w.view(), I, "")
    });
    let id = format!("linear/backward_weight/{at}/{name}/{shape}");
    bench.run(&id, Work::Flop(E::DTYPE, flop), || {
        let [x, dy] = [N * I, N * O].map(|len| inputs.numbers::<E>(len));
        let mut dw = Buf::<E::Acc>::zeros(dev, O * I);
        move || backward_weight(dev, dw.view_mut(), dy.view(), x.view(), I, "")
    });
}
