use crate::check::{F32, Gen, Output, devices, int, ptr};
use kernels_ptx::launch::norm;
use ptx_emu::Arg;

#[test]
fn against_f64() {
    for len in [1, 3, 4, 1000, 65536, 65537, 200_003] {
        let x = Gen::new(len as u64).normals(F32, len, 1.0);
        let exact: f64 = x.iter().map(|x| x * x).sum();
        for mut d in devices() {
            let launch = norm::squares(len as u64);
            let P = launch.blocks[0] as usize;
            let (px, part, sum) = (d.put(F32, &x), d.room_f64(P), d.room_f64(1));
            d.run(launch, &[ptr(part), ptr(px), Arg::U64(len as u64)]);
            if len >= 1000 {
                d.moved_at_most(len * 4 + P * 32);
            }
            for add in [0, 1] {
                d.run(norm::sum(), &[ptr(sum), ptr(part), int(P), int(add)]);
                let (got, exact) = (d.get_f64(sum, 1), vec![exact * (1 + add) as f64]);
                Output::new("sum", F32, got, exact).check(&format!("len {len}, add {add}"));
            }
        }
    }
}

#[test]
fn not_finite_stays_so() {
    for bad in [f64::NAN, f64::INFINITY] {
        let mut x = vec![1.0; 70_000];
        x[69_999] = bad;
        for mut d in devices() {
            let (px, part, sum) = (d.put(F32, &x), d.room_f64(2), d.room_f64(1));
            d.run(norm::squares(70_000), &[ptr(part), ptr(px), Arg::U64(70_000)]);
            d.run(norm::sum(), &[ptr(sum), ptr(part), int(2), int(0)]);
            assert!(!d.get_f64(sum, 1)[0].is_finite());
        }
    }
}
