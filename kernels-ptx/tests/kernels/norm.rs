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
            d.run(norm::sum(), &[ptr(sum), ptr(part), int(P)]);
            Output::new("sum", F32, d.get_f64(sum, 1), vec![exact]).check(&format!("len {len}"));
        }
    }
}

/// More parts than the one block that adds them has threads.
#[test]
fn many_parts_are_added() {
    for len in [1023, 1024, 1025, 3001] {
        let x = Gen::new(len as u64).normals(F32, len, 1.0);
        let exact: f64 = x.iter().map(|x| x * x).sum();
        for mut d in devices() {
            let bytes: Vec<u8> = x.iter().flat_map(|x| (x * x).to_le_bytes()).collect();
            let (part, sum) = (d.bytes(&bytes), d.room_f64(1));
            d.run(norm::sum(), &[ptr(sum), ptr(part), int(len)]);
            let got = d.get_f64(sum, 1);
            assert!((got[0] / exact - 1.0).abs() < 1e-13, "{len}: {} and {exact}", got[0]);
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
            d.run(norm::sum(), &[ptr(sum), ptr(part), int(2)]);
            assert!(!d.get_f64(sum, 1)[0].is_finite());
        }
    }
}
