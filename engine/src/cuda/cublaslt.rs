//! Matrix products by cuBLASLt, found at run time: a second opinion and a yardstick for ours.
//! Matrices are rows here and columns there, so it is asked for the transposed product
//! C^T = B^T A^T.

use super::Storage;
use super::product::{Layout, Onto, Product};
use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Mutex;

/// Work space that algorithms may take.
const WORKSPACE: usize = 32 << 20;

pub(crate) struct CublasLt {
    handle: sys::cublasLtHandle_t,
    stream: sys::cudaStream_t,
    workspace: u64,
    plans: Mutex<HashMap<Key, Plan>>,
}

/// What an algorithm is chosen by: sizes, layout, storage of the factors and of C, and whether
/// something is added.
type Key = ([usize; 6], Layout, Storage, Storage, bool);

#[derive(Clone, Copy)]
struct Plan {
    product: sys::cublasLtMatmulDesc_t,
    first: sys::cublasLtMatrixLayout_t,
    second: sys::cublasLtMatrixLayout_t,
    sum: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

// SAFETY: the handle may be used from any thread, plans are behind the mutex, and the stream is
// only passed on.
unsafe impl Send for CublasLt {}
// SAFETY: as above.
unsafe impl Sync for CublasLt {}

fn line<T>(result: Result<T, CublasError>) -> Result<T, String> {
    result.map_err(|e| format!("cuBLASLt: {:?}", e.0))
}

fn data_type(storage: Storage) -> sys::cudaDataType {
    match storage {
        Storage::F32 => sys::cudaDataType::CUDA_R_32F,
        Storage::Bf16 => sys::cudaDataType::CUDA_R_16BF,
    }
}

impl CublasLt {
    /// On `stream`, which an emulator has not.
    pub fn new(stream: Option<*mut c_void>) -> Result<Self, String> {
        let stream = stream.ok_or("--gemm cublaslt needs a GPU; the emulator runs --gemm rust")?;
        // SAFETY: loading the library runs its initialisers, which is what they are for.
        if !unsafe { sys::is_culib_present() } {
            return Err(
                "--gemm cublaslt: neither libcublasLt.so nor libcublasLt.so.12 was found on \
                        the library path; install cuBLAS, or take --gemm rust"
                    .to_string(),
            );
        }
        let handle = line(result::create_handle())?;
        // SAFETY: only cuBLASLt reads it, and only what it wrote there.
        let workspace = unsafe { cudarc::driver::result::malloc_sync(WORKSPACE) };
        let workspace = workspace.map_err(|e| format!("cuBLASLt's work space: {e:?}"))?;
        Ok(CublasLt { handle, stream: stream.cast(), workspace, plans: Mutex::default() })
    }

    /// C = A B, onto something. `addresses` are those of C, A and B.
    pub fn multiply(
        &self,
        product: &Product,
        factors: Storage,
        sum: Storage,
        [c, a, b]: [u64; 3],
        onto: Onto,
    ) -> Result<(), String> {
        let plan = self.plan(product, factors, sum, onto != Onto::Zero)?;
        let (one, beta) = (1f32, if onto == Onto::Zero { 0f32 } else { 1.0 });
        let added = if let Onto::Other(r) = onto { r } else { c };
        // SAFETY: layouts describe what `product` says of the addresses, which the ops have checked
        // against the buffers' lengths; scalars are read before this returns.
        line(unsafe {
            result::matmul(
                self.handle,
                plan.product,
                (&raw const one).cast(),
                (&raw const beta).cast(),
                b as *const c_void,
                plan.first,
                a as *const c_void,
                plan.second,
                added as *const c_void,
                plan.sum,
                c as *mut c_void,
                plan.sum,
                &plan.algorithm,
                self.workspace as *mut c_void,
                WORKSPACE,
                self.stream,
            )
        })
    }

    fn plan(
        &self,
        p: &Product,
        factors: Storage,
        sum: Storage,
        adds: bool,
    ) -> Result<Plan, String> {
        let key = ([p.M, p.N, p.K, p.lda, p.ldb, p.ldc], p.layout, factors, sum, adds);
        let plans = &mut *self.plans.lock().expect("no thread panics while it holds the plans");
        if let Some(plan) = plans.get(&key) {
            return Ok(*plan);
        }
        let plan = self.choose(p, factors, sum)?;
        plans.insert(key, plan);
        Ok(plan)
    }

    /// Describes a product and lets the library choose an algorithm.
    fn choose(&self, p: &Product, factors: Storage, sum: Storage) -> Result<Plan, String> {
        let matrix = |storage, rows: usize, cols: usize, ld: usize| {
            line(result::create_matrix_layout(
                data_type(storage),
                rows as u64,
                cols as u64,
                ld as i64,
            ))
        };
        let (b_turned, first) = match p.layout {
            Layout::Nt => (true, matrix(factors, p.K, p.N, p.ldb)?),
            Layout::Nn | Layout::Tn => (false, matrix(factors, p.N, p.K, p.ldb)?),
        };
        let (a_turned, second) = match p.layout {
            Layout::Nt | Layout::Nn => (false, matrix(factors, p.K, p.M, p.lda)?),
            Layout::Tn => (true, matrix(factors, p.M, p.K, p.lda)?),
        };
        let sum = matrix(sum, p.N, p.M, p.ldc)?;
        let product = line(result::create_matmul_desc(
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            sys::cudaDataType::CUDA_R_32F,
        ))?;
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        let turned = [
            (Attribute::CUBLASLT_MATMUL_DESC_TRANSA, b_turned),
            (Attribute::CUBLASLT_MATMUL_DESC_TRANSB, a_turned),
        ];
        for (attribute, turned) in turned {
            let op = i32::from(turned);
            // SAFETY: the value is a 32-bit enumeration, copied before this returns.
            line(unsafe {
                result::set_matmul_desc_attribute(product, attribute, (&raw const op).cast(), 4)
            })?;
        }
        let algorithm = self.algorithm(product, [first, second, sum])?;
        Ok(Plan { product, first, second, sum, algorithm })
    }

    fn algorithm(
        &self,
        product: sys::cublasLtMatmulDesc_t,
        [first, second, sum]: [sys::cublasLtMatrixLayout_t; 3],
    ) -> Result<sys::cublasLtMatmulAlgo_t, String> {
        let preference = line(result::create_matmul_pref())?;
        let most =
            sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
        let bytes = WORKSPACE;
        // SAFETY: the handles were made above and live; the preference is not used after its end.
        unsafe {
            let value = (&raw const bytes).cast();
            line(result::set_matmul_pref_attribute(preference, most, value, size_of::<usize>()))?;
            let found = result::get_matmul_algo_heuristic(
                self.handle,
                product,
                first,
                second,
                sum,
                sum,
                preference,
            );
            line(result::destroy_matmul_pref(preference))?;
            line(found).map(|found| found.algo)
        }
    }
}

impl Drop for CublasLt {
    fn drop(&mut self) {
        let plans = self.plans.get_mut().expect("no thread panics while it holds the plans");
        // SAFETY: made by this value, used by nobody after it; errors have no one to tell.
        unsafe {
            for plan in plans.values() {
                let _ = result::destroy_matmul_desc(plan.product);
                for layout in [plan.first, plan.second, plan.sum] {
                    let _ = result::destroy_matrix_layout(layout);
                }
            }
            let _ = cudarc::driver::result::free_sync(self.workspace);
            let _ = result::destroy_handle(self.handle);
        }
    }
}
