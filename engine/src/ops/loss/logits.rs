//! Room for the logits of a chunk of rows: how many, in which type, how far apart.

use super::{chunk_rows, cuda};
use crate::{Buf, Device, Element, Real};

/// Logits of some rows at a time, then their gradient. On the CPU they are f32, which its cache
/// makes free; on a GPU they have the run's type and rows that start at whole lines of memory,
/// whatever V is. What lies between the rows there is never looked at.
pub struct Logits<E: Element> {
    rows: usize,
    V: usize,
    room: Room<E>,
}

enum Room<E: Element> {
    Cpu(Buf<E::Acc>),
    Cuda(Buf<E>),
}

impl<E: Element> Logits<E> {
    /// For losses of up to `N` rows, in chunks of [`chunk_rows`].
    pub fn new(dev: &Device, N: usize, V: usize) -> Self {
        Self::of_rows(dev, chunk_rows::<E>(dev, N, V), V)
    }

    /// For losses in chunks of `rows`.
    pub fn of_rows(dev: &Device, rows: usize, V: usize) -> Self {
        let (dev, len) = (&dev.under("logits, one chunk"), rows * stride::<E>(dev, V));
        let room = match dev {
            Device::Cpu(_) => Room::Cpu(Buf::zeros(dev, len)),
            Device::Cuda(_) => Room::Cuda(Buf::zeros(dev, len)),
        };
        Logits { rows, V, room }
    }

    /// Rows of a chunk.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn V(&self) -> usize {
        self.V
    }

    /// Fills it with NaN, so that a read before a write shows.
    pub fn poison(&mut self) {
        let nan = E::Acc::from_f64(f64::NAN);
        match &mut self.room {
            Room::Cpu(buf) => buf.view_mut().fill(nan),
            Room::Cuda(buf) => buf.view_mut().fill(E::from_acc(nan)),
        }
    }

    /// On the CPU: rows of V without gaps.
    pub(super) fn host(&mut self) -> &mut [E::Acc] {
        match &mut self.room {
            Room::Cpu(buf) => buf.view_mut().host(),
            Room::Cuda(_) => panic!("loss: these logits are on a GPU"),
        }
    }

    /// The address on a GPU of rows [`cuda::stride`] apart.
    pub(super) fn gpu(&mut self) -> *mut E {
        match &mut self.room {
            Room::Cpu(_) => panic!("loss: these logits are on the CPU"),
            Room::Cuda(buf) => buf.view_mut().gpu(),
        }
    }
}

/// Elements from one row to the next.
fn stride<E: Element>(dev: &Device, V: usize) -> usize {
    match dev {
        Device::Cpu(_) => V,
        Device::Cuda(_) => cuda::stride::<E>(V),
    }
}
