//! cuBLASLt's library, found at run time under the names that CUDA 12 and newer give it, and the few
//! functions of it that are called. Statuses and kinds are numbers here: a newer library may answer
//! with numbers that a closed list of today does not have.

use crate::cuda::driver::Stream;
use libloading::Library;
use std::ffi::{CStr, OsStr, c_char, c_void};
use std::ptr::null_mut;

/// A handle, descriptor, layout or preference of the library.
pub(super) type Handle = *mut c_void;
type Status = u32;
/// Opaque to all but the library.
pub(super) type Algorithm = [u64; 8];

/// Kinds of numbers.
pub(super) const R_32F: u32 = 0;
pub(super) const R_16BF: u32 = 14;
const COMPUTE_32F: u32 = 68;
/// Attributes of a product: whether its factors are turned.
const TRANSA: u32 = 3;
const TRANSB: u32 = 4;
/// Attributes of a search: most bytes of work space, least alignment of A, B, C and D.
const MAX_WORKSPACE_BYTES: u32 = 1;
const MIN_ALIGNMENT_BYTES: [u32; 4] = [5, 6, 7, 8];
const NOT_SUPPORTED: Status = 15;
/// Newest major version of CUDA to look for.
const NEWEST: u32 = 13;

/// What a search for an algorithm finds.
#[repr(C)]
struct Found {
    algorithm: Algorithm,
    workspace_bytes: usize,
    status: Status,
    waves: f32,
    reserved: [i32; 4],
}

/// The library. Every call takes the driver's stream, which is there only on threads on which the
/// context is current.
pub(super) struct Api {
    create: unsafe extern "C" fn(*mut Handle) -> Status,
    destroy: unsafe extern "C" fn(Handle) -> Status,
    version: unsafe extern "C" fn() -> usize,
    status_string: unsafe extern "C" fn(Status) -> *const c_char,
    layout_create: unsafe extern "C" fn(*mut Handle, u32, u64, u64, i64) -> Status,
    layout_destroy: unsafe extern "C" fn(Handle) -> Status,
    product_create: unsafe extern "C" fn(*mut Handle, u32, u32) -> Status,
    product_destroy: unsafe extern "C" fn(Handle) -> Status,
    product_set: unsafe extern "C" fn(Handle, u32, *const c_void, usize) -> Status,
    preference_create: unsafe extern "C" fn(*mut Handle) -> Status,
    preference_destroy: unsafe extern "C" fn(Handle) -> Status,
    preference_set: unsafe extern "C" fn(Handle, u32, *const c_void, usize) -> Status,
    search: Search,
    multiply: Multiply,
    /// Keeps the functions where they are.
    _library: Library,
}

type Search = unsafe extern "C" fn(
    Handle,
    Handle,
    Handle,
    Handle,
    Handle,
    Handle,
    Handle,
    i32,
    *mut Found,
    *mut i32,
) -> Status;

type Multiply = unsafe extern "C" fn(
    Handle,
    Handle,
    *const c_void,
    *const c_void,
    Handle,
    *const c_void,
    Handle,
    *const c_void,
    *const c_void,
    Handle,
    *mut c_void,
    Handle,
    *const Algorithm,
    *mut c_void,
    usize,
    *mut c_void,
) -> Status;

/// A product as the library knows it: what is multiplied, and the layouts of the factors and of the
/// sum.
#[derive(Clone, Copy)]
pub(super) struct Description {
    pub product: Handle,
    pub first: Handle,
    pub second: Handle,
    pub sum: Handle,
}

/// File names of the library, newest first: a driver runs what is older, not what is newer. The name
/// without a version comes last, because it may be either.
pub(super) fn names() -> Vec<String> {
    let majors = (12..=NEWEST).rev();
    if cfg!(windows) {
        majors.map(|major| format!("cublasLt64_{major}.dll")).collect()
    } else {
        let versioned = majors.map(|major| format!("libcublasLt.so.{major}"));
        versioned.chain(["libcublasLt.so".to_string()]).collect()
    }
}

