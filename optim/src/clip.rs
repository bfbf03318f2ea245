//! Clipping by the global L2 norm. Gradients are not touched: AdamW multiplies by the factor in
//! the pass that reads them anyway, and takes the norm from where it was computed.
//!
//! ```
//! use engine::{Arena, Device, Init, Table};
//! use optim::GlobalNorm;
//!
//! let dev = &Device::cpu(1).unwrap();
//! let (table, _) = Table::list(|table| table.push("w", &[4], Init::Zeros));
//! let mut grads = Arena::<f32>::zeros(dev, &table);
//! grads.view_mut().fill(3.0);
//! let mut norm = GlobalNorm::new(dev);
//! norm.measure(dev, &grads);
//! assert_eq!(norm.read().unwrap(), 6.0);
//! ```

use engine::ops::norm;
use engine::{Arena, Buf, Device, Error, Real, View};

/// The norm of all gradients together.
pub struct GlobalNorm {
    sum_1: Buf<f64>,
}

impl GlobalNorm {
    /// Of nothing yet.
    pub fn new(dev: &Device) -> Self {
        GlobalNorm { sum_1: Buf::zeros(dev, 1) }
    }

    /// Takes the norm of `grads`.
    pub fn measure<R: Real>(&mut self, dev: &Device, grads: &Arena<R>) {
        norm::sum_of_squares(dev, self.sum_1.view_mut(), grads.view());
    }

    /// The norm that was taken last.
    ///
    /// # Errors
    /// [`Error::Device`] with what went wrong on a GPU, here or before.
    pub fn read(&self) -> Result<f64, Error> {
        Ok(self.sum_1.view().read()?[0].sqrt())
    }

    pub(crate) fn sum_of_squares(&self) -> View<'_, f64> {
        self.sum_1.view()
    }
}
