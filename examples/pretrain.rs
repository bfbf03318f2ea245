//! Trains a LLaMA: on built-in stories without arguments, on your text with `--data`. The same as
//! `handgrad pretrain`, which is in `src/commands/pretrain.rs`; `by_hand` beside this file is the
//! loop to read and to copy.

use std::process::ExitCode;

fn main() -> ExitCode {
    handgrad::commands::pretrain()
}
