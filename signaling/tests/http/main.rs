//! The HTTP and WebSocket face on a real socket, with a queue that takes commands and gives no media.

#[path = "../common/mod.rs"]
mod common;
mod crowds;
mod pages;
mod server;
mod websocket;
