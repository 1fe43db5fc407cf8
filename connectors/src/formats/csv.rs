//! CSV and its kin, by the crate csv.
//!
//! A record is one row: files are read line by line, so a quoted field cannot hold a line break
//! there. Elsewhere, as in a message, it can.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use ::csv::{ByteRecord, StringRecord};
use csv_core::{ReadRecordResult, Reader};
use gear_core::api::Record;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Error, bounded, reason};

/// Fields of a row that are decoded: wider tables are no job's input.
pub const FIELDS_MAX: usize = 4_096;

/// Bytes that a row is written in at once: more than most rows have.
const WRITE_BYTES: usize = 512;

/// What rows look like. Made by [`rows`].
///
/// ```
/// use gear_connectors::formats::csv;
/// use gear_core::api::Record;
///
/// #[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize, Record)]
/// struct Order {
///     id: u64,
///     customer: String,
/// }
///
/// let rows = csv::rows();
/// let order = Order { id: 7, customer: "Lovelace, Ada".into() };
/// assert_eq!(rows.decode::<Order>("7,\"Lovelace, Ada\"").unwrap(), order);
///
/// // Fields by their names, in another order, between semicolons.
/// let rows = csv::rows().delimiter(b';').columns(["customer", "since", "id"]);
/// assert_eq!(rows.decode::<Order>("Lovelace, Ada;1843;7").unwrap(), order);
/// assert!(rows.is_header("customer;since;id"));
///
/// let error = rows.decode::<Order>("Lovelace, Ada;1843;seven").unwrap_err();
/// assert_eq!(error.to_string(), "field 3 (id): invalid digit found in string");
/// ```
///
/// In a job, where the first line of each file names the columns:
///
/// ```
/// # use gear_connectors::files;
/// # use gear_connectors::formats::csv;
/// # use gear_core::api::Record;
/// # use gear_core::dsl::App;
/// # #[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize, Record)]
/// # struct Order { id: u64, customer: String }
/// # let app = &mut App::new("job", (), Default::default());
/// let rows = csv::rows().columns(["id", "customer"]);
/// let header = rows.clone();
/// app.source("lines", files::bytes_source(["orders.csv"]))
///     .filter("header", move |line| !header.is_header(line))
///     .try_map::<Order, _, _>("parse", move |line| rows.decode(line))
///     .sink("orders", files::sink::<Order>("out", csv::rows().lines::<Order>()).suffix(".csv"));
/// ```
pub struct Rows {
    delimiter: u8,
    quote: Option<u8>,
    columns: Option<Arc<StringRecord>>,
    /// Each task has rows of its own, so nobody waits for it.
    parser: Mutex<Parser>,
}

/// What parses rows, and its memory.
struct Parser {
    reader: Reader,
    /// The fields of a row, one behind the other, and where each ends.
    output: Vec<u8>,
    ends: Vec<usize>,
}

/// Rows of fields between commas, quoted where they have to be.
#[must_use]
pub fn rows() -> Rows {
    Rows::new(b',', Some(b'"'), None)
}

impl Clone for Rows {
    fn clone(&self) -> Self {
        Self::new(self.delimiter, self.quote, self.columns.clone())
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows")
            .field("delimiter", &self.delimiter)
            .field("quote", &self.quote)
            .field("columns", &self.columns)
            .finish_non_exhaustive()
    }
}

impl Rows {
    fn new(delimiter: u8, quote: Option<u8>, columns: Option<Arc<StringRecord>>) -> Self {
        let mut builder = csv_core::ReaderBuilder::new();
        builder.delimiter(delimiter).quote(quote.unwrap_or(b'"')).quoting(quote.is_some());
        let parser = Parser { reader: builder.build(), output: Vec::new(), ends: Vec::new() };
        Self { delimiter, quote, columns, parser: Mutex::new(parser) }
    }

    /// What stands between two fields, as `b'\t'`.
    #[must_use]
    pub fn delimiter(self, delimiter: u8) -> Self {
        Self::new(delimiter, self.quote, self.columns)
    }

