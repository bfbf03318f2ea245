//! Devices, buffers, flat arenas and the ops of a LLaMA. Every op is a pair of free functions,
//! `forward` and `backward`, in its own folder under [`ops`], beside an f64 reference.
//!
//! Dimension letters are in [`dims`]; the CPU's vector and thread layer is in [`cpu`], the
//! GPU's memory and launches are in [`cuda`].

pub mod arena;
pub mod buf;
pub mod ceiling;
pub mod cpu;
pub mod cuda;
pub mod device;
pub mod dims;
pub mod element;
pub mod error;
pub mod heap;
pub mod ops;
pub mod plan;
pub mod profile;
pub mod segments;

pub use arena::{Arena, Init, Parameter, Shard, Slot, Table};
pub use buf::{Buf, View, ViewMut};
pub use cpu::{Cpu, Isa};
pub use cuda::Cuda;
pub use device::Device;
pub use dims::Dims;
pub use element::{Dtype, Element, Real};
pub use error::Error;
pub use half::bf16;
pub use plan::Plan;
pub use segments::{Segment, Segments};
