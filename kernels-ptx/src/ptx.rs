//! The machine: its registers and instructions, one function each, and rows of memory as vectors.
//! Source: PTX ISA 8.x. Every function here must be reached by whole warps unless it says so.

use crate::math::{Bf16, high, low};
use core::arch::asm;

unsafe extern "C" {
    #[link_name = "llvm.nvvm.barrier.cta.sync.aligned.all"]
    safe fn barrier_all(id: u32);
    #[link_name = "llvm.nvvm.shfl.sync.bfly.i32"]
    safe fn shfl_bfly(mask: u32, x: u32, lane: u32, clamp: u32) -> u32;
    #[link_name = "llvm.nvvm.shfl.sync.idx.i32"]
    safe fn shfl_idx(mask: u32, x: u32, lane: u32, clamp: u32) -> u32;
    #[link_name = "llvm.fma.f32"]
    safe fn llvm_fma(a: f32, b: f32, c: f32) -> f32;
    #[link_name = "llvm.fma.f64"]
    safe fn llvm_fma64(a: f64, b: f64, c: f64) -> f64;
    #[link_name = "llvm.maxnum.f32"]
    safe fn llvm_max(a: f32, b: f32) -> f32;
    #[link_name = "llvm.nvvm.read.ptx.sreg.tid.x"]
    safe fn tid_x() -> u32;
    #[link_name = "llvm.nvvm.read.ptx.sreg.ntid.x"]
    safe fn ntid_x() -> u32;
    #[link_name = "llvm.nvvm.read.ptx.sreg.ctaid.x"]
    safe fn ctaid_x() -> u32;
    #[link_name = "llvm.nvvm.read.ptx.sreg.ctaid.y"]
    safe fn ctaid_y() -> u32;
    #[link_name = "llvm.nvvm.read.ptx.sreg.ctaid.z"]
    safe fn ctaid_z() -> u32;
    #[link_name = "llvm.nvvm.read.ptx.sreg.nctaid.x"]
    safe fn nctaid_x() -> u32;
}

/// Threads of a warp.
pub const WARP: u32 = 32;
const ALL: u32 = 0xffff_ffff;

/// Index of the thread in its block.
#[inline(always)]
pub fn thread() -> u32 {
    tid_x()
}
/// Threads of a block.
#[inline(always)]
pub fn threads() -> u32 {
    ntid_x()
}
/// Lane in the warp.
#[inline(always)]
pub fn lane() -> u32 {
    tid_x() % WARP
}
/// Warp in the block.
#[inline(always)]
pub fn warp() -> u32 {
    tid_x() / WARP
}
/// As [`warp`], in a form that the assembler knows to be the same in every lane, so that branches on
/// it and addresses from it cost nothing. Whole warps only.
#[inline(always)]
pub fn uniform_warp() -> u32 {
    shfl_idx(ALL, warp(), 0, 31)
}
/// Index of the block.
#[inline(always)]
pub fn block() -> u32 {
    ctaid_x()
}
/// Second index of the block.
#[inline(always)]
pub fn block_y() -> u32 {
    ctaid_y()
}
/// Third index of the block.
#[inline(always)]
pub fn block_z() -> u32 {
    ctaid_z()
}
/// As [`block_z`], read anew.
#[inline(always)]
pub fn block_z_again() -> u32 {
    let z;
    // SAFETY: a move.
    unsafe { asm!("mov.u32 {}, %ctaid.z;", out(reg32) z, options(nomem, nostack, preserves_flags)) }
    z
}
/// Blocks along the first index.
#[inline(always)]
pub fn blocks() -> u32 {
    nctaid_x()
}
/// Index of the thread in the grid's first dimension.
#[inline(always)]
pub fn global_thread() -> usize {
    block() as usize * threads() as usize + thread() as usize
}

/// Waits for the block's threads; shared memory written before is seen after.
#[inline(always)]
pub fn barrier() {
    barrier_all(0);
}

/// How many of `blocks` blocks with `shared_bytes` of dynamic shared memory each (the device keeps
/// one KiB a block) fit on a multiprocessor of the target: what [`launch_bounds`] should ask for.
pub const fn fitting(blocks: u32, shared_bytes: u32) -> u32 {
    const KIB: u32 = if cfg!(sm_80) { 164 } else { 228 };
    let fit = KIB * 1024 / (shared_bytes + 1024);
    if blocks < fit { blocks } else { fit }
}

