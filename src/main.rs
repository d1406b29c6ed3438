//! The binary; the story of the process is told in lib.rs.
fn main() {}
