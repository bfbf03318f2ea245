use data::rng::{Philox, mix64, philox4x32};
use rand::{Rng, RngExt};

/// The known answers that come with Random123, the authors' own code.
#[test]
fn philox_known_answers() {
    let all = u32::MAX;
    assert_eq!(philox4x32([0; 2], [0; 4]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
    assert_eq!(philox4x32([all; 2], [all; 4]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
    assert_eq!(
        philox4x32([0xa4093822, 0x299f31d0], [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344]),
        [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]
    );
}

/// SplitMix64 from state 0: the first outputs of its reference code.
#[test]
fn mix64_known_answers() {
    let gamma = 0x9E37_79B9_7F4A_7C15_u64;
    let outputs: Vec<u64> = (1..=3).map(|i| mix64(gamma.wrapping_mul(i))).collect();
    assert_eq!(outputs, [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]);
}

#[test]
fn sequences_differ_by_seed_stream_and_index() {
    let first = |seed, stream, index| Philox::new(seed, stream, index).next_u64();
    let base = first(1, 2, 3);
    assert_eq!(base, first(1, 2, 3));
    for other in [first(2, 2, 3), first(1 << 32 | 1, 2, 3), first(1, 3, 3), first(1, 2, 4)] {
        assert_ne!(base, other);
    }
    assert_ne!(base, first(1, 2, 1 << 32 | 3));
}

#[test]
fn below_covers_its_range_evenly() {
    let mut rng = Philox::new(7, 0, 0);
    let mut counts = [0u32; 7];
    for _ in 0..70_000 {
        counts[rng.below(7) as usize] += 1;
    }
    // 10000 expected each, standard deviation 93.
    assert!(counts.iter().all(|c| (9500..10500).contains(c)), "{counts:?}");
}

/// Words come in the order of the blocks, whatever they are drawn as, and `rand`'s numbers in [0, 1) are
/// those that samples have always been drawn by.
#[test]
fn it_is_a_generator_as_those_of_rand_are() {
    let key = [0x89ab_cdef, 0x0123_4567];
    let words: Vec<u32> = (0..3).flat_map(|n| philox4x32(key, [n, 5, 9, 2])).collect();
    let rng = || Philox::new(0x0123_4567_89ab_cdef, 5, 2 << 32 | 9);
    let mut one = rng();
    assert!(words.iter().all(|&word| one.next_u32() == word));
    let mut two = rng();
    for pair in words.as_chunks::<2>().0 {
        assert_eq!(two.next_u64(), u64::from(pair[0]) | u64::from(pair[1]) << 32);
    }
    let (mut bytes, mut all) = (rng(), [0; 48]);
    bytes.fill_bytes(&mut all);
    assert_eq!(all.to_vec(), words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>());
    let (mut uniform, mut bits) = (rng(), rng());
    for _ in 0..10_000 {
        let expected = (bits.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        assert_eq!(uniform.random::<f64>().to_bits(), expected.to_bits());
    }
}
