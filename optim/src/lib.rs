//! AdamW policy, schedule, clipping.
