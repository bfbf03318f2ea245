//! Text as its bytes: the ids of [`Tokenizer::bytes`](crate::tokenizer::Tokenizer::bytes), which also
//! writes them as a `tokenizer.json`. Ids 0, 1, 2 are `<unk> <s> </s>`; a byte's id is its value plus 3.
//!
//! ```
//! use data::bytes;
//!
//! let ids: Vec<u32> = bytes::encode("Caf\u{e9}").collect();
//! assert_eq!(ids.len(), 5);
//! assert_eq!(bytes::decode(&ids), "Caf\u{e9}");
//! ```

/// The token before a document.
pub const BOS: u32 = 1;
/// The token after a document.
pub const EOS: u32 = 2;
/// One more than the largest id.
pub const VOCAB: usize = 259;

/// The first byte's id.
const FIRST: u32 = 3;

/// Text to ids, without any special token.
pub fn encode(text: &str) -> impl Iterator<Item = u32> {
    text.bytes().map(|byte| FIRST + u32::from(byte))
}

/// Ids to text. Special tokens and ids out of range give nothing; bytes that are not UTF-8 give U+FFFD.
pub fn decode(ids: &[u32]) -> String {
    let byte = |id: &u32| u8::try_from(id.checked_sub(FIRST)?).ok();
    let bytes: Vec<u8> = ids.iter().filter_map(byte).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
