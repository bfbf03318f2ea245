//! Linear head and cross-entropy: the loss alone, and with its gradients.

mod common;

use common::{Bench, MODELS, V, Work};
use engine::ops::loss::{Logits, forward, forward_backward};
use engine::{Buf, Element, bf16};

const N: usize = 256;

fn main() {
    let mut bench = Bench::new();
    for C in MODELS.map(|model| model.C) {
        run::<f32>(&mut bench, C);
        run::<bf16>(&mut bench, C);
    }
}

fn run<E: Element>(bench: &mut Bench, C: usize) {
    let (dev, at, inputs) = (&bench.dev.clone(), bench.at, bench.inputs());
    let (name, shape, flop) = (E::NAME, format!("N{N}_C{C}_V{V}"), 2 * N * C * V);
    let targets: &[i32] = &(0..N as i32).map(|n| n * 7919 % V as i32).collect::<Vec<_>>();
    let factors = || [N * C, V * C].map(|len| inputs.numbers::<E>(len));
    let logits = || Logits::<E>::new(dev, N, V);
    let nats = || Buf::<E::Acc>::zeros(dev, N);
    bench.run(&format!("loss/forward/{at}/{name}/{shape}"), Work::Flop(E::DTYPE, flop), || {
        let ([x, w], mut logits, mut nats) = (factors(), logits(), nats());
        move || {
            let (nats, x, w) = (nats.view_mut(), x.view(), w.view());
            forward(dev, nats, None, &mut logits, x, w, targets, C)
        }
    });
    bench.run(
        &format!("loss/forward_backward/{at}/{name}/{shape}"),
        Work::Flop(E::DTYPE, 3 * flop),
        || {
            let ([x, w], mut logits, mut nats) = (factors(), logits(), nats());
            let (mut dx, mut dw) = (Buf::<E>::zeros(dev, N * C), Buf::<E::Acc>::zeros(dev, V * C));
            move || {
                let (nats, dx, dw) = (nats.view_mut(), dx.view_mut(), dw.view_mut());
                let (logits, x, w) = (&mut logits, x.view(), w.view());
                let scale = 1.0 / N as f64;
                forward_backward(
                    dev,
                    nats,
                    None,
                    dx,
                    Some(dw),
                    logits,
                    x,
                    w,
                    targets,
                    None,
                    scale,
                    C,
                );
            }
        },
    );
}