/// Bounds for the register allocator: blocks of at most THREADS, of which BLOCKS shall fit on a
/// multiprocessor. The build script moves them to the kernel's entry.
#[inline(always)]
pub fn launch_bounds<const THREADS: u32, const BLOCKS: u32>() {
    // SAFETY: a comment.
    unsafe {
        asm!("// launch bounds: .maxntid {}, 1, 1 .minnctapersm {}", const THREADS, const BLOCKS,
            options(nomem, nostack, preserves_flags))
    }
}

// ---- arithmetic

/// a * b + c, rounded once.
#[inline(always)]
pub fn fma(a: f32, b: f32, c: f32) -> f32 {
    llvm_fma(a, b, c)
}
/// a * b + c, rounded once.
#[inline(always)]
pub fn fma64(a: f64, b: f64, c: f64) -> f64 {
    llvm_fma64(a, b, c)
}
/// The larger; the other where one is NaN.
#[inline(always)]
pub fn max(a: f32, b: f32) -> f32 {
    llvm_max(a, b)
}

macro_rules! unary {
    ($(#[$doc:meta] $name:ident = $instruction:literal)*) => {$(
        #[$doc]
        #[inline(always)]
        pub fn $name(x: f32) -> f32 {
            let y;
            // SAFETY: arithmetic on registers.
            unsafe {
                asm!(concat!($instruction, " {}, {};"), out(reg32) y, in(reg32) x,
                    options(pure, nomem, nostack, preserves_flags))
            }
            y
        }
    )*};
}
unary! {
    /// 2^x within 2 ulp; subnormal results are zero.
    exp2 = "ex2.approx.ftz.f32"
    /// log2(x), absolute error below 2^-22 near 1, 2 ulp elsewhere.
    log2 = "lg2.approx.ftz.f32"
    /// 1/x within 1 ulp.
    recip = "rcp.approx.f32"
    /// Root, rounded to nearest.
    sqrt = "sqrt.rn.f32"
    /// 1/x, rounded to nearest.
    recip_exact = "rcp.rn.f32"
}

/// Root, rounded to nearest.
#[inline(always)]
pub fn sqrt64(x: f64) -> f64 {
    let y;
    // SAFETY: arithmetic on registers.
    unsafe {
        asm!("sqrt.rn.f64 {}, {};", out(reg64) y, in(reg64) x,
            options(pure, nomem, nostack, preserves_flags))
    }
    y
}

/// Two floats as brain floats, rounded to nearest even: `a` low, `b` high.
#[inline(always)]
pub fn pack(a: f32, b: f32) -> u32 {
    let pair;
    // SAFETY: arithmetic on registers.
    unsafe {
        asm!("cvt.rn.bf16x2.f32 {}, {}, {};", out(reg32) pair, in(reg32) b, in(reg32) a,
            options(pure, nomem, nostack, preserves_flags))
    }
    pair
}

/// `a` or `b`, without a branch.
#[inline(always)]
pub fn select(first: bool, a: u32, b: u32) -> u32 {
    core::hint::select_unpredictable(first, a, b)
}

/// `x`, of which the compiler knows nothing: loops up to it stay loops, and what follows from it is
/// not kept in registers from one round to the next.
#[inline(always)]
pub fn opaque(x: u32) -> u32 {
    let y;
    // SAFETY: a move.
    unsafe {
        asm!("mov.b32 {}, {};", out(reg32) y, in(reg32) x, options(nomem, nostack, preserves_flags))
    }
    y
}
/// As [`opaque`], for an address.
#[inline(always)]
pub fn opaque_ptr<T>(x: *const T) -> *const T {
    let y;
    // SAFETY: a move.
    unsafe {
        asm!("mov.b64 {}, {};", out(reg64) y, in(reg64) x, options(nomem, nostack, preserves_flags))
    }
    y
}

/// `from` moved on by `count` times `step` elements, of which the compiler knows nothing: one
/// instruction that keeps no 64-bit step.
#[inline(always)]
pub fn further<T>(from: *const T, count: u32, step: u32) -> *const T {
    let bytes = step * size_of::<T>() as u32;
    let to;
    // SAFETY: a sum.
    unsafe {
        asm!("mad.wide.u32 {}, {}, {}, {};", out(reg64) to, in(reg32) count, in(reg32) bytes,
            in(reg64) from, options(nomem, nostack, preserves_flags))
    }
    to
}

