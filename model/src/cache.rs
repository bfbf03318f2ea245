//! What forward leaves for backward, and the buffers that layers share.
//!
//! Per token and layer the cache holds x, q, k, v, the attention output with its log-sum-exp, the
//! residual after attention, gate and up, and one inverse rms for each of the two norms. Nothing
//! else: norms, RoPE and SwiGLU products are rebuilt. [`Mode::Full`] holds x alone and rebuilds
//! the rest of one block at a time.
//!
//! ```
//! use engine::{Device, bf16};
//! use model::Config;
//! use model::cache::{Cache, Mode};
//!
//! let (dev, config) = (Device::cpu(1).unwrap(), Config::stories_260k());
//! let bytes = |mode| Cache::<bf16>::new(&dev, &config.dims, 64, mode).bytes();
//! assert!(2 * bytes(Mode::Full) < bytes(Mode::Linear));
//! ```

use crate::config::Config;
use crate::projection::Low;
use engine::ops::loss::Logits;
use engine::{Buf, Device, Dims, Element, Real};

/// What is kept between forward and backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "hf", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "hf", serde(rename_all = "lowercase"))]
pub enum Mode {
    /// The outputs of linear layers: no matrix product is computed twice.
    Linear,
    /// Only each block's input: every block is computed again in backward.
    Full,
}

impl Mode {
    /// Which of a cache's blocks serves `layer`.
    pub(crate) fn kept(self, layer: usize) -> usize {
        match self {
            Mode::Linear => layer,
            Mode::Full => 0,
        }
    }

    /// How many blocks a cache of `L` layers has.
    fn blocks(self, L: usize) -> usize {
        self.kept(L - 1) + 1
    }
}

/// What plans call that which blocks keep for backward, and that which they use in turn, with the
/// output of the last.
const KEPT: &str = "activations, kept for backward";
const SHARED: &str = "activations, shared by layers";

/// Backward's memory of one block, N tokens at most.
pub struct BlockCache<E: Element> {
    pub(crate) r1_N: Buf<E::Acc>,
    pub(crate) qkv: Buf<E>,
    pub(crate) o: Buf<E>,
    pub(crate) lse_NH: Buf<E::Acc>,
    pub(crate) mid_NC: Buf<E>,
    pub(crate) r2_N: Buf<E::Acc>,
    pub(crate) gate_up: Buf<E>,
}

impl<E: Element> BlockCache<E> {
    /// Room for `N` tokens.
    pub(crate) fn new(dev: &Device, d: &Dims, N: usize) -> Self {
        BlockCache {
            r1_N: Buf::zeros(dev, N),
            qkv: Buf::zeros(dev, N * d.qkv()),
            o: Buf::zeros(dev, N * d.attn()),
            lse_NH: Buf::zeros(dev, N * d.H),
            mid_NC: Buf::zeros(dev, N * d.C),
            r2_N: Buf::zeros(dev, N),
            gate_up: Buf::zeros(dev, N * 2 * d.F),
        }
    }
}

/// Backward's memory of the whole model.
pub struct Cache<E: Element> {
    /// Input of each block, and the output of the last.
    pub(crate) x_NC: Vec<Buf<E>>,
    /// One for each block, or one for all.
    pub(crate) blocks: Vec<BlockCache<E>>,
    pub(crate) mode: Mode,
    pub(crate) N: usize,
}

impl<E: Element> Cache<E> {
    /// Room for `N` tokens.
    pub fn new(dev: &Device, d: &Dims, N: usize, mode: Mode) -> Self {
        let [kept, shared] = [KEPT, SHARED].map(|category| dev.under(category));
        let input = |layer| Buf::zeros(if layer < d.L { &kept } else { &shared }, N * d.C);
        Cache {
            x_NC: (0..=d.L).map(input).collect(),
            blocks: (0..mode.blocks(d.L)).map(|_| BlockCache::new(&kept, d, N)).collect(),
            mode,
            N,
        }
    }

