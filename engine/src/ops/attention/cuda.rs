use super::Heads;
use crate::cuda::{Arg, Cuda, int, storage};
use crate::{Element, View, ViewMut};
use kernels_ptx::launch::{Storage, attention};

/// T, H, G, D and 1/sqrt(D); kernels in f32 want N before them.
fn sizes(storage: Storage, heads: Heads, N: usize, T: usize) -> Vec<Arg> {
    let mut sizes = [T, heads.H, heads.G, heads.D].map(|x| Arg::U32(int(x))).to_vec();
    sizes.push(Arg::F32(scale(heads)));
    if storage == Storage::F32 {
        sizes.insert(0, Arg::U32(int(N)));
    }
    sizes
}

fn scale(heads: Heads) -> f32 {
    1.0 / (heads.D as f32).sqrt()
}

pub fn forward<E: Element>(
    cuda: &Cuda,
    o_NHD: ViewMut<E>,
    lse_NH: ViewMut<E::Acc>,
    qkv: View<E>,
    heads: Heads,
    T: usize,
) {
    let (storage, N) = (storage::<E>(), lse_NH.len() / heads.H);
    let pointers = [o_NHD.gpu(), lse_NH.gpu(), qkv.gpu()].map(Arg::Ptr);
    let args = [&pointers[..], &sizes(storage, heads, N, T)].concat();
    let [B, T, H, D] = [N / T, T, heads.H, heads.D].map(int);
    cuda.launch(attention::forward(cuda.target(), storage, B, T, H, D), &args);
}

pub fn decode<E: Element>(
    cuda: &Cuda,
    o_NHD: ViewMut<E>,
    q_NS: View<E>,
    kv: View<E>,
    heads: Heads,
    S: usize,
    past: usize,
) {
    let N = int(q_NS.len() / S);
    let pointers = [o_NHD.gpu(), q_NS.gpu(), kv.gpu()].map(Arg::Ptr);
    let Heads { H, G, D } = heads;
    let sizes = [past, S, H, G, D].map(|x| Arg::U32(int(x)));
    let args = [&pointers[..], &[Arg::U32(N)], &sizes, &[Arg::F32(scale(heads))]].concat();
    cuda.launch(attention::decode(storage::<E>(), N, int(H), int(D)), &args);
}

pub fn backward<E: Element>(
    cuda: &Cuda,
    dqkv: ViewMut<E>,
    do_NHD: View<E>,
    qkv: View<E>,
    o_NHD: View<E>,
    lse_NH: View<E::Acc>,
    heads: Heads,
    T: usize,
) {
    let (storage, rows) = (storage::<E>(), lse_NH.len());
    let N = rows / heads.H;
    let [delta_NH] = cuda.workspace(workspace(heads, N));
    let pointers = [delta_NH, do_NHD.gpu(), o_NHD.gpu()].map(Arg::Ptr);
    let args = [&pointers[..], &[rows, heads.D].map(|x| Arg::U32(int(x)))].concat();
    cuda.launch(attention::delta(storage, int(rows)), &args);
    let pointers = [dqkv.gpu(), do_NHD.gpu(), qkv.gpu(), lse_NH.gpu(), delta_NH].map(Arg::Ptr);
    let args = [&pointers[..], &sizes(storage, heads, N, T)].concat();
    let [B, T, H, G, D] = [N / T, T, heads.H, heads.G, heads.D].map(int);
    let target = cuda.target();
    cuda.launch(attention::backward_queries(target, storage, B, T, H, D), &args);
    cuda.launch(attention::backward_keys(target, storage, B, T, G, D), &args);
}

/// Bytes of work space of [`backward`]: delta.
pub fn workspace(heads: Heads, N: usize) -> [usize; 1] {
    [N * heads.H * size_of::<f32>()]
}
