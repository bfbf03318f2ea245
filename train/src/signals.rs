//! Signals as flags that the loop polls between steps.
//!
//! The first SIGINT or SIGTERM asks for an orderly stop: finish the step, save, exit with 130 or
//! 143. The second ends the process at once with the same codes. SIGUSR1 asks for a checkpoint
//! and lets the run go on; Windows has no such signal.
//!
//! ```
//! use train::signals::Signals;
//!
//! # fn main() -> std::io::Result<()> {
//! let signals = Signals::install()?;
//! let mut steps = 0;
//! while steps < 100 && signals.requested().is_none() {
//!     steps += 1;
//!     # if steps == 3 {
//!     #     signal_hook::low_level::raise(15)?;
//!     # }
//! }
//! // SIGTERM came in the third step.
//! assert_eq!((steps, signals.requested()), (3, Some(15)));
//! # Ok(())
//! # }
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// What has been asked of the process so far.
#[derive(Clone, Debug)]
pub struct Signals {
    /// Number of the signal that asked to stop; 0 for none.
    stop: Arc<AtomicUsize>,
    /// Whether any has.
    stopping: Arc<AtomicBool>,
    /// Whether SIGUSR1 came since the last look.
    save: Arc<AtomicBool>,
}

impl Signals {
    /// Installs the handlers, once, at the start of a process. SIGXFSZ is caught too: a file
    /// that hits a size limit is then a failed write with its own message, not a sudden death.
    ///
    /// # Errors
    /// If the system refuses a handler.
    pub fn install() -> io::Result<Signals> {
        let signals = Signals {
            stop: Arc::new(AtomicUsize::new(0)),
            stopping: Arc::new(AtomicBool::new(false)),
            save: Arc::new(AtomicBool::new(false)),
        };
        let armed = &signals.stopping;
        for signal in [SIGINT, SIGTERM] {
            // Handlers run in this order, so the first signal finds the exit not armed yet.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(armed))?;
            flag::register(signal, Arc::clone(armed))?;
            flag::register_usize(signal, Arc::clone(&signals.stop), signal as usize)?;
        }
        #[cfg(unix)]
        {
            use signal_hook::consts::{SIGUSR1, SIGXFSZ};
            flag::register(SIGUSR1, Arc::clone(&signals.save))?;
            flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        }
        Ok(signals)
    }

    /// The signal number that asked to stop, if one did.
    pub fn requested(&self) -> Option<i32> {
        let signal = self.stop.load(Ordering::SeqCst);
        (signal != 0).then_some(signal as i32)
    }

    /// A flag that is set once one did.
    pub fn stopping(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stopping)
    }

    /// Whether a checkpoint was asked for since the last call.
    pub fn take_save_request(&self) -> bool {
        self.save.swap(false, Ordering::SeqCst)
    }
}
