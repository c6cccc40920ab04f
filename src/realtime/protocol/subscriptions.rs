//! Subscriptions by their channels, as a field of the reply that connects a client.
//!
//! What the encoder of `prost` for maps leaves out is a value that says nothing. Decoders of
//! Protobuf take that for such a value, but for the one of the JavaScript library, which has none
//! then and fails. So each entry is written in full.

use std::collections::BTreeMap;

use prost::DecodeError;
use prost::bytes::{Buf, BufMut};
use prost::encoding::{
    DecodeContext, WireType, btree_map, check_wire_type, encode_key, encode_varint, message, string,
};
use serde::de::MapAccess;
use serde::{Deserialize, Deserializer};

use super::SubscribeResult;
use super::json::{Object, read_object};
use super::message::{Content, part_bytes};

/// Subscriptions that the server has made, by channel; `prost` takes them for a `oneof`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Subscriptions(pub BTreeMap<String, SubscribeResult>);

impl Subscriptions {
    /// Reads one more from Protobuf.
    ///
    /// # Errors
    /// Bytes that are none.
    pub fn merge(
        field: &mut Option<Self>,
        _tag: u32,
        wire_type: WireType,
        from: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        check_wire_type(WireType::LengthDelimited, wire_type)?;
        let Self(map) = field.get_or_insert_default();
        btree_map::merge(string::merge, message::merge, map, from, context)
    }

    /// Writes them in Protobuf.
    pub fn encode(&self, out: &mut impl BufMut) {
        for (channel, result) in &self.0 {
            encode_key(TAG, WireType::LengthDelimited, out);
            encode_varint(entry_bytes(channel, result) as u64, out);
            string::encode(CHANNEL_TAG, channel, out);
            message::encode(RESULT_TAG, result, out);
        }
    }

    /// How many bytes that takes.
    pub fn encoded_len(&self) -> usize {
        self.0.iter().map(|(channel, result)| part_bytes(TAG, entry_bytes(channel, result))).sum()
    }
}

fn entry_bytes(channel: &String, result: &SubscribeResult) -> usize {
    string::encoded_len(CHANNEL_TAG, channel) + message::encoded_len(RESULT_TAG, result)
}

impl Content for Subscriptions {
    fn write_fields(&self, object: &mut Object<'_>) {
        for (channel, result) in &self.0 {
            object.content(channel, result);
        }
    }

    fn read_field<'de, A: MapAccess<'de>>(
        &mut self,
        name: &str,
        object: &mut A,
    ) -> Result<(), A::Error> {
        self.0.insert(name.to_owned(), object.next_value()?);
        Ok(())
    }

    fn protobuf_bytes(&self) -> usize {
        self.encoded_len()
    }

    fn write_protobuf(&self, out: &mut Vec<u8>) {
        self.encode(out);
    }
}

impl<'de> Deserialize<'de> for Subscriptions {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        read_object(from)
    }
}

/// The field of a reply that has them.
const TAG: u32 = 6;
const CHANNEL_TAG: u32 = 1;
const RESULT_TAG: u32 = 2;
