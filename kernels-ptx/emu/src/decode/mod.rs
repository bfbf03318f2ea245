//! Syntax to instructions: names become slots, labels become positions, functions are laid out
//! callees first, so that lanes inside a call have lower positions than lanes waiting for them.

mod alu;
mod assigned;
mod float;
mod memory;
mod operands;
mod warp;

use std::collections::HashMap;

use crate::ast::{Ast, Func, Instr, Operand, Space, Stmt, Ty, Var};
use crate::counts::Class;
use crate::error::{Error, Result};
use crate::ir::{Inst, Op, Param, Program, Reg, Slot, Start};
use crate::lex::line_text;

/// Decodes one kernel with everything it calls.
pub(crate) fn kernel(source: &str, ast: &Ast, name: &str) -> Result<Program> {
    let mut funcs = HashMap::new();
    for f in &ast.funcs {
        if f.body.is_some() || !funcs.contains_key(f.name) {
            funcs.insert(f.name, f);
        }
    }
    let mut b = Builder {
        source,
        ast,
        program: Program { name: name.to_string(), dynamic_align: 16, ..Program::default() },
        scopes: Vec::new(),
        labels: HashMap::new(),
        fixups: Vec::new(),
        targets: HashMap::new(),
        places: HashMap::new(),
        shared: HashMap::new(),
        constants: HashMap::new(),
        uses: Vec::new(),
        defs: Vec::new(),
        flow: Vec::new(),
        line: 0,
    };
    let mut order = Vec::new();
    b.call_order(&funcs, funcs[name], &mut Vec::new(), &mut order)?;
    for f in order {
        b.func(f)?;
    }
    assigned::mark(&mut b.program, &b.flow);
    let global = |i: &Inst| memory::global_bytes(&i.op);
    let narrowest = b.program.code.iter().filter_map(global).min().unwrap_or(16);
    b.program.granule = narrowest.ilog2();
    Ok(b.program)
}

/// A named piece of memory.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// Module variable, by index.
    Global(u32),
    Shared(usize),
    DynamicShared,
    /// A thread's frame.
    Frame(usize),
    /// A kernel's parameter.
    Param(usize),
}

/// Functions that call one another, at most: the decoder calls itself for each.
const CALLS: usize = 64;

#[derive(Default)]
struct Scope<'a> {
    id: usize,
    regs: HashMap<&'a str, Reg>,
    /// `%r<n>` as prefix, type, first slots, count.
    ranges: Vec<(&'a str, Vec<Reg>)>,
    widths: HashMap<Reg, Ty>,
    places: HashMap<&'a str, Place>,
}

/// Registers one instruction reads and writes, for the analysis of what is assigned.
#[derive(Debug, Default, Clone)]
struct Flow {
    uses: Vec<Reg>,
    defs: Vec<Reg>,
    copies: bool,
}

/// What a called function needs to be known by.
struct Callee {
    entry: u32,
    ret: Slot,
    rets: Vec<(usize, usize)>,
    params: Vec<(usize, usize)>,
}

