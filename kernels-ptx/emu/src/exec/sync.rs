//! Barriers, shuffles, votes: instructions that lanes or warps execute together.

use super::block::Block;
use super::regs::{LANES, lanes, mask_of};
use super::warp::{Flow, Warp};
use crate::error::{Exec, FaultKind, bad};
use crate::ir::{AtomOp, Op, Shuffle, Slot, Vote};

pub(super) fn run(w: &mut Warp, b: &mut Block, op: &Op, m: u32) -> Exec<Flow> {
    match op {
        Op::Barrier { id, threads, aligned, arrive } => {
            return barrier(w, b, *id, *threads, *aligned, *arrive, m);
        }
        Op::ActiveMask { d } => w.regs.put32(*d, &[m; LANES], m),
        Op::WarpSync { mask }
        | Op::Shuffle { mask, .. }
        | Op::Vote { mask, .. }
        | Op::Match { mask, .. }
        | Op::Redux { mask, .. }
        | Op::Elect { mask, .. } => return together(w, b, op, *mask, m),
        _ => unreachable!("no warp instruction"),
    }
    Ok(Flow::Next)
}

/// Every lane names the lanes it expects; sets of lanes that name the same execute together.
fn together(w: &mut Warp, b: &mut Block, op: &Op, mask: Slot, m: u32) -> Exec<Flow> {
    let named = *w.regs.get32(mask);
    let mut left = m;
    while left != 0 {
        let want = named[left.trailing_zeros() as usize];
        let here = mask_of(|l| m >> l & 1 == 1 && named[l] == want);
        if here & !want != 0 {
            let what = format!("a lane executes this that its mask {want:#010x} does not name");
            return Err(bad(FaultKind::Operand, (here & !want).trailing_zeros(), what));
        }
        if want & w.live & !here != 0 {
            return Ok(Flow::Park);
        }
        left &= !here;
    }
    let mut left = m;
    while left != 0 {
        let want = named[left.trailing_zeros() as usize];
        let here = mask_of(|l| m >> l & 1 == 1 && named[l] == want);
        collective(w, b, op, here)?;
        left &= !here;
    }
    Ok(Flow::Next)
}

fn collective(w: &mut Warp, b: &mut Block, op: &Op, m: u32) -> Exec {
    match *op {
        Op::WarpSync { .. } => b.clocks.tick(w.index),
        Op::Shuffle { mode, d, p, a, b, c, .. } => shuffle(w, mode, [d, a, b, c], p, m)?,
        Op::Vote { mode, d, a, negated, .. } => {
            let bits = w.regs.pred[a as usize] ^ if negated { u32::MAX } else { 0 };
            let yes = bits & m;
            let v = match mode {
                Vote::All => u64::from(yes == m),
                Vote::Any => u64::from(yes != 0),
                Vote::Uni => u64::from(yes == m || yes == 0),
                Vote::Ballot => u64::from(yes),
            };
            w.regs.put(d, &[v; LANES], m);
        }
        Op::Match { all, d, p, a, .. } => {
            let v = w.regs.get(a);
            let equal = |l: usize| mask_of(|k| m >> k & 1 == 1 && v[k] == v[l]);
            let out = std::array::from_fn(|l| match (all, equal(l)) {
                (true, e) if e != m => 0,
                (_, e) => e,
            });
            w.regs.put32(d, &out, m);
            if let Some(p) = p {
                let same = equal(m.trailing_zeros() as usize) == m;
                w.regs.put_pred(p, if same { m } else { 0 }, m);
            }
        }
        Op::Redux { op, signed, d, a, .. } => {
            let v = *w.regs.get32(a);
            let fold = |x: u32, y: u32| match op {
                AtomOp::Add => x.wrapping_add(y),
                AtomOp::Min if signed => (x as i32).min(y as i32) as u32,
                AtomOp::Max if signed => (x as i32).max(y as i32) as u32,
                AtomOp::Min => x.min(y),
                AtomOp::Max => x.max(y),
                AtomOp::And => x & y,
                AtomOp::Or => x | y,
                _ => x ^ y,
            };
            let sum = lanes(m).map(|l| v[l]).reduce(fold).unwrap_or(0);
            w.regs.put32(d, &[sum; LANES], m);
        }
        Op::Elect { d, p, .. } => {
            let leader = m.trailing_zeros();
            if let Some(d) = d {
                w.regs.put32(d, &[leader; LANES], m);
            }
            w.regs.put_pred(p, 1 << leader, m);
        }
        _ => unreachable!("no collective"),
    }
    Ok(())
}

