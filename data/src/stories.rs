//! The built-in corpus: short English stories from a grammar, seeded and endless.
//!
//! Story `i` is a pure function of the seed and `i`. A story draws its characters, things, places
//! and numbers first, then a plot tells what happens, each sentence in one of several wordings.
//! What it draws it keeps: a lost thing is found where it was left, a promise is kept to the one it
//! was made to, sums add up. So there is something to learn beyond the next word.
//!
//! ```
//! use data::stories::Stories;
//!
//! let mut stories = Stories::new(7);
//! let third = stories.nth(2).unwrap();
//! assert_eq!(third, Stories::story(7, 2));
//! assert!((60..=200).contains(&third.split_whitespace().count()));
//! ```

mod plots;
mod words;

use crate::Error;
use crate::rng::Philox;
use words::*;

const STREAM: u32 = 0x0510_3135;

/// The stories of one seed, from the first on, without end.
#[derive(Clone, Debug)]
pub struct Stories {
    seed: u64,
    next: u64,
}

impl Stories {
    /// The stories of `seed`.
    pub fn new(seed: u64) -> Stories {
        Stories { seed, next: 0 }
    }

    /// Story `index` of `seed`: 60 to 200 words in two to four paragraphs, one a line.
    pub fn story(seed: u64, index: u64) -> String {
        let mut teller = Teller::new(Philox::new(seed, STREAM, index));
        teller.introduce();
        let plot = *teller.rng.pick(&plots::PLOTS);
        plot(&mut teller);
        teller.text
    }

    /// The first `count` stories as documents.
    pub fn documents(self, count: usize) -> impl Iterator<Item = Result<String, Error>> {
        self.take(count).map(Ok)
    }
}

impl Iterator for Stories {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let story = Stories::story(self.seed, self.next);
        self.next += 1;
        Some(story)
    }
}

/// A story being told.
///
/// In a template `{key}` stands for the word kept under `key`, `{Key}` for the same with a capital,
/// `{a key}` and `{A key}` for the word after "a" or "an". A backtick is a double quote. The hero's
/// name is under `hero`, his or her pronouns under `he`, `him`, `his`; the friend's name is under
/// `friend`, the pronouns under `fhe`, `fhim`, `fhis`.
struct Teller {
    rng: Philox,
    words: Vec<(&'static str, String)>,
    text: String,
}

impl Teller {
    /// Draws the cast and the scene.
    fn new(rng: Philox) -> Teller {
        let mut t = Teller { rng, words: Vec::new(), text: String::new() };
        let hero = t.cast("hero", "kind", ["he", "him", "his"], "");
        t.cast("friend", "fkind", ["fhe", "fhim", "fhis"], hero);
        t.draw_two("nature", "fnature", &NATURES);
        t.draw_two("place", "place2", &PLACES);
        t.draw_two("color", "color2", &COLORS);
        t.draw("time", &TIMES);
        t.draw("hobby", &HOBBIES);
        t.draw("glad", &GLAD);
        t.draw("sad", &SAD);
        t
    }

    /// Draws a child or an animal other than `taken` and keeps its words; gives its name.
    fn cast(
        &mut self,
        name_key: &'static str,
        kind_key: &'static str,
        pronoun_keys: [&'static str; 3],
        taken: &str,
    ) -> &'static str {
        let (name, she, kind) = loop {
            let animal = self.rng.below(5) < 2;
            let she = self.rng.below(2) == 0;
            let (names, kind) = match (animal, she) {
                (true, true) => (&SHE_ANIMALS, *self.rng.pick(&ANIMALS)),
                (true, false) => (&HE_ANIMALS, *self.rng.pick(&ANIMALS)),
                (false, true) => (&GIRLS, "girl"),
                (false, false) => (&BOYS, "boy"),
            };
            let name = *self.rng.pick(names);
            if name != taken {
                break (name, she, kind);
            }
        };
        self.set(name_key, name);
        self.set(kind_key, kind);
        let pronouns = if she { ["she", "her", "her"] } else { ["he", "him", "his"] };
        for (key, pronoun) in pronoun_keys.into_iter().zip(pronouns) {
            self.set(key, pronoun);
        }
        name
    }