// ---- across a warp

/// The value of lane `lane ^ mask`.
#[inline(always)]
pub fn from_xor(x: f32, mask: u32) -> f32 {
    f32::from_bits(shfl_bfly(ALL, x.to_bits(), mask, 31))
}
/// The bits of lane `lane ^ mask`.
#[inline(always)]
pub fn bits_from_xor(x: u32, mask: u32) -> u32 {
    shfl_bfly(ALL, x, mask, 31)
}
/// The bits of `lane`.
#[inline(always)]
pub fn bits_from_lane(x: u32, lane: u32) -> u32 {
    shfl_idx(ALL, x, lane, 31)
}
/// The value of `lane`.
#[inline(always)]
pub fn from_lane(x: f32, lane: u32) -> f32 {
    f32::from_bits(shfl_idx(ALL, x.to_bits(), lane, 31))
}

/// Turns a 4x4 matrix of words whose columns four neighbouring lanes hold.
#[inline(always)]
pub fn transpose_quad(mut x: [u32; 4]) -> [u32; 4] {
    let lane = lane();
    let mut swap = |low: usize, high: usize, mask: u32| {
        let upper = lane & mask != 0;
        let received = bits_from_xor(select(upper, x[low], x[high]), mask);
        x[low] = select(upper, received, x[low]);
        x[high] = select(upper, x[high], received);
    };
    swap(0, 1, 1);
    swap(2, 3, 1);
    swap(0, 2, 2);
    swap(1, 3, 2);
    x
}

/// Sum over the warp, in an order that every lane shares.
#[inline(always)]
pub fn warp_sum(mut x: f32) -> f32 {
    for k in 0..5 {
        x += from_xor(x, 16 >> k);
    }
    x
}
/// Largest of the warp.
#[inline(always)]
pub fn warp_max(mut x: f32) -> f32 {
    for k in 0..5 {
        x = max(x, from_xor(x, 16 >> k));
    }
    x
}
/// Least of the warp.
#[inline(always)]
pub fn warp_least(mut x: u32) -> u32 {
    for k in 0..5 {
        let other = bits_from_xor(x, 16 >> k);
        x = if other < x { other } else { x };
    }
    x
}
/// Sum over the warp in f64.
#[inline(always)]
pub fn warp_sum64(mut x: f64) -> f64 {
    for k in 0..5 {
        let bits = x.to_bits();
        let (low, high) = (bits as u32, (bits >> 32) as u32);
        let (low, high) = (bits_from_xor(low, 16 >> k), bits_from_xor(high, 16 >> k));
        x += f64::from_bits((high as u64) << 32 | low as u64);
    }
    x
}

/// `reduce` over the block of what each warp has: `room` holds 32 values. All threads must come.
#[inline(always)]
pub fn block_reduce<T: Copy>(x: T, room: *mut T, none: T, reduce: impl Fn(T) -> T) -> T {
    let x = reduce(x);
    // SAFETY: a slot for each of at most 32 warps; barriers stand between writes and reads.
    unsafe {
        barrier();
        if lane() == 0 {
            *room.add(warp() as usize) = x;
        }
        barrier();
        reduce(if lane() < threads() / WARP { *room.add(lane() as usize) } else { none })
    }
}

// ---- shared memory

core::arch::global_asm!(".extern .shared .align 1024 .b8 dynamic_shared[];");

/// The block's dynamic shared memory, as an address for instructions that want one.
#[inline(always)]
pub fn shared() -> u32 {
    let address: u32;
    // SAFETY: the address of a symbol.
    unsafe {
        asm!("{{ .reg .b64 %a; mov.u64 %a, dynamic_shared; cvt.u32.u64 {}, %a; }}",
            out(reg32) address, options(pure, nomem, nostack, preserves_flags))
    }
    address
}

/// The block's dynamic shared memory.
#[inline(always)]
pub fn shared_ptr<T>() -> *mut T {
    let pointer: u64;
    // SAFETY: the address of a symbol.
    unsafe {
        asm!("{{ .reg .b64 %a; mov.u64 %a, dynamic_shared; cvta.shared.u64 {}, %a; }}",
            out(reg64) pointer, options(pure, nomem, nostack, preserves_flags))
    }
    pointer as *mut T
}

