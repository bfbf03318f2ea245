//! Prints, for `build-cubins.sh`, each cubin to make: architecture, target of its PTX, name of the file.

use kernels_ptx::cubin;

fn main() {
    for (architecture, ptx) in cubin::TARGETS {
        println!("{architecture} {} {}", cubin::target(ptx), cubin::name(architecture, ptx));
    }
}
