//! The emulator is what these kernels are trusted on: a fault planted in their own PTX must be caught,
//! by name and place. Every barrier and every wait of products and attention is dropped once, so none
//! of them is there in vain.

use crate::check::{Bf16, Device, F32, Gen, float, int, ptr};
use kernels_ptx::launch::attention::Sequences;
use kernels_ptx::launch::{Launch, Target, attention, gemm, norm, skinny};
use kernels_ptx::{SM_80, SM_90A};
use ptx_emu::{Arg, Error, FaultKind};

/// Lines that begin so, how each is changed once, and what kinds of fault that may be.
type Plant<'a> = (&'a str, fn(&str) -> String, &'a [FaultKind]);
/// Runs a kernel's usual launch on a device.
type Run = fn(&mut Device) -> Result<(), Error>;

/// A product of more slices than stages, of exactly what the buffers hold.
fn product(d: &mut Device) -> Result<(), Error> {
    let (M, N, K) = (128, 128, 320);
    let g = &mut Gen::new(0);
    let (a, b) =
        (d.put(Bf16, &g.normals(Bf16, M * K, 1.0)), d.put(Bf16, &g.normals(Bf16, N * K, 1.0)));
    let c = d.room(Bf16, M * N);
    let [m, n, k] = [M, N, K].map(|x| x as u32);
    let launch = gemm::rounded(gemm::cut(Target::of(90), m, n, k), gemm::Layout::Nt, m, n, k, k);
    let launch = Launch { kernel: "gemm_nt_bf16_128x128", threads: 128, ..launch };
    let args = [&[c, 0, a, b].map(ptr)[..], &[M, N, K, K, K, N].map(int)].concat();
    d.try_run(launch, &args)
}

fn attention(d: &mut Device) -> Result<(), Error> {
    let (T, H, D) = (256, 2, 64);
    let qkv = d.put(Bf16, &Gen::new(0).normals(Bf16, T * 4 * D, 1.0));
    let (o, lse) = (d.room(Bf16, T * H * D), d.room(F32, T * H));
    let sizes = [int(T), int(H), int(1), int(D), float(0.125)];
    let one = Sequences::Equal { B: 1, T: T as u32 };
    let launch = attention::forward(Target::of(90), Bf16, one, H as u32, D as u32).launch;
    d.try_run(launch, &[&[o, lse, qkv, 0].map(ptr)[..], &sizes].concat())
}

/// A product of a few rows, of more pieces than a warp has under way.
fn skinny(d: &mut Device) -> Result<(), Error> {
    let (M, N, K) = (9, 24, 2400);
    let g = &mut Gen::new(0);
    let [x, w] = [M, N].map(|rows| d.put(Bf16, &g.normals(Bf16, rows * K, 1.0)));
    let y = d.room(Bf16, M * N);
    let args = [&[y, 0, x, w].map(ptr)[..], &[M, N, K, K, K, N].map(int)].concat();
    d.try_run(skinny::rounded(Target::of(90), M as u32, N as u32), &args)
}

fn squares(d: &mut Device) -> Result<(), Error> {
    let len = 70_000;
    let x = d.put(F32, &Gen::new(0).normals(F32, len, 1.0));
    let part = d.room_f64(2);
    d.try_run(norm::squares(len as u64), &[ptr(part), ptr(x), Arg::U64(len as u64)])
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
