#!/usr/bin/env python3
"""Selects duplicates with SQL from the tables that `dedup` writes: the query of docs/corpora.md, in
DuckDB. Spark runs the same query: --spark does it there.

    tests/corpora/dedup-sql.py [--spark] JOB OUT [THRESHOLD]

JOB is the folder of a run with tables, up to its hashes. OUT gets exact/ and near/: give it to the
next run of the job as its selection.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def queries():
    """The query's statements by the name of the table that each makes."""
    text = (ROOT / "docs/corpora.md").read_text()
    (block,) = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    found = {}
    for statement in block.split(";"):
        match = re.match(r"\s*(?:--.*\n\s*)*CREATE TEMPORARY VIEW (\w+) AS(.*)", statement, re.DOTALL)
        if match:
            found[match[1]] = match[2]
    return found


def with_duckdb(job, out, statements):
    import duckdb

    database = duckdb.connect()
    for name in ["hashes", "bands", "shingles"]:
        database.execute(f"CREATE VIEW {name} AS SELECT * FROM '{job}/{name}/*.parquet'")
    for name, query in statements.items():
        database.execute(f"CREATE TABLE {name} AS {query}")
    for name in ["exact", "near"]:
        (out / name).mkdir(parents=True, exist_ok=True)
        target = out / name / "selection.parquet"
        database.execute(f"COPY (SELECT * FROM {name} ORDER BY position) TO '{target}' (FORMAT parquet)")


def with_spark(job, out, statements):
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.getOrCreate()
    for name in ["hashes", "bands", "shingles"]:
        spark.read.parquet(f"{job}/{name}/*.parquet").createOrReplaceTempView(name)
    for name, query in statements.items():
        spark.sql(query).createOrReplaceTempView(name)
    for name in ["exact", "near"]:
        spark.sql(f"SELECT * FROM {name} ORDER BY position").write.mode("overwrite").parquet(f"{out}/{name}")


def main(arguments):
    engine = with_spark if "--spark" in arguments else with_duckdb
    arguments = [argument for argument in arguments if argument != "--spark"]
    if len(arguments) not in (2, 3):
        sys.exit(__doc__)
    threshold = float(arguments[2]) if len(arguments) == 3 else 0.8
    statements = {name: query.replace("0.8D", f"{threshold!r}D") for name, query in queries().items()}
    if engine is with_duckdb:
        # DuckDB has no suffix for doubles.
        statements = {name: re.sub(r"([\d.]+)D\b", r"\1::DOUBLE", q) for name, q in statements.items()}
    engine(pathlib.Path(arguments[0]), pathlib.Path(arguments[1]), statements)


main(sys.argv[1:])
