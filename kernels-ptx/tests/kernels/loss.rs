use crate::check::{Bf16, F32, Gen, Output, devices, float, int, ptr};
use kernels_ptx::launch::{Storage, loss, norm};

/// (N, V): the last two are wider than what registers keep.
const SHAPES: [(usize, usize); 7] =
    [(1, 1), (1, 7), (3, 8), (4, 259), (5, 1000), (2, 33000), (1, 4200 * 4 + 1)];

fn case(storage: Storage, (N, V): (usize, usize)) {
    let g = &mut Gen::new((N * 1000 + V) as u64);
    let logits = g.normals(storage, N * V, 3.0);
    check(storage, g, &logits, (N, V), &format!("{storage:?} N{N} V{V}"));
}

fn check(storage: Storage, g: &mut Gen, logits: &[f64], (N, V): (usize, usize), context: &str) {
    let scale = 0.25;
    let mut targets: Vec<i32> = (0..N).map(|_| g.below(V) as i32).collect();
    if N > 2 {
        targets[1] = -100;
    }
    let (mut nats, mut exact) = (vec![], vec![]);
    for (row, &target) in logits.chunks(V).zip(&targets) {
        let max = row.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
        let sum: f64 = row.iter().map(|x| (x - max).exp()).sum();
        let counts = target >= 0;
        nats.push(if counts { sum.ln() + max - row[target as usize] } else { 0.0 });
        exact.extend(row.iter().enumerate().map(|(i, x)| {
            let hit = f64::from(u8::from(i as i32 == target));
            if counts { scale * ((x - max).exp() / sum - hit) } else { 0.0 }
        }));
    }
    for mut d in devices() {
        let ptargets = d.put_u32(&targets.iter().map(|&t| t as u32).collect::<Vec<_>>());
        let (plogits, pnats) = (d.put(storage, logits), d.room_f64(N));
        d.run(
            loss::forward(storage, N as u32, V as u32),
            &[ptr(pnats), ptr(plogits), ptr(ptargets), int(V)],
        );
        let forward = d.get_f64(pnats, N);
        d.run(
            loss::forward_backward(storage, N as u32, V as u32),
            &[ptr(pnats), ptr(plogits), ptr(ptargets), float(scale), int(V)],
        );
        assert!(forward == d.get_f64(pnats, N), "{context}: two losses");
        Output::new("nats", F32, forward, nats.clone()).check(context);
        let got = d.get(storage, plogits, N * V);
        Output::new("dlogits", storage, got, exact.clone()).check(context);
    }
}

#[test]
fn against_f64() {
    for shape in SHAPES {
        case(F32, shape);
        case(Bf16, shape);
    }
}

/// One logit far above the others: a maximum that misses it makes the sum infinite. At the first and
/// last place of what a thread accesses at once, of what registers keep, and beyond it.
#[test]
fn the_largest_logit_anywhere() {
    for (V, places) in [
        (7, vec![0, 3, 6]),
        (264, vec![0, 7, 8, 255, 256, 263]),
        (521, vec![0, 511, 512, 520]),
        (16_801, vec![0, 4095, 4096, 8191, 8192, 16_800]),
        (33_000, vec![0, 32_767, 32_768, 32_999]),
    ] {
        for storage in [F32, Bf16] {
            // A row for each place.
            let N = places.len();
            let g = &mut Gen::new(V as u64);
            let mut logits = g.normals(storage, N * V, 1.0);
            places.iter().enumerate().for_each(|(n, place)| logits[n * V + place] = 300.0);
            check(storage, g, &logits, (N, V), &format!("{storage:?} V{V}, one of 300"));
        }
    }
}

/// A loss in chunks of rows adds up on the device, in f64.
#[test]
fn chunks_add_up_on_the_device() {
    let (N, V, chunk) = (7, 50, 3);
    let logits = Gen::new(1).normals(Bf16, N * V, 3.0);
    let exact: f64 =
        logits.chunks(V).map(|row| row.iter().map(|x| x.exp()).sum::<f64>().ln() - row[4]).sum();
    for mut d in devices() {
        let (targets, nats, sum) = (d.put_u32(&[4; 7]), d.room_f64(chunk), d.room_f64(1));
        for (i, rows) in logits.chunks(chunk * V).enumerate() {
            let n = rows.len() / V;
            let args = [ptr(nats), ptr(d.put(Bf16, rows)), ptr(targets), int(V)];
            d.run(loss::forward(Bf16, n as u32, V as u32), &args);
            d.run(norm::sum(), &[ptr(sum), ptr(nats), int(n), int(usize::from(i > 0))]);
        }
        Output::new("sum", F32, d.get_f64(sum, 1), vec![exact]).check("in chunks");
    }
}

#[test]
fn nan_stays_in_its_row() {
    let (N, V) = (3, 264);
    for mut d in devices() {
        let mut logits = Gen::new(0).normals(Bf16, N * V, 1.0);
        logits[V + 100] = f64::NAN;
        let (plogits, nats) = (d.put(Bf16, &logits), d.room_f64(N));
        let targets = d.put_u32(&[0; 3]);
        d.run(
            loss::forward(Bf16, N as u32, V as u32),
            &[ptr(nats), ptr(plogits), ptr(targets), int(V)],
        );
        let finite: Vec<bool> = d.get_f64(nats, N).iter().map(|x| x.is_finite()).collect();
        assert_eq!(finite, [true, false, true]);
    }
}

#[test]
fn bytes() {
    let (N, V) = (4, 32000);
    for mut d in devices() {
        let logits = d.put(Bf16, &Gen::new(0).normals(Bf16, N * V, 1.0));
        let (nats, targets) = (d.room_f64(N), d.put_u32(&[5; 4]));
        d.run(
            loss::forward_backward(Bf16, N as u32, V as u32),
            &[ptr(nats), ptr(logits), ptr(targets), float(1.0), int(V)],
        );
        d.moved_at_most(2 * N * V * 2);
    }
}
