//! `handgrad pretrain`: trains a LLaMA, on built-in stories or on your text. Leaves a model directory
//! that `handgrad generate` and Hugging Face load.

use std::path::Path;
use std::time::Instant;

use clap::Parser;
use data::tokenizer::Tokenizer;
use engine::{Device, Dtype, Element, bf16, ceiling, heap};
use model::params;
use tracing::{info, warn};
use train::checkpoint::{self, Found};
use train::clock::Clock;
use train::config::{self, Fingerprint, Resolved, RunConfig, Sources};
use train::corpus::{self, Corpus};
use train::metrics::{self, Entry, Metrics};
use train::outdir::{Existing, OutDir};
use train::plan::plan;
use train::profile::{self, Ceilings, Profile, Timed};
use train::progress::{Progress, init_logging};
use train::signals::Signals;
use train::trainer::{Taken, Trainer};
use train::{Error, Outcome, device, inputs, memory, plot, print};

use super::plan::print_plan;
use super::{Result, model_dir, program};

/// Trains a LLaMA
///
/// Leaves a Hugging Face model directory. Without arguments it trains a small model on a built-in
/// corpus of little stories. Values come from, later ones winning: defaults, --config, --set, flags.
/// All of them end up in OUT/run.toml, which --config reads.
#[derive(Clone, Debug, Parser)]
#[command(name = "pretrain", version, after_help = EXAMPLES)]
pub struct Pretrain {
    #[command(flatten)]
    sources: Sources,
    /// Continue the run in the output folder from its newest valid checkpoint
    #[arg(long, conflicts_with = "overwrite", help_heading = "Run")]
    resume: bool,
    /// Delete the run in the output folder, then start
    #[arg(long, help_heading = "Run")]
    overwrite: bool,
    /// Print the memory plan and exit; nothing is written
    #[arg(long, help_heading = "Run")]
    plan: bool,
    /// Time every op of a few steps, print the share of the attainable that each reaches, write
    /// OUT/profile.json and OUT/trace.json, and exit; nothing else is written
    #[arg(long, conflicts_with_all = ["plan", "resume", "overwrite"], help_heading = "Run")]
    profile: bool,
}

const EXAMPLES: &str = "\
Examples:
  handgrad pretrain
      a small model on the built-in stories
  handgrad pretrain --data books/ more.jsonl.zst --model 15M --tokens 100M --out runs/books
      your own text, with a tokenizer trained on it
  handgrad pretrain --data shakespeare.txt --tokenizer bytes --steps 2k --lr 1e-3 --out runs/bytes
      byte by byte
  handgrad pretrain --resume --out runs/books
      go on after a stop or a crash; the stored run.toml supplies every value
  handgrad pretrain --config runs/books/run.toml --set optim.lr=3e-4 --out runs/books-lr
      the same run with one value changed
  handgrad pretrain --model 1.1B --plan
      how much memory it would take
  handgrad pretrain --model 15M --dtype bf16 --profile
      where the time of a step goes; trace.json opens in Perfetto

Exit codes: 0 done, 1 error, 2 usage, 3 diverged, 130 or 143 stopped by a signal after saving.";

impl Pretrain {
    /// Settles what to do, then does it in the storage type that was asked for.
    pub fn run(&self) -> Result<Outcome> {
        let mut resolved = self.resolve()?;
        if let Some(from) = &mut resolved.config.model.init_from {
            *from = model_dir(from)?;
        }
        let config = &resolved.config;
        init_logging(config.run.log_level)?;
        resolved.warnings.iter().for_each(|warning| warn!("{warning}"));
        let dev = device::open(config.run.device, config.run.threads, config.run.gemm)?;
        info!("computing on {}", dev.describe());
        if self.plan {
            return print_plan(&dev, config);
        }
        let dev = if self.profile { dev.recording() } else { dev };
        match config.run.dtype {
            Dtype::F32 => pretrain::<f32>(&dev, self, config),
            Dtype::Bf16 => pretrain::<bf16>(&dev, self, config),
            Dtype::F64 => unreachable!("no flag says f64"),
        }
    }

    /// The run to do.
    pub fn resolve(&self) -> std::result::Result<Resolved, Error> {
        let resolved = self.sources.resolve(self.resume)?;
        let real = |path: &Path| path.canonicalize().ok();
        let (out, from) = (&resolved.config.run.out, resolved.config.model.init_from.as_deref());
        let from = from.and_then(real);
        if self.overwrite && from.is_some() && from == real(out) {
            return Err(Error::Config(format!(
                "--overwrite would delete the weights of --init-from {}: choose another --out",
                out.display()
            )));
        }
        Ok(resolved)
    }
}

