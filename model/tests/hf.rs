//! Hugging Face directories: round trips, foreign files, and every refusal.

use engine::{Device, Dims, Dtype, Error, Table, bf16};
use half::f16;
use model::hf;
use model::rope::Scaling;
use model::weights::Weights;
use model::{Bias, Config, Family, init, table};
use safetensors::tensor::TensorView;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const EMBED: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";
const NORM: &str = "model.norm.weight";

fn config(tied: bool) -> Config {
    Config {
        family: Family::Llama,
        dims: Dims { L: 2, C: 24, H: 4, G: 2, D: 10, F: 13, V: 37 },
        rope_theta: 500_000.0,
        rope: Scaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 16 },
        norm_eps: 1e-6,
        tied,
        bias: Bias::None,
        max_seq_len: 64,
        window: None,
        bos: Some(1),
        eos: vec![2, 5],
        pad: Some(3),
        lora: None,
    }
}

fn zeros(table: &Table) -> Weights<f32> {
    Weights::zeros(&Device::cpu(1).unwrap(), table)
}

/// Random weights over the table of `config`.
fn weights(config: &Config) -> (Table, Weights<f32>) {
    let (table, _) = table(config);
    let mut weights = zeros(&table);
    init::fill(&Device::cpu(1).unwrap(), &mut weights, &table, 5);
    (table, weights)
}

/// Loads the directory: its configuration and weights.
fn load(dir: &Path) -> Result<(Config, Weights<f32>), Error> {
    let config = hf::load(dir)?;
    let (weights, _) = load_weights(dir, &config)?;
    Ok((config, weights))
}

/// The weights, and the names that were passed over.
fn load_weights(dir: &Path, config: &Config) -> Result<(Weights<f32>, Vec<String>), Error> {
    let (table, _) = table(config);
    let mut weights = zeros(&table);
    let passed_over = hf::read_weights(dir, &table, &mut weights)?;
    Ok((weights, passed_over))
}

/// The line that refuses the directory.
fn refusal(dir: &Path) -> String {
    let line = load(dir).err().expect("must be refused").to_string();
    assert!(!line.contains('\n'), "{line}");
    line.replace(&dir.display().to_string(), "DIR")
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap()))
        .collect();
    files.sort();
    files
}

fn export(config: &Config, dtype: Dtype, shard_bytes: u64) -> (TempDir, Table, Weights<f32>) {
    let dir = tempfile::tempdir().unwrap();
    let (table, weights) = weights(config);
    hf::write(dir.path(), config, &table, &weights, dtype, shard_bytes).unwrap();
    (dir, table, weights)
}

/// One tensor of a hand-made file.
#[derive(Clone)]
struct Tensor {
    dtype: safetensors::Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

type Tensors = HashMap<String, Tensor>;

fn tensors(table: &Table, weights: &Weights<f32>) -> Tensors {
    let rows = table.rows().iter();
    rows.map(|row| {
        let values = weights.master().get(row.slot).host();
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let dtype = safetensors::Dtype::F32;
        (row.name.clone(), Tensor { dtype, shape: row.shape.clone(), bytes })
    })
    .collect()
}

/// `tensors` as the safetensors crate itself writes them.
fn serialize(tensors: &Tensors) -> Vec<u8> {
    let views = tensors.iter().map(|(name, tensor)| {
        (name, TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes).unwrap())
    });
    let format = HashMap::from([("format".to_string(), "pt".to_string())]);
    safetensors::serialize(views, Some(format)).unwrap()
}

/// The refusal of an export whose tensors were changed by `change`.
fn refusal_after(tied: bool, change: impl FnOnce(&mut Tensors)) -> String {
    let (dir, table, weights) = export(&config(tied), Dtype::F32, u64::MAX);
    let mut tensors = tensors(&table, &weights);
    change(&mut tensors);
    fs::write(dir.path().join("model.safetensors"), serialize(&tensors)).unwrap();
    refusal(dir.path())
}

