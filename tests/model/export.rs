//! A model that was exported, read back, and left where transformers can be asked about it.

use std::path::Path;

use crate::bench::{Bench, GQA, config};
use engine::{Buf, Dtype};
use model::cache::Mode;
use model::hf;
use model::weights::Weights;
use train::trainer::Trainer;

/// Exports a model and its logits below cargo's folder for test files. `check_export.py` in
/// `tests/golden` loads the directory in transformers and compares.
#[test]
fn an_export_reads_back_to_the_bit_and_gives_the_same_logits() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("export");
    let _ = std::fs::remove_dir_all(&dir);
    // transformers wants the heads to divide the width.
    let config = config(engine::Dims { C: 12, ..GQA }, false);
    let mut bench = Bench::<f32>::new(&config, 3, 11, Mode::Linear, 2);
    let table = bench.trainer.model.table().clone();
    hf::write(&dir, &config, &table, &bench.trainer.weights, Dtype::F32, u64::MAX).unwrap();

    let mut read = Weights::zeros(&bench.trainer.dev, &table);
    assert_eq!(hf::load(&dir).unwrap(), config);
    hf::read_weights(&dir, &table, &mut read).unwrap();
    let bits = |weights: &Weights<f32>| {
        weights.view().host().iter().map(|w| w.to_bits()).collect::<Vec<_>>()
    };
    assert!(bits(&read) == bits(&bench.trainer.weights));
    let again = dir.join("again");
    hf::write(&again, &config, &table, &read, Dtype::F32, u64::MAX).unwrap();
    for file in ["config.json", "model.safetensors"] {
        let same =
            std::fs::read(dir.join(file)).unwrap() == std::fs::read(again.join(file)).unwrap();
        assert!(same, "{file}");
    }

    bench.forward();
    let mut logits_NV = Buf::zeros(&bench.trainer.dev, bench.tokens.len() * config.dims.V);
    let Trainer { dev, model, weights, cache, scratch, .. } = &mut bench.trainer;
    model.logits(dev, &mut logits_NV, weights.view(), cache, scratch);
    let rows: Vec<&[u32]> = bench.tokens.chunks(bench.segments.reach()).collect();
    let json = serde_json::json!({ "tokens": rows, "logits": logits_NV.view().host() });
    std::fs::write(dir.join("logits.json"), json.to_string()).unwrap();
}
