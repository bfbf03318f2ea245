//! What the user sees while it runs: a bar on a terminal, plain lines elsewhere, logs beside
//! them. All of it on stderr; stdout belongs to results.
//!
//! ```
//! use train::clock::Clock;
//! use train::config::LogLevel;
//! use train::metrics::Entry;
//! use train::progress::{Progress, init_logging};
//!
//! # fn main() -> Result<(), train::Error> {
//! init_logging(LogLevel::Info)?;
//! let (mut progress, mut clock) = (Progress::new(2, 0), Clock::new(6e6, None));
//! for step in 1..=2 {
//!     clock.begin_step();
//!     clock.end_step(512);
//!     let (loss, lr, grad_norm) = (4.5, 1e-3, 0.7);
//!     let (tokens_per_second, mfu) = (clock.tokens_per_second(), clock.mfu());
//!     let entry = Entry { step, tokens: 512 * step, loss, lr, grad_norm, tokens_per_second, mfu };
//!     // "step 1/2 loss 4.5000 lr 1.00e-3 norm 0.70 ..."
//!     progress.step(&entry, clock.eta(1024 - entry.tokens));
//! }
//! progress.eval(2, 4.4);
//! assert!(clock.tokens_per_second() > 0.0);
//! # Ok(())
//! # }
//! ```

use std::io::{self, IsTerminal, Write};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::LogLevel;
use crate::error::Error;
use crate::metrics::Entry;

/// The one stderr of the process: the bar and the logs must agree on who draws.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Least time between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Sends logs to stderr, above the bar where there is one. `RUST_LOG` decides what is logged, or
/// `level` if it is not set; `NO_COLOR` turns colours off. To be called once.
///
/// # Errors
/// [`Error::Config`] if `RUST_LOG` cannot be parsed.
pub fn init_logging(level: LogLevel) -> Result<(), Error> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text)
            .map_err(|e| Error::Config(format!("RUST_LOG is {text}: {e}; try info")))?,
        _ => EnvFilter::new(level.to_string()),
    };
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal() && !plain)
        .with_target(false)
        .without_time()
        .with_writer(AboveBar);
    // A second call keeps the first one's settings.
    let _ = logs.try_init();
    Ok(())
}

/// Writes to stderr with the bar out of the way.
#[derive(Clone, Copy)]
struct AboveBar;

impl Write for AboveBar {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        BARS.suspend(|| io::stderr().write_all(bytes)).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for AboveBar {
    type Writer = AboveBar;

    fn make_writer(&'a self) -> AboveBar {
        AboveBar
    }
}

/// The progress of one run.
#[derive(Debug)]
pub struct Progress {
    total: u64,
    val_loss: Option<f64>,
    bar: Option<ProgressBar>,
    last_line: Option<Instant>,
}

impl Progress {
    /// For a run of `total` steps of which `done` are done. The bar appears on a terminal,
    /// unless the log level is above info.
    pub fn new(total: u64, done: u64) -> Progress {
        let wanted = io::stderr().is_terminal() && tracing::enabled!(tracing::Level::INFO);
        let bar = wanted.then(|| {
            let style = ProgressStyle::with_template("{bar:24} {wide_msg}");
            let style = style.expect("the template is fixed").progress_chars("=> ");
            let bar = BARS.add(ProgressBar::new(total).with_style(style));
            bar.set_position(done);
            bar
        });
        Progress { total, val_loss: None, bar, last_line: None }
    }

    /// Shows a step; `eta` is the time left. Off a terminal the first, the last, and at most
    /// one line a second are logged.
    pub fn step(&mut self, step: &Entry, eta: Option<Duration>) {
        let text = describe(step, self.val_loss, eta);
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}/{} {text}", step.step, self.total));
            bar.set_position(step.step);
            return;
        }
        let now = Instant::now();
        if is_due(self.last_line, now, step.step == self.total) {
            self.last_line = Some(now);
            tracing::info!("step {}/{} {text}", step.step, self.total);
        }
    }

    /// Logs an evaluation after `step` steps, and shows its loss (nats per token) from now on.
    pub fn eval(&mut self, step: u64, val_loss: f64) {
        self.val_loss = Some(val_loss);
        tracing::info!("step {step}/{} validation loss {val_loss:.4}", self.total);
    }
}

