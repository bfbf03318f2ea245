//! `tokenizer.model`, written here field by field.

use std::path::Path;

use data::stories::Stories;
use data::tokenizer::{Ends, Special, Tokenizer};
use tempfile::TempDir;

use crate::tokenizer::{sentencepiece, vocabulary};
use crate::{assert_says, names};

const NORMAL: u64 = 1;
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;
const BYTE: u64 = 6;

fn varint(mut n: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while n >= 0x80 {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
    bytes
}

fn number(field: u64, n: u64) -> Vec<u8> {
    [varint(field << 3), varint(n)].concat()
}

fn bytes(field: u64, content: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn piece(text: &str, score: f32, kind: u64) -> Vec<u8> {
    let score = [&[2 << 3 | 5][..], &score.to_le_bytes()].concat();
    bytes(1, &[bytes(1, text.as_bytes()), score, number(3, kind)].concat())
}

/// BPE with byte fallback, in the manner of LLaMA's: no characters changed, no spaces removed.
struct Model {
    pieces: Vec<Vec<u8>>,
    trainer: Vec<u8>,
    normalizer: Vec<u8>,
}

impl Model {
    /// The vocabulary of a tokenizer that was trained here.
    fn of(tokenizer: &Tokenizer) -> Model {
        let special = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)];
        let mut pieces: Vec<_> = special.map(|(text, kind)| piece(text, 0.0, kind)).to_vec();
        pieces.extend((0..=255u8).map(|byte| piece(&format!("<0x{byte:02X}>"), 0.0, BYTE)));
        let normal = vocabulary(tokenizer).into_iter().skip(259).enumerate();
        pieces.extend(normal.map(|(i, text)| piece(&text, -(i as f32), NORMAL)));
        // Minus one is no padding token.
        let trainer = [number(3, 2), number(35, 1), number(43, u64::MAX)].concat();
        let normalizer = [bytes(1, b"identity"), number(4, 0)].concat();
        Model { pieces, trainer, normalizer }
    }

    fn write(&self, folder: &Path) -> Result<Tokenizer, data::Error> {
        let specs = [bytes(2, &self.trainer), bytes(3, &self.normalizer)];
        let path = folder.join("tokenizer.model");
        std::fs::write(&path, [self.pieces.concat(), specs.concat()].concat()).unwrap();
        assert_eq!(Tokenizer::path(folder), path);
        Tokenizer::load(&path)
    }
}

fn trained() -> Tokenizer {
    let stories = Stories::new(3).documents(300);
    Tokenizer::train_bpe(stories, 500, &mut |_, _| {}).unwrap()
}

const TEXTS: [&str; 8] = [
    "",
    "Once upon a time, 12 apples",
    "  two   spaces \n\n\tand a tab ",
    "\u{4e2d}\u{6587}e\u{301}\u{1F600}",
    "<s></s><unk><0x41>",
    "a<sep>b <sep><sep> <s",
    "<sep>",
    "\u{2581}x",
];

#[test]
fn a_model_gives_the_ids_of_sentencepiece() {
    let (dir, trained) = (TempDir::new().unwrap(), trained());
    let tokenizer = Model::of(&trained).write(dir.path()).unwrap();
    let vocab = vocabulary(&trained);
    for text in TEXTS {
        assert_eq!(tokenizer.encode(text).unwrap(), sentencepiece(&vocab, text), "{text:?}");
    }
    // Too long for the rule; the trained tokenizer has been held against it.
    let long = Stories::new(5).take(300).collect::<Vec<_>>().join("  \n");
    assert!(long.len() > 1 << 17);
    assert_eq!(tokenizer.encode(&long).unwrap(), trained.encode(&long).unwrap());
    let special = tokenizer.special();
    assert_eq!((special.bos, special.eos, special.pad), (Some(1), Some(2), None));
    assert_eq!((&special.prefix[..], special.around(Ends::Both)), (&[1][..], (&[1][..], Some(2))));
    assert_eq!(tokenizer.prompt("a</s>").unwrap().last(), Some(&2));
}

