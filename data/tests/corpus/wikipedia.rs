//! Wikipedia: wikitext, dumps in all their packings, and what is wrong with some.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use data::corpus::wikipedia::Options;
use data::corpus::wikipedia::wikitext::{Layout, strip};
use data::corpus::{Counts, Document, Source};

use crate::sources::{assert_linear, kept, read};

const PLAIN: Layout =
    Layout { language: "en", categories: false, empty_sections: false, as_anchor: false };

fn shown(wikitext: &str) -> String {
    strip(wikitext, PLAIN)
}

#[test]
fn formatting_goes_and_text_stays() {
    let cases = [
        ("'''Sofia''' is a ''city''. It''''s 5'''''x'''''", "Sofia is a city. It's 5x"),
        ("a [[b]] [[c|d]] [[e#f|g h]]s [[:Category:X]]", "a b d g hs Category:X"),
        (
            "[http://x.y/z?a=b title here] [https://x] http://bare.org",
            "title here  http://bare.org",
        ),
        ("a{{t|b=[[c]]|{{d}}}}e {{{1|f}}} {{{2}}}g", "ae f g"),
        ("a<ref name=\"x\">{{cite|[[b]]}}</ref> b<ref name=x /> c<REF>d</REF>", "a b c"),
        ("a<!-- {{ [[ -->b<!-- never ends", "ab"),
        ("a\n{| class=x\n|-\n| b || [[c]]\n{|\n| d\n|}\n|}\ne", "a\n\ne"),
        ("<table><tr><td>a</td></tr></table>b<table>", "b"),
        ("a<nowiki>[[b]] {{c}} &amp;</nowiki>d", "a[[b]] {{c}} &d"),
        ("x<math>\\frac{{1}}{2}</math>y <code>z</code><br/>w", "xy z\nw"),
        ("* a\n** b\n# c\n:: d\n; e : f\n----\ng", "a\nb\nc\nd\ne : f\n\ng"),
        ("[[File:a.jpg|thumb|300px|a [[b]] {{c}} d]]e", "e"),
        ("[[Image:a.jpg]]\n[[Category:b]]\n[[bg:София]]x", "x"),
        ("a &nbsp;&mdash;&lt;&#1073;&#x431; &bogus; & b", "a \u{a0}—<бб &bogus; & b"),
        ("__NOTOC__a __b__ ____", "a __b__"),
        ("List<String> 1 < 2 {x} [y] a|b", "List<String> 1 < 2 {x} [y] a|b"),
        ("{{a}} b }} c ]] d |} e", "b }} c ]] d |} e"),
    ];
    for (wikitext, expected) in cases {
        assert_eq!(shown(wikitext), expected, "{wikitext}");
    }
}

#[test]
fn what_never_ends_is_text_without_its_mark() {
    assert_eq!(shown("a {{b\n== c ==\n[[d]] '''e'''"), "a b\n\nc\nd e");
    assert_eq!(shown("a [[b|c [[d]] \n\ne"), "a b|c d\n\ne");
    assert_eq!(shown("a [[b\nc]] d"), "a b\nc]] d");
    assert_eq!(shown("{| \n| a {{b \n|}\nc"), "c");
    assert_eq!(shown("a <ref>b [[c]]\n== d ==\ne"), "a b c\n\nd\ne");
    assert_eq!(shown("{{{{a}} b"), "b");
    assert_eq!(shown("[http://x y\nz]"), "[http://x y\nz]");
}

#[test]
fn sections_without_text_go_but_not_above_their_own() {
    let wikitext = "lead\n== A ==\n=== B ===\ntext\n== C ==\n{{x}}\n== D == <!-- e -->\n\n\n\n* f";
    assert_eq!(shown(wikitext), "lead\n\nA\n\nB\ntext\n\nD\n\nf");
    let all = Layout { empty_sections: true, ..PLAIN };
    assert_eq!(strip(wikitext, all), "lead\n\nA\n\nB\ntext\n\nC\n\nD\n\nf");
}

#[test]
fn each_language_has_its_own_words_for_files_and_categories() {
    let of = |language, wikitext| strip(wikitext, Layout { language, ..PLAIN });
    assert_eq!(of("bg", "[[Файл:а.jpg|мини|б]]София[[Категория:Градове]]"), "София");
    assert_eq!(of("uk", "[[Зображення:а.jpg]]Київ[[Категорія:Міста]]"), "Київ");
    assert_eq!(of("sr", "[[Слика:а.jpg]]Београд[[Датотека:b]] [[Kategorija:X]]"), "Београд");
    assert_eq!(of("ro", "[[Fișier:a.jpg]]București[[Imagine:b]][[Categorie:c]]"), "București");
    assert_eq!(of("en", "[[Файл:а.jpg|b]]"), "b");
}

