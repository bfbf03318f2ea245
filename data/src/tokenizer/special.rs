//! Which tokens begin and end a text. A model's directory says so in up to five places: the
//! post-processor of `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json`,
//! `config.json` and `generation_config.json`. All of them are read here and nowhere else; where they
//! disagree, one is taken and the line that says so is kept.

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};
use tokenizers::{Encoding, Token};

use super::{guard::guard, own, read_utf8, unusable};
use crate::Error;

/// Names that tokenizers give to the ends of a document, for those that nothing names.
const BOS_NAMES: [&str; 4] = ["<s>", "<|begin_of_text|>", "<bos>", "[BOS]"];
const EOS_NAMES: [&str; 5] = ["</s>", "<|end_of_text|>", "<|endoftext|>", "<eos>", "[EOS]"];

const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const TOKENS_MAP: &str = "special_tokens_map.json";
const CONFIG: &str = "config.json";
const GENERATION: &str = "generation_config.json";
const TEMPLATE: &str = "chat_template.jinja";

/// What stands around a document in a stream of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ends {
    /// What a text begins with, and the end token.
    Both,
    /// The end token alone: what all runs had before there was a choice.
    After,
}

/// The special tokens of a model, and what its directory says of writing text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Special {
    /// Begins a text.
    pub bos: Option<u32>,
    /// Ends a document.
    pub eos: Option<u32>,
    /// Each ends a text that a model writes.
    pub stop: Vec<u32>,
    /// Fills batches.
    pub pad: Option<u32>,
    /// What a prompt begins with, as in transformers.
    pub prefix: Vec<u32>,
    /// What a document begins with where it has [`Ends::Both`].
    pub before: Vec<u32>,
    /// Sampling values and whatever else `generation_config.json` says, as it came.
    pub generation: Map<String, Value>,
    /// Where files disagree, a line each: what they say and what was taken.
    pub disagreements: Vec<String>,
}

impl Special {
    /// Those of a model without a tokenizer.
    pub fn of_ids(bos: Option<u32>, stop: &[u32], pad: Option<u32>) -> Special {
        let (eos, stop) = (stop.first().copied(), stop.to_vec());
        Special { bos, eos, stop, pad, ..Special::default() }
    }

    /// What stands before and after a document.
    pub fn around(&self, ends: Ends) -> (&[u32], Option<u32>) {
        match ends {
            Ends::Both => (&self.before, self.eos),
            Ends::After => (&[], self.eos),
        }
    }

    /// Writes `generation_config.json` into `folder`: what was imported, and the ids that it lacks.
    ///
    /// # Errors
    /// A folder that is missing or cannot be written.
    pub fn save_generation(&self, folder: &Path) -> Result<(), Error> {
        let mut file = self.generation.clone();
        let stop = match self.stop[..] {
            [] => Value::Null,
            [one] => one.into(),
            _ => self.stop.clone().into(),
        };
        let ids = [("bos_token_id", self.bos.into()), ("eos_token_id", stop)];
        let pad = self.pad.map(|pad| ("pad_token_id", pad.into()));
        for (key, value) in ids.into_iter().chain(pad) {
            file.entry(key).or_insert(value);
        }
        let path = folder.join(GENERATION);
        let text = format!("{:#}\n", Value::Object(file));
        store::write(&path, text.as_bytes()).map_err(Error::write(&path))
    }
}

/// The files beside a `tokenizer.json`, as far as they are there.
#[derive(Clone, Debug, Default)]
pub(super) struct Beside {
    folder: String,
    pub tokenizer_config: Option<Map<String, Value>>,
    tokens_map: Option<Map<String, Value>>,
    config: Option<Map<String, Value>>,
    generation: Option<Map<String, Value>>,
    template: Option<String>,
}

impl Beside {
    /// Reads them.
    ///
    /// # Errors
    /// A file that cannot be read or is no JSON object.
    pub(super) fn read(tokenizer: &Path) -> Result<Beside, Error> {
        let json = |name: &str| -> Result<Option<Map<String, Value>>, Error> {
            let path = tokenizer.with_file_name(name);
            let text = path.exists().then(|| read_utf8(&path)).transpose()?;
            let parsed = text.map(|text| serde_json::from_str(&text)).transpose();
            parsed.map_err(|e| Error::Beside { path, reason: e.to_string() })
        };
        let template = tokenizer.with_file_name(TEMPLATE);
        Ok(Beside {
            folder: tokenizer.parent().map_or(String::new(), |dir| dir.display().to_string()),
            tokenizer_config: json(TOKENIZER_CONFIG)?,
            tokens_map: json(TOKENS_MAP)?,
            config: json(CONFIG)?,
            generation: json(GENERATION)?,
            template: template.exists().then(|| read_utf8(&template)).transpose()?,
        })
    }

    /// Each file that goes with a tokenizer, and its text.
    pub(super) fn texts(&self) -> Vec<(&'static str, String)> {
        let json = |map: &Map<String, Value>| format!("{:#}\n", Value::Object(map.clone()));
        let files = [(TOKENIZER_CONFIG, &self.tokenizer_config), (TOKENS_MAP, &self.tokens_map)];
        let files = files.into_iter().filter_map(|(name, map)| Some((name, json(map.as_ref()?))));
        files.chain(self.template.clone().map(|text| (TEMPLATE, text))).collect()
    }

