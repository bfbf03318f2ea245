//! A linear layer, listed once: where its weight lies, how wide it is, how ranks share it. The block
//! computes with it; memory plans, profiles and error messages ask it.

use engine::ops::linear;
use engine::{Arena, Device, Element, Slot, View, ViewMut};

/// How tensor-parallel ranks share a weight.
/// Source: Shoeybi et al. 2019, arXiv:1909.08053, section 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// By outputs: each rank has whole inputs and computes outputs of its own. Forward needs nothing
    /// of the others; in backward each has a part of the sum that dx is.
    Outputs,
    /// By inputs: each rank has inputs of its own, and a part of the sum that y is. Backward needs
    /// nothing of the others.
    Inputs,
}

/// y_NO = x_NI W^T.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Projection {
    /// What profiles and messages call it.
    pub name: &'static str,
    /// Where W lies: O rows of I.
    pub weight: Slot,
    /// Inputs.
    pub I: usize,
    /// Outputs.
    pub O: usize,
    /// How ranks share it.
    pub split: Split,
}

impl Projection {
    /// Rows, inner dimension and columns of its products over `N` rows: y, dx and dW.
    pub fn products(&self, N: usize) -> [[usize; 3]; 3] {
        let (I, O) = (self.I, self.O);
        [[N, I, O], [N, O, I], [O, N, I]]
    }

    fn w<'a, E: Element>(&self, weights: View<'a, E>) -> View<'a, E> {
        weights.range(self.weight.range())
    }

    /// y_NO = x_NI W^T.
    pub(crate) fn forward<E: Element>(
        &self,
        dev: &Device,
        y_NO: ViewMut<E>,
        x_NI: View<E>,
        weights: View<E>,
    ) {
        linear::forward(dev, y_NO, x_NI, self.w(weights), self.I, self.name);
    }

    /// y_NO = r_NO + x_NI W^T. One call, because one rank has all inputs: where ranks share them
    /// ([`Split::Inputs`]), `forward` comes first, then the sum over ranks, and r joins only that.
    pub(crate) fn forward_residual<E: Element>(
        &self,
        dev: &Device,
        y_NO: ViewMut<E>,
        r_NO: View<E>,
        x_NI: View<E>,
        weights: View<E>,
    ) {
        linear::forward_residual(dev, y_NO, r_NO, x_NI, self.w(weights), self.I, self.name);
    }

    /// y_NO = x_NI W^T in the precision of sums.
    pub(crate) fn forward_wide<E: Element>(
        &self,
        dev: &Device,
        y_NO: ViewMut<E::Acc>,
        x_NI: View<E>,
        weights: View<E>,
    ) {
        linear::forward_wide(dev, y_NO, x_NI, self.w(weights), self.I, self.name);
    }

    /// dx_NI = dy_NO W. With [`Split::Outputs`], ranks sum dx while they compute dW.
    pub(crate) fn backward_input<E: Element>(
        &self,
        dev: &Device,
        dx_NI: ViewMut<E>,
        dy_NO: View<E>,
        weights: View<E>,
    ) {
        linear::backward_input(dev, dx_NI, dy_NO, self.w(weights), self.I, self.name);
    }

    /// Adds dy_NO^T x_NI to the weight's place in `grads`.
    pub(crate) fn backward_weight<E: Element>(
        &self,
        dev: &Device,
        grads: &mut Arena<E::Acc>,
        dy_NO: View<E>,
        x_NI: View<E>,
    ) {
        let dw_acc_OI = grads.get_mut(self.weight);
        linear::backward_weight(dev, dw_acc_OI, dy_NO, x_NI, self.I, self.name);
    }
}
