//! The counters against sums by hand.

mod common;

use common::{grid, run};
use ptx_emu::{Class, Counts};

fn counts(head: &str, body: &str) -> Counts {
    run(head, body, grid(1, 32, 0)).unwrap_or_else(|e| panic!("{e}")).1
}

#[test]
fn sectors() {
    // 32 neighbouring words are four sectors; at a stride of eight words each is its own.
    let c = counts("", "ld.global.u32 %r1, [%o];");
    assert_eq!((c.total.read_bytes, c.total.read_sectors, c.distinct_read_sectors), (128, 4, 4));
    let c = counts("", "ld.global.u32 %r1, [%o]; ld.global.u32 %r1, [%o];");
    assert_eq!((c.total.read_bytes, c.total.read_sectors, c.distinct_read_sectors), (256, 8, 4));
    let c = counts("", "ld.global.u32 %r1, [%base];");
    assert_eq!((c.total.read_bytes, c.total.read_sectors), (128, 1));
    let c = counts(
        "",
        "xor.b32 %r1, %t, 21; mad.wide.u32 %rd1, %r1, 4, %base; st.global.u32 [%rd1], %t;",
    );
    assert_eq!((c.total.write_bytes, c.total.write_sectors, c.distinct_write_sectors), (128, 4, 4));
    let big = ".global .align 256 .b8 big[4096];\n";
    let strided = "mov.u64 %rd1, big; mad.wide.u32 %rd1, %t, 128, %rd1; ld.global.u32 %r1, [%rd1];";
    let c = counts(big, strided);
    assert_eq!((c.total.read_bytes, c.total.read_sectors), (128, 32));
    assert_eq!(c.distinct_bytes(), 32 * 32);
}

#[test]
fn bank_conflicts() {
    let buf = ".shared .align 128 .b8 buf[8192];\n";
    let c = |scale: u32, width: &str, regs: &str| {
        let body = format!(
            "mov.u32 %r1, buf; mad.lo.u32 %r1, %t, {scale}, %r1; st.shared.{width} [%r1], {regs};"
        );
        let t = counts(buf, &body).total;
        (t.wavefronts, t.conflicts)
    };
    assert_eq!(c(4, "u32", "%t"), (1, 0));
    assert_eq!(c(8, "u32", "%t"), (2, 1));
    assert_eq!(c(128, "u32", "%t"), (32, 31));
    assert_eq!(c(132, "u32", "%t"), (1, 0));
    assert_eq!(c(8, "v2.u32", "{%t, %t}"), (2, 0));
    assert_eq!(c(16, "v4.u32", "{%t, %t, %t, %t}"), (4, 0));
    assert_eq!(c(32, "v4.u32", "{%t, %t, %t, %t}"), (8, 4));
    // One word for all is one pass.
    let all = "setp.ne.u32 %p1, %t, 0; @%p1 bra GO; st.shared.u32 [buf], 1;\nGO: bar.sync 0;\n\
               ld.shared.u32 %r1, [buf];";
    assert_eq!(counts(buf, all).total.wavefronts, 2);
}

#[test]
fn classes_and_lines() {
    let body = "mov.u32 %r1, 0;\nLOOP:\nadd.u32 %r1, %r1, 1;\nsetp.lt.u32 %p1, %r1, 10;\n\
                @%p1 bra LOOP;\nfma.rn.f32 %f1, %t, %t, %t;\nst.global.u32 [%o], %r1;";
    let c = counts("", body);
    let line = |n: usize| {
        let first = c.lines.iter().position(|l| l.class == Class::Move && l.line > 10).unwrap();
        &c.lines[first + n]
    };
    assert_eq!((line(1).tally.warps, line(1).tally.lanes), (10, 320));
    assert_eq!((line(4).class, line(4).tally.warps), (Class::F32, 1));
    assert_eq!(c.class(Class::Compare), 10);
    // The loop's branches and the return.
    assert_eq!(c.class(Class::Control), 11);
    assert_eq!(c.total.warps, c.classes.iter().sum::<u64>());
    let mut sum = Counts::default();
    sum += &c;
    sum += &c;
    assert_eq!((sum.launches, sum.total.lanes), (2, 2 * c.total.lanes));
}
