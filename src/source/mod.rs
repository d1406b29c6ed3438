//! The source: the Management Activity API turned into whole records, and every blob followed to its end.

pub mod auth;
pub mod body;
pub mod client;
pub mod error;
pub mod fetch;
pub mod grid;
pub mod pin;
pub mod throttle;
