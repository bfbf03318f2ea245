//! The table: Hugging Face's names and shapes, and slots that cover them.

use engine::{Dims, Init, Slot};
use model::{Config, Split, table};

fn config(tied: bool) -> Config {
    let dims = Dims { L: 2, C: 20, H: 4, G: 2, D: 6, F: 7, V: 11 };
    Config { dims, tied, ..Config::named("260k").unwrap() }
}

#[test]
fn names_shapes_decay_and_init_are_hugging_faces_and_the_papers() {
    let (table, _) = table(&config(false));
    let small = Init::Normal(0.02 / 2.0);
    let matrix = Init::Normal(0.02);
    let mut want = vec![("model.embed_tokens.weight".to_string(), vec![11, 20], matrix)];
    for layer in 0..2 {
        for (part, shape, init) in [
            ("input_layernorm", vec![20], Init::Ones),
            ("self_attn.q_proj", vec![24, 20], matrix),
            ("self_attn.k_proj", vec![12, 20], matrix),
            ("self_attn.v_proj", vec![12, 20], matrix),
            ("self_attn.o_proj", vec![20, 24], small),
            ("post_attention_layernorm", vec![20], Init::Ones),
            ("mlp.gate_proj", vec![7, 20], matrix),
            ("mlp.up_proj", vec![7, 20], matrix),
            ("mlp.down_proj", vec![20, 7], small),
        ] {
            want.push((format!("model.layers.{layer}.{part}.weight"), shape, init));
        }
    }
    want.push(("model.norm.weight".to_string(), vec![20], Init::Ones));
    want.push(("lm_head.weight".to_string(), vec![11, 20], matrix));
    let rows = table.rows().iter();
    let got: Vec<_> = rows.map(|row| (row.name.clone(), row.shape.clone(), row.init)).collect();
    assert_eq!(got, want);
    for row in table.rows() {
        assert_eq!(row.decay, !row.name.contains("norm"), "{}", row.name);
    }
}

#[test]
fn slots_cover_the_rows_they_are_named_for() {
    let (table, slots) = table(&config(false));
    let row = |name: &str| table.rows().iter().find(|row| row.name == name).unwrap().slot;
    let joined =
        |names: &[&str]| -> Slot { names.iter().map(|name| row(name)).reduce(Slot::join).unwrap() };
    assert_eq!(slots.blocks.len(), 2);
    for (layer, block) in slots.blocks.iter().enumerate() {
        let names = |parts: &[&str]| -> Vec<String> {
            parts.iter().map(|part| format!("model.layers.{layer}.{part}.weight")).collect()
        };
        let slot =
            |parts: &[&str]| joined(&names(parts).iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(block.norm1, slot(&["input_layernorm"]));
        let qkv = slot(&["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]);
        assert_eq!(block.qkv.weight, qkv);
        assert_eq!(block.wo.weight, slot(&["self_attn.o_proj"]));
        assert_eq!(block.norm2, slot(&["post_attention_layernorm"]));
        assert_eq!(block.gate_up.weight, slot(&["mlp.gate_proj", "mlp.up_proj"]));
        assert_eq!(block.down.weight, slot(&["mlp.down_proj"]));
        let weights = block.projections().map(|projection| projection.weight);
        for slot in weights.into_iter().chain([block.norm1, block.norm2]) {
            assert_eq!(slot.range().start % 16, 0, "slots start aligned");
        }
        // Inputs and outputs of each: what its product takes in and what it gives.
        let sizes = block.projections().map(|p| (p.name, p.I, p.O, p.split));
        let (inputs, outputs) = (Split::Inputs, Split::Outputs);
        let want = [
            ("qkv", 20, 48, outputs),
            ("output", 24, 20, inputs),
            ("gate and up", 20, 14, outputs),
            ("down", 7, 20, inputs),
        ];
        assert_eq!(sizes, want);
    }
    assert_eq!(slots.embed, row("model.embed_tokens.weight"));
    assert_eq!(slots.norm, row("model.norm.weight"));
    assert_eq!(slots.head.weight, row("lm_head.weight"));
}

#[test]
fn a_tied_head_is_the_embedding() {
    let (tied, slots) = table(&config(true));
    let (untied, _) = table(&config(false));
    assert_eq!(slots.head.weight, slots.embed);
    assert!(tied.rows().iter().all(|row| row.name != "lm_head.weight"));
    assert_eq!(tied.parameters() + 11 * 20, untied.parameters());
}
