//! Avro: single values, as messages hold them, written with schemas that the job is given.
//!
//! The crate apache-avro reads the schemas. Values it does not read: it takes one that ends too
//! early for a null, makes room for what a count says, and quotes all of a value in its errors.

mod plan;
mod value;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::{Error, bounded, confluent, reason};
use plan::Plan;

/// Values within each other that are decoded: a recursive schema lets the record say how deep it
/// goes, and each level takes stack.
pub const DEPTH_MAX: usize = 64;
/// Values in a record that are decoded: an array of nulls or of empty records has any number of
/// them in no bytes at all.
pub const VALUES_MAX: usize = 1_000_000;

/// What values were written with.
///
/// The reader's side is the type: it takes the fields of a record by their names and ignores
/// others, numbers that fit, and with `#[serde(default)]` what an older schema does not have. The
/// record's own name does not matter. A union with null is an `Option`; any other is what is in it,
/// or an enum whose variants have the names of its types (`long`, `string`, a record's name). A
/// decimal, a duration and a fixed are bytes; times and dates are numbers. It may borrow.
///
/// ```
/// use gear_connectors::formats::avro;
/// use gear_core::api::Record;
///
/// #[derive(Clone, Debug, PartialEq, serde::Deserialize, Record)]
/// struct Click<'a> {
///     user: u64,
///     page: &'a str,
/// }
///
/// let schema = avro::Schema::parse(
///     r#"{"type": "record", "name": "Clicked", "fields": [
///         {"name": "user", "type": "long"},
///         {"name": "page", "type": "string"}
///     ]}"#,
/// )?;
/// assert_eq!(schema.decode::<Click<'_>>(b"\x0e\x02/")?, Click { user: 7, page: "/" });
///
/// let error = schema.decode::<Click<'_>>(b"\x0e\x04/").unwrap_err();
/// assert_eq!(error.to_string(), "byte 2 (page): ends too early");
/// # Ok::<_, gear_connectors::formats::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Schema(Arc<Plan>);

impl Schema {
    /// The schema that this JSON describes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(json: &str) -> Result<Self, Error> {
        let bad = |what: String| Error::At { place: "the schema".to_owned(), what };
        let schema = apache_avro::Schema::parse_str(json).map_err(|error| bad(reason(error)))?;
        Ok(Self(Arc::new(Plan::of(&schema).map_err(bad)?)))
    }

    /// A value, which is all of the bytes.
    ///
    /// # Errors
    /// What is wrong, with the byte and the field: bytes that are no value of the schema, more than
    /// [`VALUES_MAX`] values or [`DEPTH_MAX`] within each other, or a value that the type does not
    /// take.
    #[inline]
    pub fn decode<'r, V: Deserialize<'r>>(
        &self,
        bytes: &'r (impl AsRef<[u8]> + ?Sized),
    ) -> Result<V, Error> {
        let bytes = bounded(bytes.as_ref())?;
        value::decode(&self.0, bytes).map_err(|error| perhaps_framed(error, bytes))
    }
}

/// Says so if bytes that are no value begin as Confluent's serializers begin.
#[cold]
fn perhaps_framed(error: Error, bytes: &[u8]) -> Error {
    match (error, confluent::open(bytes)) {
        (Error::At { place, what }, Ok((number, _))) => Error::At {
            place,
            what: format!("{what}; or is it in Confluent's frame, with the schema {number}?"),
        },
        (error, _) => error,
    }
}

/// Values in the frame of Confluent's serializers, each with the number of its schema.
///
/// There is no registry here: the job is given the schemas with the numbers that their registry has
/// for them.
///
/// ```
/// use gear_connectors::formats::avro::{Confluent, Schema};
///
/// let clicks = Confluent::new(7, Schema::parse(r#""int""#)?).or(8, Schema::parse(r#""long""#)?);
/// assert_eq!(clicks.decode::<i64>(b"\0\0\0\0\x07\x02")?, 1);
///
/// let error = clicks.decode::<i64>(b"\0\0\0\0\x09\x02").unwrap_err();
/// assert_eq!(error.to_string(), "was written with the schema 9, which this job was not given");
/// # Ok::<_, gear_connectors::formats::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Confluent(BTreeMap<u32, Schema>);

impl Confluent {
    /// Values that are written with the schema of this number.
    #[must_use]
    pub fn new(number: u32, schema: Schema) -> Self {
        Self(BTreeMap::from([(number, schema)]))
    }

    /// Another schema that values may be written with: a version that the type can read too.
    #[must_use]
    pub fn or(mut self, number: u32, schema: Schema) -> Self {
        self.0.insert(number, schema);
        self
    }

    /// A value in its frame.
    ///
    /// # Errors
    /// As [`Schema::decode`]; and if it is not framed, or of another schema.
    #[inline]
    pub fn decode<'r, V: Deserialize<'r>>(
        &self,
        bytes: &'r (impl AsRef<[u8]> + ?Sized),
    ) -> Result<V, Error> {
        let (number, value) = confluent::open(bytes.as_ref())?;
        let schema = self.0.get(&number).ok_or(Error::UnknownSchema(number))?;
        value::decode(&schema.0, bounded(value)?)
    }
}

#[cfg(test)]
mod tests;
