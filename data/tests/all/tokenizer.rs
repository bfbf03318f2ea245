use std::collections::HashMap;
use std::path::Path;

use data::Error;
use data::stories::Stories;
use data::tokenizer::{Ends, Tokenizer};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::LazyLock;
use tempfile::TempDir;

use crate::{assert_says, names};

static TRAINED: LazyLock<Tokenizer> = LazyLock::new(|| train(600));
static BYTES: LazyLock<Tokenizer> = LazyLock::new(Tokenizer::bytes);

fn train(vocab_size: usize) -> Tokenizer {
    Tokenizer::train_bpe(Stories::new(1).documents(500), vocab_size, &mut |_, _| {}).unwrap()
}

fn piece(tokenizer: &Tokenizer, id: u32) -> String {
    let json: Value = serde_json::from_str(tokenizer.json()).unwrap();
    let vocab = json["model"]["vocab"].as_object().unwrap();
    vocab.iter().find(|(_, v)| v.as_u64() == Some(id.into())).unwrap().0.clone()
}

/// Checks that `text` comes back as `expected`, whole and as a stream.
fn assert_round_trip(tokenizer: &Tokenizer, text: &str, expected: &str) {
    let ids = tokenizer.encode(text).unwrap();
    assert!(ids.iter().all(|&id| id > 2), "a special token for {text:?}");
    assert_eq!(tokenizer.decode(&ids).unwrap(), expected);
    assert_eq!(streamed(tokenizer, &ids), expected);
}

/// How SentencePiece and llama.cpp encode with a vocabulary of BPE, word for word: of all neighbours
/// that spell a token the one with the least id is joined, of equals the leftmost; what is no token
/// becomes bytes. `vocab` has the text of each id.
pub fn sentencepiece(vocab: &[String], text: &str) -> Vec<u32> {
    if text.is_empty() {
        return Vec::new();
    }
    let ids: HashMap<&str, u32> = vocab[259..].iter().map(String::as_str).zip(259..).collect();
    let text = format!(" {text}").replace(' ', "\u{2581}");
    let mut symbols: Vec<String> = text.chars().map(String::from).collect();
    loop {
        let pairs = symbols.windows(2).enumerate();
        let known = pairs.filter_map(|(at, pair)| Some((*ids.get(pair.concat().as_str())?, at)));
        let Some((_, at)) = known.min() else { break };
        let right = symbols.remove(at + 1);
        symbols[at] += &right;
    }
    let bytes = |symbol: &str| symbol.bytes().map(|b| u32::from(b) + 3).collect();
    let id = |symbol: &String| ids.get(symbol.as_str()).map_or(bytes(symbol), |&id| vec![id]);
    symbols.iter().flat_map(id).collect()
}

/// The text of each id.
pub fn vocabulary(tokenizer: &Tokenizer) -> Vec<String> {
    let json: Value = serde_json::from_str(tokenizer.json()).unwrap();
    let vocab = json["model"]["vocab"].as_object().unwrap();
    let mut texts = vec![String::new(); vocab.len()];
    vocab.iter().for_each(|(text, id)| texts[id.as_u64().unwrap() as usize] = text.clone());
    texts
}

/// Trained on what makes one token arise of different pairs, next to each other and overlapping.
static REPEATS: LazyLock<Tokenizer> = LazyLock::new(|| {
    let words = ["aaaaaaaaaaa", "abababab", "aabaabaab", "-----", "======", "bananas", "cancan"];
    let line = |i: usize| {
        let word = |k: usize| words[(i * 7 + k * k) % words.len()];
        let (spaces, cut) = (" ".repeat(i % 9 + 1), i % 5);
        format!("{}{spaces}{}{}\n{}", word(1), word(2), &word(3)[cut..], "\n".repeat(i % 4))
    };
    let text: String = (0..400).map(line).collect();
    Tokenizer::train_bpe([Ok(text)], 420, &mut |_, _| {}).unwrap()
});

fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut stream = tokenizer.decode_after(&[]);
    let shown: String = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
    shown + &stream.finish().unwrap()
}

/// Text full of what tokenizers get wrong.
fn hostile() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        any::<char>().prop_map(String::from),
        proptest::sample::select(vec![
            " ",
            "  ",
            "\n",
            "\r\n",
            "\t",
            "\u{2581}",
            "\u{a0}",
            "\u{3000}",
            "\u{0}",
            "\u{FEFF}",
            "7",
            "1234",
            "\u{664}",
            "\u{bd}",
            "the",
            " Once",
            "'s",
            "</s>",
            "<s>",
            "<unk>",
            "<0x41>",
            "\u{FFFD}",
            "e\u{301}",
            "\u{1F468}\u{200D}\u{1F469}\u{200D}\u{1F467}",
            "\u{4e2d}\u{6587}",
            "\u{928}\u{93f}",
            "\u{1F1E9}\u{1F1EA}",
        ])
        .prop_map(String::from),
    ];
    proptest::collection::vec(part, 0..30).prop_map(|parts| parts.concat())
}

proptest! {
    /// LLaMA's sign for a space is one; everything else is what it was.
    #[test]
    fn every_text_comes_back(text in prop_oneof![hostile(), any::<String>()]) {
        assert_round_trip(&TRAINED, &text, &text.replace('\u{2581}', " "));
        assert_round_trip(&BYTES, &text, &text);
    }

    /// Hugging Face's list of merges, cut into words or not, and SentencePiece's rule agree.
    #[test]
    fn texts_are_cut_as_by_sentencepiece(
        text in prop_oneof![hostile(), any::<String>()],
        repeats in "[ab \n=-]{0,60}",
        words in "[ ]{0,4}([abns]{1,9}|-{1,7}|[canb]{1,9})( {1,9}[ab]{1,12}){0,4}",
    ) {
        for tokenizer in [&*TRAINED, &*REPEATS] {
            let vocab = vocabulary(tokenizer);
            let whole = tokenizers::Tokenizer::from_bytes(tokenizer.json()).unwrap();
            for text in [&text, &repeats, &words] {
                let expected = sentencepiece(&vocab, text);
                prop_assert_eq!(&tokenizer.encode(text).unwrap(), &expected, "{:?}", text);
                // Special tokens that are written out are tokens there.
                if !["<s>", "</s>", "<unk>"].iter().any(|special| text.contains(special)) {
                    let ids = whole.encode_fast(text.as_str(), false).unwrap();
                    prop_assert_eq!(ids.get_ids(), &expected[..], "{:?}", text);
                }
            }
        }
    }

    /// A stream shows what the whole decodes to, whatever the ids, as far as that is valid text.
    #[test]
    fn streams_show_only_whole_characters(ids in proptest::collection::vec(0u32..259, 0..40)) {
        let mut stream = BYTES.decode_after(&[]);
        for &id in &ids {
            let new = stream.push(id).unwrap();
            assert!(!new.ends_with('\u{FFFD}'));
        }
        prop_assert_eq!(streamed(&BYTES, &ids), BYTES.decode(&ids).unwrap());
    }
}

#[test]
fn vocabulary_is_laid_out_as_llamas() {
    let json: Value = serde_json::from_str(TRAINED.json()).unwrap();
    let vocab = &json["model"]["vocab"];
    let layout =
        [("<unk>", 0), ("<s>", 1), ("</s>", 2), ("<0x00>", 3), ("<0x0A>", 13), ("<0xFF>", 258)];
    for (token, id) in layout {
        assert_eq!(vocab[token], id);
    }
    assert_eq!(TRAINED.vocab_size(), 600);
    assert_eq!(json["model"]["byte_fallback"], true);
    for tokenizer in [&*TRAINED, &*BYTES] {
        let special = tokenizer.special();
        assert_eq!((special.bos, special.eos, special.pad), (Some(1), Some(2), None));
        assert_eq!((&special.prefix[..], &special.stop[..]), (&[1][..], &[2][..]));
        assert_eq!(special.around(Ends::Both), (&[1][..], Some(2)));
        assert_eq!(special.around(Ends::After), (&[][..], Some(2)));
        assert!(special.disagreements.is_empty());
    }
    assert_eq!(BYTES.vocab_size(), 259);
}

