//! The fields of a request. Those that nobody knows are ignored, `null` is the same as absence, and
//! of fields that are named twice the last counts.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::{Data, Fault, NAMES_MAX};
use crate::realtime::protocol::is_json;

/// The names of the fields that are known.
pub(in crate::realtime) type Names = &'static [&'static str];

/// The values of the fields that are known, each as it was written.
#[derive(Debug)]
pub(in crate::realtime) struct Fields<'a> {
    names: Names,
    values: Vec<Option<&'a RawValue>>,
}

impl<'a> Fields<'a> {
    /// Reads an object. `subject` is what it is, for the sentence that refuses something else.
    ///
    /// # Errors
    /// Text that is not JSON, or that is no object.
    pub(in crate::realtime) fn read(
        text: &'a str,
        subject: &'static str,
        names: Names,
    ) -> Result<Self, Fault> {
        let fault = |error: serde_json::Error| match error.classify() {
            Category::Data => Fault::BadRequest { subject, must: "be an object" },
            Category::Io | Category::Syntax | Category::Eof => Fault::NotJson,
        };
        let mut from = serde_json::Deserializer::from_str(text);
        let values = from.deserialize_map(Reader(names)).map_err(fault)?;
        from.end().map_err(fault)?;
        Ok(Self { names, values })
    }

    /// The value of a field as it was written, unless it is absent.
    pub(in crate::realtime) fn value(&self, name: &str) -> Option<&'a RawValue> {
        let place = self.names.iter().position(|known| *known == name);
        debug_assert!(place.is_some(), "who asks for a field has named it");
        self.values.get(place?).copied().flatten()
    }

    /// The value of a field; `must` is what it has to be.
    pub(in crate::realtime) fn get<T: Deserialize<'a>>(
        &self,
        name: &'static str,
        must: &'static str,
    ) -> Result<Option<T>, Fault> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let fault = |_| Fault::BadRequest { subject: name, must };
        serde_json::from_str(value.get()).map(Some).map_err(fault)
    }

    /// A text, empty where it is absent.
    pub(in crate::realtime) fn text(&self, name: &'static str) -> Result<String, Fault> {
        self.get(name, "be a text").map(Option::unwrap_or_default)
    }

    /// A text that must be there and say something.
    pub(in crate::realtime) fn name(&self, name: &'static str) -> Result<String, Fault> {
        let text = self.text(name)?;
        if text.is_empty() {
            return Err(Fault::BadRequest { subject: name, must: "be given" });
        }
        Ok(text)
    }

    /// Whether something is so; not where it is absent.
    pub(in crate::realtime) fn flag(&self, name: &'static str) -> Result<bool, Fault> {
        self.get(name, "be true or false").map(Option::unwrap_or_default)
    }

    /// A whole number, 0 where it is absent.
    pub(in crate::realtime) fn number<T: Deserialize<'a> + Default>(
        &self,
        name: &'static str,
    ) -> Result<T, Fault> {
        self.get(name, "be a whole number within its range").map(Option::unwrap_or_default)
    }

    /// Texts, at most [`NAMES_MAX`]; none where they are absent.
    pub(in crate::realtime) fn texts(&self, name: &'static str) -> Result<Vec<String>, Fault> {
        let texts: Vec<String> = self.get(name, "be a list of texts")?.unwrap_or_default();
        if texts.len() > NAMES_MAX {
            return Err(Fault::BadRequest { subject: name, must: "have at most 10000 items" });
        }
        Ok(texts)
    }

    /// Texts by name; none where they are absent.
    pub(in crate::realtime) fn texts_by_name(
        &self,
        name: &'static str,
    ) -> Result<BTreeMap<String, String>, Fault> {
        self.get(name, "be an object whose values are texts").map(Option::unwrap_or_default)
    }

    /// Data that is JSON in one field or base64 (RFC 4648 section 4) in another one, which counts
    /// where both are there. Nothing where neither is, or where what is there says nothing.
    pub(in crate::realtime) fn data(
        &self,
        json: &'static str,
        base64: &'static str,
    ) -> Result<Option<Data>, Fault> {
        let encoded = self.text(base64)?;
        if encoded.is_empty() {
            return Ok(self.json(json).map(|bytes| Data { bytes, is_json: true }));
        }
        let fault = |_| Fault::BadRequest { subject: base64, must: "be base64 with its padding" };
        let bytes = BASE64_STANDARD.decode(encoded).map_err(fault)?;
        let is_json = is_json(&bytes);
        Ok(Some(Data { bytes, is_json }))
    }

    /// The JSON of a field, as it was written.
    pub(in crate::realtime) fn json(&self, name: &'static str) -> Option<Vec<u8>> {
        self.value(name).map(|value| value.get().as_bytes().to_vec())
    }
}

