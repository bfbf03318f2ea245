//! Every kernel of both targets on the emulator, against the formula in f64.

mod adamw;
mod attention;
mod bias;
mod check;
mod counted;
mod counts;
mod embedding;
mod faults;
mod gemm;
#[path = "../../../tests/shared/generated.rs"]
mod generated;
mod launches;
mod loss;
mod norm;
mod rmsnorm;
mod rope;
mod scale;
mod skinny;
mod swiglu;
mod target;
