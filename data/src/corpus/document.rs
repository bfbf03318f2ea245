//! A document, and what every rule said of it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A longer document is counted and passed over: bytes of text.
pub const MAX_BYTES: usize = 1 << 30;

/// One document of a corpus.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// The text that a model sees.
    pub text: String,
    /// Where it comes from, such as `wikipedia/en`; a mixture weighs by it.
    pub source: String,
    /// Its name within the source.
    pub id: String,
    /// Whatever else is known of it: title, date, licence.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub meta: Map<String, Value>,
}

/// What one rule said of a document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub enum Verdict {
    /// The document may stay: `value` is on the right side of `threshold`.
    Kept {
        /// The rule's name.
        rule: Cow<'static, str>,
        /// What was measured.
        value: f64,
        /// What it was held against.
        threshold: f64,
    },
    /// The rule took something out of the text.
    Edited {
        /// The rule's name.
        rule: Cow<'static, str>,
        /// Bytes taken out.
        cut: u64,
    },
    /// The document goes: `value` is on the wrong side of `threshold`.
    Dropped {
        /// The rule's name.
        rule: Cow<'static, str>,
        /// What was measured.
        value: f64,
        /// What it was held against.
        threshold: f64,
    },
}

impl Verdict {
    /// The rule that speaks.
    pub fn rule(&self) -> &str {
        match self {
            Verdict::Kept { rule, .. }
            | Verdict::Edited { rule, .. }
            | Verdict::Dropped { rule, .. } => rule,
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Verdict::Kept { rule, value, threshold } => {
                write!(f, "{rule}: kept ({value}, threshold {threshold})")
            }
            Verdict::Edited { rule, cut } => write!(f, "{rule}: {cut} bytes cut"),
            Verdict::Dropped { rule, value, threshold } => {
                write!(f, "{rule}: dropped ({value}, threshold {threshold})")
            }
        }
    }
}

/// What the rules said of one document, in their order. The first that drops it is the last.
///
/// ```
/// use data::corpus::Trail;
///
/// let length = "short".len() as f64;
/// let mut trail = Trail::default();
/// trail.cut("markup", 12);
/// assert!(trail.at_most("longest_line", length, 1000.0));
/// assert!(!trail.at_least("length", length, 300.0));
/// assert_eq!(trail.dropped().unwrap().rule(), "length");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Trail(Vec<Verdict>);

impl Trail {
    /// Keeps a document whose `value` is at most `threshold`; says whether it is kept.
    pub fn at_most(&mut self, rule: &'static str, value: f64, threshold: f64) -> bool {
        self.say(rule, value <= threshold, value, threshold)
    }

    /// Keeps a document whose `value` is at least `threshold`; says whether it is kept.
    pub fn at_least(&mut self, rule: &'static str, value: f64, threshold: f64) -> bool {
        self.say(rule, value >= threshold, value, threshold)
    }

    /// Records what a rule of another shape decided; gives `kept` back.
    ///
    /// # Panics
    /// If the document is dropped already: no rule is asked after that.
    pub fn say(&mut self, rule: &'static str, kept: bool, value: f64, threshold: f64) -> bool {
        assert!(self.dropped().is_none(), "trail: {rule} is asked of a dropped document");
        let rule = Cow::Borrowed(rule);
        self.0.push(if kept {
            Verdict::Kept { rule, value, threshold }
        } else {
            Verdict::Dropped { rule, value, threshold }
        });
        kept
    }

    /// Records that a rule took `bytes` out of the text. Nothing taken is nothing said.
    pub fn cut(&mut self, rule: &'static str, bytes: usize) {
        if bytes > 0 {
            self.0.push(Verdict::Edited { rule: Cow::Borrowed(rule), cut: bytes as u64 });
        }
    }

    /// The verdict that drops the document, if one does.
    pub fn dropped(&self) -> Option<&Verdict> {
        self.0.last().filter(|verdict| matches!(verdict, Verdict::Dropped { .. }))
    }

    /// All that was said.
    pub fn verdicts(&self) -> &[Verdict] {
        &self.0
    }
}