/// Source lanes as in the ISA: within segments given by c's bits 8 to 12, clamped by its low bits.
fn shuffle(w: &mut Warp, mode: Shuffle, [d, a, b, c]: [Slot; 4], p: Option<Slot>, m: u32) -> Exec {
    let (v, b, c) = (*w.regs.get32(a), *w.regs.get32(b), *w.regs.get32(c));
    let mut out = [0; LANES];
    let mut inside = 0u32;
    for l in lanes(m) {
        let (lane, by) = (l as i32, (b[l] & 31) as i32);
        let (clamp, segment) = ((c[l] & 31) as i32, (c[l] >> 8 & 31) as i32);
        let last = (lane & segment) | (clamp & !segment);
        let (from, good) = match mode {
            Shuffle::Up => (lane - by, lane - by >= last),
            Shuffle::Down => (lane + by, lane + by <= last),
            Shuffle::Bfly => (lane ^ by, lane ^ by <= last),
            Shuffle::Idx => {
                let from = (lane & segment) | (by & !segment);
                (from, from <= last)
            }
        };
        let from = if good { from } else { lane } as usize;
        if m >> from & 1 == 0 {
            let what = format!("a shuffle from lane {from}, which does not take part");
            return Err(bad(FaultKind::Operand, l as u32, what));
        }
        out[l] = v[from];
        inside |= u32::from(good) << l;
    }
    w.regs.put32(d, &out, m);
    if let Some(p) = p {
        w.regs.put_pred(p, inside, m);
    }
    Ok(())
}

/// One of a block's sixteen barriers.
#[derive(Default)]
pub(crate) struct Barrier {
    /// Times it has completed.
    pub generation: u64,
    pub arrived: u32,
    pub expected: u32,
    /// Threads that only arrived, without waiting.
    passing: u32,
    waiting_warps: u32,
    clock: Vec<u16>,
}

fn barrier(
    w: &mut Warp,
    b: &mut Block,
    id: Slot,
    threads: Option<Slot>,
    aligned: bool,
    arrive: bool,
    m: u32,
) -> Exec<Flow> {
    if aligned && m != w.live {
        return Ok(Flow::Park);
    }
    let first = m.trailing_zeros() as usize;
    let wrong = |what: String| bad(FaultKind::Operand, first as u32, what);
    let same = |s: Slot, name: &str| {
        let row = w.regs.get32(s);
        match lanes(m).all(|l| row[l] == row[first]) {
            true => Ok(row[first]),
            false => Err(wrong(format!("lanes of a warp give a barrier different {name}"))),
        }
    };
    let id = same(id, "numbers")?;
    let all = b.threads as u32;
    let expected = threads.map_or(Ok(all), |t| same(t, "thread counts"))?;
    if id > 15 {
        return Err(wrong(format!("barrier {id}: there are 16")));
    }
    if threads.is_some() && (expected == 0 || expected % 32 != 0) {
        return Err(wrong(format!("a barrier of {expected} threads, no multiple of 32")));
    }
    // With an explicit count a warp counts whole, as the count does.
    let whole = threads.is_some() && m == w.live;
    let count = if whole { 32 } else { m.count_ones() };
    let bar = &mut b.barriers[id as usize];
    if bar.arrived == 0 {
        bar.expected = expected;
    } else if bar.expected != expected {
        return Err(wrong(format!(
            "barrier {id} with {expected} threads, where others gave {}",
            bar.expected
        )));
    }
    let generation = bar.generation;
    bar.arrived += count;
    b.clocks.give(w.index, &mut bar.clock);
    b.clocks.tick(w.index);
    if arrive {
        bar.passing += count;
    } else {
        bar.waiting_warps |= 1 << w.index;
    }
    if bar.arrived > bar.expected {
        return Err(wrong(format!(
            "{} threads at barrier {id}, which is for {}",
            bar.arrived, bar.expected
        )));
    }
    if bar.arrived == bar.expected {
        complete(b, id as usize);
    }
    Ok(if arrive { Flow::Next } else { Flow::Wait { id, generation } })
}

fn complete(b: &mut Block, id: usize) {
    let bar = &mut b.barriers[id];
    bar.generation += 1;
    let whole_block = bar.expected as usize >= b.threads && bar.passing == 0;
    if whole_block {
        b.clocks.barrier();
    } else {
        for w in lanes(bar.waiting_warps) {
            b.clocks.take(w, &bar.clock);
        }
    }
    *bar = Barrier { generation: bar.generation, ..Barrier::default() };
}
