//! Weights that forward and backward read, and, where storage is narrower than sums, the master
//! weights of what is trained. Frozen parameters have none: they are as they are stored.
//!
//! ```
//! use engine::{Device, bf16};
//! use model::weights::Weights;
//! use model::{Config, init, table};
//!
//! let (dev, (table, slots)) = (Device::cpu(1).unwrap(), table(&Config::stories_260k()));
//! let mut weights = Weights::<bf16>::zeros(&dev, &table);
//! init::fill(&dev, &mut weights, &table, 1);
//! // Master weights are f32; what forward reads is their copy.
//! weights.refresh().unwrap();
//! let (wide, narrow) = (weights.get(slots.embed).unwrap(), weights.view().range(slots.embed.range()));
//! assert_eq!(narrow.read().unwrap()[0], bf16::from_f32(wide[0]));
//! ```

use engine::{Arena, Device, Element, Error, Slot, Table, View, ViewMut};
use std::borrow::Cow;

/// A parameter in the precision of sums, or, frozen, as narrow as it is stored.
#[derive(Clone, Copy, Debug)]
pub enum Kept<W, N> {
    /// In the precision of sums.
    Wide(W),
    /// As it is stored.
    Narrow(N),
}

/// One model's weights.
pub struct Weights<E: Element> {
    /// Trained parameters in the precision of sums; all, where there is no copy.
    master: Arena<E::Acc>,
    /// All parameters, where storage is narrower.
    copy: Option<Arena<E>>,
    /// Elements of an arena over trained parameters.
    trained: usize,
}

impl<E: Element> Weights<E> {
    /// Zeros.
    pub fn zeros(dev: &Device, table: &Table) -> Self {
        let (narrow, trained) = (E::DTYPE != E::Acc::DTYPE, table.trained());
        let copy = || Arena::zeros(&dev.under(&format!("weights, {} copy", E::NAME)), table);
        Weights {
            master: Arena::zeros(&dev.under("weights"), if narrow { &trained } else { table }),
            copy: narrow.then(copy),
            trained: trained.len(),
        }
    }

    /// In the precision of sums: what is trained; everything, where storage is as wide.
    pub fn master(&self) -> &Arena<E::Acc> {
        &self.master
    }

    /// To fill; call [`Weights::refresh`] after.
    pub fn master_mut(&mut self) -> &mut Arena<E::Acc> {
        &mut self.master
    }

    /// A parameter, widened if it is frozen and stored narrow.
    ///
    /// # Errors
    /// [`Error::Device`] with what went wrong on a GPU, here or before.
    pub fn get(&self, slot: Slot) -> Result<Cow<'_, [E::Acc]>, Error> {
        match self.kept(slot) {
            Kept::Wide(values) => values.read(),
            Kept::Narrow(values) => {
                Ok(Cow::Owned(values.read()?.iter().map(|x| x.to_acc()).collect()))
            }
        }
    }

    /// Lets `write` set every element of a parameter; a frozen one is rounded to its storage. Call
    /// [`Weights::refresh`] after.
    pub fn fill_with<R>(&mut self, slot: Slot, write: impl FnOnce(&mut [E::Acc]) -> R) -> R {
        match self.kept_mut(slot) {
            Kept::Wide(values) => values.fill_with(write),
            Kept::Narrow(values) => {
                let mut wide = vec![E::Acc::default(); slot.len()];
                let result = write(&mut wide);
                values.fill_with(|stored| {
                    stored.iter_mut().zip(&wide).for_each(|(to, &x)| *to = E::from_acc(x));
                });
                result
            }
        }
    }

    /// Where a parameter is kept.
    pub fn kept(&self, slot: Slot) -> Kept<View<'_, E::Acc>, View<'_, E>> {
        match &self.copy {
            Some(copy) if !slot.is_trained() => Kept::Narrow(copy.get(slot)),
            _ => Kept::Wide(self.master.get(slot)),
        }
    }

    /// Where a parameter is kept, to write; call [`Weights::refresh`] after.
    pub fn kept_mut(&mut self, slot: Slot) -> Kept<ViewMut<'_, E::Acc>, ViewMut<'_, E>> {
        match &mut self.copy {
            Some(copy) if !slot.is_trained() => Kept::Narrow(copy.get_mut(slot)),
            _ => Kept::Wide(self.master.get_mut(slot)),
        }
    }

    /// Hands a parameter's elements to `each`, as [`View::read_parts`] does; widened, if it is kept
    /// narrow.
    ///
    /// # Errors
    /// As [`View::read_parts`].
    pub fn read_parts<F: From<Error>>(
        &self,
        slot: Slot,
        mut each: impl FnMut(usize, &[E::Acc]) -> Result<(), F>,
    ) -> Result<(), F> {
        let mut wide = Vec::new();
        match self.kept(slot) {
            Kept::Wide(values) => values.read_parts(each),
            Kept::Narrow(values) => values.read_parts(|first, values| {
                wide.clear();
                wide.extend(values.iter().map(|x| x.to_acc()));
                each(first, &wide)
            }),
        }
    }

    /// Lets `fill` set a parameter's elements, as [`ViewMut::fill_parts`] does; rounded, if it is kept
    /// narrow. Call [`Weights::refresh`] after.
    ///
    /// # Errors
    /// As [`ViewMut::fill_parts`].
    pub fn fill_parts<F>(
        &mut self,
        slot: Slot,
        mut fill: impl FnMut(usize, &mut [E::Acc]) -> Result<(), F>,
    ) -> Result<(), F> {
        let mut wide = Vec::new();
        match self.kept_mut(slot) {
            Kept::Wide(values) => values.fill_parts(fill),
            Kept::Narrow(values) => values.fill_parts(|first, values| {
                wide.resize(values.len(), E::Acc::default());
                fill(first, &mut wide)?;
                values.iter_mut().zip(&wide).for_each(|(to, &x)| *to = E::from_acc(x));
                Ok(())
            }),
        }
    }

    /// Brings the copy up to date with the master weights.
    ///
    /// # Errors
    /// [`Error::Device`] with what went wrong on a GPU, here or before.
    pub fn refresh(&mut self) -> Result<(), Error> {
        let (trained, Some(copy)) = (self.trained, &mut self.copy) else { return Ok(()) };
        let mut narrow = Vec::new();
        self.master.view().read_parts(|first, values| {
            narrow.clear();
            narrow.extend(values.iter().map(|&value| E::from_acc(value)));
            copy.first_mut(trained).range(first..first + values.len()).write(&narrow);
            Ok(())
        })
    }

    /// What forward and backward read.
    pub fn view(&self) -> View<'_, E> {
        match &self.copy {
            Some(copy) => copy.view(),
            None => self.master.view().same(),
        }
    }

    /// What is trained: master weights and copy, for the optimizer, which writes both in one pass.
    pub fn trained_mut(&mut self) -> (ViewMut<'_, E::Acc>, Option<ViewMut<'_, E>>) {
        let copy = self.copy.as_mut().map(|copy| copy.first_mut(self.trained));
        (self.master.first_mut(self.trained), copy)
    }
}
