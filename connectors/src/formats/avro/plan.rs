//! A schema as values are read with it: its parts in a list, each name looked up once.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, Name, UuidSchema};

use super::reason;

/// The parts of a schema.
#[derive(Debug)]
pub(super) struct Plan {
    parts: Vec<Part>,
    whole: usize,
}

/// A type; what is in it is a part too.
#[derive(Debug)]
pub(super) enum Part {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    /// So many bytes.
    Fixed(usize),
    Bytes,
    Text,
    Array(usize),
    Map(usize),
    /// Its types.
    Union(Vec<Named>),
    /// Its fields.
    Record(Vec<Named>),
    /// Its symbols.
    Enum(Vec<String>),
}

/// A part with its name, as a field or as a type of a union.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) part: usize,
}

impl Plan {
    /// The plan of a schema, or what it names and does not define.
    pub(super) fn of(schema: &Schema) -> Result<Self, String> {
        let mut builder = Builder { parts: Vec::new(), named: HashMap::new() };
        let whole = builder.add(schema, None)?;
        Ok(Self { parts: builder.parts, whole })
    }

    pub(super) fn part(&self, part: usize) -> &Part {
        &self.parts[part]
    }

    pub(super) const fn whole(&self) -> usize {
        self.whole
    }
}

struct Builder {
    parts: Vec<Part>,
    /// The parts that were named so far.
    named: HashMap<Name, usize>,
}

impl Builder {
    fn add(&mut self, schema: &Schema, namespace: Option<&str>) -> Result<usize, String> {
        if let Schema::Ref { name } = schema {
            let name = name.fully_qualified_name(namespace);
            let found = self.named.get(name.as_ref()).copied();
            return found.ok_or_else(|| reason(format_args!("{name} is not defined")));
        }
        let place = self.parts.len();
        // A part that names itself is found before it is whole.
        self.parts.push(Part::Null);
        let mut within = namespace.map(str::to_owned);
        if let Some(name) = schema.name() {
            let name = name.fully_qualified_name(namespace).into_owned();
            within = name.namespace().map(str::to_owned);
            self.named.insert(name, place);
        }
        self.parts[place] = self.part(schema, within.as_deref())?;
        Ok(place)
    }

    fn part(&mut self, schema: &Schema, within: Option<&str>) -> Result<Part, String> {
        Ok(match schema {
            Schema::Null => Part::Null,
            Schema::Boolean => Part::Boolean,
            Schema::Int | Schema::Date | Schema::TimeMillis => Part::Int,
            Schema::Long
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos => Part::Long,
            Schema::Float => Part::Float,
            Schema::Double => Part::Double,
            Schema::Bytes | Schema::BigDecimal | Schema::Uuid(UuidSchema::Bytes) => Part::Bytes,
            Schema::String | Schema::Uuid(UuidSchema::String) => Part::Text,
            Schema::Fixed(fixed)
            | Schema::Duration(fixed)
            | Schema::Uuid(UuidSchema::Fixed(fixed)) => Part::Fixed(fixed.size),
            Schema::Decimal(decimal) => match &decimal.inner {
                InnerDecimalSchema::Bytes => Part::Bytes,
                InnerDecimalSchema::Fixed(fixed) => Part::Fixed(fixed.size),
            },
            Schema::Array(array) => Part::Array(self.add(&array.items, within)?),
            Schema::Map(map) => Part::Map(self.add(&map.types, within)?),
            Schema::Union(union) => {
                let types = union.variants().iter();
                let types = types.map(|it| {
                    let part = self.add(it, within)?;
                    Ok(Named { name: self.type_name(it, part), part })
                });
                Part::Union(types.collect::<Result<_, String>>()?)
            }
            Schema::Record(record) => {
                let fields = record.fields.iter().map(|field| {
                    let part = self.add(&field.schema, within)?;
                    Ok(Named { name: field.name.clone(), part })
                });
                Part::Record(fields.collect::<Result<_, String>>()?)
            }
            Schema::Enum(symbols) => Part::Enum(symbols.symbols.clone()),
            Schema::Ref { name } => return Err(reason(format_args!("{name} is not defined"))),
        })
    }

    /// What a type is called in a union: its own name, or that of what it is made of.
    fn type_name(&self, schema: &Schema, part: usize) -> String {
        if let Some(name) = schema.name() {
            return name.name().to_owned();
        }
        let name = match &self.parts[part] {
            Part::Null => "null",
            Part::Boolean => "boolean",
            Part::Int => "int",
            Part::Long => "long",
            Part::Float => "float",
            Part::Double => "double",
            Part::Fixed(_) => "fixed",
            Part::Bytes => "bytes",
            Part::Text => "string",
            Part::Array(_) => "array",
            Part::Map(_) => "map",
            Part::Union(_) => "union",
            Part::Record(_) => "record",
            Part::Enum(_) => "enum",
        };
        name.to_owned()
    }
}