#[test]
fn bytes_are_their_value_plus_three() {
    for byte in 0..128u8 {
        let text = char::from(byte).to_string();
        assert_eq!(BYTES.encode(&text).unwrap(), [u32::from(byte) + 3]);
    }
    let text = "\u{4e2d}\u{e4}\u{1F600}";
    let expected: Vec<u32> = text.bytes().map(|b| u32::from(b) + 3).collect();
    assert_eq!(BYTES.encode(text).unwrap(), expected);
    let all: Vec<u32> = (3..259).collect();
    assert_eq!(
        BYTES.decode(&all).unwrap(),
        String::from_utf8_lossy(&(0..=255).collect::<Vec<u8>>())
    );
}

#[test]
fn bytes_need_no_tokenizer() {
    for text in ["", "a\n", "\u{4e2d}\u{e4}\u{1F600} </s>", &Stories::story(3, 5)] {
        let ids: Vec<u32> = data::bytes::encode(text).collect();
        assert_eq!(ids, BYTES.encode(text).unwrap());
        assert_eq!(data::bytes::decode(&ids), text);
    }
    // Special tokens, bytes that are no character, and ids that there are not.
    let odd = [1, 3 + 0x41, 3 + 0xff, 2, 3 + 0xe4, 3 + 0x42, 0, 259, 4000];
    assert_eq!(data::bytes::decode(&odd), BYTES.decode(&odd).unwrap());
    assert_eq!(
        (Some(data::bytes::BOS), Some(data::bytes::EOS)),
        (BYTES.special().bos, BYTES.special().eos)
    );
    assert_eq!(data::bytes::VOCAB, BYTES.vocab_size());
}

#[test]
fn every_digit_stands_alone_and_unseen_characters_are_bytes() {
    let ids = TRAINED.encode("in 1987, 12 apples").unwrap();
    let digits: Vec<String> = ids.iter().map(|&id| piece(&TRAINED, id)).collect();
    let digits: Vec<&String> = digits.iter().filter(|p| p.contains(char::is_numeric)).collect();
    assert_eq!(digits, ["1", "9", "8", "7", "1", "2"]);
    let json: Value = serde_json::from_str(TRAINED.json()).unwrap();
    for (token, id) in json["model"]["vocab"].as_object().unwrap() {
        let long = token.chars().count() > 1 && id.as_u64() > Some(258);
        assert!(!long || !token.contains(char::is_numeric), "{token}");
    }
    let ids = TRAINED.encode("\u{4e2d}").unwrap();
    assert_eq!(ids[1..], [0xE4 + 3, 0xB8 + 3, 0xAD + 3], "after the space before a text");
}

#[test]
fn common_words_become_one_token() {
    let ids = TRAINED.encode(" the friend").unwrap();
    assert_eq!(ids.len(), 3, "the space before the text, {ids:?}");
    assert_eq!(TRAINED.encode("the friend").unwrap().len(), 2);
    let text = Stories::story(99, 0);
    let ids = TRAINED.encode(&text).unwrap();
    assert!(
        text.len() as f64 / ids.len() as f64 > 2.2,
        "{} tokens of {} bytes",
        ids.len(),
        text.len()
    );
}

/// The result must not hang on threads, runs or the order of hash maps, so its hash is pinned.
#[test]
fn training_is_deterministic() {
    for threads in [1, 2, 4] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let again = pool.install(|| train(600));
        assert_eq!(again.json(), TRAINED.json());
    }
    assert_eq!(TRAINED.hash(), "2e098abf6dc6d60b");
    assert_eq!(BYTES.hash(), "d35d71c09b86c20e");
}

