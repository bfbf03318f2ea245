//! arXiv: archives, files in files, macros, cuts.

use std::io::Write as _;

use data::corpus::Source;
use data::corpus::arxiv::{Options, Submission, document, redpajama};

use crate::sources::{assert_linear, kept, read};

fn files(files: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    files.iter().map(|(name, text)| (name.to_string(), text.as_bytes().to_vec())).collect()
}

/// The text of a submission of these files.
fn clean(files_: &[(&str, &str)]) -> String {
    let submission =
        Submission { id: "2301.00001".into(), month: "2301".into(), files: files(files_) };
    let (document, trail) = document(submission, &Options::default());
    assert!(trail.dropped().is_none(), "{trail:?}");
    document.text
}

/// A body as it is after its preamble and a heading.
fn body(preamble: &str, text: &str) -> String {
    let tex = format!(
        "\\documentclass{{article}}\n{preamble}\n\\begin{{document}}\n\\section{{S}}\n{text}\n\\end{{document}}\n"
    );
    let clean = clean(&[("main.tex", &tex)]);
    clean.strip_prefix("\\section{S}").unwrap().trim().to_string()
}

#[test]
fn the_front_and_the_bibliography_go() {
    let tex = "\\documentclass{article}\n\\title{T}\n\\begin{document}\n\\maketitle\nabstract\n\
               \\section*{Увод}\ntext \\cite{a}\n\\begin{thebibliography}{9}\n\\bibitem{a} b\n\
               \\end{thebibliography}\n\\appendix\n\\section{A}\nmore\n\\bibliographystyle{x}\n\
               \\bibliography{refs}\n\\end{document}\nafter";
    let text = clean(&[("main.tex", tex)]);
    assert_eq!(text, "\\section*{Увод}\ntext \\cite{a}\n\n\\appendix\n\\section{A}\nmore");
    assert_eq!(
        clean(&[("a.tex", "\\begin{document}\n\\maketitle\nletter\n\\end{document}")]),
        "letter"
    );
}

#[test]
fn comments_go_as_tex_reads_them() {
    assert_eq!(body("", "a % b\nc"), "a\nc");
    assert_eq!(body("", "a% b\n  c"), "ac");
    assert_eq!(body("", "a\n  % b\nc"), "a\nc");
    assert_eq!(body("", "a%\n\nb"), "a\n\nb");
    assert_eq!(body("", "100\\% b \\\\% c\nd"), "100\\% b \\\\d");
    assert_eq!(
        body("", "\\url{http://a%20b} \\href{x%y}{z}"),
        "\\url{http://a%20b} \\href{x%y}{z}"
    );
    assert_eq!(body("", "a\\iffalse b \\ifx c \\fi d\\fi e"), "a e");
    assert_eq!(body("", "a\\begin{comment}b\\end{comment}c"), "ac");
}

#[test]
fn verbatim_is_left_alone() {
    let text = "\\verb|% \\x| \\verb*+\\x+\n\\begin{verbatim}\n% \\x \\section{no}\n\\end{verbatim}\n\
                \\begin{lstlisting}[language=C]\n#include <a> % \\x\n\\end{lstlisting}";
    assert_eq!(body("\\newcommand{\\x}{y}", text), text);
}

#[test]
fn macros_are_expanded_with_their_arguments() {
    let cases = [
        (
            "\\newcommand{\\R}{\\mathbb{R}}",
            "$x\\in\\R$, $\\R^n$",
            "$x\\in\\mathbb{R}$, $\\mathbb{R}^n$",
        ),
        ("\\newcommand\\abs[1]{|#1|}", "\\abs{a+\\abs{b}} \\abs c", "|a+|b|| |c|"),
        ("\\newcommand{\\pair}[2][0]{(#1,#2)}", "\\pair{a} \\pair[b]{c}", "(0,a) (b,c)"),
        ("\\def\\f#1#2{#2#1}", "\\f{a}{b} \\f\\alpha b", "ba b\\alpha"),
        ("\\def\\a{\\alpha}", "\\a b \\a{}c \\a1", "\\alpha b \\alpha{}c \\alpha1"),
        ("\\newcommand{\\x}{y\\xspace}", "a \\x b, \\x.", "a y b, y."),
        ("\\newcommand{\\b}[1]{\\mathbf#1}", "\\b{x}", "\\mathbf x"),
        ("\\newcommand{\\v}{ab}", "\\hat\\v \\frac\\v2", "\\hat{ab}\\frac{ab}2"),
        ("\\let\\eps=\\varepsilon\n\\let\\e\\eps", "\\e", "\\varepsilon"),
        (
            "\\DeclareMathOperator{\\Hom}{Hom}\n\\DeclareMathOperator*{\\am}{arg\\,min}",
            "\\Hom(a) \\am",
            "\\operatorname{Hom}(a) \\operatorname*{arg\\,min}",
        ),
        (
            "\\newenvironment{pf}[1]{\\textbf{Proof of #1}}{\\qed}",
            "\\begin{pf}{X}a\\end{pf}",
            "\\textbf{Proof of X}a\\qed",
        ),
        ("\\newcommand{\\a}{1}\n\\renewcommand{\\a}{2}\n\\providecommand{\\a}{3}", "\\a", "2"),
        (
            "\\makeatletter\n\\def\\my@x{z}\n\\newcommand{\\x}{\\my@x}\n\\makeatother",
            "\\x @a",
            "z@a",
        ),
        ("\\newcommand{\\ц}{x}\n\\newcommand{\\t}{тест}", "\\t", "тест"),
        ("\\long\\def\\x#1{[#1]}", "\\x{a}", "[a]"),
    ];
    for (preamble, text, expected) in cases {
        assert_eq!(body(preamble, text), expected, "{preamble}");
    }
    assert_eq!(body("", "a\n\\newcommand{\\x}{y}\n\\x\n\\renewcommand{\\x}{z}\\x"), "a\ny\nz");
}

