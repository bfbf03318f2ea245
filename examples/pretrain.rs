//! Trains a LLaMA: on built-in stories without arguments, on your text with `--data`. Leaves a
//! model directory that `generate` and Hugging Face load.

use std::process::ExitCode;
use std::time::Instant;

use handgrad::data::tokenizer::Tokenizer;
use handgrad::engine::ops::loss::Sum;
use handgrad::engine::{Arena, Device, Element, Segments, bf16, heap};
use handgrad::model::cache::{Cache, Scratch};
use handgrad::model::decode::Decoder;
use handgrad::model::llama::{Batch, Llama};
use handgrad::model::sample::Sampler;
use handgrad::model::weights::Weights;
use handgrad::model::{Config, init};
use handgrad::optim::adamw::Settings;
use handgrad::optim::{AdamW, GlobalNorm, Schedule};
use handgrad::train::args::{PretrainArgs, parse};
use handgrad::train::checkpoint::{self, Found, State};
use handgrad::train::clock::Clock;
use handgrad::train::config::{self, Dtype, Fingerprint, RunConfig};
use handgrad::train::corpus::{self, Corpus};
use handgrad::train::metrics::{self, Metrics, Step};
use handgrad::train::outdir::{Existing, OutDir};
use handgrad::train::profile::{self, Ceilings, Profile};
use handgrad::train::progress::{Progress, init_logging};
use handgrad::train::signals::Signals;
use handgrad::train::{Error, Outcome, main_exit, plot, print, report, session};
use tracing::{info, warn};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    main_exit(start())
}

/// Settles what to do, then does it in the storage type that was asked for.
fn start() -> Result<Outcome> {
    let args: PretrainArgs = parse();
    let resolved = args.resolve()?;
    init_logging(resolved.config.run.log_level)?;
    resolved.warnings.iter().for_each(|warning| warn!("{warning}"));
    let wanted = &resolved.config.run;
    let dev = session::device(wanted.device, wanted.threads, wanted.gemm)?;
    info!("computing on {}", dev.describe());
    let dev = if args.profile { dev.recording() } else { dev };
    match wanted.dtype {
        Dtype::F32 => run::<f32>(&dev, &args, &resolved.config),
        Dtype::Bf16 => run::<bf16>(&dev, &args, &resolved.config),
    }
}

/// From the settled configuration to a model directory: the whole training loop.
fn run<E: Element<Acc = f32>>(
    dev: &Device,
    args: &PretrainArgs,
    run: &RunConfig,
) -> Result<Outcome> {
    if args.plan {
        let vocab = session::planned_vocab(run)?;
        let model = session::model_config(run, vocab, None)?;
        print(&format!("{}\n", report::plan::<E>(dev, &model, run, 0)))?;
        return Ok(Outcome::Done);
    }
    let signals = Signals::install()?;
    session::check_inputs(run)?;
    let mut out = OutDir::create(&run.run.out, existing(args))?;
    let found = if args.resume { Some(resumable(&out)?) } else { None };
    let stored = found.is_some().then(|| out.path().join("tokenizer.json"));
    let tokenizer = corpus::tokenizer(run, stored.as_deref())?;
    let vocab = tokenizer.as_ref().map(Tokenizer::vocab_size);
    let model_config = session::model_config(run, vocab, tokenizer.as_ref())?;
    let corpus = corpus::prepare(run, tokenizer, model_config.dims.V, Some(&out.tokens()))?;
    describe(&corpus);
    heap::release_freed();
    let plan = report::plan::<E>(dev, &model_config, run, corpus.bytes);
    info!("{} parameters; memory:\n{plan}", model_config.parameters());
    report::reserve(dev, &plan)?;

    let mut training = Training::<E>::new(dev, run, &model_config, &corpus);
    dev.sync()?;
    if args.profile {
        return training.profile(&out, &signals);
    }
    let first = match found {
        Some(found) => training.resume(found, &mut out)?,
        None => training.begin(&mut out)?,
    };
    let mut metrics = Metrics::resume(&out.metrics(), first)?;
    if first == 0 {
        training.save(&out, 0)?;
    }
    let (steps, tokens_per_step) = (run.run.steps, run.tokens_per_step());
    let (ceiling, known) = dev.product_ceiling::<E>();
    info!("{known} ceiling: {:.0} GFLOP/s in {}, which MFU is a share of", ceiling / 1e9, E::NAME);
    let flop_per_token = model_config.flop_per_token(run.run.seq_len) as f64;
    let mut clock = Clock::new(flop_per_token, Some(ceiling));
    let mut progress = Progress::new(steps, first);
    let mut val_loss = None;

    for s in first..steps {
        clock.begin_step();
        let Taken { loss, norm, lr } = training.step(s)?;
        clock.end_step(tokens_per_step);

        let step = s + 1;
        let report = Step {
            step,
            tokens: step * tokens_per_step,
            loss,
            lr,
            grad_norm: norm,
            tokens_per_second: clock.tokens_per_second(),
            mfu: clock.mfu(),
        };
        metrics.step(&report)?;
        progress.step(&report, clock.eta((steps - step) * tokens_per_step));

        let stop = signals.requested();
        let due = |every: u64| every > 0 && step.is_multiple_of(every);
        // Also when stopping: a resumed run could not make up for it.
        if due(run.run.eval_every) || step == steps {
            if let Some(loss) = training.validation_loss()? {
                metrics.eval(step, loss)?;
                progress.eval(step, loss);
                val_loss = Some(loss);
            }
            if let Some(text) = training.sample()? {
                info!("sample: {text}");
            }
            let curves = metrics::read(&out.metrics())?;
            plot::write(&out.loss_svg(), &curves, Some(corpus.unigram_entropy))?;
        }
        let last = step == steps || stop.is_some();
        if due(run.run.save_every) || last || signals.take_save_request() {
            metrics.sync()?;
            training.save(&out, step)?;
        }
        if let Some(signal) = stop {
            training.export(&out)?;
            warn!("stopped by signal {signal} after step {step}; --resume goes on from here");
            return Ok(Outcome::Stopped(signal));
        }
    }
    drop(progress);
    // Here, not in the loop: a crash may have come between the last checkpoint and this.
    training.export(&out)?;
    conclude(dev, &out, val_loss, corpus.unigram_entropy);
    Ok(Outcome::Done)
}

