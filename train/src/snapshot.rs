//! Weights and moments as the tensors of a checkpoint, and back.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use engine::{Arena, Element, Table};
use model::weights::Weights;
use optim::AdamW;
use safetensors::Dtype;

use crate::checkpoint::{self, Found, State, Tensor};
use crate::error::Error;

const WEIGHTS: &str = "weights.safetensors";
const MOMENTS: &str = "optimizer.safetensors";

/// Saves weights and moments under `root`. See [`checkpoint::save`].
///
/// # Errors
/// [`Error::Diverged`] if a weight is not finite: the last good checkpoint stays the newest.
/// Otherwise as [`checkpoint::save`].
pub fn save<E: Element<Acc = f32>>(
    root: &Path,
    state: &State,
    table: &Table,
    weights: &Weights<E>,
    optimizer: &AdamW<E>,
) -> Result<PathBuf, Error> {
    for row in table.rows() {
        let values = weights.master().get(row.slot).read()?;
        if let Some(i) = values.iter().position(|x| !x.is_finite()) {
            let what = format!("{} is {} at element {i}", row.name, values[i]);
            return Err(Error::Diverged { step: state.step, what });
        }
    }
    let (m, v) = optimizer.moments();
    let mut moments = tensors(table, m, "m.")?;
    moments.extend(tensors(table, v, "v.")?);
    let weights = tensors(table, weights.master(), "")?;
    checkpoint::save(root, state, &[(WEIGHTS, weights), (MOMENTS, moments)])
}

fn tensors<'a>(
    table: &Table,
    arena: &'a Arena<f32>,
    prefix: &str,
) -> Result<Vec<Tensor<'a>>, Error> {
    let tensor = |row: &engine::arena::Row| {
        let bytes = match arena.get(row.slot).read()? {
            Cow::Borrowed(values) => Cow::Borrowed(bytemuck::cast_slice(values)),
            Cow::Owned(values) => Cow::Owned(bytemuck::pod_collect_to_vec(&values)),
        };
        let (name, shape) = (format!("{prefix}{}", row.name), row.shape.clone());
        Ok(Tensor { name, dtype: Dtype::F32, shape, bytes })
    };
    table.rows().iter().map(tensor).collect()
}

/// Reads back what [`save`] wrote.
///
/// # Errors
/// [`Error::Checkpoint`] if it belongs to another model, [`Error::Io`] if it cannot be read.
pub fn restore<E: Element<Acc = f32>>(
    found: &mut Found,
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
    found: &mut Found,
    file: &str,
    prefix: &str,
    table: &Table,
    arena: &mut Arena<f32>,
) -> Result<(), Error> {
    for row in table.rows() {
        let name = format!("{prefix}{}", row.name);
        arena.get_mut(row.slot).fill_with(|values| {
            let bytes = bytemuck::cast_slice_mut(values);
            found.read(file, &name, Dtype::F32, &row.shape, bytes)
        })?;
    }
    Ok(())
}
