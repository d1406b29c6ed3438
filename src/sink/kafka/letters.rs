//! Dead letters as messages: the same frames as a record's, with what the letter says in place of the record.
//! Comes in: parts of a message. Goes out: a frame for [`send`](super::KafkaSink::send).

use super::*;

impl KafkaSink {
    /// The headers that a record's message has.
    pub fn rendered_headers(&self, event: &Event<'_>) -> Vec<Vec<u8>> {
        let render = |header: &Template| {
            let mut out = Vec::new();
            header.render_plain(event, &mut out);
            out
        };
        self.headers.iter().map(render).collect()
    }

    /// A message for `topic`; each call is a message of its own.
    pub fn letter(&self, topic: &str, key: &str, headers: &[Vec<u8>], value: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(value.len() + 256);
        frame::begin(self.tickets.fetch_add(1, Ordering::Relaxed), world_ms(), &mut out);
        frame::field(&mut out, |out| out.extend_from_slice(topic.as_bytes()));
        frame::field(&mut out, |out| out.extend_from_slice(key.as_bytes()));
        for header in headers {
            frame::field(&mut out, |out| out.extend_from_slice(header));
        }
        out.extend_from_slice(value);
        out
    }
}