struct Builder<'a> {
    source: &'a str,
    ast: &'a Ast<'a>,
    program: Program,
    scopes: Vec<Scope<'a>>,
    /// Label to position, by scope.
    labels: HashMap<(usize, &'a str), u32>,
    /// Branches to labels not yet seen: instruction or table entry, label, scopes around it, line.
    fixups: Vec<(Fixup, &'a str, Vec<usize>, u32)>,
    targets: HashMap<&'a str, Vec<&'a str>>,
    places: HashMap<&'a str, Callee>,
    shared: HashMap<&'a str, Place>,
    constants: HashMap<(bool, u64), Reg>,
    uses: Vec<Reg>,
    defs: Vec<Reg>,
    flow: Vec<Flow>,
    line: u32,
}

enum Fixup {
    Branch(usize),
    Table(usize, usize),
}

impl<'a> Builder<'a> {
    fn parse_error<T>(&self, what: impl Into<String>) -> Result<T> {
        let text = line_text(self.source, self.line);
        Err(Error::Parse { line: self.line, text, what: what.into() })
    }

    fn unsupported<T>(&self, what: impl Into<String>) -> Result<T> {
        let text = line_text(self.source, self.line);
        Err(Error::Unsupported { line: self.line, text, what: what.into() })
    }

    /// Depth first, callees before callers; a cycle is refused, because a function's registers
    /// exist once.
    fn call_order(
        &mut self,
        funcs: &HashMap<&'a str, &'a Func<'a>>,
        f: &'a Func<'a>,
        path: &mut Vec<&'a str>,
        order: &mut Vec<&'a Func<'a>>,
    ) -> Result<()> {
        self.line = f.line;
        if path.contains(&f.name) {
            return self.unsupported(format!("recursion of `{}`", f.name));
        }
        if order.iter().any(|g| g.name == f.name) {
            return Ok(());
        }
        if path.len() == CALLS {
            return self.unsupported(format!("more than {CALLS} functions calling one another"));
        }
        let Some(body) = &f.body else {
            return self.unsupported(format!("call of `{}`, which has no body", f.name));
        };
        path.push(f.name);
        for stmt in body {
            if let Stmt::Instr(i) = stmt
                && i.name.split('.').next() == Some("call")
            {
                self.line = i.line;
                let Some(callee) = callee_name(i).and_then(|n| funcs.get(n)) else {
                    return self.unsupported("a call of something that is no function here");
                };
                self.call_order(funcs, callee, path, order)?;
            }
        }
        path.pop();
        order.push(f);
        Ok(())
    }

    fn func(&mut self, f: &'a Func<'a>) -> Result<()> {
        self.line = f.line;
        self.scopes = vec![Scope::default()];
        self.labels.clear();
        self.targets.clear();
        let entry = self.program.code.len() as u32;
        let ret = self.new_slot(Ty::B32)?;
        let Reg::R32(ret_slot) = ret else { unreachable!("a 32-bit slot") };
        if f.entry {
            self.entry_params(f);
            self.program.entry = entry;
            self.program.max_threads = f.max_threads;
            self.program.req_threads = f.req_threads;
        } else {
            let rets = f.rets.iter().map(|v| (self.frame_var(v), v.size)).collect();
            let params = f.params.iter().map(|v| (self.frame_var(v), v.size)).collect();
            self.places.insert(f.name, Callee { entry, ret: ret_slot, rets, params });
        }
        let mut next_scope = 1;
        for stmt in f.body.as_ref().expect("checked in call_order") {
            match stmt {
                Stmt::Open => {
                    self.scopes.push(Scope { id: next_scope, ..Scope::default() });
                    next_scope += 1;
                }
                Stmt::Close => {
                    self.scopes.pop();
                }
                Stmt::Label(name) => {
                    let scope = self.scope().id;
                    let here = self.program.code.len() as u32;
                    if self.labels.insert((scope, name), here).is_some() {
                        return self.parse_error(format!("label `{name}` twice"));
                    }
                }
                Stmt::Targets(name, list) => {
                    self.targets.insert(name, list.clone());
                }
                Stmt::Reg { line, ty, name, count } => {
                    self.line = *line;
                    self.declare(*ty, name, *count)?;
                }
                Stmt::Var(v) => {
                    self.line = v.line;
                    self.local_var(v)?;
                }
                Stmt::Instr(i) => {
                    self.line = i.line;
                    self.instr(i, f.entry, ret_slot)?;
                }
            }
        }
        // Running off the end returns.
        let op = if f.entry { Op::Exit } else { Op::Ret { ret: ret_slot } };
        self.push(op, Class::Control, None);
        self.resolve_labels()
    }

    fn scope(&mut self) -> &mut Scope<'a> {
        self.scopes.last_mut().expect("a function has a scope")
    }

    fn entry_params(&mut self, f: &'a Func<'a>) {
        let mut offset = 0usize;
        for v in &f.params {
            offset = offset.next_multiple_of(v.align.max(1));
            self.program.params.push(Param { offset, size: v.size });
            self.scope().places.insert(v.name, Place::Param(offset));
            offset += v.size;
        }
        self.program.param_bytes = offset;
    }

    fn frame_var(&mut self, v: &Var<'a>) -> usize {
        let at = self.program.frame.next_multiple_of(v.align.max(1));
        self.program.frame = at + v.size;
        self.scope().places.insert(v.name, Place::Frame(at));
        at
    }

    fn local_var(&mut self, v: &Var<'a>) -> Result<()> {
        match v.space {
            Space::Local | Space::Param => {
                self.frame_var(v);
            }
            Space::Shared => {
                let place = self.shared_var(v);
                self.scope().places.insert(v.name, place);
            }
            _ => return self.unsupported("a variable of this state space in a function"),
        }
        Ok(())
    }

    fn shared_var(&mut self, v: &Var<'a>) -> Place {
        if v.size == 0 {
            self.program.dynamic_align = self.program.dynamic_align.max(v.align);
            return Place::DynamicShared;
        }
        let at = self.program.static_shared.next_multiple_of(v.align.max(1));
        self.program.static_shared = at + v.size;
        Place::Shared(at)
    }

    /// A variable by name: of the function, then of the module.
    fn place(&mut self, name: &str) -> Option<Place> {
        if let Some(p) = self.scopes.iter().rev().find_map(|s| s.places.get(name)) {
            return Some(*p);
        }
        let (index, var) = self.ast.vars.iter().enumerate().find(|(_, v)| v.name == name)?;
        if var.space == Space::Shared {
            if let Some(p) = self.shared.get(name) {
                return Some(*p);
            }
            let place = self.shared_var(var);
            self.shared.insert(var.name, place);
            return Some(place);
        }
        let index = index as u32;
        if !self.program.globals.contains(&index) {
            self.program.globals.push(index);
        }
        Some(Place::Global(index))
    }

    fn declare(&mut self, ty: Ty, name: &'a str, count: Option<u32>) -> Result<()> {
        if ty == Ty::B128 {
            return self.unsupported("128-bit registers");
        }
        let n = count.unwrap_or(1);
        if n > 1 << 16 {
            return self.unsupported("more than 65536 registers");
        }
        let mut regs = Vec::with_capacity(n as usize);
        for _ in 0..n {
            let reg = self.new_slot(ty)?;
            regs.push(reg);
            self.scope().widths.insert(reg, ty);
        }
        let scope = self.scope();
        match count {
            None => {
                scope.regs.insert(name, regs[0]);
            }
            Some(_) => scope.ranges.push((name, regs)),
        }
        Ok(())
    }

    fn new_slot(&mut self, ty: Ty) -> Result<Reg> {
        let p = &mut self.program;
        let file = match ty.bytes() {
            0 => &mut p.preds,
            8 => &mut p.r64,
            _ => &mut p.r32,
        };
        let slot = *file;
        *file += 1;
        let Ok(slot) = Slot::try_from(slot) else {
            return self.unsupported("more than 65536 registers");
        };
        Ok(match ty.bytes() {
            0 => Reg::Pred(slot),
            8 => Reg::R64(slot),
            _ => Reg::R32(slot),
        })
    }

    /// A declared register and its type.
    fn find_reg(&self, name: &str) -> Option<(Reg, Ty)> {
        let prefix = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let index: Option<usize> = name[prefix.len()..].parse().ok();
        for s in self.scopes.iter().rev() {
            let ranged = || {
                let (_, regs) = s.ranges.iter().find(|(p, _)| *p == prefix)?;
                regs.get(index?)
            };
            if let Some(reg) = s.regs.get(name).or_else(ranged) {
                return Some((*reg, s.widths[reg]));
            }
        }
        None
    }

    /// The slot that holds a constant from a warp's start on.
    fn constant(&mut self, wide: bool, bits: u64) -> Result<Reg> {
        if let Some(reg) = self.constants.get(&(wide, bits)) {
            return Ok(*reg);
        }
        let reg = self.start(wide, Start::Bits(bits))?;
        self.constants.insert((wide, bits), reg);
        Ok(reg)
    }

    fn start(&mut self, wide: bool, start: Start) -> Result<Reg> {
        if let Some((reg, _)) = self
            .program
            .starts
            .iter()
            .find(|(r, s)| *s == start && wide == matches!(r, Reg::R64(_)))
        {
            return Ok(*reg);
        }
        let reg = self.new_slot(if wide { Ty::B64 } else { Ty::B32 })?;
        self.program.starts.push((reg, start));
        Ok(reg)
    }

    fn push(&mut self, op: Op, class: Class, guard: Option<(Slot, bool)>) {
        let mut uses = std::mem::take(&mut self.uses);
        let defs = std::mem::take(&mut self.defs);
        let copies = matches!(&op, Op::Alu(a) if alu::is_move(a));
        if copies && uses.len() > 1 {
            // A selection or a pack may carry what nobody looks at.
            uses.clear();
        }
        if let Some((p, _)) = guard {
            uses.push(Reg::Pred(p));
        }
        self.flow.push(Flow { uses, defs, copies });
        self.program.code.push(Inst { op, guard, class, line: self.line, track: None });
    }

    fn instr(&mut self, i: &'a Instr<'a>, entry: bool, ret: Slot) -> Result<()> {
        let guard = match &i.guard {
            None => None,
            Some(g) => Some((self.pred_reg(g.pred)?, g.negated)),
        };
        let mut m = Mods::new(i.name);
        let ops = &i.operands[..];
        let base = m.base;
        let (op, class) = match base {
            "bra" => {
                m.take("uni");
                let [Operand::Name(label)] = ops else { return self.operands_error() };
                self.branch_to(label);
                (Op::Bra { target: 0 }, Class::Control)
            }
            "brx" => {
                m.take("idx");
                m.take("uni");
                (self.brx(ops)?, Class::Control)
            }
            "call" => {
                m.take("uni");
                return self.call(i, guard);
            }
            "ret" | "exit" => {
                m.take("uni");
                let op = if entry || base == "exit" { Op::Exit } else { Op::Ret { ret } };
                (op, Class::Control)
            }
            "trap" => (Op::Trap, Class::Control),
            "nanosleep" => {
                m.take("u32");
                (Op::Nop, Class::Control)
            }
            "ld" | "ldu" => self.load(&mut m, ops)?,
            "st" => self.store(&mut m, ops)?,
            "atom" | "red" => self.atomic(&mut m, ops)?,
            "prefetch" | "prefetchu" | "applypriority" | "discard" => {
                m.clear();
                (Op::Nop, Class::Control)
            }
            "fence" | "membar" => self.fence(&mut m)?,
            "bar" | "barrier" | "shfl" | "vote" | "match" | "redux" | "activemask" | "elect" => {
                self.warp_op(&mut m, ops)?
            }
            "mma" | "ldmatrix" | "stmatrix" => self.matrix(&mut m, ops)?,
            "cp" => self.copy(&mut m, ops)?,
            _ => {
                let (alu, class) = self.alu(&mut m, ops)?;
                (Op::Alu(alu), class)
            }
        };
        self.finish_mods(&m)?;
        self.push(op, class, guard);
        Ok(())
    }

    /// Whatever modifier nobody took is refused, never ignored.
    fn finish_mods(&self, m: &Mods) -> Result<()> {
        match m.rest.first() {
            None => Ok(()),
            Some(word) => self.unsupported(format!("`.{word}` on `{}`", m.base)),
        }
    }

    fn operands_error<T>(&self) -> Result<T> {
        self.parse_error("operands of another kind or number were expected")
    }

    fn branch_to(&mut self, label: &'a str) {
        let at = Fixup::Branch(self.program.code.len());
        let path = self.scopes.iter().map(|s| s.id).collect();
        self.fixups.push((at, label, path, self.line));
    }

    fn brx(&mut self, ops: &'a [Operand<'a>]) -> Result<Op> {
        let [index, Operand::Name(table)] = ops else { return self.operands_error() };
        let index = self.src32(index, Ty::U32)?;
        let Some(labels) = self.targets.get(table).cloned() else {
            return self.parse_error("no such .branchtargets");
        };
        let t = self.program.tables.len();
        self.program.tables.push(vec![0; labels.len()]);
        let path: Vec<usize> = self.scopes.iter().map(|s| s.id).collect();
        for (n, label) in labels.into_iter().enumerate() {
            self.fixups.push((Fixup::Table(t, n), label, path.clone(), self.line));
        }
        Ok(Op::BrxIdx { index, table: t as u32 })
    }

    fn resolve_labels(&mut self) -> Result<()> {
        for (at, label, path, line) in std::mem::take(&mut self.fixups) {
            self.line = line;
            let found = path.iter().rev().find_map(|scope| self.labels.get(&(*scope, label)));
            let Some(&pc) = found else { return self.parse_error(format!("no label `{label}`")) };
            match at {
                Fixup::Branch(i) => self.program.code[i].op = Op::Bra { target: pc },
                Fixup::Table(t, n) => self.program.tables[t][n] = pc,
            }
        }
        Ok(())
    }

    /// A call is a copy of each argument into the function's frame, a jump that remembers where it
    /// came from, and a copy of the result.
    fn call(&mut self, i: &'a Instr<'a>, guard: Option<(Slot, bool)>) -> Result<()> {
        let (rets, args): (&[&str], &[&str]) = match &i.operands[..] {
            [Operand::List(r), Operand::Name(_), Operand::List(a)] => (r, a),
            [Operand::List(r), Operand::Name(_)] => (r, &[]),
            [Operand::Name(_), Operand::List(a)] => (&[], a),
            [Operand::Name(_)] => (&[], &[]),
            _ => return self.unsupported("this form of call"),
        };
        let name = callee_name(i).expect("checked in call_order");
        let callee = &self.places[name];
        let (entry, ret) = (callee.entry, callee.ret);
        let (formal_rets, formals) = (callee.rets.clone(), callee.params.clone());
        if rets.len() != formal_rets.len() || args.len() != formals.len() {
            return self.parse_error("a call with another number of arguments");
        }
        for (arg, (dst, bytes)) in args.iter().zip(formals) {
            let Some(Place::Frame(src)) = self.place(arg) else {
                return self.unsupported("an argument that is no .param variable");
            };
            let op = Op::CopyFrame { dst: dst as u32, src: src as u32, bytes: bytes as u32 };
            self.push(op, Class::Local, guard);
        }
        self.push(Op::Call { target: entry, ret }, Class::Control, guard);
        for (out, (src, bytes)) in rets.iter().zip(formal_rets) {
            let Some(Place::Frame(dst)) = self.place(out) else {
                return self.unsupported("a result that is no .param variable");
            };
            let op = Op::CopyFrame { dst: dst as u32, src: src as u32, bytes: bytes as u32 };
            self.push(op, Class::Local, guard);
        }
        Ok(())
    }
}

