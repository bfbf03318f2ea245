//! The programs as a user meets them: whole processes, their files, messages and exit codes.

mod bits;
mod common;
mod crash;
mod cuda;
mod durable;
mod foreign;
mod formula;
mod input;
mod measure;
mod memory;
mod prepare;
mod profile;
mod prompt;
mod values;