/// What a step gave: loss in nats per token, norm of the gradient, learning rate.
struct Taken {
    loss: f64,
    norm: f64,
    lr: f64,
}

/// Everything that a step needs, allocated before the first.
struct Training<'a, E: Element> {
    dev: &'a Device,
    run: &'a RunConfig,
    corpus: &'a Corpus,
    model: Llama<E>,
    weights: Weights<E>,
    adamw: AdamW<E>,
    schedule: Schedule,
    grads: Arena<f32>,
    norm: GlobalNorm,
    loss: Sum,
    cache: Cache<E>,
    scratch: Scratch<E>,
    decoder: Decoder<E>,
    tokens_N: Vec<u32>,
    targets_N: Vec<i32>,
    segments: Segments,
    fingerprint: Fingerprint,
}

impl<'a, E: Element<Acc = f32>> Training<'a, E> {
    fn new(dev: &'a Device, run: &'a RunConfig, config: &Config, corpus: &'a Corpus) -> Self {
        let (T, N) = (run.run.seq_len, run.run.batch_size * run.run.seq_len);
        let model = Llama::<E>::new(dev, config, T);
        let settings = Settings {
            beta1: run.optim.beta1,
            beta2: run.optim.beta2,
            eps: run.optim.eps,
            weight_decay: run.optim.weight_decay,
        };
        Training {
            weights: Weights::zeros(dev, model.table()),
            adamw: AdamW::new(dev, model.table(), settings),
            schedule: Schedule {
                peak: run.optim.lr,
                min_ratio: run.optim.min_lr_ratio,
                warmup: run.optim.warmup,
                steps: run.run.steps,
            },
            grads: Arena::zeros(dev, model.table()),
            norm: GlobalNorm::new(dev),
            loss: Sum::new(dev),
            cache: Cache::new(dev, &config.dims, N, report::mode(run.run.cache)),
            scratch: Scratch::new(dev, &config.dims, N),
            decoder: Decoder::new(dev, &model, 1, T),
            tokens_N: vec![0; N],
            targets_N: vec![0; N],
            segments: Segments::equal(run.run.batch_size, T),
            fingerprint: session::fingerprint(run, config, &corpus.hash),
            dev,
            run,
            corpus,
            model,
        }
    }

    /// Fresh weights, or those of `--init-from`.
    fn start_weights(&mut self) -> Result<()> {
        let (table, weights) = (self.model.table(), self.weights.master_mut());
        match &self.run.model.init_from {
            Some(dir) => session::read_weights(dir, table, weights)?,
            None => init::fill(self.dev, weights, table, self.run.run.seed),
        }
        Ok(self.weights.refresh()?)
    }