/// Starts a copy of 16 bytes to shared memory, of which the first `bytes` come from `from` and the
/// rest are zero.
///
/// # Safety
/// `to` and `from` are aligned to 16; `bytes` at `from` are readable; any lanes may call.
#[inline(always)]
pub unsafe fn copy16(to: u32, from: *const Bf16, bytes: u32) {
    unsafe {
        asm!("cp.async.cg.shared.global [{}], [{}], 16, {};",
            in(reg32) to, in(reg64) from, in(reg32) bytes, options(nostack, preserves_flags))
    }
}
/// As [`copy16`], of 4 bytes or none.
///
/// # Safety
/// `to` and `from` are aligned to 4; `bytes` at `from` are readable; any lanes may call.
#[inline(always)]
pub unsafe fn copy4(to: u32, from: *const f32, bytes: u32) {
    unsafe {
        asm!("cp.async.ca.shared.global [{}], [{}], 4, {};",
            in(reg32) to, in(reg64) from, in(reg32) bytes, options(nostack, preserves_flags))
    }
}
/// Closes a group of copies.
#[inline(always)]
pub fn commit() {
    // SAFETY: orders copies, touches nothing else.
    unsafe { asm!("cp.async.commit_group;", options(nostack, preserves_flags)) }
}
/// Waits until at most PENDING of this thread's newest groups are under way.
#[inline(always)]
pub fn wait<const PENDING: u32>() {
    // SAFETY: waits.
    unsafe { asm!("cp.async.wait_group {};", const PENDING, options(nostack, preserves_flags)) }
}
/// As [`copy16`], of `count` elements at any address, through registers and at once. One store of
/// 16 bytes: eight of 2 would meet banks again.
///
/// # Safety
/// `to` is aligned to 16; `count` elements at `from` are readable; any lanes may call.
#[inline(always)]
pub unsafe fn gather16(to: u32, from: *const Bf16, count: u32) {
    let (mut a, mut b, mut c, mut d) = (0u32, 0u32, 0u32, 0u32);
    // Not unrolled: eight loads under way would cost registers that nobody has. Each element comes
    // in at the top, and the others move down.
    for j in 0..opaque(8) {
        // SAFETY: one of the `count` elements.
        let x = if j < count { unsafe { (*from.add(j as usize)).0 } } else { 0 };
        (a, b, c) = (a >> 16 | b << 16, b >> 16 | c << 16, c >> 16 | d << 16);
        d = d >> 16 | (x as u32) << 16;
    }
    // SAFETY: `to` as the caller says.
    unsafe {
        asm!("st.shared.v4.b32 [{}], {{{}, {}, {}, {}}};", in(reg32) to, in(reg32) a, in(reg32) b,
            in(reg32) c, in(reg32) d, options(nostack, preserves_flags))
    }
}
/// Loads 16 bytes from shared memory.
///
/// # Safety
/// `from` is aligned to 16 and lies in the block's shared memory; any lanes may call.
#[inline(always)]
pub unsafe fn load_shared16(from: u32) -> [u32; 4] {
    let (a, b, c, d);
    unsafe {
        asm!("ld.shared.v4.b32 {{{}, {}, {}, {}}}, [{}];", out(reg32) a, out(reg32) b, out(reg32) c,
            out(reg32) d, in(reg32) from, options(nostack, preserves_flags))
    }
    [a, b, c, d]
}
/// Loads a float from shared memory.
///
/// # Safety
/// `from` lies in the block's shared memory; any lanes may call.
#[inline(always)]
pub unsafe fn load_shared(from: u32) -> f32 {
    let x;
    unsafe {
        asm!("ld.shared.f32 {}, [{}];", out(reg32) x, in(reg32) from,
            options(nostack, preserves_flags))
    }
    x
}

// ---- matrices

