//! Lists a PTX file's kernels with what a launch needs to know, or why one cannot be executed.
//!
//! `cargo run --release -p handgrad-ptx-emu --example inspect -- FILE.ptx`

use std::process::ExitCode;

use ptx_emu::Module;

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: inspect FILE.ptx");
        return ExitCode::from(2);
    };
    let module = match std::fs::read_to_string(&path) {
        Ok(text) => Module::parse(&text),
        Err(e) => {
            eprintln!("{path}: {e}");
            return ExitCode::FAILURE;
        }
    };
    let module = match module {
        Ok(module) => module,
        Err(e) => {
            eprintln!("{path}: {e}");
            return ExitCode::FAILURE;
        }
    };
    println!("sm_{}", module.target());
    let mut refused = 0;
    for name in module.kernels() {
        match module.kernel(name) {
            Ok(k) => println!(
                "{name}: parameters {:?}, at most {} threads, {} bytes of static shared and {} of \
                 local memory",
                Vec::from_iter(k.params()),
                k.required_threads().or(k.max_threads()).map_or(1024, |t| t.iter().product()),
                k.static_shared(),
                k.local_bytes()
            ),
            Err(e) => {
                refused += 1;
                println!("{name}: {e}");
            }
        }
    }
    if refused > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
