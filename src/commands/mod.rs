//! The command line: one file a subcommand, its flags first, then what it does.
//!
//! Results go to stdout, everything else to stderr. A mistake on a command line is one line on stderr
//! and exit code 2, like every other bad value.
//!
//! The program is nothing but a call. It reads the command line of its process:
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     handgrad::commands::handgrad()
//! }
//! ```

mod evaluate;
mod generate;
mod plan;
mod prepare;
mod pretrain;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use engine::{Device, Dtype};
use train::config::{DeviceChoice, Gemm, LogLevel, at_least_1, dtype};
use train::progress::init_logging;
use train::{device, main_exit};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// LLaMA pretraining whose every backward pass is written by hand.
#[derive(Debug, Parser)]
#[command(name = "handgrad", version)]
struct Handgrad {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Pretrain(Box<pretrain::Pretrain>),
    Generate(generate::Generate),
    Evaluate(evaluate::Evaluate),
    Plan(Box<plan::Plan>),
    Prepare(prepare::Prepare),
}

/// The program `handgrad`, with the process's arguments.
pub fn handgrad() -> ExitCode {
    main_exit(match parse::<Handgrad>().command {
        Command::Pretrain(args) => args.run(),
        Command::Generate(args) => args.run(),
        Command::Evaluate(args) => args.run(),
        Command::Plan(args) => args.run(),
        Command::Prepare(args) => args.run(),
    })
}

/// `handgrad pretrain` as a program of its own.
pub fn pretrain() -> ExitCode {
    main_exit(parse::<pretrain::Pretrain>().run())
}

/// Parses the process's arguments. Help and version go to stdout and end the process with 0; a
/// mistake is one line on stderr and ends it with 2.
fn parse<A: Parser>() -> A {
    A::try_parse().unwrap_or_else(|error| {
        if !error.use_stderr() {
            error.exit();
        }
        eprintln!("{}", one_line(&error));
        std::process::exit(2)
    })
}

/// The mistake and the tip of a command-line error, without the usage text below them.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let told = lines.take_while(|l| !l.starts_with("Usage:") && !l.starts_with("For more"));
    let line = told.collect::<Vec<_>>().join(" ");
    format!("{line} (see --help)")
}

/// Where and how a trained model computes.
#[derive(Clone, Debug, Args)]
struct Compute {
    /// Storage type of weights and activations
    #[arg(long, value_name = "TYPE", value_parser = dtype(), default_value = "f32")]
    dtype: Dtype,
    /// Where to compute
    #[arg(long, value_name = "D", default_value = "auto")]
    device: DeviceChoice,
    /// Matrix products of a GPU
    #[arg(long, value_name = "G", default_value = "rust")]
    gemm: Gemm,
    /// CPU threads [default: all cores]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = at_least_1::<usize>)]
    threads: Option<usize>,
}

impl Compute {
    /// The device, with warnings on stderr from here on.
    fn open(&self) -> Result<Device> {
        init_logging(LogLevel::Warn)?;
        Ok(device::open(self.device, self.threads, self.gemm)?)
    }
}

/// The directory of a model that is given as one, or, with the feature `hub`, by its name there.
fn model_dir(given: &Path) -> Result<PathBuf> {
    if given.exists() {
        return Ok(given.to_path_buf());
    }
    #[cfg(feature = "hub")]
    if let Some(name) = given.to_str().filter(|name| hub::is_name(name)) {
        return Ok(hub::Hub::from_env().fetch(name)?);
    }
    Ok(given.to_path_buf())
}

