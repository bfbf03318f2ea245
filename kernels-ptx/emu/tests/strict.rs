//! Every strict error: its kind, its place, its words.

mod common;

use common::{fault, grid, kernel_text, run};
use ptx_emu::{Arg, Error, FaultKind, Gpu, Grid, Module};

const BUF: &str = ".shared .align 16 .b8 buf[256];\n";
const AT: &str = "mov.u32 %r1, buf; mad.lo.u32 %r2, %t, 4, %r1;\n";

/// The fault of a body on one block of 64 threads; its words must contain `words`.
fn expect(body: &str, kind: FaultKind, words: &str) -> ptx_emu::Fault {
    let f = fault(BUF, &format!("{AT}{body}"), grid(1, 64, 0));
    assert_eq!(f.kind, kind, "{f}");
    assert!(f.what.contains(words), "`{}` lacks `{words}`", f.what);
    f
}

#[test]
fn a_fault_names_its_place() {
    let body = "mov.u32 %r1, %ctaid.x; setp.ne.u32 %p1, %r1, 1; @%p1 ret;\n\
                setp.lt.u32 %p2, %t, 37; @%p2 ret;\nst.global.u32 [%o+100000], %t;";
    let f = fault("", body, grid(2, 64, 0));
    assert_eq!(f.kind, FaultKind::OutOfBounds);
    assert_eq!((f.block, f.thread), ([1, 0, 0], [37, 0, 0]));
    assert_eq!(f.text, "st.global.u32 [%o+100000], %t;");
    let text = f.to_string();
    for part in ["kernel `k`", &format!("PTX line {}", f.line), "block (1,0,0), thread (37,0,0)"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(text.contains("global write of 4 bytes"), "{text}");
    assert!(text.contains("bytes past the end of an allocation of 512 bytes"), "{text}");
}

#[test]
fn global_memory() {
    expect("ld.global.u32 %r3, [%o+1000];", FaultKind::OutOfBounds, "past the end");
    expect("ld.global.u32 %r3, [%base+256];", FaultKind::OutOfBounds, "0 bytes past the end");
    expect("ld.global.u32 %r3, [%base+-4];", FaultKind::OutOfBounds, "below every allocation");
    expect("ld.global.v2.u32 {%r3, %r4}, [%base+252];", FaultKind::OutOfBounds, "global read");
    expect("mov.u64 %rd1, 0; ld.u32 %r3, [%rd1];", FaultKind::OutOfBounds, "below every");
    expect("ld.global.u32 %r3, [%base+2];", FaultKind::Misaligned, "misaligned");
    expect("ld.global.v2.u32 {%r3, %r4}, [%base+4];", FaultKind::Misaligned, "of 8 bytes");
    expect("st.global.v4.u32 [%base+8], {%t, %t, %t, %t};", FaultKind::Misaligned, "write");
}

#[test]
fn shared_memory() {
    expect("st.shared.u32 [%r2+256], %t;", FaultKind::OutOfBounds, "of 256 bytes the block has");
    expect("st.shared.u32 [%r2+1], %t;", FaultKind::Misaligned, "misaligned");
    expect("ld.shared.u32 %r3, [%r2];", FaultKind::Uninitialised, "nothing was written to");
    expect(
        "cvt.u64.u32 %rd1, %r2; cvta.shared.u64 %rd1, %rd1; ld.u32 %r3, [%rd1];",
        FaultKind::Uninitialised,
        "shared read",
    );
}

#[test]
fn local_memory() {
    let depot = ".local .align 4 .b8 depot[8]; mov.u64 %rd1, depot;\n";
    expect(&format!("{depot} st.local.u32 [%rd1+8], %t;"), FaultKind::OutOfBounds, "local access");
    expect(&format!("{depot} st.local.u32 [%rd1+2], %t;"), FaultKind::Misaligned, "local access");
}

#[test]
fn uninitialised_global_memory() {
    let text = kernel_text("", "ld.global.u32 %r1, [%base+8]; st.global.u32 [%base], %r1;");
    let kernel = Module::parse(&text).unwrap().kernel("k").unwrap();
    let mut gpu = Gpu::new();
    let p = gpu.alloc(64).unwrap();
    let args = [Arg::U64(p), Arg::U32(0)];
    let e = gpu.launch(&kernel, grid(1, 1, 0), &args).unwrap_err();
    assert!(e.to_string().contains("which nothing was written to"), "{e}");
    assert!(gpu.read(p, &mut [0; 4]).is_err());
    gpu.write(p + 8, &[1, 0, 0, 0]).unwrap();
    gpu.launch(&kernel, grid(1, 1, 0), &args).unwrap();
    gpu.free(p).unwrap();
    let e = gpu.launch(&kernel, grid(1, 1, 0), &args).unwrap_err();
    assert!(e.to_string().contains("an allocation of 64 bytes that was freed"), "{e}");
}

#[test]
fn uninitialised_registers() {
    let words = "a register that nothing was written to";
    expect("add.u32 %r3, %r4, 1;", FaultKind::Uninitialised, words);
    // On one of two paths.
    let f = expect(
        "setp.lt.u32 %p1, %t, 50; @%p1 bra HAVE; bra.uni END;\nHAVE: mov.u32 %r4, 1;\n\
         END: add.u32 %r3, %r4, 1;",
        FaultKind::Uninitialised,
        words,
    );
    assert_eq!(f.thread, [50, 0, 0]);
    // A move hands on the lack; using the copy fails, copying alone does not.
    expect("mov.u32 %r5, %r4; add.u32 %r3, %r5, 1;", FaultKind::Uninitialised, words);
    assert!(run("", "mov.u32 %r5, %r4;", grid(1, 32, 0)).is_ok());
    expect("st.global.u32 [%o], %r9;", FaultKind::Uninitialised, words);
    // Written and read under the same predicate: fine.
    let body = "setp.lt.u32 %p1, %t, 5; @%p1 mov.u32 %r4, 1; @%p1 st.global.u32 [%o], %r4;";
    assert!(run("", body, grid(1, 32, 0)).is_ok());
}

#[test]
fn races_on_shared_memory() {
    let words = "no barrier between";
    // Another thread's value, in the next warp and in the same.
    let read = |xor: u32| {
        format!("st.shared.u32 [%r2], %t; xor.b32 %r3, %r2, {xor}; ld.shared.u32 %r4, [%r3];")
    };
    expect(
        &format!("{} bar.sync 0;", read(4)),
        FaultKind::Race,
        "reads what thread 1 of the block wrote",
    );
    // Warp 1 reads warp 0's words and leaves; warp 0 overwrites them.
    let reader = "st.shared.u32 [%r2], %t; bar.sync 0; xor.b32 %r3, %r2, 128;\n\
                  ld.shared.u32 %r4, [%r3]; setp.ge.u32 %p1, %t, 32; @%p1 ret;";
    let over = format!("{reader} st.shared.u32 [%r2], %t;");
    expect(&over, FaultKind::Race, "writes what thread 32 of the block read, no barrier between");
    // Two lanes of one store.
    expect("st.shared.u32 [buf], %t;", FaultKind::Race, "writes what thread 0 of the block wrote");
    // A barrier of the warp does not order other warps.
    expect(
        "st.shared.u32 [%r2], %t; bar.warp.sync -1; xor.b32 %r3, %r2, 128; setp.lt.u32 %p1, %t, 32;\n\
         @%p1 bra END; ld.shared.u32 %r4, [%r3]; END:",
        FaultKind::Race,
        words,
    );
    // Neighbouring halves of a word are nobody else's business.
    let halves = format!(
        "{AT} mad.lo.u32 %r2, %t, 2, %r1; cvt.u16.u32 %h1, %t; st.shared.u16 [%r2], %h1;\n\
         ld.shared.u16 %h2, [%r2]; cvt.u32.u16 %r3, %h2; st.global.u32 [%o], %r3;"
    );
    assert_eq!(run(BUF, &halves, grid(1, 64, 0)).unwrap().0, Vec::from_iter(0..64));
}

#[test]
fn races_between_blocks() {
    let words = "race between blocks";
    let two = |body: &str| {
        let f = fault("", body, grid(2, 32, 0));
        assert_eq!(f.kind, FaultKind::Race, "{f}");
        assert!(f.what.contains(words), "{f}");
    };
    two("st.global.u32 [%o], %t;");
    two(
        "ld.global.u32 %r1, [%base+128]; mov.u32 %r2, %ctaid.x; setp.eq.u32 %p1, %r2, 0; @%p1 ret;\n\
         st.global.u32 [%o+128], %r1;",
    );
    two("red.global.add.u32 [%base], 1; ld.global.u32 %r1, [%base];");
    // Both reading, or both adding, is no race; nor are launches one after the other.
    assert!(run("", "ld.global.u32 %r1, [%base];", grid(2, 32, 0)).is_ok());
    assert_eq!(run("", "red.global.add.u32 [%base], 1;", grid(2, 32, 0)).unwrap().0[0], 64);
    let kernel =
        Module::parse(&kernel_text("", "st.global.u32 [%o], %t;")).unwrap().kernel("k").unwrap();
    let mut gpu = Gpu::new();
    let p = gpu.alloc(128).unwrap();
    let args = [Arg::U64(p), Arg::U32(0)];
    gpu.launch(&kernel, grid(1, 32, 0), &args).unwrap();
    gpu.launch(&kernel, grid(1, 32, 0), &args).unwrap();
    gpu.check_races(false);
    gpu.launch(&kernel, grid(2, 32, 0), &args).unwrap();
}

#[test]
fn divergence() {
    let half = "setp.lt.u32 %p1, %t, 16;";
    expect(
        &format!("{half} @%p1 bra A; bar.sync 0; bra.uni END;\nA: bar.sync 0; END:"),
        FaultKind::Divergent,
        "lanes 0xffff0000 are here alone, lanes 0x0000ffff wait elsewhere",
    );
    expect(
        &format!("{half} @%p1 bra A; shfl.sync.bfly.b32 %r3, %t, 1, 31, -1; ret;\nA: bar.sync 0;"),
        FaultKind::Divergent,
        "divergent",
    );
    expect(
        "setp.ne.u32 %p1, %t, 3; @%p1 ret; shfl.sync.idx.b32 %r3, %t, 4, 31, -1;",
        FaultKind::Operand,
        "a shuffle from lane 4, which does not take part",
    );
    expect(
        &format!("{half} @%p1 ret; vote.sync.any.pred %p2, %p1, 0xffff;"),
        FaultKind::Operand,
        "that its mask 0x0000ffff does not name",
    );
    let tiny = "mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%f0,%f1,%f2,%f3}, {%t,%t}, {%t}, {%t,%t,%t,%t};";
    assert_eq!(fault("", tiny, grid(1, 20, 0)).kind, FaultKind::Divergent);
}

#[test]
fn deadlocks() {
    let f = expect(
        "setp.lt.u32 %p1, %t, 32; @%p1 ret; bar.sync 0;",
        FaultKind::Deadlock,
        "barrier 0 waits for 64 threads, 32 have come, 32 have exited",
    );
    assert_eq!(f.text, "setp.lt.u32 %p1, %t, 32; @%p1 ret; bar.sync 0;");
    expect(
        "setp.lt.u32 %p1, %t, 32; @%p1 bra A; bar.sync 1; ret;\nA: bar.sync 2;",
        FaultKind::Deadlock,
        "others wait at PTX line",
    );
    expect("bar.sync 0, 40;", FaultKind::Operand, "no multiple of 32");
    expect("bar.sync 16;", FaultKind::Operand, "barrier 16: there are 16");
}

#[test]
fn traps_zeros_and_endless_loops() {
    expect("setp.eq.u32 %p1, %t, 40; @%p1 trap;", FaultKind::Trap, "trap");
    let f =
        expect("sub.u32 %r3, %t, 7; div.u32 %r4, 1, %r3;", FaultKind::Operand, "division by zero");
    assert_eq!(f.thread, [7, 0, 0]);
    let text = kernel_text("", "LOOP: bra.uni LOOP;");
    let kernel = Module::parse(&text).unwrap().kernel("k").unwrap();
    let mut gpu = Gpu::new();
    gpu.set_budget(1_000_000);
    let p = gpu.alloc(4).unwrap();
    let e = gpu.launch(&kernel, grid(1, 32, 0), &[Arg::U64(p), Arg::U32(0)]).unwrap_err();
    assert!(e.to_string().contains("endless loop"), "{e}");
    expect(
        "T: .branchtargets A, B; brx.idx %t, T; A: ret; B:",
        FaultKind::Operand,
        "index 2 of 2 branch targets",
    );
}

#[test]
fn launches() {
    let text = kernel_text("", "").replace("{\n.reg", ".maxntid 128, 1, 1\n{\n.reg");
    let text = text.replacen(
        ".visible .entry",
        ".extern .shared .align 16 .b8 dyn[];\n.visible .entry",
        1,
    );
    let kernel = Module::parse(&text).unwrap().kernel("k").unwrap();
    assert_eq!(kernel.max_threads(), Some([128, 1, 1]));
    assert_eq!(Vec::from_iter(kernel.params()), [8, 4]);
    let mut gpu = Gpu::new();
    let args = [Arg::U64(0), Arg::U32(0)];
    let mut refuse = |shape: Grid, args: &[Arg], words: &str| {
        let e = gpu.launch(&kernel, shape, args).unwrap_err();
        assert!(matches!(e, Error::Launch { .. }) && e.to_string().contains(words), "{e}");
    };
    refuse(grid(1, 129, 0), &args, ".maxntid allows 128");
    refuse(grid(1, 1025, 0), &args, "1025 threads a block, of 1024 at most");
    refuse(grid(0, 32, 0), &args, "an empty grid");
    refuse(grid(1, 32, 227 * 1024 + 1), &args, "of 232448 a block can have on an H100");
    refuse(grid(1, 32, 0), &args[..1], "1 arguments for 2 parameters");
    refuse(
        grid(1, 32, 0),
        &[Arg::U32(0), Arg::U32(0)],
        "argument 0 is U32(0), the parameter has 8 bytes",
    );
}

#[test]
fn host_memory_calls() {
    let mut gpu = Gpu::new();
    let p = gpu.alloc(10).unwrap();
    assert!(gpu.alloc(0).is_err());
    assert!(gpu.write(p + 8, &[0; 3]).unwrap_err().to_string().contains("3 bytes"));
    assert!(gpu.free(p + 1).is_err());
    let q = gpu.alloc(10).unwrap();
    gpu.fill(p, 5, 7).unwrap();
    gpu.copy(q, p, 10).unwrap();
    let mut out = [0; 5];
    gpu.read(q, &mut out).unwrap();
    assert_eq!(out, [7; 5]);
    assert!(gpu.read(q + 5, &mut out).unwrap_err().to_string().contains("offset 5"));
    gpu.free(p).unwrap();
    assert!(gpu.free(p).is_err());
    assert!(gpu.write(p, &[1]).is_err());
}

/// What is unknown is refused by name, with its line.
#[test]
fn refusals() {
    let refuse = |body: &str, words: &str| {
        let text = kernel_text(BUF, body);
        let e = Module::parse(&text).and_then(|m| m.kernel("k")).unwrap_err();
        let line = 1 + text[..text.find(body).unwrap()].matches('\n').count();
        let e = e.to_string();
        assert!(e.contains(words) && e.contains(&format!("PTX line {line}")), "{e}");
    };
    refuse("wgmma.fence.sync.aligned;", "not supported: `wgmma`");
    refuse("add.rz.f32 %f1, %f2, %f3;", "`.rz` on `add`");
    refuse("frobnicate.b32 %r1, %r2;", "`frobnicate`");
    refuse("add.u32 %r1, %r2, %rd3;", "a register of 64 bits where the instruction has 32");
    refuse("add.u32 %r1, %r2, %r99;", "`%r99`, neither declared nor known");
    refuse("bra NOWHERE;", "no label `NOWHERE`");
    refuse("mov.u32 %r1, nothing;", "`nothing` is not declared");
    refuse("cp.async.bulk.commit_group;", "this copy");
    refuse("ld.global.b32 %h1, [%o];", "a register narrower than the load");
    refuse("mbarrier.init.shared.b64 [buf], 1;", "`mbarrier`");
    refuse("add.s32 %r1, %r2;", "operands");
    let e = Module::parse(".version 8.0\n.target sm_90\n.address_size 32\n").unwrap_err();
    assert!(e.to_string().contains("32-bit addresses"), "{e}");
    let recursive = ".func f()\n{ call.uni f, (); ret; }\n";
    let e = Module::parse(&kernel_text(recursive, "call.uni f, ();")).and_then(|m| m.kernel("k"));
    assert!(e.unwrap_err().to_string().contains("recursion of `f`"));
    let module = Module::parse(&kernel_text("", "")).unwrap();
    assert_eq!(module.kernel("x").unwrap_err().to_string(), "the module has no kernel `x`");
    assert_eq!((module.kernels(), module.target()), (&["k".to_string()][..], 90));
}

/// Text that would take the parser's stack or the machine's memory is refused in a line.
#[test]
fn hostile_text_is_refused() {
    let refused = |head: &str, body: &str, words: &str| {
        let module = Module::parse(&kernel_text(head, body));
        let error = module.and_then(|module| module.kernel("k")).expect_err(words).to_string();
        assert!(error.contains(words) && error.lines().count() <= 2, "{error}");
    };
    for n in [100, 100_000] {
        let (open, close) = ("{".repeat(n), "}".repeat(n));
        let deep = "braces in one another";
        refused(&format!(".global .align 4 .b32 x[4] = {open}1{close};"), "", deep);
        refused("", &format!("mov.b64 %rd1, {open}%r1{close};"), deep);
        refused("", &format!("st.global.u32 {}%o{}, %t;", "[%o, ".repeat(n), "]".repeat(n)), deep);
    }
    let calls = |n: usize| {
        let callee = |i: usize| match i {
            0 => String::new(),
            _ => format!("call f{}; ", i - 1),
        };
        (0..n).map(|i| format!(".func f{i}()\n{{ {}ret; }}\n", callee(i))).collect::<String>()
    };
    refused(&calls(10_000), "call f9999;", "calling one another");
    for count in ["65537", "4294967295"] {
        let body = format!(".reg .b32 %many<{count}>;");
        refused("", &body, "more than 65536 registers");
    }
    let twice = ".reg .b64 %a<40000>; .reg .b64 %b<40000>;";
    refused("", twice, "more than 65536 registers");
    refused(".global .b8 x[4294967295][4294967295][4294967295];", "", "more than 4 GiB");
    refused(".global .align 3 .b8 x[4];", "", "no power of two");
    refused(".global .align 0 .b8 x[4];", "", "no power of two");
}
