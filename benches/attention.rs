//! Causal attention: forward, backward, and decoding of one token.

mod common;

use common::{Bench, MODELS, Model, Work, numbers};
use engine::ops::attention::{Heads, backward, decode, forward};
use engine::{Element, Segments, bf16};

fn main() {
    let mut bench = Bench::new();
    for model in MODELS {
        run::<f32>(&mut bench, model);
        run::<bf16>(&mut bench, model);
    }
}

fn run<E: Element>(bench: &mut Bench, Model { H, G, D, T, .. }: Model) {
    let dev = &bench.dev.clone();
    let (heads, T) = (Heads { H, G, D }, T.min(1024));
    let segments = &Segments::equal(1, T);
    let (name, shape) = (E::NAME, format!("T{T}_H{H}_G{G}_D{D}"));
    let qkv = || numbers::<E>(T * heads.qkv());
    let outputs = || (numbers::<E>(T * heads.out()), numbers::<E::Acc>(T * H));
    // A product of each query with each key it sees.
    let product = 2 * D * H * T * (T + 1) / 2;
    bench.run(
        &format!("attention/forward/cpu/{name}/{shape}"),
        Work::Flop(E::NAME, 2 * product),
        || {
            let (qkv, (mut o, mut lse)) = (qkv(), outputs());
            move || {
                let (o, lse) = ((&mut o[..]).into(), (&mut lse[..]).into());
                forward(dev, o, lse, (&qkv[..]).into(), segments, heads)
            }
        },
    );
    bench.run(
        &format!("attention/backward/cpu/{name}/{shape}"),
        Work::Flop(E::NAME, 5 * product),
        || {
            let (qkv, (mut o, mut lse)) = (qkv(), outputs());
            let (to, lse_to) = ((&mut o[..]).into(), (&mut lse[..]).into());
            forward(dev, to, lse_to, (&qkv[..]).into(), segments, heads);
            let (d_o, mut dqkv) = (numbers::<E>(o.len()), qkv.clone());
            move || {
                let (d_o, qkv, o) = ((&d_o[..]).into(), (&qkv[..]).into(), (&o[..]).into());
                let (dqkv, lse) = ((&mut dqkv[..]).into(), (&lse[..]).into());
                backward(dev, dqkv, d_o, qkv, o, lse, segments, heads)
            }
        },
    );
    let bytes = 2 * T * G * D * size_of::<E>();
    bench.run(&format!("attention/decode/cpu/{name}/{shape}"), Work::Bytes(bytes), || {
        let (qkv, mut kept) = (numbers::<E>(heads.qkv()), numbers::<E>(T * heads.kv()));
        let (mut o, mut last) = (numbers::<E>(heads.out()), Segments::default());
        last.push(1, T - 1);
        move || {
            let (o, kept, qkv) = ((&mut o[..]).into(), (&mut kept[..]).into(), (&qkv[..]).into());
            decode(dev, o, kept, qkv, &last, &[0], heads, T)
        }
    });
}
