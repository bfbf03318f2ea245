//! LLaMA.
