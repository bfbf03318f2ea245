//! Linear layers: matrix products, by tiles ([`gemm`]) or, for a few rows, by strips ([`skinny`]).

pub mod gemm;
pub mod skinny;
