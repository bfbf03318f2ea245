//! Which documents go: keys are sorted range by range, equal ones make pairs, and pairs are
//! compared. A task holds one range of keys, or two texts' shingles; of all documents it holds one
//! bit each, for those that went as exact duplicates.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Value, json};
use xxhash_rust::xxh3::Xxh3;

use super::sketch::{Shingler, overlap};
use super::table::{self, Column, Table};
use super::{Dedup, Hashed, ROW_BITS, positions};
use crate::Error;
use crate::corpus::job::{Job, Phase, Task};

const ALL: (i64, i64) = (i64::MIN, i64::MAX);

/// A document that goes.
pub(super) struct Gone {
    /// Whether its text is that of the one that stays.
    pub(super) exact: bool,
    /// The position of the one that it is a duplicate of.
    pub(super) kept: i64,
    /// The similarity of the two.
    pub(super) jaccard: f64,
}

/// Which documents go, in files.
pub(super) enum Selection {
    /// Our own: exact ones by range of hashes, near ones by shard.
    Own {
        /// Files of exact ones.
        ranges: usize,
        near: bool,
    },
    /// Someone else's: any number of files each.
    Foreign { exact: Vec<PathBuf>, near: Vec<PathBuf> },
}

impl Selection {
    /// The selection in a folder.
    ///
    /// # Errors
    /// A folder without one.
    pub(super) fn foreign(folder: &Path) -> Result<Selection, Error> {
        let files = |name: &str| -> Result<Vec<PathBuf>, Error> {
            let folder = folder.join(name);
            let entries = std::fs::read_dir(&folder).map_err(Error::read(&folder))?;
            let paths = entries.flatten().map(|entry| entry.path());
            let mut files: Vec<_> =
                paths.filter(|path| path.extension().is_some_and(|e| e == "parquet")).collect();
            files.sort();
            Ok(files)
        };
        Ok(Selection::Foreign { exact: files("exact")?, near: files("near")? })
    }

    /// A hash of a foreign selection; our own follows from the job's parameters.
    pub(super) fn hash(&self) -> Result<String, Error> {
        let Selection::Foreign { exact, near } = self else { return Ok(String::new()) };
        let mut hash = Xxh3::new();
        for path in exact.iter().chain(near) {
            hash.update(&std::fs::read(path).map_err(Error::read(path))?);
            hash.update(&[u8::from(near.contains(path))]);
        }
        Ok(format!("-{:032x}", hash.digest128()))
    }

    /// The documents of a shard that go, by position.
    pub(super) fn of_shard(&self, job: &Job, shard: usize) -> Result<HashMap<i64, Gone>, Error> {
        let (exact, near) = match self {
            Selection::Own { ranges, near } => {
                let exact = (0..*ranges).map(|range| job.path("exact", range, "parquet"));
                (exact.collect(), Vec::from_iter(near.then(|| job.path("near", shard, "parquet"))))
            }
            Selection::Foreign { exact, near } => (exact.clone(), near.clone()),
        };
        let mut gone = HashMap::new();
        for path in near {
            let table = Table::open(&path)?;
            let (mut row, jaccards) = (0, table.reals("jaccard")?);
            table.rows(["position", "kept"], ALL, &mut |[position, kept]| {
                let (low, high) = positions(shard);
                if (low..=high).contains(&position) {
                    gone.insert(position, Gone { exact: false, kept, jaccard: jaccards[row] });
                }
                row += 1;
            })?;
        }
        for path in exact {
            let each = &mut |[position, kept]: [i64; 2]| {
                gone.insert(position, Gone { exact: true, kept, jaccard: 1.0 });
            };
            Table::open(&path)?.rows(["position", "kept"], positions(shard), each)?;
        }
        Ok(gone)
    }
}

/// The `i`-th of `count` ranges of all keys.
fn key_range(i: usize, count: usize) -> (i64, i64) {
    let cut = |i: usize| ((i as i128) << 64) / count as i128 + i128::from(i64::MIN);
    (cut(i) as i64, (cut(i + 1) - 1) as i64)
}

