//! What every kernel costs on the emulator, beside the least that it must cost. Counts, not times:
//! the same in every run and on every machine.
//!
//! ```text
//! cargo bench -p handgrad-kernels-ptx --bench counts
//! ```
//!
//! Bytes are those of the 32-byte sectors that each warp's request touches, repeated requests
//! counted again. FLOP are those of matrix instructions, beside the formula's and those of the
//! tiles that cover it. Conflicts are passes over the banks of shared memory beyond what the same
//! bytes need.

#[allow(dead_code)]
#[path = "../tests/kernels/check.rs"]
mod check;
#[path = "../tests/kernels/counted.rs"]
mod counted;
#[path = "../../tests/shared/generated.rs"]
mod generated;

use counted::{Least, Row, Sizes};
use ptx_emu::Class;

const SIZES: Sizes = Sizes {
    rows: 8192,
    width: 512,
    norm_rows: 32768,
    norm_blocks: 0,
    vocabulary: 32000,
    parameters: 1 << 22,
    T: 1024,
    product: (500, 640, 1000),
    skinny: (1, 2048, 2048),
};

fn main() {
    let mut bad = 0;
    for mut device in check::devices() {
        println!("\n## Compute capability {}\n", device.capability());
        println!(
            "| kernel | shape | MB | of the least | MFLOP | of the formula | of the tiles | conflicts | local |"
        );
        println!("|---|---|---|---|---|---|---|---|---|");
        for row in counted::all(&mut device, &SIZES) {
            println!("{}", line(&row));
            bad += usize::from(!row.good());
        }
    }
    println!("\nKernels that miss a mark: {bad}.");
}

fn line(row: &Row) -> String {
    let (c, bytes) = (&row.counts, row.counts.sector_bytes() as f64);
    let share = |x: f64, of: u64| format!("{:.3}", x / of as f64);
    let flop = c.total.matrix_flop as f64;
    let (least, formula, tiles) = match row.least {
        Least::Bytes(least) => (share(bytes, least as u64), String::new(), String::new()),
        Least::Products { formula, tiles } => {
            (String::new(), share(flop, formula), share(flop, tiles))
        }
        Least::Parity => Default::default(),
    };
    format!(
        "| {} | {} | {:.2} | {least} | {:.1} | {formula} | {tiles} | {} | {} |{}",
        row.kernel,
        row.shape,
        bytes / 1e6,
        flop / 1e6,
        c.total.conflicts,
        c.class(Class::Local),
        if row.good() { "" } else { " MISSED" },
    )
}
