//! Speed: tokens per second over the last steps, share of the machine's ceiling (MFU), and time
//! left.
//!
//! ```
//! use std::time::Duration;
//! use train::clock::Clock;
//!
//! // A model of a million parameters, on a machine of 100 GFLOP/s.
//! let mut clock = Clock::new(6e6, Some(1e11));
//! clock.begin_step();
//! std::thread::sleep(Duration::from_millis(2)); // the step
//! clock.end_step(512);
//! let speed = clock.tokens_per_second();
//! assert!(speed > 0.0 && speed < 512.0 / 0.002);
//! assert_eq!(clock.mfu(), Some(speed * 6e6 / 1e11));
//! assert!(clock.eta(512) >= Some(Duration::from_millis(2)));
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Steps that the speed is averaged over.
const WINDOW: usize = 50;

/// Measures steps. Time between steps (evaluation, saving) counts towards the time left, not
/// towards the speed.
#[derive(Clone, Debug)]
pub struct Clock {
    /// FLOP of forward and backward, a token.
    flop_per_token: f64,
    /// FLOP a second that this machine was measured to reach, if it was.
    ceiling: Option<f64>,
    /// When this process began its first step.
    begin: Instant,
    /// When the current step began.
    step_begin: Instant,
    /// Tokens that this process has trained on.
    tokens: u64,
    /// Tokens and time of the last steps.
    window: VecDeque<(u64, Duration)>,
}

impl Clock {
    /// Starts now. `flop_per_token` counts forward and backward; `ceiling` is in FLOP a second.
    pub fn new(flop_per_token: f64, ceiling: Option<f64>) -> Clock {
        Clock::new_at(Instant::now(), flop_per_token, ceiling)
    }

    fn new_at(now: Instant, flop_per_token: f64, ceiling: Option<f64>) -> Clock {
        let window = VecDeque::with_capacity(WINDOW + 1);
        Clock { flop_per_token, ceiling, begin: now, step_begin: now, tokens: 0, window }
    }

    /// Marks the beginning of a step.
    pub fn begin_step(&mut self) {
        self.step_begin = Instant::now();
    }

    /// Marks the end of a step that trained on `tokens` tokens.
    pub fn end_step(&mut self, tokens: u64) {
        self.end_step_at(Instant::now(), tokens);
    }

    fn end_step_at(&mut self, now: Instant, tokens: u64) {
        self.tokens += tokens;
        self.window.push_back((tokens, now - self.step_begin));
        if self.window.len() > WINDOW {
            self.window.pop_front();
        }
        // Loops that never mark a beginning are measured from end to end.
        self.step_begin = now;
    }

    /// Tokens a second over the last steps; 0 before the first.
    pub fn tokens_per_second(&self) -> f64 {
        let tokens: u64 = self.window.iter().map(|(tokens, _)| tokens).sum();
        let time: Duration = self.window.iter().map(|(_, time)| time).sum();
        if time.is_zero() { 0.0 } else { tokens as f64 / time.as_secs_f64() }
    }

    /// Model FLOP utilisation: the share of the ceiling in use, where 1 is all of it. `None`
    /// without a measured ceiling.
    pub fn mfu(&self) -> Option<f64> {
        Some(self.tokens_per_second() * self.flop_per_token / self.ceiling?)
    }

    /// Time for `remaining` more tokens at the pace of this process so far, everything included.
    /// `None` before the first step.
    pub fn eta(&self, remaining: u64) -> Option<Duration> {
        self.eta_at(Instant::now(), remaining)
    }

    fn eta_at(&self, now: Instant, remaining: u64) -> Option<Duration> {
        let seconds = (now - self.begin).as_secs_f64() * remaining as f64 / self.tokens as f64;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_counts_steps_and_time_left_counts_everything() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut clock = Clock::new_at(start, 6.0, Some(1200.0));
        assert_eq!((clock.tokens_per_second(), clock.eta_at(at(1), 5)), (0.0, None));
        clock.end_step_at(at(1), 100);
        clock.step_begin = at(4); // three seconds of evaluation
        clock.end_step_at(at(5), 100);
        assert_eq!(clock.tokens_per_second(), 100.0);
        assert_eq!(clock.mfu(), Some(0.5));
        assert_eq!(clock.eta_at(at(5), 400), Some(Duration::from_secs(10)));
        assert_eq!(Clock::new_at(start, 6.0, None).mfu(), None);
    }

    #[test]
    fn old_steps_leave_the_window() {
        let start = Instant::now();
        let mut clock = Clock::new_at(start, 6.0, None);
        clock.end_step_at(start + Duration::from_secs(1000), 1); // a slow first step
        for i in 1..=WINDOW as u64 {
            clock.end_step_at(start + Duration::from_secs(1000 + i), 7);
        }
        assert_eq!(clock.tokens_per_second(), 7.0);
    }
}