/// The first of `names` that is a library here and gives a handle. What speaks against the others
/// goes into the error.
pub(super) fn open<N: AsRef<OsStr>>(names: &[N], stream: &Stream) -> Result<(Api, Handle), String> {
    let mut against = vec![];
    for name in names {
        let name = name.as_ref();
        match Api::open(name).and_then(|api| api.create(stream).map(|handle| (api, handle))) {
            Ok(found) => return Ok(found),
            Err(e) if e.contains(&*name.to_string_lossy()) => against.push(e),
            Err(e) => against.push(format!("{}: {e}", name.to_string_lossy())),
        }
    }
    Err(against.join("; "))
}

impl Api {
    fn open(name: &OsStr) -> Result<Self, String> {
        // SAFETY: loading the library runs its initialisers, which is what they are for.
        let library = unsafe { Library::new(name) }.map_err(|e| why(&e))?;
        // SAFETY: the types are those of cuBLASLt's header, the same in CUDA 12 and 13: handles are
        // pointers, enumerations 32 bits.
        unsafe {
            Ok(Api {
                create: function(&library, "cublasLtCreate")?,
                destroy: function(&library, "cublasLtDestroy")?,
                version: function(&library, "cublasLtGetVersion")?,
                status_string: function(&library, "cublasLtGetStatusString")?,
                layout_create: function(&library, "cublasLtMatrixLayoutCreate")?,
                layout_destroy: function(&library, "cublasLtMatrixLayoutDestroy")?,
                product_create: function(&library, "cublasLtMatmulDescCreate")?,
                product_destroy: function(&library, "cublasLtMatmulDescDestroy")?,
                product_set: function(&library, "cublasLtMatmulDescSetAttribute")?,
                preference_create: function(&library, "cublasLtMatmulPreferenceCreate")?,
                preference_destroy: function(&library, "cublasLtMatmulPreferenceDestroy")?,
                preference_set: function(&library, "cublasLtMatmulPreferenceSetAttribute")?,
                search: function(&library, "cublasLtMatmulAlgoGetHeuristic")?,
                multiply: function(&library, "cublasLtMatmul")?,
                _library: library,
            })
        }
    }