#[test]
fn training_reports_progress_and_stops_when_nothing_repeats() {
    let mut heard = Vec::new();
    let text = "ab ab ab cd cd xyz";
    let tokenizer =
        Tokenizer::train_bpe([Ok(text.to_string())], 400, &mut |done, of| heard.push((done, of)))
            .unwrap();
    // a b c d x y z and the space; "ab", " ab", "cd", " cd" by count.
    assert_eq!(tokenizer.vocab_size(), 259 + 8 + 4);
    assert_eq!(heard, [(268, 400), (269, 400), (270, 400), (271, 400)]);
    assert_eq!(tokenizer.encode("ab cd ab").unwrap().len(), 3);
}

/// A small vocabulary goes to the characters that come most; the others stay bytes.
#[test]
fn rare_characters_do_not_crowd_out_merges() {
    let rare: String = (0x4e00..0x4f00u32).filter_map(char::from_u32).collect();
    let text = format!("{rare}{}", "hello hello ".repeat(100));
    let tokenizer = Tokenizer::train_bpe([Ok(text.clone())], 275, &mut |_, _| {}).unwrap();
    let json: Value = serde_json::from_str(tokenizer.json()).unwrap();
    let vocab = json["model"]["vocab"].as_object().unwrap();
    assert_eq!(vocab.keys().filter(|token| token.chars().count() == 1).count(), 8);
    assert_eq!(tokenizer.encode("hello").unwrap().len(), 1);
    assert_round_trip(&tokenizer, &text, &text);
}

/// Long texts are cut for speed; the cuts must not show in the ids.
#[test]
fn long_texts_encode_as_if_whole() {
    let stories: Vec<String> = Stories::new(8).take(400).collect();
    let joined = stories.join("\n\n\r\n  \n");
    assert!(joined.len() > 1 << 18);
    let spaces = format!("{}x{}", " \n".repeat(100_000), "\n".repeat(100_000));
    // One that knows runs of line ends and of spaces.
    let runs = Tokenizer::train_bpe([Ok(joined.repeat(2) + &spaces)], 500, &mut |_, _| {}).unwrap();
    assert_eq!(runs.encode("\n\n\n\n").unwrap().len(), 2, "the space before a text, and the run");
    for tokenizer in [&*TRAINED, &*BYTES, &runs] {
        let whole = tokenizers::Tokenizer::from_bytes(tokenizer.json()).unwrap();
        for text in [&joined, &spaces] {
            let expected = whole.encode_fast(text.as_str(), false).unwrap();
            assert_eq!(tokenizer.encode(text).unwrap(), expected.get_ids());
            let batch = tokenizer.encode_batch(&[text.clone(), String::new()]).unwrap();
            assert_eq!(batch, [expected.get_ids().to_vec(), vec![]]);
        }
    }
}

#[test]
fn saved_and_loaded_is_the_same() {
    for tokenizer in [&*TRAINED, &*BYTES] {
        let dir = TempDir::new().unwrap();
        tokenizer.save(dir.path()).unwrap();
        let files = ["generation_config.json", "tokenizer.json", "tokenizer_config.json"];
        assert_eq!(names(dir.path()), files);
        let loaded = Tokenizer::load(&dir.path().join("tokenizer.json")).unwrap();
        assert_eq!((loaded.hash(), loaded.json()), (tokenizer.hash(), tokenizer.json()));
        assert_eq!(loaded.special().stop, [2]);
        assert_eq!(loaded.special().prefix, tokenizer.special().prefix);
        let text = "Once upon a time \u{4e2d} 12\n\n  x";
        assert_eq!(loaded.encode(text).unwrap(), tokenizer.encode(text).unwrap());
        let config = std::fs::read_to_string(dir.path().join("tokenizer_config.json")).unwrap();
        let config: Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["eos_token"], "</s>");
        assert_eq!(config["add_bos_token"], true);
        let generation = std::fs::read(dir.path().join("generation_config.json")).unwrap();
        let generation: Value = serde_json::from_slice(&generation).unwrap();
        assert_eq!(generation, json!({"bos_token_id": 1, "eos_token_id": 2}));
        assert_eq!(config["clean_up_tokenization_spaces"], false);
        let again = TempDir::new().unwrap();
        loaded.save(again.path()).unwrap();
        for name in names(dir.path()) {
            let bytes = |d: &TempDir| std::fs::read(d.path().join(&name)).unwrap();
            assert_eq!(bytes(&dir), bytes(&again), "{name}");
        }
    }
}

