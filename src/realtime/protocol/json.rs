//! The JSON encoding: each message an object, fields that say nothing left out.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::message::Content;

/// Whether bytes are one JSON value, which can be the data of a message in JSON.
pub fn is_json(data: &[u8]) -> bool {
    let is_text = simdutf8::basic::from_utf8(data).is_ok();
    is_text && serde_json::from_slice::<IgnoredAny>(data).is_ok()
}

/// Appends a text as a JSON string, in quotes.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|&byte| must_be_escaped(byte)) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            byte => write_display(format_args!("\\u{byte:04x}"), out),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// RFC 8259 section 7.
fn must_be_escaped(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

fn write_display(value: impl fmt::Display, out: &mut Vec<u8>) {
    let written = write!(out, "{value}");
    debug_assert!(written.is_ok(), "memory takes all");
}

/// An object that is being written.
#[derive(Debug)]
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    has_fields: bool,
}

impl<'a> Object<'a> {
    pub(super) fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, has_fields: false }
    }

    pub(super) fn end(self) {
        self.out.push(b'}');
    }

    /// Appends a whole message.
    pub(super) fn write(content: &dyn Content, out: &'a mut Vec<u8>) {
        let mut object = Self::begin(out);
        content.write_fields(&mut object);
        object.end();
    }

    /// A field, unless it says nothing.
    pub(super) fn field(&mut self, name: &str, value: &impl Field) {
        if !value.is_absent() {
            self.name(name);
            value.write(self.out);
        }
    }

    /// A message in a field, even if it says nothing.
    pub(super) fn content(&mut self, name: &str, content: &dyn Content) {
        self.name(name);
        Object::write(content, self.out);
    }

    /// A text in a field, even if it is empty.
    pub(super) fn string(&mut self, name: &str, text: &str) {
        self.name(name);
        write_string(text, self.out);
    }

    /// An object in a field.
    pub(super) fn object(&mut self, name: &str) -> Object<'_> {
        self.name(name);
        Object::begin(self.out)
    }

    fn name(&mut self, name: &str) {
        if self.has_fields {
            self.out.push(b',');
        }
        self.has_fields = true;
        write_string(name, self.out);
        self.out.push(b':');
    }
}

/// What a field of a message can be. Its default is what it is when it is absent.
pub(super) trait Field: Default {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error>;

    /// Whether it says nothing.
    fn is_absent(&self) -> bool;

    fn write(&self, out: &mut Vec<u8>);
}

/// Reads the value of a field.
pub(super) fn next_field<'de, F: Field, A: MapAccess<'de>>(object: &mut A) -> Result<F, A::Error> {
    object.next_value::<Present<F>>().map(|Present(value)| value)
}

struct Present<F>(F);

impl<'de, F: Field> Deserialize<'de> for Present<F> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        F::read(from).map(Self)
    }
}

fn or_default<'de, T, D>(from: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::deserialize(from).map(Option::unwrap_or_default)
}

macro_rules! plain_fields {
    ($($kind:ty),*) => {$(
        impl Field for $kind {
            fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                or_default(from)
            }

            fn is_absent(&self) -> bool {
                *self == Self::default()
            }

            fn write(&self, out: &mut Vec<u8>) {
                write_display(self, out);
            }
        }
    )*};
}

plain_fields!(bool, i32, u32, i64, u64);

impl Field for String {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        or_default(from)
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_string(self, out);
    }
}

/// Bytes are any JSON value, as it was written.
impl Field for Vec<u8> {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(from).map(|value| value.get().as_bytes().to_vec())
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, out: &mut Vec<u8>) {
        debug_assert!(is_json(self), "who gives data for JSON has asked whether it is JSON");
        // A line feed would end the message. In JSON a line break can only be white space.
        for line in self.split(|byte| matches!(byte, b'\n' | b'\r')) {
            out.extend_from_slice(line);
        }
    }
}

impl<M: Content + DeserializeOwned> Field for Option<M> {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::deserialize(from)
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }

    fn write(&self, out: &mut Vec<u8>) {
        if let Some(content) = self {
            Object::write(content, out);
        }
    }
}

impl Field for Vec<String> {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        or_default(from)
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_list(self, out, |text, out| write_string(text, out));
    }
}

impl<M: Content + DeserializeOwned> Field for Vec<M> {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        or_default(from)
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_list(self, out, |content, out| Object::write(content, out));
    }
}

fn write_list<T>(list: &[T], out: &mut Vec<u8>, write: impl Fn(&T, &mut Vec<u8>)) {
    out.push(b'[');
    for (place, item) in list.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}

impl Field for BTreeMap<String, String> {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        or_default(from)
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut object = Object::begin(out);
        for (name, text) in self {
            object.string(name, text);
        }
        object.end();
    }
}

impl<M: Content + DeserializeOwned> Field for BTreeMap<String, M> {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        or_default(from)
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut object = Object::begin(out);
        for (name, content) in self {
            object.content(name, content);
        }
        object.end();
    }
}

/// Reads a message. It must be an object: nobody writes its fields as an array.
pub(super) fn read_object<'de, M, D>(from: D) -> Result<M, D::Error>
where
    M: Content + Default,
    D: Deserializer<'de>,
{
    from.deserialize_map(Reader(PhantomData))
}

struct Reader<M>(PhantomData<M>);

impl<'de, M: Content + Default> Visitor<'de> for Reader<M> {
    type Value = M;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<M, A::Error> {
        let mut message = M::default();
        while let Some(Name(name)) = object.next_key()? {
            message.read_field(&name, &mut object)?;
        }
        Ok(message)
    }
}

/// The name of a field, copied only where it is written with escapes.
struct Name<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(NameReader)
    }
}

struct NameReader;

impl<'de> Visitor<'de> for NameReader {
    type Value = Name<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the name of a field")
    }

    fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Borrowed(name)))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Owned(name.to_owned())))
    }
}
