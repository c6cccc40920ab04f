//! What each message of the protocol can do, in whichever encoding.

use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use serde::de::MapAccess;

use super::json::Object;

/// A message, field by field.
pub(super) trait Content {
    /// Writes all fields that say something as those of a JSON object.
    fn write_fields(&self, object: &mut Object<'_>);

    /// Takes the value of a field of a JSON object; ignores it where there is no such field.
    fn read_field<'de, A: MapAccess<'de>>(
        &mut self,
        name: &str,
        object: &mut A,
    ) -> Result<(), A::Error>
    where
        Self: Sized;

    /// How many bytes [`write_protobuf`](Self::write_protobuf) appends.
    fn protobuf_bytes(&self) -> usize;

    /// Appends the message in Protobuf, without its length.
    fn write_protobuf(&self, out: &mut Vec<u8>);
}

/// Large messages are kept apart from small ones.
impl<M: Content> Content for Box<M> {
    fn write_fields(&self, object: &mut Object<'_>) {
        M::write_fields(self, object);
    }

    fn read_field<'de, A: MapAccess<'de>>(
        &mut self,
        name: &str,
        object: &mut A,
    ) -> Result<(), A::Error> {
        M::read_field(self, name, object)
    }

    fn protobuf_bytes(&self) -> usize {
        M::protobuf_bytes(self)
    }

    fn write_protobuf(&self, out: &mut Vec<u8>) {
        M::write_protobuf(self, out);
    }
}

/// Declares messages: structs whose fields have the attributes of [`prost::Message`], the schema.
/// Their names are those of JSON too.
macro_rules! messages {
    ($(
        $(#[$of_struct:meta])*
        pub struct $name:ident {
            $( $(#[$of_field:meta])* pub $field:ident: $kind:ty, )*
        }
    )*) => {$(
        $(#[$of_struct])*
        #[derive(Clone, PartialEq, ::prost::Message)]
        pub struct $name {
            $( $(#[$of_field])* pub $field: $kind, )*
        }

        impl $crate::realtime::protocol::message::Content for $name {
            // Some messages have no fields.
            #[allow(unused_variables)]
            fn write_fields(&self, object: &mut $crate::realtime::protocol::json::Object<'_>) {
                $( object.field(
                    $crate::realtime::protocol::message::plain(stringify!($field)),
                    &self.$field,
                ); )*
            }

            #[allow(unused_variables)]
            fn read_field<'de, A: ::serde::de::MapAccess<'de>>(
                &mut self,
                name: &str,
                object: &mut A,
            ) -> Result<(), A::Error> {
                $( if name == $crate::realtime::protocol::message::plain(stringify!($field)) {
                    self.$field = $crate::realtime::protocol::json::next_field(object)?;
                    return Ok(());
                } )*
                object.next_value::<::serde::de::IgnoredAny>().map(drop)
            }

            fn protobuf_bytes(&self) -> usize {
                ::prost::Message::encoded_len(self)
            }

            fn write_protobuf(&self, out: &mut Vec<u8>) {
                ::prost::Message::encode_raw(self, out);
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                $crate::realtime::protocol::json::read_object(from)
            }
        }
    )*};
}

pub(super) use messages;

/// The name of a field whose identifier may be a keyword.
pub(super) fn plain(identifier: &'static str) -> &'static str {
    identifier.strip_prefix("r#").unwrap_or(identifier)
}

/// How many bytes a field takes that holds so many bytes.
pub(super) fn part_bytes(tag: u32, content_bytes: usize) -> usize {
    key_len(tag) + encoded_len_varint(content_bytes as u64) + content_bytes
}

/// Appends a message as the field of another one.
pub(super) fn write_part(tag: u32, content: &dyn Content, out: &mut Vec<u8>) {
    write_head(tag, content.protobuf_bytes(), out);
    content.write_protobuf(out);
}

/// Appends what precedes the bytes of a field that holds so many.
pub(super) fn write_head(tag: u32, content_bytes: usize, out: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, out);
    write_length(content_bytes, out);
}

/// Appends the length that precedes so many bytes.
pub(super) fn write_length(content_bytes: usize, out: &mut Vec<u8>) {
    encode_varint(content_bytes as u64, out);
}
