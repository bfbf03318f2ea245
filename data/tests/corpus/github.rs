//! GitHub: licences, headers, shapes of files, checkouts and rows.

use std::path::Path;

use data::corpus::Source;
use data::corpus::github::{Options, Shape, header, licence, redpajama};

use crate::sources::{assert_linear, kept, read};

const MIT: &str = "The MIT License\n\nCopyright (c) 2020 Some One\n\nPermission is hereby granted, \
free of charge, to any person obtaining a copy\nof this software and associated documentation files \
(the \"Software\"), to deal\nin the Software without restriction, including without limitation the \
rights\n...\nThe above copyright notice and this permission notice shall be included in all\ncopies \
or substantial portions of the Software.\n";
const BSD: &str = "Redistribution and use in source and binary forms, with or without\nmodification, \
are permitted provided that the following conditions are met:\n1. ...\n";
const GPL: &str = "GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007\n";

#[test]
fn licences_are_told_by_their_words() {
    let name = |text: &str| licence::detect(text).map(licence::Licence::spdx);
    let clause = "Neither the name of X nor the names of its contributors may be used to endorse or \
                  promote products derived\n * from this software without permission.";
    assert_eq!(name(MIT), Some("MIT"));
    assert_eq!(name(&MIT.replace('\n', "\n// ")), Some("MIT"));
    assert_eq!(name(BSD), Some("BSD-2-Clause"));
    assert_eq!(name(&format!("{BSD}{clause}")), Some("BSD-3-Clause"));
    assert_eq!(name("   Apache License\n   Version 2.0, January 2004\n"), Some("Apache-2.0"));
    assert_eq!(name(GPL), None);
    assert_eq!(name(&format!("{MIT}\n{GPL}")), None);
    assert_eq!(name(&format!("{BSD} All advertising materials mentioning features")), None);
    assert_eq!(name("Copyright me. All rights reserved."), None);
    for file in ["LICENSE", "license.md", "LICENCE.txt", "COPYING", "LICENSE-MIT", "MIT-LICENSE"] {
        assert!(licence::is_licence_file(file), "{file}");
    }
    assert!(licence::is_licence_file("LICENSE-APACHE-2.0"));
    for file in ["licenses.rs", "license_test.go", "main.c", "relicense"] {
        assert!(!licence::is_licence_file(file), "{file}");
    }
}

#[test]
fn headers_go_and_what_must_stay_stays() {
    let cases = [
        (
            "a.c",
            "/* Copyright X\n * BSD */\n\n#include <a.h>\nint a;\n",
            "#include <a.h>\nint a;\n",
        ),
        ("a.c", "#include <a.h>\n/* Copyright X */\n", "#include <a.h>\n/* Copyright X */\n"),
        ("a.c", "/* What this does. */\nint a;\n", "/* What this does. */\nint a;\n"),
        (
            "a.py",
            "#!/usr/bin/env python\n# -*- coding: utf-8 -*-\n#\n# Copyright X\n\nimport a\n",
            "#!/usr/bin/env python\n# -*- coding: utf-8 -*-\nimport a\n",
        ),
        ("a.py", "# Licensed under the MIT license\n\"\"\"Copyright Y\"\"\"\nx = 1\n", "x = 1\n"),
        ("a.py", "# reads license keys\nx = 1\n", "# reads license keys\nx = 1\n"),
        ("a.rs", "// Copyright X\n// more\n//! Docs.\nfn a() {}\n", "//! Docs.\nfn a() {}\n"),
        ("a.md", "# Copyright\ntext\n", "# Copyright\ntext\n"),
        ("a.md", "<!-- Copyright -->\n# Title\n", "# Title\n"),
        ("a.php", "<?php\n/** Copyright X */\n\necho 1;\n", "<?php\necho 1;\n"),
        (
            "a.html",
            "<!DOCTYPE html>\n<!-- Licensed under the X -->\n<p>\n",
            "<!DOCTYPE html>\n<p>\n",
        ),
        ("a.lua", "-- Copyright X\nlocal a\n", "local a\n"),
        ("a.sql", "/* unclosed copyright\nselect 1", "/* unclosed copyright\nselect 1"),
        ("a.go", "// Copyright X\r\n\r\npackage a\r\n", "package a\r\n"),
        ("Makefile", "# Copyright X\nall:\n\ta\n", "all:\n\ta\n"),
        ("a.js", "", ""),
        ("a.js", "// Copyright", ""),
    ];
    for (path, text, expected) in cases {
        assert_eq!(header::cut(text, path), expected, "{path}: {text}");
    }
}

