//! How fast the emulator is: lane-instructions a second of small loops, best of five runs.
//!
//! `cargo run --release -p handgrad-ptx-emu --example speed`

use std::time::Instant;

use ptx_emu::{Arg, Gpu, Grid, Module};

fn main() {
    let loops = [
        ("integer add", "add.u32 %r2, %r2, %t;".repeat(16)),
        ("fma f32", "fma.rn.f32 %f2, %f2, %f1, %f1;".repeat(16)),
        ("ex2 f32", "ex2.approx.f32 %f2, %f1;".repeat(16)),
        ("64-bit address", "mad.wide.u32 %rd3, %t, 4, %rd1; add.s64 %rd3, %rd3, 8;".repeat(8)),
        ("compare, select", "setp.lt.u32 %p2, %r2, %t; selp.b32 %r2, %t, %r1, %p2;".repeat(8)),
        ("global load b32", "ld.global.b32 %f2, [%rd2];".repeat(16)),
        ("global load v4", "ld.global.v4.b32 {%f2, %f3, %f4, %f5}, [%rd4];".repeat(16)),
        ("global store b16", "st.global.b16 [%rd5], %h1;".repeat(16)),
        ("shared load b32", "ld.shared.b32 %f2, [%r3];".repeat(16)),
        ("shared store v4", "st.shared.v4.b32 [%r4], {%f1, %f1, %f1, %f1};".repeat(16)),
        (
            "ldmatrix x4",
            "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%f2, %f3, %f4, %f5}, [%r5];".repeat(16),
        ),
        (
            "mma m16n8k16 bf16",
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f2, %f3, %f4, %f5}, \
             {%t, %t, %t, %t}, {%t, %t}, {%f1, %f1, %f1, %f1};"
                .repeat(16),
        ),
    ];
    println!("{:20} {:>16} {:>14}", "loop", "Mlane-instr/s", "ns/warp-instr");
    for (name, body) in loops {
        let (rate, ns) = measure(&body);
        println!("{name:20} {:16.0} {ns:14.1}", rate / 1e6);
    }
}

/// Lane-instructions a second over all host threads, and nanoseconds a warp instruction on one.
fn measure(body: &str) -> (f64, f64) {
    let text = format!(
        ".version 8.0\n.target sm_90\n.address_size 64\n\
         .visible .entry k(.param .u64 data)\n{{\n\
         .reg .b32 %r<8>, %f<8>, %t; .reg .b64 %rd<8>; .reg .b16 %h<2>; .reg .pred %p<4>;\n\
         .shared .align 128 .b8 buf[65536];\n\
         ld.param.u64 %rd1, [data]; mov.u32 %t, %tid.x; mov.u32 %r6, %ctaid.x;\n\
         mad.lo.u32 %r7, %r6, 128, %t; mad.wide.u32 %rd2, %r7, 4, %rd1;\n\
         mad.wide.u32 %rd4, %r7, 16, %rd1; mad.wide.u32 %rd5, %r7, 2, %rd1;\n\
         mov.u32 %r1, buf; mad.lo.u32 %r3, %t, 4, %r1; mad.lo.u32 %r4, %t, 16, %r1;\n\
         cvt.u16.u32 %h1, %t; mov.b32 %f1, 0f3F000000; mov.b32 %f2, %f1; mov.u32 %r2, 0;\n\
         st.shared.v4.b32 [%r4], {{%f1, %f1, %f1, %f1}}; bar.sync 0; mov.u32 %r5, %r4;\n\
         mov.u32 %r1, 0;\nLOOP: {body}\n add.u32 %r1, %r1, 1; setp.lt.u32 %p1, %r1, 500;\n\
         @%p1 bra LOOP; ret;\n}}\n"
    );
    let kernel = Module::parse(&text).and_then(|m| m.kernel("k")).expect("the loop is PTX");
    let mut gpu = Gpu::new();
    let data = gpu.alloc(1 << 20).expect("memory");
    gpu.fill(data, 1 << 20, 0).expect("within the allocation");
    let grid = Grid { blocks: [8, 1, 1], threads: [128, 1, 1], shared_bytes: 0 };
    let mut best = f64::INFINITY;
    let mut lanes = 0;
    for _ in 0..5 {
        let start = Instant::now();
        lanes = gpu.launch(&kernel, grid, &[Arg::U64(data)]).expect("a clean launch").total.lanes;
        best = best.min(start.elapsed().as_secs_f64());
    }
    let rate = lanes as f64 / best;
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()) as f64;
    (rate, 32e9 * threads / rate)
}
