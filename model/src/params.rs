//! Every parameter of a LLaMA, once: names and shapes are Hugging Face's, so importing and
//! exporting is copying. Query, key and value lie side by side and form one matrix for one
//! product; so do gate and up.
//!
//! ```
//! use model::{Config, params, table};
//!
//! let config = Config::stories_260k();
//! let (table, _) = table(&config);
//! assert_eq!(table.rows()[0].name, "model.embed_tokens.weight");
//! assert_eq!(params::count(&config), table.parameters() as u64);
//! ```

use crate::config::{Bias, Config};
use crate::lora::{Lora, Target};
use crate::projection::{Adapter, Projection};
use engine::{Dims, Init, Parameter, Shard, Slot, Table};

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
    Table::list(|table| list(config, table))
}

fn list(config: &Config, table: &mut Table) -> Slots {
    let Dims { L, C, V, .. } = config.dims;
    let lora = config.lora.as_ref();
    let trained = lora.is_none_or(|lora| !lora.frozen);
    let mut list = List { table, lora, bias: config.bias, layer: 0, trained };
    let matrix = Init::Normal(INIT_STD);
    // Ranks share the vocabulary.
    let embed = list.add(EMBED, &[V, C], matrix, Shard::Outputs);
    let blocks = (0..L).map(|layer| list.block(&config.dims, layer)).collect();
    let norm = list.add("model.norm.weight", &[C], Init::Ones, Shard::Whole);
    let weight = match config.tied {
        true => embed,
        false => list.add(HEAD, &[V, C], matrix, Shard::Outputs),
    };
    let (name, split, bias, adapters) = ("head", Shard::Outputs, None, vec![]);
    let head = Projection { name, weight, I: C, O: V, split, bias, adapters };
    Slots { embed, blocks, norm, head }
}

/// Elements of all parameters; a tied head counts once.
pub fn count(config: &Config) -> u64 {
    table(config).0.parameters() as u64
}

/// Whether a parameter belongs to an adapter, and not to the model itself.
#[cfg(feature = "hf")]
pub(crate) fn is_adapter(name: &str) -> bool {
    name.contains(".lora_")
}

/// Adds parameters to a table, one after the other.
struct List<'a> {
    table: &'a mut Table,
    lora: Option<&'a Lora>,
    bias: Bias,
    layer: usize,
    /// Whether the model's own parameters are.
    trained: bool,
}

impl List<'_> {
    fn add(&mut self, name: &str, shape: &[usize], init: Init, shard: Shard) -> Slot {
        let (name, trained) = (name.to_string(), self.trained);
        self.table.add(Parameter { name, shape, init, shard, trained })
    }

    fn block(&mut self, dims: &Dims, layer: usize) -> BlockSlots {
        let Dims { L, C, H, G, D, F, .. } = *dims;
        self.layer = layer;
        let matrix = Init::Normal(INIT_STD);
        let residual = Init::Normal(INIT_STD / (2.0 * L as f32).sqrt());
        let qkv = [(Target::Query, H * D), (Target::Key, G * D), (Target::Value, G * D)];
        let gate_up = [(Target::Gate, F), (Target::Up, F)];
        let (inputs, outputs) = (Shard::Inputs, Shard::Outputs);
        BlockSlots {
            norm1: self.gain("input_layernorm", C),
            qkv: self.projection("qkv", &qkv, C, outputs, matrix),
            wo: self.projection("output", &[(Target::Output, C)], H * D, inputs, residual),
            norm2: self.gain("post_attention_layernorm", C),
            gate_up: self.projection("gate and up", &gate_up, C, outputs, matrix),
            down: self.projection("down", &[(Target::Down, C)], F, inputs, residual),
        }
    }

    fn name(&self, part: &str) -> String {
        format!("model.layers.{}.{part}.weight", self.layer)
    }

    fn gain(&mut self, part: &str, C: usize) -> Slot {
        self.add(&self.name(part), &[C], Init::Ones, Shard::Whole)
    }

    /// A linear layer whose weight is one matrix or several, given with the outputs of each, and an
    /// adapter for each that has one.
    fn projection(
        &mut self,
        name: &'static str,
        parts: &[(Target, usize)],
        I: usize,
        split: Shard,
        init: Init,
    ) -> Projection {
        let mut weight: Option<Slot> = None;
        let slots = parts.iter().map(|&(target, O)| {
            let (name, shape) = (self.name(target.path()), &[O, I]);
            let matrix = Parameter { name, shape, init, shard: split, trained: self.trained };
            let slot = match weight {
                None => self.table.add(matrix),
                Some(_) => self.table.add_adjacent(matrix),
            };
            weight = Some(weight.map_or(slot, |before| before.join(slot)));
            slot
        });
        let slots: Vec<Slot> = slots.collect();
        let weight = weight.expect("a projection has a matrix");
        let bias = self.biases(parts, split);
        let (mut adapters, mut first) = (vec![], 0);
        for (&(target, O), base) in parts.iter().zip(slots) {
            if let Some(lora) = self.lora.filter(|lora| lora.targets.contains(&target)) {
                adapters.push(self.adapter(lora, target, base, first, [I, O], split));
            }
            first += O;
        }
        Projection { name, weight, I, O: first, split, bias, adapters }
    }

    /// The biases of a linear layer, which lie side by side as its matrices do. Where ranks share
    /// inputs, their sum gets it, so each has all of it.
    fn biases(&mut self, parts: &[(Target, usize)], split: Shard) -> Option<Slot> {
        let has = |target| match target {
            Target::Query | Target::Key | Target::Value => self.bias != Bias::None,
            Target::Output => self.bias == Bias::Attention,
            Target::Gate | Target::Up | Target::Down => false,
        };
        let shard = if split == Shard::Outputs { split } else { Shard::Whole };
        let mut bias: Option<Slot> = None;
        for &(target, O) in parts.iter().filter(|(target, _)| has(*target)) {
            let name = format!("model.layers.{}.{}.bias", self.layer, target.path());
            let (shape, init, trained) = (&[O], Init::Zeros, self.trained);
            let row = Parameter { name, shape, init, shard, trained };
            bias = Some(match bias {
                None => self.table.add(row),
                Some(before) => before.join(self.table.add_adjacent(row)),
            });
        }
        bias
    }

    /// A is split with the inputs, B with the outputs.
    fn adapter(
        &mut self,
        lora: &Lora,
        target: Target,
        base: Slot,
        first: usize,
        [I, O]: [usize; 2],
        split: Shard,
    ) -> Adapter {
        let (r, scale) = (lora.rank, lora.scale());
        let mut add = |matrix: &str, shape: &[usize], init, of: Shard| {
            let name = self.name(&format!("{}.lora_{matrix}", target.path()));
            let shard = if split == of { split } else { Shard::Whole };
            self.table.add(Parameter { name, shape, init, shard, trained: true })
        };
        let a = add("A", &[r, I], Init::Normal(Lora::init_std(I)), Shard::Inputs);
        let b = add("B", &[O, r], Init::Zeros, Shard::Outputs);
        Adapter { base, a, b, r, first, O, scale }
    }
}
