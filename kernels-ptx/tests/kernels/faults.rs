//! The emulator is what these kernels are trusted on: a fault planted in their own PTX must be caught,
//! by name and place. Every barrier and every wait of products and attention is dropped once, so none
//! of them is there in vain.

use crate::check::{Bf16, Device, F32, Gen, int};
use crate::gemm::{Operands, tiled};
use kernels_ptx::attention::flash;
use kernels_ptx::launch::{Kernel, Target};
use kernels_ptx::linear::gemm::Layout;
use kernels_ptx::linear::skinny::Rounded;
use kernels_ptx::norm::{Squares, parts};
use kernels_ptx::{SM_80, SM_90A};
use ptx_emu::{Error, FaultKind};
use std::ptr::null;

/// Lines that begin so, how each is changed once, and what kinds of fault that may be.
type Plant<'a> = (&'a str, fn(&str) -> String, &'a [FaultKind]);
/// Runs a kernel's usual launch on a device.
type Run = fn(&mut Device) -> Result<(), Error>;

/// A product of more slices than stages, of exactly what the buffers hold.
fn product(d: &mut Device) -> Result<(), Error> {
    let (M, N, K) = (128, 128, 320);
    let g = &mut Gen::new(0);
    let [a, b] = [M, N].map(|rows| d.put_bf16(&g.normals(Bf16, rows * K, 1.0)).cast_const());
    let c = d.room_bf16(M * N);
    let operands = Operands { layout: Layout::Nt, a, b, M, N, K, lda: K, ldb: K };
    let launch = tiled("gemm_nt_bf16_128x128", 128, M, N, 1);
    d.try_run(launch, &operands.rounded(c, null(), N))
}

fn attention(d: &mut Device) -> Result<(), Error> {
    let (T, H, D) = (256, 2, 64);
    let forward = flash::Forward {
        qkv: d.put_bf16(&Gen::new(0).normals(Bf16, T * 4 * D, 1.0)),
        o_NHD: d.room_bf16(T * H * D),
        lse_NH: d.room_f32(T * H),
        items: null(),
        T: int(T),
        H: int(H),
        G: 1,
        D: int(D),
        scale: 0.125,
        count: 1,
    };
    d.try_run(forward.launch(Target::of(90)), &forward)
}

/// A product of a few rows, of more pieces than a warp has under way.
fn skinny(d: &mut Device) -> Result<(), Error> {
    let (M, N, K) = (9, 24, 2400);
    let g = &mut Gen::new(0);
    let [x, w] = [M, N].map(|rows| d.put_bf16(&g.normals(Bf16, rows * K, 1.0)).cast_const());
    let y = d.room_bf16(M * N);
    let [M, N, K] = [M, N, K].map(int);
    let product = Rounded { y, r: null(), x, w, M, N, K, ldx: K, ldw: K, ldy: N };
    d.try_run(product.launch(Target::of(90)), &product)
}

fn squares(d: &mut Device) -> Result<(), Error> {
    let len = 70_000;
    let x = d.put_f32(&Gen::new(0).normals(F32, len, 1.0));
    let part_P = d.room_f64(parts(len as u64) as usize);
    let squares = Squares { part_P, x, len: len as u64 };
    d.try_run(squares.launch(Target::of(90)), &squares)
}

/// The header of a module and one of its kernels.
fn alone(module: &str, kernel: &str) -> String {
    let first = module.find(".visible .entry").unwrap();
    let start = module.find(&format!(".visible .entry {kernel}(")).unwrap();
    let end = start + module[start..].find("\n}").unwrap() + 3;
    format!("{}{}", &module[..first], &module[start..end])
}

/// Lines of `text` that hold `word`.
fn lines_with(text: &str, word: &str) -> Vec<usize> {
    let lines = text.lines().enumerate();
    lines.filter(|(_, line)| line.trim_start().starts_with(word)).map(|(i, _)| i).collect()
}

fn with_line(text: &str, at: usize, change: impl Fn(&str) -> String) -> String {
    let lines = text.lines().enumerate();
    lines.map(|(i, line)| if i == at { change(line) } else { line.to_string() } + "\n").collect()
}

