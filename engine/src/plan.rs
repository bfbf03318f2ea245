//! Bytes by category, known before anything is allocated.

/// A list of named byte counts.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    rows: Vec<(String, u64)>,
}

impl Plan {
    /// Adds a category.
    pub fn add(&mut self, name: impl Into<String>, bytes: u64) {
        self.rows.push((name.into(), bytes));
    }

    /// The categories in order, with their bytes.
    pub fn rows(&self) -> &[(String, u64)] {
        &self.rows
    }

    /// Sum of all categories in bytes: everything lives at once, so this is the peak.
    pub fn total(&self) -> u64 {
        self.rows.iter().map(|(_, bytes)| bytes).sum()
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |bytes: u64| bytes as f64 / (1u64 << 20) as f64;
        for (name, bytes) in &self.rows {
            writeln!(f, "{name:<44} {:>10.1} MiB", mib(*bytes))?;
        }
        write!(f, "{:<44} {:>10.1} MiB", "peak", mib(self.total()))
    }
}
