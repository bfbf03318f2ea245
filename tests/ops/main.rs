//! Every op against its f64 reference, the references against central differences, and the
//! properties that the rest of the engine builds on: bits that do not depend on threads, NaN that
//! is never lost.

mod adamw;
mod attention;
mod bias;
mod check;
mod embedding;
mod gemm;
#[path = "../shared/generated.rs"]
mod generated;
#[path = "../shared/gpus.rs"]
mod gpus;
mod linear;
mod lora;
mod loss;
mod norm;
mod rmsnorm;
mod rope;
mod swiglu;
