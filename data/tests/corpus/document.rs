use data::corpus::{Document, Trail, Verdict};

use crate::read;

#[test]
fn a_document_survives_json() {
    let json = r#"{"text":"a\nb","source":"s","id":"1","meta":{"n":[1,2],"title":"T"}}"#;
    let document: Document = serde_json::from_str(json).unwrap();
    assert_eq!(document.text, "a\nb");
    assert_eq!(serde_json::to_string(&document).unwrap(), json);
}

#[test]
fn a_trail_survives_json_and_ends_where_the_document_is_dropped() {
    let mut trail = Trail::default();
    trail.cut("header", 0);
    trail.cut("header", 10);
    assert!(trail.at_most("longest_line", 80.0, 1000.0) && trail.dropped().is_none());
    assert!(!trail.at_least("length", 3.0, 300.0));
    let json = serde_json::to_string(&trail).unwrap();
    assert_eq!(
        json,
        r#"[{"said":"edited","rule":"header","cut":10},"#.to_string()
            + r#"{"said":"kept","rule":"longest_line","value":80.0,"threshold":1000.0},"#
            + r#"{"said":"dropped","rule":"length","value":3.0,"threshold":300.0}]"#
    );
    assert_eq!(serde_json::from_str::<Trail>(&json).unwrap(), trail);
    assert!(matches!(trail.dropped(), Some(Verdict::Dropped { .. })));
}

#[test]
fn fields_become_parts_of_a_document() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("site.jsonl");
    let lines = "{\"text\":\"one\",\"id\":7,\"meta\":{\"a\":1},\"b\":2}\n\n{\"text\":3}\nnot json\n\
                 {\"text\":\"two\",\"source\":\"x\",\"id\":\"k\"}";
    std::fs::write(&path, lines).unwrap();
    let (found, counts) = read(&[path]);
    let parts: Vec<_> = found.iter().map(|d| (&*d.text, &*d.source, &*d.id)).collect();
    assert_eq!(parts, [("one", "site", "7"), ("two", "x", "k")]);
    assert_eq!(serde_json::to_string(&found[0].meta).unwrap(), r#"{"a":1,"b":2}"#);
    assert_eq!((counts.kept.documents, counts.kept.bytes), (2, 6));
    assert_eq!(counts.damaged["not_a_document"], 2);
    assert!(counts.damage[0].place.ends_with("site.jsonl: byte 44"), "{:?}", counts.damage);
}
