//! AdamW over flat arenas, alone and with a bf16 copy of the weights.

mod common;

use common::{Bench, Work};
use engine::ops::adamw::{Step, step};
use engine::{Buf, Element, Init, Table, bf16};

const STEP: Step = Step { lr: 1e-4, beta1: 0.9, beta2: 0.95, eps: 1e-8, max_norm: 1.0, t: 100 };

fn main() {
    let mut bench = Bench::new();
    for P in [15_191_712, 41_689_600] {
        run::<f32>(&mut bench, P, false);
        run::<bf16>(&mut bench, P, true);
    }
}

/// `P` parameters: w, m and v are read and written, g is read, the copy is written.
fn run<E: Element<Acc = f32>>(bench: &mut Bench, P: usize, copies: bool) {
    let (dev, at, inputs) = (&bench.dev.clone(), bench.at, bench.inputs());
    let mut table = Table::default();
    let decays = &[(table.push("w", &[P, 1], Init::Ones), 0.1)];
    let bytes = P * (7 * size_of::<f32>() + if copies { size_of::<E>() } else { 0 });
    bench.run(&format!("adamw/step/{at}/{}/P{P}", E::NAME), Work::Bytes(bytes), || {
        let [mut w, mut m, g] = [(); 3].map(|()| inputs.numbers::<f32>(P));
        let (mut v, sum_1) = (Buf::<f32>::zeros(dev, P), Buf::of(dev, &[4.0]));
        let mut copy = Buf::<E>::zeros(dev, if copies { P } else { 0 });
        move || {
            let copy = copies.then(|| copy.view_mut());
            let [w, m, v] = [&mut w, &mut m, &mut v].map(Buf::view_mut);
            step::<E>(dev, w, copy, m, v, g.view(), sum_1.view(), decays, STEP)
        }
    });
}
