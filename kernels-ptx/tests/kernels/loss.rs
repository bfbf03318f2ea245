use crate::check::{Bf16, Device, F32, Gen, Output, devices, int};
use kernels_ptx::launch::Storage;
use kernels_ptx::loss::{self, Forward, ForwardBackward, Sum};
use ptx_emu::{Class, bounds};
use std::ptr::{null, null_mut};

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
    check(storage, g, &logits, (N, V), &format!("{storage:?} N{N} V{V}"));
}

/// Both kernels on one device's memory, of N rows of V.
struct Rows<E> {
    storage: Storage,
    nats_N: *mut f32,
    largest_N: *mut i32,
    logits_NS: *mut E,
    targets_N: *const i32,
    weights_N: *const f32,
    N: usize,
    V: usize,
}

impl<E> Rows<E> {
    fn forward(&self) -> Forward<E> {
        let Rows { storage, nats_N, largest_N, logits_NS, targets_N, N, V, .. } = *self;
        let [N, V, S] = [N, V, stride(storage, V)].map(int);
        Forward { storage, nats_N, largest_N, logits_NS, targets_N, V, S, N }
    }

    fn both(&self, scale: f64) -> ForwardBackward<E> {
        let Rows { storage, nats_N, largest_N, logits_NS, targets_N, weights_N, N, V } = *self;
        let ([N, V, S], scale) = ([N, V, stride(storage, V)].map(int), scale as f32);
        ForwardBackward {
            storage,
            nats_N,
            largest_N,
            logits_NS,
            targets_N,
            weights_N,
            scale,
            V,
            S,
            N,
        }
    }
}

/// The least id among the largest logits of a row.
fn largest(row: &[f64]) -> usize {
    let max = row.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
    row.iter().position(|&x| x == max).unwrap()
}

