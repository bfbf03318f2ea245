#!/usr/bin/env python3
"""Holds our sources of documents against other projects' scripts, run beside them on the same input.

    cargo build --release -p handgrad-data --features corpus --example documents
    agree.py stackexchange --anchor RedPajama-Data/data_prep shared/data/corpus/stackexchange/coffee.Posts.xml
    agree.py github        --anchor RedPajama-Data/data_prep --tokenizer tokenizer.json CHECKOUT..
    agree.py arxiv         --anchor RedPajama-Data/data_prep shared/data/corpus/arxiv/hott-book.tar.gz
    agree.py books         --anchor RedPajama-Data/data_prep shared/data/corpus/books/botchan.txt
    agree.py wikipedia     --anchor wikipedia.py shared/data/corpus/wikipedia/enwiki-shortened.xml.bz2

The anchors are the branch `rp_v1` of togethercomputer/RedPajama-Data and the script of the data set
`wikipedia` of Hugging Face; neither is part of this project. Python needs beautifulsoup4, lxml, simhash,
tokenizers, mwparserfromhell and rapidfuzz. Stand-ins, because the originals cannot be had here: every
language is `en` (for fastText's model), tokens are those of `--tokenizer` (for Pythia's).

Prints what agrees and what does not, as JSON; exit code 1 if a field that must agree does not.
"""

import argparse
import bz2
import gzip
import importlib.util
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree

FASTTEXT = """
class FastText: _FastText = None
class Model:
    def predict(self, text, k=1): return ["__label__en"], [1.0]
def load_model(path): return Model()
"""
TRANSFORMERS = """
import os, tokenizers
class AutoTokenizer:
    @staticmethod
    def from_pretrained(name):
        inner = tokenizers.Tokenizer.from_file(os.environ["AGREE_TOKENIZER"])
        class Tokenizer:
            def tokenize(self, text): return inner.encode(text, add_special_tokens=False).ids
        return Tokenizer()
"""


def ours(binary, source, options, inputs):
    """Documents that we keep, and all of them."""
    command = [binary, json.dumps({source: options}), *map(str, inputs)]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    lines = [json.loads(line) for line in out.splitlines()]
    dropped = lambda line: line["trail"] and line["trail"][-1]["said"] == "dropped"
    return [line["document"] for line in lines if not dropped(line)], lines


def anchor(script, folder, arguments=(), **environment):
    """Runs a script of the anchor's, with stand-ins for what cannot be had."""
    stubs = folder / "stubs"
    stubs.mkdir(exist_ok=True)
    (stubs / "fasttext.py").write_text(FASTTEXT)
    (stubs / "tqdm.py").write_text("def tqdm(items, **_): return items\n")
    (stubs / "transformers.py").write_text(TRANSFORMERS)
    paths = os.pathsep.join([str(stubs), str(script.parent)])
    environment = {**os.environ, "PYTHONPATH": paths, "SLURM_CPUS_PER_TASK": "3", **environment}
    command = [sys.executable, str(script), *map(str, arguments)]
    subprocess.run(command, check=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL)


def compare(theirs, ours, fields):
    """Counts records that differ, by field, and names the first."""
    result = {"theirs": len(theirs), "ours": len(ours), "differ": {}}
    for field in fields:
        differ = [a["key"] for a, b in zip(theirs, ours) if a[field] != b[field]]
        result["differ"][field] = len(differ)
        if differ:
            result.setdefault("first", {})[field] = differ[0]
    result["agree"] = len(theirs) == len(ours) and not any(result["differ"].values())
    return result