/// How this program is called: by its name where it is installed, through cargo where it was built.
fn program() -> String {
    let built = |exe: PathBuf| exe.ancestors().any(|dir| dir.join("CACHEDIR.TAG").exists());
    match std::env::current_exe() {
        Ok(exe) if built(exe.clone()) && Path::new("Cargo.toml").exists() => {
            "cargo run --release --".to_string()
        }
        _ => "handgrad".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::CommandFactory;
    use data::loader::Order;
    use model::cache::Mode;
    use train::config::{self, Resolved, RunConfig, TokenizerChoice};

    use super::*;

    fn args(line: &str) -> std::result::Result<Command, clap::Error> {
        let words = std::iter::once("handgrad").chain(line.split_whitespace());
        Handgrad::try_parse_from(words).map(|handgrad| handgrad.command)
    }

    fn pretrain(line: &str) -> std::result::Result<Resolved, train::Error> {
        match args(&format!("pretrain {line}")).expect(line) {
            Command::Pretrain(args) => args.resolve(),
            other => panic!("{other:?}"),
        }
    }

    fn mistake(line: &str) -> String {
        let text = one_line(&args(line).expect_err(line));
        assert!(text.starts_with("error: ") && text.lines().count() == 1, "{text}");
        text
    }

    #[test]
    fn the_command_lines_are_consistent() {
        Handgrad::command().debug_assert();
        pretrain::Pretrain::command().debug_assert();
    }

    #[test]
    fn every_flag_reaches_its_field() {
        let line = "--data a.txt b --tokenizer bytes --vocab-size 300 --val-fraction 0.2 \
            --val-tokens 1k --model 15M --init-from hf --lr 0.5 --min-lr-ratio 0.2 --warmup 3 \
            --beta1 0.8 --beta2 0.7 --eps 1e-6 --weight-decay 0.3 --clip 2 --out o --steps 2k \
            --batch-size 3 --seq-len 9 --accum 4 --dtype bf16 --device cuda-emulated --gemm cublaslt --threads 2 \
            --seed 7 --order sequential --cache full --eval-every 11 --eval-tokens 12 \
            --save-every 13 --keep 14 --sample-prompt hi --sample-tokens 15 --log-level debug";
        let mut want = RunConfig::default();
        want.data.paths = vec!["a.txt".into(), "b".into()];
        want.data.tokenizer = TokenizerChoice::Bytes;
        want.data.vocab_size = 300;
        want.data.val_fraction = 0.2;
        want.data.val_tokens = Some(1000);
        want.model = config::Model { name: "15M".into(), init_from: Some("hf".into()) };
        want.optim = config::Optim {
            lr: 0.5,
            min_lr_ratio: 0.2,
            warmup: Some(3),
            beta1: 0.8,
            beta2: 0.7,
            eps: 1e-6,
            weight_decay: 0.3,
            clip: 2.0,
        };
        want.run = config::Run {
            out: "o".into(),
            steps: 2000,
            tokens: None,
            batch_size: 3,
            seq_len: 9,
            accum: 4,
            dtype: Dtype::Bf16,
            device: DeviceChoice::CudaEmulated,
            gemm: Gemm::Cublaslt,
            threads: Some(2),
            seed: 7,
            order: Order::Sequential,
            eval_every: 11,
            eval_tokens: 12,
            save_every: 13,
            keep: 14,
            cache: Mode::Full,
            sample_prompt: "hi".into(),
            sample_tokens: 15,
            log_level: LogLevel::Debug,
        };
        assert_eq!(pretrain(line).unwrap().config, want);
        // The stored form of all of them must read back as the same run.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.toml");
        want.write(&path).unwrap();
        assert_eq!(pretrain(&format!("--config {}", path.display())).unwrap().config, want);
    }

    #[test]
    fn later_layers_win() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        fs::write(&path, "[optim]\nlr = 1.0\nbeta1 = 0.1\nbeta2 = 0.1\n[run]\ntokens = \"1M\"\n")
            .unwrap();
        let file = format!("--config {}", path.display());
        let config = pretrain(&format!("{file} --set optim.lr=2.0 --set optim.beta1=0.2 --lr 3"));
        let config = config.unwrap().config;
        assert_eq!((config.optim.lr, config.optim.beta1, config.optim.beta2), (3.0, 0.2, 0.1));
        assert_eq!(config.run.steps, 489);
        // Steps above replace tokens below, also where they are the default number.
        assert_eq!(pretrain(&format!("{file} --steps 450")).unwrap().config.run.steps, 450);
    }

    #[test]
    fn mistakes_are_one_line_with_the_flag_and_what_is_allowed() {
        for (line, told) in [
            ("pretrain --steps ten", "'ten' for '--steps <N>': expected a whole number"),
            ("pretrain --steps 0", "'0' for '--steps <N>': must be at least 1"),
            ("pretrain --dtype f64", "[possible values: f32, bf16]"),
            ("pretrain --step-s 3", "--steps"),
            ("pretrain --steps 3 --tokens 4", "cannot be used with"),
            ("pretrain --resume --overwrite", "cannot be used with"),
            ("pretrain --seed -1", "'-1' for '--seed <S>'"),
            ("pretrain --lr -1", "'-1' for '--lr <X>': must be finite and above 0"),
            ("pretrain --lr nan", "must be finite and above 0"),
            ("plan --steps -1", "'-1' for '--steps <N>'"),
            ("generate --model m --prompt p --temperature -1", "'-1' for '--temperature <X>'"),
            ("generate --model m --prompt p --temperature nan", "--temperature"),
            ("generate --model m --prompt p --top-p 0", "--top-p"),
            ("generate --model m --prompt p --top-p 1.1", "--top-p"),
            ("generate --model m --prompt p --max-new-tokens 0", "--max-new-tokens"),
            ("generate --model m --prompt p --threads 0", "--threads"),
            ("pretrian", "'pretrain'"),
        ] {
            let text = mistake(line);
            assert!(text.contains(told), "{line}: {text}");
        }
    }

    #[test]
    fn the_weights_to_start_from_are_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().display().to_string();
        let text = pretrain(&format!("--overwrite --out {out}/. --init-from {out}")).unwrap_err();
        assert!(text.to_string().contains("--overwrite would delete"), "{text}");
        pretrain(&format!("--out {out}/. --init-from {out}")).unwrap();
        pretrain(&format!("--overwrite --out {out}/new --init-from {out}")).unwrap();
    }

    #[test]
    fn resume_takes_the_stored_values_and_refuses_others() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().display().to_string();
        let text = pretrain(&format!("--resume --out {out}")).unwrap_err();
        assert_eq!(text.exit_code(), 2);
        assert!(text.to_string().contains("nothing to resume"), "{text}");

        let begun = pretrain(&format!("--out {out} --steps 70 --seed 9 --lr 0.25")).unwrap();
        begun.config.write(&dir.path().join("run.toml")).unwrap();
        let resumed = pretrain(&format!("--resume --out {out} --threads 2")).unwrap();
        let mut want = begun.config.clone();
        want.run.threads = Some(2);
        assert_eq!(resumed, Resolved { config: want, warnings: Vec::new() });

        let text = pretrain(&format!("--resume --out {out} --seed 8")).unwrap_err().to_string();
        assert!(text.contains("run.seed was 9 and is now 8"), "{text}");
        assert!(pretrain(&format!("--resume --out {out} --steps 80")).is_err());
        let longer = pretrain(&format!("--resume --out {out} --set run.steps=80")).unwrap();
        assert_eq!((longer.config.run.steps, longer.config.optim.warmup), (80, Some(7)));
        assert_eq!(longer.warnings.len(), 1);
    }
}