fn check(storage: Storage, g: &mut Gen, logits: &[f64], (N, V): (usize, usize), context: &str) {
    let scale = 0.25;
    let mut targets: Vec<i32> = (0..N).map(|_| g.below(V) as i32).collect();
    if N > 2 {
        targets[1] = -100;
    }
    let weights: Vec<f64> = (0..N).map(|n| [2.0, 1.0, -0.5, 0.0][n % 4]).collect();
    let (mut nats, mut exact, mut ids) = (vec![], vec![], vec![]);
    for (n, (row, &target)) in logits.chunks(V).zip(&targets).enumerate() {
        let max = row.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
        let sum: f64 = row.iter().map(|x| (x - max).exp()).sum();
        let counts = target >= 0;
        nats.push(if counts { sum.ln() + max - row[target as usize] } else { 0.0 });
        ids.push(if counts { largest(row) as i32 } else { target });
        exact.extend(row.iter().enumerate().map(|(i, x)| {
            let hit = f64::from(u8::from(i as i32 == target));
            if counts { scale * weights[n] * ((x - max).exp() / sum - hit) } else { 0.0 }
        }));
    }
    // A sum errs by its powers, and once more each time that a thread's maximum moves, at most once
    // an access of 512 threads; by a last bit of exponents, whose mean is below ln V.
    let moves = V.div_ceil(512) + 1;
    let of_sum = bounds::EX2 * (1 + moves) as f64 + bounds::LAST_BIT * (1.0 + (V as f64).ln());
    let of_log = 2f64.ln() * bounds::lg2((V as f64).log2());
    let S = stride(storage, V);
    // What lies between rows must not count, whatever it is.
    for (mut d, gap) in devices().zip([f64::NAN, f64::INFINITY].into_iter().cycle()) {
        let (nats_N, pids) = (d.room_f32(N), d.room_i32(N));
        let rows = Rows {
            storage,
            nats_N,
            largest_N: pids,
            logits_NS: d.put(storage, &padded(storage, logits, V, gap)),
            targets_N: d.put_i32(&targets),
            weights_N: d.put_f32(&weights),
            N,
            V,
        };
        d.run(&rows.forward());
        let forward = d.get_f32(nats_N, N);
        assert!(d.get_i32(pids, N) == ids, "{context}: the largest");
        d.run(&Rows { largest_N: null_mut(), ..rows }.both(scale));
        assert!(forward == d.get_f32(nats_N, N), "{context}: two losses");
        Output::new("nats", F32, forward, nats.clone()).allowing(of_sum + of_log).check(context);
        let got = unpadded(storage, &d.get(storage, rows.logits_NS, N * S), V);
        let dlogits = Output::new("dlogits", storage, got, exact.clone());
        dlogits.allowing((bounds::EX2 + of_sum) * scale * 2.0).check(context);
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

/// Of equal logits the first counts, in whichever access, warp or pass of a thread they lie; and
/// both kernels find it.
#[test]
fn of_equal_logits_the_first_is_the_largest() {
    for (V, equal) in [
        (7, vec![6, 3]),
        (264, vec![263, 8, 255]),
        (264, vec![0, 7, 256]),
        (521, vec![520, 512, 511]),
        (16_801, vec![16_800, 8192, 4100]),
        (33_000, vec![32_999, 32_768]),
        (33_000, vec![32_767, 32_768]),
    ] {
        for (mut d, storage) in [F32, Bf16].into_iter().flat_map(|s| devices().map(move |d| (d, s)))
        {
            let mut row = Gen::new(V as u64).normals(storage, V, 1.0);
            equal.iter().for_each(|&at| row[at] = 9.0);
            let ids = [(); 2].map(|()| d.room_i32(1));
            let rows = Rows {
                storage,
                nats_N: d.room_f32(1),
                largest_N: ids[0],
                logits_NS: d.put(storage, &padded(storage, &row, V, f64::INFINITY)),
                targets_N: d.put_i32(&[0]),
                weights_N: null(),
                N: 1,
                V,
            };
            d.run(&rows.forward());
            d.run(&Rows { largest_N: ids[1], ..rows }.both(1.0));
            let first = *equal.iter().min().unwrap() as i32;
            assert_eq!(ids.map(|at| d.get_i32(at, 1)[0]), [first; 2], "{storage:?} of {V}");
        }
    }
}

/// In f64, on top of what is there, with weights and without; a bad row of weight 0 adds nothing.
#[test]
fn sums_grow_on_the_device() {
    for mut d in devices() {
        for N in [1, 31, 1024, 2500] {
            let g = &mut Gen::new(N as u64);
            let (mut nats, weights) = (g.normals(F32, N, 3.0), g.normals(F32, N, 1.0));
            let near = |sum: f64, exact: f64, what: &str| {
                let size: f64 = nats.iter().map(|x| x.abs()).sum::<f64>() * 5.0 + 7.0;
                assert!((sum - exact).abs() <= 1e-15 * size, "{what} N{N}: {sum} and {exact}");
            };
            let sum = d.put_f64(&[7.0]);
            let (nats_N, weights_N) = (d.put_f32(&nats), d.put_f32(&weights));
            let mut exact = 7.0 + nats.iter().sum::<f64>();
            d.run(&Sum { sum, nats_N, weights_N: null(), N: int(N) });
            near(d.get_f64(sum, 1)[0], exact, "plain");
            exact += nats.iter().zip(&weights).map(|(nats, weight)| nats * weight).sum::<f64>();
            d.run(&Sum { sum, nats_N, weights_N, N: int(N) });
            near(d.get_f64(sum, 1)[0], exact, "weighted");
            nats[N / 2] = f64::NAN;
            let (nats_N, weights_N) = (d.put_f32(&nats), d.put_f32(&vec![0.0; N]));
            let before = d.get_f64(sum, 1);
            d.run(&Sum { sum, nats_N, weights_N, N: int(N) });
            assert_eq!(d.get_f64(sum, 1), before);
        }
    }
}

#[test]
fn nan_stays_in_its_row() {
    let (N, V) = (3, 263);
    for (mut d, at) in [0, 100, V - 1].into_iter().flat_map(|at| devices().map(move |d| (d, at))) {
        let mut logits = Gen::new(0).normals(Bf16, N * V, 1.0);
        logits[V + at] = f64::NAN;
        let nats_N = d.room_f32(N);
        let rows = Rows {
            storage: Bf16,
            nats_N,
            largest_N: null_mut(),
            logits_NS: d.put_bf16(&padded(Bf16, &logits, V, 0.0)),
            targets_N: d.put_i32(&[5; 3]),
            weights_N: null(),
            N,
            V,
        };
        d.run(&rows.forward());
        let finite: Vec<bool> = d.get_f32(nats_N, N).iter().map(|x| x.is_finite()).collect();
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
        let rows = Rows {
            storage,
            nats_N: d.room_f32(1),
            largest_N: d.room_i32(1),
            logits_NS: d.put(storage, &padded(storage, &logits, V, f64::NAN)),
            targets_N: d.put_i32(&[700]),
            weights_N: null(),
            N: 1,
            V,
        };
        d.run(&rows.forward());
        Output::new("nats", F32, d.get_f32(rows.nats_N, 1), vec![2f64.ln()]).check("-inf");
        assert_eq!(d.get_i32(rows.largest_N, 1), [3]);
    }
}

/// Bytes and requests of both kernels at V, a row each, with the stride that belongs to it, and with
/// ids of the largest logits if they are wanted.
fn cost(d: &mut Device, V: usize, largest: bool) -> [(u64, u64); 2] {
    let N = 4;
    let logits = padded(Bf16, &Gen::new(0).normals(Bf16, N * V, 1.0), V, 0.0);
    let rows = Rows {
        storage: Bf16,
        nats_N: d.room_f32(N),
        largest_N: if largest { d.room_i32(N) } else { null_mut() },
        logits_NS: d.put_bf16(&logits),
        targets_N: d.put_i32(&[5; 4]),
        weights_N: null(),
        N,
        V,
    };
    let cost = |d: &Device| {
        let requests = [Class::GlobalLoad, Class::GlobalStore, Class::Generic];
        (d.counts.sector_bytes(), requests.map(|class| d.counts.class(class)).iter().sum())
    };
    d.run(&rows.forward());
    let forward = cost(d);
    d.run(&rows.both(1.0));
    [forward, cost(d)]
}

#[test]
fn bytes() {
    for mut d in devices() {
        let (N, V) = (4, 32000);
        for largest in [false, true] {
            let [(forward, _), _] = cost(&mut d, V, largest);
            let reads = if largest { 2 } else { 1 };
            assert!(forward as f64 <= 1.05 * (reads * N * V * 2) as f64, "{forward}");
            d.moved_at_most(2 * N * V * 2);
        }
    }
}

/// A vocabulary that is no multiple of 8 costs what its neighbour does.
#[test]
fn odd_vocabularies_cost_no_more() {
    for mut d in devices() {
        let [even, odd] = [50256, 50257].map(|V| cost(&mut d, V, false));
        for ((bytes, requests), (odd_bytes, odd_requests)) in even.into_iter().zip(odd) {
            println!("bytes {bytes} and {odd_bytes}, requests {requests} and {odd_requests}");
            let share = |a: u64, b: u64| (a as f64 / b as f64 - 1.0).abs();
            assert!(share(odd_bytes, bytes) < 0.01 && share(odd_requests, requests) < 0.01);
        }
    }
}
