use std::collections::HashSet;
use std::sync::Arc;

use data::loader::{
    EvalWindows, Held, Loader, LoaderConfig, Order, Permutation, split, unigram_entropy,
};
use data::rng::Philox;
use data::shard::TokenSource;
use proptest::prelude::*;

use crate::assert_says;

/// What the tests ask padding to be.
const IGNORE: i32 = -7;

/// Token i of the stream is i, so that a window tells where it begins.
fn counting(tokens: u64) -> Arc<TokenSource> {
    let ids: Vec<u32> = (0..tokens as u32).collect();
    let cut = ids.len() / 3;
    let mut source = TokenSource::from_ids(ids[..cut].to_vec());
    source.push_ids(ids[cut..].to_vec());
    Arc::new(source)
}

fn loader(
    tokens: u64,
    range: std::ops::Range<u64>,
    seq_len: usize,
    seed: u64,
    order: Order,
) -> Loader {
    Loader::new(counting(tokens), LoaderConfig { seq_len, seed, order, range }).unwrap()
}

fn sample(loader: &Loader, index: u64, T: usize) -> (Vec<u32>, Vec<i32>) {
    let (mut inputs, mut targets) = (vec![0; T], vec![0; T]);
    loader.sample(index, &mut inputs, &mut targets);
    (inputs, targets)
}

