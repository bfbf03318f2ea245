//! What files take of the host's memory where the model is on a GPU: a few short parts, whatever its
//! size, when it is saved and exported and when it is read back.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use engine::{Cuda, Device, Dims, Element, bf16};
use handgrad::train::Trainer;
use handgrad::train::checkpoint;
use handgrad::train::trainer::Recipe;
use handgrad::{engine, model};
use model::Config;

use super::{LIVE, PEAK, alone};

/// Two files at a time, each in parts of 2^18 numbers of f32, and what is small.
const MOST: usize = (2 << 20) + (1 << 19);

/// The most bytes that `act` took beyond those that were live before.
fn peak_of(act: impl FnOnce()) -> usize {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    act();
    PEAK.load(Relaxed) - before
}

fn trainer<E: Element<Acc = f32>>() -> Trainer<E> {
    let dims = Dims { L: 1, C: 128, H: 4, G: 2, D: 32, F: 192, V: 16 << 10 };
    let config: Config = super::bench::config(dims, false);
    let dev = Device::Cuda(Cuda::emulated(80).unwrap());
    Trainer::new(&dev, &config, Recipe::new(1, 16))
}

fn check<E: Element<Acc = f32>>(dir: &Path) {
    let (mut first, mut second) = (trainer::<E>(), trainer::<E>());
    first.init(1).unwrap();
    let rows = first.model.table().rows();
    let largest = rows.iter().map(|row| 4 * row.slot.len()).max().unwrap();
    assert!(largest > 3 * MOST, "a part must be far from a tensor");
    let arena = 4 * first.model.table().len();
    let master =
        |trainer: &Trainer<E>| trainer.weights.master().view().read().unwrap().into_owned();
    assert!(peak_of(|| drop(master(&first))) >= arena, "the counter counts");

    let (root, out) = (dir.join("checkpoints"), dir.join("model"));
    let root = &root;
    let saving = peak_of(|| _ = first.save(root, &Default::default()).unwrap());
    let exporting = peak_of(|| first.export(&out, None).unwrap());
    let resuming = peak_of(|| {
        let found = checkpoint::latest(root).unwrap().require(root).unwrap();
        second.resume(&found).unwrap();
    });
    assert!(master(&first) == master(&second), "another model came back");
    let importing = peak_of(|| second.init_from(&out).unwrap());
    println!(
        "{}: {arena} bytes an arena, {largest} its largest tensor; host bytes: {saving} saving, \
         {exporting} exporting, {resuming} resuming, {importing} importing",
        E::NAME
    );
    for (what, bytes) in
        [("save", saving), ("export", exporting), ("resume", resuming), ("import", importing)]
    {
        assert!(bytes <= MOST, "{what}: {bytes} bytes, at most {MOST}");
    }
}

#[test]
fn a_gpu_is_saved_and_read_back_in_short_parts() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    check::<f32>(&dir.path().join("f32"));
    check::<bf16>(&dir.path().join("bf16"));
}
