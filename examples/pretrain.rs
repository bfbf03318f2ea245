//! Trains a LLaMA: on built-in stories without arguments, on your text with `--data`. Leaves a
//! model directory that `generate` and Hugging Face load.

use std::process::ExitCode;

use handgrad::data::tokenizer::Tokenizer;
use handgrad::engine::{Arena, Device, Element, bf16, cpu::ceiling, heap};
use handgrad::model::cache::{Cache, Scratch};
use handgrad::model::decode::Decoder;
use handgrad::model::init;
use handgrad::model::llama::{Batch, Llama};
use handgrad::model::sample::Sampler;
use handgrad::model::weights::Weights;
use handgrad::optim::adamw::Settings;
use handgrad::optim::{AdamW, Schedule, clip};
use handgrad::train::args::{PretrainArgs, parse};
use handgrad::train::checkpoint::{self, State};
use handgrad::train::clock::Clock;
use handgrad::train::config::{self, Dtype, RunConfig};
use handgrad::train::corpus::{self, Corpus};
use handgrad::train::metrics::{self, Metrics, Step};
use handgrad::train::outdir::{Existing, OutDir};
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
    let dev = session::device(resolved.config.run.device, resolved.config.run.threads)?;
    info!("computing on {}", dev.describe());
    match resolved.config.run.dtype {
        Dtype::F32 => run::<f32>(&dev, &args, &resolved.config),
        Dtype::Bf16 => run::<bf16>(&dev, &args, &resolved.config),
    }
}

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
    let existing = match (args.resume, args.overwrite) {
        (true, _) => Existing::Resume,
        (_, true) => Existing::Overwrite,
        _ => Existing::Refuse,
    };
    session::check_inputs(run)?;
    let mut out = OutDir::create(&run.run.out, existing)?;
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
    let (B, T, accum) = (run.run.batch_size, run.run.seq_len, run.run.accum);
    let model = Llama::<E>::new(dev, &model_config, T);
    let mut weights = Weights::<E>::zeros(dev, model.table());
    let settings = Settings {
        beta1: run.optim.beta1,
        beta2: run.optim.beta2,
        eps: run.optim.eps,
        weight_decay: run.optim.weight_decay,
    };
    let mut adamw = AdamW::<E>::new(dev, model.table(), settings);
    let mut grads = Arena::<f32>::zeros(dev, model.table());
    let mut cache = Cache::<E>::new(dev, &model_config.dims, B * T, report::mode(run.run.cache));
    let mut scratch = Scratch::<E>::new(dev, &model_config.dims, B * T);
    let mut decoder = Decoder::<E>::new(dev, &model, T);
    let (mut tokens_N, mut targets_N) = (vec![0u32; B * T], vec![0i32; B * T]);

    let fingerprint = session::fingerprint(run, &model_config, &corpus.hash);
    let first = match found {
        Some(mut found) => {
            config::compare(&found.state().fingerprint, &fingerprint)?;
            session::restore(&mut found, model.table(), &mut weights, &mut adamw)?;
            out.begin()?;
            info!("resuming after step {} from {}", found.state().step, found.path().display());
            found.state().step
        }
        None => {
            match &run.model.init_from {
                Some(dir) => session::read_weights(dir, model.table(), weights.master_mut())?,
                None => init::fill(dev, weights.master_mut(), model.table(), run.run.seed),
            }
            weights.refresh();
            out.begin()?;
            run.write(&out.run_toml())?;
            corpus.tokenizer.as_ref().map_or(Ok(()), |tokenizer| tokenizer.save(out.path()))?;
            0
        }
    };
    let steps = run.run.steps;
    let tokens_per_step = run.tokens_per_step();
    let state = |step: u64| State {
        step,
        tokens: step * tokens_per_step,
        next_sample: step * (B * accum) as u64,
        fingerprint: fingerprint.clone(),
        ..State::default()
    };
    let mut metrics = Metrics::resume(&out.metrics(), first)?;
    if first == 0 {
        session::save(&out.checkpoints(), &state(0), model.table(), &weights, &adamw)?;
    }
    let (peak, min_ratio, warmup) = (run.optim.lr, run.optim.min_lr_ratio, run.optim.warmup);
    let schedule = Schedule { peak, min_ratio, warmup, steps };
    let max_norm = if run.optim.clip == 0.0 { f64::INFINITY } else { run.optim.clip };

    let Device::Cpu(cpu) = dev;
    let ceiling = ceiling::fma_flops(cpu);
    info!("measured ceiling: {:.0} GFLOP/s in f32, which MFU is a share of", ceiling / 1e9);
    let mut clock = Clock::new(model_config.flop_per_token(T) as f64, Some(ceiling));
    let mut progress = Progress::new(steps, first);
    let mut val_loss = None;

    for s in first..steps {
        clock.begin_step();
        grads.fill_zero();
        let targets = (B * accum * T) as f64;
        let mut loss = 0.0; // nats per token, mean over the step
        for k in 0..accum {
            let sample = (s as usize * accum + k) * B;
            corpus.train.fill_batch(sample as u64, B, &mut tokens_N, &mut targets_N);
            let batch = Batch { tokens_N: &tokens_N, targets_N: &targets_N, T };
            loss += dev
                .install(|| {
                    model.forward(dev, weights.view(), batch, &mut cache, &mut scratch);
                    let (w, c, x) = (weights.view(), &mut cache, &mut scratch);
                    model.backward(dev, &mut grads, w, batch, c, x, 1.0 / targets)
                })
                .nats
                / targets;
        }
        let (norm, factor) = clip::by_global_norm(dev, &grads, max_norm);
        let step = s + 1;
        if !loss.is_finite() || !norm.is_finite() {
            let batch = Batch { tokens_N: &tokens_N, targets_N: &targets_N, T };
            let w = weights.view();
            let place = model.first_non_finite(dev, w, batch, &mut cache, &mut scratch);
            let place = place.or_else(|| {
                model.first_non_finite_gradient(&grads).map(|name| format!("gradient of {name}"))
            });
            let place = place.unwrap_or_else(|| "the gradient norm".to_string());
            let what = format!("loss {loss}, gradient norm {norm}, first in {place}");
            return Err(Error::Diverged { step, what }.into());
        }
        if step == 1 {
            session::check_first_gradients(model.table(), &grads)?;
        }
        let lr = schedule.lr(s);
        adamw.step(dev, weights.both_mut(), &grads, lr, factor);
        clock.end_step(tokens_per_step);

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
        let last = step == steps || stop.is_some();
        let due = |every: u64| every > 0 && step.is_multiple_of(every);
        // Also when stopping: a resumed run could not make up for it.
        if due(run.run.eval_every) || step == steps {
            if let Some(windows) = &corpus.validation {
                let (w, tokens) = (weights.view(), run.run.eval_tokens);
                let loss = report::validation_loss(
                    dev,
                    &model,
                    w,
                    windows,
                    tokens,
                    T,
                    &mut cache,
                    &mut scratch,
                );
                metrics.eval(step, loss)?;
                progress.eval(step, loss);
                val_loss = Some(loss);
            }
            if let Some(tokenizer) = &corpus.tokenizer {
                let text = sample(dev, &model, &weights, &mut decoder, tokenizer, run)?;
                info!("sample: {text}");
            }
            plot::write(
                &out.loss_svg(),
                &metrics::read(&out.metrics())?,
                Some(corpus.unigram_entropy),
            )?;
        }
        if due(run.run.save_every) || last || signals.take_save_request() {
            metrics.sync()?;
            session::save(&out.checkpoints(), &state(step), model.table(), &weights, &adamw)?;
            checkpoint::prune(&out.checkpoints(), run.run.keep)?;
        }
        if let Some(signal) = stop {
            report::export(out.path(), &model, &weights, corpus.tokenizer.as_ref())?;
            warn!("stopped by signal {signal} after step {step}; --resume goes on from here");
            return Ok(Outcome::Stopped(signal));
        }
    }
    drop(progress);
    // Here, not in the loop: a crash may have come between the last checkpoint and this.
    report::export(out.path(), &model, &weights, corpus.tokenizer.as_ref())?;
    if let Some(loss) = val_loss {
        let unigram = corpus.unigram_entropy;
        info!("validation loss {loss:.3} nats per token; unigram entropy {unigram:.3}");
    }
    info!("peak memory {:.1} MiB", report::peak_bytes() as f64 / (1u64 << 20) as f64);
    let out = out.path().display();
    info!(
        "model in {out}; continue a text with: cargo run --release --example generate -- --model {out} --prompt 'Once upon a time'"
    );
    Ok(Outcome::Done)
}

/// The newest valid checkpoint; those passed over are reported.
fn resumable(out: &OutDir) -> Result<checkpoint::Found> {
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

/// Text that the model writes now.
fn sample<E: Element<Acc = f32>>(
    dev: &Device,
    model: &Llama<E>,
    weights: &Weights<E>,
    decoder: &mut Decoder<E>,
    tokenizer: &Tokenizer,
    run: &RunConfig,
) -> Result<String> {
    decoder.clear();
    let prompt = report::prompt_ids(tokenizer, &run.run.sample_prompt)?;
    let sampler = Sampler { temperature: 0.8, top_p: 0.95 };
    let mut ids = Vec::new();
    let (w, count, seed) = (weights.view(), run.run.sample_tokens, run.run.seed);
    let eos = tokenizer.eos();
    report::generate(dev, model, w, decoder, &prompt, count, sampler, seed, eos, |id| {
        ids.push(id);
        Ok(())
    })?;
    Ok(format!("{}{}", run.run.sample_prompt, tokenizer.decode(&ids)?))
}
