//! Text from a model: a [`Decoder`] takes in tokens and gives logits, a [`Sampler`] chooses among them,
//! [`generate`] is the loop of both; [`score`] tells how likely given tokens are.
//!
//! ```
//! use engine::{Device, Error};
//! use model::generation::{Decoder, Request, Sampler, generate};
//! use model::llama::Llama;
//! use model::weights::Weights;
//! use model::{Config, init};
//!
//! # fn main() -> Result<(), Error> {
//! let (dev, config) = (Device::cpu(0)?, Config::stories_260k());
//! let model = Llama::<f32>::new(&dev, &config, 64);
//! let mut weights = Weights::zeros(&dev, model.table());
//! init::fill(&dev, &mut weights, model.table(), 1);
//!
//! let mut decoder = Decoder::new(&dev, &model, 1, 64);
//! let sampler = Sampler { temperature: 0.0, top_p: 1.0 };
//! let request = Request { prompt: &[1, 70, 71], count: 8, sampler, stop: &[] };
//! let mut text = Vec::new();
//! generate(&dev, &model, weights.view(), &mut decoder, &request, || 0.5, |id| {
//!     text.push(id);
//!     Ok::<_, Error>(())
//! })?;
//! assert_eq!(text.len(), 8);
//! # Ok(())
//! # }
//! ```

mod decode;
mod generate;
mod kv;
mod sample;
pub mod score;

pub use decode::{CHUNK, Decoder, ROWS};
pub use generate::{Request, generate};
pub use kv::KvCache;
pub(crate) use kv::Past;
pub use sample::Sampler;
