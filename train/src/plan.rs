//! The memory of a run, known before anything is allocated.

use engine::{Device, Element, Plan};
use model::cache;
use model::config::Config;
use model::decode::Decoder;
use model::weights::Weights;

use crate::error::Error;
use crate::memory::resident_bytes;
use crate::trainer::Recipe;

/// What a run's code, threads and tokenizer take, in bytes: 16 to 37 MiB were measured on x86-64
/// Linux. A plan that is made before they are loaded counts with 28.
const PROGRAM: u64 = 28 << 20;

/// A plan's row of what ops need while they run.
const WORKSPACE: &str = "work space of ops";

/// Bytes of everything that a training run holds on its device, by category. `tokens` are bytes of
/// the corpus, which like the program count where the device is the CPU.
pub fn plan<E: Element>(dev: &Device, model: &Config, recipe: &Recipe, tokens: u64) -> Plan {
    let (table, slots) = model::params::table(model);
    let [master, copy] = Weights::<E>::bytes(&table);
    let gradients = (table.trained().len() * size_of::<E::Acc>()) as u64;
    let (N, T) = (recipe.tokens_per_batch(), recipe.seq_len);
    let mut plan = Plan::default();
    plan.add("weights", master);
    if copy > 0 {
        plan.add(format!("weights, {} copy", E::NAME), copy);
    }
    plan.add("gradients", gradients);
    plan.add("AdamW's moments", 2 * gradients);
    cache::plan::<E>(&mut plan, dev, model, N, recipe.cache);
    plan.add("decoder for samples", Decoder::<E>::bytes(model, 1, recipe.context));
    let workspace = model::plan::workspace::<E>(dev, &model.dims, (&table, &slots), N, T);
    plan.add(WORKSPACE, workspace);
    if let Device::Cpu(_) = dev {
        plan.add("tokens", tokens);
        plan.add("program", resident_bytes().max(PROGRAM));
    }
    plan
}

/// Allocates on a GPU what `plan` says, at once; the CPU's memory comes as it is written.
///
/// # Errors
/// [`Error::Engine`] with what is needed and what there is.
pub fn reserve(dev: &Device, plan: &Plan) -> Result<(), Error> {
    let Device::Cuda(cuda) = dev else { return Ok(()) };
    let workspace = plan.rows().iter().find(|(name, _)| name == WORKSPACE).map_or(0, |row| row.1);
    Ok(cuda.reserve(plan.total() - workspace, workspace)?)
}
