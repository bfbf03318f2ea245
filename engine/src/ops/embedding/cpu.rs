use crate::cpu::Cpu;
use crate::element::Element;
use rayon::prelude::*;

/// Rows in a task.
const ROWS: usize = 64;
/// Parts of the vocabulary that are summed side by side.
const PARTS: usize = 16;

pub fn forward<E: Element>(cpu: &Cpu, x_NC: &mut [E], tokens_N: &[u32], w_VC: &[E], C: usize) {
    cpu.install(|| {
        let tasks = x_NC.par_chunks_mut(ROWS * C).zip(tokens_N.par_chunks(ROWS));
        tasks.for_each(|(x, tokens)| {
            for (x, &id) in x.chunks_exact_mut(C).zip(tokens) {
                x.copy_from_slice(&w_VC[id as usize * C..][..C]);
            }
        })
    });
}

pub fn backward<E: Element>(
    cpu: &Cpu,
    dw_acc_VC: &mut [E::Acc],
    dx_NC: &[E],
    tokens_N: &[u32],
    C: usize,
) {
    let part = (dw_acc_VC.len() / C).div_ceil(PARTS);
    cpu.install(|| {
        dw_acc_VC.par_chunks_mut(part * C).enumerate().for_each(|(p, dw)| {
            let rows = dw.len() / C;
            for (dx, &id) in dx_NC.chunks_exact(C).zip(tokens_N) {
                let row = (id as usize).wrapping_sub(p * part);
                if row < rows {
                    let dw = &mut dw[row * C..][..C];
                    for i in 0..C {
                        dw[i] += dx[i].to_acc();
                    }
                }
            }
        })
    });
}
