//! Stack Exchange: rows, joins, scores, HTML.

use std::fmt::Write as _;
use std::path::PathBuf;

use data::corpus::stackexchange::{Options, Post, text};
use data::corpus::{Source, stackexchange};

use crate::sources::{kept, read};

/// A dump of rows in a folder named after its site.
fn site(dir: &tempfile::TempDir, name: &str, rows: &[&str]) -> PathBuf {
    let folder = dir.path().join(name);
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("Posts.xml");
    let mut xml = "\u{FEFF}<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<posts>\n".to_string();
    rows.iter().for_each(|row| writeln!(xml, "  {row}").unwrap());
    std::fs::write(&path, xml + "</posts>\n").unwrap();
    path
}

fn source(options: Options) -> Source {
    Source::Stackexchange(options)
}

const QUESTION: &str = r#"<row Id="1" PostTypeId="1" CreationDate="2015-01-27" Score="3" Body="&lt;p&gt;Как да меля кафе &amp;amp; вода?&lt;/p&gt;&#xA;" Title="Кафе &lt;new&gt;" />"#;
const NINE: &str = r#"<row Id="2" PostTypeId="2" ParentId="1" Score="9" Body="&lt;p&gt;дев'ять&lt;/p&gt;&#xA;" />"#;
const TEN: &str =
    r#"<row Id="3" PostTypeId="2" ParentId="1" Score="10" Body="&lt;p&gt;zece&lt;/p&gt;&#xA;" />"#;
const ALSO_TEN: &str =
    r#"<row Id="4" PostTypeId="2" ParentId="1" Score="10" Body="&lt;p&gt;десет&lt;/p&gt;&#xA;" />"#;
const MINUS: &str =
    r#"<row Id="5" PostTypeId="2" ParentId="1" Score="-2" Body="&lt;p&gt;&lt;/p&gt;&#xA;" />"#;

#[test]
fn answers_follow_by_score_and_equal_ones_by_id() {
    let dir = tempfile::tempdir().unwrap();
    let path = site(&dir, "coffee.stackexchange.com", &[QUESTION, MINUS, ALSO_TEN, NINE, TEN]);
    let (found, counts) = read(&source(Options::default()), &[path]);
    let documents = kept(&found);
    assert_eq!(
        documents[0].text,
        "Q: Кафе <new>\n\nКак да меля кафе & вода?\n\nA: zece\n\nA: десет\n\nA: дев'ять"
    );
    assert_eq!(documents[0].id, "coffee.stackexchange.com/1");
    assert_eq!(documents[0].meta["url"], "https://coffee.stackexchange.com/questions/1");
    assert_eq!((counts.kept.documents, counts.damage.len()), (1, 0));
}

#[test]
fn redpajama_sorts_scores_as_text_and_reads_titles_as_html() {
    let dir = tempfile::tempdir().unwrap();
    let path = site(&dir, "coffee", &[QUESTION, NINE, TEN, ALSO_TEN, MINUS]);
    let options = Options { scores_as_text: true, redpajama_layout: true, ..Options::default() };
    let (found, _) = read(&source(options), &[path]);
    assert_eq!(
        found[0].0.text,
        "Q: Кафе  Как да меля кафе & вода?\n\nA: дев'ять\n\nA: zece\n\nA: десет\n\nA: "
    );
}

#[test]
fn html_becomes_text() {
    let post = |body: &str| Post {
        id: 1,
        parent: None,
        score: 0,
        title: "t".into(),
        body: body.into(),
        date: String::new(),
    };
    let shown = |body| text(&post(body), &[], &Options::default());
    let cases = [
        ("<ul>\n<li>a</li>\n<li>b<br>c</li>\n</ul>\n", "* a\n* b\nc"),
        ("a<!-- <b>x --> b &lt;i&gt; &nbsp;&hellip; &bogus; &#x41;", "a b <i> \u{a0}… &bogus; A"),
        ("<script>if (a < b) { x }</script>y", "y"),
        ("<a href=\"x>y\" title='>'>link</a> 1 < 2 <3", "link 1 < 2 <3"),
        ("<pre><code>\n  a\n    b\n</code></pre>", "a\n    b"),
        ("end <b unclosed", "end"),
        ("a\r\nb", "a\nb"),
    ];
    for (html, expected) in cases {
        assert_eq!(shown(html), format!("Q: t\n\n{expected}"), "{html}");
    }
}

#[test]
fn what_is_no_question_is_counted_by_rule_and_broken_rows_cost_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let wiki = r#"<row Id="7" PostTypeId="5" Score="0" Body="" />"#;
    let orphan = r#"<row Id="8" PostTypeId="2" ParentId="99" Score="1" Body="x" />"#;
    let broken = [
        r#"<row Id="9" PostTypeId="1" Body="never ends"#,
        r#"<row Id="x" PostTypeId="1" Body="" />"#,
        r#"<row PostTypeId="1" Body="" />"#,
        "not a row",
    ];
    let mut rows = vec![QUESTION, wiki, orphan];
    rows.extend(broken);
    let path = site(&dir, "s", &rows);
    let (found, counts) = read(&source(Options::default()), &[path]);
    assert_eq!(kept(&found).len(), 1);
    assert_eq!(counts.rules["post_type"].dropped.documents, 1);
    assert_eq!(counts.rules["question"].dropped.documents, 1);
    assert_eq!(counts.damaged["broken_row"], 4);
    assert!(counts.damage[0].place.contains("Posts.xml: byte "), "{:?}", counts.damage[0]);
}

#[test]
fn the_largest_sites_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let few = site(&dir, "few", &[QUESTION]);
    let most = site(&dir, "most", &[QUESTION, NINE, TEN]);
    let more = site(&dir, "more", &[QUESTION, NINE]);
    let source = source(Options { sites: 2, ..Options::default() });
    let shards = source.shards(&[few, most.clone(), more.clone()], 1).unwrap();
    let names: Vec<_> = shards.iter().map(|shard| shard.pieces[0].path.clone()).collect();
    assert_eq!(names, [most, more]);
}

#[test]
fn options_are_checked() {
    let error = serde_json::from_str::<stackexchange::Options>("{\"site\": 3}").unwrap_err();
    assert!(error.to_string().contains("unknown field `site`"), "{error}");
}

#[test]
fn a_site_is_read_from_its_archive() {
    let dir = tempfile::tempdir().unwrap();
    let folder = site(&dir, "plain", &[QUESTION, NINE]).parent().unwrap().to_path_buf();
    std::fs::write(folder.join("Comments.xml"), "<comments>").unwrap();
    let path = dir.path().join("coffee.stackexchange.com.7z");
    sevenz_rust2::compress_to_path(&folder, &path).unwrap();
    let (found, counts) = read(&source(Options::default()), std::slice::from_ref(&path));
    assert_eq!(kept(&found)[0].id, "coffee.stackexchange.com/1");
    assert_eq!((counts.kept.documents, counts.damage.len()), (1, 0));
}
