use std::collections::HashSet;

use data::stories::Stories;

const MANY: usize = 5000;

#[test]
fn a_story_is_a_function_of_seed_and_index() {
    let first: Vec<String> = Stories::new(5).take(50).collect();
    for (i, story) in first.iter().enumerate().rev() {
        assert_eq!(*story, Stories::story(5, i as u64));
    }
    assert_ne!(first[0], Stories::story(6, 0));
    assert_eq!(first.iter().collect::<HashSet<_>>().len(), 50);
}

#[test]
fn stories_have_60_to_200_words_and_do_not_repeat() {
    let all: HashSet<String> = Stories::new(1).take(MANY).collect();
    assert_eq!(all.len(), MANY);
    for story in &all {
        let words = story.split_whitespace().count();
        assert!((60..=200).contains(&words), "{words} words: {story}");
    }
}

/// Templates leave traces when they are wrong: braces, doubled words, a wrong article.
#[test]
fn stories_are_clean_english() {
    for story in Stories::new(2).take(MANY) {
        let quotes = story.matches('"').count();
        assert!(quotes % 2 == 0, "open quote: {story}");
        for bad in ["{", "}", "`", "  ", " .", " ,", "..", ",,", ".,", "\n\n", " \n", "\n "] {
            assert!(!story.contains(bad), "{bad:?} in: {story}");
        }
        assert!(story.is_ascii() && story.ends_with(['.', '!', '?', '"']), "{story}");
        let words: Vec<&str> = story.split_whitespace().collect();
        for pair in words.windows(2) {
            let (word, next) = (pair[0].trim_matches('"'), pair[1].trim_matches('"'));
            let vowel = next.starts_with(['a', 'e', 'i', 'o', 'u']);
            match word {
                "a" | "A" => assert!(!vowel, "{word} {next}: {story}"),
                "an" | "An" => assert!(vowel, "{word} {next}: {story}"),
                _ => assert!(!word.eq_ignore_ascii_case(next), "{word} {next}: {story}"),
            }
            let ends = word.ends_with(['.', '!', '?']) && !pair[0].ends_with('"');
            assert!(!ends || !next.starts_with(|c: char| c.is_ascii_lowercase()), "{story}");
            assert!(!(word == "1" && next.trim_end_matches(['.', ',']).ends_with('s')), "{story}");
        }
    }
}

/// Reads "A and B make C" and "A take away B leaves C" back out of the text.
#[test]
fn sums_add_up() {
    let mut sums = 0;
    for story in Stories::new(3).take(MANY) {
        let words: Vec<&str> =
            story.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).collect();
        let number = |i: usize| words.get(i).and_then(|w| w.parse::<i64>().ok());
        for i in 0..words.len() {
            // "3 apples and 4 apples make 7 apples", "9 buns take away 2 buns leaves 7 buns"
            let plus = words[i..].get(2..6).filter(|w| w[0] == "and" && w[3] == "make");
            let minus = words[i..]
                .get(2..7)
                .filter(|w| w[0] == "take" && w[1] == "away" && w[4] == "leaves");
            if plus.is_some() {
                assert_eq!(
                    number(i).unwrap() + number(i + 3).unwrap(),
                    number(i + 6).unwrap(),
                    "{story}"
                );
                sums += 1;
            } else if minus.is_some() {
                assert_eq!(
                    number(i).unwrap() - number(i + 4).unwrap(),
                    number(i + 7).unwrap(),
                    "{story}"
                );
                sums += 1;
            }
        }
    }
    assert!(sums > 500, "{sums} sums found");
}

/// What a story says first decides how it ends.
#[test]
fn endings_follow() {
    let (mut lost, mut riddles) = (0, 0);
    for story in Stories::new(4).take(MANY) {
        // A lost thing is found where it was left: the place is named at least twice.
        if let Some((_, after)) = story.split_once("And there it was, ") {
            let spot = after.split(", just").next().unwrap();
            assert!(story.matches(spot).count() >= 3, "{story}");
            lost += 1;
        }
        if story.contains("But a promise is a promise.") {
            assert!(story.contains("promised") || story.contains("I promise"), "{story}");
        }
        if story.contains("there is gold inside me") {
            assert!(story.contains("an egg"), "{story}");
            riddles += 1;
        }
    }
    assert!(lost > 50 && riddles > 20, "{lost} lost things, {riddles} riddles");
}

#[test]
fn every_plot_comes() {
    let all: String = Stories::new(7).take(500).collect();
    for sign in [
        " is lost|was gone|had forgotten where",
        "unkind",
        "romise",
        "How many|how many|count them all",
        "take away",
        "costs |cost ",
        "animals",
        "afraid of",
        "share my ",
        "broken|broke",
        "rainbow|rain stopped",
        "birthday",
        "ran away|cannot find mine",
        "riddle",
        "seed",
        "race",
        "told the truth|telling me the truth",
    ] {
        assert!(sign.split('|').any(|s| all.contains(s)), "no {sign}");
    }
}

/// Pinned: runs on the built-in corpus are compared across versions.
#[test]
fn the_corpus_is_pinned() {
    let text: String = Stories::new(0).take(100).collect();
    assert_eq!(format!("{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes())), "980c38683efa6050");
}
