//! Branches, divergence, calls, and what launches see of special registers.

mod common;

use common::{grid, kernel_text, run, warp};
use ptx_emu::{Arg, Gpu, Grid, Module};

#[test]
fn divergent_if_reconverges() {
    // After the branch all lanes vote together: they have met again.
    let out = warp(
        "setp.lt.u32 %p1, %t, 10;\n mov.u32 %r1, 1;\n @%p1 bra SMALL;\n mov.u32 %r1, 2;\n\
         SMALL:\n setp.eq.u32 %p2, %r1, 1;\n vote.sync.ballot.b32 %r2, %p2, 0xffffffff;\n\
         st.global.u32 [%o], %r2;",
    );
    assert_eq!(out, [0x3ff; 32]);
}

#[test]
fn divergent_loop() {
    let out = warp(
        "mov.u32 %r1, 0; mov.u32 %r2, 0;\nLOOP: add.u32 %r2, %r2, %r1; add.u32 %r1, %r1, 1;\n\
         setp.le.u32 %p1, %r1, %t; @%p1 bra LOOP;\n activemask.b32 %r3;\n\
         setp.ne.u32 %p2, %r3, 0xffffffff; @%p2 trap;\n st.global.u32 [%o], %r2;",
    );
    assert_eq!(out, Vec::from_iter((0..32u32).map(|t| t * (t + 1) / 2)));
}

/// Blocks laid out so that the lowest position first does not bring lanes together in time: the
/// vote waits for the others.
#[test]
fn a_vote_waits_for_lanes_behind() {
    let out = warp(
        "setp.lt.u32 %p1, %t, 16; @%p1 bra LATE;\nMEET: vote.sync.any.pred %p2, %p1, 0xffffffff;\n\
         selp.b32 %r1, 7, 8, %p2; st.global.u32 [%o], %r1; ret;\nLATE: bra.uni MEET;",
    );
    assert_eq!(out, [7; 32]);
}

#[test]
fn predication_and_exit() {
    let out = warp(
        "setp.gt.u32 %p1, %t, 20; @%p1 exit; mov.u32 %r1, 5; setp.eq.u32 %p2, %t, 3;\n\
         @%p2 mov.u32 %r1, 6; @!%p2 add.u32 %r1, %r1, %t; st.global.u32 [%o], %r1;",
    );
    let want = |t| match t {
        21.. => 0,
        3 => 6,
        t => 5 + t,
    };
    assert_eq!(out, Vec::from_iter((0..32u32).map(want)));
}

#[test]
fn indexed_branch() {
    let out = warp(
        "rem.u32 %r1, %t, 3;\n TABLE: .branchtargets A, B, C;\n brx.idx %r1, TABLE;\n\
         A: mov.u32 %r2, 10; bra.uni END;\n B: mov.u32 %r2, 20; bra.uni END;\n\
         C: mov.u32 %r2, 30;\n END: st.global.u32 [%o], %r2;",
    );
    assert_eq!(out, Vec::from_iter((0..32u32).map(|t| 10 + t % 3 * 10)));
}

/// A function called from two places by different lanes at once returns each to its own.
#[test]
fn calls() {
    let head = ".func (.param .b32 ret) twice(.param .b32 x)\n{ .reg .b32 %r<4>;\n\
                ld.param.b32 %r1, [x]; add.u32 %r2, %r1, %r1; st.param.b32 [ret], %r2; ret; }\n\
                .func (.param .b32 ret) quad(.param .b32 x)\n{ .reg .b32 %r<4>;\n\
                ld.param.b32 %r1, [x]; { .param .b32 a; .param .b32 b; st.param.b32 [a], %r1;\n\
                call.uni (b), twice, (a); ld.param.b32 %r2, [b]; } add.u32 %r2, %r2, %r2;\n\
                st.param.b32 [ret], %r2; ret; }\n";
    let call = |f: &str, add: u32| {
        format!(
            "{{ .param .b32 a; .param .b32 b; add.u32 %r1, %t, {add}; st.param.b32 [a], %r1;\n\
             call.uni (b), {f}, (a); ld.param.b32 %r2, [b]; }}\n"
        )
    };
    let body = format!(
        "and.b32 %r3, %t, 1; setp.eq.u32 %p1, %r3, 0; @%p1 bra EVEN;\n{}bra.uni END;\n\
         EVEN:\n{}END: st.global.u32 [%o], %r2;",
        call("quad", 100),
        call("twice", 1),
    );
    let out = run(head, &body, grid(1, 32, 0)).unwrap().0;
    let want = |t| if t % 2 == 0 { 2 * (t + 1) } else { 4 * (t + 100) };
    assert_eq!(out, Vec::from_iter((0..32u32).map(want)));
}

