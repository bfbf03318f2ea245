//! One warp: groups of lanes at the same position, the lowest position first.
//!
//! Groups that meet merge. An instruction that needs lanes together parks those that have come and
//! lets the others catch up; if they cannot, that is the error.

use super::access;
use super::alu;
use super::block::Block;
use super::copy::{self, Copies};
use super::matrix;
use super::regs::{FULL, Regs, lanes};
use super::sync;
use crate::error::{Bad, Exec, FaultKind, bad};
use crate::ir::{Alu, Inst, Op, Program, Reg, Track};

/// Instructions a warp runs before others get their turn, checked where it jumps backwards.
const SLICE: u64 = 20_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Ready,
    /// Waits for lanes of its own warp.
    Parked,
    /// Waits for a barrier to complete for the nth time.
    Barrier {
        id: u32,
        generation: u64,
    },
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    pub pc: u32,
    pub mask: u32,
    pub state: State,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    Done,
    Blocked,
    Slice,
}

#[derive(Default)]
pub(crate) struct Warp {
    pub index: usize,
    pub regs: Regs,
    pub groups: Vec<Group>,
    /// Lanes that have not exited.
    pub live: u32,
    /// Lanes that ever lived.
    pub born: u32,
    /// Local memory, one frame a lane.
    pub local: Vec<u8>,
    pub frame: usize,
    pub copies: Copies,
    pub steps: u64,
    /// Lanes for which a tracked register has a value.
    defined: [Vec<u32>; 3],
}

/// Where in the code something failed.
pub(crate) type Placed<T> = Result<T, (u32, Box<Bad>)>;

/// What an instruction asks of the loop around it.
pub(super) enum Flow {
    Next,
    /// Some lanes must wait here for others of their warp.
    Park,
    /// The lanes wait at a barrier, after this instruction.
    Wait {
        id: u32,
        generation: u64,
    },
}

impl Warp {
    pub fn reset(&mut self, program: &Program, index: usize, threads: usize) {
        if self.regs.r32.len() != program.r32
            || self.regs.r64.len() != program.r64
            || self.regs.pred.len() != program.preds
        {
            self.regs = Regs::new(program.r32, program.r64, program.preds);
        }
        let count = (threads - index * 32).min(32);
        self.index = index;
        self.live = if count == 32 { FULL } else { (1 << count) - 1 };
        self.born = self.live;
        self.groups.clear();
        self.groups.push(Group { pc: program.entry, mask: self.live, state: State::Ready });
        self.frame = program.frame;
        self.local.clear();
        self.local.resize(program.frame * 32, 0xff);
        self.copies = Copies::default();
        self.steps = 0;
        if !program.tracks.is_empty() {
            self.defined = [program.r32, program.r64, program.preds].map(|n| vec![0; n]);
        }
    }

    fn defined(&mut self, r: Reg) -> &mut u32 {
        let (file, slot) = match r {
            Reg::R32(s) => (0, s),
            Reg::R64(s) => (1, s),
            Reg::Pred(s) => (2, s),
        };
        &mut self.defined[file][slot as usize]
    }

    /// Registers whose value is not certain by the code alone.
    #[cold]
    fn check_defined(&mut self, t: &Track, m: u32) -> Exec {
        if t.copies {
            let from = t.uses.first().map_or(FULL, |u| *self.defined(*u));
            for d in &t.defs {
                let d = self.defined(*d);
                *d = (*d & !m) | (from & m);
            }
            return Ok(());
        }
        for u in &t.uses {
            let missing = m & !*self.defined(*u);
            if missing != 0 {
                let what = "reads a register that nothing was written to".to_string();
                return Err(bad(FaultKind::Uninitialised, missing.trailing_zeros(), what));
            }
        }
        for d in &t.defs {
            *self.defined(*d) |= m;
        }
        Ok(())
    }

    pub fn ready(&self, b: &Block, g: &Group) -> bool {
        match g.state {
            State::Ready => true,
            State::Parked => false,
            State::Barrier { id, generation } => b.barriers[id as usize].generation > generation,
        }
    }

    pub fn can_run(&self, b: &Block) -> bool {
        self.groups.iter().any(|g| self.ready(b, g))
    }

    /// Takes the ready group with the lowest position.
    fn pick(&mut self, b: &Block) -> Option<Group> {
        let best = (0..self.groups.len())
            .filter(|i| self.ready(b, &self.groups[*i]))
            .min_by_key(|i| self.groups[*i].pc)?;
        Some(self.groups.swap_remove(best))
    }