    /// What stands around a field that holds a delimiter; nothing does if it is `None`.
    #[must_use]
    pub fn quote(self, quote: Option<u8>) -> Self {
        Self::new(self.delimiter, quote, self.columns)
    }

    /// The names of the fields, in their order: a struct then takes its fields by name, others may
    /// be there, and each row has as many fields. Without names, fields are taken by their order.
    #[must_use]
    pub fn columns<N: AsRef<str>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        let mut columns = StringRecord::new();
        names.into_iter().for_each(|name| columns.push_field(name.as_ref()));
        self.columns = Some(Arc::new(columns));
        self
    }

    /// The value of a row.
    ///
    /// # Errors
    /// What is wrong, with the number and the name of the field: a quote that does not end, more
    /// than one row, more than [`FIELDS_MAX`] fields or another number than there are columns, text
    /// that is not UTF-8, or a field of another type.
    pub fn decode<V: DeserializeOwned>(
        &self,
        row: &(impl AsRef<[u8]> + ?Sized),
    ) -> Result<V, Error> {
        let record = self.fields(row.as_ref())?;
        let columns = self.columns.as_deref();
        if let Some(columns) = columns
            && columns.len() != record.len()
        {
            let text = format!("has {} fields, not {}", record.len(), columns.len());
            return Err(Error::Whole(text));
        }
        record.deserialize(columns).map_err(|error| self.refused(&error))
    }

    /// True if the row holds the names of the columns: the first line of a file, mostly.
    #[must_use]
    pub fn is_header(&self, row: &(impl AsRef<[u8]> + ?Sized)) -> bool {
        let Some(columns) = self.columns.as_deref() else { return false };
        // Some programs mark UTF-8 at the beginning of a file.
        let row = row.as_ref();
        let row = row.strip_prefix("\u{feff}".as_bytes()).unwrap_or(row);
        // What differs in its first byte does so mostly, and costs nothing.
        let differs = |name: &str| match (name.as_bytes().first(), row.first()) {
            (Some(first), Some(byte)) => first != byte && self.quote != Some(*byte),
            _ => false,
        };
        !columns.get(0).is_some_and(differs)
            && self.fields(row).is_ok_and(|fields| fields == *columns)
    }

    fn fields(&self, row: &[u8]) -> Result<StringRecord, Error> {
        let row = bounded(row)?;
        // A panic in it would leave nothing that the next row sees.
        let mut parser = self.parser.lock().unwrap_or_else(PoisonError::into_inner);
        let record = parser.parse(row);
        let record = record.map_err(|(field, what)| match field {
            Some(field) => Error::At { place: self.place(field), what },
            None => Error::Whole(what),
        })?;
        StringRecord::from_byte_record(record).map_err(|error| {
            let place = self.place(error.utf8_error().field() as u64);
            Error::At { place, what: "is not UTF-8".to_owned() }
        })
    }

    #[cold]
    fn refused(&self, error: &::csv::Error) -> Error {
        let ::csv::ErrorKind::Deserialize { err, .. } = error.kind() else {
            return Error::Whole(reason(error));
        };
        match err.field() {
            Some(field) => Error::At { place: self.place(field), what: reason(err.kind()) },
            None => Error::Whole(reason(err.kind())),
        }
    }

    /// How a field is called for people, by its place from 0 on.
    fn place(&self, field: u64) -> String {
        let name = self.columns.as_deref().and_then(|columns| columns.get(field as usize));
        match name {
            Some(name) => format!("field {} ({})", field + 1, reason(name)),
            None => format!("field {}", field + 1),
        }
    }

    /// Appends a value as a row, without a line break: for a sink of messages.
    ///
    /// # Panics
    /// If the value is no row, as one with a map in it; the record is then put aside.
    pub fn encode(&self, value: impl Serialize, out: &mut Vec<u8>) {
        self.write(value, out);
        out.pop();
    }

    /// The format of a sink of lines: each record as a row on a line of its own, without a header.
    /// A field that holds a line break is quoted, and takes more than one line.
    ///
    /// The format panics where [`Self::encode`] does, and the record is put aside.
    pub fn lines<T: Record>(
        self,
    ) -> impl for<'a> Fn(T::View<'a>, &mut Vec<u8>) + Clone + Send + Sync
    where
        for<'a> T::View<'a>: Serialize,
    {
        move |view, out: &mut Vec<u8>| self.write(view, out)
    }

    fn write(&self, value: impl Serialize, out: &mut Vec<u8>) {
        let begin = out.len();
        let mut builder = ::csv::WriterBuilder::new();
        builder.has_headers(false).delimiter(self.delimiter).buffer_capacity(WRITE_BYTES);
        match self.quote {
            Some(quote) => builder.quote(quote),
            None => builder.quote_style(::csv::QuoteStyle::Never),
        };
        let mut writer = builder.from_writer(&mut *out);
        let written = writer.serialize(value);
        // What was written before an error is given up with the record.
        let flushed = writer.flush().map_err(::csv::Error::from);
        drop(writer);
        if let Err(error) = written.and(flushed) {
            panic!("cannot be written as a row: {error}");
        }
        if out.len() == begin {
            panic!("cannot be written as a row: it has no field");
        }
    }
}

