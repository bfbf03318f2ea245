//! Sequences of equal length are known to kernels by their number and T. Of others each block reads
//! its own work from a list, which goes up before the launch.

use super::Heads;
use crate::cuda::{Arg, Cuda, Rows, int, storage};
use crate::{Element, Segments, View, ViewMut};
use kernels_ptx::launch::Storage;
use kernels_ptx::launch::attention::{self, Sequences, Work};

/// Bytes of an item of [`Work`].
const ITEM: usize = 3 * size_of::<u32>();

/// T, H, G, D and 1/sqrt(D); kernels in f32 want N before them.
fn sizes(storage: Storage, heads: Heads, segments: &Segments) -> Vec<Arg> {
    let T = segments.equal_len().unwrap_or(0);
    let mut sizes = [T, heads.H, heads.G, heads.D].map(|x| Arg::U32(int(x))).to_vec();
    sizes.push(Arg::F32(scale(heads)));
    if storage == Storage::F32 {
        sizes.insert(0, Arg::U32(int(segments.rows())));
    }
    sizes
}

fn scale(heads: Heads) -> f32 {
    1.0 / (heads.D as f32).sqrt()
}

/// First row and rows of each segment, where their lengths differ.
fn list(segments: &Segments) -> Vec<[u32; 2]> {
    match segments.equal_len() {
        Some(_) => Vec::new(),
        None => segments.list().iter().map(|s| [s.offset, s.len].map(int)).collect(),
    }
}

/// The same as launches take it; `list` is that of [`list`].
fn sequences<'a>(segments: &Segments, list: &'a [[u32; 2]]) -> Sequences<'a> {
    match segments.equal_len() {
        Some(T) => Sequences::Equal { B: int(segments.rows() / T), T: int(T) },
        None => Sequences::Listed(list),
    }
}

/// Queues `work`, whose items go to `room`, between pointers and sizes.
fn launch<const P: usize>(
    cuda: &Cuda,
    Work { launch, items }: Work,
    room: u64,
    pointers: [u64; P],
    sizes: &[Arg],
) {
    cuda.upload(room, &items);
    let items = Arg::Ptr(if items.is_empty() { 0 } else { room });
    cuda.launch(launch, &[&pointers.map(Arg::Ptr)[..], &[items], sizes].concat());
}

pub fn forward<E: Element>(
    cuda: &Cuda,
    o_NHD: ViewMut<E>,
    lse_NH: ViewMut<E::Acc>,
    qkv: View<E>,
    segments: &Segments,
    heads: Heads,
) {
    let (storage, list) = (storage::<E>(), list(segments));
    let [H, D] = [heads.H, heads.D].map(int);
    let work = attention::forward(cuda.target(), storage, sequences(segments, &list), H, D);
    let [room] = cuda.workspace([work.items.len() * size_of::<u32>()]);
    let pointers = [o_NHD.gpu(), lse_NH.gpu(), qkv.gpu()];
    launch(cuda, work, room, pointers, &sizes(storage, heads, segments));
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
    let (storage, N, S) = (storage::<E>(), segments.rows(), heads.qkv());
    let (o, kept, qkv) = (o_NHD.gpu(), kept.gpu(), qkv.gpu());
    let mut kv = kept;
    let (mut past, mut items) = (0, 0);
    if let ([s], [slot]) = (segments.list(), slots) {
        let bytes = |elements: usize| elements * size_of::<E>();
        kv += bytes(slot * capacity * heads.kv()) as u64;
        past = s.first;
        cuda.copy_rows(Rows {
            dst: kv + bytes(s.first * heads.kv()) as u64,
            dst_stride: bytes(heads.kv()),
            src: qkv + bytes(heads.out()) as u64,
            src_stride: bytes(S),
            width: bytes(heads.kv()),
            rows: s.len,
        });
    } else {
        let of = segments.list().iter().zip(slots).flat_map(|(s, slot)| {
            (1..=s.len).flat_map(move |i| [slot * capacity, s.first + i].map(int))
        });
        let list: Vec<u32> = of.collect();
        [items] = cuda.workspace([list.len() * size_of::<u32>()]);
        cuda.upload(items, &list);
        let sizes = [N, S, heads.kv()].map(|x| Arg::U32(int(x)));
        let args = [&[kv, qkv, items].map(Arg::Ptr)[..], &sizes].concat();
        cuda.launch(attention::keep(storage, int(N), int(S), int(heads.kv())), &args);
    }
    let Heads { H, G, D } = heads;
    let sizes = [N, past, S, H, G, D].map(|x| Arg::U32(int(x)));
    let pointers = [o, qkv, kv, items].map(Arg::Ptr);
    let args = [&pointers[..], &sizes, &[Arg::F32(scale(heads))]].concat();
    cuda.launch(attention::decode(storage, int(N), int(H), int(D)), &args);
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
    let (target, storage, rows) = (cuda.target(), storage::<E>(), lse_NH.len());
    let [delta_NH, room] = cuda.workspace(workspace(heads, segments.rows()));
    let pointers = [delta_NH, do_NHD.gpu(), o_NHD.gpu()].map(Arg::Ptr);
    let args = [&pointers[..], &[rows, heads.D].map(|x| Arg::U32(int(x)))].concat();
    cuda.launch(attention::delta(storage, int(rows)), &args);
    let pointers = [dqkv.gpu(), do_NHD.gpu(), qkv.gpu(), lse_NH.gpu(), delta_NH];
    let (sizes, list) = (sizes(storage, heads, segments), list(segments));
    let (sequences, [H, G, D]) = (sequences(segments, &list), [heads.H, heads.G, heads.D].map(int));
    let work = attention::backward_queries(target, storage, sequences, H, D);
    launch(cuda, work, room, pointers, &sizes);
    let work = attention::backward_keys(target, storage, sequences, G, D);
    launch(cuda, work, room, pointers, &sizes);
}

/// Bytes of work space of [`backward`]: delta, and items of a kernel, at most one for each row.
fn workspace(heads: Heads, N: usize) -> [usize; 2] {
    [N * heads.H * size_of::<f32>(), N * ITEM]
}
