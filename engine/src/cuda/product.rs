//! Matrix products on the device: by our kernels, or by cuBLASLt for comparison.

use super::cublaslt::CublasLt;
use super::driver::{Arg, Driver};
use super::{Cuda, Storage, Target, int};
pub(crate) use kernels_ptx::launch::gemm::Layout;
use kernels_ptx::launch::{gemm, skinny};

/// What multiplies.
pub(crate) enum Products {
    Kernels,
    CublasLt(CublasLt),
}

impl Products {
    pub fn cublaslt(driver: &dyn Driver) -> Result<Self, String> {
        CublasLt::new(driver.stream()).map(Products::CublasLt)
    }

    pub fn describe(&self) -> &'static str {
        match self {
            Products::Kernels => "",
            Products::CublasLt(_) => ", matrix products by cuBLASLt",
        }
    }
}

/// C (M x N) of A (M x K) and B (K x N), which lie as `layout` says in rows of `lda` and `ldb`
/// elements. C has rows of N.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product {
    pub layout: Layout,
    pub M: usize,
    pub N: usize,
    pub K: usize,
    pub lda: usize,
    pub ldb: usize,
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

impl Product {
    /// y = x W^T: N rows of I, O rows of I.
    pub fn forward(N: usize, I: usize, O: usize) -> Self {
        Product { layout: Layout::Nt, M: N, N: O, K: I, lda: I, ldb: I }
    }

    /// dx = dy W.
    pub fn backward_input(N: usize, I: usize, O: usize) -> Self {
        Product { layout: Layout::Nn, M: N, N: I, K: O, lda: O, ldb: I }
    }

    /// dW = dy^T x.
    pub fn backward_weight(N: usize, I: usize, O: usize) -> Self {
        Product { layout: Layout::Tn, M: O, N: I, K: N, lda: O, ldb: I }
    }

    /// Bytes of room that [`Product::wide`] needs: for the parts of a deep and narrow product.
    pub fn room(&self, target: Target, storage: Storage) -> usize {
        match self.parts(target, storage) {
            1 => 0,
            parts => parts * self.M * self.N * 4,
        }
    }

    fn depth(&self, target: Target) -> u32 {
        gemm::part_depth(target, int(self.M), int(self.N), int(self.K))
    }

    fn parts(&self, target: Target, storage: Storage) -> usize {
        match (storage, self.layout) {
            (Storage::Bf16, Layout::Tn) => self.K.div_ceil(self.depth(target) as usize),
            _ => 1,
        }
    }

    /// Whether this is a product of a few rows with a weight, for which tiles are too tall.
    fn is_skinny(&self) -> bool {
        let [M, K, lda, ldb] = [self.M, self.K, self.lda, self.ldb].map(int);
        self.layout == Layout::Nt && skinny::takes(M, K, lda, ldb)
    }

    fn sizes(&self) -> [Arg; 6] {
        [self.M, self.N, self.K, self.lda, self.ldb, self.N].map(|x| Arg::U32(int(x)))
    }

    /// Writes C, in the storage of A and B.
    pub fn narrow(&self, cuda: &Cuda, storage: Storage, c: u64, a: u64, b: u64, onto: Onto) {
        match (&*cuda.products, storage) {
            (Products::CublasLt(lt), _) => {
                cuda.attempt(|_| lt.multiply(self, storage, storage, [c, a, b], onto));
            }
            (Products::Kernels, Storage::F32) => self.f32(cuda, c, a, b, onto),
            (Products::Kernels, Storage::Bf16) => {
                let r = match onto {
                    Onto::Zero => 0,
                    Onto::Other(r) => r,
                    Onto::Itself => c,
                };
                let [M, N, lda, ldb] = [self.M, self.N, self.lda, self.ldb].map(int);
                let launch = if self.is_skinny() {
                    skinny::rounded(cuda.target(), M, N)
                } else {
                    gemm::rounded(cuda.target(), self.layout, M, N, lda, ldb)
                };
                cuda.launch(launch, &[&[c, r, a, b].map(Arg::Ptr)[..], &self.sizes()].concat());
            }
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
            (Products::CublasLt(lt), _) => {
                cuda.attempt(|_| lt.multiply(self, storage, Storage::F32, [c, a, b], onto));
            }
            (Products::Kernels, Storage::F32) => self.f32(cuda, c, a, b, onto),
            (Products::Kernels, Storage::Bf16) if self.is_skinny() && onto == Onto::Zero => {
                let launch = skinny::wide(cuda.target(), int(self.M), int(self.N));
                cuda.launch(launch, &[&[c, a, b].map(Arg::Ptr)[..], &self.sizes()].concat());
            }
            (Products::Kernels, Storage::Bf16) => self.bf16_wide(cuda, c, a, b, onto, room),
        }
    }

    fn bf16_wide(&self, cuda: &Cuda, c: u64, a: u64, b: u64, onto: Onto, room: u64) {
        let target = cuda.target();
        let parts = self.parts(target, Storage::Bf16);
        let depth = if parts == 1 { int(self.K).next_multiple_of(64) } else { self.depth(target) };
        let [lda, ldb] = [self.lda, self.ldb].map(int);
        let (M, N, K) = (int(self.M), int(self.N), int(self.K));
        let launch = gemm::wide(target, self.layout, M, N, K, lda, ldb, depth);
        let queue = |to: u64, add: bool| {
            let tail = [Arg::U32(depth), Arg::U32(add.into())];
            let operands = [to, a, b].map(Arg::Ptr);
            cuda.launch(launch, &[&operands[..], &self.sizes(), &tail].concat());
        };
        if parts == 1 {
            return queue(c, onto == Onto::Itself);
        }
        assert!(onto == Onto::Itself, "cuda: products in parts are added");
        let len = (self.M * self.N) as u64;
        queue(room, false);
        let args = [Arg::Ptr(c), Arg::Ptr(room), Arg::U64(len), Arg::U32(int(parts))];
        cuda.launch(gemm::add_parts(len), &args);
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
        let sizes = [self.M, self.N, self.K, a_row, a_col, b_row, b_col, self.N, add];
        let sizes = sizes.map(|x| Arg::U32(int(x)));
        let launch = gemm::f32(int(self.M), int(self.N));
        cuda.launch(launch, &[&[c, r, a, b].map(Arg::Ptr)[..], &sizes].concat());
    }
}