#[test]
fn symbols_of_the_user_are_one_token_anywhere() {
    let (dir, trained) = (TempDir::new().unwrap(), trained());
    let mut model = Model::of(&trained);
    let symbol = model.pieces.len() as u32;
    model.pieces.push(piece("<sep>", 0.0, USER_DEFINED));
    let tokenizer = model.write(dir.path()).unwrap();
    let vocab = vocabulary(&trained);
    let part = |text: &str| sentencepiece(&vocab, text);
    let space = vocab.iter().position(|text| text == "\u{2581}").unwrap() as u32;
    assert_eq!(tokenizer.encode("<sep>").unwrap(), [space, symbol]);
    let ids = tokenizer.encode("Once<sep> upon<sep>").unwrap();
    assert_eq!(ids, [part("Once"), vec![symbol], part("upon"), vec![symbol]].concat());
    assert_eq!(tokenizer.decode(&ids).unwrap(), "Once<sep> upon<sep>");
}

#[test]
fn without_a_dummy_prefix_text_begins_as_it_is() {
    let (dir, trained) = (TempDir::new().unwrap(), trained());
    let mut model = Model::of(&trained);
    model.normalizer.extend(number(3, 0));
    let tokenizer = model.write(dir.path()).unwrap();
    let vocab = vocabulary(&trained);
    assert_eq!(tokenizer.encode(" upon a").unwrap(), sentencepiece(&vocab, "upon a"));
    for text in TEXTS {
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(tokenizer.decode(&ids).unwrap(), text.replace('\u{2581}', " "));
    }
}

/// What was read is what is written, and what a resumed run finds.
#[test]
fn a_model_is_kept_as_it_came() {
    let (dir, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let tokenizer = Model::of(&trained()).write(dir.path()).unwrap();
    tokenizer.save(to.path()).unwrap();
    let files = ["generation_config.json", "tokenizer.model", "tokenizer_config.json"];
    assert_eq!(names(to.path()), files);
    let file = |dir: &TempDir| std::fs::read(dir.path().join("tokenizer.model")).unwrap();
    assert_eq!(file(&dir), file(&to));
    let again = Tokenizer::load(&Tokenizer::path(to.path())).unwrap();
    assert_eq!(again.hash(), tokenizer.hash());
    let generation = again.special().generation.clone();
    assert_eq!(*again.special(), Special { generation, ..tokenizer.special().clone() });
    let config = r#"{"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": false}"#;
    std::fs::write(to.path().join("tokenizer_config.json"), config).unwrap();
    let silent = Tokenizer::load(&Tokenizer::path(to.path())).unwrap();
    assert!(silent.special().prefix.is_empty());
}

#[test]
fn models_that_need_more_are_refused_by_name() {
    let dir = TempDir::new().unwrap();
    let refused = |spoil: &dyn Fn(&mut Model), parts: &[&str]| {
        let mut model = Model::of(&trained());
        spoil(&mut model);
        let error = model.write(dir.path()).err().unwrap();
        assert_says(&error, &[&["tokenizer.model: not a usable tokenizer"], parts].concat());
    };
    refused(&|m| m.trainer.extend(number(3, 1)), &["unigram", "tokenizer.json"]);
    refused(&|m| m.normalizer.extend(bytes(2, b"map")), &["normalises characters"]);
    refused(&|m| m.normalizer.extend(number(4, 1)), &["removes spaces"]);
    refused(&|m| m.normalizer.extend(number(5, 0)), &["leaves spaces"]);
    refused(&|m| m.trainer.extend(number(24, 1)), &["spaces after words"]);
    refused(&|m| m.pieces.push(piece("x", 0.0, 5)), &["unused"]);
    for text in ["x", "<0x+F>", "<0xF>"] {
        let told = format!("{text:?} stands for no byte");
        refused(&|m| m.pieces.push(piece(text, 0.0, BYTE)), &[&told]);
    }
    refused(&|m| m.pieces.clear(), &["no pieces"]);
    refused(&|m| m.pieces.push(vec![10, 200]), &["no SentencePiece model"]);
    let path = dir.path().join("tokenizer.model");
    std::fs::write(&path, "version https://git-lfs.github.com/spec/v1\noid sha256:4d\n").unwrap();
    assert_says(&Tokenizer::load(&path).err().unwrap(), &["git-LFS pointer", "git lfs pull"]);
}
