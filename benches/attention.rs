//! Causal attention: forward, backward, and decoding of one token.

mod common;

use common::{Bench, MODELS, Model, Work, numbers};
use engine::ops::attention::{Heads, backward, decode, forward};
use engine::{Element, bf16};

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
                forward(dev, o, lse, (&qkv[..]).into(), heads, T)
            }
        },
    );
    bench.run(
        &format!("attention/backward/cpu/{name}/{shape}"),
        Work::Flop(E::NAME, 5 * product),
        || {
            let (qkv, (mut o, mut lse)) = (qkv(), outputs());
            let (to, lse_to) = ((&mut o[..]).into(), (&mut lse[..]).into());
            forward(dev, to, lse_to, (&qkv[..]).into(), heads, T);
            let (d_o, mut dqkv) = (numbers::<E>(o.len()), qkv.clone());
            move || {
                let (d_o, qkv, o) = ((&d_o[..]).into(), (&qkv[..]).into(), (&o[..]).into());
                backward(dev, (&mut dqkv[..]).into(), d_o, qkv, o, (&lse[..]).into(), heads, T)
            }
        },
    );
    let bytes = 2 * T * G * D * size_of::<E>();
    bench.run(&format!("attention/decode/cpu/{name}/{shape}"), Work::Bytes(bytes), || {
        let (q, kv) = (numbers::<E>(H * D), numbers::<E>(2 * T * G * D));
        let mut o = q.clone();
        move || {
            let (q, kv) = ((&q[..]).into(), (&kv[..]).into());
            decode(dev, (&mut o[..]).into(), q, kv, heads, H * D, T - 1)
        }
    });
}
