//! Values for serde, straight from their bytes: nothing is taken for granted that these say, and
//! room is made for no more than they hold.

use std::fmt;

use serde::de::value::{BorrowedStrDeserializer, SeqDeserializer, StrDeserializer};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer,
    MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::plan::{Named, Part, Plan};
use super::{DEPTH_MAX, Error, VALUES_MAX, reason};

/// Bytes of the longest number.
const VARINT_BYTES_MAX: u32 = 10;

/// A value that is all of the bytes.
pub(super) fn decode<'r, V: Deserialize<'r>>(plan: &Plan, bytes: &'r [u8]) -> Result<V, Error> {
    let mut input = Input { plan, rest: bytes, values: 0 };
    let decoded = input.value(plan.whole(), 0).and_then(V::deserialize);
    let decoded = decoded.and_then(|value| match input.rest {
        [] => Ok(value),
        _ => Err(Wrong::new("there is more behind its end")),
    });
    decoded.map_err(|wrong| wrong.at(bytes.len() - input.rest.len()))
}

/// What is wrong with a value, and the fields on the way to it, from the innermost on.
#[derive(Debug)]
struct Wrong {
    what: String,
    path: Vec<String>,
}

impl Wrong {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), path: Vec::new() }
    }

    fn at(mut self, byte: usize) -> Error {
        self.path.reverse();
        let place = match self.path.as_slice() {
            [] => format!("byte {byte}"),
            path => format!("byte {byte} ({})", reason(path.join("."))),
        };
        Error::At { place, what: self.what }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Wrong {}

impl serde::de::Error for Wrong {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self::new(reason(what))
    }
}

/// What is left of the bytes, and how many values were in those before.
struct Input<'r, 'p> {
    plan: &'p Plan,
    rest: &'r [u8],
    values: usize,
}

impl<'r, 'p> Input<'r, 'p> {
    /// The value that comes next.
    fn value(&mut self, part: usize, depth: usize) -> Result<Value<'_, 'r, 'p>, Wrong> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(Wrong::new(format!("has more than {VALUES_MAX} values")));
        }
        if depth > DEPTH_MAX {
            return Err(Wrong::new(format!("is nested more than {DEPTH_MAX} deep")));
        }
        let part = self.plan.part(part);
        Ok(Value { input: self, part, depth })
    }

    fn take(&mut self, len: usize) -> Result<&'r [u8], Wrong> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(Wrong::new("ends too early"));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN], Wrong> {
        let Some((taken, rest)) = self.rest.split_first_chunk() else {
            return Err(Wrong::new("ends too early"));
        };
        self.rest = rest;
        Ok(*taken)
    }

    fn long(&mut self) -> Result<i64, Wrong> {
        let mut zigzag = 0_u64;
        for place in 0..VARINT_BYTES_MAX {
            let [byte] = self.array()?;
            let shift = 7 * place;
            if shift == 63 && byte > 1 {
                break;
            }
            zigzag |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
            }
        }
        Err(Wrong::new("is no long"))
    }

    fn bytes(&mut self) -> Result<&'r [u8], Wrong> {
        match usize::try_from(self.long()?) {
            Ok(len) => self.take(len),
            Err(_) => Err(Wrong::new("has a length below zero")),
        }
    }

    fn text(&mut self) -> Result<&'r str, Wrong> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Wrong::new("is not UTF-8"))
    }

    /// Which of these it is.
    fn choice<T>(&mut self, of: &'p [T], else_wrong: &str) -> Result<&'p T, Wrong> {
        let index = usize::try_from(self.long()?).ok();
        index.and_then(|index| of.get(index)).ok_or_else(|| Wrong::new(else_wrong))
    }

    fn branch(&mut self, types: &'p [Named]) -> Result<&'p Named, Wrong> {
        self.choice(types, "is of no type of its union")
    }

    fn symbol(&mut self, symbols: &'p [String]) -> Result<&'p str, Wrong> {
        self.choice(symbols, "is no symbol of its enum").map(String::as_str)
    }
}

/// A value that was not read yet.
struct Value<'i, 'r, 'p> {
    input: &'i mut Input<'r, 'p>,
    part: &'p Part,
    depth: usize,
}

impl<'r, 'p> Value<'_, 'r, 'p> {
    /// What is in a union.
    fn inside<'v>(&'v mut self, types: &'p [Named]) -> Result<Value<'v, 'r, 'p>, Wrong> {
        let part = self.input.branch(types)?.part;
        self.input.value(part, self.depth + 1)
    }

    fn seq_of<V: Visitor<'r>>(self, items: usize, visitor: V) -> Result<V::Value, Wrong> {
        let mut blocks = Blocks::new(self.input, items, self.depth + 1);
        let value = visitor.visit_seq(&mut blocks)?;
        blocks.end()?;
        Ok(value)
    }

    fn map_of<V: Visitor<'r>>(self, values: usize, visitor: V) -> Result<V::Value, Wrong> {
        let mut blocks = Blocks::new(self.input, values, self.depth + 1);
        let value = visitor.visit_map(&mut blocks)?;
        blocks.end()?;
        Ok(value)
    }

    fn record<V: Visitor<'r>>(
        self,
        fields: &'p [Named],
        visit: impl FnOnce(V, &mut Fields<'_, 'r, 'p>) -> Result<V::Value, Wrong>,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        let (rest, depth) = (fields.iter(), self.depth + 1);
        let mut fields = Fields { input: self.input, rest, at: None, depth };
        let value = visit(visitor, &mut fields)?;
        match fields.rest.next() {
            None => Ok(value),
            Some(field) => Err(Wrong::new(format!("has the field {} too", reason(&field.name)))),
        }
    }
}

