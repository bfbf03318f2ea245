use crate::check::devices_with;
use crate::counted::{Least, Sizes, all};
use kernels_ptx::linear::gemm::stages_bytes;
use std::collections::BTreeSet;

/// Small, and for products and attention not whole tiles.
const SIZES: Sizes = Sizes {
    rows: 256,
    width: 512,
    norm_rows: 256,
    norm_blocks: 8,
    vocabulary: 16000,
    parameters: 100_000,
    T: 200,
    product: (200, 300, 200),
    skinny: (3, 300, 1024),
};

/// Bytes of shared memory of the largest tile. What is counted is the same on every device, so those
/// without so much are left out.
const LARGEST: u32 = stages_bytes(256);

/// Kernels that pass over memory move at most 5 % more than they must; products meet no bank of
/// shared memory twice and multiply only tiles that hold something; nothing uses local memory. An
/// excess of a tenth, one conflict or one product more would be seen.
#[test]
fn every_kernel_holds_its_marks() {
    for mut device in devices_with(LARGEST) {
        let rows = all(&mut device, &SIZES);
        for mut row in rows {
            let name = format!("{} {}", row.kernel, row.shape);
            assert!(row.good(), "{name}: {:?} {:?}", row.least, row.counts.total);
            let total = &mut row.counts.total;
            match row.least {
                Least::Bytes(_) => {
                    total.read_sectors += (total.read_sectors + total.write_sectors) / 10
                }
                Least::Products { .. } => total.conflicts += 1,
                Least::Parity => continue,
            }
            assert!(!row.good(), "{name}: an excess passes");
            if let Least::Products { tiles, .. } = row.least {
                row.counts.total.conflicts = 0;
                row.counts.total.matrix_flop = tiles + 4096;
                assert!(!row.good(), "{name}: a product of nothing passes");
            }
        }
    }
}

#[test]
fn every_kernel_is_counted() {
    for mut device in devices_with(LARGEST) {
        let counted: BTreeSet<_> =
            all(&mut device, &SIZES).iter().map(|row| row.kernel.to_string()).collect();
        let kernels: BTreeSet<_> = device.kernels().iter().cloned().collect();
        assert_eq!(counted, kernels);
    }
}