fn callee_name<'a>(i: &Instr<'a>) -> Option<&'a str> {
    i.operands.iter().find_map(|o| match o {
        Operand::Name(n) => Some(*n),
        _ => None,
    })
}

/// The dotted parts of an opcode, taken one by one.
pub(crate) struct Mods<'a> {
    base: &'a str,
    rest: Vec<&'a str>,
}

impl<'a> Mods<'a> {
    fn new(name: &'a str) -> Self {
        let mut parts = name.split('.');
        Mods { base: parts.next().unwrap_or(""), rest: parts.collect() }
    }

    /// Takes `word` if it is there.
    fn take(&mut self, word: &str) -> bool {
        let at = self.rest.iter().position(|w| *w == word);
        if let Some(i) = at {
            self.rest.remove(i);
        }
        at.is_some()
    }

    /// Takes the first of the words that `f` knows.
    fn take_map<T>(&mut self, f: impl Fn(&str) -> Option<T>) -> Option<T> {
        let (i, v) = self.rest.iter().enumerate().find_map(|(i, w)| Some((i, f(w)?)))?;
        self.rest.remove(i);
        Some(v)
    }

    fn take_ty(&mut self) -> Option<Ty> {
        self.take_map(Ty::parse)
    }

    fn clear(&mut self) {
        self.rest.clear();
    }
}