def stackexchange(args, folder):
    (folder / "data").mkdir()
    (folder / "src").mkdir()
    (folder / "src/stack_exchange").symlink_to(args.anchor.resolve() / "stack_exchange")
    inputs = []
    for path in args.inputs:
        site = path.name.removesuffix("Posts.xml").strip(".-_") or path.parent.name
        shutil.copy(path, folder / "data" / f"{site}.xml")
        inputs.append(path)
    directories = {"LEMMA_DATA_DIR_SE": str(folder / "data"), "LEMMA_DATA_DIR_SE_OUT": str(folder / "out")}
    for script in ["filter.py", "post_processing.py"]:
        anchor(args.anchor.resolve() / "stack_exchange" / script, folder, **directories)
    theirs = {}
    for path in sorted((folder / "out").iterdir()):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            theirs[record["meta"]["url"]] = record
    flat = lambda text, url, score: {"key": url, "text": text, "score": int(score)}
    theirs = [flat(r["text"], url, r["meta"]["question_score"]) for url, r in theirs.items()]
    quirks = {"scores_as_text": True, "redpajama_layout": True}
    kept, _ = ours(args.binary, "stackexchange", quirks, inputs)
    result = compare(theirs, [flat(d["text"], d["meta"]["url"], d["meta"]["score"]) for d in kept], ["key", "text", "score"])
    numbers, _ = ours(args.binary, "stackexchange", {**quirks, "scores_as_text": False}, inputs)
    result["other_order"] = sum(a["text"] != b["text"] for a, b in zip(kept, numbers))
    layout, _ = ours(args.binary, "stackexchange", {}, inputs)
    words = lambda text: re.sub(r"[\s*]+", " ", text).strip()
    result["other_words_in_our_layout"] = [
        a["id"] for a, b in zip(numbers, layout) if words(a["text"]) != words(b["text"])
    ]
    return result