/// From the settled configuration to a model directory.
fn pretrain<E: Element<Acc = f32>>(
    dev: &Device,
    args: &Pretrain,
    config: &RunConfig,
) -> Result<Outcome> {
    let recipe = inputs::recipe(config);
    let signals = Signals::install()?;
    inputs::check(config)?;
    let mut out = OutDir::create(&config.run.out, existing(args))?;
    let found = if args.resume { Some(resumable(&out)?) } else { None };
    let stored = found.is_some().then(|| Tokenizer::path(out.path()));
    let tokenizer = corpus::tokenizer(config, stored.as_deref())?;
    let vocab = tokenizer.as_ref().map(Tokenizer::vocab_size);
    let model = inputs::model_config(config, vocab, tokenizer.as_ref())?;
    let corpus = corpus::prepare(config, tokenizer, model.dims.V, Some(&out.tokens()))?;
    describe(&corpus);
    heap::release_freed();
    let plan = plan::<E>(dev, &model, &recipe, corpus.bytes)?;
    info!("{} parameters; memory:\n{plan}", params::count(&model));
    dev.reserve(&plan)?;

    let mut trainer = Trainer::<E>::new(dev, &model, recipe);
    dev.sync()?;
    if args.profile {
        return profile(trainer, config, &corpus, &out, &signals);
    }
    let fingerprint = inputs::fingerprint(config, &model, &corpus.hash);
    match found {
        Some(found) => resume(&mut trainer, config, &fingerprint, found, &mut out)?,
        None => begin(&mut trainer, config, &corpus, &mut out)?,
    }
    train(trainer, config, &fingerprint, &corpus, &out, &signals)
}

/// The loop, from where the trainer stands to the last step or a signal.
fn train<E: Element<Acc = f32>>(
    mut trainer: Trainer<E>,
    config: &RunConfig,
    fingerprint: &Fingerprint,
    corpus: &Corpus,
    out: &OutDir,
    signals: &Signals,
) -> Result<Outcome> {
    let (run, steps, schedule) = (&config.run, config.run.steps, inputs::schedule(config));
    let (first, tokens_per_step) = (trainer.steps(), config.tokens_per_step());
    let mut metrics = Metrics::resume(&out.metrics(), first)?;
    if first == 0 {
        save(&trainer, config, fingerprint, out)?;
    }
    let mut clock = start_clock(&trainer, run.seq_len);
    let mut progress = Progress::new(steps, first);
    let mut val_loss = None;

    for s in first..steps {
        clock.begin_step();
        let lr = schedule.lr(s);
        let Taken { loss, norm } = trainer.step(&corpus.train, lr)?;
        clock.end_step(tokens_per_step);

        let step = s + 1;
        let entry = Entry {
            step,
            tokens: step * tokens_per_step,
            loss,
            lr,
            grad_norm: norm,
            tokens_per_second: clock.tokens_per_second(),
            mfu: clock.mfu(),
        };
        metrics.step(&entry)?;
        progress.step(&entry, clock.eta((steps - step) * tokens_per_step));

        let stop = signals.requested();
        let due = |every: u64| every > 0 && step.is_multiple_of(every);
        // Also when stopping: a resumed run could not make up for it.
        if due(run.eval_every) || step == steps {
            if let Some(windows) = &corpus.validation {
                let loss = trainer.validation_loss(windows, run.eval_tokens)?;
                metrics.eval(step, loss)?;
                progress.eval(step, loss);
                val_loss = Some(loss);
            }
            if let Some(tokenizer) = &corpus.tokenizer {
                let (prompt, count) = (&run.sample_prompt, run.sample_tokens);
                let text = trainer.sample(tokenizer, prompt, count, run.seed)?;
                info!("sample: {text}");
            }
            let curves = metrics::read(&out.metrics())?;
            plot::write(&out.loss_svg(), &curves, Some(corpus.unigram_entropy))?;
        }
        let last = step == steps || stop.is_some();
        if due(run.save_every) || last || signals.take_save_request() {
            metrics.sync()?;
            save(&trainer, config, fingerprint, out)?;
        }
        if let Some(signal) = stop {
            trainer.export(out.path(), corpus.tokenizer.as_ref())?;
            warn!("stopped by signal {signal} after step {step}; --resume goes on from here");
            return Ok(Outcome::Stopped(signal));
        }
    }
    drop(progress);
    // Here, not in the loop: a crash may have come between the last checkpoint and this.
    trainer.export(out.path(), corpus.tokenizer.as_ref())?;
    conclude(&trainer.dev, out, val_loss, corpus.unigram_entropy);
    Ok(Outcome::Done)
}

