//! Matrix products on the device: by our kernels, or by cuBLASLt for comparison.

#[cfg(feature = "cuda")]
use super::cublaslt::{self, CublasLt};
use super::driver::Driver;
use super::{Cuda, Storage, Target, int, storage};
use crate::element::Element;
use half::bf16;
pub(crate) use kernels_ptx::linear::gemm::Layout;
use kernels_ptx::linear::gemm::{self, Cut};
use kernels_ptx::linear::skinny;
use std::ptr::null;
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
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Onto<T> {
    Zero,
    /// Another matrix like C.
    Other(*const T),
    /// What C holds.
    Itself,
}

impl<T> Onto<T> {
    fn cast<U>(self) -> Onto<U> {
        match self {
            Onto::Zero => Onto::Zero,
            Onto::Other(r) => Onto::Other(r.cast()),
            Onto::Itself => Onto::Itself,
        }
    }
}

/// How our kernels of brain floats compute a product.
enum Way {
    /// A few rows with a weight, for which tiles are too tall.
    FewRows,
    /// In tiles, and K perhaps in parts.
    Tiles(Cut),
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

    /// M, N, K, lda, ldb and ldc as kernels take them.
    fn sizes(&self) -> [u32; 6] {
        [self.M, self.N, self.K, self.lda, self.ldb, self.ldc].map(int)
    }

    /// Writes C, in the storage of A and B. `room` is the address of [`Product::room`] bytes.
    pub fn narrow<E: Element>(
        &self,
        cuda: &Cuda,
        c: *mut E,
        a: *const E,
        b: *const E,
        onto: Onto<E>,
        room: *mut f32,
    ) {
        match (&*cuda.products, storage::<E>()) {
            #[cfg(feature = "cuda")]
            (Products::CublasLt(lt), _) => {
                cuda.attempt(|_| lt.multiply(self, c, a, b, onto));
            }
            (Products::Kernels, Storage::F32) => {
                self.f32(cuda, c.cast(), a.cast(), b.cast(), onto.cast());
            }
            (Products::Kernels, Storage::Bf16) => {
                self.bf16(cuda, c.cast(), a.cast(), b.cast(), onto.cast(), room);
            }
        }
    }

    /// Writes or adds to C in f32. `room` is the address of [`Product::room`] bytes.
    pub fn wide<E: Element>(
        &self,
        cuda: &Cuda,
        c: *mut E::Acc,
        a: *const E,
        b: *const E,
        onto: Onto<E::Acc>,
        room: *mut f32,
    ) {
        match (&*cuda.products, storage::<E>()) {
            #[cfg(feature = "cuda")]
            (Products::CublasLt(lt), _) => {
                cuda.attempt(|_| lt.multiply(self, c, a, b, onto));
            }
            (Products::Kernels, Storage::F32) => {
                self.f32(cuda, c.cast(), a.cast(), b.cast(), onto.cast());
            }
            (Products::Kernels, Storage::Bf16) => {
                self.bf16_wide(cuda, c.cast(), a.cast(), b.cast(), onto.cast(), room);
            }
        }
    }

    fn bf16(
        &self,
        cuda: &Cuda,
        c: *mut bf16,
        a: *const bf16,
        b: *const bf16,
        onto: Onto<bf16>,
        room: *mut f32,
    ) {
        let r = match onto {
            Onto::Zero => null(),
            Onto::Other(r) => r,
            Onto::Itself => c,
        };
        let (layout, [M, N, K, lda, ldb, ldc]) = (self.layout, self.sizes());
        match self.way(cuda.target()) {
            Way::FewRows => {
                let (y, x, w, ldx, ldw, ldy) = (c, a, b, lda, ldb, ldc);
                cuda.launch(&skinny::Rounded { y, r, x, w, M, N, K, ldx, ldw, ldy });
            }
            Way::Tiles(cut) if cut.parts == 1 => {
                cuda.launch(&gemm::Rounded { c, r, a, b, M, N, K, lda, ldb, ldc, layout, cut });
            }
            Way::Tiles(cut) => {
                self.parts(cuda, cut, room, a, b);
                let (parts, count) = (room, cut.parts);
                cuda.launch(&gemm::RoundParts { c, r, parts, M, N, ldc, count });
            }
        }
    }

    fn bf16_wide(
        &self,
        cuda: &Cuda,
        c: *mut f32,
        a: *const bf16,
        b: *const bf16,
        onto: Onto<f32>,
        room: *mut f32,
    ) {
        assert!(!matches!(onto, Onto::Other(_)), "cuda: f32 is added to what it replaces");
        let (layout, [M, N, K, lda, ldb, ldc]) = (self.layout, self.sizes());
        match self.way(cuda.target()) {
            Way::FewRows => {
                assert_eq!(onto, Onto::Zero, "cuda: products of a few rows are not added");
                let (y, x, w, ldx, ldw, ldy) = (c, a, b, lda, ldb, ldc);
                cuda.launch(&skinny::Wide { y, x, w, M, N, K, ldx, ldw, ldy });
            }
            Way::Tiles(cut) if cut.parts == 1 => {
                let (depth, add) = (cut.depth, u32::from(onto == Onto::Itself));
                let wide = gemm::Wide { c, a, b, M, N, K, lda, ldb, ldc, depth, add, layout, cut };
                cuda.launch(&wide);
            }
            Way::Tiles(cut) => {
                assert_eq!(ldc, N, "cuda: parts are added to rows without gaps");
                let len = self.M * self.N;
                if onto == Onto::Zero {
                    cuda.zero(c.addr() as u64, len * size_of::<f32>());
                }
                self.parts(cuda, cut, room, a, b);
                let (parts, len, count) = (room, len as u64, cut.parts);
                cuda.launch(&gemm::AddParts { acc: c, parts, len, count });
            }
        }
    }

    /// Queues the parts of `cut`, in f32, to `room`.
    fn parts(&self, cuda: &Cuda, cut: Cut, room: *mut f32, a: *const bf16, b: *const bf16) {
        let (layout, [M, N, K, lda, ldb, _]) = (self.layout, self.sizes());
        let (c, ldc, depth, add) = (room, N, cut.depth, 0);
        cuda.launch(&gemm::Wide { c, a, b, M, N, K, lda, ldb, ldc, depth, add, layout, cut });
    }

    fn f32(&self, cuda: &Cuda, c: *mut f32, a: *const f32, b: *const f32, onto: Onto<f32>) {
        let [M, N, K, lda, ldb, ldc] = self.sizes();
        // Steps from row to row and from column to column of A (M x K) and B (K x N).
        let [a_row, a_col, b_row, b_col] = match self.layout {
            Layout::Nt => [lda, 1, 1, ldb],
            Layout::Nn => [lda, 1, ldb, 1],
            Layout::Tn => [1, lda, ldb, 1],
        };
        let (r, add) = match onto {
            Onto::Zero => (null(), 0),
            Onto::Other(r) => (r, 0),
            Onto::Itself => (null(), 1),
        };
        cuda.launch(&gemm::F32 { c, r, a, b, M, N, K, a_row, a_col, b_row, b_col, ldc, add });
    }
}
