//! A trainer's weights and state from files and to them.

use std::path::{Path, PathBuf};

use data::tokenizer::Tokenizer;
use engine::Element;

use super::Trainer;
use crate::checkpoint::{Found, State};
use crate::config::Fingerprint;
use crate::error::Error;
use crate::{directory, snapshot};

impl<E: Element<Acc = f32>> Trainer<E> {
    /// The weights of another model of the same sizes, in a Hugging Face directory. It has no adapters:
    /// those are as [`Trainer::init`] leaves them.
    ///
    /// # Errors
    /// [`Error::Weights`] naming file and tensor.
    pub fn init_from(&mut self, dir: &Path) -> Result<(), Error> {
        directory::read_weights(dir, self.model.table(), &mut self.weights)
    }

    /// Saves a checkpoint of the steps taken under `root`, see [`snapshot::save`]. `fingerprint` is
    /// what a run must share to go on from it.
    ///
    /// # Errors
    /// As [`crate::checkpoint::save`].
    pub fn save(&self, root: &Path, fingerprint: &Fingerprint) -> Result<PathBuf, Error> {
        let next_sample = self.steps() * self.recipe.sequences_per_step();
        let state = State {
            step: self.steps(),
            tokens: next_sample * self.recipe.seq_len as u64,
            next_sample,
            fingerprint: fingerprint.clone(),
        };
        snapshot::save(root, &state, self.model.table(), &self.weights, &self.adamw)
    }

    /// Goes back to where a checkpoint was saved.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if it belongs to another model, [`Error::Io`] if it cannot be read.
    pub fn resume(&mut self, found: &Found) -> Result<(), Error> {
        snapshot::restore(found, self.model.table(), &mut self.weights, &mut self.adamw)
    }

    /// Writes the directory that Hugging Face and `generate` load, see [`directory::write`].
    ///
    /// # Errors
    /// If a file cannot be written; each file is then old or new, never half of each.
    pub fn export(&self, out: &Path, tokenizer: Option<&Tokenizer>) -> Result<(), Error> {
        directory::write(out, &self.model, &self.weights, tokenizer)
    }
}