    fn line(&self, what: &str, status: Status) -> Result<(), String> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: any number is allowed; the text is the library's and lives as long as it.
        let text = unsafe {
            let text = (self.status_string)(status);
            if text.is_null() { c"unknown" } else { CStr::from_ptr(text) }
        };
        Err(format!("cuBLASLt, {what}: {} (status {status})", text.to_string_lossy()))
    }

    fn create(&self, _current: &Stream) -> Result<Handle, String> {
        let mut handle = null_mut();
        // SAFETY: `handle` outlives the call.
        let status = unsafe { (self.create)(&mut handle) };
        self.line("opening it", status).map(|()| handle)
    }

    /// "13.0.2", as 130002 says it.
    pub fn version(&self) -> String {
        // SAFETY: it asks for nothing.
        let version = unsafe { (self.version)() };
        format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100)
    }

    /// A matrix of columns that lie `ld` elements apart.
    pub fn layout(
        &self,
        _current: &Stream,
        kind: u32,
        rows: usize,
        cols: usize,
        ld: usize,
    ) -> Result<Handle, String> {
        let mut layout = null_mut();
        // SAFETY: `layout` outlives the call.
        let status =
            unsafe { (self.layout_create)(&mut layout, kind, rows as u64, cols as u64, ld as i64) };
        self.line("describing a matrix", status).map(|()| layout)
    }

    /// A product of f32 sums, with its factors turned or not.
    pub fn product(&self, _current: &Stream, turned: [bool; 2]) -> Result<Handle, String> {
        let mut product = null_mut();
        // SAFETY: `product` outlives the call.
        let status = unsafe { (self.product_create)(&mut product, COMPUTE_32F, R_32F) };
        self.line("describing a product", status)?;
        for (attribute, turned) in [TRANSA, TRANSB].into_iter().zip(turned) {
            let op = i32::from(turned);
            // SAFETY: the value is a 32-bit enumeration, copied before this returns.
            let status =
                unsafe { (self.product_set)(product, attribute, (&raw const op).cast(), 4) };
            self.line("describing a product", status)?;
        }
        Ok(product)
    }

    /// The algorithm that the library thinks fastest, of those that make do with `workspace` bytes
    /// and with addresses that are multiples of `alignment`.
    pub fn search(
        &self,
        _current: &Stream,
        handle: Handle,
        d: &Description,
        workspace: usize,
        alignment: u32,
    ) -> Result<Algorithm, String> {
        let mut preference = null_mut();
        // SAFETY: `preference` outlives the call.
        let status = unsafe { (self.preference_create)(&mut preference) };
        self.line("making a preference", status)?;
        // SAFETY: values have the size that is given with them, and are copied before this returns.
        let mut status = unsafe {
            let value = (&raw const workspace).cast();
            (self.preference_set)(preference, MAX_WORKSPACE_BYTES, value, size_of::<usize>())
        };
        for attribute in MIN_ALIGNMENT_BYTES {
            // SAFETY: as above.
            status = status.max(unsafe {
                (self.preference_set)(preference, attribute, (&raw const alignment).cast(), 4)
            });
        }
        let (mut count, mut found) = (0, std::mem::MaybeUninit::<Found>::zeroed());
        // SAFETY: the descriptions live; there is room for one result; zeros are a result.
        let (searched, found) = unsafe {
            let searched = (self.search)(
                handle,
                d.product,
                d.first,
                d.second,
                d.sum,
                d.sum,
                preference,
                1,
                found.as_mut_ptr(),
                &mut count,
            );
            (self.preference_destroy)(preference);
            (searched, found.assume_init())
        };
        self.line("setting a preference", status)?;
        self.line("choosing an algorithm", searched)?;
        let status = if count == 0 { NOT_SUPPORTED } else { found.status };
        self.line("choosing an algorithm", status).map(|()| found.algorithm)
    }

    /// Queues sum = first * second + beta * added. Addresses: sum, first, second, added.
    ///
    /// # Safety
    /// The addresses are of matrices as `d` describes them, and `workspace` is one of so many bytes
    /// that no other work uses.
    pub unsafe fn multiply(
        &self,
        stream: &Stream,
        handle: Handle,
        d: &Description,
        algorithm: &Algorithm,
        [sum, first, second, added]: [u64; 4],
        beta: f32,
        workspace: (u64, usize),
    ) -> Result<(), String> {
        let one = 1f32;
        // SAFETY: what the caller promises; scalars are read before this returns.
        let status = unsafe {
            (self.multiply)(
                handle,
                d.product,
                (&raw const one).cast(),
                first as *const c_void,
                d.first,
                second as *const c_void,
                d.second,
                (&raw const beta).cast(),
                added as *const c_void,
                d.sum,
                sum as *mut c_void,
                d.sum,
                algorithm,
                workspace.0 as *mut c_void,
                workspace.1,
                stream.handle(),
            )
        };
        self.line("multiplying", status)
    }

    /// Gives a description back.
    ///
    /// # Safety
    /// Nothing uses it any more.
    pub unsafe fn forget(&self, _current: &Stream, d: &Description) {
        // SAFETY: what the caller promises. Errors have no one to tell.
        unsafe {
            (self.product_destroy)(d.product);
            for layout in [d.first, d.second, d.sum] {
                (self.layout_destroy)(layout);
            }
        }
    }

    /// Closes a handle.
    ///
    /// # Safety
    /// Nothing uses it any more.
    pub unsafe fn destroy(&self, _current: &Stream, handle: Handle) {
        // SAFETY: what the caller promises. An error has no one to tell.
        unsafe { (self.destroy)(handle) };
    }
}

/// A function of the library.
///
/// # Safety
/// `F` is the type of a pointer to it.
unsafe fn function<F: Copy>(library: &Library, name: &str) -> Result<F, String> {
    // SAFETY: what the caller promises.
    let found = unsafe { library.get::<F>(name.as_bytes()) };
    found.map(|symbol| *symbol).map_err(|_| format!("it has no {name}"))
}

/// Why a library was not loaded, as the system says it.
fn why(e: &libloading::Error) -> String {
    let source = std::error::Error::source(e).map(ToString::to_string);
    source.unwrap_or_else(|| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn names_are_those_of_cuda_12_and_newer() {
        assert_eq!(names(), ["libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"]);
    }
}