/// Four 8x8 matrices of brain floats; lanes 8k..8k+8 give the addresses of matrix k's rows. Lane l
/// receives elements (l/4, 2*(l%4)) and the one behind of each.
///
/// # Safety
/// Each lane's address is aligned to 16 and lies in the block's shared memory.
#[inline(always)]
pub unsafe fn load_matrices(row: u32) -> [u32; 4] {
    let (a, b, c, d);
    unsafe {
        asm!("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {{{}, {}, {}, {}}}, [{}];",
            out(reg32) a, out(reg32) b, out(reg32) c, out(reg32) d, in(reg32) row,
            options(nostack, preserves_flags))
    }
    [a, b, c, d]
}
/// As [`load_matrices`], each matrix transposed.
///
/// # Safety
/// As [`load_matrices`].
#[inline(always)]
pub unsafe fn load_matrices_t(row: u32) -> [u32; 4] {
    let (a, b, c, d);
    unsafe {
        asm!("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {{{}, {}, {}, {}}}, [{}];",
            out(reg32) a, out(reg32) b, out(reg32) c, out(reg32) d, in(reg32) row,
            options(nostack, preserves_flags))
    }
    [a, b, c, d]
}
/// c += a b for a 16x16 `a` and a 16x8 `b`. Lane l holds rows l/4 and l/4 + 8 of columns 2*(l%4) and
/// the next of `c`.
#[inline(always)]
pub fn mma(c: &mut [f32; 4], a: &[u32; 4], b: [u32; 2]) {
    let [c0, c1, c2, c3] = c;
    // SAFETY: arithmetic on registers.
    unsafe {
        asm!(
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {{{0}, {1}, {2}, {3}}}, \
             {{{4}, {5}, {6}, {7}}}, {{{8}, {9}}}, {{{0}, {1}, {2}, {3}}};",
            inout(reg32) *c0, inout(reg32) *c1, inout(reg32) *c2, inout(reg32) *c3,
            in(reg32) a[0], in(reg32) a[1], in(reg32) a[2], in(reg32) a[3],
            in(reg32) b[0], in(reg32) b[1],
            options(nomem, nostack, preserves_flags))
    }
}

// ---- rows of memory

/// Storage of an op: f32, or brain floats. Arithmetic is f32.
pub trait Element: Copy + 'static {
    /// Elements in 16 bytes.
    const LANES: usize;
    /// Widens, exactly.
    fn get(self) -> f32;
    /// Rounds to nearest even.
    fn of(x: f32) -> Self;
    /// The 16 bytes as numbers; the first `LANES` count.
    fn unpack(words: [u32; 4]) -> [f32; 8];
    /// The first `LANES` numbers as 16 bytes.
    fn repack(x: [f32; 8]) -> [u32; 4];
}

impl Element for f32 {
    const LANES: usize = 4;
    #[inline(always)]
    fn get(self) -> f32 {
        self
    }
    #[inline(always)]
    fn of(x: f32) -> f32 {
        x
    }
    #[inline(always)]
    fn unpack(w: [u32; 4]) -> [f32; 8] {
        let f = f32::from_bits;
        [f(w[0]), f(w[1]), f(w[2]), f(w[3]), 0.0, 0.0, 0.0, 0.0]
    }
    #[inline(always)]
    fn repack(x: [f32; 8]) -> [u32; 4] {
        [x[0].to_bits(), x[1].to_bits(), x[2].to_bits(), x[3].to_bits()]
    }
}

impl Element for Bf16 {
    const LANES: usize = 8;
    #[inline(always)]
    fn get(self) -> f32 {
        low(self.0 as u32)
    }
    #[inline(always)]
    fn of(x: f32) -> Bf16 {
        Bf16(pack(x, 0.0) as u16)
    }
    #[inline(always)]
    fn unpack(w: [u32; 4]) -> [f32; 8] {
        [low(w[0]), high(w[0]), low(w[1]), high(w[1]), low(w[2]), high(w[2]), low(w[3]), high(w[3])]
    }
    #[inline(always)]
    fn repack(x: [f32; 8]) -> [u32; 4] {
        [pack(x[0], x[1]), pack(x[2], x[3]), pack(x[4], x[5]), pack(x[6], x[7])]
    }
}

#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct Words([u32; 4]);

/// 16 bytes.
///
/// # Safety
/// `from` is aligned to 16 and readable; any lanes may call.
#[inline(always)]
pub unsafe fn load16<E>(from: *const E) -> [u32; 4] {
    unsafe { (*(from as *const Words)).0 }
}
/// 16 bytes.
///
/// # Safety
/// `to` is aligned to 16 and writable; any lanes may call.
#[inline(always)]
pub unsafe fn store16<E>(to: *mut E, words: [u32; 4]) {
    unsafe { *(to as *mut Words) = Words(words) }
}