#[test]
fn blocks_and_threads_in_three_dimensions() {
    let text = kernel_text(
        "",
        "mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ctaid.y; mov.u32 %r3, %ctaid.z;\n\
         mov.u32 %r4, %nctaid.x; mov.u32 %r5, %nctaid.y; mad.lo.u32 %r6, %r3, %r5, %r2;\n\
         mad.lo.u32 %r6, %r6, %r4, %r1;\n\
         mov.u32 %r7, %tid.y; mov.u32 %r8, %tid.z; mov.u32 %r9, %ntid.x; mov.u32 %r10, %ntid.y;\n\
         mad.lo.u32 %r11, %r8, %r10, %r7; mad.lo.u32 %r11, %r11, %r9, %t;\n\
         mov.u32 %r12, %ntid.z; mul.lo.u32 %r13, %r9, %r10; mul.lo.u32 %r13, %r13, %r12;\n\
         mad.lo.u32 %r14, %r6, %r13, %r11; mad.wide.u32 %rd1, %r14, 4, %base;\n\
         st.global.u32 [%rd1], %r14;",
    );
    let kernel = Module::parse(&text).unwrap().kernel("k").unwrap();
    let mut gpu = Gpu::new();
    let n = 2 * 3 * 2 * 5 * 3 * 4;
    let out = gpu.alloc(4 * n).unwrap();
    let shape = Grid { blocks: [2, 3, 2], threads: [5, 3, 4], shared_bytes: 0 };
    gpu.launch(&kernel, shape, &[Arg::U64(out), Arg::U32(0)]).unwrap();
    let mut bytes = vec![0; 4 * n];
    gpu.read(out, &mut bytes).unwrap();
    for (i, b) in bytes.chunks(4).enumerate() {
        assert_eq!(u32::from_le_bytes(b.try_into().unwrap()), i as u32);
    }
}

#[test]
fn local_memory_and_generic_addresses() {
    let head = ".global .align 4 .u32 table[4] = {11, 22, 33, 44};\n\
                .shared .align 4 .b32 word;\n";
    let body = ".local .align 8 .b8 depot[16]; mov.u64 %rd1, depot; cvta.local.u64 %rd2, %rd1;\n\
                st.u32 [%rd2+4], %t; ld.local.u32 %r1, [depot+4];\n\
                mov.u64 %rd3, table; ld.global.u32 %r2, [%rd3+8]; ld.u32 %r3, [table+4];\n\
                setp.ne.u32 %p1, %t, 0; @%p1 bra REST; st.shared.u32 [word], 1000;\n\
                REST: bar.sync 0; mov.u64 %rd4, word; cvta.shared.u64 %rd4, %rd4; ld.u32 %r4, [%rd4];\n\
                add.u32 %r1, %r1, %r2; add.u32 %r1, %r1, %r3; add.u32 %r1, %r1, %r4;\n\
                isspacep.shared %p2, %rd4; isspacep.local %p3, %rd2; isspacep.global %p4, %base;\n\
                and.pred %p2, %p2, %p3; and.pred %p2, %p2, %p4; @!%p2 trap;\n\
                cvta.to.shared.u64 %rd5, %rd4; cvt.u32.u64 %r5, %rd5; ld.shared.u32 %r6, [%r5];\n\
                add.u32 %r1, %r1, %r6; st.global.u32 [%o], %r1;";
    let out = run(head, body, grid(1, 32, 0)).unwrap().0;
    assert_eq!(out, Vec::from_iter((0..32u32).map(|t| t + 33 + 22 + 2000)));
}

#[test]
fn vectors_and_narrow_elements() {
    let head = ".global .align 16 .b8 data[16] = {1, 2, 0xff, 0x80, 5, 0, 0, 0, 6, 0, 0, 0, 7};\n";
    let body = "mov.u64 %rd1, data; ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%rd1];\n\
                ld.global.s8 %r5, [%rd1+2]; ld.global.u8 %r6, [%rd1+3]; ld.global.s8 %h1, [%rd1+2];\n\
                ld.global.v2.b16 {%h2, %h3}, [%rd1]; ld.global.v2.b64 {%rd2, %rd3}, [%rd1];\n\
                ld.global.s16 %rd4, [%rd1+2];\n\
                add.u32 %r7, %r2, %r3; add.u32 %r7, %r7, %r4; add.u32 %r7, %r7, %r5;\n\
                add.u32 %r7, %r7, %r6; cvt.u32.u16 %r8, %h1; add.u32 %r7, %r7, %r8;\n\
                cvt.u32.u16 %r8, %h3; add.u32 %r7, %r7, %r8; cvt.u32.u64 %r8, %rd3;\n\
                add.u32 %r7, %r7, %r8; cvt.u32.u64 %r8, %rd4; add.u32 %r7, %r7, %r8;\n\
                st.global.u32 [%o], %r7;";
    let out = run(head, body, grid(1, 32, 0)).unwrap().0;
    let sum = 5 + 6 + 7 - 1 + 0x80 + 0xffff + 0x80ff + 6 + i64::from(0x80ffu16 as i16);
    assert_eq!(out, [sum as u32; 32]);
}

#[test]
fn spin_on_another_warp() {
    // Warp 1 waits for a flag that warp 0 sets: it gives up its slice.
    let body = "setp.lt.u32 %p1, %t, 32; @%p1 bra SET;\nWAIT: ld.volatile.global.u32 %r1, [%base];\n\
                setp.eq.u32 %p2, %r1, 0; @%p2 bra WAIT; ret;\nSET: mov.u32 %r2, 0;\n\
                DELAY: add.u32 %r2, %r2, 1; setp.lt.u32 %p3, %r2, 30000; @%p3 bra DELAY;\n\
                setp.ne.u32 %p4, %t, 0; @%p4 ret; st.volatile.global.u32 [%base], 9;";
    assert_eq!(run("", body, grid(1, 64, 0)).unwrap().0[0], 9);
}
