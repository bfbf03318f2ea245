use crate::cuda::Cuda;
use crate::{Real, View, ViewMut};
use kernels_ptx::norm;

pub fn sum_of_squares<R: Real>(cuda: &Cuda, sum_1: ViewMut<f64>, x: View<R>) {
    let [part] = cuda.workspace(workspace(x.len()));
    let (part_P, len) = (part.cast(), x.len() as u64);
    cuda.launch(&norm::Squares { part_P, x: x.same::<f32>().gpu(), len });
    cuda.launch(&norm::Sum { sum: sum_1.gpu(), x: part_P, len: norm::parts(len) });
}

/// Bytes of work space: a sum for each block.
fn workspace(len: usize) -> [usize; 1] {
    [norm::parts(len as u64) as usize * size_of::<f64>()]
}
