use crate::check::{Bf16, Device, F32, Gen, Output, devices, float, int, ptr};
use kernels_ptx::launch::{Storage, loss, norm};
use ptx_emu::{Arg, Class, bounds};

/// (N, V): the last two are wider than what registers keep.
const SHAPES: [(usize, usize); 9] =
    [(1, 1), (1, 7), (3, 8), (5, 61), (4, 259), (3, 509), (5, 1000), (2, 33001), (1, 8 * 4200 + 1)];

/// Elements from row to row.
fn stride(storage: Storage, V: usize) -> usize {
    loss::stride(storage, V as u32) as usize
}

/// Rows of V with `gap` between them.
fn padded(storage: Storage, x: &[f64], V: usize, gap: f64) -> Vec<f64> {
    let gap = vec![gap; stride(storage, V) - V];
    x.chunks(V).flat_map(|row| row.iter().chain(&gap).copied()).collect()
}

/// The rows of V in padded ones.
fn unpadded(storage: Storage, x: &[f64], V: usize) -> Vec<f64> {
    x.chunks(stride(storage, V)).flat_map(|row| row[..V].iter().copied()).collect()
}

fn case(storage: Storage, (N, V): (usize, usize)) {
    let g = &mut Gen::new((N * 1000 + V) as u64);
    let logits = g.normals(storage, N * V, 3.0);
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
    let context = format!("{storage:?} N{N} V{V}");
    // A sum errs by its powers, and once more each time that a thread's maximum moves, at most once
    // an access of 512 threads; by a last bit of exponents, whose mean is below ln V.
    let moves = V.div_ceil(512) + 1;
    let of_sum = bounds::EX2 * (1 + moves) as f64 + bounds::LAST_BIT * (1.0 + (V as f64).ln());
    let of_log = 2f64.ln() * bounds::lg2((V as f64).log2());
    let S = stride(storage, V);
    // What lies between rows must not count, whatever it is.
    for (mut d, gap) in devices().zip([f64::NAN, f64::INFINITY].into_iter().cycle()) {
        let ptargets = d.put_u32(&targets.iter().map(|&t| t as u32).collect::<Vec<_>>());
        let plogits = d.put(storage, &padded(storage, &logits, V, gap));
        let pnats = d.room_f64(N);
        d.run(
            loss::forward(storage, N as u32, V as u32),
            &[ptr(pnats), ptr(plogits), ptr(ptargets), int(V), int(S)],
        );
        let forward = d.get_f64(pnats, N);
        d.run(
            loss::forward_backward(storage, N as u32, V as u32),
            &[ptr(pnats), ptr(plogits), ptr(ptargets), float(scale), int(V), int(S)],
        );
        assert!(forward == d.get_f64(pnats, N), "{context}: two losses");
        Output::new("nats", F32, forward, nats.clone()).allowing(of_sum + of_log).check(&context);
        let got = unpadded(storage, &d.get(storage, plogits, N * S), V);
        let dlogits = Output::new("dlogits", storage, got, exact.clone());
        dlogits.allowing((bounds::EX2 + of_sum) * scale).check(&context);
    }
}

#[test]
fn against_f64() {
    for shape in SHAPES {
        case(F32, shape);
        case(Bf16, shape);
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
            let logits = d.put(Bf16, &padded(Bf16, rows, V, f64::NAN));
            let args = [ptr(nats), ptr(logits), ptr(targets), int(V), int(stride(Bf16, V))];
            d.run(loss::forward(Bf16, n as u32, V as u32), &args);
            d.run(norm::sum(), &[ptr(sum), ptr(nats), int(n), int(usize::from(i > 0))]);
        }
        Output::new("sum", F32, d.get_f64(sum, 1), vec![exact]).check("in chunks");
    }
}

#[test]
fn nan_stays_in_its_row() {
    let (N, V) = (3, 263);
    for (mut d, at) in [0, 100, V - 1].into_iter().flat_map(|at| devices().map(move |d| (d, at))) {
        let mut logits = Gen::new(0).normals(Bf16, N * V, 1.0);
        logits[V + at] = f64::NAN;
        let plogits = d.put(Bf16, &padded(Bf16, &logits, V, 0.0));
        let (nats, targets) = (d.room_f64(N), d.put_u32(&[5; 3]));
        d.run(
            loss::forward(Bf16, N as u32, V as u32),
            &[ptr(nats), ptr(plogits), ptr(targets), int(V), int(stride(Bf16, V))],
        );
        let finite: Vec<bool> = d.get_f64(nats, N).iter().map(|x| x.is_finite()).collect();
        assert_eq!(finite, [true, false, true]);
    }
}

/// Also where a thread sees nothing else.
#[test]
fn a_logit_of_minus_infinity_has_no_weight() {
    let V = 1000;
    let storages = [F32, Bf16].into_iter();
    for (mut d, storage) in storages.flat_map(|storage| devices().map(move |d| (d, storage))) {
        let mut logits = vec![f64::NEG_INFINITY; V];
        logits[3] = 1.0;
        logits[700] = 1.0;
        let plogits = d.put(storage, &padded(storage, &logits, V, f64::NAN));
        let (nats, targets) = (d.room_f64(1), d.put_u32(&[700]));
        d.run(
            loss::forward(storage, 1, V as u32),
            &[ptr(nats), ptr(plogits), ptr(targets), int(V), int(stride(storage, V))],
        );
        Output::new("nats", F32, d.get_f64(nats, 1), vec![2f64.ln()]).check("-inf");
    }
}

/// Bytes and requests of both kernels at V, a row each, with the stride that belongs to it.
fn cost(d: &mut Device, V: usize) -> [(u64, u64); 2] {
    let (N, S) = (4, stride(Bf16, V));
    let logits = d.put(Bf16, &padded(Bf16, &Gen::new(0).normals(Bf16, N * V, 1.0), V, 0.0));
    let (nats, targets) = (d.room_f64(N), d.put_u32(&[5; 4]));
    let pointers = [nats, logits, targets].map(ptr);
    let sizes = [int(V), int(S)];
    let mut run = |launch, args: &[Arg]| {
        d.run(launch, args);
        let requests = [Class::GlobalLoad, Class::GlobalStore, Class::Generic];
        (d.counts.sector_bytes(), requests.map(|class| d.counts.class(class)).iter().sum())
    };
    [
        run(loss::forward(Bf16, N as u32, V as u32), &[&pointers[..], &sizes].concat()),
        run(
            loss::forward_backward(Bf16, N as u32, V as u32),
            &[&pointers[..], &[float(1.0)], &sizes].concat(),
        ),
    ]
}

#[test]
fn bytes() {
    for mut d in devices() {
        let (N, V) = (4, 32000);
        cost(&mut d, V);
        d.moved_at_most(2 * N * V * 2);
    }
}

/// A vocabulary that is no multiple of 8 costs what its neighbour does.
#[test]
fn odd_vocabularies_cost_no_more() {
    for mut d in devices() {
        let [even, odd] = [50256, 50257].map(|V| cost(&mut d, V));
        for ((bytes, requests), (odd_bytes, odd_requests)) in even.into_iter().zip(odd) {
            println!("bytes {bytes} and {odd_bytes}, requests {requests} and {odd_requests}");
            let share = |a: u64, b: u64| (a as f64 / b as f64 - 1.0).abs();
            assert!(share(odd_bytes, bytes) < 0.01 && share(odd_requests, requests) < 0.01);
        }
    }
}
