//! Investigations of Defender (64, 86, 89): what one was about, and how it ended.
//!
//! Comes in: a record. Goes out: facts in a draft, for which the rules stand in `defender`. What it was about stands in
//! `Data`, JSON inside of a text, as a list of entities of several kinds. It may be large, and each entity is walked
//! over once; what several entities say is said as a list (activity-api, section 5, item 43; ecs-mapping, section 6).

use crate::record::Field;
use crate::record::address::Address;
use crate::record::view::scalar;

use super::draft::{Draft, Outcome, Value};
use super::ecs::Ecs;
use super::{identity, nested, sharepoint};

/// Adds the facts of an investigation.
pub fn describe(draft: &mut Draft<'_>) {
    // The record has no ResultStatus; other states say nothing about how it ended.
    draft.outcome = draft.outcome.or(match draft.said(Field::Status) {
        Some("Failed") => Some(Outcome::Failure),
        Some("Completed" | "Remediated") => Some(Outcome::Success),
        _ => None,
    });
    let data = draft.said(Field::Data).and_then(|data| draft.embedded(data));
    let Some(data) = data.or_else(|| draft.raw(Field::Data)) else { return };
    for entity in nested::elements(nested::member(data, "Entities").unwrap_or_default()) {
        describe_entity(draft, entity);
    }
}

/// One thing that an investigation is about: a mail, a mailbox, a user, an address, a file or a link.
fn describe_entity<'a>(draft: &mut Draft<'a>, entity: &'a str) {
    let (mut is_file, mut name) = (false, None);
    for (key, value) in nested::members(entity) {
        let Some(text) = scalar(value).filter(|text| !text.is_empty()) else {
            match key {
                "NetworkMessageIds" => nested::texts(value).for_each(|id| draft.add_text(Ecs::EmailLocalId, id)),
                "Urls" => nested::texts(value).for_each(|url| add_url(draft, url)),
                "FileHashes" => nested::elements(value).for_each(|hash| add_hash(draft, hash)),
                _ => {}
            }
            continue;
        };
        match key {
            "Type" => is_file = text.eq_ignore_ascii_case("file"),
            "Name" => name = Some(text),
            "InternetMessageId" => draft.add_text(Ecs::EmailMessageId, text),
            "NetworkMessageId" => draft.add_text(Ecs::EmailLocalId, text),
            "P1Sender" => draft.add_text(Ecs::EmailSender, text),
            "P2Sender" => draft.add_text(Ecs::EmailFrom, text),
            "Subject" => draft.add_text(Ecs::EmailSubject, text),
            "Recipient" => draft.add_text(Ecs::EmailTo, text),
            "Upn" | "UserPrincipalName" | "MailboxPrimaryAddress" => identity::add_related(draft, text),
            "SenderIP" | "Address" => {
                if let Some(ip) = Address::parse(text).and_then(|address| address.ip) {
                    draft.add(Ecs::RelatedIp, Value::Ip(ip));
                }
            }
            "Url" => add_url(draft, text),
            _ => {}
        }
    }
    if is_file {
        draft.add_text(Ecs::FileName, name.unwrap_or_default());
    }
}

fn add_url<'a>(draft: &mut Draft<'a>, url: &'a str) {
    if let Some(host) = sharepoint::host_of(url) {
        draft.add_text(Ecs::UrlOriginal, url);
        draft.add_text(Ecs::UrlDomain, host);
    }
}

fn add_hash<'a>(draft: &mut Draft<'a>, hash: &'a str) {
    let to = match nested::text_member(hash, "Algorithm") {
        Some("SHA256") => Ecs::FileHashSha256,
        Some("SHA1") => Ecs::FileHashSha1,
        Some("MD5") => Ecs::FileHashMd5,
        _ => return,
    };
    draft.add_text(to, nested::text_member(hash, "Value").unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::normalize::tests::document_of;

    #[test]
    fn all_entities_of_an_investigation_are_said() {
        let data = json!({"Entities":[
            {"Type":"mailMessage","NetworkMessageId":"1","P2Sender":"a@b","Recipient":"c@d","SenderIP":"203.0.113.62","Urls":["https://e.example/1","no"]},
            {"Type":"mailMessage","NetworkMessageId":"2","P2Sender":"a@b"},
            {"Type":"file","Name":"f.zip","FileHashes":[{"Algorithm":"SHA256","Value":"aa"},{"Algorithm":"MD5","Value":"bb"},{"Algorithm":"odd","Value":"cc"}]},
            {"Type":"user","Name":"no file","Upn":"g@h"},
            {"$ref":"3"}, 7, null,
        ]});
        let read = document_of(&json!({"RecordType":64,"Status":"Failed","Data":data.to_string()}).to_string());
        assert_eq!(read["email"]["local_id"], json!(["1", "2"]));
        assert_eq!(read["email"]["from"]["address"], json!(["a@b"]));
        assert_eq!(read["file"], json!({"extension":"zip","name":"f.zip","hash":{"md5":"bb","sha256":"aa"}}));
        assert_eq!(read["url"], json!({"domain":"e.example","original":"https://e.example/1"}));
        assert_eq!(read["related"]["user"], json!(["g@h", "a@b", "c@d"]));
        assert_eq!(read["related"]["ip"], json!(["203.0.113.62"]));
        assert_eq!(read["event"]["outcome"], "failure");
        // The same as an object; and what is no JSON at all.
        assert_eq!(document_of(&json!({"RecordType":64,"Data":data}).to_string())["email"], read["email"]);
        assert_eq!(document_of(r#"{"RecordType":64,"Data":"{","Status":"Running"}"#)["event"].get("outcome"), None);
    }
}
