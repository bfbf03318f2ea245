//! Matrix products on the device: by our kernels, or by cuBLASLt for comparison.

#[cfg(feature = "cuda")]
use super::cublaslt::{self, CublasLt};
use super::driver::{Arg, Driver};
use super::{Cuda, Storage, Target, int};
pub(crate) use kernels_ptx::launch::gemm::Layout;
use kernels_ptx::launch::gemm::{self, Cut};
use kernels_ptx::launch::skinny;
use std::sync::Arc;

/// What multiplies.
pub(crate) enum Products {
    Kernels,
    #[cfg(feature = "cuda")]
    CublasLt(Box<CublasLt>),
}

impl Products {
    #[cfg(feature = "cuda")]
    pub fn cublaslt(driver: Arc<dyn Driver>) -> Result<Self, String> {
        CublasLt::new(driver).map(|lt| Products::CublasLt(Box::new(lt)))
    }

    pub fn describe(&self) -> String {
        match self {
            Products::Kernels => String::new(),
            #[cfg(feature = "cuda")]
            Products::CublasLt(lt) => format!(", matrix products by cuBLASLt {}", lt.version()),
        }
    }

    /// Bytes of device memory that it holds for itself.
    pub fn held_bytes(&self) -> usize {
        match self {
            Products::Kernels => 0,
            #[cfg(feature = "cuda")]
            Products::CublasLt(_) => cublaslt::WORKSPACE,
        }
    }
}

/// C (M x N) of A (M x K) and B (K x N), which lie as `layout` says in rows of `lda` and `ldb`
/// elements. C has rows of `ldc`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product {
    pub layout: Layout,
    pub M: usize,
    pub N: usize,
    pub K: usize,
    pub lda: usize,
    pub ldb: usize,
    pub ldc: usize,
}

/// What a product is added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Onto {
    Zero,
    /// Another matrix like C.
    Other(u64),
    /// What C holds.
    Itself,
}

/// How our kernels of brain floats compute a product.
enum Way {
    /// A few rows with a weight, for which tiles are too tall.
    FewRows,
    /// In tiles, and K perhaps in parts.
    Tiles(Cut),
}

/// Elements from row to row as a launch is chosen for: columns of wider rows may begin anywhere, and
/// then no row is aligned, whatever its length.
fn steps(ld: usize, at: u64) -> u32 {
    if at.is_multiple_of(16) { int(ld) } else { 1 }
}

impl Product {
    /// y = x W^T: N rows of I, O rows of I.
    pub fn forward(N: usize, I: usize, O: usize) -> Self {
        Product { layout: Layout::Nt, M: N, N: O, K: I, lda: I, ldb: I, ldc: O }
    }

    /// dx = dy W.
    pub fn backward_input(N: usize, I: usize, O: usize) -> Self {
        Product { layout: Layout::Nn, M: N, N: I, K: O, lda: O, ldb: I, ldc: I }
    }

    /// dW = dy^T x.
    pub fn backward_weight(N: usize, I: usize, O: usize) -> Self {
        Product { layout: Layout::Tn, M: O, N: I, K: N, lda: O, ldb: I, ldc: I }
    }

    /// Bytes of room that it needs on a device: for the parts of a deep product of few tiles.
    pub fn room(&self, target: Target, storage: Storage) -> usize {
        if storage == Storage::F32 {
            return 0;
        }
        match self.way(target) {
            Way::Tiles(Cut { parts, .. }) if parts > 1 => {
                parts as usize * self.M * self.N * size_of::<f32>()
            }
            _ => 0,
        }
    }

    fn way(&self, target: Target) -> Way {
        let [M, N, K, lda, ldb] = [self.M, self.N, self.K, self.lda, self.ldb].map(int);
        if self.layout == Layout::Nt && skinny::takes(M, K, lda, ldb) {
            Way::FewRows
        } else {
            Way::Tiles(gemm::cut(target, M, N, K))
        }
    }

    fn sizes(&self, ldc: usize) -> [Arg; 6] {
        [self.M, self.N, self.K, self.lda, self.ldb, ldc].map(|x| Arg::U32(int(x)))
    }

    /// Writes C, in the storage of A and B. `room` is the address of [`Product::room`] bytes.
    pub fn narrow(
        &self,
        cuda: &Cuda,
        storage: Storage,
        c: u64,
        a: u64,
        b: u64,
        onto: Onto,
        room: u64,
    ) {
        match (&*cuda.products, storage) {
            #[cfg(feature = "cuda")]
            (Products::CublasLt(lt), _) => {
                cuda.attempt(|_| lt.multiply(self, storage, storage, [c, a, b], onto));
            }
            (Products::Kernels, Storage::F32) => self.f32(cuda, c, a, b, onto),
            (Products::Kernels, Storage::Bf16) => self.bf16(cuda, c, a, b, onto, room),
        }
    }

