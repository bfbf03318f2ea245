//! The dimension letters used throughout, and the sizes of one model instance.
//!
//! B batch, T time, N = B*T tokens, C width, H query heads, G key/value heads, D head width,
//! F hidden width of the feed-forward, V vocabulary, L layers. A tensor's name ends in its
//! dimensions: `x_NC` is N rows of C. A lower-case name without suffix is one row or a scalar.
//!
//! ```
//! let d = engine::Dims { L: 2, C: 64, H: 4, G: 2, D: 16, F: 176, V: 512 };
//! assert_eq!((d.qkv(), d.attn()), (128, 64));
//! ```

/// Sizes of one model, without batch and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// Layers.
    pub L: usize,
    /// Width of the residual stream.
    pub C: usize,
    /// Query heads.
    pub H: usize,
    /// Key/value heads; H is a multiple of G.
    pub G: usize,
    /// Head width, even.
    pub D: usize,
    /// Hidden width of the feed-forward.
    pub F: usize,
    /// Vocabulary.
    pub V: usize,
}

impl Dims {
    /// Columns of a row that holds query, key and value heads side by side: (H + 2G) * D.
    pub fn qkv(&self) -> usize {
        (self.H + 2 * self.G) * self.D
    }

    /// Columns of the attention output: H * D. Equal to C in the paper's models, not in general.
    pub fn attn(&self) -> usize {
        self.H * self.D
    }
}