#[test]
fn a_reimported_export_is_equal_and_exports_to_the_same_bytes() {
    for tied in [false, true] {
        for (shard_bytes, shards) in [(u64::MAX, 1), (6000, 8 - usize::from(tied))] {
            let config = config(tied);
            let (dir, _, weights) = export(&config, Dtype::F32, shard_bytes);
            let (config_back, weights_back) = load(dir.path()).unwrap();
            assert_eq!(config_back, config);
            assert_eq!(weights_back.view().host(), weights.view().host());

            let again = tempfile::tempdir().unwrap();
            let (table, _) = table(&config);
            hf::write(again.path(), &config, &table, &weights_back, Dtype::F32, shard_bytes)
                .unwrap();
            let (first, second) = (files(dir.path()), files(again.path()));
            assert!(first == second, "tied {tied}, {shard_bytes} bytes a shard");
            let count = first.iter().filter(|file| file.0.ends_with(".safetensors")).count();
            assert_eq!(count, shards, "tied {tied}");
        }
    }
}

#[test]
fn bf16_rounds_once_and_then_stays() {
    for shard_bytes in [u64::MAX, 3000] {
        let (dir, table, weights) = export(&config(false), Dtype::Bf16, shard_bytes);
        let (config, back) = load(dir.path()).unwrap();
        for row in table.rows() {
            let (got, x) =
                (back.master().get(row.slot).host(), weights.master().get(row.slot).host());
            let want: Vec<f32> = x.iter().map(|&x| bf16::from_f32(x).to_f32()).collect();
            assert_eq!(got, want, "{}", row.name);
        }
        let again = tempfile::tempdir().unwrap();
        hf::write(again.path(), &config, &table, &back, Dtype::Bf16, shard_bytes).unwrap();
        assert!(files(dir.path()) == files(again.path()), "{shard_bytes} bytes a shard");
    }
}

#[test]
fn the_file_is_what_the_safetensors_crate_writes() {
    for tied in [false, true] {
        let (dir, table, weights) = export(&config(tied), Dtype::F32, u64::MAX);
        let ours = fs::read(dir.path().join("model.safetensors")).unwrap();
        assert!(ours == serialize(&tensors(&table, &weights)), "tied {tied}");
        let names: Vec<String> = files(dir.path()).into_iter().map(|file| file.0).collect();
        assert_eq!(names, ["config.json", "model.safetensors"]);
    }
}

#[test]
fn every_stored_type_is_read() {
    use safetensors::Dtype::{BF16, F16, F64};
    for dtype in [BF16, F16, F64] {
        let (dir, table, weights) = export(&config(false), Dtype::F32, u64::MAX);
        let mut stored = tensors(&table, &weights);
        let mut want: HashMap<String, Vec<f32>> = HashMap::new();
        for row in table.rows() {
            let x = weights.master().get(row.slot).host().iter();
            let (bytes, values): (Vec<Vec<u8>>, Vec<f32>) = match dtype {
                BF16 => x
                    .map(|&x| {
                        (bf16::from_f32(x).to_le_bytes().to_vec(), bf16::from_f32(x).to_f32())
                    })
                    .unzip(),
                F16 => x
                    .map(|&x| (f16::from_f32(x).to_le_bytes().to_vec(), f16::from_f32(x).to_f32()))
                    .unzip(),
                _ => x.map(|&x| (f64::from(x).to_le_bytes().to_vec(), x)).unzip(),
            };
            let tensor = stored.get_mut(&row.name).unwrap();
            (tensor.dtype, tensor.bytes) = (dtype, bytes.concat());
            want.insert(row.name.clone(), values);
        }
        fs::write(dir.path().join("model.safetensors"), serialize(&stored)).unwrap();
        let (_, back) = load(dir.path()).unwrap();
        for row in table.rows() {
            assert_eq!(back.master().get(row.slot).host(), want[&row.name], "{dtype} {}", row.name);
        }
    }
}

/// A tensor of several chunks, the last one short.
#[test]
fn large_tensors_survive_the_chunks() {
    let big = config(false).with_vocab(25_001);
    let (dir, _, weights) = export(&big, Dtype::F32, u64::MAX);
    let (_, back) = load(dir.path()).unwrap();
    assert!(weights.view().host() == back.view().host());
}

