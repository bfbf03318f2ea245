//! The CPU's ops as a table of functions for each storage type, compiled once, in this crate. Called
//! by name, they would be compiled again for every instruction set in each crate that is generic
//! in the storage type: half a minute a binary.

use super::Cpu;
use super::gemm::{Mat, Onto, gemm};
use crate::arena::Slot;
use crate::element::Element;
use crate::ops::attention::{self, Heads};
use crate::ops::{adamw, bias, embedding, linear, lora, loss, norm, rmsnorm, rope, swiglu};
use crate::segments::Segments;

/// Arguments and meaning are those of the functions of the same name in `ops/*/cpu.rs`.
#[allow(clippy::type_complexity, reason = "the signatures are what it says")]
pub struct Ops<E: Element> {
    pub(crate) adamw_step: fn(
        &Cpu,
        &mut [E::Acc],
        Option<&mut [E]>,
        &mut [E::Acc],
        &mut [E::Acc],
        &[E::Acc],
        f64,
        &[(Slot, f64)],
        adamw::Step,
    ),
    pub(crate) attention_forward: fn(&Cpu, &mut [E], &mut [E::Acc], &[E], &Segments, Heads),
    pub(crate) attention_decode:
        fn(&Cpu, &mut [E], &mut [E], &[E], &Segments, &[usize], Heads, usize),
    pub(crate) attention_backward:
        fn(&Cpu, &mut [E], &[E], &[E], &[E], &[E::Acc], &Segments, Heads),
    pub(crate) bias_forward: fn(&Cpu, &mut [E], &[E]),
    pub(crate) bias_backward: fn(&Cpu, &mut [E::Acc], &[E]),
    pub(crate) embedding_forward: fn(&Cpu, &mut [E], &[u32], &[E], usize),
    pub(crate) embedding_backward: fn(&Cpu, &mut [E::Acc], &[E], &[u32], usize),
    pub(crate) linear_forward: fn(&Cpu, &mut [E], Option<&[E]>, &[E], &[E], usize),
    pub(crate) linear_forward_wide: fn(&Cpu, &mut [E::Acc], Option<&[E::Acc]>, &[E], &[E], usize),
    pub(crate) linear_backward_input: fn(&Cpu, &mut [E], &[E], &[E], usize),
    pub(crate) linear_backward_weight: fn(&Cpu, &mut [E::Acc], &[E], &[E], usize),
    pub(crate) lora_forward: fn(&Cpu, &mut [E], &mut [E], &[E], &[E], &[E], lora::Place, usize),
    pub(crate) lora_backward_input:
        fn(&Cpu, &mut [E], &mut [E], &[E], &[E], &[E], lora::Place, usize),
    pub(crate) lora_backward_b:
        fn(&Cpu, &mut [E::Acc], &mut [E], &[E], &[E], &[E], lora::Place, usize),
    pub(crate) loss: fn(
        &Cpu,
        &mut [E::Acc],
        Option<&mut [i32]>,
        Option<loss::Gradients<E>>,
        &mut [E::Acc],
        &[E],
        &[E],
        &[i32],
        usize,
    ),
    pub(crate) sum_of_squares: fn(&Cpu, &[E::Acc]) -> f64,
    pub(crate) product: fn(&Cpu, &mut [E], Mat<E>, Mat<E>, Onto<E>),
    pub(crate) product_wide: fn(&Cpu, &mut [E::Acc], Mat<E>, Mat<E>, Onto<E::Acc>),
    pub(crate) rmsnorm_forward: fn(&Cpu, &mut [E], &mut [E::Acc], &[E], &[E], f32),
    pub(crate) rmsnorm_apply: fn(&Cpu, &mut [E], &[E], &[E], &[E::Acc]),
    pub(crate) rmsnorm_backward:
        fn(&Cpu, &mut [E], Option<&mut [E::Acc]>, &[E], &[E], &[E], &[E::Acc]),
    pub(crate) rope_rotate: fn(&Cpu, &mut [E], &[E::Acc], &Segments, usize, usize, usize, E::Acc),
    pub(crate) swiglu_forward: fn(&Cpu, &mut [E], &[E], usize),
    pub(crate) swiglu_backward: fn(&Cpu, &mut [E], &[E], usize),
}

impl<E: Element> Ops<E> {
    pub(crate) const fn new() -> Self {
        Ops {
            adamw_step: adamw::cpu::step,
            attention_forward: attention::cpu::forward,
            attention_decode: attention::cpu::decode,
            attention_backward: attention::cpu::backward,
            bias_forward: bias::cpu::forward,
            bias_backward: bias::cpu::backward,
            embedding_forward: embedding::cpu::forward,
            embedding_backward: embedding::cpu::backward,
            linear_forward: linear::cpu::forward,
            linear_forward_wide: linear::cpu::forward,
            linear_backward_input: linear::cpu::backward_input,
            linear_backward_weight: linear::cpu::backward_weight,
            lora_forward: lora::cpu::forward,
            lora_backward_input: lora::cpu::backward_input,
            lora_backward_b: lora::cpu::backward_b,
            loss: loss::cpu::run,
            sum_of_squares: norm::cpu::sum_of_squares,
            product: gemm,
            product_wide: gemm,
            rmsnorm_forward: rmsnorm::cpu::forward,
            rmsnorm_apply: rmsnorm::cpu::apply,
            rmsnorm_backward: rmsnorm::cpu::backward,
            rope_rotate: rope::cpu::rotate,
            swiglu_forward: swiglu::cpu::forward,
            swiglu_backward: swiglu::cpu::backward_inplace,
        }
    }
}
