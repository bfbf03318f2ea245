//! Linear layers: matrix products, by tiles ([`gemm`]) or, for a few rows, by strips ([`skinny`]).
//!
//! ```
//! use kernels_ptx::launch::Target;
//! use kernels_ptx::linear::{gemm, skinny};
//!
//! // A token's row and a weight of rows of 4096 go by strips, a batch's rows by tiles.
//! assert!(skinny::takes(1, 4096, 4096, 4096) && !skinny::takes(2048, 4096, 4096, 4096));
//! assert_eq!(gemm::cut(Target::of(90), 2048, 11008, 4096).parts, 1);
//! ```

pub mod gemm;
pub mod skinny;
