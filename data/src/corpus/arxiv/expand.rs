//! Replaces what authors define by what it stands for, as TeX would print it.
//!
//! `\newcommand`, `\renewcommand`, `\providecommand`, `\def`, `\let`, `\DeclareMathOperator` and
//! `\newenvironment` are taken out of the text and applied from there on, with arguments, optional
//! ones too. Arguments are expanded where they stand, then put into the body. A macro does not
//! expand inside of its own body, calls nest 64 deep at most, and the text has a limit: so no
//! definition runs away. Bodies that need TeX itself, with conditions, counters, a look at what
//! follows or definitions of their own, are left alone: their calls stay as they are written.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use super::lexer::{Lexer, Token};

/// Calls inside of calls; deeper ones are kept as they are written.
const DEPTH: usize = 64;
/// Longest optional argument.
const OPTION_BYTES: usize = 4096;

/// Commands that make a body a program.
const PROGRAM: [&str; 22] = [
    "csname",
    "expandafter",
    "futurelet",
    "catcode",
    "let",
    "def",
    "edef",
    "gdef",
    "xdef",
    "global",
    "newcommand",
    "renewcommand",
    "begingroup",
    "endgroup",
    "aftergroup",
    "afterassignment",
    "loop",
    "ifthenelse",
    "setcounter",
    "addtocounter",
    "stepcounter",
    "the",
];

/// Commands that give a document its form: they are what they are, whatever is defined.
const FORM: [&str; 14] = [
    "part",
    "chapter",
    "section",
    "subsection",
    "subsubsection",
    "paragraph",
    "subparagraph",
    "begin",
    "end",
    "documentclass",
    "bibliography",
    "appendix",
    "item",
    "label",
];

/// Commands that take what follows as their argument.
const TAKES: [&str; 36] = [
    "acute",
    "bar",
    "binom",
    "bm",
    "boldsymbol",
    "breve",
    "check",
    "ddot",
    "dfrac",
    "dot",
    "emph",
    "frac",
    "grave",
    "hat",
    "mathbb",
    "mathbf",
    "mathcal",
    "mathfrak",
    "mathit",
    "mathring",
    "mathrm",
    "mathsf",
    "operatorname",
    "overline",
    "sqrt",
    "stackrel",
    "text",
    "textbf",
    "textit",
    "tfrac",
    "tilde",
    "underline",
    "vec",
    "widehat",
    "widetilde",
    "mathscr",
];

/// Text whose braces are paired.
struct Source {
    text: String,
    /// Each `{` that is closed, in order, with its `}`.
    pairs: Vec<(usize, usize)>,
    at_letter: bool,
}

impl Source {
    fn new(text: String, at_letter: bool) -> Source {
        let (mut pairs, mut open) = (Vec::new(), Vec::new());
        let mut lexer = Lexer::new(&text, false);
        while let Some((token, range)) = lexer.next() {
            match token {
                Token::Open => {
                    open.push(pairs.len());
                    pairs.push((range.start, usize::MAX));
                }
                Token::Close => {
                    if let Some(pair) = open.pop() {
                        pairs[pair].1 = range.start;
                    }
                }
                _ => {}
            }
        }
        pairs.retain(|&(_, close)| close != usize::MAX);
        Source { text, pairs, at_letter }
    }

    /// The inside of the braces that open at `at`.
    fn group(&self, at: usize) -> Option<Range<usize>> {
        let pair = self.pairs.binary_search_by_key(&at, |&(open, _)| open).ok()?;
        Some(at + 1..self.pairs[pair].1)
    }
}

struct Macro {
    parameters: usize,
    /// What the first argument is where no `[..]` gives it.
    default: Option<String>,
    body: Source,
    /// A program is never expanded.
    program: bool,
}

/// Why a text has no expansion.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// What was expanded.
pub(super) struct Expanded {
    pub(super) text: String,
    /// Calls that were replaced.
    pub(super) replaced: u64,
    /// Calls of macros that stay: programs, and those that would call themselves.
    pub(super) kept: u64,
}

