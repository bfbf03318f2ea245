//! Causal attention: forward, backward, and decoding of one token.

mod common;

use common::{Bench, MODELS, Model, Work};
use engine::ops::attention::{Heads, backward, decode, forward};
use engine::{Buf, Element, Segments, bf16};

fn main() {
    let mut bench = Bench::new();
    for model in MODELS {
        run::<f32>(&mut bench, model);
        run::<bf16>(&mut bench, model);
    }
}

fn run<E: Element>(bench: &mut Bench, Model { H, G, D, T, .. }: Model) {
    let (dev, at, inputs) = (&bench.dev.clone(), bench.at, bench.inputs());
    let (heads, T) = (Heads { H, G, D }, T.min(1024));
    let segments = &Segments::equal(1, T);
    let (name, shape) = (E::NAME, format!("T{T}_H{H}_G{G}_D{D}"));
    let qkv = || inputs.numbers::<E>(T * heads.qkv());
    let outputs = || (Buf::<E>::zeros(dev, T * heads.out()), Buf::<E::Acc>::zeros(dev, T * H));
    // A product of each query with each key it sees.
    let product = 2 * D * H * T * (T + 1) / 2;
    bench.run(
        &format!("attention/forward/{at}/{name}/{shape}"),
        Work::Flop(E::DTYPE, 2 * product),
        || {
            let (qkv, (mut o, mut lse)) = (qkv(), outputs());
            move || forward(dev, o.view_mut(), lse.view_mut(), qkv.view(), segments, heads)
        },
    );
    bench.run(
        &format!("attention/backward/{at}/{name}/{shape}"),
        Work::Flop(E::DTYPE, 5 * product),
        || {
            let (qkv, (mut o, mut lse)) = (qkv(), outputs());
            forward(dev, o.view_mut(), lse.view_mut(), qkv.view(), segments, heads);
            let (d_o, mut dqkv) = (inputs.numbers::<E>(o.len()), Buf::<E>::zeros(dev, qkv.len()));
            move || {
                let (o, lse) = (o.view(), lse.view());
                backward(dev, dqkv.view_mut(), d_o.view(), qkv.view(), o, lse, segments, heads)
            }
        },
    );
    let bytes = 2 * T * G * D * size_of::<E>();
    bench.run(&format!("attention/decode/{at}/{name}/{shape}"), Work::Bytes(bytes), || {
        let qkv = inputs.numbers::<E>(heads.qkv());
        let mut kept = inputs.numbers::<E>(T * heads.kv());
        let (mut o, mut last) = (Buf::<E>::zeros(dev, heads.out()), Segments::default());
        last.push(1, T - 1);
        move || {
            let (o, kept) = (o.view_mut(), kept.view_mut());
            decode(dev, o, kept, qkv.view(), &last, &[0], heads, T)
        }
    });
}
