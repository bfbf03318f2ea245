//! Weights and moments as the tensors of a checkpoint, and back.

use std::path::{Path, PathBuf};

use engine::arena::Row;
use engine::{Arena, Element, Table};
use model::weights::Weights;
use optim::AdamW;

use crate::checkpoint::{self, Found, State, Tensor};
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
    let (m, v) = optimizer.moments();
    let weights = tensors(table, weights.master(), "").collect();
    let moments = tensors(table, m, "m.").chain(tensors(table, v, "v.")).collect();
    checkpoint::save(root, state, &[(WEIGHTS, weights), (MOMENTS, moments)])
}

/// The rows of `table` with their names in a file.
fn rows<'a>(table: &'a Table, prefix: &'a str) -> impl Iterator<Item = (String, &'a Row)> {
    table.rows().iter().map(move |row| (format!("{prefix}{}", row.name), row))
}

fn tensors<'a>(
    table: &'a Table,
    arena: &'a Arena<f32>,
    prefix: &'a str,
) -> impl Iterator<Item = Tensor<'a>> {
    rows(table, prefix).map(|(name, row)| Tensor {
        name,
        shape: row.shape.clone(),
        values: arena.get(row.slot),
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
    read(found, WEIGHTS, "", table, weights.master_mut())?;
    weights.refresh()?;
    let (m, v) = optimizer.restore(found.state().step);
    read(found, MOMENTS, "m.", table, m)?;
    read(found, MOMENTS, "v.", table, v)
}

fn read(
    found: &Found,
    file: &str,
    prefix: &str,
    table: &Table,
    arena: &mut Arena<f32>,
) -> Result<(), Error> {
    for (name, row) in rows(table, prefix) {
        found.read(file, &name, &row.shape, arena.get_mut(row.slot))?;
    }
    Ok(())
}
