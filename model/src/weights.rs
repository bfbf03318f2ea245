//! Master weights, and the narrower copy that forward and backward read where storage is bf16.

use engine::{Arena, Device, Element, Error, Table, View, ViewMut};

/// One model's weights.
pub struct Weights<E: Element> {
    master: Arena<E::Acc>,
    copy: Option<Arena<E>>,
}

impl<E: Element> Weights<E> {
    /// Zeros.
    pub fn zeros(dev: &Device, table: &Table) -> Self {
        let narrow = E::DTYPE != E::Acc::DTYPE;
        Weights { master: Arena::zeros(dev, table), copy: narrow.then(|| Arena::zeros(dev, table)) }
    }

    /// What optimizer and files know.
    pub fn master(&self) -> &Arena<E::Acc> {
        &self.master
    }

    /// To fill; call [`Weights::refresh`] after.
    pub fn master_mut(&mut self) -> &mut Arena<E::Acc> {
        &mut self.master
    }

    /// Brings the copy up to date with the master weights.
    ///
    /// # Errors
    /// [`Error::Device`] with what went wrong on a GPU, here or before.
    pub fn refresh(&mut self) -> Result<(), Error> {
        let Some(copy) = &mut self.copy else { return Ok(()) };
        let mut narrow = Vec::new();
        self.master.view().read_parts(|first, values| {
            narrow.clear();
            narrow.extend(values.iter().map(|&value| E::from_acc(value)));
            copy.view_mut().range(first..first + values.len()).write(&narrow);
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

    /// Master weights and copy, for the optimizer, which writes both in one pass.
    pub fn both_mut(&mut self) -> (ViewMut<'_, E::Acc>, Option<ViewMut<'_, E>>) {
        (self.master.view_mut(), self.copy.as_mut().map(Arena::view_mut))
    }
}
