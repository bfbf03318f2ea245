//! Sizes that kernels and their launches share.

/// Sums of squares.
pub mod norm {
    /// Elements that a block sums.
    pub const SPAN: usize = 1 << 16;
}

/// AdamW.
pub mod adamw {
    /// Elements that a block updates.
    pub const SPAN: usize = 1 << 12;
}

/// Matrix products.
pub mod gemm {
    /// Depth of a slice of a block's tile.
    pub const BK: u32 = 64;
    /// Slices in shared memory.
    pub const STAGES: u32 = 3;
    /// Rows and columns of a warp's tile.
    pub const WARP_TILE: u32 = 64;
    /// Rows of tiles in a band: see [`crate::math::tile_of`].
    pub const BAND: u32 = 8;
    /// Rows and columns of a block's tile in f32.
    pub const F32_TILE: u32 = 64;
    /// Depth of its slices.
    pub const F32_DEPTH: u32 = 16;
}

/// Attention.
pub mod attention {
    /// Tiles for heads up to a width.
    #[derive(Clone, Copy, Debug)]
    pub struct Tiles {
        /// Width in shared memory and registers.
        pub width: u32,
        /// Forward and dQ: groups of 16 queries a warp, of four warps.
        pub groups: u32,
        /// Forward: keys in a tile.
        pub forward_keys: u32,
        /// dQ: keys in a tile.
        pub backward_keys: u32,
        /// dK and dV: queries in a tile.
        pub queries: u32,
        /// dK and dV: warps, of 16 keys each.
        pub warps: u32,
    }

    /// Heads of 64.
    pub const D64: Tiles =
        Tiles { width: 64, groups: 2, forward_keys: 64, backward_keys: 32, queries: 64, warps: 8 };
    /// Heads of 128: as wide as registers allow.
    pub const D128: Tiles =
        Tiles { width: 128, groups: 2, forward_keys: 32, backward_keys: 32, queries: 48, warps: 8 };
    /// Other heads up to 256.
    pub const D256: Tiles =
        Tiles { width: 256, groups: 1, forward_keys: 32, backward_keys: 32, queries: 32, warps: 4 };

    impl Tiles {
        /// Queries of a block of forward and dQ.
        pub const fn rows(&self) -> u32 {
            64 * self.groups
        }
        /// Bytes of shared memory of forward: queries, keys, values.
        pub const fn forward_bytes(&self) -> u32 {
            (self.rows() + 2 * self.forward_keys) * self.width * 2
        }
        /// Of dQ: queries, dO, two tiles of keys and of values.
        pub const fn queries_bytes(&self) -> u32 {
            (2 * self.rows() + 4 * self.backward_keys) * self.width * 2
        }
        /// Of dK and dV: keys, values, two tiles of queries and of dO with two numbers a row.
        pub const fn keys_bytes(&self) -> u32 {
            (2 * 16 * self.warps + 4 * self.queries) * self.width * 2 + 2 * self.queries * 8
        }
    }
}
