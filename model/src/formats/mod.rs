//! Models as files: one module a format, which reads a configuration and weights and writes them back.
//! A format sees [`Config`](crate::Config), the parameter table and [`Weights`](crate::weights::Weights), and no
//! tokenizer but as a plain vocabulary.
//!
//! ```
//! use engine::{Device, Dtype};
//! use model::weights::Weights;
//! use model::{Config, formats::hf, init, table};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path().join("model");
//! let (dev, config) = (Device::cpu(1)?, Config::stories_260k());
//! let (table, _) = table(&config);
//! let mut weights = Weights::<f32>::zeros(&dev, &table);
//! init::fill(&dev, &mut weights, &table, 1);
//!
//! hf::write(&dir, &config, &table, &weights, Dtype::F32, hf::SHARD_BYTES)?;
//! assert_eq!(hf::load(&dir)?.dims, config.dims);
//! # Ok(())
//! # }
//! ```

pub mod hf;
