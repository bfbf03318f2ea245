use crate::cpu::Cpu;
use crate::cpu::gemm::{Mat, Onto, gemm};
use crate::element::Element;

pub fn forward<E: Element>(
    cpu: &Cpu,
    y_NO: &mut [E],
    r_NO: Option<&[E]>,
    x_NI: &[E],
    w_OI: &[E],
    I: usize,
) {
    gemm(
        cpu,
        y_NO,
        Mat::new(x_NI, I),
        Mat::new(w_OI, I).t(),
        r_NO.map_or(Onto::Zero, Onto::Addend),
    );
}

pub fn backward<E: Element>(
    cpu: &Cpu,
    dx_NI: &mut [E],
    dw_acc_OI: &mut [E::Acc],
    dy_NO: &[E],
    x_NI: &[E],
    w_OI: &[E],
    I: usize,
) {
    let dy_NO = Mat::new(dy_NO, w_OI.len() / I);
    gemm(cpu, dx_NI, dy_NO, Mat::new(w_OI, I), Onto::Zero);
    gemm(cpu, dw_acc_OI, dy_NO.t(), Mat::new(x_NI, I), Onto::Itself);
}
