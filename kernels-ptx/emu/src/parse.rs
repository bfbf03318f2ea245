//! Tokens to syntax: what LLVM prints, and what people write in inline assembly.

use crate::ast::{Ast, Base, Func, Guard, Init, Instr, Operand, Space, Stmt, Ty, Var};
use crate::error::{Error, Result};
use crate::hardware::Target;
use crate::lex::{Tok, Token, line_text, tokens};

/// Braces and brackets in one another, at most: the parser calls itself for each.
const DEPTH: usize = 64;
/// Bytes of a variable, at most: sums of them stay far from overflow.
const VARIABLE: usize = 1 << 32;

pub(crate) fn parse(source: &str) -> Result<Ast<'_>> {
    let mut p = Parser { source, tokens: tokens(source)?, at: 0, depth: 0 };
    let mut ast = Ast::default();
    while p.peek().is_some() {
        p.item(&mut ast)?;
    }
    if ast.target.is_none() {
        return Err(p.error("no .target directive"));
    }
    Ok(ast)
}

struct Parser<'a> {
    source: &'a str,
    tokens: Vec<Token<'a>>,
    at: usize,
    /// Braces and brackets around this place that the parser calls itself for.
    depth: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Tok<'a>> {
        self.tokens.get(self.at).map(|t| t.tok)
    }

    fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |t| t.line)
    }

    fn error(&self, what: impl Into<String>) -> Error {
        let line = self.line();
        Error::Parse { line, text: line_text(self.source, line), what: what.into() }
    }

    fn unsupported(&self, what: impl Into<String>) -> Error {
        let line = self.line();
        Error::Unsupported { line, text: line_text(self.source, line), what: what.into() }
    }

    /// What `parse` makes of the inside of a brace or bracket.
    fn inside<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == DEPTH {
            return Err(self.unsupported(format!("more than {DEPTH} braces in one another")));
        }
        self.depth += 1;
        let inside = parse(self);
        self.depth -= 1;
        inside
    }

    fn next(&mut self) -> Result<Tok<'a>> {
        let tok = self.peek().ok_or_else(|| self.error("the text ends here"))?;
        self.at += 1;
        Ok(tok)
    }

    /// Takes `c` if it is next.
    fn eat(&mut self, c: u8) -> bool {
        let hit = self.peek() == Some(Tok::Punct(c));
        self.at += hit as usize;
        hit
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let hit = self.peek() == Some(Tok::Word(word));
        self.at += hit as usize;
        hit
    }

    fn expect(&mut self, c: u8) -> Result<()> {
        if self.eat(c) { Ok(()) } else { Err(self.error(format!("expected `{}`", c as char))) }
    }

    fn word(&mut self) -> Result<&'a str> {
        match self.peek() {
            Some(Tok::Word(w)) => {
                self.at += 1;
                Ok(w)
            }
            _ => Err(self.error("expected a name")),
        }
    }

    /// The next word without taking it; empty for anything else.
    fn peek_word(&self) -> &'a str {
        match self.peek() {
            Some(Tok::Word(w)) => w,
            _ => "",
        }
    }

    /// A signed integer, in two's complement.
    fn int(&mut self) -> Result<u64> {
        let negative = self.eat(b'-');
        match self.next()? {
            Tok::Int(v) => Ok(if negative { v.wrapping_neg() } else { v }),
            _ => {
                self.at -= 1;
                Err(self.error("expected an integer"))
            }
        }
    }

    fn size(&mut self) -> Result<u32> {
        let v = self.int()?;
        u32::try_from(v).map_err(|_| self.error("number out of range"))
    }

    /// Debug directives end with their line, not with a semicolon.
    fn skip_line(&mut self) {
        let line = self.line();
        while self.tokens.get(self.at).is_some_and(|t| t.line == line) {
            self.at += 1;
        }
    }

    fn item(&mut self, ast: &mut Ast<'a>) -> Result<()> {
        match self.peek_word() {
            ".version" => {
                self.at += 1;
                let Tok::F64(v) = self.next()? else { return Err(self.error("bad .version")) };
                let v = f64::from_bits(v);
                ast.version = (v as u32, ((v - v.floor()) * 10.0).round() as u32);
            }
            ".target" => {
                self.at += 1;
                let word = self.word()?;
                ast.target = Target::parse(word);
                if ast.target.is_none() {
                    return Err(self.error(format!("bad .target `{word}`")));
                }
                while self.eat(b',') {
                    self.word()?;
                }
            }
            ".address_size" => {
                self.at += 1;
                if self.int()? != 64 {
                    return Err(self.unsupported("32-bit addresses"));
                }
            }
            ".file" | ".loc" => self.skip_line(),
            ".section" => self.skip_section()?,
            _ => {
                while matches!(self.peek_word(), ".visible" | ".weak" | ".extern" | ".common") {
                    self.at += 1;
                }
                match self.peek_word() {
                    ".entry" | ".func" => {
                        let func = self.func()?;
                        ast.funcs.push(func);
                    }
                    ".global" | ".shared" | ".const" => {
                        let vars = self.vars()?;
                        ast.vars.extend(vars);
                    }
                    _ => return Err(self.unsupported("this directive")),
                }
            }
        }
        Ok(())
    }

    fn skip_section(&mut self) -> Result<()> {
        while !self.eat(b'{') {
            self.next()?;
        }
        while !self.eat(b'}') {
            self.next()?;
        }
        Ok(())
    }

    fn func(&mut self) -> Result<Func<'a>> {
        let line = self.line();
        let entry = self.word()? == ".entry";
        let rets = if self.peek() == Some(Tok::Punct(b'(')) { self.params()? } else { Vec::new() };
        let name = self.word()?;
        let params =
            if self.peek() == Some(Tok::Punct(b'(')) { self.params()? } else { Vec::new() };
        let mut func = Func {
            line,
            entry,
            name,
            rets,
            params,
            max_threads: None,
            req_threads: None,
            body: None,
        };
        loop {
            match self.peek_word() {
                ".maxntid" => func.max_threads = Some(self.dims()?),
                ".reqntid" => func.req_threads = Some(self.dims()?),
                ".minnctapersm" | ".maxnctapersm" | ".maxnreg" => {
                    self.at += 1;
                    self.int()?;
                }
                ".noreturn" => self.at += 1,
                ".pragma" => {
                    self.next()?;
                    self.next()?;
                    self.expect(b';')?;
                }
                "" => break,
                _ => return Err(self.unsupported("this function directive")),
            }
        }
        if !self.eat(b';') {
            func.body = Some(self.body()?);
        }
        Ok(func)
    }

    /// `.maxntid 128, 1, 1`; what is missing is 1.
    fn dims(&mut self) -> Result<[u32; 3]> {
        self.at += 1;
        let mut dims = [1; 3];
        dims[0] = self.size()?;
        for d in &mut dims[1..] {
            if self.eat(b',') {
                *d = self.size()?;
            }
        }
        Ok(dims)
    }

    fn params(&mut self) -> Result<Vec<Var<'a>>> {
        self.expect(b'(')?;
        let mut out = Vec::new();
        while !self.eat(b')') {
            out.push(self.var_head(None)?.0);
            self.eat(b',');
        }
        Ok(out)
    }

    /// One declaration, which may list several names.
    fn vars(&mut self) -> Result<Vec<Var<'a>>> {
        let (mut var, space) = self.var_head(None)?;
        let mut out = Vec::new();
        loop {
            if self.eat(b'=') {
                var.init = self.initialiser()?;
            }
            let (ty, align) = (var.ty, var.align);
            out.push(var);
            if !self.eat(b',') {
                break;
            }
            var = self.var_head(Some((space, ty, align)))?.0;
        }
        self.expect(b';')?;
        Ok(out)
    }

    /// `.global .align 4 .b8 name[32]`, or `name[32]` alone when the rest was given before.
    fn var_head(&mut self, given: Option<(Space, Ty, usize)>) -> Result<(Var<'a>, Space)> {
        let line = self.line();
        let (mut space, mut ty, mut align) = match given {
            Some((space, ty, align)) => (Some(space), Some(ty), Some(align)),
            None => (None, None, None),
        };
        while self.peek_word().starts_with('.') {
            let word = self.word()?;
            match word {
                ".global" if space.is_none() => space = Some(Space::Global),
                ".shared" if space.is_none() => space = Some(Space::Shared),
                ".const" if space.is_none() => space = Some(Space::Const),
                ".local" if space.is_none() => space = Some(Space::Local),
                ".param" if space.is_none() => space = Some(Space::Param),
                // Attributes of a pointer parameter.
                ".ptr" | ".global" | ".shared" | ".const" | ".local" => {}
                ".align" => {
                    align = Some(self.size()? as usize);
                    if !align.is_some_and(usize::is_power_of_two) {
                        return Err(self.error("an alignment that is no power of two"));
                    }
                }
                _ => match Ty::parse(&word[1..]) {
                    Some(t) => ty = Some(t),
                    None => {
                        self.at -= 1;
                        return Err(self.unsupported("this variable attribute"));
                    }
                },
            }
        }
        let ty = ty.ok_or_else(|| self.error("a variable without a type"))?;
        let space = space.ok_or_else(|| self.error("a variable without a state space"))?;
        let name = self.word()?;
        let mut size = ty.bytes();
        while self.eat(b'[') {
            if self.eat(b']') {
                size = 0;
            } else {
                let count = self.size()? as usize;
                let whole = size.checked_mul(count).filter(|&size| size <= VARIABLE);
                size = whole.ok_or_else(|| self.error("a variable of more than 4 GiB"))?;
                self.expect(b']')?;
            }
        }
        let align = align.unwrap_or(ty.bytes()).max(ty.bytes());
        Ok((Var { line, space, name, ty, align, size, init: Vec::new() }, space))
    }

    fn initialiser(&mut self) -> Result<Vec<Init<'a>>> {
        let mut out = Vec::new();
        if self.eat(b'{') {
            while !self.eat(b'}') {
                out.extend(self.inside(Self::initialiser)?);
                self.eat(b',');
            }
            return Ok(out);
        }
        let generic = self.eat_word("generic");
        if generic {
            self.expect(b'(')?;
        }
        let one = match self.peek() {
            Some(Tok::F32(v)) => Init::F32(v),
            Some(Tok::F64(v)) => Init::F64(v),
            Some(Tok::Word(w)) => {
                self.at += 1;
                let offset = if self.eat(b'+') { self.int()? as i64 } else { 0 };
                self.at -= 1;
                Init::Symbol(w, offset)
            }
            _ => {
                let v = self.int()?;
                self.at -= 1;
                Init::Int(v)
            }
        };
        self.at += 1;
        if generic {
            self.expect(b')')?;
        }
        out.push(one);
        Ok(out)
    }

    fn body(&mut self) -> Result<Vec<Stmt<'a>>> {
        self.expect(b'{')?;
        let mut out = Vec::new();
        let mut depth = 1;
        while depth > 0 {
            if self.eat(b'{') {
                depth += 1;
                out.push(Stmt::Open);
            } else if self.eat(b'}') {
                depth -= 1;
                if depth > 0 {
                    out.push(Stmt::Close);
                }
            } else if !self.eat(b';') {
                self.stmt(&mut out)?;
            }
        }
        Ok(out)
    }

    fn stmt(&mut self, out: &mut Vec<Stmt<'a>>) -> Result<()> {
        match self.peek_word() {
            ".reg" => self.regs(out)?,
            ".local" | ".shared" | ".param" | ".const" | ".global" => {
                let vars = self.vars()?;
                out.extend(vars.into_iter().map(Stmt::Var));
            }
            ".loc" | ".file" => self.skip_line(),
            ".pragma" => {
                self.next()?;
                self.next()?;
                self.expect(b';')?;
            }
            word if word.starts_with('.') => return Err(self.unsupported("this directive")),
            word => {
                let colon = self.tokens.get(self.at + 1).map(|t| t.tok) == Some(Tok::Punct(b':'));
                if !word.is_empty() && colon {
                    self.at += 2;
                    if self.eat_word(".branchtargets") {
                        out.push(Stmt::Targets(word, self.names(b';')?));
                    } else {
                        out.push(Stmt::Label(word));
                    }
                } else {
                    let instr = self.instr()?;
                    out.push(Stmt::Instr(instr));
                }
            }
        }
        Ok(())
    }

    fn names(&mut self, end: u8) -> Result<Vec<&'a str>> {
        let mut out = Vec::new();
        while !self.eat(end) {
            out.push(self.word()?);
            self.eat(b',');
        }
        Ok(out)
    }

    fn regs(&mut self, out: &mut Vec<Stmt<'a>>) -> Result<()> {
        self.at += 1;
        let ty = self.word()?;
        let ty = Ty::parse(ty.trim_start_matches('.'))
            .ok_or_else(|| self.unsupported("this register type"))?;
        loop {
            let line = self.line();
            let name = self.word()?;
            let mut count = None;
            if self.eat(b'<') {
                count = Some(self.size()?);
                self.expect(b'>')?;
            }
            out.push(Stmt::Reg { line, ty, name, count });
            if !self.eat(b',') {
                return self.expect(b';');
            }
        }
    }

    fn instr(&mut self) -> Result<Instr<'a>> {
        let line = self.line();
        let mut guard = None;
        if self.eat(b'@') {
            let negated = self.eat(b'!');
            guard = Some(Guard { pred: self.word()?, negated });
        }
        let name = self.word()?;
        let mut operands = Vec::new();
        while !self.eat(b';') {
            operands.push(self.operand()?);
            if !self.eat(b',') && self.peek() != Some(Tok::Punct(b';')) {
                return Err(self.error("expected `,` or `;`"));
            }
        }
        Ok(Instr { line, guard, name, operands })
    }

    fn offset(&mut self) -> Result<i64> {
        if self.eat(b'+') || self.peek() == Some(Tok::Punct(b'-')) {
            Ok(self.int()? as i64)
        } else {
            Ok(0)
        }
    }

    fn operand(&mut self) -> Result<Operand<'a>> {
        match self.next()? {
            Tok::Int(v) => Ok(Operand::Int(v)),
            Tok::F32(v) => Ok(Operand::F32(v)),
            Tok::F64(v) => Ok(Operand::F64(v)),
            Tok::Punct(b'-') => match self.next()? {
                Tok::Int(v) => Ok(Operand::Int(v.wrapping_neg())),
                Tok::F64(v) => Ok(Operand::F64(v ^ (1 << 63))),
                _ => Err(self.error("expected a number after `-`")),
            },
            Tok::Punct(b'!') => Ok(Operand::Not(self.word()?)),
            Tok::Punct(b'(') => Ok(Operand::List(self.names(b')')?)),
            Tok::Punct(b'{') => {
                let mut items = Vec::new();
                while !self.eat(b'}') {
                    items.push(self.inside(Self::operand)?);
                    self.eat(b',');
                }
                Ok(Operand::Vec(items))
            }
            Tok::Punct(b'[') => self.mem(),
            Tok::Word(name) => {
                if self.eat(b'|') {
                    return Ok(Operand::Pair(name, self.word()?));
                }
                let named = self.peek() == Some(Tok::Punct(b'+'));
                let offset = self.offset()?;
                Ok(if named { Operand::NameOffset(name, offset) } else { Operand::Name(name) })
            }
            _ => {
                self.at -= 1;
                Err(self.error("expected an operand"))
            }
        }
    }

    fn mem(&mut self) -> Result<Operand<'a>> {
        let base = match self.next()? {
            Tok::Word(name) => Base::Name(name),
            Tok::Int(v) => Base::Int(v),
            _ => return Err(self.error("expected an address")),
        };
        let offset = self.offset()?;
        let mut coords = Vec::new();
        if self.eat(b',') {
            match self.inside(Self::operand)? {
                Operand::Vec(items) => coords = items,
                other => coords.push(other),
            }
        }
        self.expect(b']')?;
        Ok(Operand::Mem { base, offset, coords })
    }
}
