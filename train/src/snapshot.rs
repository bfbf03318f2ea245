//! Weights and moments as the tensors of a checkpoint, and back.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use engine::arena::Row;
use engine::{Element, Slot, Table};
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
        let values = weights.get(row.slot)?;
        if let Some(i) = values.iter().position(|x| !x.is_finite()) {
            let what = format!("{} is {} at element {i}", row.name, values[i]);
            return Err(Error::Diverged { step: state.step, what });
        }
    }
    let ((m, v), trained) = (optimizer.moments(), &table.trained());
    let mut moments = tensors(trained, |slot| m.get(slot).read(), "m.")?;
    moments.extend(tensors(trained, |slot| v.get(slot).read(), "v.")?);
    let weights = tensors(table, |slot| weights.get(slot), "")?;
    checkpoint::save(root, state, &[(WEIGHTS, weights), (MOMENTS, moments)])
}

fn tensors<'a>(
    table: &Table,
    values: impl Fn(Slot) -> Result<Cow<'a, [f32]>, engine::Error>,
    prefix: &str,
) -> Result<Vec<Tensor<'a>>, Error> {
    let tensor = |row: &Row| {
        let bytes = match values(row.slot)? {
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
    for row in table.rows() {
        weights.fill_with(row.slot, |values| read(found, WEIGHTS, "", row, values))?;
    }
    weights.refresh()?;
    let (m, v) = optimizer.restore(found.state().step);
    for row in table.trained().rows() {
        m.get_mut(row.slot).fill_with(|values| read(found, MOMENTS, "m.", row, values))?;
        v.get_mut(row.slot).fill_with(|values| read(found, MOMENTS, "v.", row, values))?;
    }
    Ok(())
}

fn read(
    found: &mut Found,
    file: &str,
    prefix: &str,
    row: &Row,
    values: &mut [f32],
) -> Result<(), Error> {
    let name = format!("{prefix}{}", row.name);
    found.read(file, &name, Dtype::F32, &row.shape, bytemuck::cast_slice_mut(values))
}
