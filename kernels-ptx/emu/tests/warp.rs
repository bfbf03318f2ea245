//! What lanes do together: shuffles, votes, matches, reductions, barriers, atomics.

mod common;

use common::{fault, grid, run, warp};
use ptx_emu::FaultKind;

/// `shfl.sync` as the ISA's pseudocode has it.
fn shuffled(mode: &str, l: i32, b: i32, c: i32) -> (i32, bool) {
    let (segment, clamp) = (c >> 8 & 31, c & 31);
    let max = (l & segment) | (clamp & !segment);
    let min = l & segment;
    let (j, p) = match mode {
        "up" => (l - b, l - b >= max),
        "down" => (l + b, l + b <= max),
        "bfly" => (l ^ b, l ^ b <= max),
        _ => (min | (b & !segment), (min | (b & !segment)) <= max),
    };
    (if p { j } else { l }, p)
}

#[test]
fn shuffles() {
    for mode in ["up", "down", "bfly", "idx"] {
        for b in [0, 1, 2, 5, 16, 31] {
            // Whole warp, and segments of 8; `up` clamps at 0.
            for width in [32, 8] {
                let clamp = if mode == "up" { 0 } else { 31 };
                let c = (32 - width) << 8 | clamp;
                let out = warp(&format!(
                    "add.u32 %r1, %t, 100;\n\
                     shfl.sync.{mode}.b32 %r2|%p1, %r1, {b}, {c}, 0xffffffff;\n\
                     @%p1 add.u32 %r2, %r2, 1000; st.global.u32 [%o], %r2;"
                ));
                for (l, got) in out.into_iter().enumerate() {
                    let (j, p) = shuffled(mode, l as i32, b, c);
                    let want = j as u32 + 100 + if p { 1000 } else { 0 };
                    assert_eq!(got, want, "{mode} by {b}, width {width}, lane {l}");
                }
            }
        }
    }
}

#[test]
fn two_halves_shuffle_apart() {
    let out = warp(
        "setp.lt.u32 %p1, %t, 16; selp.b32 %r1, 0x0000ffff, 0xffff0000, %p1;\n\
         shfl.sync.bfly.b32 %r2, %t, 15, 31, %r1; st.global.u32 [%o], %r2;",
    );
    assert_eq!(out, Vec::from_iter((0..32u32).map(|t| t ^ 15)));
}

#[test]
fn votes() {
    let ballot = |text: &str, p: &str| {
        warp(&format!("setp.{p} %p1, %t, 7; vote.sync.{text}; st.global.u32 [%o], %r1;"))[5]
    };
    let pred = |mode: &str, p: &str| {
        warp(&format!(
            "setp.{p} %p1, %t, 7; vote.sync.{mode}.pred %p2, %p1, -1; selp.b32 %r1, 1, 0, %p2;\n\
             st.global.u32 [%o], %r1;"
        ))[5]
    };
    assert_eq!(ballot("ballot.b32 %r1, %p1, -1", "lt.u32"), 0x7f);
    assert_eq!(ballot("ballot.b32 %r1, !%p1, -1", "lt.u32"), !0x7f);
    assert_eq!([pred("all", "lt.u32"), pred("any", "lt.u32"), pred("uni", "lt.u32")], [0, 1, 0]);
    assert_eq!([pred("all", "ge.s32"), pred("any", "gt.s32")], [0, 1]);
}

#[test]
fn matches_and_reductions() {
    let out = warp("rem.u32 %r1, %t, 3; match.any.sync.b32 %r2, %r1, -1; st.global.u32 [%o], %r2;");
    for (l, got) in out.into_iter().enumerate() {
        let want = (0..32).filter(|k| k % 3 == l % 3).fold(0u32, |m, k| m | 1 << k);
        assert_eq!(got, want);
    }
    let all = "mov.u32 %r1, 4; match.all.sync.b32 %r2|%p1, %r1, -1; @!%p1 trap;\n\
               st.global.u32 [%o], %r2;";
    assert_eq!(warp(all), [u32::MAX; 32]);
    for (op, want) in [
        ("add.s32", (0..32).map(|t| t - 8).sum::<i32>()),
        ("min.s32", -8),
        ("max.s32", 23),
        ("min.u32", 0),
        ("max.u32", -1),
        ("and.b32", 0),
        ("or.b32", -1),
        ("xor.b32", (0..32).fold(0, |x, t| x ^ (t - 8))),
    ] {
        let out = warp(&format!(
            "sub.u32 %r1, %t, 8; redux.sync.{op} %r2, %r1, -1; st.global.u32 [%o], %r2;"
        ));
        assert_eq!(out, [want as u32; 32], "{op}");
    }
    let out = warp(
        "setp.lt.u32 %p3, %t, 4; @%p3 bra OUT; elect.sync _|%p1, 0xfffffff0;\n\
         selp.b32 %r1, 1, 0, %p1; st.global.u32 [%o], %r1; OUT:",
    );
    assert_eq!(out, Vec::from_iter((0..32u32).map(|t| u32::from(t == 4))));
}