    /// A run from its start. Returns the first step, 0.
    fn begin(&mut self, out: &mut OutDir) -> Result<u64> {
        self.start_weights()?;
        out.begin()?;
        self.run.write(&out.run_toml())?;
        if let Some(tokenizer) = &self.corpus.tokenizer {
            tokenizer.save(out.path())?;
        }
        Ok(0)
    }

    /// The state of a checkpoint. Returns the first step to do.
    fn resume(&mut self, mut found: Found, out: &mut OutDir) -> Result<u64> {
        config::compare(&found.state().fingerprint, &self.fingerprint)?;
        let table = self.model.table();
        session::restore(&mut found, table, &mut self.weights, &mut self.adamw)?;
        out.begin()?;
        // A crash may have come between a save and its pruning, and no other save may follow.
        checkpoint::prune(&out.checkpoints(), self.run.run.keep)?;
        info!("resuming after step {} from {}", found.state().step, found.path().display());
        Ok(found.state().step)
    }

    /// Step `s`, counted from 0: gradients, clipping, AdamW. The device is waited for at its end.
    fn step(&mut self, s: u64) -> Result<Taken> {
        let (lr, clip) = (self.schedule.lr(s), self.run.optim.clip);
        let max_norm = if clip == 0.0 { f64::INFINITY } else { clip };
        self.gradients(s);
        self.norm.measure(self.dev, &self.grads);
        let weights = self.weights.both_mut();
        self.adamw.step(self.dev, weights, &self.grads, &self.norm, lr, max_norm);
        let (loss, norm) = (self.loss.read()?.mean(), self.norm.read()?);
        if !loss.is_finite() || !norm.is_finite() {
            return Err(self.diverged(s + 1, loss, norm).into());
        }
        if s == 0 {
            session::check_first_gradients(self.model.table(), &self.grads)?;
        }
        Ok(Taken { loss, norm, lr })
    }

    /// The first steps of the run, op by op: table, JSON and trace in place of a model.
    fn profile(&mut self, out: &OutDir, signals: &Signals) -> Result<Outcome> {
        let ceilings = Ceilings::measure::<E>(self.dev);
        self.start_weights()?;
        let mut steps = Vec::new();
        for s in 0..profile::WARMUP + profile::MEASURED {
            self.dev.take_calls();
            let begin = Instant::now();
            let Taken { loss, .. } = self.step(s)?;
            let (end, calls) = (Instant::now(), self.dev.take_calls());
            if let Some(signal) = signals.requested() {
                return Ok(Outcome::Stopped(signal));
            }
            if s >= profile::WARMUP {
                steps.push(profile::Step { step: s + 1, loss, begin, end, calls });
            }
        }
        let ceilings = ceilings.max(Ceilings::measure::<E>(self.dev));
        let profile = Profile::new::<E>(self.dev, self.model.config(), self.run, ceilings, &steps);
        profile.write(out, &steps)?;
        print(&profile.json())?;
        info!("step {}, of median duration:\n{profile}", profile.step);
        info!("wrote {} and {}", out.profile().display(), out.trace().display());
        Ok(Outcome::Done)
    }

    /// Forward and backward over the sequences of step `s`, counted from 0.
    fn gradients(&mut self, s: u64) {
        let (B, T, accum) = (self.run.run.batch_size, self.run.run.seq_len, self.run.run.accum);
        let scale = 1.0 / (B * accum * T) as f64;
        self.loss.clear(self.dev);
        self.grads.fill_zero(self.dev);
        for k in 0..accum {
            let first = (s * accum as u64 + k as u64) * B as u64;
            self.corpus.train.fill_batch(first, B, &mut self.tokens_N, &mut self.targets_N);
            let (tokens_N, targets_N) = (&self.tokens_N[..], &self.targets_N[..]);
            let batch = Batch { tokens_N, targets_N, segments: &self.segments };
            let (model, w) = (&self.model, self.weights.view());
            let (grads, cache, scratch) = (&mut self.grads, &mut self.cache, &mut self.scratch);
            let loss = &mut self.loss;
            self.dev.install(|| {
                model.forward(self.dev, w, batch, cache, scratch);
                model.backward(self.dev, loss, grads, w, batch, cache, scratch, scale);
            });
        }
    }