/// Reads an object into the places of its known fields.
struct Reader(Names);

impl<'de> Visitor<'de> for Reader {
    type Value = Vec<Option<&'de RawValue>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut values = vec![None; self.0.len()];
        while let Some(place) = object.next_key_seed(Place(self.0))? {
            match place.and_then(|place| values.get_mut(place)) {
                Some(value) => {
                    let written: &RawValue = object.next_value()?;
                    *value = (written.get() != NULL).then_some(written);
                }
                None => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok(values)
    }
}

/// Reads the name of a field as its place among those that are known.
struct Place(Names);

impl<'de> DeserializeSeed<'de> for Place {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Place {
    type Value = Option<usize>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|known| *known == name))
    }
}

const NULL: &str = "null";

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names = &["text", "number", "data", "b64data"];

    fn read(text: &str) -> Result<Fields<'_>, Fault> {
        Fields::read(text, "the request", NAMES)
    }

    #[test]
    fn fields_are_found_by_name() {
        let fields =
            read(r#" {"text":"a","other":[{"text":"b"}],"number":1,"t\u0065xt":"c","data":null} "#)
                .expect("an object");
        assert_eq!(fields.text("text"), Ok("c".to_owned()));
        assert_eq!(fields.number("number"), Ok(1_u32));
        assert_eq!(fields.data("data", "b64data"), Ok(None));
        let fault = Fault::BadRequest { subject: "number", must: "be a text" };
        assert_eq!(fields.text("number"), Err(fault));
    }

    #[test]
    fn what_is_no_object_is_told_from_what_is_no_json() {
        let no_object = Fault::BadRequest { subject: "the request", must: "be an object" };
        for text in ["[]", "5", "\"a\"", "null", "[{\"text\":\"a\"}]"] {
            assert_eq!(read(text).expect_err(text), no_object);
        }
        for text in ["", " ", "{", "{}{}", "{} x", "{\"text\":}", "{\"text\":\"a\"", "{'text':1}"] {
            assert_eq!(read(text).expect_err(text), Fault::NotJson, "{text}");
        }
    }

    #[test]
    fn data_is_json_or_base64() {
        let data = |text| read(text).expect("an object").data("data", "b64data");
        let is = |bytes: &[u8], is_json| Ok(Some(Data { bytes: bytes.to_vec(), is_json }));
        assert_eq!(data(r#"{"data": {"a": 1.0} }"#), is(br#"{"a": 1.0}"#, true));
        assert_eq!(data(r#"{"data":"","b64data":""}"#), is(b"\"\"", true));
        assert_eq!(data(r#"{"data":1,"b64data":"eyJhIjoxfQ=="}"#), is(br#"{"a":1}"#, true));
        assert_eq!(data(r#"{"b64data":"//4="}"#), is(&[255, 254], false));
        for text in [r#"{"b64data":"//4"}"#, r#"{"b64data":"__4="}"#, r#"{"b64data":"a b="}"#] {
            assert!(data(text).expect_err(text).to_string().contains("b64data"));
        }
        assert_eq!(data("{}"), Ok(None));
    }

    /// What is nested deeply is skipped without recursion, so that it is no way to the end of the
    /// stack.
    #[test]
    fn depth_does_no_harm() {
        let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        let text = format!(r#"{{"data":{deep},"other":{deep}}}"#);
        let fields = read(&text).expect("an object");
        assert_eq!(fields.json("data").map(|data| data.len()), Some(deep.len()));
    }
}
