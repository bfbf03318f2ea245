//! Brings questions and their answers together in bounded memory: an external sort by question.
//!
//! Posts are collected up to a budget, sorted, and written as one run to a temporary file; at the
//! end the runs are merged. A dump that fits the budget never touches the disk.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};

use super::Post;

type Run = zstd::stream::read::Decoder<'static, BufReader<File>>;

/// Where a post stands: its question, then the question itself before its answers, then its id.
type Key = (u64, bool, u64);

fn key(post: &Post) -> Key {
    (post.parent.unwrap_or(post.id), post.parent.is_some(), post.id)
}

/// Collects posts, then gives them back by question.
pub(super) struct Join {
    budget: usize,
    held: usize,
    posts: Vec<Post>,
    runs: Vec<File>,
}

impl Join {
    /// Holds about `budget` bytes of posts at a time.
    pub(super) fn new(budget: usize) -> Join {
        Join { budget, held: 0, posts: Vec::new(), runs: Vec::new() }
    }

    pub(super) fn push(&mut self, post: Post) -> std::io::Result<()> {
        self.held += post.title.len() + post.body.len() + size_of::<Post>();
        self.posts.push(post);
        if self.held > self.budget { self.write_run() } else { Ok(()) }
    }

    fn write_run(&mut self) -> std::io::Result<()> {
        self.posts.sort_by_key(key);
        let mut run = zstd::stream::write::Encoder::new(BufWriter::new(tempfile::tempfile()?), 1)?;
        for post in self.posts.drain(..) {
            let bytes = serde_json::to_vec(&post)?;
            run.write_all(&(bytes.len() as u64).to_le_bytes())?;
            run.write_all(&bytes)?;
        }
        let mut file = run.finish()?.into_inner().map_err(|e| e.into_error())?;
        file.rewind()?;
        self.runs.push(file);
        self.held = 0;
        Ok(())
    }

    /// The posts of one question after the other, by its id.
    pub(super) fn finish(mut self) -> std::io::Result<Questions> {
        if self.runs.is_empty() {
            self.posts.sort_by_key(key);
            let posts = self.posts.into_iter();
            return Ok(Questions {
                held: posts,
                runs: Vec::new(),
                heap: BinaryHeap::new(),
                next: None,
            });
        }
        self.write_run()?;
        let runs: std::io::Result<Vec<Run>> = self.runs.drain(..).map(Run::new).collect();
        let mut questions = Questions {
            held: Vec::new().into_iter(),
            runs: runs?,
            heap: BinaryHeap::new(),
            next: None,
        };
        for run in 0..questions.runs.len() {
            questions.refill(run)?;
        }
        Ok(questions)
    }
}

/// Groups of posts, see [`Join::finish`].
pub(super) struct Questions {
    held: std::vec::IntoIter<Post>,
    runs: Vec<Run>,
    /// The first post of each run that is not used up.
    heap: BinaryHeap<Reverse<Head>>,
    next: Option<Post>,
}

struct Head {
    run: usize,
    post: Post,
}

impl Ord for Head {
    fn cmp(&self, other: &Head) -> std::cmp::Ordering {
        (key(&self.post), self.run).cmp(&(key(&other.post), other.run))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Head) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Head) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}

impl Questions {
    fn refill(&mut self, run: usize) -> std::io::Result<()> {
        let mut length = [0; 8];
        let mut read = 0;
        while read < 8 {
            match self.runs[run].read(&mut length[read..])? {
                0 if read == 0 => return Ok(()),
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                count => read += count,
            }
        }
        let mut bytes = vec![0; u64::from_le_bytes(length) as usize];
        self.runs[run].read_exact(&mut bytes)?;
        self.heap.push(Reverse(Head { run, post: serde_json::from_slice(&bytes)? }));
        Ok(())
    }

    fn next_post(&mut self) -> std::io::Result<Option<Post>> {
        let Some(Reverse(head)) = self.heap.pop() else { return Ok(self.held.next()) };
        self.refill(head.run)?;
        Ok(Some(head.post))
    }

    /// The next question with its answers by id; a question alone, or answers alone, if that is
    /// all there is.
    pub(super) fn next_group(&mut self) -> std::io::Result<Option<Vec<Post>>> {
        let first = match self.next.take() {
            Some(post) => post,
            None => match self.next_post()? {
                Some(post) => post,
                None => return Ok(None),
            },
        };
        let question = key(&first).0;
        let mut group = vec![first];
        while let Some(post) = self.next_post()? {
            if key(&post).0 != question {
                self.next = Some(post);
                break;
            }
            group.push(post);
        }
        Ok(Some(group))
    }
}