/// Between two plain lines of a [`Status`].
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// How far long work is that has no steps: a line that changes on a terminal, a line every ten seconds elsewhere.
#[derive(Debug)]
pub struct Status {
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl Status {
    /// Nothing is shown yet.
    pub fn new() -> Status {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{wide_msg}").expect("the template is fixed");
            BARS.add(ProgressBar::new_spinner().with_style(style))
        });
        Status { bar, last_line: Instant::now() }
    }

    /// Shows how far the work is.
    pub fn show(&mut self, text: &dyn std::fmt::Display) {
        if let Some(bar) = &self.bar {
            return bar.set_message(text.to_string());
        }
        let now = Instant::now();
        if now - self.last_line >= STATUS_EVERY {
            self.last_line = now;
            tracing::info!("{text}");
        }
    }
}

impl Default for Status {
    fn default() -> Status {
        Status::new()
    }
}

impl Drop for Status {
    /// Takes the line away: what came of it is said by whoever did the work.
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    /// Leaves the bar as it stands, below what was logged.
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

/// Whether a plain line is due at `now`.
fn is_due(last: Option<Instant>, now: Instant, final_step: bool) -> bool {
    final_step || last.is_none_or(|last| now - last >= LINE_EVERY)
}

/// Everything about a step but its number, in one line.
fn describe(step: &Entry, val_loss: Option<f64>, eta: Option<Duration>) -> String {
    let mut text = format!("loss {:.4}", step.loss);
    if let Some(val_loss) = val_loss {
        text += &format!(" val {val_loss:.4}");
    }
    text += &format!(" lr {:.2e} norm {:.2}", step.lr, step.grad_norm);
    text += &format!(" {} tok/s", with_unit(step.tokens_per_second));
    if let Some(mfu) = step.mfu {
        text += &format!(" mfu {:.1}%", 100.0 * mfu);
    }
    if let Some(eta) = eta {
        text += &format!(" eta {}", human_time(eta));
    }
    text
}

/// Three or four significant digits: 950, 12.3k, 4.56M.
fn with_unit(x: f64) -> String {
    match x {
        x if x < 999.5 => format!("{x:.0}"),
        x if x < 999_950.0 => format!("{:.1}k", x / 1e3),
        x => format!("{:.2}M", x / 1e6),
    }
}

/// The two largest units: 45s, 2m03s, 1h05m, 3d04h.
fn human_time(time: Duration) -> String {
    let s = time.as_secs();
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Entry = Entry {
        step: 3,
        tokens: 192,
        loss: 4.25,
        lr: 3e-4,
        grad_norm: 1.5,
        tokens_per_second: 12_345.0,
        mfu: Some(0.412),
    };

    #[test]
    fn a_line_shows_what_is_known() {
        assert_eq!(
            describe(&STEP, Some(4.5), Some(Duration::from_secs(123))),
            "loss 4.2500 val 4.5000 lr 3.00e-4 norm 1.50 12.3k tok/s mfu 41.2% eta 2m03s"
        );
        assert_eq!(
            describe(&Entry { mfu: None, ..STEP }, None, None),
            "loss 4.2500 lr 3.00e-4 norm 1.50 12.3k tok/s"
        );
    }

    #[test]
    fn plain_lines_are_rare_but_include_first_and_last() {
        let start = Instant::now();
        let soon = start + Duration::from_millis(999);
        assert!(is_due(None, start, false));
        assert!(!is_due(Some(start), soon, false));
        assert!(is_due(Some(start), soon, true));
        assert!(is_due(Some(start), start + Duration::from_secs(1), false));
    }

    #[test]
    fn units_change_where_they_should() {
        let times = [(0, "0s"), (59, "59s"), (60, "1m00s"), (3599, "59m59s"), (3600, "1h00m")];
        for (seconds, text) in times.into_iter().chain([(273_600, "3d04h")]) {
            assert_eq!(human_time(Duration::from_secs(seconds)), text);
        }
        for (x, text) in [(0.0, "0"), (999.4, "999"), (999.6, "1.0k"), (1e6, "1.00M")] {
            assert_eq!(with_unit(x), text);
        }
    }
}