    fn set(&mut self, key: &'static str, word: &str) {
        debug_assert!(self.words.iter().all(|(k, _)| *k != key), "stories: {key} set twice");
        self.words.push((key, word.to_string()));
    }

    fn draw(&mut self, key: &'static str, words: &[&'static str]) {
        let word = *self.rng.pick(words);
        self.set(key, word);
    }

    /// Draws two different words.
    fn draw_two(&mut self, first: &'static str, second: &'static str, words: &[&'static str]) {
        let count = words.len() as u64;
        let i = self.rng.below(count);
        let j = (i + 1 + self.rng.below(count - 1)) % count;
        self.set(first, words[i as usize]);
        self.set(second, words[j as usize]);
    }

    /// Draws a number in `low..=high`.
    fn number(&mut self, low: u64, high: u64) -> u64 {
        low + self.rng.below(high - low + 1)
    }

    /// Tells one of `templates`.
    fn say(&mut self, templates: &[&str]) {
        let template = *self.rng.pick(templates);
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push(' ');
        }
        let mut rest = template;
        while let Some(open) = rest.find('{') {
            let close = rest.find('}').expect("every brace is closed");
            let (plain, key) = (&rest[..open], &rest[open + 1..close]);
            self.text.push_str(&plain.replace('`', "\""));
            let word = self.expand(key);
            self.text.push_str(&word);
            rest = &rest[close + 1..];
        }
        self.text.push_str(&rest.replace('`', "\""));
    }

    /// Tells one of `templates` or nothing.
    fn maybe(&mut self, templates: &[&str]) {
        if self.rng.below(2) == 0 {
            self.say(templates);
        }
    }

    fn paragraph(&mut self) {
        self.text.push('\n');
    }

    fn expand(&self, key: &str) -> String {
        if let Some(key) = key.strip_prefix("a ") {
            return with_article(self.word(key));
        }
        if let Some(key) = key.strip_prefix("A ") {
            return capital(&with_article(self.word(key)));
        }
        if key.starts_with(char::is_uppercase) {
            return capital(self.word(&key.to_lowercase()));
        }
        self.word(key).to_string()
    }

    fn word(&self, key: &str) -> &str {
        let found = self.words.iter().find(|(k, _)| *k == key);
        &found.unwrap_or_else(|| panic!("stories: no word under {key}")).1
    }

    /// The first paragraph: who and where.
    fn introduce(&mut self) {
        self.say(&[
            "Once upon a time there was {a nature} {kind} named {hero}.",
            "There once was {a nature} {kind} named {hero}, who lived near {place2}.",
            "In a small house near {place2} lived {a nature} {kind} named {hero}.",
            "{Hero} was {a nature} {kind} who lived close to {place2}.",
            "Not far from {place2} lived {a nature} {kind}. {His} name was {hero}.",
        ]);
        self.maybe(&[
            "{Hero} liked {hobby} more than anything.",
            "Every day {he} spent some time {hobby}.",
            "Nothing made {him} happier than {hobby}.",
        ]);
        self.say(&[
            "{His} best friend was {a fnature} {fkind} named {friend}.",
            "{He} had a friend named {friend}, {a fnature} {fkind}.",
            "Next door lived {a fnature} {fkind} named {friend}.",
            "{Hero} often played with {friend}, {a fnature} {fkind}.",
        ]);
        self.paragraph();
    }

    /// The last sentence, for plots that end on a good day.
    fn good_night(&mut self) {
        self.maybe(&[
            "That night {hero} went to bed {glad}.",
            "They laughed and walked home together.",
            "It had been a good day for {hero} and {friend}.",
            "Then they spent the rest of the day {hobby}.",
            "When the stars came out, they said good night and went home.",
        ]);
    }
}

/// "1 plum", "2 plums".
fn count(n: u64, (one, many): (&str, &str)) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// "one plum", "two plums".
fn count_in_words(n: u64, (one, many): (&str, &str)) -> String {
    format!("{} {}", NUMBERS[n as usize], if n == 1 { one } else { many })
}

fn with_article(word: &str) -> String {
    let article = if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {word}")
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    let first = chars.next().into_iter().flat_map(char::to_uppercase);
    first.collect::<String>() + chars.as_str()
}
