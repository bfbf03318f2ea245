//! The program `handgrad`.

use std::process::ExitCode;

fn main() -> ExitCode {
    handgrad::commands::handgrad()
}
