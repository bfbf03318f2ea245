//! What all launches share: [`Kernel`], a kernel with its arguments, and what it is launched with.
//!
//! Each kernel is a struct in its op's folder, made of the declaration that the kernel itself is made of
//! (`declare.rs`). Its fields are the kernel's parameters. Pointers are addresses in a device's memory,
//! null for none, and say what they point at and who writes it, so that most arguments in another's place
//! do not compile:
//!
//! ```
//! use kernels_ptx::launch::{Arg, Kernel, Storage, Target};
//! use kernels_ptx::swiglu;
//!
//! fn forward(a_NF: *mut f32, gu_N2F: *const f32) -> swiglu::Forward<f32> {
//!     swiglu::Forward { storage: Storage::F32, a_NF, gu_N2F, N: 3, F: 64 }
//! }
//!
//! let at = |address| std::ptr::without_provenance_mut(address);
//! let kernel = forward(at(256), at(1024));
//! let launch = kernel.launch(Target::of(90));
//! assert_eq!((launch.kernel, launch.blocks), ("swiglu_forward_f32", [1, 1, 1]));
//! let arguments = [Arg::Ptr(256), Arg::Ptr(1024), Arg::U32(3), Arg::U32(64)];
//! assert_eq!(kernel.arguments().as_ref(), arguments);
//! ```
//!
//! ```compile_fail,E0308
//! # use kernels_ptx::launch::Storage;
//! # use kernels_ptx::swiglu;
//! fn forward(a_NF: *mut f32, gu_N2F: *const f32) -> swiglu::Forward<f32> {
//!     swiglu::Forward { storage: Storage::F32, a_NF: gu_N2F, gu_N2F: a_NF, N: 3, F: 64 }
//! }
//! ```
//!
//! Grids depend on shapes and on the [`Target`], and on nothing that changes from run to run, so sums
//! have the same order on all devices of one type.

/// A kernel of the GPU with its arguments.
pub trait Kernel {
    /// Which of the kernels that take these arguments, on which grid.
    fn launch(&self, target: Target) -> Launch;
    /// The arguments, in the kernel's order.
    fn arguments(&self) -> impl AsRef<[Arg]>;
}

/// An argument as a driver takes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arg {
    /// An address in device memory; 0 for none.
    Ptr(u64),
    /// A length, mostly.
    U32(u32),
    /// A length that may be beyond 32 bits.
    U64(u64),
    /// A number.
    F32(f32),
}

/// Most arguments of a kernel.
pub const MOST_ARGUMENTS: usize = 16;

impl<T> From<*const T> for Arg {
    fn from(address: *const T) -> Arg {
        Arg::Ptr(address.addr() as u64)
    }
}

impl<T> From<*mut T> for Arg {
    fn from(address: *mut T) -> Arg {
        Arg::Ptr(address.addr() as u64)
    }
}

impl From<u32> for Arg {
    fn from(x: u32) -> Arg {
        Arg::U32(x)
    }
}

impl From<u64> for Arg {
    fn from(x: u64) -> Arg {
        Arg::U64(x)
    }
}

impl From<f32> for Arg {
    fn from(x: f32) -> Arg {
        Arg::F32(x)
    }
}

/// What a launch must know of the device that it runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Compute capability: 10 * major + minor.
    pub capability: u32,
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Shared memory that a block can ask for, in bytes.
    pub shared_bytes: u32,
}

impl Target {
    /// The largest device of a compute capability: A100, GeForce RTX 3090 and 4090, H100, B200,
    /// GeForce RTX 5090. For choosing without a device; a test holds it to the emulator's cards.
    pub const fn of(capability: u32) -> Target {
        let (multiprocessors, kib) = match capability {
            120.. => (170, 99),
            100..120 => (148, 227),
            90..100 => (132, 227),
            89 => (128, 99),
            86..89 => (82, 99),
            _ => (108, 163),
        };
        Target { capability, multiprocessors, shared_bytes: kib << 10 }
    }
}

/// Storage of activations and of the weights that products read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Storage {
    /// 32 bits.
    F32,
    /// Brain floats.
    Bf16,
}

impl Storage {
    /// Bytes of an element.
    pub const fn bytes(self) -> usize {
        match self {
            Storage::F32 => 4,
            Storage::Bf16 => 2,
        }
    }

    /// Elements that a thread accesses at once in rows of `len`.
    pub(crate) fn lanes(self, len: u32) -> u32 {
        let lanes = 16 / self.bytes() as u32;
        if len.is_multiple_of(lanes) { lanes } else { 1 }
    }

    pub(crate) fn pick(self, f32: &'static str, bf16: &'static str) -> &'static str {
        match self {
            Storage::F32 => f32,
            Storage::Bf16 => bf16,
        }
    }
}

/// One launch of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Its name in the PTX.
    pub kernel: &'static str,
    /// Blocks of the grid.
    pub blocks: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of dynamic shared memory.
    pub shared_bytes: u32,
}

impl Launch {
    pub(crate) fn new(
        kernel: &'static str,
        blocks: [u32; 3],
        threads: u32,
        shared_bytes: u32,
    ) -> Launch {
        Launch { kernel, blocks, threads, shared_bytes }
    }

    /// One thread for each of `count` pieces of work.
    pub(crate) fn flat(kernel: &'static str, count: u64) -> Launch {
        let blocks = count.div_ceil(FLAT).try_into().expect("launch: more than 2^32 blocks");
        Launch::new(kernel, [blocks, 1, 1], FLAT as u32, 0)
    }
}

/// Threads of a block where nothing speaks for another number.
const FLAT: u64 = 256;
/// Bytes in which a block's warps exchange one number each.
pub(crate) const EXCHANGE: u32 = 32 * 8;

/// Threads for a row of `steps` accesses, of which each keeps two.
pub(crate) fn row_threads(steps: u32, most: u32) -> u32 {
    steps.div_ceil(2).next_multiple_of(32).min(most)
}
