//! Tokenizer, token shards and the deterministic loader.
