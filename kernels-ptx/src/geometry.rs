//! g
/// n
pub mod norm {
/// Elements a block
pub const SPAN: usize = 1 << 16;
}
/// g
pub mod gemm {
/// a
pub const BAND: u32 = 8;
/// a
pub const BK: u32 = 64;
/// a
pub const STAGES: u32 = 3;
/// a
pub const WARP_TILE: u32 = 64;
}
