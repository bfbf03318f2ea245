//! The memory plan against what the operating system saw.

use crate::common::{Dir, text};

/// The number before "MiB" in the line that contains `label`.
fn mib(printed: &str, label: &str) -> f64 {
    let line = printed.lines().rev().find(|line| line.contains(label));
    let line = line.unwrap_or_else(|| panic!("no {label:?} in: {printed}"));
    let before = line.split("MiB").next().unwrap();
    before.split_whitespace().last().unwrap().parse().unwrap()
}

#[test]
#[cfg(target_os = "linux")] // elsewhere the system does not tell a process its peak
fn a_15m_run_takes_what_the_plan_says() {
    let dir = Dir::new();
    std::fs::write(dir.path("text.txt"), text(20_000)).unwrap();
    let sizes = "--data text.txt --model 15m --batch-size 16 --seq-len 256";
    let rest = "--steps 2 --eval-tokens 4096 --sample-tokens 8 --save-every 0";
    for mode in ["--dtype f32", "--dtype bf16"] {
        let run = dir.run("pretrain", &format!("{sizes} {mode} {rest} --overwrite --out out"));
        assert_eq!(run.code, 0, "{}", run.stderr);
        let plan =
            dir.run("pretrain", &format!("{sizes} {mode} --plan --tokenizer out/tokenizer.json"));
        let (planned, peak) = (mib(&plan.stdout, "peak"), mib(&run.stderr, "peak memory"));
        println!("{mode}: planned {planned:.1} MiB, peak {peak:.1} MiB");
        assert!((peak / planned - 1.0).abs() <= 0.05, "planned {planned} MiB, peak {peak} MiB");
    }
}