#[test]
fn an_export_replaces_the_weights_of_an_earlier_one() {
    let (dir, table, weights) = export(&config(false), Dtype::F32, 6000);
    fs::write(dir.path().join(".tmp-a1b2c3"), "torn").unwrap();
    fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
    fs::write(dir.path().join("model-mine.safetensors"), "kept").unwrap();
    hf::write(dir.path(), &config(false), &table, &weights, Dtype::F32, u64::MAX).unwrap();
    let names = || -> Vec<String> { files(dir.path()).into_iter().map(|file| file.0).collect() };
    let kept = ["config.json", "model-mine.safetensors"];
    assert_eq!(names(), [&kept[..], &["model.safetensors", "tokenizer.json"]].concat());
    hf::write(dir.path(), &config(false), &table, &weights, Dtype::F32, 6000).unwrap();
    assert!(!names().contains(&"model.safetensors".to_string()));
    let (_, back) = load(dir.path()).unwrap();
    assert_eq!(back.view().host(), weights.view().host());
}

#[test]
fn a_failed_export_leaves_the_earlier_one() {
    let (dir, table, mut weights) = export(&config(false), Dtype::F32, u64::MAX);
    let before = files(dir.path());
    let slot = table.rows()[1].slot;
    for (x, dtype, want) in [
        (f32::NAN, Dtype::F32, "NaN at element 3, not finite in float32"),
        (f32::MAX, Dtype::Bf16, "at element 3, not finite in bfloat16"),
    ] {
        weights.master_mut().get_mut(slot).host()[3] = x;
        let error = hf::write(dir.path(), &config(false), &table, &weights, dtype, u64::MAX);
        let line = error.unwrap_err().to_string();
        assert!(line.contains(want) && line.contains(&table.rows()[1].name), "{line}");
        assert!(files(dir.path()) == before);
    }
    // Files that are whole wait for the last one, in which the number stands.
    let row = table.rows().last().unwrap();
    weights.master_mut().get_mut(slot).host()[3] = 0.0;
    weights.master_mut().get_mut(row.slot).host()[1] = f32::NAN;
    let error = hf::write(dir.path(), &config(false), &table, &weights, Dtype::F32, 6000);
    let line = error.unwrap_err().to_string();
    assert!(line.contains(&row.name) && line.contains("NaN at element 1"), "{line}");
    assert!(files(dir.path()) == before);
    // A folder in the way of a name, and one in place of the directory.
    weights.master_mut().get_mut(row.slot).host()[1] = 0.0;
    let file = dir.path().join("config.json");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let write = |to: &Path| hf::write(to, &config(false), &table, &weights, Dtype::F32, u64::MAX);
    let line = write(dir.path()).unwrap_err().to_string();
    assert!(
        line.contains("config.json: ") && line.ends_with("make it a file that can be replaced"),
        "{line}"
    );
    let line = write(&dir.path().join("model.safetensors/deeper")).unwrap_err().to_string();
    assert!(line.ends_with("give a directory that can be made"), "{line}");
}

#[test]
fn missing_files_are_named() {
    let (dir, _, _) = export(&config(false), Dtype::F32, 6000);
    fs::remove_file(dir.path().join("model-00002-of-00008.safetensors")).unwrap();
    let line = refusal(dir.path());
    assert!(line.starts_with("DIR/model-00002-of-00008.safetensors: No such file"), "{line}");
    fs::remove_file(dir.path().join("model.safetensors.index.json")).unwrap();
    let line = refusal(dir.path());
    assert!(line.starts_with("DIR/model.safetensors: No such file"), "{line}");
    fs::remove_file(dir.path().join("config.json")).unwrap();
    let line = refusal(dir.path());
    assert!(line.starts_with("DIR/config.json: No such file"), "{line}");
}

