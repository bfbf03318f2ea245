use crate::cuda::{Arg, Cuda};
use crate::{Real, View, ViewMut};
use kernels_ptx::launch::norm;

pub fn sum_of_squares<R: Real>(cuda: &Cuda, sum_1: ViewMut<f64>, x: View<R>) {
    let len = x.len() as u64;
    let launch = norm::squares(len);
    let blocks = launch.blocks[0];
    let [part] = cuda.workspace(workspace(x.len()));
    cuda.launch(launch, &[Arg::Ptr(part), Arg::Ptr(x.gpu()), Arg::U64(len)]);
    sum(cuda, sum_1, part, blocks, false);
}

/// Sum of `len` numbers of f64 at `x`, which replaces or is added to `sum_1`.
pub fn sum(cuda: &Cuda, sum_1: ViewMut<f64>, x: u64, len: u32, add: bool) {
    let sizes = [len, add.into()].map(Arg::U32);
    cuda.launch(norm::sum(), &[Arg::Ptr(sum_1.gpu()), Arg::Ptr(x), sizes[0], sizes[1]]);
}

/// Bytes of work space: a sum for each block.
pub fn workspace(len: usize) -> [usize; 1] {
    let blocks = norm::squares(len as u64).blocks[0];
    [blocks as usize * size_of::<f64>()]
}
