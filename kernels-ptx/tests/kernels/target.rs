use kernels_ptx::launch::Target;
use ptx_emu::Card;

/// What launches assume of a compute capability is what is emulated.
#[test]
fn targets_are_the_emulators_cards() {
    for card in Card::ALL {
        let target = Target::of(card.capability);
        assert_eq!(target.multiprocessors, card.multiprocessors, "{}", card.name);
        assert_eq!(target.shared_bytes as usize, card.block_shared_bytes, "{}", card.name);
    }
}
