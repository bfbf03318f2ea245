//! Counter-based random numbers: the n-th number is a function of (seed, stream, index, n), so
//! nothing has to be stored to continue, and any part of a stream can be had without the rest.
//!
//! Philox4x32-10: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3",
//! SC 2011. The mixer is the finaliser of SplitMix64: Steele, Lea and Flood, OOPSLA 2014, in
//! Stafford's variant 13.

use std::convert::Infallible;

use rand_core::utils::{fill_bytes_via_next_word, next_u64_via_u32};
use rand_core::{Rng, TryRng};

/// Ten rounds of Philox4x32 on one counter block under one key.
pub fn philox4x32(key: [u32; 2], counter: [u32; 4]) -> [u32; 4] {
    let [mut k0, mut k1] = key;
    let [mut x0, mut x1, mut x2, mut x3] = counter;
    for round in 0..10 {
        if round > 0 {
            k0 = k0.wrapping_add(0x9E37_79B9);
            k1 = k1.wrapping_add(0xBB67_AE85);
        }
        let p0 = u64::from(x0) * 0xD251_1F53;
        let p1 = u64::from(x2) * 0xCD9E_8D57;
        (x0, x1, x2, x3) =
            ((p1 >> 32) as u32 ^ x1 ^ k0, p1 as u32, (p0 >> 32) as u32 ^ x3 ^ k1, p0 as u32);
    }
    [x0, x1, x2, x3]
}

/// A bijection of 64-bit words in which every output bit depends on every input bit.
pub fn mix64(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// One sequence of random numbers, fixed by (seed, stream, index): 2^34 words of 32 bits before it
/// repeats. It is a [`Rng`] as those of `rand` are, whose distributions draw from it; 64 bits are two
/// words, the lower first.
///
/// ```
/// use rand_core::Rng;
///
/// let mut first = data::rng::Philox::new(1, 2, 3);
/// let low = first.clone().next_u32();
/// assert_eq!(first.next_u64() as u32, low);
/// ```
#[derive(Clone, Debug)]
pub struct Philox {
    key: [u32; 2],
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

impl Philox {
    /// The sequence of `index` in `stream` under `seed`. A stream separates purposes (one per
    /// purpose, so that they never share numbers), an index separates items of one purpose.
    pub fn new(seed: u64, stream: u32, index: u64) -> Philox {
        Philox {
            key: [seed as u32, (seed >> 32) as u32],
            counter: [0, stream, index as u32, (index >> 32) as u32],
            block: [0; 4],
            used: 4,
        }
    }

    /// A number in `0..n`. The bias is at most n / 2^64.
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "rng: below(0)");
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// One of `items`, each as likely as the other.
    ///
    /// # Panics
    /// If there are none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}

impl TryRng for Philox {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        if self.used == 4 {
            self.block = philox4x32(self.key, self.counter);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        Ok(self.block[self.used - 1])
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        next_u64_via_u32(self)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        fill_bytes_via_next_word(bytes, || self.try_next_u32())
    }
}
