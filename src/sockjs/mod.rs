//! SockJS: WebSocket for browsers behind networks that break it, by requests and responses that
//! anything lets pass. What its protocol says of paths, frames and bodies; no socket, no clock.
//!
//! ```text
//! GET  base/info                        what there is here
//! GET  base/{server}/{session}/websocket   frames as messages of a WebSocket
//! POST base/{server}/{session}/xhr         the next frame; the same request creates the session
//! POST base/{server}/{session}/xhr_send    messages for it
//! ```

pub mod frame;
pub mod message;
pub mod path;
pub mod session;
pub mod transport;