proptest! {
    #[test]
    fn permutation_is_a_bijection(n in 1u64..3000, seed: u64) {
        let permutation = Permutation::new(n, &mut Philox::new(seed, 0, 0));
        let mut seen = vec![false; n as usize];
        for i in 0..n {
            seen[permutation.apply(i) as usize] = true;
        }
        prop_assert!(seen.iter().all(|&s| s));
    }

    #[test]
    fn an_epoch_visits_each_window_once(
        T in 1usize..20, extra in 1u64..200, start in 0u64..50, seed: u64, epoch in 0u64..1000,
    ) {
        let tokens = T as u64 + extra;
        let loader = loader(start + tokens + 7, start..start + tokens, T, seed, Order::Shuffled);
        let n = loader.windows_per_epoch();
        let mut starts: Vec<u64> = Vec::new();
        for i in epoch * n..(epoch + 1) * n {
            let (inputs, targets) = sample(&loader, i, T);
            let first = inputs[0];
            prop_assert!((0..T as u32).all(|j| inputs[j as usize] == first + j));
            prop_assert!((0..T as i32).all(|j| targets[j as usize] == first as i32 + j + 1));
            starts.push(u64::from(first));
        }
        starts.sort_unstable();
        prop_assert!(starts.windows(2).all(|w| w[1] - w[0] == T as u64), "{starts:?}");
        let (first, last) = (starts[0], starts[starts.len() - 1]);
        prop_assert!(first >= start && last + (T as u64) < start + tokens);
        let left_out = tokens - 1 - n * T as u64;
        prop_assert!(left_out < 2 * T as u64, "{left_out} tokens left out");
    }

    #[test]
    fn sequential_reads_on_and_wraps(T in 1usize..20, extra in 1u64..60, start in 0u64..20, index in 0u64..10_000) {
        let tokens = T as u64 + extra;
        let loader = loader(start + tokens + 3, start..start + tokens, T, 0, Order::Sequential);
        let (inputs, targets) = sample(&loader, index, T);
        for j in 0..T as u64 {
            let at = |k: u64| start + (index * T as u64 + k) % tokens;
            prop_assert_eq!(u64::from(inputs[j as usize]), at(j));
            prop_assert_eq!(targets[j as usize] as u64, at(j + 1));
        }
    }

    #[test]
    fn evaluation_covers_the_range_once(T in 1usize..20, tokens in 2u64..200, start in 0u64..20) {
        let windows = EvalWindows::new(counting(start + tokens + 5), start..start + tokens, T).unwrap();
        let (mut inputs, mut targets) = (vec![0; T], vec![0; T]);
        let mut seen = Vec::new();
        for i in 0..windows.count() + 2 {
            let real = windows.window(i, &mut inputs, &mut targets, IGNORE);
            for j in 0..real {
                prop_assert_eq!(inputs[j] as i32 + 1, targets[j]);
            }
            prop_assert!(targets[real..].iter().all(|&t| t == IGNORE));
            seen.extend_from_slice(&targets[..real]);
        }
        let expected: Vec<i32> = (start as i32 + 1..(start + tokens) as i32).collect();
        prop_assert_eq!(windows.targets() as usize, expected.len());
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn split_ranges_meet_and_do_not_overlap(tokens in 1u64..1_000_000, fraction in 0.0f64..0.99) {
        if let Ok((train, held)) = split(tokens, Held::Fraction(fraction)) {
            prop_assert_eq!((train.start, train.end, held.end), (0, held.start, tokens));
            prop_assert!((held.end - held.start).abs_diff((tokens as f64 * fraction) as u64) <= 1);
        }
    }
}

#[test]
fn large_permutations_stay_in_range_and_do_not_collide() {
    for n in [1 << 20, (1 << 20) + 1, 1 << 40, (1 << 62) - 12345] {
        let permutation = Permutation::new(n, &mut Philox::new(3, 0, 0));
        let seen: HashSet<u64> = (0..20_000).map(|i| permutation.apply(i)).collect();
        assert_eq!(seen.len(), 20_000);
        assert!(seen.iter().all(|&x| x < n));
    }
}

/// Neighbours must not stay neighbours, and the whole range must be reached early.
#[test]
fn permutation_mixes() {
    let n = 10_000;
    let permutation = Permutation::new(n, &mut Philox::new(1, 0, 0));
    let places: Vec<u64> = (0..n).map(|i| permutation.apply(i)).collect();
    let close = places.windows(2).filter(|w| w[0].abs_diff(w[1]) < 10).count();
    // 20 of 10000 expected.
    assert!(close < 60, "{close} neighbours stayed close");
    let low = places[..1000].iter().filter(|&&p| p < n / 2).count();
    assert!((430..570).contains(&low), "{low} of the first 1000 in the lower half");
}

#[test]
fn epochs_and_seeds_differ_in_order_and_in_windows() {
    let T = 16;
    let starts = |seed: u64, epoch: u64| -> Vec<u32> {
        let loader = loader(5000, 0..5000, T, seed, Order::Shuffled);
        let n = loader.windows_per_epoch();
        (epoch * n..(epoch + 1) * n).map(|i| sample(&loader, i, T).0[0]).collect()
    };
    let order = |starts: &[u32]| -> Vec<u32> { starts.iter().map(|s| s / T as u32).collect() };
    assert_ne!(order(&starts(1, 0)), order(&starts(1, 1)));
    assert_ne!(order(&starts(1, 0)), order(&starts(2, 0)));
    let offsets: HashSet<u32> = (0..100).map(|epoch| starts(1, epoch)[0] % T as u32).collect();
    assert_eq!(offsets.len(), T, "all offsets come");
}

/// Pinned: a change of the order would make resumed runs see other data.
#[test]
fn shuffled_order_is_pinned() {
    let loader = loader(100_000, 0..100_000, 64, 1234, Order::Shuffled);
    let starts: Vec<u32> = (0..4).map(|i| sample(&loader, i, 64).0[0]).collect();
    let late = sample(&loader, 1_000_000, 64).0[0];
    assert_eq!((starts, late), (vec![42581, 47509, 97685, 22741], 5223));
}

/// The same samples whether taken in one batch of 8, by 2 rows, by 4 ranks, or after a restart.
#[test]
fn the_stream_does_not_depend_on_how_it_is_cut() {
    let T = 5;
    for order in [Order::Shuffled, Order::Sequential] {
        let whole = loader(1000, 10..990, T, 9, order);
        let (mut inputs, mut targets) = (vec![0; 64 * T], vec![0; 64 * T]);
        whole.fill_batch(500, 64, &mut inputs, &mut targets);
        for rows in [1, 2, 8, 32] {
            let again = loader(1000, 10..990, T, 9, order);
            let (mut some, mut their) = (vec![0; rows * T], vec![0; rows * T]);
            for part in (0..64 / rows).rev() {
                again.fill_batch((500 + part * rows) as u64, rows, &mut some, &mut their);
                let at = part * rows * T;
                assert_eq!(some, inputs[at..at + rows * T]);
                assert_eq!(their, targets[at..at + rows * T]);
            }
        }
    }
}

#[test]
fn data_shorter_than_a_sequence() {
    let config = LoaderConfig { seq_len: 64, seed: 0, order: Order::Shuffled, range: 0..64 };
    let error = Loader::new(counting(64), config).err().unwrap();
    assert_says(&error, &["training data: 64 tokens are too few", "need 65", "smaller --seq-len"]);
    let error = EvalWindows::new(counting(64), 63..64, 8).err().unwrap();
    assert_says(&error, &["validation data: 1 tokens are too few", "give more data"]);
}

#[test]
fn one_window_is_enough() {
    let loader = loader(65, 0..65, 64, 0, Order::Shuffled);
    assert_eq!(loader.windows_per_epoch(), 1);
    assert_eq!(sample(&loader, 5, 64), ((0..64).collect(), (1..65).collect()));
}

#[test]
fn a_share_that_is_none() {
    for (held, share) in [
        (Held::Fraction(1.0), "1"),
        (Held::Fraction(-0.1), "-0.1"),
        (Held::Fraction(f64::NAN), "NaN"),
        (Held::Tokens(100), "100"),
        (Held::Tokens(101), "101"),
    ] {
        let error = split(100, held).unwrap_err();
        assert_says(
            &error,
            &[&format!("validation share {share} of 100 tokens"), "give a fraction"],
        );
    }
    assert_eq!(split(100, Held::Fraction(0.0)).unwrap(), (0..100, 100..100));
    assert_eq!(split(100, Held::Tokens(10)).unwrap(), (0..90, 90..100));
}

#[test]
fn entropy_of_known_distributions() {
    assert_eq!(unigram_entropy(&[5, 5, 5], 6), 0.0);
    let even: Vec<u32> = (0..8).cycle().take(800).collect();
    assert!((unigram_entropy(&even, 100) - 8f64.ln()).abs() < 1e-12);
    let skewed = unigram_entropy(&[0, 0, 0, 1], 2);
    assert!((skewed - (4f64.ln() - 0.75 * 3f64.ln())).abs() < 1e-12);
}