/// Expands all of `text`, to at most `max_bytes`.
pub(super) fn expand(text: String, max_bytes: usize) -> Result<Expanded, TooLong> {
    let source = Source::new(text, false);
    let mut expander = Expander {
        macros: HashMap::new(),
        active: Vec::new(),
        depth: 0,
        seam: false,
        room: max_bytes,
        replaced: 0,
        kept: 0,
    };
    let mut text = String::with_capacity(source.text.len());
    expander.run(&source, 0..source.text.len(), &[], &mut text)?;
    Ok(Expanded { text, replaced: expander.replaced, kept: expander.kept })
}

struct Expander {
    /// By name; environments by `begin name` and `end name`.
    macros: HashMap<String, Rc<Macro>>,
    /// Names whose bodies are being expanded.
    active: Vec<String>,
    /// Calls inside of which the current text stands, as body or as argument.
    depth: usize,
    /// Whether a body or an argument begins or ends here, so that a name must not grow into the
    /// letter that comes next.
    seam: bool,
    /// Bytes that may still be written, into the text or into arguments.
    room: usize,
    replaced: u64,
    kept: u64,
}

impl Expander {
    fn push(&mut self, text: &str, out: &mut String) -> Result<(), TooLong> {
        self.room = self.room.checked_sub(text.len()).ok_or(TooLong)?;
        if text.is_empty() {
            return Ok(());
        }
        let letter = text.starts_with(|c: char| c.is_ascii_alphabetic());
        if std::mem::take(&mut self.seam) && letter && last_command(out).is_some() {
            out.push(' ');
        }
        out.push_str(text);
        Ok(())
    }

    /// Expands a part of `source`, in which `#1` is the first of `values`.
    fn run(
        &mut self,
        source: &Source,
        part: Range<usize>,
        values: &[String],
        out: &mut String,
    ) -> Result<(), TooLong> {
        let mut lexer = Lexer::new(&source.text[..part.end], false);
        lexer.at = part.start;
        lexer.at_letter = source.at_letter;
        while let Some((token, range)) = lexer.next() {
            match token {
                Token::Parameter => {
                    let digit = lexer.rest().bytes().next().filter(u8::is_ascii_digit);
                    let value = digit.and_then(|d| values.get(usize::from(d.wrapping_sub(b'1'))));
                    if let Some(value) = value {
                        lexer.at += 1;
                        self.seam = true;
                        self.push(value, out)?;
                        self.seam = true;
                    } else {
                        self.push("#", out)?;
                    }
                }
                Token::Command(name) => {
                    if !self.define(name, source, &mut lexer, out)
                        && !self.call(name, source, &mut lexer, values, out)?
                    {
                        self.push(&source.text[range], out)?;
                    }
                }
                _ => self.push(&source.text[range], out)?,
            }
        }
        Ok(())
    }

    /// Replaces a call, if it is one of a macro that can be replaced.
    fn call(
        &mut self,
        name: &str,
        source: &Source,
        lexer: &mut Lexer,
        values: &[String],
        out: &mut String,
    ) -> Result<bool, TooLong> {
        let inner = matches!(name, "begin" | "end").then(|| environment(lexer.rest())).flatten();
        let key = inner.map_or_else(|| name.to_string(), |inner| format!("{name} {inner}"));
        let Some(known) = self.macros.get(&key).cloned() else { return Ok(false) };
        let start = lexer.at + inner.map_or(0, |inner| inner.len() + 2);
        let open = known.program || self.depth >= DEPTH || self.active.contains(&key);
        self.depth += 1;
        let found = match open {
            true => None,
            false => self.arguments(&known, source, lexer.text.len(), start, values)?,
        };
        let Some((arguments, end)) = found else {
            self.depth -= 1;
            self.kept += 1;
            return Ok(false);
        };
        lexer.at = end;
        self.replaced += 1;
        self.active.push(key);
        // What was one token for the command before it stays one.
        let argument = inner.is_none() && last_command(out).is_some_and(|c| TAKES.contains(&c));
        if argument {
            self.push("{", out)?;
        }
        let start = out.len();
        self.seam = true;
        self.run(&known.body, 0..known.body.text.len(), &arguments, out)?;
        self.seam = true;
        self.active.pop();
        self.depth -= 1;
        let spaced = out.len() - start >= XSPACE.len() && out.ends_with(XSPACE);
        if spaced {
            out.truncate(out.len() - XSPACE.len());
        }
        if argument {
            self.push("}", out)?;
        }
        // TeX drops blanks after a name, unless `\xspace` puts one back.
        if known.parameters == 0 && !spaced && inner.is_none() {
            let rest = lexer.rest();
            lexer.at += rest.len() - rest.trim_start_matches([' ', '\t']).len();
        }
        Ok(true)
    }