impl<'r> Deserializer<'r> for Value<'_, 'r, '_> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'r>>(mut self, visitor: V) -> Result<V::Value, Wrong> {
        let input = &mut *self.input;
        match self.part {
            Part::Null => visitor.visit_unit(),
            Part::Boolean => match input.array()? {
                [0] => visitor.visit_bool(false),
                [1] => visitor.visit_bool(true),
                _ => Err(Wrong::new("is neither true nor false")),
            },
            Part::Int => match i32::try_from(input.long()?) {
                Ok(int) => visitor.visit_i32(int),
                Err(_) => Err(Wrong::new("is no int")),
            },
            Part::Long => visitor.visit_i64(input.long()?),
            Part::Float => visitor.visit_f32(f32::from_le_bytes(input.array()?)),
            Part::Double => visitor.visit_f64(f64::from_le_bytes(input.array()?)),
            Part::Fixed(len) => visitor.visit_borrowed_bytes(input.take(*len)?),
            Part::Bytes => visitor.visit_borrowed_bytes(input.bytes()?),
            Part::Text => visitor.visit_borrowed_str(input.text()?),
            Part::Enum(symbols) => visitor.visit_str(input.symbol(symbols)?),
            Part::Array(items) => self.seq_of(*items, visitor),
            Part::Map(values) => self.map_of(*values, visitor),
            Part::Union(types) => self.inside(types)?.deserialize_any(visitor),
            Part::Record(fields) => self.record(fields, |it: V, of| it.visit_map(of), visitor),
        }
    }

    fn deserialize_option<V: Visitor<'r>>(mut self, visitor: V) -> Result<V::Value, Wrong> {
        match self.part {
            Part::Null => visitor.visit_none(),
            Part::Union(types) => {
                let inside = self.inside(types)?;
                match inside.part {
                    Part::Null => visitor.visit_none(),
                    _ => visitor.visit_some(inside),
                }
            }
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'r>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'r>>(mut self, visitor: V) -> Result<V::Value, Wrong> {
        let bytes = match self.part {
            Part::Union(types) => return self.inside(types)?.deserialize_seq(visitor),
            Part::Record(fields) => {
                return self.record(fields, |it: V, of| it.visit_seq(of), visitor);
            }
            Part::Fixed(len) => self.input.take(*len)?,
            Part::Bytes => self.input.bytes()?,
            _ => return self.deserialize_any(visitor),
        };
        let mut bytes = SeqDeserializer::<_, Wrong>::new(bytes.iter().copied());
        let value = visitor.visit_seq(&mut bytes)?;
        bytes.end()?;
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'r>>(self, _: usize, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'r>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_enum<V: Visitor<'r>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        match self.part {
            Part::Enum(symbols) => {
                visitor.visit_enum(self.input.symbol(symbols)?.into_deserializer())
            }
            Part::Text => visitor.visit_enum(BorrowedStrDeserializer::new(self.input.text()?)),
            Part::Union(types) => {
                let of = self.input.branch(types)?;
                let value = self.input.value(of.part, self.depth + 1)?;
                visitor.visit_enum(Branch { name: &of.name, value })
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn is_human_readable(&self) -> bool {
        // What can be text, as an address, is text in Avro, which has no type for it.
        true
    }

    forward_to_deserialize_any! {
        <V: Visitor<'r>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct map struct identifier ignored_any
    }
}

/// The items of an array or the entries of a map: any number of blocks, the last of which is empty.
struct Blocks<'i, 'r, 'p> {
    input: &'i mut Input<'r, 'p>,
    part: usize,
    depth: usize,
    /// Items of the block that were not read.
    left: u64,
    ended: bool,
}

impl<'i, 'r, 'p> Blocks<'i, 'r, 'p> {
    const fn new(input: &'i mut Input<'r, 'p>, part: usize, depth: usize) -> Self {
        Self { input, part, depth, left: 0, ended: false }
    }

    /// True if there is another item, which is then to be read.
    fn advance(&mut self) -> Result<bool, Wrong> {
        if self.left == 0 && !self.ended {
            let count = self.input.long()?;
            if count < 0 {
                // The bytes of the block, for those who skip it.
                self.input.long()?;
            }
            self.left = count.unsigned_abs();
            self.ended = count == 0;
        }
        if self.ended {
            return Ok(false);
        }
        self.left -= 1;
        Ok(true)
    }

    fn end(&mut self) -> Result<(), Wrong> {
        if self.advance()? {
            return Err(Wrong::new("has more items than its type"));
        }
        Ok(())
    }

    fn item(&mut self) -> Result<Value<'_, 'r, 'p>, Wrong> {
        self.input.value(self.part, self.depth)
    }
}

