//! Every parameter of a LLaMA, once: names and shapes are Hugging Face's, so importing and
//! exporting is copying. Query, key and value lie side by side and form one matrix for one
//! product; so do gate and up.

use crate::config::Config;
use crate::lora::{Lora, Target};
use crate::projection::{Adapter, Projection, Split};
use engine::{Dims, Init, Slot, Table};

/// Standard deviation of every matrix at the start; what a block adds to the residual stream
/// starts smaller by 1/sqrt(2L), so that the stream's variance does not grow with depth.
pub const INIT_STD: f32 = 0.02;

/// Name of the embedding, `[V, C]`.
pub(crate) const EMBED: &str = "model.embed_tokens.weight";
/// Name of an untied head, `[V, C]`.
pub(crate) const HEAD: &str = "lm_head.weight";

/// Where the parameters of one block lie.
#[derive(Clone, Debug, PartialEq)]
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
#[derive(Clone, Debug, PartialEq)]
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
    let blocks = (0..L).map(|layer| push_block(&mut table, config, layer)).collect();
    let norm = table.push("model.norm.weight", &[C], Init::Ones);
    let weight = match config.tied {
        true => embed,
        false => table.push(HEAD, &[V, C], Init::Normal(INIT_STD)),
    };
    let head =
        Projection { name: "head", weight, I: C, O: V, split: Split::Outputs, adapters: vec![] };
    (table, Slots { embed, blocks, norm, head })
}

/// Elements of all parameters; a tied head counts once.
pub fn count(config: &Config) -> u64 {
    table(config).0.parameters() as u64
}

fn push_block(table: &mut Table, config: &Config, layer: usize) -> BlockSlots {
    let Dims { L, C, H, G, D, F, .. } = config.dims;
    let matrix = Init::Normal(INIT_STD);
    let residual = Init::Normal(INIT_STD / (2.0 * L as f32).sqrt());
    let mut list = List { table, lora: config.lora.as_ref(), layer };
    let qkv = [(Target::Query, H * D), (Target::Key, G * D), (Target::Value, G * D)];
    let gate_up = [(Target::Gate, F), (Target::Up, F)];
    BlockSlots {
        norm1: list.gain("input_layernorm", C),
        qkv: list.projection("qkv", &qkv, C, Split::Outputs, matrix),
        wo: list.projection("output", &[(Target::Output, C)], H * D, Split::Inputs, residual),
        norm2: list.gain("post_attention_layernorm", C),
        gate_up: list.projection("gate and up", &gate_up, C, Split::Outputs, matrix),
        down: list.projection("down", &[(Target::Down, C)], F, Split::Inputs, residual),
    }
}

/// Adds the parameters of a block to a table, one after the other.
struct List<'a> {
    table: &'a mut Table,
    lora: Option<&'a Lora>,
    layer: usize,
}

impl List<'_> {
    fn name(&self, part: &str) -> String {
        format!("model.layers.{}.{part}.weight", self.layer)
    }

    fn gain(&mut self, part: &str, C: usize) -> Slot {
        self.table.push(self.name(part), &[C], Init::Ones)
    }

    /// A linear layer whose weight is one matrix or several, given with the outputs of each, and an
    /// adapter for each that has one.
    fn projection(
        &mut self,
        name: &'static str,
        parts: &[(Target, usize)],
        I: usize,
        split: Split,
        init: Init,
    ) -> Projection {
        let slots: Vec<Slot> = parts
            .iter()
            .enumerate()
            .map(|(i, (target, O))| {
                let (name, shape) = (self.name(target.path()), [*O, I]);
                match i {
                    0 => self.table.push(name, &shape, init),
                    _ => self.table.push_adjacent(name, &shape, init),
                }
            })
            .collect();
        let weight = slots.iter().copied().reduce(Slot::join).expect("a projection has a matrix");
        let (mut adapters, mut first) = (vec![], 0);
        for ((target, O), base) in parts.iter().zip(slots) {
            if let Some(lora) = self.lora.filter(|lora| lora.targets.contains(target)) {
                adapters.push(self.adapter(lora, *target, base, first, I, *O));
            }
            first += O;
        }
        Projection { name, weight, I, O: first, split, adapters }
    }

    fn adapter(
        &mut self,
        lora: &Lora,
        target: Target,
        base: Slot,
        first: usize,
        I: usize,
        O: usize,
    ) -> Adapter {
        let (r, scale) = (lora.rank, lora.scale());
        let [name_a, name_b] =
            ["A", "B"].map(|m| self.name(&format!("{}.lora_{m}", target.path())));
        let a = self.table.push(name_a, &[r, I], Init::Normal(Lora::init_std(I)));
        let b = self.table.push(name_b, &[O, r], Init::Zeros);
        Adapter { base, a, b, r, first, O, scale }
    }
}
