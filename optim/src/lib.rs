//! How a step is taken: AdamW's state, the learning-rate schedule, clipping by the global norm.
//! The arithmetic is `engine::ops::adamw`, one pass over flat arenas.
#![forbid(unsafe_code)]

pub mod adamw;
pub mod clip;
pub mod schedule;

pub use adamw::AdamW;
pub use clip::GlobalNorm;
pub use schedule::Schedule;
