//! Executes NVIDIA PTX on the CPU: warp by warp, strictly, and counting what a profiler would.
//!
//! ```
//! use ptx_emu::{Arg, Gpu, Grid, Module};
//!
//! let text = "
//!     .version 8.0
//!     .target sm_80
//!     .address_size 64
//!     .visible .entry scale(.param .u64 x, .param .f32 by) {
//!         .reg .b32 %t; .reg .b64 %p; .reg .f32 %v, %by;
//!         ld.param.u64 %p, [x];
//!         ld.param.f32 %by, [by];
//!         mov.u32 %t, %tid.x;
//!         mad.wide.u32 %p, %t, 4, %p;
//!         ld.global.f32 %v, [%p];
//!         mul.f32 %v, %v, %by;
//!         st.global.f32 [%p], %v;
//!         ret;
//!     }";
//! let mut gpu = Gpu::new();
//! let x = gpu.alloc(4 * 64)?;
//! gpu.write(x, &1.5f32.to_le_bytes().repeat(64))?;
//!
//! let kernel = Module::parse(text)?.kernel("scale")?;
//! let grid = Grid { blocks: [1, 1, 1], threads: [64, 1, 1], shared_bytes: 0 };
//! let counts = gpu.launch(&kernel, grid, &[Arg::U64(x), Arg::F32(2.0)])?;
//!
//! let mut first = [0; 4];
//! gpu.read(x, &mut first)?;
//! assert_eq!(f32::from_le_bytes(first), 3.0);
//! assert_eq!(counts.total.read_sectors, 8);
//!
//! // A thread too many is a fault with its place.
//! let grid = Grid { threads: [65, 1, 1], ..grid };
//! let fault = gpu.launch(&kernel, grid, &[Arg::U64(x), Arg::F32(2.0)]).unwrap_err();
//! assert!(fault.to_string().contains("thread (64,0,0): global read of 4 bytes"));
//! # Ok::<(), ptx_emu::Error>(())
//! ```
//!
//! The folder's README says what is executed, what is checked and how lanes are scheduled.
#![forbid(unsafe_code)]

mod ast;
pub mod bounds;
mod counts;
mod decode;
mod error;
mod exec;
mod gpu;
mod hardware;
mod ir;
mod lex;
mod memory;
mod module;
mod parse;
mod shared;

pub use counts::{Class, Counts, LineCounts, Tally};
pub use error::{Error, Fault, FaultKind, Result};
pub use gpu::{Arg, DevicePtr, Gpu, Grid};
pub use hardware::{Card, Hardware, Sums};
pub use module::{Kernel, Module};
