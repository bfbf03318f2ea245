//! Models by their names on the Hugging Face hub, `org/name`, kept where Hugging Face's own tools keep
//! them: what those have fetched is not fetched again, and the other way round.
//!
//! `HF_HOME` says where, `HF_ENDPOINT` from where, `HF_TOKEN` as whom, `HF_HUB_OFFLINE=1` that
//! nothing is to be asked of the network.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

const CONFIG: &str = "config.json";
const SINGLE: &str = "model.safetensors";

/// What else a model's directory may hold, beside its weights.
const FILES: [&str; 8] = [
    CONFIG,
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
];

/// Why there is no such model here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The hub or the disk.
    #[error(
        "{name}: cannot fetch it from {endpoint}: {source}; check the name and the network, \
             or give a directory"
    )]
    Hub {
        /// The model.
        name: String,
        /// What was asked.
        endpoint: String,
        /// What went wrong.
        source: Box<ApiError>,
    },
    /// Nothing is to be asked, and the model is not here.
    #[error("{name}: it is not among the fetched models, and HF_HUB_OFFLINE is set; unset it")]
    Offline {
        /// The model.
        name: String,
    },
    /// A repository of something else.
    #[error("{name}: it has no {file}, so it is no model that can be read; give another name")]
    NoModel {
        /// The model.
        name: String,
        /// What it lacks.
        file: &'static str,
    },
}

/// Whether `text` may be a model's name: an organisation, a slash, and what it calls the model.
pub fn is_name(text: &str) -> bool {
    let part = |part: &str| {
        let sign = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && part != "." && part != ".." && part.chars().all(sign)
    };
    text.split_once('/').is_some_and(|(organisation, name)| part(organisation) && part(name))
}

/// A hub, and where its models are kept.
#[derive(Clone, Debug)]
pub struct Hub {
    /// Its address.
    pub endpoint: String,
    /// The folder of all fetched models.
    pub cache: PathBuf,
    /// Who asks.
    pub token: Option<String>,
    /// Nothing is asked.
    pub offline: bool,
    /// Whether bars on stderr show how far it has come.
    pub progress: bool,
}

impl Hub {
    /// As the environment says.
    pub fn from_env() -> Hub {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let cache = Cache::from_env();
        Hub {
            endpoint: set("HF_ENDPOINT").unwrap_or("https://huggingface.co".to_string()),
            token: set("HF_TOKEN").or_else(|| cache.token()),
            cache: cache.path().clone(),
            offline: set("HF_HUB_OFFLINE").is_some_and(|value| value != "0"),
            progress: true,
        }
    }

    /// The directory of the model `name`, whose missing files are fetched. If the hub cannot be
    /// reached, what was fetched before is taken.
    ///
    /// # Errors
    /// A name that the hub does not know, or that is no model; a network or disk that fails.
    pub fn fetch(&self, name: &str) -> Result<PathBuf, Error> {
        let fetched = || self.fetched(name);
        if self.offline {
            return fetched().ok_or_else(|| Error::Offline { name: name.to_string() });
        }
        let fail = |source: ApiError| Error::Hub {
            name: name.to_string(),
            endpoint: self.endpoint.clone(),
            source: Box::new(source),
        };
        let api = ApiBuilder::from_cache(Cache::new(self.cache.clone()))
            .with_endpoint(self.endpoint.clone())
            .with_token(self.token.clone())
            .with_progress(self.progress)
            .build()
            .map_err(fail)?;
        let info = match api.model(name.to_string()).info() {
            Ok(info) => info,
            Err(error) => return fetched().ok_or_else(|| fail(error)),
        };
        // All files of one state of the repository, whatever becomes of it meanwhile.
        let commit = info.sha.clone();
        let repo = Repo::with_revision(name.to_string(), RepoType::Model, commit.clone());
        let names: Vec<String> = info.siblings.into_iter().map(|file| file.rfilename).collect();
        let dir = get(&api.repo(repo), name, &names, &fail)?;
        let main = Cache::new(self.cache.clone()).model(name.to_string());
        main.create_ref(&commit).map_err(|e| fail(ApiError::IoError(e)))?;
        Ok(dir)
    }

    /// The model's directory, if it was fetched.
    fn fetched(&self, name: &str) -> Option<PathBuf> {
        let config = Cache::new(self.cache.clone()).model(name.to_string()).get(CONFIG)?;
        config.parent().map(Path::to_path_buf)
    }
}

/// Fetches what a model needs of the files `names` and returns their folder.
fn get(
    repo: &ApiRepo,
    name: &str,
    names: &[String],
    fail: &impl Fn(ApiError) -> Error,
) -> Result<PathBuf, Error> {
    let single = names.iter().any(|file| file == SINGLE);
    let weights = |file: &str| match single {
        true => file == SINGLE,
        false => file.starts_with("model-") && file.ends_with(".safetensors"),
    };
    let lacks = |file| Err(Error::NoModel { name: name.to_string(), file });
    if !names.iter().any(|file| file == CONFIG) {
        return lacks(CONFIG);
    }
    if !names.iter().any(|file| weights(file)) {
        return lacks(SINGLE);
    }
    let mut dir = PathBuf::new();
    for file in names.iter().filter(|file| weights(file) || FILES.contains(&file.as_str())) {
        let path = repo.get(file).map_err(fail)?;
        dir = path.parent().expect("a file lies in a folder").to_path_buf();
    }
    Ok(dir)
}