    /// Names the first place where the last batch meets a number that is not finite.
    fn diverged(&mut self, step: u64, loss: f64, norm: f64) -> Error {
        let (tokens_N, targets_N) = (&self.tokens_N[..], &self.targets_N[..]);
        let batch = Batch { tokens_N, targets_N, segments: &self.segments };
        let (w, cache, scratch) = (self.weights.view(), &mut self.cache, &mut self.scratch);
        let in_forward = self.model.first_non_finite(self.dev, w, batch, cache, scratch);
        let in_backward = || self.model.first_non_finite_gradient(&self.grads);
        let place = in_forward
            .or_else(|| in_backward().map(|name| format!("gradient of {name}")))
            .unwrap_or_else(|| "the gradient norm".to_string());
        let what = format!("loss {loss}, gradient norm {norm}, first in {place}");
        Error::Diverged { step, what }
    }

    /// Nats per token on the validation split, if there is one.
    fn validation_loss(&mut self) -> Result<Option<f64>> {
        let Some(windows) = &self.corpus.validation else { return Ok(None) };
        let (tokens, T) = (self.run.run.eval_tokens, self.run.run.seq_len);
        let (w, cache, scratch) = (self.weights.view(), &mut self.cache, &mut self.scratch);
        let (dev, model) = (self.dev, &self.model);
        Ok(Some(report::validation_loss(dev, model, w, windows, tokens, T, cache, scratch)?))
    }

    /// Text that the model writes now, if there is a tokenizer to read it with.
    fn sample(&mut self) -> Result<Option<String>> {
        let Some(tokenizer) = &self.corpus.tokenizer else { return Ok(None) };
        let run = &self.run.run;
        let prompt = report::prompt_ids(tokenizer, &run.sample_prompt)?;
        let sampler = Sampler { temperature: 0.8, top_p: 0.95 };
        let (w, decoder, eos) = (self.weights.view(), &mut self.decoder, tokenizer.eos());
        let (dev, model, count, seed) = (self.dev, &self.model, run.sample_tokens, run.seed);
        let mut ids = Vec::new();
        decoder.clear(0);
        report::generate(dev, model, w, decoder, &prompt, count, sampler, seed, eos, |id| {
            ids.push(id);
            Ok(())
        })?;
        Ok(Some(format!("{}{}", run.sample_prompt, tokenizer.decode(&ids)?)))
    }

    /// A checkpoint after `step` steps; the oldest beyond `--keep` go.
    fn save(&self, out: &OutDir, step: u64) -> Result<()> {
        let sequences = (self.run.run.batch_size * self.run.run.accum) as u64;
        let state = State {
            step,
            tokens: step * self.run.tokens_per_step(),
            next_sample: step * sequences,
            fingerprint: self.fingerprint.clone(),
            ..State::default()
        };
        let (root, table) = (out.checkpoints(), self.model.table());
        session::save(&root, &state, table, &self.weights, &self.adamw)?;
        checkpoint::prune(&root, self.run.run.keep)?;
        Ok(())
    }

    fn export(&self, out: &OutDir) -> Result<()> {
        let tokenizer = self.corpus.tokenizer.as_ref();
        Ok(report::export(out.path(), &self.model, &self.weights, tokenizer)?)
    }
}

/// What is meant to happen to a run that the output folder already holds.
fn existing(args: &PretrainArgs) -> Existing {
    match (args.resume, args.overwrite) {
        _ if args.profile => Existing::Keep,
        (true, _) => Existing::Resume,
        (_, true) => Existing::Overwrite,
        _ => Existing::Refuse,
    }
}

/// What came out, and what to do with it.
fn conclude(dev: &Device, out: &OutDir, val_loss: Option<f64>, unigram: f64) {
    if let Some(loss) = val_loss {
        info!("validation loss {loss:.3} nats per token; unigram entropy {unigram:.3}");
    }
    info!("{}", report::memory(dev));
    let (out, example) = (out.path().display(), "cargo run --release --example generate --");
    info!("model in {out}; to use it: {example} --model {out} --prompt 'Once upon a time'");
}

/// The newest valid checkpoint; those passed over are reported.
fn resumable(out: &OutDir) -> Result<Found> {
    let latest = checkpoint::latest(&out.checkpoints())?;
    for skipped in &latest.skipped {
        warn!("passed over {}: {}", skipped.path.display(), skipped.reason);
    }
    Ok(latest.require(&out.checkpoints())?)
}

fn describe(corpus: &Corpus) {
    let counts = corpus.counts;
    let held = corpus.validation.as_ref().map_or(0, |windows| windows.targets() + 1);
    info!(
        "{} documents, {} bytes, {} tokens: {} to train on, {held} held out; unigram entropy {:.3}",
        counts.documents,
        counts.text_bytes,
        counts.tokens,
        corpus.train_tokens,
        corpus.unigram_entropy
    );
}
