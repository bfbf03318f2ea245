//! Where a run's values come from. They are gathered in layers, later ones winning: defaults, then
//! (on `--resume`) the stored `run.toml`, then the `--config` file, then `--set key=value`, then
//! flags. A layer is a flat map from dotted key to TOML value; the command-line parser reads them
//! all, so that a value means the same wherever it stands.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use toml::{Table, Value};

use super::{Data, Model, Optim, Run, RunConfig, check_resume};
use crate::error::{Error, join_lines};

/// One configuration key.
struct Key {
    /// Dotted, as in the file and in `--set`.
    name: String,
    /// The field's name, by which the parser knows it.
    id: String,
    /// The flag that sets it.
    flag: String,
    /// Whether its value is a list.
    many: bool,
}

/// Every key, from the fields of the sections.
static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let sections = [
        ("data", Data::augment_args as fn(Command) -> Command),
        ("model", Model::augment_args),
        ("optim", Optim::augment_args),
        ("run", Run::augment_args),
    ];
    let keys = sections.map(|(section, augment)| {
        let command = augment(Command::new(section));
        let keys = command.get_arguments().map(|arg| Key {
            name: format!("{section}.{}", arg.get_id()),
            id: arg.get_id().to_string(),
            flag: format!("--{}", arg.get_long().expect("every key has a flag")),
            many: arg.get_num_args().is_some_and(|count| count.max_values() > 1),
        });
        keys.collect::<Vec<_>>()
    });
    keys.into_iter().flatten().collect()
});

/// The flags of a run, as a command takes them.
#[derive(Clone, Debug, Args)]
pub struct Sources {
    #[command(flatten)]
    flags: Flags,
    /// Read values from a TOML file, such as another run's run.toml
    #[arg(long, value_name = "FILE", help_heading = "Configuration")]
    config: Option<PathBuf>,
    /// Set one value by its name in run.toml; repeatable
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Configuration")]
    set: Vec<String>,
}

/// A resolved command line.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The run to do.
    pub config: RunConfig,
    /// Allowed but worth telling the user, one line each.
    pub warnings: Vec<String>,
}

impl Sources {
    /// All layers of values as one checked configuration. With `resume`, the stored `run.toml`
    /// of the output folder is the lowest layer, and the result must agree with it where another
    /// value would give other numbers. Reads files, writes none.
    ///
    /// # Errors
    /// [`Error::Config`] for a bad key or value, [`Error::Io`] for an unreadable file.
    pub fn resolve(&self, resume: bool) -> Result<Resolved, Error> {
        let mut given = Layer::default();
        if let Some(path) = &self.config {
            given.put(Layer::from_file(path)?);
        }
        let sets = Layer::from_sets(&self.set)?;
        let steps_set = sets.has("run.steps");
        given.put(sets);
        given.put(self.flags.0.clone());
        if !resume {
            return Ok(Resolved { config: given.finish()?, warnings: Vec::new() });
        }
        let out = given.parse()?.run.out;
        let path = out.join("run.toml");
        if !path.exists() {
            return Err(Error::Config(format!(
                "--resume: {} does not exist, so there is nothing to resume: leave --resume out, \
                 or give the --out of the run to continue",
                path.display()
            )));
        }
        let mut layers = Layer::from_run(&path)?;
        let stored = layers.clone().finish()?;
        layers.put(given);
        let mut config = layers.finish()?;
        // A run that was moved lives where it is found, not where it began.
        config.run.out = out;
        let warnings = check_resume(&stored, &config, steps_set)?;
        Ok(Resolved { config, warnings })
    }
}

