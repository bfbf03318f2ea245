//! g
/// n
pub mod norm {
/// Elements a block
pub const SPAN: usize = 1 << 16;
}
