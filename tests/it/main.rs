//! The integration tests: one binary, one `mod` a subject.

mod tidy;