def github(args, folder):
    rows = []
    for checkout in args.inputs:
        for path in sorted(checkout.rglob("*")):
            inner = path.relative_to(checkout)
            if not path.is_file() or path.is_symlink() or any(part.startswith(".") for part in inner.parts):
                continue
            try:
                content = path.read_bytes().decode("utf-8")
            except UnicodeDecodeError:
                continue
            rows.append({"content": content, "path": str(inner), "repo_name": checkout.name, "license": "mit"})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    with gzip.open(folder / "rows.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(lines)
    (folder / "list.txt").write_text(str(folder / "rows.jsonl.gz"))
    scripts = args.anchor.resolve() / "github"
    environment = {"AGREE_TOKENIZER": str(args.tokenizer.resolve())}
    anchor(scripts / "github_clean_dedup_local.py", folder, ["--input", folder / "list.txt", "--target_dir", folder])
    run = next(folder.glob("run_*.jsonl"))
    run.rename(folder / "deduped_0.jsonl")
    filter_ = ["--data_file", folder / "deduped_0.jsonl", "--target_dir", folder]
    anchor(scripts / "github_run_filter.py", folder, filter_, **environment)
    measures = ["line_count", "max_line_length", "avg_line_length", "alnum_prop"]
    flat = lambda text, path, meta: {"key": path, "text": text, **{name: meta[name] for name in measures}}
    with gzip.open(folder / "filtered_0.jsonl.gz", "rt", encoding="utf-8") as file:
        theirs = [json.loads(line) for line in file]
    theirs = [flat(r["text"], r["meta"]["path"], r["meta"]) for r in theirs]
    quirks = {"redpajama": True, "tokenizer": str(args.tokenizer)}
    _, lines = ours(args.binary, "github", quirks, [folder / "rows.jsonl.gz"])
    # The anchor's copies go before any rule but those on names that it skips.
    seen, first = set(), []
    for line in lines:
        meta = line["document"]["meta"]
        if meta["path"].endswith(".crt") or meta["path"] == "LICENSE" or meta["content_hash"] in seen:
            continue
        seen.add(meta["content_hash"])
        first.append(line)
    kept = [line["document"] for line in first if line["trail"][-1]["said"] != "dropped"]
    kept = [flat(d["text"], d["meta"]["path"], d["meta"]) for d in kept]
    result = {"files": len(rows), **compare(theirs, kept, ["key", "text", *measures])}
    paper, _ = ours(args.binary, "github", {}, [folder / "rows.jsonl.gz"])
    raw = {(row["repo_name"], row["path"]): row["content"] for row in rows}
    whole = lambda text: text.startswith("#!") or "#include" in text
    lost = lambda d, text: whole(raw[d["meta"]["project"], d["meta"]["path"]]) and not whole(text)
    theirs = {r["key"]: r["text"] for r in theirs}
    result["lost_includes_or_shebang_theirs"] = sum(lost(d, theirs.get(d["meta"]["path"], d["text"])) for d in paper)
    result["lost_includes_or_shebang_ours"] = sum(lost(d, d["text"]) for d in paper)
    result["cut_headers"] = sum(d["text"] != raw[d["meta"]["project"], d["meta"]["path"]] for d in paper)
    return result


def arxiv(args, folder):
    (folder / "in").mkdir()
    with tarfile.open(folder / "in/month.tar", "w") as tar:
        for i, path in enumerate(args.inputs):
            tar.add(path, f"2301/2301.{i:05}.gz")
    driver = folder / "driver.py"
    driver.write_text(
        "import pathlib, sys\nsys.path.insert(0, sys.argv[1])\nimport arxiv_cleaner\n"
        "arxiv_cleaner.ArxivCleaner(*map(pathlib.Path, sys.argv[2:5])).run()\n"
    )
    scripts = args.anchor.resolve() / "arxiv"
    anchor(driver, folder, [scripts, folder / "in", folder / "work", folder / "out"])
    theirs = [json.loads(line) for line in (folder / "out/arxiv.jsonl").read_text().splitlines()]
    flat = lambda text, meta: {"key": meta["url"], "text": text, "yymm": meta["yymm"]}
    theirs = sorted((flat(r["text"], r["meta"]) for r in theirs), key=lambda r: r["key"])
    kept, _ = ours(args.binary, "arxiv", {"redpajama": True}, [folder / "in/month.tar"])
    result = compare(theirs, [flat(d["text"], d["meta"]) for d in kept], ["key", "text", "yymm"])
    paper, lines = ours(args.binary, "arxiv", {}, [folder / "in/month.tar"])
    defined = re.compile(r"\\(?:re|provide)?newcommand\*?\s*\{?\\([A-Za-z]+)|\\def\s*\\([A-Za-z]+)")
    result["papers"] = []
    for document, other in zip(paper, theirs):
        meta = document["meta"]
        result["papers"].append({
            "id": document["id"],
            "characters": [len(other["text"]), len(document["text"])],
            "definitions_left": [len(defined.findall(t)) for t in (other["text"], document["text"])],
            "comments_left": [len(re.findall(r"(?<!\\)%", t)) for t in (other["text"], document["text"])],
            **{name: meta[name] for name in ("files", "files_read", "macros_expanded", "macros_kept")},
        })
    return result


def books(args, folder):
    """Books with known overlaps, made of the given ones, through RedPajama's hashes."""
    spec = importlib.util.spec_from_file_location("dedup", args.anchor / "book/dedup.py")
    dedup = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(dedup)
    kept, _ = ours(args.binary, "books", {}, args.inputs)
    chance = random.Random(1)
    for document in kept:
        words = document["text"].split(" ")
        for share in (100, 99, 91, 89, 80, 50):
            mixed = [w if chance.random() * 100 < share else chance.choice(words) for w in words]
            (folder / f"{document['id']}-{share:03}.txt").write_text(" ".join(mixed))
    inputs = sorted(folder.glob("*.txt"))
    made, _ = ours(args.binary, "books", {"simhash": True, "cut_gutenberg": False}, inputs)
    hashes = [(str(i), dedup.Simhash(dedup.get_features(d["text"]))) for i, d in enumerate(made)]
    theirs = [{"key": d["id"], "simhash": f"{h.value:016x}"} for d, (_, h) in zip(made, hashes)]
    result = compare(theirs, [{"key": d["id"], "simhash": d["meta"]["simhash"]} for d in made], ["key", "simhash"])
    from simhash import SimhashIndex

    verdicts = dedup.find_match((hashes, SimhashIndex(hashes, k=5)))
    result["they_keep"] = [d["id"] for i, d in enumerate(made) if verdicts[str(i)] == 1]
    return result


def wikipedia(args, folder):
    import mwparserfromhell
    from rapidfuzz.distance import Levenshtein

    spec = importlib.util.spec_from_file_location("anchor", args.anchor)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    result = {"articles": 0, "equal": 0, "within_1_percent": 0, "empty": 0, "only": [], "far": []}
    kept, lines = ours(args.binary, "wikipedia", {"as_anchor": True, "categories": True, "empty_sections": True}, args.inputs)
    paper, _ = ours(args.binary, "wikipedia", {}, args.inputs)
    result["ours_kept"], result["paper_kept"] = len(kept), len(paper)
    marks = ["[[", "{{", "<!--", "{|", "<ref"]
    result["marks_left"] = {mark: sum(mark in d["text"] for d in paper) for mark in marks}
    mine = {d["id"]: d["text"] for d in kept}
    theirs = {}
    for path in args.inputs:
        language = path.name.split("wiki")[0]
        for id_, raw in pages(path):
            text = script._parse_and_clean_wikicode(raw, mwparserfromhell, language)
            if text:
                theirs[id_] = text
    result["only"] = sorted(set(mine) ^ set(theirs))
    for id_ in sorted(set(mine) & set(theirs), key=int):
        a, b = theirs[id_], mine[id_]
        distance = Levenshtein.distance(a, b, score_cutoff=len(a) // 10)
        result["articles"] += 1
        result["equal"] += a == b
        result["within_1_percent"] += distance * 100 <= len(a)
        if distance * 100 > len(a):
            result["far"].append({"id": id_, "characters": len(a), "distance": distance})
    if args.show:
        (folder / "a").write_text(theirs[args.show])
        (folder / "b").write_text(mine[args.show])
        subprocess.run(["diff", folder / "a", folder / "b"])
    result["agree"] = result["within_1_percent"] * 100 >= 99 * result["articles"] and not result["only"]
    return result


def pages(path):
    """Articles as Hugging Face's script finds them; it reads UTF-8 only."""
    data = bz2.open(path).read() if path.suffix == ".bz2" else path.read_bytes()
    if data[1:2] == b"\0" or data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        data = data.decode("utf-16" if data[0] >= 0xFE else "utf-16-le").encode()
    root = ElementTree.fromstring(data)
    for page in root.iter():
        if not page.tag.endswith("page"):
            continue
        space = page.tag[:-4]
        raw = page.find(f"./{space}revision/{space}text").text
        if page.find(f"./{space}ns").text == "0" and raw is not None and page.find(f"./{space}redirect") is None:
            yield page.find(f"./{space}id").text, raw


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sources = {f.__name__: f for f in (stackexchange, github, arxiv, books, wikipedia)}
    parser.add_argument("source", choices=sources)
    parser.add_argument("--anchor", type=pathlib.Path, required=True)
    parser.add_argument("--tokenizer", type=pathlib.Path)
    parser.add_argument("--binary", default="target/release/examples/documents")
    parser.add_argument("--show", help="an article whose differences are printed")
    parser.add_argument("inputs", type=pathlib.Path, nargs="+")
    args = parser.parse_args()
    args.binary = str(pathlib.Path(args.binary).resolve())
    with tempfile.TemporaryDirectory() as folder:
        result = sources[args.source](args, pathlib.Path(folder).resolve())
    print(json.dumps(result, indent=1, ensure_ascii=False))
    sys.exit(0 if result["agree"] else 1)


if __name__ == "__main__":
    main()
