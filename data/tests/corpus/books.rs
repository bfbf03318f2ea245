//! Books: Gutenberg's frame, encodings, and what near books share.

use data::corpus::books::{Options, document, gutenberg, near};

fn cut(text: &str) -> &str {
    &text[gutenberg::body(text)]
}

#[test]
fn the_frame_goes_and_the_book_stays() {
    let new = "\u{FEFF}The Project Gutenberg eBook of Под игото\r\n\r\nTitle: Под игото\r\n\r\n\
               *** START OF THE PROJECT GUTENBERG EBOOK ПОД ИГОТО ***\r\n\r\nProduced by Some One\r\n\
               and others\r\n\r\nЧаст първа\r\n\r\nТая прохладна майска вечер.\r\n\r\n\
               *** END OF THE PROJECT GUTENBERG EBOOK ПОД ИГОТО ***\r\n\r\nlicence\r\n";
    assert_eq!(cut(new), "Част първа\r\n\r\nТая прохладна майска вечер.");
    let old = "**Welcome To The World of Free Plain Vanilla Electronic Texts**\n\
               *END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*\n\n\nLuceafarul\n\n\
               A fost odata ca-n povesti\n\nEnd of the Project Gutenberg Etext of Luceafarul\n";
    assert_eq!(cut(old), "Luceafarul\n\nA fost odata ca-n povesti");
}

#[test]
fn a_book_without_marks_stays_whole_and_credits_without_a_blank_line_are_one_line() {
    assert_eq!(cut("Part one\n\n*** \n\nThe end of it.\n"), "Part one\n\n*** \n\nThe end of it.");
    let dense = "*** START OF THIS PROJECT GUTENBERG EBOOK X ***\nProduced by A B\nX\nBy C\n1\n2\n3\n\
                 4\n5\n6\n*** END OF THIS PROJECT GUTENBERG EBOOK X ***\n";
    assert_eq!(cut(dense), "X\nBy C\n1\n2\n3\n4\n5\n6");
    assert_eq!(cut(""), "");
    assert_eq!(
        cut("*** END OF THE PROJECT GUTENBERG EBOOK"),
        "*** END OF THE PROJECT GUTENBERG EBOOK"
    );
}

#[test]
fn old_encodings_are_read_as_the_head_names_them() {
    let head =
        "Title: Z\nCharacter set encoding: ISO-8859-2\n*** START OF THE PROJECT GUTENBERG EBOOK\n";
    let mut bytes = head.as_bytes().to_vec();
    bytes.extend(b"Doma\xe6a pe\xb9ma \xbe\n");
    let (book, trail) = document("1".into(), bytes, &Options::default());
    assert_eq!(book.text, "Domaća pešma ž");
    assert_eq!((&book.meta["title"], &book.meta["encoding"]), (&"Z".into(), &"latin2".into()));
    assert!(trail.dropped().is_none());
    let (book, _) = document("2".into(), b"caf\xe9 \x93x\x94".to_vec(), &Options::default());
    assert_eq!(book.text, "café “x”");
}

#[test]
fn an_empty_book_is_dropped() {
    let (_, trail) = document("1".into(), b" \n".to_vec(), &Options::default());
    assert_eq!(trail.dropped().unwrap().rule(), "characters");
}

/// `share` of the words of one text are those of another.
fn mixed(share: usize) -> (String, String) {
    let word = |i: usize, salt: &str| format!("{salt}{}", i * 7919 % 4999);
    let first: Vec<_> = (0..5000).map(|i| word(i, "дума")).collect();
    let second: Vec<_> = (0..5000)
        .map(|i| if i < share * 50 { first[i].clone() } else { word(i, "слово") })
        .collect();
    (first.join(" "), second.join(" "))
}

#[test]
fn overlap_is_the_share_of_common_runs() {
    for share in [0, 80, 89, 91, 100] {
        let (a, b) = mixed(share);
        let overlap = near::overlap(&near::shingles(&a, 5), &near::shingles(&b, 5));
        assert!((overlap - share as f64 / 100.0).abs() < 0.002, "{share} %: {overlap}");
        assert_eq!(overlap > 0.9, share > 90);
    }
    let (a, _) = mixed(100);
    let part = near::shingles(&a.split(' ').take(1250).collect::<Vec<_>>().join(" "), 5);
    assert!(near::overlap(&part, &near::shingles(&a, 5)) > 0.999, "a part of a book");
    assert_eq!(near::overlap(&near::shingles("", 5), &near::shingles("", 5)), 0.0);
}

#[test]
fn simhash_is_that_of_pythons_package() {
    // simhash 2.1.2, over the features of RedPajama's dedup.py; see tests/corpora/agree.py.
    for (text, hash) in [
        ("", 0xe980_0998_ecf8_427e),
        ("abc", 0xd696_3f7d_28e1_7f72),
        ("The quick brown fox jumps over the lazy dog.", 0x9da0_2980_8608_0024),
        ("Тая прохладна майска вечер чорбаджи Марко, гологлав", 0x8a32_0c29_8e90_4766),
    ] {
        assert_eq!(near::simhash(text), hash, "{text}: {:x}", near::simhash(text));
    }
}

#[test]
fn of_near_hashes_the_first_stays() {
    let base = 0x0123_4567_89AB_CDEF_u64;
    let hashes = [base, base ^ 0b11111, !base, base ^ (0b1111 << 60 | 0b111), base ^ 0b1 << 63];
    assert_eq!(near::simhash_kept(&hashes, 5), [true, false, true, true, false]);
}