/// How an op walks over rows: 16 bytes at a time where each row starts at a multiple of 16 bytes,
/// one element at a time otherwise. The packed form keeps waiting data small.
pub trait Access<E: Element> {
    /// Elements in one access.
    const LANES: usize;
    /// What an access reads.
    type Packed: Copy;
    /// Reads.
    ///
    /// # Safety
    /// LANES elements at `from` are readable, and aligned as the access wants.
    unsafe fn load(from: *const E) -> Self::Packed;
    /// The first LANES count.
    fn unpack(packed: Self::Packed) -> [f32; 8];
    /// What reading would give after the first LANES were written.
    fn round(x: [f32; 8]) -> Self::Packed;
    /// Writes the first LANES.
    ///
    /// # Safety
    /// LANES elements at `to` are writable, and aligned as the access wants.
    unsafe fn store(to: *mut E, x: [f32; 8]);
}

/// 16 bytes.
pub struct Wide;
/// One element.
pub struct Single;

impl<E: Element> Access<E> for Wide {
    const LANES: usize = E::LANES;
    type Packed = [u32; 4];
    #[inline(always)]
    unsafe fn load(from: *const E) -> [u32; 4] {
        unsafe { load16(from) }
    }
    #[inline(always)]
    fn unpack(packed: [u32; 4]) -> [f32; 8] {
        E::unpack(packed)
    }
    #[inline(always)]
    fn round(x: [f32; 8]) -> [u32; 4] {
        E::repack(x)
    }
    #[inline(always)]
    unsafe fn store(to: *mut E, x: [f32; 8]) {
        unsafe { store16(to, E::repack(x)) }
    }
}

impl<E: Element> Access<E> for Single {
    const LANES: usize = 1;
    type Packed = E;
    #[inline(always)]
    unsafe fn load(from: *const E) -> E {
        unsafe { *from }
    }
    #[inline(always)]
    fn unpack(packed: E) -> [f32; 8] {
        [packed.get(), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    }
    #[inline(always)]
    fn round(x: [f32; 8]) -> E {
        E::of(x[0])
    }
    #[inline(always)]
    unsafe fn store(to: *mut E, x: [f32; 8]) {
        unsafe { *to = E::of(x[0]) }
    }
}

/// Whether rows of `len` elements can be walked in steps of 16 bytes.
#[inline(always)]
pub fn wide<E: Element>(len: u32) -> bool {
    len.is_multiple_of(E::LANES as u32)
}

/// Four elements in a row, widened.
///
/// # Safety
/// `from` is aligned to four elements and readable; any lanes may call.
#[inline(always)]
pub unsafe fn load4<E: Element>(from: *const E) -> [f32; 4] {
    #[derive(Clone, Copy)]
    #[repr(C, align(8))]
    struct Pair([u32; 2]);
    let words = unsafe {
        if E::LANES == 4 {
            load16(from)
        } else {
            let [a, b] = (*(from as *const Pair)).0;
            [a, b, 0, 0]
        }
    };
    let x = E::unpack(words);
    [x[0], x[1], x[2], x[3]]
}

/// a / b.
///
/// # Safety
/// `b` is not zero.
#[inline(always)]
pub unsafe fn div(a: u32, b: u32) -> u32 {
    unsafe { a.checked_div(b).unwrap_unchecked() }
}

/// Zeros. An array written `[0.0; N]` becomes a loop, which keeps it out of registers.
#[inline(always)]
pub fn zeroed<T: Copy>() -> T {
    // SAFETY: T is an array of numbers wherever this is called.
    unsafe { core::mem::zeroed() }
}

/// 8 bytes.
///
/// # Safety
/// `to` is aligned to 8 and writable; any lanes may call.
#[inline(always)]
pub unsafe fn store8<E>(to: *mut E, words: [u32; 2]) {
    #[repr(C, align(8))]
    struct Pair([u32; 2]);
    unsafe { *(to as *mut Pair) = Pair(words) }
}

/// 8 bytes.
///
/// # Safety
/// `from` is aligned to 8 and readable; any lanes may call.
#[inline(always)]
pub unsafe fn load8<E>(from: *const E) -> [u32; 2] {
    #[derive(Clone, Copy)]
    #[repr(C, align(8))]
    struct Pair([u32; 2]);
    unsafe { (*(from as *const Pair)).0 }
}
