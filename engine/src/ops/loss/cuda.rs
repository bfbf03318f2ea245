use super::{Gradients, Logits};
use crate::cuda::product::{Onto, Product};
use crate::cuda::{Cuda, Target, int, storage};
use crate::{Element, Real, View, ViewMut};
use kernels_ptx::loss;
use std::ptr::{null, null_mut};

/// The loss, and its gradients where they are wanted.
pub fn run<E: Element>(
    cuda: &Cuda,
    nats_N: ViewMut<E::Acc>,
    largest_N: Option<ViewMut<i32>>,
    gradients: Option<Gradients<E>>,
    logits: &mut Logits<E>,
    x_NC: View<E>,
    w_VC: View<E>,
    targets_N: &[i32],
    C: usize,
) {
    let (N, V, rows) = (targets_N.len(), w_VC.len() / C, logits.rows().min(targets_N.len()));
    let (logits, w) = (logits.gpu(), w_VC.gpu());
    let [targets, weights, room] = cuda.workspace(workspace::<E>(cuda.target(), rows, N, C, V));
    let (targets, weights, room) = (targets.cast(), weights.cast(), room.cast());
    cuda.upload(targets, targets_N);
    let weights_N = gradients.as_ref().and_then(|g| g.weights_N);
    cuda.upload(weights, weights_N.unwrap_or_default());
    let weights = weights_N.map_or(null(), |_| weights.cast_const());
    let nats = nats_N.same::<f32>().gpu();
    let largest = largest_N.map_or(null_mut(), ViewMut::gpu);
    let gradients = gradients.map(|g| (g.dx_NC.gpu(), g.dw_acc_VC.map(ViewMut::gpu), g.scale));
    let (storage, S) = (storage::<E>(), int(stride::<E>(V)));
    for first in (0..N).step_by(rows) {
        let n = rows.min(N - first);
        let x = x_NC.range(first * C..(first + n) * C).gpu();
        let [forward, backward_input, backward_weight] = products::<E>(n, C, V);
        forward.narrow(cuda, logits, x, w, Onto::Zero, room);
        let (nats_N, targets_N) = (nats.wrapping_add(first), targets.wrapping_add(first));
        let largest_N = onward(largest.cast_const(), first).cast_mut();
        let (logits_NS, N, V) = (logits, int(n), int(V));
        let Some((dx, dw, scale)) = gradients else {
            let launch =
                loss::Forward { storage, nats_N, largest_N, logits_NS, targets_N, V, S, N };
            cuda.launch(&launch);
            continue;
        };
        cuda.launch(&loss::ForwardBackward {
            storage,
            nats_N,
            largest_N,
            logits_NS,
            targets_N,
            weights_N: onward(weights, first),
            scale: scale as f32,
            V,
            S,
            N,
        });
        let dx = dx.wrapping_add(first * C);
        backward_input.narrow(cuda, dx, logits, w, Onto::Zero, room);
        if let Some(dw) = dw {
            backward_weight.wide(cuda, dw, logits, x, Onto::Itself, room);
        }
    }
}

/// The address of row `first`, or null where there are no rows.
fn onward<T>(rows: *const T, first: usize) -> *const T {
    if rows.is_null() { rows } else { rows.wrapping_add(first) }
}

/// Adds the nats of rows to `sum_1`, each times its weight.
pub fn sum<R: Real>(cuda: &Cuda, sum_1: ViewMut<f64>, nats_N: View<R>, weights_N: Option<&[f32]>) {
    let (sum, nats_N, N) = (sum_1.gpu(), nats_N.same::<f32>().gpu(), int(nats_N.len()));
    let [room] = cuda.workspace([weights_N.map_or(0, size_of_val)]);
    cuda.upload(room.cast(), weights_N.unwrap_or_default());
    let weights_N = weights_N.map_or(null(), |_| room.cast_const().cast());
    cuda.launch(&loss::Sum { sum, nats_N, weights_N, N });
}

/// Logits of n rows, dx and dW: the products of a chunk.
fn products<E: Element>(n: usize, C: usize, V: usize) -> [Product; 3] {
    let stride = stride::<E>(V);
    [
        Product { ldc: stride, ..Product::forward(n, C, V) },
        Product { lda: stride, ..Product::backward_input(n, C, V) },
        Product { lda: stride, ..Product::backward_weight(n, C, V) },
    ]
}

/// Elements from one row of logits to the next.
pub fn stride<E: Element>(V: usize) -> usize {
    loss::stride(storage::<E>(), int(V)) as usize
}

/// Rows of a chunk for losses of `N` rows. A chunk reads and writes the head's gradient once, 8
/// bytes for 2 FLOP a row: from 4096 rows on that is 1024 FLOP a byte, three times what keeps tensor
/// cores busy, and a chunk has tiles for every multiprocessor. A small vocabulary has more rows, in
/// 256 MiB; a small memory fewer, in a sixteenth of it. Chunks are of nearly equal size.
pub fn chunk_rows<E: Element>(cuda: &Cuda, N: usize, V: usize) -> usize {
    /// Rows of a product's tile.
    const TILE: usize = 128;
    let row = stride::<E>(V) * size_of::<E>();
    // Devices of one type report slightly different sizes, which share the power of two below them.
    let memory = 1 << cuda.memory_bytes().max(1).ilog2();
    let rows = ((256 << 20) / row).max(4096).min(memory / 16 / row);
    let most = (rows / TILE * TILE).max(TILE);
    N.div_ceil(N.div_ceil(most).max(1)).next_multiple_of(TILE).min(N)
}

