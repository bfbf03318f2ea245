//! Tables of whole numbers as Parquet, sorted by their first column, so that a range of it is read
//! without the rest.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, Type as Physical};
use parquet::column::reader::get_typed_column_reader;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::statistics::Statistics;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use super::super::job::Writer;
use crate::Error;

/// Rows that are read together: with two columns, 1 MiB.
const GROUP_ROWS: usize = 1 << 16;

/// A column of a table.
pub(super) enum Column<'a> {
    Whole(&'a [i64]),
    Real(&'a [f64]),
    Text(&'a [&'a str]),
}

impl Column<'_> {
    fn len(&self) -> usize {
        match self {
            Column::Whole(values) => values.len(),
            Column::Real(values) => values.len(),
            Column::Text(values) => values.len(),
        }
    }

    fn schema(&self, name: &str) -> Type {
        let (physical, logical) = match self {
            Column::Whole(_) => (Physical::INT64, None),
            Column::Real(_) => (Physical::DOUBLE, None),
            Column::Text(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        };
        let column = Type::primitive_type_builder(name, physical)
            .with_repetition(Repetition::REQUIRED)
            .with_logical_type(logical);
        column.build().expect("a column of our own")
    }
}

/// Writes a table. Keys do not compress, and whoever reads wants speed: values are plain.
///
/// # Errors
/// A full or broken disk.
pub(super) fn write(mut out: Writer, columns: &[(&str, Column)]) -> Result<Writer, Error> {
    let rows = columns[0].1.len();
    assert!(columns.iter().all(|(_, column)| column.len() == rows), "table: columns of one length");
    let fields = columns.iter().map(|(name, column)| Arc::new(column.schema(name))).collect();
    let schema = Type::group_type_builder("schema").with_fields(fields).build();
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .build();
    let path = out.path().to_path_buf();
    let write = || -> Result<(), ParquetError> {
        let schema = Arc::new(schema.expect("columns of our own"));
        let mut file = SerializedFileWriter::new(&mut out, schema, Arc::new(properties))?;
        for start in (0..rows).step_by(GROUP_ROWS) {
            let range = start..rows.min(start + GROUP_ROWS);
            let mut group = file.next_row_group()?;
            for (_, column) in columns {
                let mut writer = group.next_column()?.expect("as many as in the schema");
                match column {
                    Column::Whole(values) => {
                        writer.typed::<Int64Type>().write_batch(
                            &values[range.clone()],
                            None,
                            None,
                        )?;
                    }
                    Column::Real(values) => {
                        writer.typed::<DoubleType>().write_batch(
                            &values[range.clone()],
                            None,
                            None,
                        )?;
                    }
                    Column::Text(values) => {
                        let values: Vec<_> = values[range.clone()]
                            .iter()
                            .map(|&text| ByteArray::from(text))
                            .collect();
                        writer.typed::<ByteArrayType>().write_batch(&values, None, None)?;
                    }
                }
                writer.close()?;
            }
            group.close()?;
        }
        file.close()?;
        Ok(())
    };
    write().map_err(|e| Error::write(&path)(std::io::Error::other(e)))?;
    Ok(out)
}

/// A table being read: some of its columns, where its first named one lies in a range.
pub(super) struct Table {
    reader: SerializedFileReader<File>,
    path: std::path::PathBuf,
}

impl Table {
    /// Opens a table.
    ///
    /// # Errors
    /// A file that is missing or no Parquet.
    pub(super) fn open(path: &Path) -> Result<Table, Error> {
        let file = File::open(path).map_err(Error::read(path))?;
        let reader = SerializedFileReader::new(file).map_err(|e| broken(path, e))?;
        Ok(Table { reader, path: path.to_path_buf() })
    }

    /// Calls `each` with the values of whole-number columns for each row in which the first of
    /// them is in `low..=high`.
    ///
    /// # Errors
    /// A column that is not there or of another type; a broken file.
    pub(super) fn rows<const N: usize>(
        &self,
        names: [&str; N],
        (low, high): (i64, i64),
        each: &mut dyn FnMut([i64; N]),
    ) -> Result<(), Error> {
        for group in 0..self.reader.num_row_groups() {
            let first = self.column(names[0])?;
            let meta = self.reader.metadata().row_group(group);
            if let Some(Statistics::Int64(range)) = meta.column(first).statistics()
                && let (Some(&least), Some(&most)) = (range.min_opt(), range.max_opt())
                && (most < low || least > high)
            {
                continue;
            }
            let mut columns = Vec::new();
            for name in names {
                columns.push(self.values::<Int64Type>(group, self.column(name)?)?);
            }
            for row in 0..columns[0].len() {
                if (low..=high).contains(&columns[0][row]) {
                    each(std::array::from_fn(|column| columns[column][row]));
                }
            }
        }
        Ok(())
    }

    /// A column of real numbers, whole.
    ///
    /// # Errors
    /// As [`Table::rows`].
    pub(super) fn reals(&self, name: &str) -> Result<Vec<f64>, Error> {
        let (column, mut all) = (self.column(name)?, Vec::new());
        for group in 0..self.reader.num_row_groups() {
            all.extend(self.values::<DoubleType>(group, column)?);
        }
        Ok(all)
    }

    /// A column of texts, whole.
    ///
    /// # Errors
    /// As [`Table::rows`].
    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, Error> {
        let (column, mut all) = (self.column(name)?, Vec::new());
        for group in 0..self.reader.num_row_groups() {
            let values = self.values::<ByteArrayType>(group, column)?;
            all.extend(values.iter().map(|text| String::from_utf8_lossy(text.data()).into_owned()));
        }
        Ok(all)
    }

    fn column(&self, name: &str) -> Result<usize, Error> {
        let columns = self.reader.metadata().file_metadata().schema_descr().columns();
        columns.iter().position(|column| column.name() == name).ok_or_else(|| Error::Job {
            path: self.path.clone(),
            reason: format!("has no column {name}; write it as docs/corpora.md says"),
        })
    }

    fn values<T: DataType>(&self, group: usize, column: usize) -> Result<Vec<T::T>, Error> {
        let descr = self.reader.metadata().file_metadata().schema_descr().column(column);
        if descr.physical_type() != T::get_physical_type() {
            let reason = format!(
                "column {} is {}, not {}; write it as docs/corpora.md says",
                descr.name(),
                descr.physical_type(),
                T::get_physical_type()
            );
            return Err(Error::Job { path: self.path.clone(), reason });
        }
        let read = || -> Result<Vec<T::T>, ParquetError> {
            let group = self.reader.get_row_group(group)?;
            let rows = group.metadata().num_rows() as usize;
            let (mut values, mut levels) = (Vec::with_capacity(rows), Vec::new());
            let mut reader = get_typed_column_reader::<T>(group.get_column_reader(column)?);
            loop {
                // Other writers make columns optional even where nothing is missing.
                let levels = (descr.max_def_level() > 0).then_some(&mut levels);
                let (read, _, _) = reader.read_records(rows.max(1), levels, None, &mut values)?;
                if read == 0 {
                    break;
                }
            }
            if values.len() != rows {
                return Err(ParquetError::General(format!("{} of {rows} values", values.len())));
            }
            Ok(values)
        };
        read().map_err(|e| broken(&self.path, e))
    }
}

fn broken(path: &Path, e: ParquetError) -> Error {
    Error::Job { path: path.to_path_buf(), reason: format!("{e}; write the file again") }
}