    pub fn push(&mut self, pc: u32, mask: u32) {
        if mask != 0 {
            self.groups.push(Group { pc, mask, state: State::Ready });
        }
    }

    /// Runs until every lane has exited, waits, or the slice is used up.
    pub fn run(&mut self, b: &mut Block) -> Placed<Pause> {
        let stop = self.steps + SLICE;
        loop {
            let Some(g) = self.pick(b) else { return self.nothing_ready() };
            let (mut pc, mut mask) = (g.pc, g.mask);
            while mask != 0 {
                if !self.groups.is_empty() && !self.merge(pc, &mut mask) {
                    self.push(pc, mask);
                    break;
                }
                let inst = &b.program.code[pc as usize];
                let m = match inst.guard {
                    None => mask,
                    Some((p, negated)) => {
                        let p = self.regs.pred[p as usize];
                        mask & if negated { !p } else { p }
                    }
                };
                self.steps += 1;
                let tally = &mut b.tally[pc as usize];
                tally.warps += 1;
                tally.lanes += u64::from(m.count_ones());
                if let Some(t) = inst.track {
                    self.check_defined(&b.program.tracks[t as usize], m).map_err(|e| (pc, e))?;
                }
                if let Op::Alu(alu) = &inst.op {
                    match alu {
                        Alu::Clock { d } => {
                            let now = [self.steps; 32];
                            self.regs.put(*d, &now, m);
                        }
                        _ => {
                            alu::run(&mut self.regs, alu, m, b.approximate).map_err(|e| (pc, e))?
                        }
                    }
                    pc += 1;
                    continue;
                }
                let rest = mask & !m;
                match &inst.op {
                    Op::Bra { target } => {
                        if m == 0 {
                            pc += 1;
                        } else if rest == 0 {
                            let backwards = *target <= pc;
                            pc = *target;
                            if backwards && self.steps >= stop {
                                self.push(pc, mask);
                                return self.out_of_slice(b, pc);
                            }
                        } else {
                            self.push(pc + 1, rest);
                            self.push(*target, m);
                            break;
                        }
                    }
                    Op::BrxIdx { .. } | Op::Call { .. } | Op::Ret { .. } => {
                        self.jump(b.program, inst, pc, m).map_err(|e| (pc, e))?;
                        self.push(pc + 1, rest);
                        break;
                    }
                    Op::Exit => {
                        self.exit(m);
                        mask = rest;
                        pc += 1;
                    }
                    Op::Trap if m != 0 => {
                        let what = "trap".to_string();
                        return Err((pc, bad(FaultKind::Trap, m.trailing_zeros(), what)));
                    }
                    _ if m == 0 => pc += 1,
                    _ => match step(self, b, inst, pc, m).map_err(|e| (pc, e))? {
                        Flow::Next => pc += 1,
                        Flow::Park => {
                            self.groups.push(Group { pc, mask: m, state: State::Parked });
                            self.push(pc + 1, rest);
                            break;
                        }
                        Flow::Wait { id, generation } => {
                            let state = State::Barrier { id, generation };
                            self.groups.push(Group { pc: pc + 1, mask: m, state });
                            self.push(pc + 1, rest);
                            break;
                        }
                    },
                }
            }
        }
    }

    /// Takes in groups at the same position. False if another group is behind and must run first.
    fn merge(&mut self, pc: u32, mask: &mut u32) -> bool {
        let mut first = true;
        self.groups.retain(|g| {
            let here = g.pc == pc && matches!(g.state, State::Ready | State::Parked);
            if here {
                *mask |= g.mask;
            }
            first &= here || g.state != State::Ready || g.pc > pc;
            !here
        });
        first
    }

    fn out_of_slice(&self, b: &Block, pc: u32) -> Placed<Pause> {
        if self.steps < b.budget {
            return Ok(Pause::Slice);
        }
        let what = format!("an endless loop: the warp has executed {} instructions", self.steps);
        Err((pc, bad(FaultKind::Budget, self.live.trailing_zeros(), what)))
    }

    fn nothing_ready(&self) -> Placed<Pause> {
        let parked = self.groups.iter().filter(|g| g.state == State::Parked).min_by_key(|g| g.pc);
        let Some(parked) = parked else {
            return Ok(if self.groups.is_empty() { Pause::Done } else { Pause::Blocked });
        };
        if self.groups.iter().any(|g| matches!(g.state, State::Barrier { .. })) {
            return Ok(Pause::Blocked);
        }
        Err((parked.pc, self.divergent(parked)))
    }

