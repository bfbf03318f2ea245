//! Rotary position embedding of queries and keys, forward and backward.

mod common;

use common::{Bench, MODELS, Model, Work};
use engine::ops::rope::{backward_inplace, forward_inplace, frequencies, table};
use engine::{Element, Segments, bf16};

fn main() {
    let mut bench = Bench::new();
    for model in MODELS {
        run::<f32>(&mut bench, model);
        run::<bf16>(&mut bench, model);
    }
}

fn run<E: Element>(bench: &mut Bench, Model { H, G, D, T, .. }: Model) {
    let (dev, at, inputs) = (&bench.dev.clone(), bench.at, bench.inputs());
    let (N, S, heads) = (4096, (H + 2 * G) * D, H + G);
    let segments = &Segments::equal(N / T, T);
    let (name, shape) = (E::NAME, format!("N{N}_T{T}_H{H}_G{G}_D{D}"));
    let bytes = 2 * N * heads * D * size_of::<E>();
    let prepare =
        || (inputs.numbers::<E>(N * S), table::<E::Acc>(dev, T, &frequencies(D, 1e4), 1.0));
    bench.run(&format!("rope/forward/{at}/{name}/{shape}"), Work::Bytes(bytes), || {
        let (mut x, table) = prepare();
        move || forward_inplace(dev, x.view_mut(), table.view(), segments, S, heads, D)
    });
    bench.run(&format!("rope/backward/{at}/{name}/{shape}"), Work::Bytes(bytes), || {
        let (mut x, table) = prepare();
        move || backward_inplace(dev, x.view_mut(), table.view(), segments, S, heads, D)
    });
}
