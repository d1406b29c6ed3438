//! cli
mod elements;
pub mod normalize;
