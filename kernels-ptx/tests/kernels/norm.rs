use crate::check::{F32, Gen, Output, devices, int};
use kernels_ptx::norm::{Squares, Sum, parts};

#[test]
fn against_f64() {
    for len in [1, 3, 4, 1000, 65536, 65537, 200_003] {
        let x = Gen::new(len as u64).normals(F32, len, 1.0);
        let exact: f64 = x.iter().map(|x| x * x).sum();
        for mut d in devices() {
            let P = parts(len as u64);
            let (x, part_P, sum) = (d.put_f32(&x), d.room_f64(P as usize), d.room_f64(1));
            d.run(&Squares { part_P, x, len: len as u64 });
            if len >= 1000 {
                d.moved_at_most(len * 4 + P as usize * 32);
            }
            d.run(&Sum { sum, x: part_P, len: P });
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
            let squares: Vec<f64> = x.iter().map(|x| x * x).collect();
            let (part, sum) = (d.put_f64(&squares), d.room_f64(1));
            d.run(&Sum { sum, x: part, len: int(len) });
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
            let (x, part_P, sum) = (d.put_f32(&x), d.room_f64(2), d.room_f64(1));
            d.run(&Squares { part_P, x, len: 70_000 });
            d.run(&Sum { sum, x: part_P, len: 2 });
            assert!(!d.get_f64(sum, 1)[0].is_finite());
        }
    }
}
