//! Tiles of heads of brain floats, as wide as registers and shared memory allow.

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
    /// Keys of a block of dK and dV.
    pub const fn keys(&self) -> u32 {
        16 * self.warps
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
        (2 * self.keys() + 4 * self.queries) * self.width * 2 + 2 * self.queries * 8
    }
}
