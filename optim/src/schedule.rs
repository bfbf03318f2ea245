//! Linear warmup, then a cosine to a share of the peak.
//! Source: LLaMA, arXiv 2302.13971, section 2.3: warmup of 2000 steps, final rate 10 % of the peak.
//!
//! ```
//! let schedule = optim::Schedule { peak: 3e-4, min_ratio: 0.1, warmup: 2000, steps: 100_000 };
//! assert_eq!(schedule.lr(1999), 3e-4);
//! assert!(schedule.lr(99_999) < 3.1e-5);
//! ```

/// A learning rate for each step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Highest rate.
    pub peak: f64,
    /// Last rate as a share of the peak.
    pub min_ratio: f64,
    /// Steps of warmup.
    pub warmup: u64,
    /// Steps in all.
    pub steps: u64,
}

impl Schedule {
    /// The rate of step `s`, counted from 0: peak * (s+1) / warmup, then
    /// min + (peak - min) / 2 * (1 + cos(pi * (s - warmup) / (steps - warmup))). Steps beyond the
    /// last keep the lowest rate.
    pub fn lr(&self, s: u64) -> f64 {
        if s < self.warmup {
            return self.peak * (s + 1) as f64 / self.warmup as f64;
        }
        let min = self.peak * self.min_ratio;
        let span = self.steps.saturating_sub(self.warmup).max(1);
        let done = ((s - self.warmup) as f64 / span as f64).min(1.0);
        min + (self.peak - min) / 2.0 * (1.0 + (std::f64::consts::PI * done).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warms_up_and_falls_to_its_share() {
        let s = Schedule { peak: 3e-4, min_ratio: 0.1, warmup: 10, steps: 110 };
        for (step, expected) in [(0, 3e-5), (9, 3e-4), (10, 3e-4), (60, 1.65e-4), (110, 3e-5)] {
            // Each of the formula's few operations rounds once.
            let error: f64 = s.lr(step) / expected - 1.0;
            assert!(error.abs() <= 4.0 * f64::EPSILON, "step {step}: {}", s.lr(step));
        }
        assert_eq!(s.lr(1000), s.lr(110));
        assert!((1..110).all(|i| i < 10 || s.lr(i) <= s.lr(i - 1)));
    }

    #[test]
    fn no_warmup_starts_at_the_peak() {
        let s = Schedule { peak: 1.0, min_ratio: 0.1, warmup: 0, steps: 1 };
        assert_eq!(s.lr(0), 1.0);
    }
}