    /// The expanded arguments of a call and where it ends; none if they are not all there.
    fn arguments(
        &mut self,
        known: &Macro,
        source: &Source,
        limit: usize,
        mut at: usize,
        values: &[String],
    ) -> Result<Option<(Vec<String>, usize)>, TooLong> {
        let mut found = Vec::new();
        let text = &source.text[..limit];
        for i in 0..known.parameters {
            let blank = text[at..].len() - text[at..].trim_start().len();
            if let (0, Some(default)) = (i, &known.default) {
                let option = option(text, at + blank);
                let (part, end) = option.unwrap_or((0..0, at));
                let mut value = String::new();
                match end > at {
                    true => self.run(source, part, values, &mut value)?,
                    false => value.clone_from(default),
                }
                found.push(value);
                at = end;
                continue;
            }
            if text[at..at + blank].matches('\n').count() > 1 {
                return Ok(None);
            }
            let Some((part, end)) = argument(source, limit, at + blank) else { return Ok(None) };
            let mut value = String::new();
            self.seam = false;
            self.run(source, part, values, &mut value)?;
            found.push(value);
            at = end;
        }
        Ok(Some((found, at)))
    }

    /// Takes a definition out of the text. Inside of a body there is none: that makes a program.
    fn define(&mut self, name: &str, source: &Source, lexer: &mut Lexer, out: &str) -> bool {
        if !self.active.is_empty() {
            return false;
        }
        let rest = lexer.rest().trim_start();
        let end = match name {
            "long" | "global" | "protected" | "outer" => {
                let definition = ["\\def", "\\edef", "\\gdef", "\\let", "\\newcommand", "\\long"];
                definition.iter().any(|word| rest.starts_with(word)).then_some(lexer.at)
            }
            "newcommand" | "renewcommand" | "providecommand" | "DeclareRobustCommand" => {
                self.new_command(source, lexer, name == "providecommand")
            }
            "def" | "gdef" | "edef" | "xdef" => self.def(source, lexer),
            "let" => self.let_(lexer),
            "DeclareMathOperator" => self.operator(source, lexer),
            "newenvironment" | "renewenvironment" => self.new_environment(source, lexer),
            _ => None,
        };
        let Some(end) = end else { return false };
        lexer.at = end;
        // A line that held nothing else goes as a whole.
        if out.is_empty() || out.ends_with('\n') {
            let rest = lexer.rest();
            let line = rest.trim_start_matches([' ', '\t']);
            if line.starts_with('\n') {
                lexer.at += rest.len() - line.len() + 1;
            }
        }
        true
    }

    fn insert(
        &mut self,
        name: String,
        parameters: usize,
        default: Option<&str>,
        body: &str,
        at_letter: bool,
    ) {
        if FORM.contains(&name.as_str()) {
            return;
        }
        let body = Source::new(body.to_string(), at_letter);
        let program = parameters > 9 || self.is_program(&body);
        let default = default.map(String::from);
        self.macros.insert(name, Rc::new(Macro { parameters, default, body, program }));
    }

