//! Tests of the corpora: documents, readers, jobs, deduplication, reports.

mod documents;
