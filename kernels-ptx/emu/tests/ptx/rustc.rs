//! The source of `rustc.ptx`: the compiler's own idioms (calls, jump tables, local arrays, structures by
//! value), not kernels of any use. rustc 1.96, nvptx64-nvidia-cuda, sm_80, opt-level 3, fat LTO.
#![no_std]
#![feature(abi_ptx, asm_experimental_arch, stdarch_nvptx)]
use core::arch::nvptx::*;
use core::arch::{asm, global_asm};
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! { unsafe { trap() } }
global_asm!(".extern .shared .align 128 .b8 dyn_smem[];");

#[inline(always)]
fn smem() -> *mut f32 {
    let p: *mut f32;
    unsafe { asm!("mov.u64 {t}, dyn_smem;", "cvta.shared.u64 {p}, {t};", t = out(reg64) _, p = out(reg64) p, options(pure, nomem, nostack)); }
    p
}
#[inline(always)]
fn shfl_xor(v: f32, m: u32) -> f32 {
    let r: f32;
    unsafe { asm!("shfl.sync.bfly.b32 {r}, {v}, {m}, 31, 0xffffffff;", r = out(reg32) r, v = in(reg32) v, m = in(reg32) m, options(nostack)); }
    r
}
#[inline(always)]
fn rsqrt(v: f32) -> f32 { let r: f32; unsafe { asm!("rsqrt.approx.f32 {r}, {v};", r = out(reg32) r, v = in(reg32) v, options(pure, nomem, nostack)); } r }
#[inline(always)]
fn ex2(v: f32) -> f32 { let r: f32; unsafe { asm!("ex2.approx.ftz.f32 {r}, {v};", r = out(reg32) r, v = in(reg32) v, options(pure, nomem, nostack)); } r }
#[inline(always)]
fn bf16_of(v: f32) -> u16 { let r: u16; unsafe { asm!("cvt.rn.bf16.f32 {r}, {v};", r = out(reg16) r, v = in(reg32) v, options(pure, nomem, nostack)); } r }

#[unsafe(no_mangle)]
pub unsafe extern "ptx-kernel" fn rmsnorm(y: *mut f32, yb: *mut u16, x: *const f32, w: *const f32, c: u32, eps: f32) {
    unsafe {
        let (t, n, row) = (_thread_idx_x() as usize, _block_dim_x() as usize, _block_idx_x() as usize);
        let c = c as usize;
        let x = x.add(row * c);
        let mut s = 0.0;
        let mut i = t;
        while i < c { let v = *x.add(i); s += v * v; i += n; }
        let mut m = 16;
        while m > 0 { s += shfl_xor(s, m); m /= 2; }
        let sm = smem();
        if t % 32 == 0 { *sm.add(t / 32) = s; }
        _syncthreads();
        let mut tot = 0.0;
        for k in 0..n / 32 { tot += *sm.add(k); }
        let r = rsqrt(tot / c as f32 + eps);
        let mut i = t;
        while i < c { let v = *x.add(i) * r * *w.add(i); *y.add(row * c + i) = v; *yb.add(row * c + i) = bf16_of(v); i += n; }
    }
}
#[unsafe(no_mangle)]
pub unsafe extern "ptx-kernel" fn swiglu(y: *mut f32, g: *const f32, u: *const f32, n: u32) {
    unsafe {
        let i = (_thread_idx_x() + _block_dim_x() * _block_idx_x()) as usize;
        if i < n as usize { let a = *g.add(i); let s = 1.0 / (1.0 + ex2(-a * core::f32::consts::LOG2_E)); *y.add(i) = a * s * *u.add(i); }
    }
}
#[repr(C)] #[derive(Clone, Copy)]
pub struct Par { a: u32, b: f32, c: [u16; 6], p: *mut u32 }
#[inline(never)]
fn digits(mut n: u64, out: &mut [u8; 20]) -> usize { let mut k = 0; loop { out[k] = (n % 10) as u8; n /= 10; k += 1; if n == 0 { return k; } } }
static TAB: [u32; 8] = [3, 1, 4, 1, 5, 9, 2, 6];
#[unsafe(no_mangle)]
pub unsafe extern "ptx-kernel" fn misc(p: Par, n: u64) {
    unsafe {
        let t = _thread_idx_x();
        let mut b = [0u8; 20];
        let k = digits(n + t as u64 * 12345, &mut b);
        let mut s = 0u32;
        for i in 0..k { s += b[i] as u32 * TAB[(t as usize + i) % 8] + p.c[i % 6] as u32; }
        let q = match (t + p.a) % 11 { 0 => s.leading_zeros(), 1 => s.count_ones(), 2 => s.rotate_left(t), 3 => s.swap_bytes(), 4 => s.reverse_bits(), 5 => (s as f32 * p.b) as u32, 6 => ((s as i32).wrapping_neg() >> 3) as u32, 7 => (s as i16 as i32 / 7) as u32, 8 => s.trailing_zeros(), 9=> ((s as u64 * n) >> 32) as u32, _ => s.saturating_sub(100) };
        *p.p.add(t as usize) = q;
    }
}
