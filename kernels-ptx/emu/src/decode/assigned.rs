//! Which registers may be read before they are written. Where every path to a read passes a write,
//! nothing is left to check when the program runs; only the other registers are tracked.

use std::collections::HashMap;

use super::Flow;
use crate::ir::{Op, Program, Reg, Track};

/// Marks the instructions that touch a register whose assignment is not certain.
pub(super) fn mark(program: &mut Program, flow: &[Flow]) {
    let index = index_registers(program, flow);
    let words = index.len().div_ceil(64);
    let certain = certain_before(program, flow, &index, words);
    let mut doubtful = vec![false; index.len()];
    for (pc, f) in flow.iter().enumerate() {
        for r in &f.uses {
            if let Some(&i) = index.get(r)
                && !has(&certain[pc * words..][..words], i)
            {
                doubtful[i] = true;
            }
        }
    }
    for (pc, f) in flow.iter().enumerate() {
        let pick = |regs: &[Reg]| -> Vec<Reg> {
            regs.iter().copied().filter(|r| index.get(r).is_some_and(|&i| doubtful[i])).collect()
        };
        let (uses, defs) = (pick(&f.uses), pick(&f.defs));
        if !uses.is_empty() || !defs.is_empty() {
            program.code[pc].track = Some(program.tracks.len() as u32);
            program.tracks.push(Track { uses, defs, copies: f.copies });
        }
    }
    spread(program, flow);
}

/// A move out of a doubtful register makes its destination doubtful too, so that the lack of a
/// value travels; moves of moves follow.
fn spread(program: &mut Program, flow: &[Flow]) {
    loop {
        let mut more = Vec::new();
        for (pc, f) in flow.iter().enumerate() {
            if let Some(t) = program.code[pc].track
                && f.copies
                && !program.tracks[t as usize].uses.is_empty()
            {
                let known = &program.tracks[t as usize].defs;
                more.extend(f.defs.iter().copied().filter(|d| !known.contains(d)));
            }
        }
        if more.is_empty() {
            return;
        }
        for (pc, f) in flow.iter().enumerate() {
            let hit = |regs: &[Reg]| -> Vec<Reg> {
                regs.iter().copied().filter(|r| more.contains(r)).collect()
            };
            let (uses, defs) = (hit(&f.uses), hit(&f.defs));
            if uses.is_empty() && defs.is_empty() {
                continue;
            }
            let t = *program.code[pc].track.get_or_insert_with(|| {
                program.tracks.push(Track { copies: f.copies, ..Track::default() });
                program.tracks.len() as u32 - 1
            });
            let track = &mut program.tracks[t as usize];
            track.uses.extend(uses.iter().filter(|r| !track.uses.contains(r)).collect::<Vec<_>>());
            track.defs.extend(defs.iter().filter(|r| !track.defs.contains(r)).collect::<Vec<_>>());
        }
    }
}

/// Registers that need an index: all but those filled at a warp's start.
fn index_registers(program: &Program, flow: &[Flow]) -> HashMap<Reg, usize> {
    let started: std::collections::HashSet<Reg> = program.starts.iter().map(|s| s.0).collect();
    let mut index = HashMap::new();
    for r in flow.iter().flat_map(|f| f.uses.iter().chain(&f.defs)) {
        if !started.contains(r) {
            let next = index.len();
            index.entry(*r).or_insert(next);
        }
    }
    index
}

fn has(set: &[u64], i: usize) -> bool {
    set[i / 64] >> (i % 64) & 1 == 1
}

/// For each instruction, the registers written on every path to it: forward, by intersection.
fn certain_before(
    program: &Program,
    flow: &[Flow],
    index: &HashMap<Reg, usize>,
    words: usize,
) -> Vec<u64> {
    let n = program.code.len();
    let mut before = vec![u64::MAX; n * words];
    let mut seen = vec![false; n];
    let mut work = vec![program.entry as usize];
    before[program.entry as usize * words..][..words].fill(0);
    seen[program.entry as usize] = true;
    let mut after = vec![0u64; words];
    while let Some(pc) = work.pop() {
        after.copy_from_slice(&before[pc * words..][..words]);
        if program.code[pc].guard.is_none() {
            for &i in flow[pc].defs.iter().filter_map(|d| index.get(d)) {
                after[i / 64] |= 1 << (i % 64);
            }
        }
        for next in successors(program, pc) {
            let set = &mut before[next * words..][..words];
            let mut changed = !std::mem::replace(&mut seen[next], true);
            for (b, a) in set.iter_mut().zip(&after) {
                changed |= *b & !*a != 0;
                *b &= a;
            }
            if changed {
                work.push(next);
            }
        }
    }
    before
}

/// A call goes into the function and, as far as the caller's registers go, on to the next
/// instruction: a function touches none of them.
fn successors(program: &Program, pc: usize) -> Vec<usize> {
    let inst = &program.code[pc];
    let mut out = match &inst.op {
        Op::Bra { target } => vec![*target as usize],
        Op::BrxIdx { table, .. } => {
            program.tables[*table as usize].iter().map(|t| *t as usize).collect()
        }
        Op::Call { target, .. } => vec![*target as usize, pc + 1],
        Op::Ret { .. } | Op::Exit | Op::Trap => vec![],
        _ => vec![pc + 1],
    };
    let falls = inst.guard.is_some()
        && matches!(
            inst.op,
            Op::Bra { .. } | Op::BrxIdx { .. } | Op::Ret { .. } | Op::Exit | Op::Trap
        );
    if falls {
        out.push(pc + 1);
    }
    out
}
