//! The loss on held-out text does not depend on how its windows are batched.

use std::sync::Arc;

use data::loader::EvalWindows;
use data::shard::TokenSource;
use engine::Device;
use model::Config;
use train::trainer::{Recipe, Trainer};

const T: usize = 16;

fn loss(rows: usize, tokens: u64) -> f64 {
    let dev = Device::cpu(1).unwrap();
    let mut trainer = Trainer::<f32>::new(&dev, &Config::stories_260k(), Recipe::new(rows, T));
    trainer.init(7).unwrap();
    // Ten windows, the last of them half full, and no two of the same loss.
    let ids = (0..9 * T as u32 + 9).map(|i| i * i % 500).collect();
    let source = Arc::new(TokenSource::from_ids(ids));
    let range = 0..source.len();
    let windows = EvalWindows::new(source, range, T).unwrap();
    trainer.validation_loss(&windows, tokens).unwrap()
}

#[test]
fn a_window_counts_once_whatever_the_batch() {
    // All windows, and the first five: 3 and 4 divide neither number.
    for tokens in [10 * T as u64, 5 * T as u64] {
        let alone = loss(1, tokens);
        for rows in [3, 4, 16] {
            let batched = loss(rows, tokens);
            assert!(
                (batched - alone).abs() < 1e-6,
                "{tokens} tokens by {rows}: {batched}, {alone}"
            );
        }
    }
    assert!((loss(1, 10 * T as u64) - loss(1, 5 * T as u64)).abs() > 1e-4, "windows are alike");
}