    fn is_program(&self, body: &Source) -> bool {
        let mut lexer = Lexer::new(&body.text, false);
        lexer.at_letter = body.at_letter;
        while let Some((token, _)) = lexer.next() {
            let Token::Command(name) = token else { continue };
            let unknown = || self.macros.get(name).is_none_or(|known| known.program);
            let condition = name.starts_with("if") && name != "iff";
            if condition || PROGRAM.contains(&name) || (name.contains('@') && unknown()) {
                return true;
            }
        }
        false
    }

    /// `*{\name}[parameters][default]{body}`, or `\name` alone.
    fn new_command(&mut self, source: &Source, lexer: &Lexer, weak: bool) -> Option<usize> {
        let text = lexer.text;
        let at = skip(text, lexer.at, "*");
        let (name, at) = new_name(lexer, at)?;
        let (parameters, default, at) = parameters(text, at)?;
        let (body, end) = argument(source, text.len(), skip(text, at, ""))?;
        if !(weak && self.macros.contains_key(name)) {
            let default = default.map(|range| &text[range]);
            self.insert(name.to_string(), parameters, default, &text[body], lexer.at_letter);
        }
        Some(end)
    }

    /// `\name#1#2{body}`. With anything else between, calls look for that: a program.
    fn def(&mut self, source: &Source, lexer: &Lexer) -> Option<usize> {
        let text = lexer.text;
        let (name, at) = new_name(lexer, skip(text, lexer.at, ""))?;
        let open = at + text[at..].bytes().take(256).position(|byte| byte == b'{')?;
        let body = source.group(open).filter(|body| body.end < text.len())?;
        let end = body.end + 1;
        let plain: String = (1..10).map(|i| format!("#{i}")).collect();
        let between = &text[at..open];
        let parameters = if plain.starts_with(between) { between.len() / 2 } else { usize::MAX };
        self.insert(name.to_string(), parameters, None, &text[body], lexer.at_letter);
        Some(end)
    }

    /// `\name=\other`, or without the sign.
    fn let_(&mut self, lexer: &Lexer) -> Option<usize> {
        let text = lexer.text;
        let (name, at) = new_name(lexer, skip(text, lexer.at, ""))?;
        let at = skip(text, skip(text, at, "="), "");
        let mut other = Lexer::new(text, false);
        (other.at, other.at_letter) = (at, lexer.at_letter);
        match other.next()? {
            (Token::Command(known), range) => match self.macros.get(known).cloned() {
                Some(known) => {
                    self.macros.insert(name.to_string(), known);
                }
                None => self.insert(name.to_string(), 0, None, &text[range], lexer.at_letter),
            },
            (Token::Text, _) => {
                let c = text[at..].chars().next()?;
                let length = if c == '\\' { other.at - at } else { c.len_utf8() };
                other.at = at + length;
                self.insert(name.to_string(), 0, None, &text[at..at + length], false);
            }
            _ => {}
        }
        Some(other.at)
    }

    /// `*{\name}{text}` of amsmath.
    fn operator(&mut self, source: &Source, lexer: &Lexer) -> Option<usize> {
        let text = lexer.text;
        let star = if text[lexer.at..].starts_with('*') { "*" } else { "" };
        let (name, at) = new_name(lexer, lexer.at + star.len())?;
        let (body, end) = argument(source, text.len(), skip(text, at, ""))?;
        let body = format!("\\operatorname{star}{{{}}}", &text[body]);
        self.insert(name.to_string(), 0, None, &body, lexer.at_letter);
        Some(end)
    }

