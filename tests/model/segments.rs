//! Sequences beside each other: documents packed into one batch, and prompts decoded together, give
//! what each gives alone.

use crate::bench::{Bench, GQA, MHA, config, cpu};
use crate::gpus::gpus;
use engine::ops::loss::{IGNORE, Loss};
use engine::{Buf, Device, Dims, Element, Isa, Real, Segments, bf16};
use model::cache::Mode;
use model::generation::{Decoder, ROWS};
use model::llama::Batch;
use train::trainer::Trainer;

/// Three documents, of which one is cut into tasks where it has the CPU to itself.
const LENGTHS: [usize; 3] = [5, 256, 40];
/// For the emulator.
const SHORT: [usize; 3] = [5, 1, 19];

fn packed<E: Element>(dev: &Device, lengths: &[usize]) -> Bench<E> {
    let segments = Segments::of_lengths(lengths.iter().copied());
    Bench::of_segments(dev.clone(), &config(GQA, false), segments, Mode::Linear)
}

fn wide<E: Element>(values: &[E]) -> Vec<f64> {
    values.iter().map(|x| x.to_acc().to_f64()).collect()
}

/// Loss and gradients of the documents packed, and one after the other.
fn together_and_alone<E: Element>(dev: &Device, lengths: &[usize]) -> [(Loss, Bench<E>); 2] {
    let mut together = packed::<E>(dev, lengths);
    let loss = together.gradients();
    let mut alone = packed::<E>(dev, lengths);
    alone.trainer.begin_step(loss.weight).unwrap();
    for s in Segments::of_lengths(lengths.iter().copied()).list() {
        let segments = &Segments::equal(1, s.len);
        let tokens_N = &together.tokens[s.offset..s.end()];
        let targets_N = &together.targets[s.offset..s.end()];
        alone.trainer.add_batch(Batch::new(tokens_N, targets_N, segments));
    }
    [(loss, together), (alone.trainer.loss.read().unwrap(), alone)]
}

/// Losses within `of_loss`, each tensor's gradient within `of` of its norm.
fn agrees<E: Element>(dev: &Device, lengths: &[usize], of_loss: f64, of: f64) {
    let [(loss, together), (loss_alone, alone)] = together_and_alone::<E>(dev, lengths);
    let place = format!("{}, {}", dev.describe(), E::NAME);
    assert_eq!(loss.weight, loss_alone.weight);
    let error = (loss.nats - loss_alone.nats).abs() / loss_alone.nats;
    assert!(error <= of_loss, "{place}: loss {error:e}");
    let mut worst = 0.0f64;
    for row in together.trainer.model.table().rows() {
        let [got, expected] = [&together, &alone]
            .map(|bench| wide(&bench.trainer.grads.get(row.slot).read().unwrap()));
        let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
        let apart = norm(&mut got.iter().zip(&expected).map(|(a, b)| a - b));
        let error = apart / norm(&mut expected.iter().copied());
        assert!(error <= of, "{place}: {} {error:e}", row.name);
        worst = worst.max(error);
    }
    println!("{place}: loss {error:.1e}, gradients {worst:.1e}");
}

#[test]
fn packed_documents_train_as_they_do_alone() {
    agrees::<f64>(&cpu(Isa::Portable, 2), &LENGTHS, 1e-12, 1e-12);
    for isa in Isa::all_available() {
        agrees::<f32>(&cpu(isa, 2), &LENGTHS, 1e-6, 1e-5);
    }
}

#[test]
fn packed_documents_train_as_they_do_alone_on_the_gpu() {
    for dev in gpus() {
        agrees::<f32>(&dev, &SHORT, 1e-6, 1e-5);
    }
}

/// Loss and gradient bits of three documents, of which the second alone has targets.
fn bits_of_the_second<E: Element>(dev: &Device, change: impl FnOnce(&mut Bench<E>)) -> Vec<u64> {
    let mut bench = packed::<E>(dev, &[25]);
    bench.segments = Segments::of_lengths([7, 12, 6]);
    for n in (0..7).chain(19..25) {
        bench.targets[n] = IGNORE;
    }
    change(&mut bench);
    let loss = bench.gradients();
    let grads = bench.trainer.grads.view().read().unwrap().into_owned();
    let bits = grads.iter().map(|g| g.to_f64().to_bits());
    bits.chain([loss.nats.to_bits()]).collect()
}

