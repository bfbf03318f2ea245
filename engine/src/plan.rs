//! What a run takes, in bytes by category. A plan is the run itself on a device that counts,
//! [`Device::counting`](crate::Device::counting): the code that trains makes its buffers and calls its ops
//! there, but buffers have a length and no memory, and ops say what work space they need and do nothing
//! else. So a plan cannot differ from the run.
//!
//! ```
//! use engine::ops::swiglu;
//! use engine::{Buf, Device};
//!
//! # fn main() -> Result<(), engine::Error> {
//! let dev = Device::cpu(2)?.counting();
//! // A terabyte, of which no byte exists.
//! let gu = Buf::<f32>::zeros(&dev.under("gate and up"), 1 << 38);
//! let mut a = Buf::<f32>::zeros(&dev.under("products"), 1 << 37);
//! swiglu::forward(&dev, a.view_mut(), gu.view(), 1 << 10);
//! let plan = dev.counted().expect("it counts");
//! assert_eq!(plan.bytes("gate and up"), 1 << 40);
//! assert_eq!(plan.total(), 3 << 39);
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

/// The category of what ops need while they run.
pub const WORKSPACE: &str = "work space of ops";

/// The category of buffers for which their maker named none.
const UNNAMED: &str = "other buffers";

/// A list of named byte counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

    /// Bytes of a category; 0 if there is none of this name.
    pub fn bytes(&self, name: &str) -> u64 {
        self.rows.iter().find(|row| row.0 == name).map_or(0, |row| row.1)
    }

    /// Makes the work space no less than another plan's: of ops that run one after the other, all
    /// have the same.
    pub fn share_workspace(&mut self, other: &Plan) {
        let bytes = self.bytes(WORKSPACE).max(other.bytes(WORKSPACE));
        self.rows.retain(|row| row.0 != WORKSPACE);
        self.add(WORKSPACE, bytes);
    }

    /// Sum of all categories in bytes: everything lives at once, so this is the peak.
    pub fn total(&self) -> u64 {
        self.rows.iter().map(|(_, bytes)| bytes).sum()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / (1u64 << 20) as f64;
        for (name, bytes) in &self.rows {
            writeln!(f, "{name:<44} {:>10.1} MiB", mib(*bytes))?;
        }
        write!(f, "{:<44} {:>10.1} MiB", "peak", mib(self.total()))
    }
}

/// Counts what is allocated on a device, under the name that this clone has.
#[derive(Clone)]
pub(crate) struct Counter {
    categories: Arc<Mutex<Vec<Category>>>,
    name: Arc<str>,
}

struct Category {
    name: Arc<str>,
    /// Bytes that are held now.
    held: u64,
    /// The most that were held at once.
    most: u64,
}

impl Counter {
    pub fn new() -> Self {
        Counter { categories: Arc::default(), name: UNNAMED.into() }
    }

    /// The same counter, for buffers of another category.
    pub fn under(&self, name: &str) -> Self {
        Counter { categories: self.categories.clone(), name: name.into() }
    }

    /// Counts a buffer, until the result is dropped.
    ///
    /// # Panics
    /// If there are more than 2^64 bytes of the category: a caller bug.
    pub fn hold(&self, bytes: usize) -> Held {
        if bytes > 0 {
            let categories = &mut *self.lock();
            let at = categories.iter().position(|category| category.name == self.name);
            let at = at.unwrap_or_else(|| {
                categories.push(Category { name: self.name.clone(), held: 0, most: 0 });
                categories.len() - 1
            });
            let category = &mut categories[at];
            let held = category.held.checked_add(bytes as u64);
            category.held = held.unwrap_or_else(|| panic!("plan: too many bytes of {}", self.name));
            category.most = category.most.max(category.held);
        }
        Held { counter: self.clone(), bytes: bytes as u64 }
    }

    /// What was counted, buffers that are gone included.
    pub fn plan(&self) -> Plan {
        let row = |category: &Category| (category.name.to_string(), category.most);
        Plan { rows: self.lock().iter().map(row).collect() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Category>> {
        self.categories.lock().expect("no thread panics while it counts")
    }
}

/// A buffer that is counted and has no memory.
pub(crate) struct Held {
    counter: Counter,
    bytes: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        let name = &self.counter.name;
        if let Some(of) = self.counter.lock().iter_mut().find(|of| of.name == *name) {
            of.held -= self.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::{Cuda, Target};
    use crate::{Buf, Device};

    fn devices() -> [Device; 2] {
        let gpu = Device::Cuda(Cuda::imagined(Target::of(90), 80 << 30));
        [Device::cpu(3).unwrap().counting(), gpu]
    }

    #[test]
    fn buffers_count_under_their_name_for_as_long_as_they_live() {
        for (dev, unit) in devices().into_iter().zip([64, 256]) {
            let kept = Buf::<f32>::zeros(&dev.under("a"), 1 << 40);
            let more = Buf::<f64>::zeros(&dev.under("b"), 1);
            drop(more);
            let last = Buf::<f64>::zeros(&dev.under("b"), 1);
            let none = Buf::<f64>::zeros(&dev.under("c"), 0);
            let unnamed = Buf::<u32>::zeros(&dev, 1000);
            let plan = dev.counted().unwrap();
            let rows: Vec<_> = plan.rows().iter().map(|(name, n)| (name.as_str(), *n)).collect();
            let other = 4000u64.next_multiple_of(unit);
            assert_eq!(rows, [("a", 1 << 42), ("b", unit), (UNNAMED, other), (WORKSPACE, 0)]);
            assert_eq!(kept.len() + last.len() + none.len() + unnamed.len(), (1 << 40) + 1001);
        }
        assert!(Device::cpu(1).unwrap().counted().is_none());
    }

    #[test]
    #[should_panic(expected = "elements are beyond")]
    fn bytes_do_not_wrap() {
        Buf::<f64>::zeros(&devices()[0], usize::MAX / 4);
    }

    #[test]
    #[should_panic(expected = "is counted and has no memory")]
    fn what_an_op_does_without_saying_what_it_needs_is_noticed() {
        let buf = Buf::<f32>::zeros(&devices()[0], 8);
        buf.view().host();
    }

    #[test]
    fn values_of_a_counted_buffer_are_zero_and_parts_are_none() {
        for dev in devices() {
            let mut buf = Buf::of(&dev, &[1.0f32, 2.0, 3.0]);
            assert_eq!(*buf.range(1..3).read().unwrap(), [0.0; 2]);
            buf.fill_zero(&dev);
            let fail = |_: usize, _: &mut [f32]| Err::<(), _>("asked for values");
            buf.view_mut().fill_parts(fail).unwrap();
            let fail = |_: usize, _: &[f32]| Err(crate::Error::Device("given values".into()));
            buf.view().read_parts(fail).unwrap();
        }
    }
}
