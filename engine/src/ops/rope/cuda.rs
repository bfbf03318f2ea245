use crate::cuda::{Cuda, int, storage};
use crate::{Element, Segments, View, ViewMut};
use kernels_ptx::rope;
use std::ptr::null;

/// Kernels know positions of sequences of equal length, and of one that goes on, where the table's
/// row for its first token is given. Others go up row by row.
///
/// `sign` is 1 forward, -1 backward.
pub fn rotate<E: Element>(
    cuda: &Cuda,
    x_NS: ViewMut<E>,
    table_TD: View<E::Acc>,
    segments: &Segments,
    S: usize,
    heads: usize,
    D: usize,
    sign: f32,
) {
    let (N, mut table_TD) = (segments.rows(), table_TD.same::<f32>().gpu());
    let mut positions_N = null();
    let T = match (segments.list(), segments.equal_len()) {
        (_, Some(T)) => T,
        ([one], _) => {
            table_TD = table_TD.wrapping_add(one.first * D);
            N
        }
        (list, _) => {
            let positions = list.iter().flat_map(|s| s.first..s.first + s.len).map(int);
            let positions: Vec<u32> = positions.collect();
            let [room] = cuda.workspace([N * size_of::<u32>()]);
            cuda.upload(room.cast(), &positions);
            positions_N = room.cast();
            0
        }
    };
    let [N, T, S, heads, D] = [N, T, S, heads, D].map(int);
    let (storage, x_NS) = (storage::<E>(), x_NS.gpu());
    cuda.launch(&rope::Rotate { storage, x_NS, table_TD, positions_N, N, T, S, heads, D, sign });
}
