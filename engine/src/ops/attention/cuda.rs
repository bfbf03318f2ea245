//! Sequences of equal length are known to kernels by their number and T. Of others each block reads
//! its own work from a list, which goes up before the launch.

use super::Heads;
use crate::cuda::{Cuda, Rows, int, storage};
use crate::{Element, Segments, View, ViewMut};
use half::bf16;
use kernels_ptx::attention::decode::{Decode, Keep};
use kernels_ptx::attention::{Delta, flash, plain};
use kernels_ptx::launch::Storage;
use std::ptr::null;

/// Numbers of an item.
const ITEM: usize = 3;

/// Sequences as launches take them.
struct Sequences {
    /// First row and rows of each, where their lengths differ.
    list: Vec<[u32; 2]>,
    count: u32,
    N: u32,
    /// 0 where lengths differ.
    T: u32,
}

impl Sequences {
    fn of(segments: &Segments) -> Self {
        let N = segments.rows();
        let (list, count, T) = match segments.equal_len() {
            Some(T) => (Vec::new(), N / T, T),
            None => {
                let list = segments.list().iter().map(|s| [s.offset, s.len].map(int));
                (list.collect(), 0, 0)
            }
        };
        Sequences { list, count: int(count), N: int(N), T: int(T) }
    }

    /// Sends `items` up to `room`: their address, and how many they are. Where there are none, null and
    /// the number of sequences.
    fn items(&self, cuda: &Cuda, room: *mut u32, items: &[u32]) -> (*const u32, u32) {
        if self.list.is_empty() {
            return (null(), self.count);
        }
        cuda.upload(room, items);
        (room, int(items.len() / ITEM))
    }
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
    let (sequences, scale) = (Sequences::of(segments), scale(heads));
    let (N, T, [H, G, D]) = (sequences.N, sequences.T, [heads.H, heads.G, heads.D].map(int));
    let room = |items: &[u32]| cuda.workspace([size_of_val(items)])[0].cast();
    let lse_NH = lse_NH.same::<f32>().gpu();
    match storage::<E>() {
        Storage::F32 => {
            let items = plain::Forward::items(&sequences.list);
            let (items, _) = sequences.items(cuda, room(&items), &items);
            let (o_NHD, qkv) = (o_NHD.same::<f32>().gpu(), qkv.same::<f32>().gpu());
            let launch = plain::Forward { o_NHD, lse_NH, qkv, items, N, T, H, G, D, scale };
            cuda.launch(&launch);
        }
        Storage::Bf16 => {
            let items = flash::Forward::items(&sequences.list, D);
            let (items, count) = sequences.items(cuda, room(&items), &items);
            let (o_NHD, qkv) = (o_NHD.same::<bf16>().gpu(), qkv.same::<bf16>().gpu());
            let launch = flash::Forward { o_NHD, lse_NH, qkv, items, T, H, G, D, scale, count };
            cuda.launch(&launch);
        }
    }
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
    let (storage, rows, stride) = (storage::<E>(), segments.rows(), heads.qkv());
    let (qkv, mut kv) = (qkv.gpu(), kept.gpu());
    let (mut past, mut items) = (0, null());
    let [N, S, width] = [rows, stride, heads.kv()].map(int);
    if let ([s], [slot]) = (segments.list(), slots) {
        let bytes = |elements: usize| elements * size_of::<E>();
        let address = |at: *const E| at.addr() as u64;
        kv = kv.wrapping_add(slot * capacity * heads.kv());
        past = int(s.first);
        cuda.copy_rows(Rows {
            dst: address(kv.wrapping_add(s.first * heads.kv())),
            dst_stride: bytes(heads.kv()),
            src: address(qkv.wrapping_add(heads.out())),
            src_stride: bytes(stride),
            width: bytes(heads.kv()),
            rows: s.len,
        });
    } else {
        let of = segments.list().iter().zip(slots).flat_map(|(s, slot)| {
            (1..=s.len).flat_map(move |i| [slot * capacity, s.first + i].map(int))
        });
        let list: Vec<u32> = of.collect();
        let [room] = cuda.workspace([size_of_val(&list[..])]);
        cuda.upload(room.cast(), &list);
        items = room.cast_const().cast();
        cuda.launch(&Keep { storage, kv, qkv_NS: qkv, items, N, S, width });
    }
    let ([H, G, D], o_NHD) = ([heads.H, heads.G, heads.D].map(int), o_NHD.gpu());
    let (q_NS, scale) = (qkv, scale(heads));
    cuda.launch(&Decode { storage, o_NHD, q_NS, kv, items, N, past, S, H, G, D, scale });
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
    let [delta, room] = cuda.workspace(workspace(heads, segments.rows()));
    let (delta_NH, room) = (delta.cast(), room.cast());
    let (storage, rows, D) = (storage::<E>(), int(lse_NH.len()), int(heads.D));
    let o_NHD = o_NHD.gpu();
    cuda.launch(&Delta { storage, delta_NH, do_NHD: do_NHD.gpu(), o_NHD, rows, D });
    let lse_NH = lse_NH.same::<f32>().gpu();
    match storage {
        Storage::F32 => {
            let (dqkv, do_NHD, qkv) = (dqkv.same(), do_NHD.same(), qkv.same());
            backward_plain(cuda, dqkv, do_NHD, qkv, lse_NH, delta_NH, room, segments, heads);
        }
        Storage::Bf16 => {
            let (dqkv, do_NHD, qkv) = (dqkv.same(), do_NHD.same(), qkv.same());
            backward_flash(cuda, dqkv, do_NHD, qkv, lse_NH, delta_NH, room, segments, heads);
        }
    }
}

