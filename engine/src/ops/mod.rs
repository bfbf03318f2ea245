//! One folder an op: `mod.rs` checks lengths and picks the device, `cpu.rs` computes,
//! `reference.rs` is the formula in f64 that tests hold it against.