fn neighbours_are_not_seen<E: Element>(dev: &Device) {
    let place = format!("{}, {}", dev.describe(), E::NAME);
    let bits = bits_of_the_second::<E>(dev, |_| ());
    let other = |bench: &mut Bench<E>, n: usize| bench.tokens[n] = (bench.tokens[n] + 1) % 23;
    let neighbours = bits_of_the_second::<E>(dev, |bench| {
        (0..7).chain(19..25).for_each(|n| other(bench, n));
    });
    assert!(neighbours == bits, "{place}: a neighbour is seen");
    let own = bits_of_the_second::<E>(dev, |bench| other(bench, 8));
    assert!(own != bits, "{place}: the document itself is not");
    let joined = bits_of_the_second::<E>(dev, |bench| bench.segments = Segments::equal(1, 25));
    assert!(joined != bits, "{place}: without segments, all are one");
}

#[test]
fn a_document_never_sees_its_neighbours() {
    for isa in Isa::all_available() {
        neighbours_are_not_seen::<f32>(&cpu(isa, 2));
        neighbours_are_not_seen::<bf16>(&cpu(isa, 2));
    }
}

#[test]
fn a_document_never_sees_its_neighbours_on_the_gpu() {
    for dev in gpus() {
        neighbours_are_not_seen::<f32>(&dev);
        neighbours_are_not_seen::<bf16>(&dev);
    }
}

/// Large enough that every op has several tasks.
const WIDE: Dims = Dims { L: 2, C: 72, H: 6, G: 2, D: 16, F: 136, V: 515 };
/// Longest sequence of the tests below.
const T: usize = 160;

/// A model, and a prompt for each of [`ROWS`] sequences, of different lengths.
struct Prompts<E: Element> {
    bench: Bench<E>,
    prompts: Vec<Vec<u32>>,
}

impl<E: Element> Prompts<E> {
    fn new(dev: Device, dims: Dims, longest: usize) -> Self {
        let bench = Bench::<E>::on(dev, &config(dims, false), 1, T, Mode::Linear);
        let len = |i: usize| 1 + (i * 37 + 11) % longest;
        let prompts = (0..ROWS).map(|i| bench.tokens[i..i + len(i).min(T - ROWS)].to_vec());
        Prompts { prompts: prompts.collect(), bench }
    }

    fn decoder(&self, slots: usize) -> Decoder<E> {
        Decoder::new(&self.bench.trainer.dev, &self.bench.trainer.model, slots, T)
    }

    fn feed(&self, decoder: &mut Decoder<E>, feeds: &[(usize, &[u32])]) -> Vec<Vec<f64>> {
        let (dev, w) = (&self.bench.trainer.dev, self.bench.trainer.weights.view());
        let logits = decoder.feed(dev, &self.bench.trainer.model, w, feeds).unwrap();
        let V = self.bench.trainer.model.config().dims.V;
        logits.chunks(V).map(|row| row.iter().map(|l| l.to_f64()).collect()).collect()
    }

    /// Logits after the prompt of sequence `i`, and after each of a few tokens more, decoded alone.
    fn alone(&self, i: usize, steps: usize) -> Vec<Vec<f64>> {
        let mut decoder = self.decoder(1);
        let mut all = self.feed(&mut decoder, &[(0, &self.prompts[i])]);
        for step in 0..steps {
            all.extend(self.feed(&mut decoder, &[(0, &[self.next(i, step)])]));
        }
        all
    }

    fn next(&self, i: usize, step: usize) -> u32 {
        self.bench.tokens[(i * 7 + step * 3) % T]
    }

    /// The same for sequences `chosen`, decoded together, in slots from the last one on.
    fn together(&self, chosen: &[usize], steps: usize) -> Vec<Vec<Vec<f64>>> {
        let mut decoder = self.decoder(chosen.len());
        let slot = |k: usize| chosen.len() - 1 - k;
        let prompts: Vec<(usize, &[u32])> =
            (0..chosen.len()).map(|k| (slot(k), &self.prompts[chosen[k]][..])).collect();
        let first = self.feed(&mut decoder, &prompts);
        let mut all: Vec<Vec<Vec<f64>>> = first.into_iter().map(|row| vec![row]).collect();
        for step in 0..steps {
            let next: Vec<[u32; 1]> = chosen.iter().map(|&i| [self.next(i, step)]).collect();
            let feeds: Vec<(usize, &[u32])> =
                next.iter().enumerate().map(|(k, next)| (slot(k), &next[..])).collect();
            let rows = self.feed(&mut decoder, &feeds);
            all.iter_mut().zip(rows).for_each(|(all, row)| all.push(row));
        }
        all
    }
}