/// The weights to start from: fresh ones, or those of `--init-from`.
fn init<E: Element<Acc = f32>>(trainer: &mut Trainer<E>, config: &RunConfig) -> Result<()> {
    match &config.model.init_from {
        Some(dir) => trainer.init_from(dir)?,
        None => trainer.init(config.run.seed)?,
    }
    Ok(())
}

/// A run from its start.
fn begin<E: Element<Acc = f32>>(
    trainer: &mut Trainer<E>,
    config: &RunConfig,
    corpus: &Corpus,
    out: &mut OutDir,
) -> Result<()> {
    init(trainer, config)?;
    out.begin()?;
    config.write(&out.run_toml())?;
    if let Some(tokenizer) = &corpus.tokenizer {
        tokenizer.save(out.path())?;
    }
    Ok(())
}

/// A run from a checkpoint.
fn resume<E: Element<Acc = f32>>(
    trainer: &mut Trainer<E>,
    config: &RunConfig,
    fingerprint: &Fingerprint,
    found: Found,
    out: &mut OutDir,
) -> Result<()> {
    config::compare(&found.state().fingerprint, fingerprint)?;
    trainer.resume(&found)?;
    out.begin()?;
    // A crash may have come between a save and its pruning, and no other save may follow.
    checkpoint::prune(&out.checkpoints(), config.run.keep)?;
    info!("resuming after step {} from {}", trainer.steps(), found.path().display());
    Ok(())
}

/// A checkpoint of the steps taken; the oldest beyond `--keep` go.
fn save<E: Element<Acc = f32>>(
    trainer: &Trainer<E>,
    config: &RunConfig,
    fingerprint: &Fingerprint,
    out: &OutDir,
) -> Result<()> {
    trainer.save(&out.checkpoints(), fingerprint)?;
    checkpoint::prune(&out.checkpoints(), config.run.keep)?;
    Ok(())
}

/// The clock of a run, which knows what the device could do at best.
fn start_clock<E: Element<Acc = f32>>(trainer: &Trainer<E>, T: usize) -> Clock {
    let (flops, known) = ceiling::products::<E>(&trainer.dev);
    info!("{known} ceiling: {:.0} GFLOP/s in {}, which MFU is a share of", flops / 1e9, E::NAME);
    Clock::new(trainer.model.config().flop_per_token(T) as f64, Some(flops))
}

/// The first steps of the run, op by op: table, JSON and trace in place of a model.
fn profile<E: Element<Acc = f32>>(
    mut trainer: Trainer<E>,
    config: &RunConfig,
    corpus: &Corpus,
    out: &OutDir,
    signals: &Signals,
) -> Result<Outcome> {
    let (dev, schedule) = (trainer.dev.clone(), inputs::schedule(config));
    let ceilings = Ceilings::measure::<E>(&dev);
    init(&mut trainer, config)?;
    let mut steps = Vec::new();
    for s in 0..profile::WARMUP + profile::MEASURED {
        dev.take_calls();
        let begin = Instant::now();
        let Taken { loss, .. } = trainer.step(&corpus.train, schedule.lr(s))?;
        let (end, calls) = (Instant::now(), dev.take_calls());
        if let Some(signal) = signals.requested() {
            return Ok(Outcome::Stopped(signal));
        }
        if s >= profile::WARMUP {
            steps.push(Timed { step: s + 1, loss, begin, end, calls });
        }
    }
    let ceilings = ceilings.max(Ceilings::measure::<E>(&dev));
    let profile = Profile::new::<E>(&dev, trainer.model.config(), config, ceilings, &steps);
    profile.write(out, &steps)?;
    print(&profile.json())?;
    info!("step {}, of median duration:\n{profile}", profile.step);
    info!("wrote {} and {}", out.profile().display(), out.trace().display());
    Ok(Outcome::Done)
}

/// What is meant to happen to a run that the output folder already holds.
fn existing(args: &Pretrain) -> Existing {
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
    info!("{}", memory::describe(dev));
    let (out, program) = (out.path().display(), program());
    info!(
        "model in {out}; to use it: {program} generate --model {out} --prompt 'Once upon a time'"
    );
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
