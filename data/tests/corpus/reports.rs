use data::corpus::{Options, Source, Stats, Summary, dedup, documents, explain, run};

use crate::{lines, write};

fn report(options: &Options) -> (Summary, String) {
    let summary = run(options, &Default::default(), &mut |_| {}).unwrap();
    let page = std::fs::read_to_string(&summary.report).unwrap();
    (summary, page)
}

fn documents_of(folder: &std::path::Path, lines: &str) -> Options {
    let input = write(folder, "a.jsonl", lines.as_bytes());
    let source = Source::Documents(documents::Options::default());
    Options::new(source, vec![input], folder.join("out"))
}

#[test]
fn a_page_says_what_became_of_the_documents_and_asks_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let text =
        lines(0, 1234) + "{\"text\":\"<script>alert('&')</script>\",\"id\":\"<b>\"}\nnot json\n";
    let (summary, page) = report(&documents_of(dir.path(), &text));
    assert_eq!(summary.counts.kept.documents, 1235);
    for part in ["<b>1,235</b>documents", "<svg", "not_a_document", "a.jsonl: byte", "shard_bytes"]
    {
        assert!(page.contains(part), "no {part}");
    }
    for part in ["<script", "href=", "src=", "@import", "url("] {
        assert!(!page.contains(part), "{part}");
    }
    let json = std::fs::read(dir.path().join("out/report.json")).unwrap();
    let stats: Stats = serde_json::from_slice(&json).unwrap();
    assert_eq!(stats.counts, summary.counts);
    assert_eq!(stats.kept_lengths.0.iter().sum::<u64>(), 1235);
    assert_eq!(stats.samples[""].len(), 5);
}

#[test]
fn an_empty_input_has_a_page_too() {
    let dir = tempfile::tempdir().unwrap();
    let (summary, page) = report(&documents_of(dir.path(), "\n"));
    assert!(summary.complete && page.contains("<b>0</b>kept") && page.contains("<svg"));
}

#[test]
fn a_document_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let text = lines(0, 20) + &lines(3, 1).replace("\"3\"", "\"copy\"");
    let input = write(dir.path(), "a.jsonl", text.as_bytes());
    let options = dedup::Options::new(vec![input], dir.path().join("out"));
    dedup::run(&options, &Default::default(), &mut |_| {}).unwrap();
    for id in ["copy", "made/copy"] {
        let found = explain(&options.out, id).unwrap();
        let text = found.iter().map(ToString::to_string).collect::<String>();
        assert!(text.contains("made copy: dropped, in "), "{text}");
        assert!(text.contains("exact_duplicate: dropped (1, threshold 1)"), "{text}");
        assert!(text.contains("duplicate_of: \"made/3\""), "{text}");
    }
    assert!(explain(&options.out, "3").unwrap()[0].to_string().contains("made 3: kept"));
    let error = explain(&options.out, "nobody").unwrap_err().to_string();
    assert!(error.contains("no document nobody; give an id"), "{error}");
}