impl Parser {
    /// The fields of a row, or what is wrong with it and in which field.
    fn parse(&mut self, row: &[u8]) -> Result<ByteRecord, (Option<u64>, String)> {
        if row.iter().all(|byte| b"\r\n".contains(byte)) {
            return Err((None, "is empty".to_owned()));
        }
        self.reader.reset();
        // A field is no longer without its quotes than with them, and the row's end is one byte.
        if self.output.len() <= row.len() {
            self.output.resize(row.len() + 1, 0);
        }
        let (mut read, mut written, mut fields) = (0, 0, 0);
        loop {
            if fields > FIELDS_MAX {
                return Err((None, format!("has more than {FIELDS_MAX} fields")));
            }
            if fields == self.ends.len() {
                self.ends.resize((2 * fields).clamp(16, FIELDS_MAX + 1), 0);
            }
            // Behind the row comes its end: within quotes that is one more byte of a field.
            let input = if read < row.len() { &row[read..] } else { b"\n" };
            let (output, ends) = (&mut self.output[written..], &mut self.ends[fields..]);
            let (result, taken, out, ended) = self.reader.read_record(input, output, ends);
            read += taken;
            written += out;
            fields += ended;
            match result {
                ReadRecordResult::Record if fields <= FIELDS_MAX => break,
                ReadRecordResult::Record => {}
                ReadRecordResult::InputEmpty if read <= row.len() => {}
                ReadRecordResult::OutputEndsFull => {}
                _ => return Err((Some(fields as u64), "its quotes do not end".to_owned())),
            }
        }
        if row.get(read..).is_some_and(|rest| rest.iter().any(|byte| !b"\r\n".contains(byte))) {
            return Err((None, "is more than one row".to_owned()));
        }
        let mut record = ByteRecord::with_capacity(written, fields);
        let mut from = 0;
        for end in &self.ends[..fields] {
            record.push_field(&self.output[from..*end]);
            from = *end;
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::super::{DECODED_BYTES_MAX, REASON_BYTES_MAX};
    use super::*;

    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize, Record)]
    struct Row {
        id: u64,
        name: String,
        parent: Option<i32>,
        ratio: f64,
        flag: bool,
    }

