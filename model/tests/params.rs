//! The table: Hugging Face's names and shapes, and slots that cover them.

use engine::{Dims, Init, Shard, Slot};
use model::{Bias, Config, Lora, Target, table};

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

/// Biases lie side by side as the matrices of one product do, start at zero and do not decay.
#[test]
fn biases_have_a_row_each() {
    let own: Vec<String> =
        table(&config(false)).0.rows().iter().map(|row| row.name.clone()).collect();
    for (bias, parts) in [
        (Bias::Qkv, &[("q_proj", 24), ("k_proj", 12), ("v_proj", 12)][..]),
        (Bias::Attention, &[("q_proj", 24), ("k_proj", 12), ("v_proj", 12), ("o_proj", 20)]),
    ] {
        let (table, slots) = table(&Config { bias, ..config(false) });
        let more: Vec<_> = table.rows().iter().filter(|row| !own.contains(&row.name)).collect();
        let want = (0..2).flat_map(|layer| {
            let name = move |part: &str| format!("model.layers.{layer}.self_attn.{part}.bias");
            parts.iter().map(move |&(part, O)| (name(part), vec![O]))
        });
        let got = more.iter().map(|row| (row.name.clone(), row.shape.clone()));
        assert!(got.eq(want), "{bias:?}");
        for row in more {
            assert_eq!((row.init, row.decay), (Init::Zeros, false), "{}", row.name);
            let shared = if row.name.contains("o_proj") { Shard::Whole } else { Shard::Outputs };
            assert_eq!(row.shard, shared, "{}", row.name);
        }
        let block = &slots.blocks[1];
        assert_eq!(block.qkv.bias.unwrap().len(), block.qkv.O);
        assert_eq!(block.wo.bias.is_some(), bias == Bias::Attention);
        assert_eq!((block.gate_up.bias, block.down.bias, slots.head.bias), (None, None, None));
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
        let (inputs, outputs) = (Shard::Inputs, Shard::Outputs);
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

#[test]
fn adapters_are_named_as_peft_names_them_and_split_with_their_matrix() {
    let own = table(&config(false)).0;
    let lora = Lora { targets: vec![Target::Query, Target::Up, Target::Down], ..Lora::new(3) };
    let lora = Config { lora: Some(lora), ..config(false) };
    let (table, slots) = table(&lora);
    let row = |name: &str| table.rows().iter().find(|row| row.name == name).unwrap();
    for (target, shape_a, shape_b, shards) in [
        ("self_attn.q_proj", [3, 20], [24, 3], [Shard::Whole, Shard::Outputs]),
        ("mlp.up_proj", [3, 20], [7, 3], [Shard::Whole, Shard::Outputs]),
        ("mlp.down_proj", [3, 7], [20, 3], [Shard::Inputs, Shard::Whole]),
    ] {
        let at = |matrix| row(&format!("model.layers.1.{target}.lora_{matrix}.weight"));
        let (a, b) = (at("A"), at("B"));
        assert_eq!((&a.shape[..], &b.shape[..]), (&shape_a[..], &shape_b[..]), "{target}");
        assert_eq!([a.shard, b.shard], shards, "{target}");
        assert_eq!(b.init, Init::Zeros, "{target}");
        assert!(a.slot.is_trained() && b.slot.is_trained(), "{target}");
    }
    let up = slots.blocks[1].gate_up.adapters[0];
    assert_eq!((up.first, up.O, up.r), (7, 7, 3), "up's outputs follow gate's");
    assert_eq!(slots.blocks[1].qkv.adapters.len(), 1);
    assert_eq!(slots.blocks[1].wo.adapters.len(), 0);

    // Everything else is frozen, in the order of the arenas behind all adapters.
    let trained = table.trained();
    assert_eq!(trained.rows().len(), 2 * 3 * 2);
    assert!(trained.rows().iter().all(|row| row.name.contains(".lora_")));
    let frozen: Vec<_> = table.rows().iter().filter(|row| !row.slot.is_trained()).collect();
    assert!(frozen.iter().all(|row| row.slot.range().start >= trained.len()));
    assert!(frozen.iter().map(|row| &row.name).eq(own.rows().iter().map(|row| &row.name)));

    // A base that is trained too lies where it lies without adapters, as far as it comes first.
    let both = Lora { frozen: false, ..lora.lora.unwrap() };
    let (both, _) = model::table(&Config { lora: Some(both), ..config(false) });
    assert_eq!(both.trained().len(), both.len());
    assert_eq!(both.parameters(), table.parameters());
}

#[test]
fn every_row_says_how_ranks_share_it() {
    let (table, slots) = table(&config(false));
    for row in table.rows() {
        let want = match row.name.as_str() {
            name if name.contains("norm") => Shard::Whole,
            name if name.contains("o_proj") || name.contains("down") => Shard::Inputs,
            _ => Shard::Outputs,
        };
        assert_eq!(row.shard, want, "{}", row.name);
        assert!(row.slot.is_trained(), "{}", row.name);
    }
    assert_eq!(slots.head.split, Shard::Outputs);
}
