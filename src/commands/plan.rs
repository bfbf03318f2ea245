//! `handgrad plan`: the memory that a run would take, without running it.

use clap::Parser;
use engine::{Device, Dtype, Element, bf16};
use train::config::{RunConfig, Sources};
use train::progress::init_logging;
use train::{Outcome, device, inputs, print};

use super::Result;

/// Prints how much memory a run would take, by category
///
/// Takes the flags of `handgrad pretrain`; nothing is read but configuration, and nothing is written.
#[derive(Clone, Debug, Parser)]
#[command(after_help = EXAMPLES)]
pub struct Plan {
    #[command(flatten)]
    sources: Sources,
}

const EXAMPLES: &str = "\
Examples:
  handgrad plan --model 1.1B --dtype bf16
  handgrad plan --config runs/books/run.toml --batch-size 32";

impl Plan {
    pub fn run(&self) -> Result<Outcome> {
        let config = self.sources.resolve(false)?.config;
        init_logging(config.run.log_level)?;
        let dev = device::open(config.run.device, config.run.threads, config.run.gemm)?;
        print_plan(&dev, &config)
    }
}

/// Prints the plan of the run that `config` describes.
pub fn print_plan(dev: &Device, config: &RunConfig) -> Result<Outcome> {
    match config.run.dtype {
        Dtype::F32 => print_as::<f32>(dev, config),
        Dtype::Bf16 => print_as::<bf16>(dev, config),
        Dtype::F64 => unreachable!("no flag says f64"),
    }
}

fn print_as<E: Element<Acc = f32>>(dev: &Device, config: &RunConfig) -> Result<Outcome> {
    let model = inputs::model_config(config, inputs::planned_vocab(config)?, None)?;
    print(&format!("{}\n", train::plan::plan::<E>(dev, &model, &inputs::recipe(config), 0)?))?;
    Ok(Outcome::Done)
}