#[test]
fn programs_are_left_as_they_are_written() {
    let preamble = "\\makeatletter\n\\def\\p#1{\\@ifnextchar\\bgroup{\\q{#1}}{#1}}\n\\makeatother\n\
                    \\newcommand{\\q}[1]{\\ifx#1a\\else b\\fi}\n\\def\\d#1;{<#1>}\n\
                    \\renewcommand{\\section}{\\bf}";
    let text = "\\p{a} \\q{b} \\d c; \\subsection{d}";
    assert_eq!(body(preamble, text), text);
}

#[test]
fn no_macro_runs_away() {
    assert_eq!(body("\\def\\x{a\\x\\x}", "\\x"), "a\\x\\x");
    assert_eq!(body("\\def\\x{\\y}\n\\def\\y{\\x}", "\\x"), "\\x");
    assert_eq!(body("\\def\\x#1{\\x{#1#1}}", "\\x{a}"), "\\x{aa}");
    let deep = format!("{}a{}", "\\x{".repeat(500), "}".repeat(500));
    assert!(body("\\def\\x#1{(#1)}", &deep).starts_with("((((("));

    let name = |i: usize| char::from(b'a' + i as u8);
    let chain: String = (0..25)
        .map(|i| format!("\\def\\z{}{{\\z{1}{{}}\\z{1}{{}}}}\n", name(i), name(i + 1)))
        .collect();
    let tex = format!("{chain}\\def\\zz{{long}}\n\\section{{S}}\n\\za\n");
    let options = Options { max_bytes: 1 << 20, ..Options::default() };
    let submission = Submission { files: files(&[("a.tex", &tex)]), ..Submission::default() };
    let (_, trail) = document(submission.clone(), &options);
    assert_eq!(trail.dropped().unwrap().rule(), "expanded_bytes");
    let (_, trail) = document(submission, &Options { redpajama: true, ..options });
    assert_eq!(trail.dropped().unwrap().rule(), "macros");
}

#[test]
fn files_in_files_are_followed() {
    let main = "\\documentclass{article}\n\\input macros\n\\begin{document}\n\\input{./sec/one}\n\
                \\include{two}\n% \\input{no}\n\\input{missing}\n\\end{document}";
    let all = [
        ("two.tex", "\\x two \\input{main}\\endinput lost"),
        ("sec/one.tex", "\\section{One}\n\\input{inner}\n"),
        ("sec/inner.tex", "inner"),
        ("macros.tex", "\\def\\x{X}\n"),
        ("unused.tex", "\\section{Unused}"),
        ("main.tex", main),
    ];
    assert_eq!(clean(&all), "\\section{One}\ninner\n\nXtwo \\input{main}\n\\input{missing}");
    let loops = [("a.tex", "\\section{A}\\input{b}"), ("b.tex", "\\input{a}b")];
    assert!(clean(&loops).contains("\\section{A}"));
}

#[test]
fn old_encodings_are_read_as_the_preamble_names_them() {
    let tex = |name: &str, word: &[u8]| {
        [format!("\\usepackage[{name}]{{inputenc}}\n\\section{{").as_bytes(), word, b"}"].concat()
    };
    for (name, word, expected) in [
        ("cp1251", &b"\xc2\xfa\xe2\xe5\xe4\xe5\xed\xe8\xe5"[..], "Въведение"),
        ("koi8-u", b"\xf7\xd3\xd4\xd5\xd0 \xa6 \xa7", "Вступ і ї"),
        ("latin2", b"\xa9ta \xe6", "Šta ć"),
        ("cp1250", b"Introducere \xbaapte", "Introducere şapte"),
        ("whatever", b"na\xefve", "naïve"),
    ] {
        let files = vec![("a.tex".to_string(), tex(name, word))];
        let (document, _) =
            document(Submission { files, ..Submission::default() }, &Options::default());
        assert_eq!(document.text, format!("\\section{{{expected}}}"), "{name}");
    }
}

