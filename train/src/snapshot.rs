//! Weights and moments as the tensors of a checkpoint, and back.
//!
//! ```
//! use engine::Device;
//! use model::weights::Weights;
//! use model::{Config, init, table};
//! use optim::{AdamW, adamw::Settings};
//! use train::checkpoint::{State, latest};
//! use train::snapshot;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let root = dir.path();
//! let (dev, (table, _)) = (Device::cpu(1)?, table(&Config::stories_260k()));
//! let mut weights = Weights::<f32>::zeros(&dev, &table);
//! init::fill(&dev, &mut weights, &table, 1);
//! let mut adamw = AdamW::<f32>::new(&dev, &table, Settings::default());
//! snapshot::save(root, &State { step: 7, ..State::default() }, &table, &weights, &adamw)?;
//!
//! let mut read = Weights::<f32>::zeros(&dev, &table);
//! snapshot::restore(&latest(root)?.require(root)?, &table, &mut read, &mut adamw)?;
//! assert_eq!(read.view().read()?, weights.view().read()?);
//! assert_eq!(adamw.steps(), 7);
//! # Ok(())
//! # }
//! ```

use std::path::{Path, PathBuf};

use engine::arena::Row;
use engine::{Element, Slot, Table};
use model::weights::{Kept, Weights};
use optim::AdamW;

use crate::checkpoint::{self, Found, State, Tensor, Values, ValuesMut};
use crate::error::Error;

const WEIGHTS: &str = "weights.safetensors";
const MOMENTS: &str = "optimizer.safetensors";

/// Saves weights and moments under `root`. See [`checkpoint::save`].
///
/// # Errors
/// As [`checkpoint::save`]: if a number is not finite, the last good checkpoint stays the newest.
pub fn save<E: Element<Acc = f32>>(
    root: &Path,
    state: &State,
    table: &Table,
    weights: &Weights<E>,
    optimizer: &AdamW<E>,
) -> Result<PathBuf, Error> {
    let ((m, v), trained) = (optimizer.moments(), &table.trained());
    let kept = |slot| match weights.kept(slot) {
        Kept::Wide(values) => Values::F32(values),
        Kept::Narrow(values) => Values::Bf16(values.same()),
    };
    let weights = tensors(table, "", kept).collect();
    let moments = tensors(trained, "m.", |slot| Values::F32(m.get(slot)));
    let moments = moments.chain(tensors(trained, "v.", |slot| Values::F32(v.get(slot)))).collect();
    checkpoint::save(root, state, &[(WEIGHTS, weights), (MOMENTS, moments)])
}

/// The rows of `table` with their names in a file.
fn rows<'a>(table: &'a Table, prefix: &'a str) -> impl Iterator<Item = (String, &'a Row)> {
    table.rows().iter().map(move |row| (format!("{prefix}{}", row.name), row))
}

fn tensors<'a>(
    table: &'a Table,
    prefix: &'a str,
    values: impl Fn(Slot) -> Values<'a>,
) -> impl Iterator<Item = Tensor<'a>> {
    rows(table, prefix).map(move |(name, row)| Tensor {
        name,
        shape: row.shape.clone(),
        values: values(row.slot),
    })
}

/// Reads back what [`save`] wrote.
///
/// # Errors
/// [`Error::Checkpoint`] if it belongs to another model, [`Error::Io`] if it cannot be read.
pub fn restore<E: Element<Acc = f32>>(
    found: &Found,
    table: &Table,
    weights: &mut Weights<E>,
    optimizer: &mut AdamW<E>,
) -> Result<(), Error> {
    for (name, row) in rows(table, "") {
        let to = match weights.kept_mut(row.slot) {
            Kept::Wide(values) => ValuesMut::F32(values),
            Kept::Narrow(values) => ValuesMut::Bf16(values.same()),
        };
        found.read(WEIGHTS, &name, &row.shape, to)?;
    }
    weights.refresh()?;
    let (trained, (m, v)) = (&table.trained(), optimizer.restore(found.state().step));
    for (prefix, arena) in [("m.", m), ("v.", v)] {
        for (name, row) in rows(trained, prefix) {
            found.read(MOMENTS, &name, &row.shape, ValuesMut::F32(arena.get_mut(row.slot)))?;
        }
    }
    Ok(())
}