    /// Writes or adds to C in f32. `room` is the address of [`Product::room`] bytes.
    pub fn wide(
        &self,
        cuda: &Cuda,
        storage: Storage,
        c: u64,
        a: u64,
        b: u64,
        onto: Onto,
        room: u64,
    ) {
        match (&*cuda.products, storage) {
            #[cfg(feature = "cuda")]
            (Products::CublasLt(lt), _) => {
                cuda.attempt(|_| lt.multiply(self, storage, Storage::F32, [c, a, b], onto));
            }
            (Products::Kernels, Storage::F32) => self.f32(cuda, c, a, b, onto),
            (Products::Kernels, Storage::Bf16) => self.bf16_wide(cuda, c, a, b, onto, room),
        }
    }

    fn bf16(&self, cuda: &Cuda, c: u64, a: u64, b: u64, onto: Onto, room: u64) {
        let target = cuda.target();
        let r = match onto {
            Onto::Zero => 0,
            Onto::Other(r) => r,
            Onto::Itself => c,
        };
        let (M, N) = (int(self.M), int(self.N));
        let launch = match self.way(target) {
            Way::FewRows => skinny::rounded(target, M, N),
            Way::Tiles(cut) if cut.parts == 1 => {
                gemm::rounded(cut, self.layout, M, N, steps(self.lda, a), steps(self.ldb, b))
            }
            Way::Tiles(cut) => {
                self.queue_wide(cuda, cut, room, a, b, self.N, false);
                let sizes = [M, N, int(self.ldc), cut.parts].map(Arg::U32);
                let args = [&[c, r, room].map(Arg::Ptr)[..], &sizes].concat();
                return cuda.launch(gemm::round_parts(M, N), &args);
            }
        };
        let operands = [c, r, a, b].map(Arg::Ptr);
        cuda.launch(launch, &[&operands[..], &self.sizes(self.ldc)].concat());
    }

    fn bf16_wide(&self, cuda: &Cuda, c: u64, a: u64, b: u64, onto: Onto, room: u64) {
        assert!(!matches!(onto, Onto::Other(_)), "cuda: f32 is added to what it replaces");
        let cut = match self.way(cuda.target()) {
            Way::Tiles(cut) => cut,
            Way::FewRows => {
                assert_eq!(onto, Onto::Zero, "cuda: products of a few rows are not added");
                let launch = skinny::wide(cuda.target(), int(self.M), int(self.N));
                let operands = [c, a, b].map(Arg::Ptr);
                return cuda.launch(launch, &[&operands[..], &self.sizes(self.ldc)].concat());
            }
        };
        if cut.parts == 1 {
            return self.queue_wide(cuda, cut, c, a, b, self.ldc, onto == Onto::Itself);
        }
        assert_eq!(self.ldc, self.N, "cuda: parts are added to rows without gaps");
        let len = self.M * self.N;
        if onto == Onto::Zero {
            cuda.zero(c, len * size_of::<f32>());
        }
        self.queue_wide(cuda, cut, room, a, b, self.N, false);
        let args = [Arg::Ptr(c), Arg::Ptr(room), Arg::U64(len as u64), Arg::U32(cut.parts)];
        cuda.launch(gemm::add_parts(len as u64), &args);
    }

    /// Queues the product in f32: C itself, or the parts of `cut`.
    fn queue_wide(&self, cuda: &Cuda, cut: Cut, to: u64, a: u64, b: u64, ldc: usize, add: bool) {
        let [M, N] = [self.M, self.N].map(int);
        let (lda, ldb) = (steps(self.lda, a), steps(self.ldb, b));
        let launch = gemm::wide(cut, self.layout, M, N, lda, ldb);
        let operands = [to, a, b].map(Arg::Ptr);
        let tail = [Arg::U32(cut.depth), Arg::U32(add.into())];
        cuda.launch(launch, &[&operands[..], &self.sizes(ldc), &tail].concat());
    }

    fn f32(&self, cuda: &Cuda, c: u64, a: u64, b: u64, onto: Onto) {
        // Steps from row to row and from column to column of A (M x K) and B (K x N).
        let (lda, ldb) = (self.lda, self.ldb);
        let [a_row, a_col, b_row, b_col] = match self.layout {
            Layout::Nt => [lda, 1, 1, ldb],
            Layout::Nn => [lda, 1, ldb, 1],
            Layout::Tn => [1, lda, ldb, 1],
        };
        let (r, add) = match onto {
            Onto::Zero => (0, 0),
            Onto::Other(r) => (r, 0),
            Onto::Itself => (0, 1),
        };
        let sizes = [self.M, self.N, self.K, a_row, a_col, b_row, b_col, self.ldc, add];
        let sizes = sizes.map(|x| Arg::U32(int(x)));
        let launch = gemm::f32(int(self.M), int(self.N));
        cuda.launch(launch, &[&[c, r, a, b].map(Arg::Ptr)[..], &sizes].concat());
    }
}