/// A tokenizer as Meta's converted ones are: U+2581 for spaces, one of them put in front.
fn metaspace(folder: &Path) -> Tokenizer {
    let mut vocab =
        json!({"<unk>": 0, "<s>": 1, "</s>": 2, "\u{2581}": 259, "a": 260, "\u{2581}a": 261});
    for byte in 0..=255u32 {
        vocab[format!("<0x{byte:02X}>")] = json!(byte + 3);
    }
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": false, "special": true})
    };
    let file = json!({
        "version": "1.0", "truncation": {"direction": "Right", "max_length": 4, "strategy":
        "LongestFirst", "stride": 0}, "padding": null,
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u{2581}"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"}]},
        "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "fuse_unk": true,
            "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "byte_fallback": true, "vocab": vocab, "merges": [["\u{2581}", "a"]]}});
    let path = folder.join("tokenizer.json");
    std::fs::write(&path, file.to_string()).unwrap();
    Tokenizer::load(&path).unwrap()
}

#[test]
fn a_foreign_tokenizer_streams_its_leading_space() {
    let dir = TempDir::new().unwrap();
    let tokenizer = metaspace(dir.path());
    let ids = tokenizer.encode("a a \u{4e2d}a").unwrap();
    assert_eq!(ids, [261, 261, 259, 0xE4 + 3, 0xB8 + 3, 0xAD + 3, 260], "neither cut nor padded");
    let mut stream = tokenizer.decode_after(&[]);
    let shown: Vec<String> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
    assert_eq!(shown, ["a", " a", " ", "", "", "\u{4e2d}", "a"]);
    assert_eq!(streamed(&tokenizer, &[1, 261, 261, 2]), "a a");
    // A broken character shows when it is sure to be broken, and spoils nothing shown before.
    assert_eq!(
        streamed(&tokenizer, &[0xE4 + 3, 0xB8 + 3, 0xAD + 3, 0xE4 + 3, 260]),
        "\u{4e2d}\u{FFFD}a"
    );
    assert_eq!(streamed(&tokenizer, &[260, 0xE4 + 3]), "a\u{FFFD}");
    let long = "a\n".repeat(100_000);
    let prepended = tokenizer.encode(&long).unwrap().iter().filter(|&&id| id == 261).count();
    assert_eq!(prepended, 1, "only the text's own beginning");
}

/// What a model writes after a prompt begins with the space between the two.
#[test]
fn a_continuation_keeps_the_space_after_its_prompt() {
    for (prompt, text) in [("The boat", "The boat fields"), ("a", "a \u{4e2d}"), ("", " x")] {
        for tokenizer in [&*TRAINED, &*BYTES] {
            let (before, all) =
                (tokenizer.prompt(prompt).unwrap(), tokenizer.prompt(text).unwrap());
            let mut stream = tokenizer.decode_after(&before);
            let shown: String =
                all[before.len()..].iter().map(|&id| stream.push(id).unwrap()).collect();
            assert_eq!(shown + &stream.finish().unwrap(), text[prompt.len()..], "{prompt:?}");
        }
    }
}

#[test]
fn special_tokens_in_a_prompt_are_tokens_and_in_a_document_text() {
    for tokenizer in [&*TRAINED, &*BYTES] {
        let ids = tokenizer.prompt("a</s><s>").unwrap();
        assert_eq!((ids[0], &ids[ids.len() - 2..]), (1, &[2, 1][..]));
        assert_eq!(tokenizer.prompt("a").unwrap()[1..], tokenizer.encode("a").unwrap());
        let document = tokenizer.encode("a</s><s>").unwrap();
        assert!(document.iter().all(|&id| id > 2), "{document:?}");
    }
}