/// Rows of a table by a range of its keys, of all shards.
fn gather<const N: usize>(
    dedup: &Dedup,
    task: &Task,
    folder: &str,
    names: [&str; N],
    range: (i64, i64),
    files: usize,
) -> Result<Vec<[i64; N]>, Error> {
    let mut rows = Vec::new();
    for file in 0..files {
        task.meter().check()?;
        let table = Table::open(&dedup.job.path(folder, file, "parquet"))?;
        table.rows(names, range, &mut |row| rows.push(row))?;
    }
    Ok(rows)
}

impl Dedup<'_> {
    /// Runs the phases that select; `Err` is the name of one that waits for other tasks.
    pub(super) fn select(
        &self,
        hashes: &Phase,
        run: &mut dyn FnMut(&Phase) -> Result<bool, Error>,
    ) -> Result<Result<Selection, &'static str>, Error> {
        let shards = self.job.shards().len();
        let (mut documents, mut bands) = (0, 0);
        for hashed in self.job.results::<Hashed>(hashes)? {
            documents += hashed.documents;
            bands += hashed.bands;
        }
        let ranges = |rows: u64| rows.div_ceil(self.options.range_rows).max(1) as usize;
        let (exact_ranges, pair_ranges) = (ranges(documents), ranges(bands));
        let phase = |name, count, reads_input| Phase {
            name,
            count,
            reads_input,
            salt: String::new(),
            work: &|_, _| unreachable!("replaced below"),
        };

        let exact = |i: usize, task: &mut Task| self.exact(i, exact_ranges, task);
        if !run(&Phase { work: &exact, ..phase("exact", exact_ranges, false) })? {
            return Ok(Err("exact"));
        }
        if !self.options.rules.near {
            return Ok(Ok(Selection::Own { ranges: exact_ranges, near: false }));
        }
        let gone = OnceLock::new();
        let pairs = |i: usize, task: &mut Task| {
            let gone = gone.get_or_init(|| self.gone(exact_ranges));
            let gone = gone.as_ref().map_err(|reason| Error::Job {
                path: self.job.folder().join("exact"),
                reason: reason.clone(),
            })?;
            self.pairs(i, pair_ranges, gone, task)
        };
        if !run(&Phase { work: &pairs, ..phase("pairs", pair_ranges, false) })? {
            return Ok(Err("pairs"));
        }
        let sets = |i: usize, task: &mut Task| self.sets(i, pair_ranges, task);
        if !run(&Phase { work: &sets, ..phase("sets", shards, true) })? {
            return Ok(Err("sets"));
        }
        let near = |i: usize, task: &mut Task| self.near(i, pair_ranges, task);
        if !run(&Phase { work: &near, ..phase("near", shards, false) })? {
            return Ok(Err("near"));
        }
        Ok(Ok(Selection::Own { ranges: exact_ranges, near: true }))
    }

    /// Phase `exact`: in a range of hashes, all but the first of equal ones.
    fn exact(&self, range: usize, ranges: usize, task: &mut Task) -> Result<Value, Error> {
        let names = ["hash_high", "hash_low", "position"];
        let keys = key_range(range, ranges);
        let mut rows = gather(self, task, "hashes", names, keys, self.job.shards().len())?;
        rows.sort_unstable();
        let mut gone: Vec<(i64, i64)> = Vec::new();
        for equal in rows.chunk_by(|a, b| a[..2] == b[..2]) {
            gone.extend(equal[1..].iter().map(|row| (row[2], equal[0][2])));
        }
        gone.sort_unstable();
        let (position, kept): (Vec<_>, Vec<_>) = gone.into_iter().unzip();
        let columns = [("position", Column::Whole(&position)), ("kept", Column::Whole(&kept))];
        task.keep(table::write(task.create("exact", "parquet")?, &columns)?)?;
        Ok(json!({ "gone": position.len() }))
    }

    /// One bit for each document: whether it went as an exact duplicate.
    fn gone(&self, ranges: usize) -> Result<Bits, String> {
        let mut bits = Bits::default();
        for range in 0..ranges {
            let table = Table::open(&self.job.path("exact", range, "parquet"));
            table
                .and_then(|table| {
                    table.rows(["position"], ALL, &mut |[position]| bits.set(position))
                })
                .map_err(|e| e.to_string())?;
        }
        Ok(bits)
    }

    /// Phase `pairs`: in a range of bands' keys, who meets whom: every document of a band the first
    /// one of it, and the one before.
    fn pairs(
        &self,
        range: usize,
        ranges: usize,
        gone: &Bits,
        task: &mut Task,
    ) -> Result<Value, Error> {
        let keys = key_range(range, ranges);
        let names = ["key", "position"];
        let mut rows = gather(self, task, "bands", names, keys, self.job.shards().len())?;
        rows.retain(|[_, position]| !gone.get(*position));
        rows.sort_unstable();
        let mut pairs: Vec<(i64, i64)> = Vec::new();
        for equal in rows.chunk_by(|a, b| a[0] == b[0]) {
            for neighbours in equal.windows(2) {
                pairs.push((neighbours[1][1], equal[0][1]));
                pairs.push((neighbours[1][1], neighbours[0][1]));
            }
        }
        drop(rows);
        pairs.sort_unstable();
        pairs.dedup();
        let (later, earlier): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let columns = [("later", Column::Whole(&later)), ("earlier", Column::Whole(&earlier))];
        task.keep(table::write(task.create("pairs", "parquet")?, &columns)?)?;
        let count = later.len();
        let mut members = later;
        members.extend(earlier);
        members.sort_unstable();
        members.dedup();
        let columns = [("position", Column::Whole(&members))];
        task.keep(table::write(task.create("members", "parquet")?, &columns)?)?;
        Ok(json!({ "pairs": count, "members": members.len() }))
    }

    /// Phase `sets`: the shingles of a shard's documents that are in a pair, one set after the
    /// other, and a table of where they are.
    fn sets(&self, shard: usize, ranges: usize, task: &mut Task) -> Result<Value, Error> {
        let names = ["position"];
        let rows = gather(self, task, "members", names, positions(shard), ranges)?;
        let mut members: Vec<i64> = rows.into_iter().map(|[position]| position).collect();
        members.sort_unstable();
        members.dedup();
        let mut out = task.create("sets", "bin")?;
        let path = out.path().to_path_buf();
        let (mut starts, mut counts, mut end) = (Vec::new(), Vec::new(), 0i64);
        let mut shingler = Shingler::default();
        let mut bytes = Vec::new();
        if !members.is_empty() {
            self.read(shard, task, &mut |position, document| {
                if members.binary_search(&position).is_err() {
                    return Ok(());
                }
                shingler.take(&document.text, self.options.rules.ngram);
                let set = shingler.set();
                bytes.clear();
                bytes.extend(set.iter().flat_map(|shingle| shingle.to_le_bytes()));
                starts.push(end);
                counts.push(set.len() as i64);
                end += set.len() as i64;
                out.write_all(&bytes).map_err(Error::write(&path))
            })?;
        }
        task.keep(out)?;
        let columns = [
            ("position", Column::Whole(&members)),
            ("start", Column::Whole(&starts)),
            ("count", Column::Whole(&counts)),
        ];
        task.keep(table::write(task.create("sets", "parquet")?, &columns)?)?;
        Ok(json!({ "sets": members.len() }))
    }

    /// Phase `near`: of a shard's documents those that have an earlier near-duplicate, with the
    /// first such.
    fn near(&self, shard: usize, ranges: usize, task: &mut Task) -> Result<Value, Error> {
        let names = ["later", "earlier"];
        let mut pairs = gather(self, task, "pairs", names, positions(shard), ranges)?;
        // One file of earlier documents after the other.
        pairs.sort_unstable_by_key(|&[later, earlier]| (earlier, later));
        pairs.dedup();
        let mut found: BTreeMap<i64, (i64, f64)> = BTreeMap::new();
        let mut mine = if pairs.is_empty() { None } else { Some(Sets::open(&self.job, shard)?) };
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for of_shard in pairs.chunk_by(|a, b| a[1] >> ROW_BITS == b[1] >> ROW_BITS) {
            let mut theirs = Sets::open(&self.job, (of_shard[0][1] >> ROW_BITS) as usize)?;
            for of_document in of_shard.chunk_by(|a, b| a[1] == b[1]) {
                task.meter().check()?;
                theirs.read(of_document[0][1], &mut a)?;
                for &[later, earlier] in of_document {
                    // Pairs come in the order of the earlier one, so the first found is the least.
                    if found.contains_key(&later) {
                        continue;
                    }
                    mine.as_mut().expect("there are pairs").read(later, &mut b)?;
                    let (common, all) = overlap(&a, &b);
                    let jaccard = common as f64 / all as f64;
                    if jaccard >= self.options.rules.threshold {
                        found.insert(later, (earlier, jaccard));
                    }
                }
            }
        }
        let position: Vec<i64> = found.keys().copied().collect();
        let (kept, jaccard): (Vec<_>, Vec<_>) = found.into_values().unzip();
        let columns = [
            ("position", Column::Whole(&position)),
            ("kept", Column::Whole(&kept)),
            ("jaccard", Column::Real(&jaccard)),
        ];
        task.keep(table::write(task.create("near", "parquet")?, &columns)?)?;
        Ok(json!({ "compared": pairs.len(), "gone": position.len() }))
    }
}

