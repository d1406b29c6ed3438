//! A dead letter, read back. Comes in: one line as the dead letters have it, of any release. Goes out: what it says, with
//! the record as it came, byte for byte where the letter has it so; or why it is none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::config::Format;
use crate::normalize::Profile;
use crate::record::RecordKey;

/// What a letter says.
#[derive(Debug)]
pub(super) struct Letter {
    /// The sink that refused it.
    pub sink: String,
    pub tenant: String,
    pub content_type: String,
    pub blob: String,
    /// Of a letter whose record was edited: the record that there was has it.
    pub key: Option<RecordKey>,
    pub event_id: String,
    pub format: Format,
    pub profile: Profile,
    /// The record is what the sink was shown, and not what there was.
    pub is_edited: bool,
    /// `None`: it did not go along.
    pub record: Option<Vec<u8>>,
}

#[derive(Deserialize)]
struct Line<'a> {
    sink: Option<String>,
    tenant: String,
    content_type: String,
    #[serde(default)]
    blob: String,
    key: Option<String>,
    event_id: Option<String>,
    format: String,
    ecs_profile: Option<String>,
    #[serde(default)]
    edited: bool,
    #[serde(borrow)]
    record: Option<&'a RawValue>,
    record_base64: Option<String>,
}

impl Letter {
    /// Reads one line.
    ///
    /// # Errors
    /// Why it is no dead letter, for a person.
    pub fn read(line: &[u8]) -> Result<Letter, String> {
        let said: Line<'_> = serde_json::from_slice(line)
            .map_err(|_| "this is no dead letter: not JSON, or without the members of one".to_owned())?;
        let format = match said.format.as_str() {
            "raw" => Format::Raw,
            "ecs" => Format::Ecs,
            other => return Err(format!("its format `{other}` is not known")),
        };
        let profile = match &said.ecs_profile {
            None => Profile::default(),
            Some(name) => Profile::ALL
                .into_iter()
                .find(|profile| profile.as_str() == name)
                .ok_or_else(|| format!("its profile `{name}` is not known"))?,
        };
        let record = match (said.record_base64, said.record.map(RawValue::get)) {
            (Some(text), _) => Some(STANDARD.decode(text).map_err(|_| "its `record_base64` is none".to_owned())?),
            (None, None | Some("null")) => None,
            // A text is a record that is no JSON; any other value is the record.
            (None, Some(text)) if text.starts_with('"') => {
                let text: String = serde_json::from_str(text).map_err(|_| "its `record` is no text".to_owned())?;
                Some(text.into_bytes())
            }
            (None, Some(json)) => Some(json.as_bytes().to_vec()),
        };
        let key = said.key.and_then(|hex| u128::from_str_radix(&hex, 16).ok()).map(|key| RecordKey(key.to_be_bytes()));
        Ok(Letter {
            sink: said.sink.unwrap_or_default(),
            tenant: said.tenant,
            content_type: said.content_type,
            blob: said.blob,
            key,
            event_id: said.event_id.unwrap_or_default(),
            // A document is written for one sink, by what that one is shown.
            is_edited: said.edited || format != Format::Raw,
            format,
            profile,
            record,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(more: &str) -> Result<Letter, String> {
        let line = format!(
            r#"{{"at":"2026-01-01T00:00:00.000Z","sink":"splunk","reason":"refused","answer":"no","tenant":"t","content_type":"Audit.Exchange","blob":"b","key":"000102030405060708090a0b0c0d0e0f","event_id":"x","format":"raw"{more}}}"#
        );
        Letter::read(line.as_bytes())
    }

    #[test]
    fn every_form_of_a_record_comes_back_as_it_was() {
        for (more, record) in [
            (r#","record":{"Id": "a" }"#, Some(&br#"{"Id": "a" }"#[..])),
            (r#","record":"not\n\"json\"""#, Some(b"not\n\"json\"")),
            (r#","record":null,"record_base64":"/wA=""#, Some(b"\xFF\0")),
            (r#","record":null,"record_bytes":9,"record_missing":"too large""#, None),
        ] {
            let letter = letter(more).unwrap();
            assert_eq!(letter.record.as_deref(), record, "{more}");
            assert_eq!((letter.sink.as_str(), letter.key.unwrap().0[15], letter.is_edited), ("splunk", 15, false));
        }
    }

    #[test]
    fn what_the_sink_was_shown_is_told_from_the_record() {
        assert!(letter(r#","edited":true,"record":{}"#).unwrap().is_edited);
        let of = |format: &str| {
            let line = format!(
                r#"{{"sink":null,"tenant":"t","content_type":"DLP.All","format":"{format}","ecs_profile":"elastic","record":{{}}}}"#
            );
            Letter::read(line.as_bytes())
        };
        let ecs = of("ecs").unwrap();
        assert!(ecs.is_edited && ecs.profile == Profile::Elastic && ecs.sink.is_empty() && ecs.key.is_none());
        assert!(of("xml").unwrap_err().contains("`xml`"));
        assert!(Letter::read(b"{}").is_err() && Letter::read(b"\xFF").is_err());
    }
}