    pub fn divergent(&self, parked: &Group) -> Box<Bad> {
        let missing = self.live & !parked.mask;
        let exited = self.born & !self.live;
        let mut what = format!("divergent: lanes {:#010x} are here alone", parked.mask);
        if missing != 0 {
            what += &format!(", lanes {missing:#010x} wait elsewhere");
        }
        if exited != 0 {
            what += &format!(", lanes {exited:#010x} have exited");
        }
        bad(FaultKind::Divergent, parked.mask.trailing_zeros(), what)
    }

    fn exit(&mut self, m: u32) {
        self.live &= !m;
        for g in &mut self.groups {
            // Lanes that waited for the ones that left look again.
            if g.state == State::Parked {
                g.state = State::Ready;
            }
        }
    }

    /// Jumps whose target may differ between lanes.
    fn jump(&mut self, program: &Program, inst: &Inst, pc: u32, m: u32) -> Exec {
        match &inst.op {
            Op::Call { target, ret } => {
                self.regs.put32(*ret, &[pc + 1; 32], m);
                self.push(*target, m);
            }
            Op::Ret { ret } => {
                let to = *self.regs.get32(*ret);
                self.scatter(m, |l| to[l]);
            }
            Op::BrxIdx { index, table } => {
                let table = &program.tables[*table as usize];
                let index = *self.regs.get32(*index);
                if let Some(l) = lanes(m).find(|l| index[*l] as usize >= table.len()) {
                    let what = format!("index {} of {} branch targets", index[l], table.len());
                    return Err(bad(FaultKind::Operand, l as u32, what));
                }
                self.scatter(m, |l| table[index[l] as usize]);
            }
            _ => unreachable!("no jump"),
        }
        Ok(())
    }

    /// Sends each lane to its own position, as few groups as there are positions.
    pub fn scatter(&mut self, mut m: u32, to: impl Fn(usize) -> u32) {
        while m != 0 {
            let pc = to(m.trailing_zeros() as usize);
            let here = lanes(m).filter(|l| to(*l) == pc).fold(0, |h, l| h | 1 << l);
            self.push(pc, here);
            m &= !here;
        }
    }
}

/// Everything but register arithmetic and jumps.
fn step(w: &mut Warp, b: &mut Block, inst: &Inst, pc: u32, m: u32) -> Exec<Flow> {
    match &inst.op {
        Op::Nop | Op::Fence | Op::Trap => {}
        Op::Load(a) => access::load(w, b, pc, a, m)?,
        Op::Store(a) => access::store(w, b, pc, a, m)?,
        Op::LoadParam { offset, access } => access::param(w, b, *offset, access, m)?,
        Op::Atomic(a) => access::atomic(w, b, pc, a, m)?,
        Op::CopyFrame { dst, src, bytes } => {
            for l in lanes(m) {
                let base = l * w.frame;
                let (src, dst) = (base + *src as usize, base + *dst as usize);
                w.local.copy_within(src..src + *bytes as usize, dst);
            }
        }
        Op::Barrier { .. }
        | Op::WarpSync { .. }
        | Op::Shuffle { .. }
        | Op::Vote { .. }
        | Op::Match { .. }
        | Op::Redux { .. }
        | Op::ActiveMask { .. }
        | Op::Elect { .. } => return sync::run(w, b, &inst.op, m),
        Op::Mma(_) | Op::LdMatrix { .. } | Op::StMatrix { .. } => {
            if m != w.live {
                return Ok(Flow::Park);
            }
            if m != FULL {
                let what = format!("a matrix instruction in a warp of lanes {m:#010x} alone");
                return Err(bad(FaultKind::Divergent, m.trailing_zeros(), what));
            }
            matrix::run(w, b, &inst.op, pc, m)?;
        }
        Op::CpAsync(c) => copy::issue(w, b, pc, c, m)?,
        Op::CpCommit => w.copies.commit(m),
        Op::CpWait { pending } => copy::wait(w, b, m, Some(*pending))?,
        Op::CpWaitAll => copy::wait(w, b, m, None)?,
        Op::Alu(_) | Op::Bra { .. } | Op::BrxIdx { .. } | Op::Call { .. } => {}
        Op::Ret { .. } | Op::Exit => {}
    }
    Ok(Flow::Next)
}