#[test]
fn a_bad_index_is_named() {
    let (dir, _, _) = export(&config(false), Dtype::F32, 6000);
    let index = dir.path().join("model.safetensors.index.json");
    let text = fs::read_to_string(&index).unwrap();
    fs::write(&index, "{").unwrap();
    let line = refusal(dir.path());
    assert!(line.starts_with("DIR/model.safetensors.index.json: not a weight index: "), "{line}");
    fs::write(&index, text.replace("model-00001-of", "../model-00001-of")).unwrap();
    let want = "DIR/model.safetensors.index.json: file name \
                \"../model-00001-of-00008.safetensors\" leaves the directory; \
                copy or export the model again";
    assert_eq!(refusal(dir.path()), want);
    // Some tools write the size as a float, or none.
    let float = with_float_size(&text);
    assert_ne!(float, text);
    fs::write(&index, float).unwrap();
    assert!(load(dir.path()).is_ok());
}

/// The index with `total_size` as a float.
fn with_float_size(text: &str) -> String {
    let mut index: serde_json::Value = serde_json::from_str(text).unwrap();
    let size = index["metadata"]["total_size"].as_f64().unwrap();
    index["metadata"]["total_size"] = size.into();
    index.to_string()
}

#[test]
fn a_missing_tensor_is_named() {
    let line = refusal_after(false, |tensors| drop(tensors.remove(NORM)));
    let want = "DIR/model.safetensors: tensor model.norm.weight is missing; \
                copy or export the model again, or correct config.json";
    assert_eq!(line, want);
}

#[test]
fn an_unknown_tensor_is_named() {
    let line = refusal_after(false, |tensors| {
        tensors.insert("model.layers.0.self_attn.q_proj.bias".into(), tensors[NORM].clone());
    });
    let want = "DIR/model.safetensors: tensor model.layers.0.self_attn.q_proj.bias is not part of \
                this LLaMA; remove it, or correct config.json";
    assert_eq!(line, want);
}

#[test]
fn a_tensor_in_two_files_is_named() {
    let (dir, _, _) = export(&config(false), Dtype::F32, 6000);
    let (first, second) = ("model-00001-of-00008.safetensors", "model-00002-of-00008.safetensors");
    fs::copy(dir.path().join(first), dir.path().join(second)).unwrap();
    let want = format!(
        "DIR/{second}: tensor model.embed_tokens.weight is also in DIR/{first}; remove one of the two"
    );
    assert_eq!(refusal(dir.path()), want);
}

#[test]
fn stored_rotary_frequencies_are_passed_over() {
    let (dir, table, weights) = export(&config(false), Dtype::F32, u64::MAX);
    let mut tensors = tensors(&table, &weights);
    tensors.insert("model.layers.0.self_attn.rotary_emb.inv_freq".into(), tensors[NORM].clone());
    fs::write(dir.path().join("model.safetensors"), serialize(&tensors)).unwrap();
    let (back, passed_over) = load_weights(dir.path(), &config(false)).unwrap();
    assert_eq!(back.view().host(), weights.view().host());
    assert_eq!(passed_over, ["model.layers.0.self_attn.rotary_emb.inv_freq"]);
}

/// A model without a head names its tensors from there on.
#[test]
fn names_may_lack_what_is_before_layers() {
    let (dir, table, weights) = export(&config(false), Dtype::F32, u64::MAX);
    let short = |name: &str| name.strip_prefix("model.").unwrap_or(name).to_string();
    let tensors =
        tensors(&table, &weights).into_iter().map(|(name, t)| (short(&name), t)).collect();
    fs::write(dir.path().join("model.safetensors"), serialize(&tensors)).unwrap();
    let (back, passed_over) = load_weights(dir.path(), &config(false)).unwrap();
    assert_eq!(back.view().host(), weights.view().host());
    assert!(passed_over.is_empty());
    let line = refusal_after(false, |tensors| {
        tensors.insert("norm.weight".into(), tensors[NORM].clone());
    });
    assert!(line.contains("norm.weight is also in DIR/model.safetensors; remove one"), "{line}");
}