#[test]
fn redpajama_eats_includes_and_shebangs() {
    assert_eq!(redpajama::cut_header("#!/bin/sh\n# x\n\necho\n"), "echo\n");
    assert_eq!(redpajama::cut_header("#include <a.h>\nint a;"), "int a;");
    assert_eq!(redpajama::cut_header("# only\n#x"), "");
    assert_eq!(
        redpajama::cut_header("int a; /* CopyRight */ int b; /* copyright */"),
        "int a;  int b; /* copyright */"
    );
    assert_eq!(redpajama::cut_header("# copyright\n/* x */ a"), "# copyright\n/* x */ a");
    assert_eq!(redpajama::cut_header("# a\n/* never ends"), "/* never ends");
}

#[test]
fn shapes_are_those_of_pythons_splitlines_and_isalnum() {
    let shape = Shape::of("аб1\r\n_ \x0cлонг\u{2028}x\n\n");
    assert_eq!((shape.lines, shape.longest_line, shape.chars), (5, 4, 16));
    assert_eq!((shape.alphanumeric, shape.letters), (8, 7));
    assert_eq!(Shape::of(""), Shape::default());
    assert_eq!(Shape::of("a").mean_line(), 1.0);
}

fn write(folder: &Path, name: &str, text: impl AsRef<[u8]>) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[test]
fn checkouts_are_kept_by_licence_and_files_by_shape() {
    let dir = tempfile::tempdir().unwrap();
    let (mit, gpl) = (dir.path().join("mit"), dir.path().join("owner/gpl"));
    write(&mit, "LICENSE", MIT);
    write(&mit, "src/a.rs", "// Copyright X\nfn a() { println!(\"здравей\"); }\n");
    write(&mit, "src/long.rs", "a".repeat(1001));
    write(&mit, "src/signs.rs", "+-*/".repeat(20));
    write(&mit, "data.bin", [0xFF, 0xFE]);
    write(&mit, "src/latin.c", b"caf\xe9");
    write(&mit, ".git/HEAD", "x");
    write(&mit, "vendor/gpl/COPYING", GPL);
    write(&mit, "vendor/gpl/b.rs", "fn b() {}\n");
    write(&gpl, "COPYING", GPL);
    write(&gpl, "c.rs", "fn c() {}\n");
    let (found, counts) = read(&Source::Github(Options::default()), &[dir.path().to_path_buf()]);
    let documents = kept(&found);
    assert_eq!(documents.len(), 1, "{found:?}");
    assert_eq!(documents[0].id, "mit/src/a.rs");
    assert_eq!(documents[0].text, "fn a() { println!(\"здравей\"); }\n");
    assert_eq!(documents[0].meta["licence"], "MIT");
    let dropped = |rule: &str| counts.rules[rule].dropped.documents;
    assert_eq!((dropped("licence"), dropped("suffix")), (2, 1));
    assert_eq!((dropped("longest_line"), dropped("alphanumeric")), (1, 1));
    assert_eq!(counts.damaged["not_utf8"], 1);
}

#[test]
fn rows_of_bigquery_are_files_too() {
    let dir = tempfile::tempdir().unwrap();
    let rows = "{\"content\":\"int a;\\n\",\"path\":\"a.c\",\"repo_name\":\"o/n\",\"license\":\"bsd-3-clause\"}\n\
                {\"content\":\"int a;\\n\",\"path\":\"a.c\",\"repo_name\":\"o/g\",\"license\":\"gpl-2.0\"}\n\
                {\"path\":\"a.c\"}\n";
    write(dir.path(), "github_1.jsonl", rows);
    let path = dir.path().join("github_1.jsonl");
    let (found, counts) = read(&Source::Github(Options::default()), &[path]);
    let documents = kept(&found);
    assert_eq!((documents.len(), &*documents[0].id), (1, "o/n/a.c"));
    assert_eq!(found[0].0.meta["content_hash"], found[1].0.meta["content_hash"]);
    assert_eq!(counts.damaged["not_a_row"], 1);
}

#[test]
fn hostile_files_take_linear_time() {
    for part in ["/*", "//\n", "# copyright\n", "/* copyright */", "\n", "<!--", "\"\"\""] {
        for path in ["a.c", "a.py", "a.html"] {
            assert_linear(part, 50_000, &|n| {
                header::cut(&part.repeat(n), path);
                redpajama::cut_header(&part.repeat(n));
            });
        }
    }
}
