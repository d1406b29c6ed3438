//! cli

pub mod state;
