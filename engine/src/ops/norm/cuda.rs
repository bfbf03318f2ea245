use crate::cuda::{Arg, Cuda};
use crate::{Real, View, ViewMut};
use kernels_ptx::launch::norm;

pub fn sum_of_squares<R: Real>(cuda: &Cuda, sum_1: ViewMut<f64>, x: View<R>) {
    let len = x.len() as u64;
    let launch = norm::squares(len);
    let blocks = launch.blocks[0];
    let [part] = cuda.workspace(workspace(x.len())).map(Arg::Ptr);
    cuda.launch(launch, &[part, Arg::Ptr(x.gpu()), Arg::U64(len)]);
    cuda.launch(norm::sum(), &[Arg::Ptr(sum_1.gpu()), part, Arg::U32(blocks)]);
}

/// Bytes of work space: a sum for each block.
fn workspace(len: usize) -> [usize; 1] {
    let blocks = norm::squares(len as u64).blocks[0];
    [blocks as usize * size_of::<f64>()]
}