/// The sets of shingles of one shard, read one by one.
struct Sets {
    path: PathBuf,
    file: File,
    /// Start and count by position.
    places: HashMap<i64, (i64, i64)>,
    bytes: Vec<u8>,
}

impl Sets {
    fn open(job: &Job, shard: usize) -> Result<Sets, Error> {
        let path = job.path("sets", shard, "bin");
        let file = File::open(&path).map_err(Error::read(&path))?;
        let mut places = HashMap::new();
        let table = Table::open(&job.path("sets", shard, "parquet"))?;
        table.rows(["position", "start", "count"], ALL, &mut |[position, start, count]| {
            places.insert(position, (start, count));
        })?;
        Ok(Sets { path, file, places, bytes: Vec::new() })
    }

    fn read(&mut self, position: i64, set: &mut Vec<u64>) -> Result<(), Error> {
        let &(start, count) = self.places.get(&position).ok_or_else(|| Error::Job {
            path: self.path.clone(),
            reason: format!("has no set for position {position}; delete the folder and begin anew"),
        })?;
        self.bytes.resize(count as usize * 8, 0);
        let read = self.file.seek(SeekFrom::Start(start as u64 * 8));
        read.and_then(|_| self.file.read_exact(&mut self.bytes))
            .map_err(Error::read(&self.path))?;
        set.clear();
        set.extend(self.bytes.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b)));
        Ok(())
    }
}

/// A bit for each position.
#[derive(Default)]
struct Bits(Vec<Vec<u64>>);

impl Bits {
    fn set(&mut self, position: i64) {
        let (shard, row) = ((position >> ROW_BITS) as usize, (position & 0xFFFF_FFFF) as usize);
        if self.0.len() <= shard {
            self.0.resize(shard + 1, Vec::new());
        }
        if self.0[shard].len() <= row / 64 {
            self.0[shard].resize(row / 64 + 1, 0);
        }
        self.0[shard][row / 64] |= 1 << (row % 64);
    }

    fn get(&self, position: i64) -> bool {
        let (shard, row) = ((position >> ROW_BITS) as usize, (position & 0xFFFF_FFFF) as usize);
        let word = self.0.get(shard).and_then(|rows| rows.get(row / 64));
        word.is_some_and(|word| word >> (row % 64) & 1 == 1)
    }
}