fn backward_plain(
    cuda: &Cuda,
    dqkv: ViewMut<f32>,
    do_NHD: View<f32>,
    qkv: View<f32>,
    lse_NH: *const f32,
    delta_NH: *const f32,
    room: *mut u32,
    segments: &Segments,
    heads: Heads,
) {
    let (sequences, scale) = (Sequences::of(segments), scale(heads));
    let (N, T, [H, G, D]) = (sequences.N, sequences.T, [heads.H, heads.G, heads.D].map(int));
    let (dqkv, do_NHD, qkv) = (dqkv.gpu(), do_NHD.gpu(), qkv.gpu());
    let items = plain::BackwardQueries::items(&sequences.list);
    let (items, _) = sequences.items(cuda, room, &items);
    cuda.launch(&plain::BackwardQueries {
        dqkv,
        do_NHD,
        qkv,
        lse_NH,
        delta_NH,
        items,
        N,
        T,
        H,
        G,
        D,
        scale,
    });
    let items = plain::BackwardKeys::items(&sequences.list);
    let (items, _) = sequences.items(cuda, room, &items);
    cuda.launch(&plain::BackwardKeys {
        dqkv,
        do_NHD,
        qkv,
        lse_NH,
        delta_NH,
        items,
        N,
        T,
        H,
        G,
        D,
        scale,
    });
}

fn backward_flash(
    cuda: &Cuda,
    dqkv: ViewMut<bf16>,
    do_NHD: View<bf16>,
    qkv: View<bf16>,
    lse_NH: *const f32,
    delta_NH: *const f32,
    room: *mut u32,
    segments: &Segments,
    heads: Heads,
) {
    let (sequences, scale) = (Sequences::of(segments), scale(heads));
    let (T, [H, G, D]) = (sequences.T, [heads.H, heads.G, heads.D].map(int));
    let (dqkv, do_NHD, qkv) = (dqkv.gpu(), do_NHD.gpu(), qkv.gpu());
    let items = flash::BackwardQueries::items(cuda.target(), &sequences.list, D);
    let (items, count) = sequences.items(cuda, room, &items);
    cuda.launch(&flash::BackwardQueries {
        dqkv,
        do_NHD,
        qkv,
        lse_NH,
        delta_NH,
        items,
        T,
        H,
        G,
        D,
        scale,
        count,
    });
    let items = flash::BackwardKeys::items(cuda.target(), &sequences.list, D);
    let (items, count) = sequences.items(cuda, room, &items);
    cuda.launch(&flash::BackwardKeys {
        dqkv,
        do_NHD,
        qkv,
        lse_NH,
        delta_NH,
        items,
        T,
        H,
        G,
        D,
        scale,
        count,
    });
}

/// Bytes of work space of [`backward`]: delta, and items of a kernel, at most one for each row.
fn workspace(heads: Heads, N: usize) -> [usize; 2] {
    [N * heads.H * size_of::<f32>(), N * ITEM * size_of::<u32>()]
}