    /// `{name}[parameters][default]{begin}{end}`.
    fn new_environment(&mut self, source: &Source, lexer: &Lexer) -> Option<usize> {
        let text = lexer.text;
        let at = skip(text, lexer.at, "*");
        let name = environment(&text[at..])?;
        let (parameters, default, at) = parameters(text, at + name.len() + 2)?;
        let (begin, at) = argument(source, text.len(), skip(text, at, ""))?;
        let (end, after) = argument(source, text.len(), skip(text, at, ""))?;
        let default = default.map(|range| &text[range]);
        self.insert(format!("begin {name}"), parameters, default, &text[begin], lexer.at_letter);
        self.insert(format!("end {name}"), 0, None, &text[end], lexer.at_letter);
        Some(after)
    }
}

const XSPACE: &str = "\\xspace";

/// The name that ends `text`, with nothing after it.
fn last_command(text: &str) -> Option<&str> {
    // Names are short; text without any is not searched again and again.
    let letters = text.bytes().rev().take(64).take_while(u8::is_ascii_alphabetic).count();
    let name = text.len() - letters;
    let slashes = text[..name].bytes().rev().take(64).take_while(|&byte| byte == b'\\').count();
    (letters > 0 && slashes % 2 == 1).then_some(&text[name..])
}

/// The name in `{name}`.
fn environment(rest: &str) -> Option<&str> {
    let inner = rest.strip_prefix('{')?;
    let end = inner.bytes().take(64).position(|byte| byte == b'}')?;
    inner[..end].bytes().all(|b| b.is_ascii_alphanumeric() || b == b'*').then_some(&inner[..end])
}

/// Past blanks, and past `sign` if it is there.
fn skip(text: &str, at: usize, sign: &str) -> usize {
    let rest = text[at..].trim_start();
    text.len() - rest.strip_prefix(sign).unwrap_or(rest).len()
}

/// The name that is defined, in braces or not, and where it ends.
fn new_name<'a>(lexer: &Lexer<'a>, at: usize) -> Option<(&'a str, usize)> {
    let text = lexer.text;
    let start = skip(text, at, "{");
    let mut name = Lexer::new(text, false);
    (name.at, name.at_letter) = (skip(text, start, ""), lexer.at_letter);
    let (Token::Command(known), _) = name.next()? else { return None };
    let braced = text[at..].trim_start().starts_with('{');
    let end = if braced { skip(text, name.at, "}") } else { name.at };
    (!braced || text[..end].ends_with('}')).then_some((known, end))
}

/// `[2][x]`: how many parameters, where the default stands, and where all that ends.
fn parameters(text: &str, at: usize) -> Option<(usize, Option<Range<usize>>, usize)> {
    let Some((count, at)) = option(text, skip(text, at, "")) else { return Some((0, None, at)) };
    let count = text[count].trim().parse().ok()?;
    match option(text, skip(text, at, "")) {
        Some((default, at)) => Some((count, Some(default), at)),
        None => Some((count, None, at)),
    }
}

/// The inside of `[..]` at `at`, and where it ends.
fn option(text: &str, at: usize) -> Option<(Range<usize>, usize)> {
    let inner = text.get(at..)?.strip_prefix('[')?;
    let mut depth = 0_i32;
    for (i, byte) in inner.bytes().take(OPTION_BYTES).enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b']' if depth == 0 => return Some((at + 1..at + 1 + i, at + i + 2)),
            _ => {}
        }
        if depth < 0 {
            return None;
        }
    }
    None
}

/// The argument that begins at `at`: the inside of braces, a command, or a character; and its end.
fn argument(source: &Source, limit: usize, at: usize) -> Option<(Range<usize>, usize)> {
    let text = &source.text[..limit];
    match text[at..].chars().next()? {
        '{' => source.group(at).filter(|group| group.end < limit).map(|group| {
            let end = group.end + 1;
            (group, end)
        }),
        '}' => None,
        '\\' => {
            let mut lexer = Lexer::new(text, false);
            (lexer.at, lexer.at_letter) = (at, source.at_letter);
            lexer.next().map(|(_, range)| (range.clone(), range.end))
        }
        '#' => Some((at..(at + 2).min(limit), (at + 2).min(limit))),
        c => Some((at..at + c.len_utf8(), at + c.len_utf8())),
    }
}
