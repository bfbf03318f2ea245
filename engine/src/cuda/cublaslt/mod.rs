//! Matrix products by cuBLASLt, found at run time: a second opinion and a yardstick for ours.
//! Matrices are rows here and columns there, so it is asked for the transposed product
//! C^T = B^T A^T.

mod library;

use super::driver::{Driver, Stream};
use super::product::{Layout, Onto, Product};
use super::{Storage, storage};
use crate::element::Element;
use library::{Algorithm, Api, Description, Handle};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::{Arc, Mutex};

/// Work space that algorithms may take.
pub(super) const WORKSPACE: usize = 32 << 20;

pub(crate) struct CublasLt {
    driver: Arc<dyn Driver>,
    api: Api,
    handle: Handle,
    workspace: u64,
    plans: Mutex<HashMap<Key, Plan>>,
}

/// What an algorithm is chosen by: sizes, layout, storage of the factors and of C, and a power of two
/// of which all addresses are multiples.
type Key = ([usize; 6], Layout, Storage, Storage, u32);

#[derive(Clone, Copy)]
struct Plan {
    description: Description,
    algorithm: Algorithm,
}

// SAFETY: the handle may be used from any thread on which the driver's context is current, which each
// call's stream vouches for; plans are behind the mutex.
unsafe impl Send for CublasLt {}
// SAFETY: as above.
unsafe impl Sync for CublasLt {}

fn kind(storage: Storage) -> u32 {
    match storage {
        Storage::F32 => library::R_32F,
        Storage::Bf16 => library::R_16BF,
    }
}

/// The driver's stream, with its context current on this thread.
fn stream(driver: &dyn Driver) -> Result<Stream<'_>, String> {
    driver.stream().ok_or("--gemm cublaslt needs a GPU; the emulator runs --gemm rust")?
}

impl CublasLt {
    /// On the driver's stream, which an emulator has not.
    pub fn new(driver: Arc<dyn Driver>) -> Result<Self, String> {
        Self::found(driver, &library::names())
    }

    fn found<N: AsRef<OsStr>>(driver: Arc<dyn Driver>, names: &[N]) -> Result<Self, String> {
        let (api, handle) = library::open(names, &stream(&*driver)?).map_err(|why| {
            format!(
                "--gemm cublaslt: no cuBLASLt of CUDA 12 or newer: {why}; put its folder on \
                 LD_LIBRARY_PATH (of pip's package site-packages/nvidia/cu13/lib or \
                 nvidia/cublas/lib), or take --gemm rust"
            )
        })?;
        let mut lt = CublasLt { driver, api, handle, workspace: 0, plans: Mutex::default() };
        lt.workspace =
            lt.driver.alloc(WORKSPACE).map_err(|e| format!("cuBLASLt's work space: {e}"))?;
        Ok(lt)
    }

    /// The library's version, for people.
    pub fn version(&self) -> String {
        self.api.version()
    }

    /// C = A B, onto something.
    pub fn multiply<S: Element, F: Element>(
        &self,
        product: &Product,
        c: *mut S,
        a: *const F,
        b: *const F,
        onto: Onto<S>,
    ) -> Result<(), String> {
        let beta = if onto == Onto::Zero { 0.0 } else { 1.0 };
        let added = if let Onto::Other(r) = onto { r } else { c.cast_const() };
        let addresses = [c.addr(), a.addr(), b.addr(), added.addr()].map(|at| at as u64);
        self.queue(product, storage::<F>(), storage::<S>(), addresses, beta)
    }

    /// C = A B + beta times what is added. `addresses` are those of C, A, B and that.
    fn queue(
        &self,
        product: &Product,
        factors: Storage,
        sum: Storage,
        [c, a, b, added]: [u64; 4],
        beta: f32,
    ) -> Result<(), String> {
        let stream = stream(&*self.driver)?;
        // Unasked, the library takes every address for a multiple of 256. Slots of arenas are not.
        let alignment = 1 << (256 | a | b | c | added).trailing_zeros();
        let p = product;
        let sizes = [p.M, p.N, p.K, p.lda, p.ldb, p.ldc];
        let plan = self.plan(&stream, p, (sizes, p.layout, factors, sum, alignment))?;
        let workspace = (self.workspace, WORKSPACE);
        // SAFETY: the description is of what `product` says of the addresses, which the ops have
        // checked against the buffers' lengths; work is queued in order, so one product at a time
        // has the work space.
        unsafe {
            let (api, handle) = (&self.api, self.handle);
            let addresses = [c, b, a, added];
            api.multiply(
                &stream,
                handle,
                &plan.description,
                &plan.algorithm,
                addresses,
                beta,
                workspace,
            )
        }
    }

    fn plan(&self, stream: &Stream, product: &Product, key: Key) -> Result<Plan, String> {
        let plans = &mut *self.plans.lock().expect("no thread panics while it holds the plans");
        if let Some(plan) = plans.get(&key) {
            return Ok(*plan);
        }
        let (.., factors, sum, alignment) = key;
        let description = self.describe(stream, product, kind(factors), kind(sum))?;
        let algorithm = self.api.search(stream, self.handle, &description, WORKSPACE, alignment)?;
        let plan = Plan { description, algorithm };
        plans.insert(key, plan);
        Ok(plan)
    }

    /// The transposed product: its first factor is B, its second A.
    fn describe(
        &self,
        stream: &Stream,
        p: &Product,
        factors: u32,
        sum: u32,
    ) -> Result<Description, String> {
        let matrix = |kind, rows, cols, ld| self.api.layout(stream, kind, rows, cols, ld);
        let (b_turned, first) = match p.layout {
            Layout::Nt => (true, matrix(factors, p.K, p.N, p.ldb)?),
            Layout::Nn | Layout::Tn => (false, matrix(factors, p.N, p.K, p.ldb)?),
        };
        let (a_turned, second) = match p.layout {
            Layout::Nt | Layout::Nn => (false, matrix(factors, p.K, p.M, p.lda)?),
            Layout::Tn => (true, matrix(factors, p.M, p.K, p.lda)?),
        };
        let sum = matrix(sum, p.N, p.M, p.ldc)?;
        let product = self.api.product(stream, [b_turned, a_turned])?;
        Ok(Description { product, first, second, sum })
    }
}

impl Drop for CublasLt {
    fn drop(&mut self) {
        let plans = self.plans.get_mut().expect("no thread panics while it holds the plans");
        if let Ok(stream) = stream(&*self.driver) {
            // SAFETY: made by this value, used by nobody after it.
            unsafe {
                plans.values().for_each(|plan| self.api.forget(&stream, &plan.description));
                self.api.destroy(&stream, self.handle);
            }
        }
        if self.workspace != 0 {
            self.driver.free(self.workspace);
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