/// `[address]`, the last on the line, moved by some bytes.
fn moved(line: &str, bytes: i64) -> String {
    let end = line.rfind(']').unwrap();
    let (inside, start) = (&line[..end], line[..end].rfind('[').unwrap());
    let (register, old) = match inside[start..].split_once('+') {
        Some((register, old)) => (register, old.parse().unwrap()),
        None => (&inside[start..], 0),
    };
    format!("{}{register}+{}{}", &line[..start], old + bytes, &line[end..])
}

/// The line for all lanes of a warp but the third.
fn divergent(line: &str) -> String {
    format!(
        "{{ .reg .pred %planted; .reg .b32 %lane; mov.u32 %lane, %laneid; \
         setp.ne.u32 %planted, %lane, 3; @%planted {} }}",
        line.trim()
    )
}

/// The fault that `text` runs into: named with its kernel, line, block and thread.
fn caught(text: &str, kernel: &str, what: &str, run: Run) -> FaultKind {
    match run(&mut Device::of(text)) {
        Err(Error::Fault(fault)) => {
            let line = text.lines().nth(fault.line as usize - 1).unwrap();
            assert!(fault.kernel == kernel && line.trim() == fault.text.trim(), "{what}: {fault}");
            let place = format!("block ({},", fault.block[0]);
            let thread = format!("thread ({},", fault.thread[0]);
            let said = fault.to_string();
            assert!(said.contains(&place) && said.contains(&thread), "{what}: {said}");
            fault.kind
        }
        other => panic!("{kernel}: {what}: {other:?}"),
    }
}

fn planted(module: &str, kernel: &str, run: Run, plants: &[Plant]) {
    let text = alone(module, kernel);
    run(&mut Device::of(&text)).unwrap_or_else(|e| panic!("{kernel} itself: {e}"));
    for &(word, change, kinds) in plants {
        let lines = lines_with(&text, word);
        assert!(!lines.is_empty(), "{kernel}: no {word}");
        for at in lines {
            let what = format!("{word} in line {}", at + 1);
            let kind = caught(&with_line(&text, at, change), kernel, &what, run);
            assert!(kinds.contains(&kind), "{kernel}: {what}: caught as {kind:?}");
        }
    }
}

fn dropped(_: &str) -> String {
    String::new()
}

use FaultKind::{Divergent, Misaligned, OutOfBounds, Pending, Race, Uninitialised};

#[test]
fn a_missing_barrier_or_wait() {
    for module in [&*SM_80, &*SM_90A] {
        let plants: [Plant; 2] = [
            ("bar.sync", dropped, &[Race, Pending]),
            ("cp.async.wait_group", dropped, &[Pending, Uninitialised]),
        ];
        planted(module, "gemm_nt_bf16_128x128", product, &plants);
        planted(module, "attention_forward_bf16_64", attention, &plants);
        planted(module, "skinny_bf16_8", skinny, &plants);
        // The first barrier of a reduction is for those who reduce again.
        let text = alone(module, "norm_squares");
        let text = with_line(&text, *lines_with(&text, "bar.sync").last().unwrap(), dropped);
        let kind = caught(&text, "norm_squares", "its barrier", squares);
        assert!([Race, Uninitialised].contains(&kind), "{kind:?}");
    }
}

#[test]
fn a_wrong_address() {
    for module in [&*SM_80, &*SM_90A] {
        planted(
            module,
            "gemm_nt_bf16_128x128",
            product,
            &[("ldmatrix", |line| moved(line, 2), &[Misaligned])],
        );
        planted(
            module,
            "norm_squares",
            squares,
            &[
                ("ld.global.v4.b32", |line| moved(line, 4), &[Misaligned]),
                ("st.global.b64", |line| moved(line, 8), &[OutOfBounds]),
            ],
        );
        // The last access of a span: an element further on lies outside.
        let text = alone(module, "norm_squares");
        let last = *lines_with(&text, "ld.global.v4.b32").last().unwrap();
        let text = with_line(&text, last, |line| moved(line, 16));
        assert_eq!(caught(&text, "norm_squares", "the next four", squares), OutOfBounds);
    }
}

#[test]
fn a_divergent_warp() {
    for module in [&*SM_80, &*SM_90A] {
        let text = alone(module, "gemm_nt_bf16_128x128");
        for word in ["bar.sync", "ldmatrix", "mma.sync"] {
            let at = lines_with(&text, word)[0];
            let text = with_line(&text, at, divergent);
            assert_eq!(caught(&text, "gemm_nt_bf16_128x128", word, product), Divergent);
        }
    }
}
