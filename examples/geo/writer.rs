//! Writes databases in MaxMind's format (maxmind.github.io/MaxMind-DB, version 2.0), the least of it that is needed: for the
//! tests of `enrich`, for the invented places of `demo`, and for `make geo`, which gets systems as a table. Comes in: networks
//! and values. Goes out: the bytes of a file. Not part of the program.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

/// A value of the data section; those that are needed.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "not every user needs every type")]
pub enum Value {
    Text(String),
    Double(f64),
    Float(f32),
    U16(u16),
    U32(u32),
    U64(u64),
    Map(Vec<(String, Value)>),
    List(Vec<Value>),
}

/// A map of these entries.
pub fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// A text.
pub fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[derive(Clone, Copy, PartialEq)]
enum Record {
    Empty,
    Node(usize),
    /// Offset in the data section.
    Data(usize),
}

/// A database that is being written.
pub struct Writer {
    /// 4 or 6; with 6, IPv4 lies at `::/96`.
    ip_version: u16,
    database_type: String,
    build_epoch: u64,
    nodes: Vec<[Record; 2]>,
    data: Vec<u8>,
    /// Offsets of the values that are in `data`.
    known: HashMap<Vec<u8>, usize>,
}

impl Writer {
    pub fn new(ip_version: u16, database_type: &str, build_epoch: u64) -> Writer {
        Writer {
            ip_version,
            database_type: database_type.to_owned(),
            build_epoch,
            nodes: vec![[Record::Empty; 2]],
            data: Vec::new(),
            known: HashMap::new(),
        }
    }

    /// Gives all addresses of a network a value; what was given before within it is gone.
    pub fn insert(&mut self, ip: IpAddr, prefix: u32, value: &Value) {
        let data = Record::Data(self.offset(value));
        let (bits, length) = match (ip, self.ip_version) {
            (IpAddr::V4(ip), 4) => (u128::from(ip.to_bits()) << 96, prefix),
            (IpAddr::V4(ip), _) => (u128::from(ip.to_bits()), prefix + 96),
            (IpAddr::V6(ip), _) => (ip.to_bits(), prefix),
        };
        let mut node = 0;
        for depth in 0..length {
            let side = (bits >> (127 - depth) & 1) as usize;
            if depth + 1 == length {
                self.nodes[node][side] = data;
                return;
            }
            node = match self.nodes[node][side] {
                Record::Node(next) => next,
                above => {
                    self.nodes.push([above; 2]);
                    let next = self.nodes.len() - 1;
                    self.nodes[node][side] = Record::Node(next);
                    next
                }
            };
        }
    }

    /// The file.
    pub fn finish(self) -> Vec<u8> {
        /// Between tree and data (section "Data Section Separator").
        const SEPARATOR: usize = 16;
        let count = self.nodes.len();
        let bits: usize = if count + SEPARATOR + self.data.len() < 1 << 24 { 24 } else { 32 };
        let mut out = Vec::new();
        for record in self.nodes.iter().flatten() {
            let value = match record {
                Record::Empty => count,
                Record::Node(node) => *node,
                Record::Data(offset) => count + SEPARATOR + offset,
            };
            let bytes = u32::try_from(value).expect("a database of at most 4 GiB").to_be_bytes();
            out.extend_from_slice(&bytes[4 - bits / 8..]);
        }
        out.extend_from_slice(&[0; SEPARATOR]);
        out.extend_from_slice(&self.data);
        out.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
        let metadata = map([
            ("binary_format_major_version", Value::U16(2)),
            ("binary_format_minor_version", Value::U16(0)),
            ("build_epoch", Value::U64(self.build_epoch)),
            ("database_type", text(&self.database_type)),
            ("description", map([("en", text(&self.database_type))])),
            ("ip_version", Value::U16(self.ip_version)),
            ("languages", Value::List(vec![text("en")])),
            ("node_count", Value::U32(u32::try_from(count).expect("at most 4 G nodes"))),
            ("record_size", Value::U16(u16::try_from(bits).expect("24 or 32"))),
        ]);
        encode(&metadata, &mut out);
        out
    }

    fn offset(&mut self, value: &Value) -> usize {
        let mut bytes = Vec::new();
        encode(value, &mut bytes);
        *self.known.entry(bytes).or_insert_with_key(|bytes| {
            self.data.extend_from_slice(bytes);
            self.data.len() - bytes.len()
        })
    }
}

/// Section "Output Data Section": control byte, size, payload.
fn encode(value: &Value, out: &mut Vec<u8>) {
    let number = |kind, bytes: &[u8], out: &mut Vec<u8>| {
        let bytes = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
        control(kind, bytes.len(), out);
        out.extend_from_slice(bytes);
    };
    match value {
        Value::Text(text) => {
            control(2, text.len(), out);
            out.extend_from_slice(text.as_bytes());
        }
        Value::Double(number) => {
            control(3, 8, out);
            out.extend_from_slice(&number.to_be_bytes());
        }
        Value::U16(value) => number(5, &value.to_be_bytes(), out),
        Value::U32(value) => number(6, &value.to_be_bytes(), out),
        Value::Map(entries) => {
            let entries: BTreeMap<&String, &Value> = entries.iter().map(|(key, value)| (key, value)).collect();
            control(7, entries.len(), out);
            for (key, value) in entries {
                encode(&Value::Text(key.clone()), out);
                encode(value, out);
            }
        }
        Value::U64(value) => number(9, &value.to_be_bytes(), out),
        Value::List(items) => {
            control(11, items.len(), out);
            items.iter().for_each(|item| encode(item, out));
        }
        Value::Float(number) => {
            control(15, 4, out);
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}

fn control(kind: u8, size: usize, out: &mut Vec<u8>) {
    let (low, more): (u8, Vec<u8>) = match size {
        0..29 => (size as u8, vec![]),
        29..285 => (29, vec![(size - 29) as u8]),
        285..65_821 => (30, ((size - 285) as u16).to_be_bytes().to_vec()),
        _ => (31, ((size - 65_821) as u32).to_be_bytes()[1..].to_vec()),
    };
    match kind {
        1..=7 => out.push(kind << 5 | low),
        // An extended type: 0 in the control byte, the number less 7 behind it.
        _ => out.extend_from_slice(&[low, kind - 7]),
    }
    out.extend_from_slice(&more);
}
