//! Topics and deliveries across shards; sees no socket and no clock, so it can be tested alone.

pub mod mesh;
pub mod ring;