/// Bytes of work space for chunks of `rows`: targets, weights, and parts of a product.
fn workspace<E: Element>(target: Target, rows: usize, N: usize, C: usize, V: usize) -> [usize; 3] {
    let last = (N - 1) % rows + 1;
    let products = [rows, last].map(|n| products::<E>(n, C, V));
    let room = products.iter().flatten().map(|product| product.room(target, storage::<E>())).max();
    [N * size_of::<i32>(), N * size_of::<f32>(), room.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::{chunk_rows, workspace};
    use crate::cuda::tests::fake;
    use crate::cuda::{Cuda, Target, workspace_bytes};
    use crate::ops::loss::{Logits, forward_backward};
    use crate::{Buf, Device, bf16};
    use kernels_ptx::launch::Launch;

    const VOCABULARY: usize = 32000;
    /// Tokens of a step and width of the heads of 134 million and 1.1 billion parameters.
    const HEADS: [(&str, usize, usize); 2] = [("G110", 32768, 768), ("G1B", 16384, 2048)];

    /// What the head's forward and backward launch, nothing executed, with memory as it is planned.
    fn launches(target: Target, N: usize, C: usize) -> Vec<Launch> {
        let V = VOCABULARY;
        let (cuda, seen) = fake(target, 80 << 30);
        let dev = Device::Cuda(cuda.clone());
        let rows = chunk_rows::<bf16>(&cuda, N, V);
        let room = workspace_bytes(&workspace::<bf16>(target, rows, N, C, V)) as u64;
        let imagined = dev.counting();
        drop(Logits::<bf16>::new(&imagined, N, V));
        let planned = imagined.counted().unwrap().total();
        cuda.reserve(planned, room).unwrap();
        let mut logits = Logits::<bf16>::new(&dev, N, V);
        assert_eq!((logits.rows(), cuda.held_bytes()), (rows, (planned + room, 0)));

        let [mut dx, x, w] = [N * C, N * C, V * C].map(|len| Buf::<bf16>::zeros(&dev, len));
        let [mut dw, mut nats] = [V * C, N].map(|len| Buf::<f32>::zeros(&dev, len));
        let (nats, dx, dw) = (nats.view_mut(), dx.view_mut(), dw.view_mut());
        let (x, w, targets) = (x.view(), w.view(), vec![1; N]);
        forward_backward(&dev, nats, None, dx, Some(dw), &mut logits, x, w, &targets, None, 1.0, C);
        dev.sync().unwrap();
        assert_eq!(cuda.held_bytes().0, planned + room, "work space is as planned");
        seen.lock().unwrap().clone()
    }

    /// Bytes of the head's gradient that a step reads and writes, in chunks of so many rows.
    fn gradient_bytes(N: usize, C: usize, rows: usize) -> usize {
        N.div_ceil(rows) * 2 * VOCABULARY * C * size_of::<f32>()
    }

    #[test]
    fn a_head_fills_a_gpu() {
        for capability in [80, 86, 89, 90, 100, 120] {
            let target = Target::of(capability);
            for (name, N, C) in HEADS {
                let launches = launches(target, N, C);
                let chunks = launches.iter().filter(|l| l.kernel.starts_with("gemm_tn")).count();
                println!("sm_{capability} {name}: {chunks} chunks of");
                for launch in &launches[..launches.len() / chunks] {
                    let blocks: u32 = launch.blocks.iter().product();
                    println!("  {} {:?}", launch.kernel, launch.blocks);
                    let enough = (target.multiprocessors * 7 / 8).min(100);
                    assert!(blocks >= enough, "{target:?} {name}: {launch:?}");
                }
                let whole = launches.iter().filter(|l| l.kernel.starts_with("gemm_tn"));
                assert!(whole.clone().all(|l| l.blocks[2] == 1), "dW is added in place");
                let [before, now] = [512, N / chunks].map(|rows| gradient_bytes(N, C, rows));
                println!("  its gradient: {:.1} GB, {:.1} in chunks of 512", gb(now), gb(before));
                assert!(now * 8 <= before);
            }
        }
    }

    fn gb(bytes: usize) -> f64 {
        bytes as f64 * 1e-9
    }

    #[test]
    fn traffic_of_the_gradient() {
        let bytes = HEADS.map(|(_, N, C)| [512, 4096].map(|rows| gb(gradient_bytes(N, C, rows))));
        let rounded = bytes.map(|bytes| bytes.map(|gb| (gb * 10.0).round() / 10.0));
        assert_eq!(rounded, [[12.6, 1.6], [16.8, 2.1]]);
    }

    #[test]
    fn rows_of_a_chunk() {
        let rows = |memory: u64, N: usize, V: usize| {
            let cuda: Cuda = fake(Target::of(90), memory).0;
            chunk_rows::<bf16>(&cuda, N, V)
        };
        let gib = 1 << 30;
        assert_eq!(rows(80 * gib, 32768, 32000), 4096);
        assert_eq!(rows(80 * gib, 32768, 50257), 4096);
        // A small vocabulary fits whole, a large one into a small memory only in part.
        assert_eq!(rows(80 * gib, 32768, 4096), 32768);
        assert_eq!(rows(8 * gib - 1, 32768, 128_256), 1024);
        assert_eq!(rows(7 * gib, 32768, 128_256), 1024);
        assert_eq!(rows(1, 32768, 128_256), 128);
        // Chunks of nearly equal size, of whole tiles.
        assert_eq!(rows(80 * gib, 4097, 32000), 2176);
        assert_eq!(rows(80 * gib, 5, 32000), 5);
        assert_eq!(rows(u64::MAX, 8192, 32000), 4096);
    }
}