#[test]
fn hostile_wikitext_takes_linear_time() {
    for open in [
        "{{",
        "{{{",
        "[[",
        "[[a|",
        "{|\n",
        "<ref>",
        "<!--",
        "<nowiki>",
        "[http://x ",
        "==",
        "'''",
        "<a ",
        "&",
        "__",
        "\n;",
        "{",
        "\n{|",
        "<div class=\"",
        "\n= =",
    ] {
        assert_linear(open, 50_000, &|n| {
            strip(&open.repeat(n), PLAIN);
        });
        for close in ["}}", "]]", "|}", "</ref>", "\n|}", "}", "x]"] {
            assert_linear(&format!("{open} {close}"), 20_000, &|n| {
                strip(&(open.repeat(n) + &close.repeat(n)), PLAIN);
            });
        }
    }
    let nested = |n: usize| format!("{}{}", "[[a|yyyy ".repeat(n), "]]".repeat(n));
    assert_linear("links in links", 20_000, &|n| {
        strip(&nested(n), PLAIN);
    });
    assert_eq!(strip(&"{{".repeat(1_000_000), PLAIN), "");
}

/// A dump as MediaWiki writes it.
fn xml(pages: &[(&str, &str, &str)]) -> String {
    let mut xml = "<mediawiki>\n  <siteinfo>\n  </siteinfo>\n".to_string();
    for (i, (title, namespace, text)) in pages.iter().enumerate() {
        let redirect =
            if text.starts_with("#REDIRECT") { "    <redirect title=\"x\" />\n" } else { "" };
        write!(
            xml,
            "  <page>\n    <title>{title}</title>\n    <ns>{namespace}</ns>\n    <id>{}</id>\n{redirect}\
             \x20   <revision>\n      <id>9</id>\n      <timestamp>2022-07-01T00:00:00Z</timestamp>\n\
             \x20     <text bytes=\"1\" xml:space=\"preserve\">{text}</text>\n    </revision>\n  </page>\n",
            i + 1
        )
        .unwrap();
    }
    xml + "</mediawiki>\n"
}

const PAGES: [(&str, &str, &str); 4] = [
    (
        "Пловдив &amp; край",
        "0",
        "'''Пловдив''' е [[град]] &lt;ref&gt;x&lt;/ref&gt;&amp;nbsp;тук.\n\n== История ==\nдвор",
    ),
    ("Беседа:Пловдив", "1", "разговор"),
    ("Филибе", "0", "#REDIRECT [[Пловдив]]"),
    ("Празна", "0", "{{мъниче}}"),
];

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut packed = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