#[test]
fn redpajamas_slips_are_kept() {
    let clean = |texts: &[&str]| redpajama::clean(texts.iter().copied(), 1 << 20);
    let one = |text: &str| clean(&[text]).unwrap();
    assert_eq!(one("a \\section{b} c% d\ne%\n% f\ng\\%h\n"), "\\section{b} \ne%\ng\\%h\n");
    assert_eq!(one("a \\paragraph{b} c"), "");
    assert_eq!(one("a \\paragraph{b} {c}\\subparagraph{d}"), "\\paragraph{b} {c}\\subparagraph{d}");
    assert_eq!(one("\\section[a]{b}c\\appendix d"), "\\section[a]{b}c");
    assert_eq!(one("\\section{b}c\\bibliography{d}e"), "\\section{b}c");
    assert_eq!(
        one("\\newcommand{\\x}{y}\n\\section{b}\\x\\x \\xx \\x1 \\x"),
        "\\section{b}y\\x \\xx \\x1 \\x"
    );
    assert_eq!(one("\\def\\x {y{z}}\n\\section{b}\\x."), "\\section{b}y{z}.");
    assert_eq!(one("\\newcommand{\\x}[1]{y}\n\\section{b}\\x."), "\\section{b}\\x.");
    assert_eq!(
        clean(&["\\section{a}", "none", "\\section{b}"]).unwrap(),
        "\\section{a}\n\n\\section{b}"
    );
    let accent = clean(&["\\def\\x{é}\n\\section{b}"]);
    assert_eq!(accent, Err(redpajama::Failure::NotAscii));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

fn tar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append_data(&mut header, name, *bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

#[test]
fn archives_are_read_and_damage_is_that_of_its_submission() {
    let dir = tempfile::tempdir().unwrap();
    let many = gzip(&tar_of(&[("fig.png", &[0; 5000]), ("a.tex", b"\\section{Many}")]));
    let single = gzip(b"\\section{One}");
    let torn = &many[..many.len() / 2];
    let bomb = gzip(&tar_of(&[("zeros.bin", &vec![0; 3 << 20])]));
    let month = tar_of(&[
        ("2301/2301.00001.gz", &many),
        ("2301/math0301002.gz", &single),
        ("2301/2301.00003.gz", torn),
        ("2301/2301.00004.pdf", b"%PDF"),
        ("2301/2301.00005.gz", &bomb),
        ("2301/2301.00006.gz", &gzip(b"%PDF-1.4 x")),
        ("2301/2301.00007.gz", b"no gzip"),
    ]);
    let path = dir.path().join("arXiv_src_2301_001.tar");
    std::fs::write(&path, &month).unwrap();
    let options = Options { max_unpacked: 1 << 20, ..Options::default() };
    let (found, counts) = read(&Source::Arxiv(options.clone()), std::slice::from_ref(&path));
    let kept: Vec<_> = kept(&found).iter().map(|d| (&*d.id, &*d.text)).collect();
    assert_eq!(kept, [("2301.00001", "\\section{Many}"), ("math/0301002", "\\section{One}")]);
    assert_eq!(found[0].0.meta["url"], "https://arxiv.org/abs/2301.00001");
    assert_eq!((counts.damaged["unreadable"], counts.damaged["too_long"]), (2, 1), "{counts:?}");
    assert_eq!(counts.rules["text"].dropped.documents, 1);

    std::fs::write(&path, &month[..month.len() / 2]).unwrap();
    let (found, counts) = read(&Source::Arxiv(options), &[path]);
    assert!(!found.is_empty() && counts.damaged["unreadable"] >= 1, "{counts:?}");
}

#[test]
fn hostile_tex_takes_linear_time() {
    for part in [
        "{",
        "\\x{",
        "\\x[",
        "%",
        "a%\n",
        "\\bibliography",
        "\\begin{verbatim}",
        "\\verb|",
        "\\url{",
        "\\iffalse ",
        "\\newcommand",
        "\\def\\a",
        "\\def\\a{",
        "\\newcommand{\\a}{",
        "\\def\\b#1{",
        "\\section[",
        "\\section{",
        "\\input{",
        "\\input ",
        "\\begin{thebibliography}",
        "\\",
        "#1",
        "\\let",
        "\\hat\\x",
        "\\y ",
        "aaaa",
        "}\\subparagraph",
    ] {
        let preamble = "\\documentclass{a}\\newcommand{\\x}[2][d]{#1}\\def\\y{z}\n\\section{S}\n";
        assert_linear(part, 20_000, &|n| {
            let tex = preamble.to_string() + &part.repeat(n);
            for redpajama in [false, true] {
                let files = files(&[("a.tex", &tex)]);
                let submission = Submission { files, ..Submission::default() };
                document(submission, &Options { redpajama, ..Options::default() });
            }
        });
    }
}
