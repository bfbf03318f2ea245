//! The ids of texts, and the logits of what follows each, from any model directory: a list of texts
//! comes in as JSON, an object for each goes out. `tests/foreign/agree.py` holds them against
//! transformers'.
//!
//!     echo '["Once upon a time"]' | cargo run --release --example logits -- MODEL

use std::path::PathBuf;

use handgrad::engine::Device;
use handgrad::model::generation::Decoder;
use handgrad::model::llama::Llama;
use handgrad::train::{directory, sample};
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = PathBuf::from(std::env::args().nth(1).ok_or("give a model directory")?);
    let texts: Vec<String> = serde_json::from_reader(std::io::stdin())?;
    let dev = Device::cpu(0)?;
    let (config, tokenizer) = directory::open(&dir)?;
    let T = config.context();
    let model = Llama::<f32>::new(&dev, &config, T);
    let weights = directory::weights::<f32>(&dev, &dir, model.table())?;
    let mut decoder = Decoder::new(&dev, &model, 1, T);
    for text in texts {
        let ids = sample::prompt_ids(&tokenizer, &text)?;
        decoder.clear(0);
        let fits = &ids[..ids.len().min(T)];
        let logits_V = decoder.feed(&dev, &model, weights.view(), &[(0, fits)])?;
        println!("{}", json!({"text": text, "ids": ids, "logits": logits_V}));
    }
    Ok(())
}
