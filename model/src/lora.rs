//! Low-rank adapters: y = x W^T + s (x A^T) B^T beside chosen matrices, A random and B zero at the
//! start, so that a model begins as it was.
//! Source: Hu et al. 2021, arXiv:2106.09685; the scale of `rslora`: Kalajdzievski 2023,
//! arXiv:2312.03732.
//!
//! ```
//! use model::{Config, Lora, Target, table};
//!
//! let lora = Lora { targets: Target::ALL.to_vec(), ..Lora::new(8) };
//! let config = Config::stories_260k().with_lora(lora);
//! let (table, slots) = table(&config);
//! assert_eq!(slots.blocks[0].qkv.adapters.len(), 3);
//! assert!(4 * table.trained().parameters() < table.parameters() * 2);
//! ```

use engine::Error;

/// A matrix of a block, as Hugging Face names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// `self_attn.q_proj`.
    Query,
    /// `self_attn.k_proj`.
    Key,
    /// `self_attn.v_proj`.
    Value,
    /// `self_attn.o_proj`.
    Output,
    /// `mlp.gate_proj`.
    Gate,
    /// `mlp.up_proj`.
    Up,
    /// `mlp.down_proj`.
    Down,
}

impl Target {
    /// Every matrix of a block.
    pub const ALL: [Target; 7] = [
        Target::Query,
        Target::Key,
        Target::Value,
        Target::Output,
        Target::Gate,
        Target::Up,
        Target::Down,
    ];

    /// Where it stands in a block, in Hugging Face's names.
    pub fn path(self) -> &'static str {
        match self {
            Target::Query => "self_attn.q_proj",
            Target::Key => "self_attn.k_proj",
            Target::Value => "self_attn.v_proj",
            Target::Output => "self_attn.o_proj",
            Target::Gate => "mlp.gate_proj",
            Target::Up => "mlp.up_proj",
            Target::Down => "mlp.down_proj",
        }
    }
}

/// Which matrices of every block have an adapter, and of what kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Lora {
    /// r: rows of A, columns of B.
    pub rank: usize,
    /// Numerator of the scale.
    pub alpha: f64,
    /// Whether the scale is alpha / sqrt(r), which suits large ranks, and not alpha / r.
    pub rslora: bool,
    /// The matrices.
    pub targets: Vec<Target>,
    /// Whether everything but the adapters stays as it is.
    pub frozen: bool,
}

impl Lora {
    /// The paper's: adapters of rank `r` and alpha 2r beside query and value of a frozen model.
    pub fn new(rank: usize) -> Lora {
        let targets = vec![Target::Query, Target::Value];
        Lora { rank, alpha: 2.0 * rank as f64, rslora: false, targets, frozen: true }
    }

    /// s.
    pub fn scale(&self) -> f64 {
        let r = self.rank as f64;
        self.alpha / if self.rslora { r.sqrt() } else { r }
    }

    /// Standard deviation of A at the start, for `I` inputs. The paper draws A from a normal
    /// distribution of no stated width; PEFT draws it uniformly between -1/sqrt(I) and 1/sqrt(I). Ours
    /// is normal with that variance, so that learning rates found with PEFT carry over.
    pub fn init_std(I: usize) -> f32 {
        (3.0 * I as f32).sqrt().recip()
    }

    /// Checks every value.
    ///
    /// # Errors
    /// One line for the first unusable value: what it is and what is allowed.
    pub fn validate(&self) -> Result<(), Error> {
        const MOST: usize = 1 << 12;
        let bad = |what: String| Err(Error::Config(format!("LoRA: {what}")));
        if !(1..=MOST).contains(&self.rank) {
            return bad(format!("rank = {}: allowed is 1 to {MOST}", self.rank));
        }
        if !(self.alpha > 0.0 && self.alpha.is_finite()) {
            return bad(format!("alpha = {}: must be a positive number", self.alpha));
        }
        if self.targets.is_empty() {
            return bad("no targets: name at least one matrix, such as q_proj".into());
        }
        match self.targets.iter().enumerate().find(|(i, t)| self.targets[..*i].contains(t)) {
            Some((_, twice)) => bad(format!("target {} is given twice", twice.path())),
            None => Ok(()),
        }
    }
}
