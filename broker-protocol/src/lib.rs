//! Fanfare's wire protocols as pure functions: no I/O, no runtime, no clock.

pub mod engineio;
pub mod envelope;
pub mod json;
pub mod native;
pub mod socketio;
pub mod sse;
pub mod ws;
