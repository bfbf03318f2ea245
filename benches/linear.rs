//! Linear layers, forward and backward: query/key/value, gate and up, down.

mod common;

use common::{Bench, MODELS, Work, numbers};
use engine::ops::linear::{backward, forward};
use engine::{Element, bf16};

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
    let dev = &bench.dev.clone();
    let (name, shape, flop) = (E::NAME, format!("N{N}_I{I}_O{O}"), 2 * N * I * O);
    bench.run(&format!("linear/forward/cpu/{name}/{shape}"), Work::Flop(E::NAME, flop), || {
        let (x, w, mut y) = (numbers::<E>(N * I), numbers::<E>(O * I), numbers::<E>(N * O));
        move || forward(dev, (&mut y[..]).into(), (&x[..]).into(), (&w[..]).into(), I)
    });
    bench.run(
        &format!("linear/backward/cpu/{name}/{shape}"),
        Work::Flop(E::NAME, 2 * flop),
        || {
            let (x, w, dy) = (numbers::<E>(N * I), numbers::<E>(O * I), numbers::<E>(N * O));
            let (mut dx, mut dw) = (x.clone(), numbers::<E::Acc>(O * I));
            move || {
                let to = (&mut dx[..]).into();
                let (dy, x, w) = ((&dy[..]).into(), (&x[..]).into(), (&w[..]).into());
                backward(dev, to, (&mut dw[..]).into(), dy, x, w, I)
            }
        },
    );
}
