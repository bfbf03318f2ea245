use super::Heads;
use crate::cuda::{Arg, Cuda, Rows, int, storage};
use crate::{Element, Segments, View, ViewMut};
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
    segments: &Segments,
    heads: Heads,
) {
    let T = equal_len(segments);
    let (storage, N) = (storage::<E>(), lse_NH.len() / heads.H);
    let pointers = [o_NHD.gpu(), lse_NH.gpu(), qkv.gpu()].map(Arg::Ptr);
    let args = [&pointers[..], &sizes(storage, heads, N, T)].concat();
    let [B, T, H, D] = [N / T, T, heads.H, heads.D].map(int);
    cuda.launch(attention::forward(cuda.target(), storage, B, T, H, D), &args);
}

pub fn decode<E: Element>(
    cuda: &Cuda,
    o_NHD: ViewMut<E>,
    kept: ViewMut<E>,
    qkv: View<E>,
    segments: &Segments,
    slots: &[usize],
    heads: Heads,
    capacity: usize,
) {
    let Heads { H, G, D } = heads;
    let (o, kept, qkv) = (o_NHD.gpu(), kept.gpu(), qkv.gpu());
    let bytes = |elements: usize| elements * size_of::<E>();
    for (s, slot) in segments.list().iter().zip(slots) {
        let at = |to: u64, elements: usize| to + bytes(elements) as u64;
        let kv = at(kept, slot * capacity * heads.kv());
        cuda.copy_rows(Rows {
            dst: at(kv, s.first * heads.kv()),
            dst_stride: bytes(heads.kv()),
            src: at(qkv, s.offset * heads.qkv() + heads.out()),
            src_stride: bytes(heads.qkv()),
            width: bytes(heads.kv()),
            rows: s.len,
        });
        let (o, q) = (at(o, s.offset * heads.out()), at(qkv, s.offset * heads.qkv()));
        let sizes = [s.len, s.first, heads.qkv(), H, G, D].map(|x| Arg::U32(int(x)));
        let args = [&[o, q, kv].map(Arg::Ptr)[..], &sizes, &[Arg::F32(scale(heads))]].concat();
        cuda.launch(attention::decode(storage::<E>(), int(s.len), int(H), int(D)), &args);
    }
}

/// T of sequences of equal length.
///
/// # Panics
/// For others, which kernels do not take yet: a caller bug.
fn equal_len(segments: &Segments) -> usize {
    segments.equal_len().expect("attention: kernels take segments of equal length alone")
}

pub fn backward<E: Element>(
    cuda: &Cuda,
    dqkv: ViewMut<E>,
    do_NHD: View<E>,
    qkv: View<E>,
    o_NHD: View<E>,
    lse_NH: View<E::Acc>,
    segments: &Segments,
    heads: Heads,
) {
    let T = equal_len(segments);
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
