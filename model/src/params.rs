//! Every parameter of a LLaMA, once: names and shapes are Hugging Face's, so importing and
//! exporting is copying. Query, key and value lie side by side and form one matrix for one
//! product; so do gate and up.

use crate::config::Config;
use crate::projection::{Projection, Split};
use engine::{Dims, Init, Slot, Table};

/// Standard deviation of every matrix at the start; what a block adds to the residual stream
/// starts smaller by 1/sqrt(2L), so that the stream's variance does not grow with depth.
pub const INIT_STD: f32 = 0.02;

/// Name of the embedding, `[V, C]`.
pub(crate) const EMBED: &str = "model.embed_tokens.weight";
/// Name of an untied head, `[V, C]`.
pub(crate) const HEAD: &str = "lm_head.weight";

/// Where the parameters of one block lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockSlots {
    /// Gain before attention, `[C]`.
    pub norm1: Slot,
    /// Query, key and value, `[(H + 2G) * D, C]`.
    pub qkv: Projection,
    /// Output of attention, `[C, H * D]`.
    pub wo: Projection,
    /// Gain before the feed-forward, `[C]`.
    pub norm2: Slot,
    /// Gate, then up, `[2F, C]`.
    pub gate_up: Projection,
    /// Output of the feed-forward, `[C, F]`.
    pub down: Projection,
}

impl BlockSlots {
    /// Every linear layer of the block, in the order of forward.
    pub fn projections(&self) -> [&Projection; 4] {
        [&self.qkv, &self.wo, &self.gate_up, &self.down]
    }
}

/// Where the parameters of a model lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots {
    /// Embedding, `[V, C]`.
    pub embed: Slot,
    /// The blocks, first layer first.
    pub blocks: Vec<BlockSlots>,
    /// Gain before the head, `[C]`.
    pub norm: Slot,
    /// Head, `[V, C]`; its weight is the embedding itself if tied.
    pub head: Projection,
}

/// The parameters of `config` and where they lie. Sizes must be valid, see [`Config::validate`].
pub fn table(config: &Config) -> (Table, Slots) {
    let Dims { L, C, V, .. } = config.dims;
    let mut table = Table::default();
    let embed = table.push(EMBED, &[V, C], Init::Normal(INIT_STD));
    let blocks = (0..L).map(|layer| push_block(&mut table, &config.dims, layer)).collect();
    let norm = table.push("model.norm.weight", &[C], Init::Ones);
    let weight = match config.tied {
        true => embed,
        false => table.push(HEAD, &[V, C], Init::Normal(INIT_STD)),
    };
    let head = Projection { name: "head", weight, I: C, O: V, split: Split::Outputs };
    (table, Slots { embed, blocks, norm, head })
}

/// Elements of all parameters; a tied head counts once.
pub fn count(config: &Config) -> u64 {
    table(config).0.parameters() as u64
}

fn push_block(table: &mut Table, dims: &Dims, layer: usize) -> BlockSlots {
    let Dims { L, C, H, G, D, F, .. } = *dims;
    let matrix = Init::Normal(INIT_STD);
    let residual = Init::Normal(INIT_STD / (2.0 * L as f32).sqrt());
    let name = |part: &str| format!("model.layers.{layer}.{part}.weight");

    let norm1 = table.push(name("input_layernorm"), &[C], Init::Ones);
    let q = table.push(name("self_attn.q_proj"), &[H * D, C], matrix);
    let k = table.push_adjacent(name("self_attn.k_proj"), &[G * D, C], matrix);
    let v = table.push_adjacent(name("self_attn.v_proj"), &[G * D, C], matrix);
    let o = table.push(name("self_attn.o_proj"), &[C, H * D], residual);
    let norm2 = table.push(name("post_attention_layernorm"), &[C], Init::Ones);
    let gate = table.push(name("mlp.gate_proj"), &[F, C], matrix);
    let up = table.push_adjacent(name("mlp.up_proj"), &[F, C], matrix);
    let down = table.push(name("mlp.down_proj"), &[C, F], residual);

    let projection = |name, weight: Slot, I, split| {
        let O = weight.len() / I;
        Projection { name, weight, I, O, split }
    };
    BlockSlots {
        norm1,
        qkv: projection("qkv", q.join(k).join(v), C, Split::Outputs),
        wo: projection("output", o, H * D, Split::Inputs),
        norm2,
        gate_up: projection("gate and up", gate.join(up), C, Split::Outputs),
        down: projection("down", down, F, Split::Inputs),
    }
}
