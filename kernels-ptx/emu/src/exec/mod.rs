//! Execution: a block at a time on each host thread, its warps in turn.

mod access;
mod alu;
mod approx;
pub(crate) mod block;
mod copy;
mod cvt;
mod float;
mod matrix;
mod regs;
mod sync;
mod warp;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::counts::Tally;
use block::{Block, Failure, Launch};

/// Sums over all blocks of a launch.
pub(crate) struct Done {
    pub tally: Vec<Tally>,
    pub distinct: [u64; 2],
}

/// Runs every block. On failure, the one with the lowest number is reported.
pub(crate) fn run(launch: Launch, blocks: u32) -> Result<Done, Failure> {
    let threads = if launch.races { rayon::current_num_threads() } else { 1 };
    let threads = threads.min(blocks as usize).max(1);
    let next = AtomicU32::new(0);
    let failed_at = AtomicU32::new(u32::MAX);
    let failure: Mutex<Option<Failure>> = Mutex::new(None);
    let sum = Mutex::new(Done {
        tally: vec![Tally::default(); launch.program.code.len()],
        distinct: [0; 2],
    });
    let work = || {
        let mut block = Block::new(launch);
        let mut warps = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= blocks || i > failed_at.load(Ordering::Relaxed) {
                break;
            }
            if let Err(f) = block.run(i, &mut warps) {
                failed_at.fetch_min(i, Ordering::Relaxed);
                let mut first = failure.lock().unwrap_or_else(|e| e.into_inner());
                if first.as_ref().is_none_or(|g| i < g.block) {
                    *first = Some(f);
                }
                break;
            }
        }
        let mut sum = sum.lock().unwrap_or_else(|e| e.into_inner());
        for (s, t) in sum.tally.iter_mut().zip(&block.tally) {
            *s += *t;
        }
        sum.distinct[0] += block.distinct[0];
        sum.distinct[1] += block.distinct[1];
    };
    if threads == 1 {
        work();
    } else {
        rayon::scope(|s| (0..threads).for_each(|_| s.spawn(|_| work())));
    }
    match failure.into_inner().unwrap_or_else(|e| e.into_inner()) {
        Some(f) => Err(f),
        None => Ok(sum.into_inner().unwrap_or_else(|e| e.into_inner())),
    }
}
