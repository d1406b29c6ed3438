//! The integration tests, one binary: a `mod` list.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

#[path = "../fake/elasticsearch.rs"]
#[allow(dead_code, reason = "not every test file turns every knob")]
mod elasticsearch;

#[path = "../fake/hec.rs"]
#[allow(dead_code, reason = "not every test file turns every knob")]
mod hec;

#[path = "../fake/token.rs"]
#[allow(dead_code, reason = "not every test file turns every knob")]
mod token;
#[path = "../fake/web.rs"]
#[allow(dead_code, reason = "not every test file turns every knob")]
mod web;

#[path = "../real/mod.rs"]
#[allow(dead_code, reason = "not every server needs every part")]
mod real;

#[allow(dead_code, reason = "not every bar needs every part")]
mod support;

mod bars;
mod board;
mod derived;
mod edges;
mod edits;
mod formats;
mod fuzzing;
mod index;
mod mapping;
mod network;
mod normalize;
mod one_shot;
mod papers;
mod reload;
mod replay;
mod routes;
mod schema;
mod sink;
mod state_dir;
mod tidy;
mod verify;