/// A model's directory with these files beside a tokenizer whose post-processor puts id 1 first.
fn directory(files: &[(&str, Value)]) -> (TempDir, Tokenizer) {
    let dir = TempDir::new().unwrap();
    BYTES.save(dir.path()).unwrap();
    for name in ["tokenizer_config.json", "generation_config.json"] {
        std::fs::remove_file(dir.path().join(name)).unwrap();
    }
    for (name, content) in files {
        std::fs::write(dir.path().join(name), content.to_string()).unwrap();
    }
    let tokenizer = Tokenizer::load(&dir.path().join("tokenizer.json")).unwrap();
    (dir, tokenizer)
}

/// Files, the end of documents, the ends of texts, and how many disagreements there are.
type Case<'a> = (&'a [(&'a str, Value)], u32, &'a [u32], usize);

/// The byte-level tokenizer's own words for some bytes: `A` is id 68, `B` 69, and so on.
#[test]
fn every_file_that_names_special_tokens_is_read() {
    let config = |eos: Value| ("config.json", json!({"bos_token_id": 1, "eos_token_id": eos}));
    let generation = |eos: Value| ("generation_config.json", json!({"eos_token_id": eos}));
    let named = |eos: &str| ("tokenizer_config.json", json!({"eos_token": {"content": eos}}));
    let map = |eos: &str| ("special_tokens_map.json", json!({"eos_token": eos, "pad_token": "C"}));
    let cases: [Case; 9] = [
        (&[], 2, &[2], 0),
        (&[config(json!(68))], 68, &[68], 0),
        (&[generation(json!([68, 69]))], 68, &[68, 69], 0),
        (&[map("A")], 68, &[68], 0),
        (&[named("B"), map("B"), config(json!(69))], 69, &[69], 0),
        (&[named("B"), generation(json!([68, 69]))], 69, &[68, 69], 0),
        (&[named("B"), config(json!([68]))], 69, &[68], 1),
        (&[named("B"), map("A"), config(json!(68)), generation(json!(70))], 69, &[70], 1),
        (&[named("no such token"), config(json!(null))], 2, &[2], 1),
    ];
    for (files, eos, stop, lines) in cases {
        let (_dir, tokenizer) = directory(files);
        let special = tokenizer.special();
        assert_eq!((special.eos, &special.stop[..]), (Some(eos), stop), "{files:?}");
        assert_eq!(special.around(Ends::Both), (&[1][..], Some(eos)), "{files:?}");
        assert_eq!(special.disagreements.len(), lines, "{:?}", special.disagreements);
        let pad = files.iter().any(|(name, _)| *name == "special_tokens_map.json").then_some(70);
        assert_eq!(special.pad, pad);
    }
    let (dir, tokenizer) = directory(&[named("B"), config(json!(68)), generation(json!([68, 70]))]);
    let line = &tokenizer.special().disagreements[0];
    let parts = [
        dir.path().to_str().unwrap(),
        "the end token is 69 in tokenizer_config.json, 68 in config.json, 68 and 70 in \
         generation_config.json: documents end with 69, text stops at 68 and 70",
    ];
    assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    let (_dir, tokenizer) = directory(&[("tokenizer_config.json", json!({"bos_token": "A"}))]);
    let line = &tokenizer.special().disagreements[0];
    let part = "the begin token is 1 in tokenizer.json, 68 in tokenizer_config.json: 1 is taken";
    assert!(line.contains(part), "{line}");
}

/// What came with a model goes with it again: lists, padding, sampling values, its chat template.
#[test]
fn imported_files_are_kept() {
    let generation = json!({"bos_token_id": 1, "eos_token_id": [2, 68], "pad_token_id": 70,
        "temperature": 0.6, "top_p": 0.9, "do_sample": true});
    let config = json!({"bos_token": "<s>", "eos_token": "</s>", "chat_template": "{{ messages }}",
        "model_max_length": 4096});
    let map = json!({"eos_token": {"content": "</s>", "lstrip": false}});
    let files = [
        ("generation_config.json", generation),
        ("tokenizer_config.json", config),
        ("special_tokens_map.json", map),
    ];
    let (dir, _) = directory(&files);
    std::fs::write(dir.path().join("chat_template.jinja"), "{% for m in messages %}").unwrap();
    let (mut from, mut to) = (dir, TempDir::new().unwrap());
    for _ in 0..2 {
        Tokenizer::load(&from.path().join("tokenizer.json")).unwrap().save(to.path()).unwrap();
        for (name, content) in &files {
            let kept: Value =
                serde_json::from_slice(&std::fs::read(to.path().join(name)).unwrap()).unwrap();
            assert_eq!(kept, *content, "{name}");
        }
        let template = std::fs::read_to_string(to.path().join("chat_template.jinja")).unwrap();
        assert_eq!(template, "{% for m in messages %}");
        (from, to) = (to, TempDir::new().unwrap());
    }
}

/// Tokenizers and shards from before there was a post-processor: ids and hash stay, and a prompt
/// follows the end token, which is all that a model of that time has seen before a text.
#[test]
fn tokenizers_made_earlier_keep_their_ids_and_ends() {
    let mut json: Value = serde_json::from_str(BYTES.json()).unwrap();
    json["post_processor"] = Value::Null;
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("tokenizer.json");
    let inner = tokenizers::Tokenizer::from_bytes(json.to_string()).unwrap();
    std::fs::write(&path, inner.to_string(true).unwrap()).unwrap();
    let earlier = Tokenizer::load(&path).unwrap();
    assert_eq!((earlier.hash(), BYTES.hash().as_str()), (BYTES.hash(), "d35d71c09b86c20e"));
    let special = earlier.special();
    assert_eq!((&special.prefix[..], special.around(Ends::Both)), (&[2][..], (&[][..], Some(2))));
    assert_eq!(earlier.prompt("A").unwrap(), [2, 68]);
    assert_eq!(earlier.encode("A</s>").unwrap(), BYTES.encode("A</s>").unwrap());
}

/// No content of a file ends the program: a panic of the library is an error in one line.
#[test]
fn damaged_tokenizers_are_errors() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("tokenizer.json");
    let whole = TRAINED.json();
    let cut = |i: usize| (0..=whole.len() * i / 200).rev().find(|&at| whole.is_char_boundary(at));
    for i in 0..200 {
        std::fs::write(&path, &whole[..cut(i).unwrap()]).unwrap();
        let error = Tokenizer::load(&path).err().unwrap();
        assert_says(&error, &["tokenizer.json: not a usable tokenizer"]);
    }
    let json: Value = serde_json::from_str(whole).unwrap();
    for (part, content) in [
        ("/model/vocab", json!({"a": 1})),
        ("/model/vocab/a", json!(4_000_000_000u32)),
        ("/model/merges", json!(["a"])),
        ("/model/merges", json!([["a", "no such"]])),
        ("/model/unk_token", json!("no such")),
        ("/model/byte_fallback", json!("yes")),
        ("/model/type", json!("Unigram")),
        ("/added_tokens/0/id", json!(7)),
        ("/added_tokens/0/content", json!("")),
        ("/post_processor/single", json!([{"SpecialToken": {"id": "no such", "type_id": 0}}])),
        ("/post_processor/special_tokens", json!({})),
        ("/normalizer", json!({"type": "Replace", "pattern": {"Regex": "("}, "content": ""})),
        (
            "/pre_tokenizer",
            json!({"type": "Split", "pattern": {"Regex": "(?<=a+"}, "behavior":
            "Isolated", "invert": false}),
        ),
        ("/decoder", json!({"type": "Strip", "content": " ", "start": 1_000_000, "stop": 7})),
    ] {
        let mut bad = json.clone();
        *bad.pointer_mut(part).unwrap() = content.clone();
        std::fs::write(&path, bad.to_string()).unwrap();
        // Some of it can be used; what cannot is an error and no panic.
        let used = Tokenizer::load(&path).and_then(|tokenizer| {
            let ids = tokenizer.prompt("Once upon a time 12 \u{4e2d}</s>")?;
            tokenizer.decode(&ids)
        });
        if let Err(error) = used {
            assert_says(&error, &["tokenizer"]);
        }
    }
}

