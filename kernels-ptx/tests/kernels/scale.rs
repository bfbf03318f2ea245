use crate::check::{Bf16, F32, Gen, Output, devices, int};
use kernels_ptx::launch::Storage;
use kernels_ptx::scale::Scale;

fn case(storage: Storage, len: usize) {
    let x = Gen::new(len as u64).normals(storage, len, 2.0);
    let exact: Vec<f64> = x.iter().map(|x| x * 1.7).collect();
    for mut d in devices() {
        let x = d.put(storage, &x);
        d.run(&Scale { storage, x, len: int(len), factor: 1.7 });
        let got = d.get(storage, x, len);
        Output::new("scaled", storage, got, exact.clone()).check(&format!("{storage:?} {len}"));
    }
}

#[test]
fn against_f64() {
    for len in [1, 7, 8, 300, 5000] {
        case(F32, len);
        case(Bf16, len);
    }
}

#[test]
fn bytes() {
    let len = 1 << 14;
    for mut d in devices() {
        let x = d.put_bf16(&Gen::new(0).normals(Bf16, len, 1.0));
        d.run(&Scale { storage: Bf16, x, len: int(len), factor: 0.5 });
        d.moved_at_most(2 * len * 2);
    }
}
