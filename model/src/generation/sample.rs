//! The choice of the next token from logits: temperature, then the smallest set of likeliest
//! tokens whose probabilities reach top-p (Holtzman et al. 2019, arXiv:1904.09751).

/// How to choose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Divides the logits; 0 always takes the likeliest token.
    pub temperature: f64,
    /// Probability that the set of candidates must reach, in (0, 1].
    pub top_p: f64,
}

impl Sampler {
    /// The token that the random number `u` in [0, 1) picks. Ties go to the lower id.
    ///
    /// # Panics
    /// If there are no logits, or one is NaN: callers check weights when they load them.
    pub fn choose(&self, logits_V: &[f32], u: f64) -> u32 {
        let mut order: Vec<u32> = (0..logits_V.len() as u32).collect();
        let by_logit = |&a: &u32, &b: &u32| {
            let (x, y) = (logits_V[a as usize], logits_V[b as usize]);
            y.partial_cmp(&x).expect("logits are numbers").then(a.cmp(&b))
        };
        if self.temperature == 0.0 {
            return order.into_iter().min_by(by_logit).expect("a vocabulary has tokens");
        }
        order.sort_unstable_by(by_logit);
        let max = logits_V[order[0] as usize] as f64;
        let weight = |id: u32| ((logits_V[id as usize] as f64 - max) / self.temperature).exp();
        let total: f64 = order.iter().map(|&id| weight(id)).sum();
        let mut kept = 0.0;
        let inside = order.iter().position(|&id| {
            kept += weight(id);
            kept >= self.top_p * total
        });
        order.truncate(inside.map_or(order.len(), |last| last + 1));
        let mut left = u * kept;
        let chosen = order.iter().find(|&&id| {
            left -= weight(id);
            left < 0.0
        });
        *chosen.unwrap_or(&order[order.len() - 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_temperature_takes_the_likeliest_and_the_lower_of_equals() {
        let greedy = Sampler { temperature: 0.0, top_p: 1.0 };
        assert_eq!(greedy.choose(&[0.0, 3.0, 3.0, -1.0], 0.99), 1);
    }

    #[test]
    fn shares_follow_the_softmax() {
        let sampler = Sampler { temperature: 0.5, top_p: 1.0 };
        let logits = [0.0f32, 0.5, 1.0];
        let mut counts = [0.0; 3];
        for i in 0..10_000 {
            counts[sampler.choose(&logits, i as f64 / 1e4) as usize] += 1e-4;
        }
        let total: f64 = logits.iter().map(|&l| (2.0 * l as f64).exp()).sum();
        for (id, share) in counts.iter().enumerate() {
            let expected = (2.0 * logits[id] as f64).exp() / total;
            assert!((share - expected).abs() < 2e-4, "{id}: {share} and {expected}");
        }
    }

    #[test]
    fn top_p_drops_the_tail_and_keeps_the_token_that_reaches_it() {
        let sampler = Sampler { temperature: 1.0, top_p: 0.7 };
        // Probabilities 0.6, 0.3, 0.1: two tokens reach 0.7.
        let logits = [0.1f32.ln(), 0.6f32.ln(), 0.3f32.ln()];
        let seen: std::collections::BTreeSet<u32> =
            (0..1000).map(|i| sampler.choose(&logits, i as f64 / 1e3)).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(Sampler { top_p: 1e-9, ..sampler }.choose(&logits, 0.999), 1);
    }
}