    fn values() -> impl Strategy<Value = Row> {
        let ratio = prop::num::f64::NORMAL | prop::num::f64::ZERO;
        (any::<u64>(), "(?s).*", any::<Option<i32>>(), ratio, any::<bool>())
            .prop_map(|(id, name, parent, ratio, flag)| Row { id, name, parent, ratio, flag })
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(
            row in values(),
            delimiter in prop::sample::select(b",;\t|".as_slice()),
        ) {
            let by_order = rows().delimiter(delimiter);
            let mut out = b"before".to_vec();
            by_order.clone().lines::<Row>()(row.clone(), &mut out);
            let line = out.strip_prefix(b"before").unwrap().strip_suffix(b"\n").unwrap();
            prop_assert_eq!(&by_order.decode::<Row>(line).unwrap(), &row);
            let by_name = by_order.columns(["id", "name", "parent", "ratio", "flag"]);
            prop_assert_eq!(&by_name.decode::<Row>(line).unwrap(), &row);
            let mut message = Vec::new();
            by_name.encode(row, &mut message);
            prop_assert_eq!(message, line);
        }

        #[test]
        fn rubbish_is_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            for rows in [rows(), rows().quote(None), rows().columns(["id", "name"])] {
                if let Err(error) = rows.decode::<Row>(&bytes) {
                    prop_assert!(error.to_string().len() <= REASON_BYTES_MAX + 32);
                }
                let _ = rows.is_header(&bytes);
            }
        }
    }

    fn refused(rows: &Rows, row: impl AsRef<[u8]>) -> String {
        rows.decode::<Row>(&row).unwrap_err().to_string()
    }

    #[test]
    fn places_are_named_and_payloads_are_not_quoted_whole() {
        let named = rows().columns(["id", "name", "parent", "ratio", "flag"]);
        let short = "invalid length 4, expected struct Row with 5 elements";
        assert_eq!(refused(&rows(), "1,x,,0.5"), short);
        assert_eq!(refused(&named, "1,x,,0.5"), "has 4 fields, not 5");
        assert_eq!(refused(&named, "1,x,,0.5,true,more"), "has 6 fields, not 5");
        assert_eq!(refused(&named, b"1,\xff,,0.5,true"), "field 2 (name): is not UTF-8");
        assert_eq!(refused(&named, "1,\"x,,0.5,true"), "field 2 (name): its quotes do not end");
        assert_eq!(refused(&named, "1,x,,0.5,true\n2,x,,0.5,true"), "is more than one row");
        let long = refused(&named, format!("1,x,,0.5,{}", "secret ".repeat(1_000)));
        assert!(long.starts_with("field 5 (flag): ") && long.len() < 300, "{long}");
        assert_eq!(
            (refused(&named, ""), refused(&named, "\r")),
            ("is empty".into(), "is empty".into())
        );
    }

    #[test]
    fn a_row_may_hold_line_breaks_and_end_with_one() {
        let value = rows().decode::<Row>("1,\"a\nb \"\"c\"\"\",,0.5,true\r\n").unwrap();
        assert_eq!(value.name, "a\nb \"c\"");
        let unquoted = rows().quote(None).decode::<Row>("1,\"a,,0.5,true").unwrap();
        assert_eq!(unquoted.name, "\"a");
    }

    #[test]
    fn fields_and_length_are_bounded() {
        let wide = |fields: usize| vec!["1"; fields].join(",");
        assert_eq!(rows().decode::<Vec<u8>>(&wide(FIELDS_MAX)).unwrap().len(), FIELDS_MAX);
        assert_eq!(refused(&rows(), wide(FIELDS_MAX + 1)), "has more than 4096 fields");
        let long = vec![b'1'; DECODED_BYTES_MAX + 1];
        assert_eq!(rows().decode::<Row>(&long), Err(Error::TooLong { bytes: long.len() }));
    }

    #[test]
    fn headers_are_known_by_the_names_of_the_columns() {
        let named = rows().columns(["id", "full name"]);
        assert!(named.is_header("id,full name") && named.is_header("\"id\",\"full name\"\r"));
        assert!(named.is_header("\u{feff}id,full name"));
        assert!(!named.is_header("id,name") && !named.is_header("7,Ada") && !named.is_header(""));
        assert!(!rows().is_header("id,full name"));
    }

    #[test]
    #[should_panic(expected = "cannot be written as a row")]
    fn what_is_no_row_panics_for_the_guard() {
        rows().encode(BTreeMap::from([(1, vec![BTreeMap::from([(2, 3)])])]), &mut Vec::new());
    }
}
