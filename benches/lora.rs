//! Low-rank adapters of rank 16 beside the query of a joint query/key/value, forward and backward.

mod common;

use common::{Bench, MODELS, Work};
use engine::ops::lora::{Place, backward_b, backward_input, forward};
use engine::{Buf, Element, bf16};

/// Rank.
const R: usize = 16;

fn main() {
    let mut bench = Bench::new();
    for m in MODELS {
        let N = if m.C < 1024 { 1024 } else { 256 };
        let (O, stride) = (m.H * m.D, (m.H + 2 * m.G) * m.D);
        run::<f32>(&mut bench, [N, m.C, O, stride]);
        run::<bf16>(&mut bench, [N, m.C, O, stride]);
    }
}

fn run<E: Element>(bench: &mut Bench, [N, I, O, stride]: [usize; 4]) {
    let (dev, at, inputs) = (&bench.dev.clone(), bench.at, bench.inputs());
    let (name, shape, flop) = (E::NAME, format!("N{N}_I{I}_O{O}"), 2 * N * R * (I + O));
    let place = Place { first: 0, stride, scale: 2.0 };
    let work = || Work::Flop(E::DTYPE, flop);
    bench.run(&format!("lora/forward/{at}/{name}/{shape}"), work(), || {
        let [x, a, b] = [N * I, R * I, O * R].map(|len| inputs.numbers::<E>(len));
        let (mut y, mut t) = (inputs.numbers::<E>(N * stride), Buf::<E>::zeros(dev, N * R));
        move || {
            let (y, t) = (y.view_mut(), t.view_mut());
            forward(dev, y, t, x.view(), a.view(), b.view(), place, I, "")
        }
    });
    bench.run(&format!("lora/backward_input/{at}/{name}/{shape}"), work(), || {
        let [dy, a, b] = [N * stride, R * I, O * R].map(|len| inputs.numbers::<E>(len));
        let (mut dx, mut u) = (inputs.numbers::<E>(N * I), Buf::<E>::zeros(dev, N * R));
        move || {
            let (dx, u) = (dx.view_mut(), u.view_mut());
            backward_input(dev, dx, u, dy.view(), a.view(), b.view(), place, I, "")
        }
    });
    bench.run(&format!("lora/backward_b/{at}/{name}/{shape}"), work(), || {
        let [dy, x, a] = [N * stride, N * I, R * I].map(|len| inputs.numbers::<E>(len));
        let (mut db, mut t) = (Buf::<E::Acc>::zeros(dev, O * R), Buf::<E>::zeros(dev, N * R));
        move || {
            let (db, t) = (db.view_mut(), t.view_mut());
            backward_b(dev, db, t, dy.view(), x.view(), a.view(), place, I, "")
        }
    });
}