impl<'r> SeqAccess<'r> for Blocks<'_, 'r, '_> {
    type Error = Wrong;

    fn next_element_seed<T: DeserializeSeed<'r>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Wrong> {
        if !self.advance()? {
            return Ok(None);
        }
        seed.deserialize(self.item()?).map(Some)
    }
}

impl<'r> MapAccess<'r> for Blocks<'_, 'r, '_> {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'r>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Wrong> {
        if !self.advance()? {
            return Ok(None);
        }
        seed.deserialize(BorrowedStrDeserializer::new(self.input.text()?)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'r>>(&mut self, seed: V) -> Result<V::Value, Wrong> {
        seed.deserialize(self.item()?)
    }
}

/// The fields of a record.
struct Fields<'i, 'r, 'p> {
    input: &'i mut Input<'r, 'p>,
    rest: std::slice::Iter<'p, Named>,
    /// The one whose name was read, and whose value comes next.
    at: Option<&'p Named>,
    depth: usize,
}

impl<'r> Fields<'_, 'r, '_> {
    fn value<T: DeserializeSeed<'r>>(&mut self, of: &Named, seed: T) -> Result<T::Value, Wrong> {
        let value = self.input.value(of.part, self.depth);
        value.and_then(|value| seed.deserialize(value)).map_err(|mut wrong| {
            wrong.path.push(of.name.clone());
            wrong
        })
    }
}

impl<'r> SeqAccess<'r> for Fields<'_, 'r, '_> {
    type Error = Wrong;

    fn next_element_seed<T: DeserializeSeed<'r>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Wrong> {
        self.rest.next().map(|field| self.value(field, seed)).transpose()
    }
}

impl<'r> MapAccess<'r> for Fields<'_, 'r, '_> {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'r>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Wrong> {
        self.at = self.rest.next();
        self.at.map(|field| seed.deserialize(StrDeserializer::new(&field.name))).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'r>>(&mut self, seed: V) -> Result<V::Value, Wrong> {
        let field = self.at.take().ok_or_else(|| Wrong::custom("has no field here"))?;
        self.value(field, seed)
    }
}

/// What is in a union, with the name of its type.
struct Branch<'i, 'r, 'p> {
    name: &'p str,
    value: Value<'i, 'r, 'p>,
}

impl<'i, 'r, 'p> EnumAccess<'r> for Branch<'i, 'r, 'p> {
    type Error = Wrong;
    type Variant = Value<'i, 'r, 'p>;

    fn variant_seed<T: DeserializeSeed<'r>>(
        self,
        seed: T,
    ) -> Result<(T::Value, Self::Variant), Wrong> {
        Ok((seed.deserialize(StrDeserializer::new(self.name))?, self.value))
    }
}

impl<'r> VariantAccess<'r> for Value<'_, 'r, '_> {
    type Error = Wrong;

    fn unit_variant(self) -> Result<(), Wrong> {
        <()>::deserialize(self)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'r>>(self, seed: T) -> Result<T::Value, Wrong> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'r>>(self, _: usize, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'r>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.deserialize_any(visitor)
    }
}