#[test]
fn barrier_makes_writes_visible() {
    let head = ".shared .align 4 .b32 buf[128];\n";
    let body = "mov.u32 %r1, buf; mad.lo.u32 %r2, %t, 4, %r1; st.shared.u32 [%r2], %t;\n\
                bar.sync 0; sub.u32 %r3, 127, %t; mad.lo.u32 %r3, %r3, 4, %r1;\n\
                ld.shared.u32 %r4, [%r3]; st.global.u32 [%o], %r4;";
    let (out, counts) = run(head, body, grid(1, 128, 0)).unwrap();
    assert_eq!(out, Vec::from_iter((0..128).rev()));
    assert_eq!(counts.class(ptx_emu::Class::Barrier), 4);
}

/// Two pairs of warps, a barrier each, by number and count.
#[test]
fn named_barriers() {
    let head = ".shared .align 4 .b32 buf[128];\n";
    let body = "mov.u32 %r1, buf; mad.lo.u32 %r2, %t, 4, %r1; st.shared.u32 [%r2], %t;\n\
                shr.u32 %r5, %t, 6; add.u32 %r5, %r5, 1; barrier.sync %r5, 64;\n\
                xor.b32 %r3, %t, 63; mad.lo.u32 %r3, %r3, 4, %r1;\n\
                ld.shared.u32 %r4, [%r3]; st.global.u32 [%o], %r4;";
    let out = run(head, body, grid(1, 128, 0)).unwrap().0;
    assert_eq!(out, Vec::from_iter((0..128).map(|t| t ^ 63)));
}

/// A producer arrives without waiting; the consumer waits.
#[test]
fn arrive_and_sync() {
    let head = ".shared .align 4 .b32 buf[32];\n";
    let body = "mov.u32 %r1, buf; and.b32 %r2, %t, 31; mad.lo.u32 %r2, %r2, 4, %r1;\n\
                setp.ge.u32 %p1, %t, 32; @%p1 bra PRODUCE;\n bar.sync 1, 64; xor.b32 %r2, %r2, 4;\n\
                ld.shared.u32 %r3, [%r2]; st.global.u32 [%o], %r3; ret;\n\
                PRODUCE: st.shared.u32 [%r2], %t; bar.arrive 1, 64;";
    let out = run(head, body, grid(1, 64, 0)).unwrap().0;
    assert_eq!(out[..32], Vec::from_iter((0..32u32).map(|t| (t ^ 1) + 32)));
    // The other way round nothing orders the consumer.
    let wrong = body.replace("bar.sync 1, 64", "bar.arrive 1, 64");
    assert_ne!(fault(head, &wrong, grid(1, 64, 0)).kind, FaultKind::Operand);
}

#[test]
fn warp_barrier_orders_lanes() {
    let head = ".shared .align 4 .b32 buf[32];\n";
    let body = "mov.u32 %r1, buf; mad.lo.u32 %r2, %t, 4, %r1; st.shared.u32 [%r2], %t;\n\
                bar.warp.sync 0xffffffff; xor.b32 %r2, %r2, 64; ld.shared.u32 %r3, [%r2];\n\
                st.global.u32 [%o], %r3;";
    let out = run(head, body, grid(1, 32, 0)).unwrap().0;
    assert_eq!(out, Vec::from_iter((0..32u32).map(|t| t ^ 16)));
}

#[test]
fn atomics() {
    let head = ".shared .align 8 .b64 word;\n.global .align 8 .u64 total = 0;\n";
    let n = 64 * 3;
    let cases = [
        ("add.u32", "%t", 64 * 63 / 2, 0u32),
        ("max.s32", "%t", 63, 0),
        ("min.u32", "%t", 0, 50),
        ("or.b32", "%t", 63, 0),
        ("and.b32", "%t", 0, 63),
        ("exch.b32", "77", 77, 5),
        ("inc.u32", "9", 64 % 10, 0),
        ("add.f32", "0f3F000000", 32f32.to_bits(), 0),
    ];
    for (op, a, want, start) in cases {
        let body = format!(
            "setp.ne.u32 %p1, %t, 0; @%p1 bra GO; st.shared.u32 [word], {start};\nGO: bar.sync 0;\n\
             mov.b32 %r1, {a}; red.shared.{op} [word], %r1; bar.sync 0;\n\
             ld.shared.u32 %r2, [word]; st.global.u32 [%o], %r2;"
        );
        assert_eq!(run(head, &body, grid(1, 64, 0)).unwrap().0[0], want, "{op}");
    }
    // Every thread of every block gets another old value.
    let body = "mov.u64 %rd1, total; mov.u64 %rd4, 1; atom.global.add.u64 %rd2, [%rd1], %rd4;\n\
                cvt.u32.u64 %r1, %rd2; mad.wide.u32 %rd3, %r1, 4, %base; st.global.u32 [%rd3], 1;";
    assert_eq!(run(head, body, grid(3, 64, 0)).unwrap().0, vec![1; n]);
    let cas = "mov.u64 %rd1, total; atom.cas.b32 %r1, [%rd1], 0, 1; setp.ne.u32 %p1, %r1, 0;\n\
               @%p1 ret; st.global.u32 [%base], 3;";
    assert_eq!(run(head, cas, grid(1, 64, 0)).unwrap().0.iter().sum::<u32>(), 3);
}
