//! Sizes that kernels and their launches share.

/// RMSNorm.
pub mod rmsnorm {
    /// Widest rows whose gradients of gains a block sums in shared memory: 96 KiB of 99.
    pub const IN_SHARED: u32 = 24 << 10;
}

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

/// Products of a few rows.
pub mod skinny {
    /// Most rows of x: those of a matrix instruction.
    pub const ROWS: u32 = 16;
    /// Rows of W in a strip: columns of a matrix instruction.
    pub const STRIP: u32 = 8;
    /// Depth of a piece: 16 bytes of each of a row's four lanes.
    pub const DEPTH: u32 = 32;
    /// Bytes of a piece of eight rows.
    pub const PIECE: u32 = 8 * DEPTH * 2;
    /// Warps of a block, which divide K.
    pub const WARPS: u32 = 8;
    /// Threads of a block.
    pub const THREADS: u32 = 32 * WARPS;

    /// Pieces that a warp has under way, for blocks of 1, 2 or 4 strips: with eight warps 32 or 48
    /// KiB of W a block, and with 16 rows of x no more shared memory than a block has anywhere.
    pub const fn stages(strips: u32) -> u32 {
        match strips {
            1 => 8,
            2 => 6,
            _ => 3,
        }
    }

    /// Bytes of shared memory of a block, for M rows of x.
    pub const fn bytes(strips: u32, M: u32) -> u32 {
        let halves = if M > ROWS / 2 { 2 } else { 1 };
        WARPS * stages(strips) * (strips + halves) * PIECE
    }

    /// Floats from a strip's sums to the next one's in a warp's room: where rows of several strips
    /// are read side by side, they lie in different banks.
    pub const fn pitch(strips: u32) -> u32 {
        ROWS * STRIP + 32 / strips
    }

    /// Bytes of a warp's sums.
    pub const fn sums_bytes(strips: u32) -> u32 {
        strips * pitch(strips) * 4
    }
}

/// Attention.
pub mod attention {
    /// Decoding: warps of a block.
    pub const DECODE_WARPS: u32 = 16;

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

    /// [`D128`] where a block has 99 KiB of shared memory: fewer queries for dK and dV.
    pub const D128_SMALL: Tiles = Tiles { queries: 32, ..D128 };
    /// [`D256`] there: smaller tiles in all of backward.
    pub const D256_SMALL: Tiles = Tiles { backward_keys: 16, queries: 16, ..D256 };

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
