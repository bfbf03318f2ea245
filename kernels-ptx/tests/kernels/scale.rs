use crate::check::{Bf16, F32, Gen, Output, devices, float, int, ptr};
use kernels_ptx::launch::Storage;
use kernels_ptx::launch::scale::scale;

fn case(storage: Storage, len: usize) {
    let x = Gen::new(len as u64).normals(storage, len, 2.0);
    let exact: Vec<f64> = x.iter().map(|x| x * 1.7).collect();
    for mut d in devices() {
        let at = d.put(storage, &x);
        d.run(scale(storage, len as u32), &[ptr(at), int(len), float(1.7)]);
        let got = d.get(storage, at, len);
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
        let x = d.put(Bf16, &Gen::new(0).normals(Bf16, len, 1.0));
        d.run(scale(Bf16, len as u32), &[ptr(x), int(len), float(0.5)]);
        d.moved_at_most(2 * len * 2);
    }
}
