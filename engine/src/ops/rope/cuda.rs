use crate::cuda::{Arg, Cuda, int, storage};
use crate::{Element, Segments, View, ViewMut};
use kernels_ptx::launch::rope;

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
    let (N, mut table, mut positions_N) = (segments.rows(), table_TD.gpu(), 0);
    let T = match (segments.list(), segments.equal_len()) {
        (_, Some(T)) => T,
        ([one], _) => {
            table += (one.first * D * size_of::<f32>()) as u64;
            N
        }
        (list, _) => {
            let positions = list.iter().flat_map(|s| s.first..s.first + s.len).map(int);
            let positions: Vec<u32> = positions.collect();
            [positions_N] = cuda.workspace([N * size_of::<u32>()]);
            cuda.upload(positions_N, &positions);
            0
        }
    };
    let [N, T, S, heads, D] = [N, T, S, heads, D].map(int);
    let sizes = [N, T, S, heads, D].map(Arg::U32);
    let pointers = [x_NS.gpu(), table, positions_N].map(Arg::Ptr);
    let args = [&pointers[..], &sizes, &[Arg::F32(sign)]].concat();
    cuda.launch(rope::rotate(storage::<E>(), N, S, D), &args);
}