    /// What all of them say together with the post-processor of `tokenizer.json`.
    pub(super) fn special(
        &self,
        inner: &tokenizers::Tokenizer,
        json: &Value,
    ) -> Result<Special, Error> {
        let (template, mut notes) = (prefix(inner, &self.folder)?, Vec::new());
        let mut begins = self.says("bos_token", "begin token", inner, &mut notes);
        if let [first] = template[..] {
            begins.insert(0, ("tokenizer.json", vec![first]));
        }
        let ends = self.says("eos_token", "end token", inner, &mut notes);
        let pads = self.says("pad_token", "padding token", inner, &mut notes);
        let bos = taken(&begins).or_else(|| usual(inner, &BOS_NAMES));
        let eos = taken(&ends).or_else(|| usual(inner, &EOS_NAMES));
        let of_file =
            |file| ends.iter().find(|(name, _)| *name == file).map(|(_, ids)| ids.clone());
        // The order of transformers: what stops a text is not the tokenizer's to say.
        let stop = of_file(GENERATION).or(of_file(CONFIG)).unwrap_or(eos.into_iter().collect());
        let documents = list(eos.as_slice());
        let both = format!("documents end with {documents}, text stops at {}", list(&stop));
        for (what, says, taken) in [
            ("begin token", &begins, format!("{} is taken", list(bos.as_slice()))),
            ("end token", &ends, both),
            ("padding token", &pads, format!("{} is taken", list(taken(&pads).as_slice()))),
        ] {
            if let Some(says) = disagreement(says) {
                notes.push(format!("{}: the {what} is {says}: {taken}", self.folder));
            }
        }
        let (prefix, before) = match own::is_earlier(json) {
            true => (eos.into_iter().collect(), Vec::new()),
            false => (template.clone(), template),
        };
        let (pad, generation) = (taken(&pads), self.generation.clone().unwrap_or_default());
        Ok(Special { bos, eos, stop, pad, prefix, before, generation, disagreements: notes })
    }

    /// What each file says of one token, the strongest first. A name that the tokenizer does not
    /// know is noted and left out.
    fn says(
        &self,
        key: &str,
        what: &str,
        inner: &tokenizers::Tokenizer,
        notes: &mut Vec<String>,
    ) -> Says {
        let mut says = Vec::new();
        let names = [(TOKENIZER_CONFIG, &self.tokenizer_config), (TOKENS_MAP, &self.tokens_map)];
        for (file, map) in names {
            let Some(value) = map.as_ref().and_then(|map| map.get(key)) else { continue };
            // Either the text itself or an object around it.
            let Some(name) = value.as_str().or(value["content"].as_str()) else { continue };
            match inner.token_to_id(name) {
                Some(id) => says.push((file, vec![id])),
                None => notes.push(format!(
                    "{}: {file} calls the {what} {name:?}, which the tokenizer does not know: \
                     passed over",
                    self.folder
                )),
            }
        }
        for (file, map) in [(CONFIG, &self.config), (GENERATION, &self.generation)] {
            let value = map.as_ref().and_then(|map| map.get(&format!("{key}_id")));
            let ids = ids(value);
            if !ids.is_empty() {
                says.push((file, ids));
            }
        }
        says
    }
}

/// Files, and the ids that each gives one token.
type Says = Vec<(&'static str, Vec<u32>)>;

/// What the strongest file says, of several ids the first.
fn taken(says: &Says) -> Option<u32> {
    says.first().and_then(|(_, ids)| ids.first()).copied()
}

/// What each says, if not all know the one that is taken.
fn disagreement(says: &Says) -> Option<String> {
    let id = taken(says)?;
    let agree = says.iter().all(|(_, ids)| ids.contains(&id));
    let each = says.iter().map(|(file, ids)| format!("{} in {file}", list(ids)));
    (!agree).then(|| each.collect::<Vec<_>>().join(", "))
}

/// The first of the usual names that a tokenizer knows.
fn usual(inner: &tokenizers::Tokenizer, names: &[&str]) -> Option<u32> {
    names.iter().find_map(|name| inner.token_to_id(name))
}

/// A number or a list of them; what is no token id counts as none.
fn ids(value: Option<&Value>) -> Vec<u32> {
    let one = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Some(Value::Array(ids)) => ids.iter().filter_map(one).collect(),
        Some(value) => one(value).into_iter().collect(),
        None => Vec::new(),
    }
}

fn list(ids: &[u32]) -> String {
    match ids {
        [] => "none".to_string(),
        _ => ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" and "),
    }
}

/// What the post-processor puts before a text: all that comes before a token which is none.
fn prefix(inner: &tokenizers::Tokenizer, folder: &str) -> Result<Vec<u32>, Error> {
    let text = Encoding::from_tokens(vec![Token::new(u32::MAX, String::new(), (0, 0))], 0);
    let with = guard(|| inner.post_process(text, None, true)).map_err(|e| unusable(folder, &e))?;
    let with = with.map_err(|e| unusable(folder, &e))?;
    Ok(with.get_ids().iter().copied().take_while(|&id| id != u32::MAX).collect())
}