/// The keys that a command line has named, and their values.
#[derive(Clone, Debug)]
struct Flags(Layer);

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        // A bad number is told as such, not as an unknown flag.
        RunConfig::augment_args(command).mut_args(|arg| arg.allow_negative_numbers(true))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut values = flatten(&RunConfig::from_arg_matches(matches)?.to_table());
        let named = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        values.retain(|name, _| KEYS.iter().any(|key| key.name == *name && named(&key.id)));
        Ok(Flags(Layer(values)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// One source of values, or several: dotted key to TOML value, each checked.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer(BTreeMap<String, Value>);

impl Layer {
    /// The values of a TOML file.
    pub(super) fn from_file(path: &Path) -> Result<Layer, Error> {
        let text =
            fs::read_to_string(path).map_err(Error::io("cannot read the configuration", path))?;
        let table: Table = text.parse().map_err(|e: toml::de::Error| {
            Error::Config(format!("{} is not TOML: {}", path.display(), toml_problem(&text, &e)))
        })?;
        let layer = Layer(flatten(&table));
        layer.check(&path.display().to_string())?;
        Ok(layer)
    }

    /// The values of a stored `run.toml`. Where it is older than a key, what was done then.
    pub(super) fn from_run(path: &Path) -> Result<Layer, Error> {
        let mut layer = Layer::from_file(path)?;
        let ends = layer.0.entry("data.document_ends".to_string());
        ends.or_insert_with(|| Value::String("after".to_string()));
        Ok(layer)
    }

    /// The values of `key=value` texts. A value is TOML; what is not TOML is taken as text, so
    /// that `--set model.name=15M` needs no quotes.
    pub(super) fn from_sets(sets: &[String]) -> Result<Layer, Error> {
        let mut layer = Layer::default();
        for set in sets {
            let (key, text) = set.split_once('=').ok_or_else(|| {
                Error::Config(format!("--set {set}: expected key=value, as in optim.lr=3e-4"))
            })?;
            let parsed: Result<Table, _> = format!("value = {text}").parse();
            let value = parsed.ok().and_then(|mut table| table.remove("value"));
            let value = value.unwrap_or_else(|| Value::String(text.to_string()));
            layer.0.insert(key.trim().to_string(), value);
        }
        layer.check("--set")?;
        Ok(layer)
    }

    /// Whether this layer sets `key`.
    fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Puts `above` over this layer. `steps` and `tokens` are two names of one thing, so either
    /// of them above replaces both below.
    pub(super) fn put(&mut self, above: Layer) {
        if above.has("run.steps") || above.has("run.tokens") {
            self.0.retain(|key, _| key != "run.steps" && key != "run.tokens");
        }
        self.0.extend(above.0);
    }

    /// The configuration: defaults where this layer is silent.
    pub(super) fn finish(self) -> Result<RunConfig, Error> {
        self.parse()?.settle()
    }

    /// Refuses unknown keys and bad values, naming where they stand.
    fn check(&self, source: &str) -> Result<(), Error> {
        self.check_keys(source)?;
        if self.has("run.steps") && self.has("run.tokens") {
            let text = format!("{source}: run.steps and run.tokens are both given: choose one");
            return Err(Error::Config(text));
        }
        self.parse().map(|_| ()).map_err(|e| Error::Config(format!("{source}: {e}")))
    }

    /// Reads all values as flags.
    fn parse(&self) -> Result<RunConfig, Error> {
        let mut words = Vec::new();
        for (name, value) in &self.0 {
            let key = KEYS.iter().find(|key| key.name == *name).expect("keys have been checked");
            let list = value.as_array().filter(|_| key.many);
            for value in list.map_or(std::slice::from_ref(value), Vec::as_slice) {
                words.push(format!("{}={}", key.flag, plain(name, value)?));
            }
        }
        let command = Command::new("run").no_binary_name(true).disable_help_flag(true);
        let matches = RunConfig::augment_args(command).try_get_matches_from(words);
        matches.and_then(|m| RunConfig::from_arg_matches(&m)).map_err(|e| bad_value(&e))
    }

    /// Refuses keys that do not exist, naming the nearest that does.
    fn check_keys(&self, source: &str) -> Result<(), Error> {
        for key in self.0.keys() {
            if KEYS.iter().any(|known| known.name == *key) {
                continue;
            }
            let distance = |known: &&Key| strsim::damerau_levenshtein(key, &known.name);
            let bare = KEYS.iter().find(|known| known.name.ends_with(&format!(".{key}")));
            let near = KEYS.iter().min_by_key(distance).filter(|known| distance(known) <= 3);
            let hint = match bare.or(near) {
                Some(known) => format!("did you mean `{}`?", known.name),
                None => "the keys are those of a run.toml, as every run writes it".to_string(),
            };
            return Err(Error::Config(format!("{source}: unknown key `{key}`, {hint}")));
        }
        Ok(())
    }
}

/// A TOML value as a flag would be given it.
fn plain(key: &str, value: &Value) -> Result<String, Error> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => Ok(value.to_string()),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
            let value = join_lines(&value.to_string());
            Err(Error::Config(format!("{key} is {value}: expected a number or a text")))
        }
    }
}

/// What the parser says of a value, with the key's name beside its flag.
fn bad_value(error: &clap::Error) -> Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    let arg = text(ContextKind::InvalidArg).unwrap_or_default();
    let flag = arg.split_whitespace().next().unwrap_or_default();
    let Some((key, value)) =
        KEYS.iter().find(|key| key.flag == flag).zip(text(ContextKind::InvalidValue))
    else {
        return Error::Config(join_lines(&error.to_string()));
    };
    let allowed = match text(ContextKind::ValidValue) {
        Some(names) => format!("must be one of {names}"),
        None => std::error::Error::source(error).map(ToString::to_string).unwrap_or_default(),
    };
    Error::Config(format!("{flag} ({}) is {value}: {allowed}", key.name))
}

/// The parser's message and the line it points to.
fn toml_problem(text: &str, error: &toml::de::Error) -> String {
    let message = join_lines(error.message());
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message,
    }
}

/// Two levels of tables to dotted keys; deeper tables stay values and are refused as such.
pub(super) fn flatten(table: &Table) -> BTreeMap<String, Value> {
    let mut flat = BTreeMap::new();
    for (section, value) in table {
        match value {
            Value::Table(inner) => {
                flat.extend(inner.iter().map(|(k, v)| (format!("{section}.{k}"), v.clone())));
            }
            other => {
                flat.insert(section.clone(), other.clone());
            }
        }
    }
    flat
}
