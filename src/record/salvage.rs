//! What can be had from a body whose structure is broken for good: every readable value in it, and
//! what lies between them as elements of their own, so that nothing of it is dropped.

use memchr::memmem;
use serde_json::value::RawValue;

use super::Span;

/// Places tried before the rest is taken as one piece: each try reads on to where it fails, so this
/// bounds the work on a hostile body.
const MAX_TRIES: usize = 10_000;

/// The elements of a broken body, readable or not, in order. Their spans cover everything but
/// brackets of the array, commas and white space.
#[expect(clippy::cast_possible_truncation, reason = "only bodies that were held whole are salvaged, far below 4 GiB")]
pub fn salvage(body: &[u8]) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut at = 0;
    let mut broken: Option<usize> = None;
    let close = |spans: &mut Vec<Span>, from: Option<usize>, to: usize| {
        if let Some(from) = from {
            spans.push(from as u32..to as u32);
        }
    };
    for _ in 0..MAX_TRIES {
        at += body[at..].iter().take_while(|b| b.is_ascii_whitespace() || matches!(b, b',' | b'[' | b']')).count();
        if at == body.len() {
            break;
        }
        let mut values = serde_json::Deserializer::from_slice(&body[at..]).into_iter::<&RawValue>();
        let is_object = body[at] == b'{';
        match values.next() {
            Some(Ok(value)) if is_object || broken.is_none() => {
                close(&mut spans, broken.take(), at);
                let end = at + value.get().len();
                spans.push(at as u32..end as u32);
                at = end;
            }
            _ => {
                broken.get_or_insert(at);
                at = memmem::find(&body[at + 1..], b"{\"").map_or(body.len(), |next| at + 1 + next);
            }
        }
    }
    if at < body.len() {
        broken.get_or_insert(at);
    }
    close(&mut spans, broken, body.len());
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(body: &str) -> Vec<&str> {
        salvage(body.as_bytes()).iter().map(|s| &body[s.start as usize..s.end as usize]).collect()
    }

    #[test]
    fn readable_records_around_a_broken_one_are_kept_and_the_broken_one_too() {
        assert_eq!(pieces(r#"[{"a":1},{"b":"x,{"c":3}]"#), [r#"{"a":1}"#, r#"{"b":"x,"#, r#"{"c":3}"#]);
    }

    #[test]
    fn a_body_cut_short_keeps_what_is_whole() {
        assert_eq!(pieces(r#"[{"a":1},{"b":"#), [r#"{"a":1}"#, r#"{"b":"#]);
        assert_eq!(pieces(r#"{"error":"x"}"#), [r#"{"error":"x"}"#]);
        assert_eq!(pieces(""), [""; 0]);
    }
}