#[test]
fn a_git_lfs_pointer_is_called_one() {
    let (dir, _, _) = export(&config(false), Dtype::F32, u64::MAX);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n";
    fs::write(dir.path().join("model.safetensors"), pointer).unwrap();
    let want = "DIR/model.safetensors: a git-LFS pointer in place of the file, get it by git lfs pull; \
                copy or export it again";
    assert_eq!(refusal(dir.path()), want);
}

#[test]
fn a_wrong_shape_is_named() {
    let line = refusal_after(false, |tensors| {
        tensors.get_mut(EMBED).unwrap().shape = vec![24, 37];
    });
    let want = "DIR/model.safetensors: tensor model.embed_tokens.weight has shape [24, 37], \
                config.json asks for [37, 24]; give files of one model";
    assert_eq!(line, want);
}

#[test]
fn a_wrong_type_is_named() {
    let line = refusal_after(false, |tensors| {
        tensors.get_mut(NORM).unwrap().dtype = safetensors::Dtype::I32;
    });
    let want = "DIR/model.safetensors: tensor model.norm.weight is stored as I32; \
                convert the model to F32, BF16, F16 or F64";
    assert_eq!(line, want);
}

#[test]
fn weights_that_are_not_finite_are_named() {
    for (x, name) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let line = refusal_after(false, |tensors| {
            tensors.get_mut(NORM).unwrap().bytes[20..24].copy_from_slice(&x.to_le_bytes());
        });
        let want = format!(
            "DIR/model.safetensors: tensor model.norm.weight has {name} at element 5; \
             give a model whose weights are finite in f32"
        );
        assert_eq!(line, want);
    }
}

#[test]
fn a_stored_head_of_a_tied_model_must_be_the_embedding() {
    let (dir, table, weights) = export(&config(true), Dtype::F32, u64::MAX);
    let mut tensors = tensors(&table, &weights);
    tensors.insert(HEAD.into(), tensors[EMBED].clone());
    fs::write(dir.path().join("model.safetensors"), serialize(&tensors)).unwrap();
    assert!(load(dir.path()).is_ok());

    let line = refusal_after(true, |tensors| {
        tensors.insert(HEAD.into(), tensors[EMBED].clone());
        let last = tensors[HEAD].bytes.len() - 2;
        tensors.get_mut(HEAD).unwrap().bytes[last] ^= 1;
    });
    let want = "DIR/model.safetensors: tensor lm_head.weight differs from \
                model.embed_tokens.weight although tie_word_embeddings = true; remove it, or set \
                tie_word_embeddings to false in config.json";
    assert_eq!(line, want);
}

#[test]
fn truncated_and_corrupt_files_are_named() {
    let (dir, _, _) = export(&config(false), Dtype::F32, u64::MAX);
    let path = dir.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let size = whole.len();
    let refuse = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let line = refusal(dir.path());
        let line = line.strip_prefix("DIR/model.safetensors: ").expect(&line).to_string();
        line.strip_suffix("; copy or export it again").expect(&line).to_string()
    };
    assert_eq!(refuse(&[]), "truncated: 0 bytes are no safetensors file");
    assert_eq!(refuse(&whole[..7]), "truncated: 7 bytes are no safetensors file");
    let want = format!("truncated: 100 bytes, its header alone {header}");
    assert_eq!(refuse(&whole[..100]), want);
    let want = format!("truncated: {} bytes, its header says {size}", size - 1);
    assert_eq!(refuse(&whole[..size - 1]), want);
    let want = format!("corrupt: {} bytes, its header says {size}", size + 1);
    assert_eq!(refuse(&[&whole[..], &[0]].concat()), want);
    let huge = [&u64::MAX.to_le_bytes(), &whole[8..]].concat();
    assert_eq!(refuse(&huge), format!("corrupt: a header of {} bytes", u64::MAX));
    for (at, byte) in [(8, b'['), (10, 0xff), (header - 20, b'"')] {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        let line = refuse(&bytes);
        assert!(line.starts_with("corrupt safetensors header: "), "{line}");
    }
}
