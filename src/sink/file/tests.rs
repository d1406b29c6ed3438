//! The file sink against a real directory and a real state.