fn rows_do_not_depend_on_rows<E: Element>(dev: &Device, dims: Dims, longest: usize, most: usize) {
    let prompts = Prompts::<E>::new(dev.clone(), dims, longest);
    let alone: Vec<_> = (0..most).map(|i| prompts.alone(i, 2)).collect();
    for rows in 1..=most {
        // Other neighbours and another place each time.
        let chosen: Vec<usize> = (0..rows).map(|k| (k * 5 + rows) % most).collect();
        let mut distinct = chosen.clone();
        distinct.sort_unstable();
        distinct.dedup();
        for (got, &i) in prompts.together(&distinct, 2).iter().zip(&distinct) {
            let place = format!("{}, {}", dev.describe(), E::NAME);
            assert!(got == &alone[i], "{place}: sequence {i} beside {rows} in all");
        }
    }
    assert!(alone[0] != alone[1], "sequences differ");
}

#[test]
fn a_row_of_logits_has_the_same_bits_beside_any_others() {
    for isa in Isa::all_available() {
        rows_do_not_depend_on_rows::<f32>(&cpu(isa, 2), WIDE, 100, ROWS);
        rows_do_not_depend_on_rows::<bf16>(&cpu(isa, 3), WIDE, 100, ROWS);
    }
}

#[test]
fn a_row_of_logits_has_the_same_bits_beside_others_on_the_gpu() {
    for dev in gpus() {
        rows_do_not_depend_on_rows::<f32>(&dev, GQA, 9, 3);
        rows_do_not_depend_on_rows::<bf16>(&dev, GQA, 9, 3);
    }
}

#[test]
fn decoding_together_gives_what_training_computes() {
    for dims in [GQA, MHA] {
        let prompts = Prompts::<f64>::new(cpu(Isa::Portable, 2), dims, 60);
        let chosen: Vec<usize> = (0..8).collect();
        let decoded = prompts.together(&chosen, 1);
        for (i, rows) in decoded.iter().enumerate() {
            let mut tokens = prompts.prompts[i].clone();
            tokens.push(prompts.next(i, 0));
            let (N, V) = (tokens.len(), dims.V);
            let segments = Segments::equal(1, N);
            let mut bench = Bench::<f64>::of_segments(
                prompts.bench.trainer.dev.clone(),
                &config(dims, false),
                segments,
                Mode::Linear,
            );
            bench.tokens = tokens;
            bench.forward();
            let mut logits_NV = Buf::<f64>::zeros(&bench.trainer.dev, N * V);
            let Trainer { dev, model, weights, cache, scratch, .. } = &mut bench.trainer;
            model.logits(dev, &mut logits_NV, weights.view(), cache, scratch);
            let logits = logits_NV.view().host();
            for (row, expected) in rows.iter().zip([N - 2, N - 1]) {
                let expected = &logits[expected * V..][..V];
                let worst = row.iter().zip(expected).map(|(a, b)| (a - b).abs());
                let worst = worst.fold(0.0, f64::max);
                assert!(worst <= 1e-10, "sequence {i}: {worst:e}");
            }
        }
    }
}

#[test]
fn a_cleared_slot_begins_anew() {
    let prompts = Prompts::<f32>::new(cpu(Isa::Portable, 2), GQA, 30);
    let [a, b] = [&prompts.prompts[0][..], &prompts.prompts[1][..]];
    let mut decoder = prompts.decoder(2);
    let first = prompts.feed(&mut decoder, &[(0, a), (1, b)]);
    assert_eq!([0, 1].map(|slot| decoder.kv().len(slot)), [a.len(), b.len()]);
    decoder.clear(0);
    assert_eq!(prompts.feed(&mut decoder, &[(0, a)])[0], first[0]);
    assert_ne!(prompts.feed(&mut decoder, &[(1, b)])[0], first[1]);
}

#[test]
#[should_panic(expected = "twice")]
fn a_sequence_cannot_be_fed_twice_at_once() {
    let prompts = Prompts::<f32>::new(cpu(Isa::Portable, 1), GQA, 30);
    prompts.feed(&mut prompts.decoder(2), &[(1, &[3]), (1, &[4])]);
}