fn write(dir: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn read_wiki(path: &Path) -> (Vec<Document>, Counts) {
    let (found, counts) = read(&Source::Wikipedia(Options::default()), &[path.to_path_buf()]);
    (kept(&found).into_iter().cloned().collect(), counts)
}

#[test]
fn a_dump_gives_the_same_articles_in_every_packing() {
    let dir = tempfile::tempdir().unwrap();
    let xml = xml(&PAGES);
    let cut = xml.find("  <page>").unwrap();
    let streams = [bzip2(&xml.as_bytes()[..cut]), bzip2(&xml.as_bytes()[cut..])].concat();
    let utf16 = |big: bool| -> Vec<u8> {
        let unit = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
        "\u{FEFF}𝄞\n".encode_utf16().chain(xml.encode_utf16()).flat_map(unit).collect()
    };
    let files = [
        write(&dir, "bgwiki-1.xml", xml.as_bytes()),
        write(&dir, "bgwiki-2.xml.bz2", &bzip2(xml.as_bytes())),
        write(&dir, "bgwiki-3-multistream.xml.bz2", &streams),
        write(&dir, "bgwiki-4.xml", &utf16(false)),
        write(&dir, "bgwiki-5.xml.bz2", &bzip2(&utf16(true))),
        write(&dir, "bgwiki-6.xml.zst", &zstd::encode_all(xml.as_bytes(), 1).unwrap()),
    ];
    for path in files {
        let (documents, counts) = read_wiki(&path);
        assert_eq!(documents.len(), 1, "{}: {counts:?}", path.display());
        let article = &documents[0];
        assert_eq!(
            article.text,
            "Пловдив е град \u{a0}тук.\n\nИстория\nдвор",
            "{}",
            path.display()
        );
        assert_eq!((&*article.source, &*article.id), ("wikipedia/bg", "1"));
        assert_eq!(article.meta["title"], "Пловдив & край");
        let url = article.meta["url"].as_str().unwrap();
        assert!(url.starts_with("https://bg.wikipedia.org/wiki/%D0%9F%D0%BB"), "{url}");
        let dropped = |rule: &str| counts.rules[rule].dropped.documents;
        assert_eq!((dropped("namespace"), dropped("redirect"), dropped("characters")), (1, 1, 1));
        assert!(counts.damage.is_empty(), "{:?}", counts.damage);
    }
}

#[test]
fn a_multistream_dump_is_divided_between_its_streams() {
    let dir = tempfile::tempdir().unwrap();
    let page = |i: usize| (format!("T{i}"), format!("text {i}"));
    let pages: Vec<_> = (0..9).map(page).collect();
    let mut bytes = bzip2(b"<mediawiki>\n");
    for (title, text) in &pages {
        let xml = xml(&[(title, "0", text)]);
        let start = xml.find("  <page>").unwrap();
        bytes.extend(bzip2(&xml.as_bytes()[start..xml.len() - "</mediawiki>\n".len()]));
    }
    let path = write(&dir, "enwiki.xml.bz2", &bytes);
    let source = Source::Wikipedia(Options::default());
    let shards = source.shards(std::slice::from_ref(&path), 200).unwrap();
    assert!(shards.len() > 3, "{} shards", shards.len());
    let ends: Vec<_> = shards.iter().map(|s| (s.pieces[0].start, s.pieces[0].end)).collect();
    assert!(ends.windows(2).all(|pair| pair[0].1 == pair[1].0), "{ends:?}");
    assert_eq!((ends[0].0, ends.last().unwrap().1), (0, bytes.len() as u64));
    let (documents, _) = read_wiki(&path);
    let texts: Vec<_> = documents.iter().map(|d| d.text.clone()).collect();
    assert_eq!(texts, pages.iter().map(|(_, text)| text.clone()).collect::<Vec<_>>());
}

#[test]
fn a_bad_block_costs_its_stream_and_a_broken_tail_its_page() {
    let dir = tempfile::tempdir().unwrap();
    let one = |title: &str| {
        let xml = xml(&[(title, "0", title)]);
        bzip2(&xml.as_bytes()[xml.find("  <page>").unwrap()..])
    };
    let mut bad = one("second");
    let middle = bad.len() / 2;
    bad[middle] ^= 0xFF;
    let path = write(&dir, "enwiki.xml.bz2", &[one("first"), bad, one("third")].concat());
    let (documents, counts) = read_wiki(&path);
    let texts: Vec<_> = documents.iter().map(|d| &*d.text).collect();
    assert_eq!((texts, counts.damaged["unreadable"]), (vec!["first", "third"], 1));

    let whole = xml(&[("a", "0", "one"), ("b", "0", "two"), ("c", "0", "three")]);
    let torn = whole.find("two").unwrap();
    let path = write(&dir, "frwiki.xml", &whole.as_bytes()[..torn]);
    let (documents, counts) = read_wiki(&path);
    assert_eq!((documents.len(), counts.damaged["broken_page"]), (1, 1));

    let hole = [&whole[..torn], "\n", &whole[whole.rfind("  <page>").unwrap()..]].concat();
    let path = write(&dir, "dewiki.xml", hole.as_bytes());
    let (documents, counts) = read_wiki(&path);
    let texts: Vec<_> = documents.iter().map(|d| &*d.text).collect();
    assert_eq!((texts, counts.damaged["broken_page"]), (vec!["one", "three"], 1));

    let packed = bzip2(whole.as_bytes());
    let path = write(&dir, "itwiki.xml.bz2", &packed[..packed.len() / 2]);
    let (_, counts) = read_wiki(&path);
    assert_eq!(counts.damaged["unreadable"], 1);
}

#[test]
fn languages_that_the_paper_leaves_out_are_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(&dir, "eowiki.xml", xml(&[("a", "0", "b")]).as_bytes());
    let (documents, counts) = read_wiki(&path);
    assert_eq!((documents.len(), counts.rules["language"].dropped.documents), (0, 1));
}