#[test]
fn names_of_special_tokens_come_from_the_config_or_the_usual_ones() {
    let dir = TempDir::new().unwrap();
    let config = r#"{"bos_token": {"content": "a"}, "eos_token": "<unk>"}"#;
    std::fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
    let tokenizer = metaspace(dir.path());
    assert_eq!((tokenizer.special().bos, tokenizer.special().eos), (Some(260), Some(0)));
    let other = TempDir::new().unwrap();
    let json = TRAINED.json().replace("</s>", "<|endoftext|>").replace("\"<s>\"", "\"<x>\"");
    std::fs::write(other.path().join("tokenizer.json"), json).unwrap();
    let tokenizer = Tokenizer::load(&other.path().join("tokenizer.json")).unwrap();
    // What the post-processor puts first needs no usual name.
    assert_eq!((tokenizer.special().bos, tokenizer.special().eos), (Some(1), Some(2)));
}

#[test]
fn missing_tokenizer() {
    let error = Tokenizer::load(Path::new("nowhere/tokenizer.json")).err().unwrap();
    assert_says(&error, &["cannot read nowhere/tokenizer.json", "check the path"]);
}

#[test]
fn tokenizer_that_does_not_parse() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("tokenizer.json");
    for bad in ["", "{}", "not json", "{\"model\": {\"type\": \"BPE\"}}"] {
        std::fs::write(&path, bad).unwrap();
        let error = Tokenizer::load(&path).err().unwrap();
        assert_says(
            &error,
            &["tokenizer.json: not a usable tokenizer", "Hugging Face tokenizer.json"],
        );
    }
    std::fs::write(&path, b"{\xFF}").unwrap();
    assert_says(
        &Tokenizer::load(&path).err().unwrap(),
        &["tokenizer.json: invalid UTF-8 at byte 1"],
    );
    std::fs::write(&path, TRAINED.json()).unwrap();
    std::fs::write(dir.path().join("tokenizer_config.json"), "{").unwrap();
    let error = Tokenizer::load(&path).err().unwrap();
    assert_says(&error, &["tokenizer_config.json: not a JSON object", "remove the file"]);
}

#[test]
fn tokenizer_larger_than_the_model() {
    TRAINED.check_model(600).unwrap();
    let error = TRAINED.check_model(599).unwrap_err();
    assert_says(&error, &["tokenizer has 600 tokens", "vocab_size is 599", "at least 600"]);
}

#[test]
fn training_errors() {
    let small = Tokenizer::train_bpe([Ok("x".to_string())], 259, &mut |_, _| {}).err().unwrap();
    assert_says(&small, &["vocabulary of 259 is too small", "at least 260", "byte-level"]);
    let empty = Tokenizer::train_bpe([], 300, &mut |_, _| {}).err().unwrap();
    assert_says(&empty, &["text to train a tokenizer on", "not empty"]);
    let broken = [Ok("x".to_string()), Err(Error::Empty { origin: "a.txt".to_string() })];
    let error = Tokenizer::train_bpe(broken, 300, &mut |_, _| {}).err().unwrap();
    assert_says(&error, &["a.txt"]);
}

#[test]
fn unwritable_folder() {
    let error = BYTES.save(Path::new("nowhere")).unwrap_err();
    assert_says(&error, &["cannot write nowhere/tokenizer.json", "check that the folder exists"]);
}
