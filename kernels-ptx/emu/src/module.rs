//! A parsed module and its kernels.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ast::{Ast, Init, Space, Var};
use crate::decode;
use crate::error::{Error, Result};
use crate::hardware::Target;
use crate::ir::Program;
use crate::lex::line_text;
use crate::parse::parse;

/// A module variable as it lies in memory.
#[derive(Debug)]
pub(crate) struct Global {
    pub name: String,
    pub bytes: Vec<u8>,
    /// Where addresses of other variables go: offset, variable, addend.
    pub links: Vec<(usize, String, i64)>,
    pub shared: bool,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub id: u64,
    pub source: String,
    pub target: Target,
    pub globals: Vec<Global>,
    kernels: HashMap<String, Result<Arc<Program>>>,
    names: Vec<String>,
}

/// A PTX module. Parsing decodes every kernel; one that uses something unknown fails when it is
/// asked for, so that the others stay usable.
#[derive(Debug, Clone)]
pub struct Module(pub(crate) Arc<Inner>);

/// A kernel, ready to launch.
#[derive(Debug, Clone)]
pub struct Kernel {
    pub(crate) module: Arc<Inner>,
    pub(crate) program: Arc<Program>,
}

impl Module {
    /// Parses a module's text.
    ///
    /// # Errors
    /// [`Error::Parse`] or [`Error::Unsupported`] with the line, for what is wrong outside of
    /// instructions.
    pub fn parse(source: &str) -> Result<Module> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let ast = parse(source)?;
        let entries = || ast.funcs.iter().filter(|f| f.entry && f.body.is_some());
        let kernels = entries()
            .map(|f| (f.name.to_string(), decode::kernel(source, &ast, f.name).map(Arc::new)))
            .collect();
        let names = entries().map(|f| f.name.to_string()).collect();
        Ok(Module(Arc::new(Inner {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            target: ast.target.expect("the parser demands it"),
            globals: globals(source, &ast)?,
            source: source.to_string(),
            kernels,
            names,
        })))
    }

    /// Names of the kernels, in the order of the text.
    pub fn kernels(&self) -> &[String] {
        &self.0.names
    }

    /// The compute capability the text was made for: 80 for `sm_80`.
    pub fn target(&self) -> u32 {
        self.0.target.capability
    }

    /// A kernel by name.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is none; otherwise whatever its code contains that cannot be
    /// executed, with the line.
    pub fn kernel(&self, name: &str) -> Result<Kernel> {
        let found = self.0.kernels.get(name).cloned();
        let program =
            found.unwrap_or_else(|| Err(Error::Missing { what: format!("kernel `{name}`") }))?;
        Ok(Kernel { module: self.0.clone(), program })
    }
}

impl Kernel {
    /// Its name in the PTX.
    pub fn name(&self) -> &str {
        &self.program.name
    }

    /// Sizes of the parameters in bytes, in order.
    pub fn params(&self) -> impl Iterator<Item = usize> {
        self.program.params.iter().map(|p| p.size)
    }

    /// `.maxntid`: the most threads a block may have along each axis together.
    pub fn max_threads(&self) -> Option<[u32; 3]> {
        self.program.max_threads
    }

    /// `.reqntid`: the threads a block must have.
    pub fn required_threads(&self) -> Option<[u32; 3]> {
        self.program.req_threads
    }

    /// Bytes of shared memory declared with a size.
    pub fn static_shared(&self) -> usize {
        self.program.static_shared
    }

    /// Bytes of local memory a thread uses: arrays that fell out of registers, and arguments of
    /// functions that were not inlined.
    pub fn local_bytes(&self) -> usize {
        self.program.frame
    }
}

fn globals(source: &str, ast: &Ast) -> Result<Vec<Global>> {
    ast.vars.iter().map(|v| global(source, v)).collect()
}

fn global(source: &str, v: &Var) -> Result<Global> {
    let mut bytes = vec![0u8; v.size];
    let mut links = Vec::new();
    let width = v.ty.bytes().max(1);
    if v.init.len() * width > v.size {
        return Err(Error::Parse {
            line: v.line,
            text: line_text(source, v.line),
            what: "more values than the variable holds".to_string(),
        });
    }
    for (i, init) in v.init.iter().enumerate() {
        let at = i * width;
        let bits = match init {
            Init::Int(x) => *x,
            Init::F32(x) => u64::from(*x),
            Init::F64(x) if width == 4 => u64::from((f64::from_bits(*x) as f32).to_bits()),
            Init::F64(x) => *x,
            Init::Symbol(name, offset) if width == 8 => {
                links.push((at, name.to_string(), *offset));
                0
            }
            Init::Symbol(..) => {
                return Err(Error::Unsupported {
                    line: v.line,
                    text: line_text(source, v.line),
                    what: "an address in fewer than 64 bits".to_string(),
                });
            }
        };
        bytes[at..at + width].copy_from_slice(&bits.to_le_bytes()[..width]);
    }
    // PTX: variables of .global and .const start as zero.
    let shared = v.space == Space::Shared;
    Ok(Global { name: v.name.to_string(), bytes, links, shared })
}