    /// Bytes that it holds: what blocks keep for backward, and the output of the last.
    pub fn bytes(&self) -> u64 {
        let of_block = |c: &BlockCache<E>| {
            let stored = [&c.qkv, &c.o, &c.mid_NC, &c.gate_up].map(Buf::bytes);
            let sums = [&c.r1_N, &c.lse_NH, &c.r2_N].map(Buf::bytes);
            stored.iter().chain(&sums).sum::<u64>()
        };
        let inputs: u64 = self.x_NC.iter().map(Buf::bytes).sum();
        inputs + self.blocks.iter().map(of_block).sum::<u64>()
    }

    /// Tokens that it has room for; a batch may have fewer.
    pub fn tokens(&self) -> usize {
        self.N
    }
}

/// Buffers that every layer uses in turn. One buffer has one meaning.
pub struct Scratch<E: Element> {
    /// A norm's output.
    pub(crate) norm_NC: Buf<E>,
    /// Inverse rms of the last norm.
    pub(crate) r_N: Buf<E::Acc>,
    /// SwiGLU's product.
    pub(crate) act_NF: Buf<E>,
    /// What adapters need.
    pub(crate) low: Low<E>,
    /// A chunk of logits, then their gradient.
    pub(crate) logits: Logits<E>,
    /// Nats of each row's target.
    pub(crate) nats_N: Buf<E::Acc>,
    /// Id of each row's largest logit, where it is asked for.
    pub(crate) largest_N: Buf<i32>,
    /// Gradients, empty where only forward runs.
    pub(crate) grads: ScratchGrads<E>,
}

/// Gradients of activations.
pub(crate) struct ScratchGrads<E> {
    /// Of the residual stream; every block adds to it.
    pub dx_NC: Buf<E>,
    pub dnorm_NC: Buf<E>,
    pub dact_NF: Buf<E>,
    pub dqkv: Buf<E>,
    pub d_o: Buf<E>,
}

impl<E: Element> Scratch<E> {
    /// Room for forward and backward over `N` tokens.
    pub fn new(dev: &Device, config: &Config, N: usize) -> Self {
        Self::with_grads(&dev.under(SHARED), config, N, N, N)
    }

    /// Room for forward over `N` tokens.
    pub fn forward_only(dev: &Device, config: &Config, N: usize) -> Self {
        Self::with_grads(&dev.under(SHARED), config, N, 0, N)
    }

    /// Room for the blocks' forward over `N` tokens, and for no loss.
    pub(crate) fn decoding(dev: &Device, config: &Config, N: usize) -> Self {
        Self::with_grads(dev, config, N, 0, 0)
    }

    fn with_grads(dev: &Device, config: &Config, N: usize, G: usize, losses: usize) -> Self {
        let d = &config.dims;
        Scratch {
            norm_NC: Buf::zeros(dev, N * d.C),
            r_N: Buf::zeros(dev, N),
            act_NF: Buf::zeros(dev, N * d.F),
            low: Low::new(dev, config, N, G),
            logits: Logits::new(dev, losses, d.V),
            nats_N: Buf::zeros(dev, losses),
            largest_N: Buf::zeros(dev, losses),
            grads: ScratchGrads {
                dx_NC: Buf::zeros(dev, G * d.C),
                dnorm_NC: Buf::zeros(dev, G * d.C),
                dact_NF: Buf::zeros(dev, G * d.F),
                dqkv: Buf::zeros(dev, G * d.qkv()),
                d_o: Buf::zeros(dev, G * d.attn()),
            },
        }
    }

    /// In debug builds fills everything with NaN, so that a read before a write shows.
    pub(crate) fn poison(&mut self) {
        if cfg!(debug_assertions) {
            let nan = E::Acc::from_f64(f64::NAN);
            let [t, u] = self.low.bufs_mut();
            for buf in [&mut self.norm_NC, &mut self.act_NF, t, u] {
                buf.view_mut().fill(E::from_acc(nan));
            }
            self.logits.poison();
            self.nats_N.view_mut().fill(nan);
            let g = &mut self.grads;
            for buf in [&mut g.dnorm_NC, &mut g.dact_NF, &mut g.dqkv, &mut g.d_o] {
                buf.view_mut().fill(E::from_acc(nan));
            }
        }
    }
}
