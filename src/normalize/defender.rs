//! Microsoft Defender: mail with threats (28), clicks on links (41), files with malware (47), investigations (64, 86,
//! 89), and its settings and exercises.
//!
//! Comes in: a record. Goes out: facts in a draft; those of an investigation are found by `investigation`
//! (activity-api, section 5, items 42 and 43; ecs-mapping, section 6).

use crate::record::Field;
use crate::record::address::Address;
use crate::record::view::{integer, scalar};

use super::draft::{Draft, Value};
use super::ecs::Ecs;
use super::family::{Family, Rule, copied, made};
use super::{base, identity, investigation, json, nested, sharepoint, verb};

pub static FAMILY: Family = Family {
    name: "Defender",
    record_types: &[28, 34, 41, 47, 62, 64, 85, 86, 88, 89, 90, 218, 235, 237, 341, 342, 344, 359, 360, 381],
    rules: RULES,
    describe,
};

const MAIL: i64 = 28;
const CLICK: i64 = 41;
const FILE: i64 = 47;

const RULES: &[Rule] = &[
    made(Ecs::EventKind, "RecordType", "`alert` for mail (28) and files (47)"),
    made(
        Ecs::EventCategory,
        "RecordType",
        "unless the operation says more: mail: email, threat; a click: threat, web; a file: file, malware, threat; an investigation: intrusion_detection",
    ),
    made(Ecs::EventType, "RecordType", "of the same: info, indicator; access, indicator; info, indicator; info"),
    made(
        Ecs::EventOutcome,
        "Status of an investigation",
        "where there is no ResultStatus; Failed: failure; Completed, Remediated: success",
    ),
    made(
        Ecs::EventReason,
        "ThreatsAndDetectionTech; DetectionMethod; URLClickAction, UrlClickAction; ResultDescription",
        "all of the list, else the method; of a click the name of the number: 2 BlockPage, 3 PendingDetonationPage, 4 BlockPageOverride, 5 PendingDetonationPageOverride",
    ),
    copied(Ecs::EventUrl, Field::EventDeepLink),
    copied(Ecs::EventUrl, Field::DeeplinkURL),
    copied(Ecs::EventUrl, Field::DeepLinkUrl),
    copied(Ecs::EventStart, Field::StartTimeUtc),
    copied(Ecs::EventStart, Field::TimeOfClick),
    copied(Ecs::EventEnd, Field::EndTimeUtc),
    copied(Ecs::EmailDeliveryTimestamp, Field::MessageTime),
    copied(Ecs::FileMtime, Field::LastModifiedDate),
    copied(Ecs::Message, Field::InvestigationName),
    made(Ecs::EmailDirection, "Directionality", "Inbound: inbound; Outbound: outbound; IntraOrg: internal"),
    made(Ecs::EmailAttachments, "AttachmentData[]", "name, extension and SHA-256 of each"),
    made(Ecs::EmailMessageId, "Data.Entities[].InternetMessageId", "all"),
    made(Ecs::EmailLocalId, "Data.Entities[].NetworkMessageId", "all"),
    made(Ecs::EmailSender, "Data.Entities[].P1Sender", "all"),
    made(Ecs::EmailFrom, "Data.Entities[].P2Sender", "all"),
    made(Ecs::EmailTo, "Data.Entities[].Recipient", "all"),
    made(Ecs::EmailSubject, "Data.Entities[].Subject", "all"),
    made(Ecs::FileName, "FileData.FileName; Data.Entities[].Name", "as sent; of all entities that are files"),
    made(Ecs::FileDirectory, "FileData.FilePath", "unless it ends with the file's name"),
    made(Ecs::FilePath, "FileData.FilePath, FileData.FileName", "joined with `/`, unless the path has the name"),
    made(Ecs::FileSize, "FileData.FileSize", "a whole number, however it is spelt"),
    made(
        Ecs::FileHashSha256,
        "FileData.SHA256; Data.Entities[].FileHashes[]",
        "as sent; of all entities that are files",
    ),
    made(Ecs::FileHashSha1, "Data.Entities[].FileHashes[]", "of the same"),
    made(Ecs::FileHashMd5, "Data.Entities[].FileHashes[]", "of the same"),
    made(
        Ecs::RuleName,
        "Policy; FileData.MalwareFamily",
        "the policy that found the mail; what the file was found to be",
    ),
    made(
        Ecs::ThreatIndicatorType,
        "AttachmentData[], FileData, Url",
        "file, where its verdict is 1 (bad); url, of a click",
    ),
    made(Ecs::ThreatIndicatorName, "AttachmentData[].FileName, FileData.FileName, Url", "of the same"),
    made(
        Ecs::UrlOriginal,
        "Url, URL; FileData.FilePath; Data.Entities[].Url, Data.Entities[].Urls",
        "where it is an address of the web; of all entities",
    ),
    made(Ecs::UrlDomain, "Url, URL; FileData.FilePath; Data.Entities[].Url, Data.Entities[].Urls", "of the same"),
    made(Ecs::SourceAddress, "UserIp", "of a click: who clicked was there"),
    made(Ecs::SourceIp, "UserIp", "of the same"),
    made(Ecs::SourcePort, "UserIp", "of the same"),
    made(Ecs::SourcePlace, "UserIp", "of the same"),
    made(Ecs::ClientAddress, "UserIp", "of the same"),
    made(Ecs::ClientIp, "UserIp", "of the same"),
    made(Ecs::ClientPort, "UserIp", "of the same"),
    made(Ecs::NetworkType, "UserIp", "of the same"),
    made(Ecs::OurApplicationName, "AppName", "of a click: where the link was"),
    made(Ecs::RelatedIp, "UserIp; Data.Entities[] SenderIP, Address", "every address"),
    made(Ecs::RelatedHash, "AttachmentData[].SHA256", "all"),
    made(
        Ecs::RelatedUser,
        "LastModifiedBy; Data.Entities[] Upn, UserPrincipalName, MailboxPrimaryAddress",
        "every address",
    ),
];

fn describe(draft: &mut Draft<'_>) {
    let meaning: (&[&str], &[&str]) = match draft.record_type {
        Some(MAIL) => (&["email", "threat"], &["info", "indicator"]),
        Some(CLICK) => (&["threat", "web"], &["indicator", "access"]),
        Some(FILE) => (&["file", "malware", "threat"], &["info", "indicator"]),
        Some(64 | 86 | 89) => (&["intrusion_detection"], &["info"]),
        _ => (&[], &[]),
    };
    if !draft.has(Ecs::EventCategory) {
        meaning.0.iter().for_each(|category| draft.add(Ecs::EventCategory, Value::Text(category)));
        meaning.1.iter().for_each(|kind| draft.add(Ecs::EventType, Value::Text(kind)));
    }
    match draft.record_type {
        Some(MAIL) => {
            draft.kind = "alert";
            describe_mail(draft);
        }
        Some(CLICK) => describe_click(draft),
        Some(FILE) => {
            draft.kind = "alert";
            describe_file(draft);
        }
        Some(64 | 86 | 89) => investigation::describe(draft),
        _ => {
            draft.set_text(Ecs::EventReason, draft.said(Field::ResultDescription));
            verb::describe(draft, "configuration");
        }
    }
}

fn describe_mail(draft: &mut Draft<'_>) {
    draft.set_text(Ecs::RuleName, draft.said(Field::Policy));
    draft.set_text(Ecs::EmailDirection, draft.said(Field::Directionality).and_then(direction));
    for found in nested::texts(draft.raw(Field::ThreatsAndDetectionTech).unwrap_or_default()) {
        draft.add_text(Ecs::EventReason, found);
    }
    draft.fill_text(Ecs::EventReason, draft.said(Field::DetectionMethod));
    attachments(draft, draft.raw(Field::AttachmentData).unwrap_or_default());
}

/// `email.direction` of a `Directionality`.
pub fn direction(text: &str) -> Option<&'static str> {
    match text {
        _ if text.eq_ignore_ascii_case("Inbound") => Some("inbound"),
        _ if text.eq_ignore_ascii_case("Outbound") => Some("outbound"),
        _ if text.eq_ignore_ascii_case("IntraOrg") => Some("internal"),
        _ => None,
    }
}

/// The files of an `AttachmentData`; those with a bad verdict are indicators of a threat.
pub fn attachments<'a>(draft: &mut Draft<'a>, list: &'a str) {
    for attachment in nested::elements(list) {
        let (mut name, mut hash, mut is_bad) = (None, None, false);
        for (key, value) in nested::members(attachment) {
            match key {
                "FileName" => name = scalar(value).filter(|text| !text.is_empty()),
                "SHA256" | "Sha256" => hash = scalar(value).filter(|text| !text.is_empty()),
                "FileVerdict" => is_bad = scalar(value) == Some(BAD),
                _ => {}
            }
        }
        if name.is_none() && hash.is_none() {
            continue;
        }
        let mut out = b"{\"file\":{".to_vec();
        if let Some(name) = name {
            json::escaped("name", name, &mut out);
            if let Some(extension) = sharepoint::extension(draft.plain(name)) {
                json::text("extension", extension, &mut out);
            }
        }
        if let Some(hash) = hash {
            json::open("hash", &mut out);
            json::escaped("sha256", hash, &mut out);
            json::close(&mut out);
            draft.add_text(Ecs::RelatedHash, hash);
        }
        json::end(b'}', &mut out);
        out.push(b'}');
        let object = draft.keep(&String::from_utf8_lossy(&out));
        draft.add(Ecs::EmailAttachments, Value::Json(object));
        if is_bad && let Some(indicator) = name.or(hash) {
            draft.set(Ecs::ThreatIndicatorType, Value::Text("file"));
            draft.add_text(Ecs::ThreatIndicatorName, indicator);
        }
    }
}

/// `FileVerdict`: 0 good, 1 bad, below 0 no verdict (Management Activity API schema, "FileVerdict").
const BAD: &str = "1";

fn describe_click(draft: &mut Draft<'_>) {
    if let Some(url) = draft.said(Field::Url).or_else(|| draft.said(Field::UrlCapitals)) {
        sharepoint::set_url(draft, url);
        draft.set(Ecs::ThreatIndicatorType, Value::Text("url"));
        draft.set(Ecs::ThreatIndicatorName, Value::Text(url));
    }
    let from = draft.said(Field::UserIp).filter(|text| !text.contains('\\')).and_then(Address::parse);
    if let Some(from) = from.filter(|from| from.ip.is_some()) {
        base::set_source(draft, from);
    }
    let action = draft.said(Field::UrlClickAction).or_else(|| draft.said(Field::URLClickAction));
    draft.set_text(Ecs::EventReason, action.and_then(click_action));
    draft.fill_text(Ecs::OurApplicationName, draft.said(Field::AppName));
}

/// Names of the schema's enumeration `URLClickAction`.
fn click_action(number: &str) -> Option<&'static str> {
    match number {
        "2" => Some("BlockPage"),
        "3" => Some("PendingDetonationPage"),
        "4" => Some("BlockPageOverride"),
        "5" => Some("PendingDetonationPageOverride"),
        _ => None,
    }
}

fn describe_file(draft: &mut Draft<'_>) {
    let (mut path, mut is_bad) = (None, false);
    for (name, value) in nested::members(draft.raw(Field::FileData).unwrap_or_default()) {
        match name {
            "FileName" => draft.set_raw(Ecs::FileName, value),
            "FilePath" => path = scalar(value).filter(|text| !text.is_empty()),
            "FileSize" => {
                if let Some(size) = scalar(value).and_then(integer) {
                    draft.set(Ecs::FileSize, Value::Number(size));
                }
            }
            "SHA256" | "Sha256" => draft.set_raw(Ecs::FileHashSha256, value),
            "MalwareFamily" => draft.set_text(Ecs::RuleName, scalar(value)),
            "FileVerdict" => is_bad = scalar(value) == Some(BAD),
            _ => {}
        }
    }
    let name = draft.text(Ecs::FileName);
    if let Some(path) = path {
        let has_name =
            |name: &str| path.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with(['/', '\\']));
        let whole = match name.filter(|name| !has_name(name)) {
            Some(name) => {
                draft.set(Ecs::FileDirectory, Value::Text(path));
                draft.keep(&[path.trim_end_matches('/'), "/", name].concat())
            }
            None => path,
        };
        draft.set(Ecs::FilePath, Value::Text(whole));
        sharepoint::set_url(draft, whole);
    }
    if is_bad && let Some(indicator) = name.or(draft.text(Ecs::FileHashSha256)) {
        draft.set(Ecs::ThreatIndicatorType, Value::Text("file"));
        draft.set(Ecs::ThreatIndicatorName, Value::Text(indicator));
    }
    draft.set_text(Ecs::EventReason, draft.said(Field::DetectionMethod));
    identity::add_related(draft, draft.said(Field::LastModifiedBy).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::normalize::tests::document_of;

    #[test]
    fn a_mail_has_its_attachments_and_the_bad_ones_are_indicators() {
        let read = document_of(
            r#"{"RecordType":28,"Operation":"TIMailData","Directionality":"IntraOrg","DetectionMethod":"x","Policy":"Phish",
                "ThreatsAndDetectionTech":["Malware: [a]","Spam: [b]"],"MessageTime":"2026-04-02T10:11:12",
                "AttachmentData":[{"FileName":"good \"1\".zip","SHA256":"AA","FileVerdict":0},{"FileName":"bad","FileVerdict":1},{"SHA256":"BB","FileVerdict":1},{"FileType":"zip"},7]}"#,
        );
        assert_eq!(read["event"]["kind"], "alert");
        assert_eq!(read["event"]["reason"], json!(["Malware: [a]", "Spam: [b]"]));
        assert_eq!(
            read["email"]["attachments"],
            json!([
                {"file":{"name":"good \"1\".zip","extension":"zip","hash":{"sha256":"AA"}}},
                {"file":{"name":"bad"}},
                {"file":{"hash":{"sha256":"BB"}}},
            ])
        );
        assert_eq!(read["email"]["direction"], "internal");
        assert_eq!(read["email"]["delivery_timestamp"], "2026-04-02T10:11:12.000Z");
        assert_eq!(read["related"]["hash"], json!(["AA", "BB"]));
        assert_eq!(read["threat"]["indicator"], json!({"type":"file","name":["bad","BB"]}));
        assert_eq!(read["rule"]["name"], "Phish");
        let read = document_of(r#"{"RecordType":28,"DetectionMethod":"Spoof","AttachmentData":null}"#);
        assert_eq!(read["event"]["reason"], "Spoof");
        assert_eq!(read.get("threat"), None);
        assert_eq!(read["event"]["category"], json!(["email", "threat"]));
    }

    #[test]
    fn who_clicked_was_at_the_address_of_the_click() {
        let read = document_of(
            r#"{"RecordType":41,"URL":"https://u@evil.example:8443/p","URLClickAction":4,"UserIp":"[2001:db8::9]:44","TimeOfClick":"2026-04-02T11:05:00"}"#,
        );
        assert_eq!(read["source"], json!({"address":"2001:db8::9","ip":"2001:db8::9","port":44}));
        assert_eq!(read["url"], json!({"domain":"evil.example","original":"https://u@evil.example:8443/p"}));
        assert_eq!(read["event"]["reason"], "BlockPageOverride");
        assert_eq!(
            (&read["event"]["kind"], &read["event"]["start"]),
            (&json!("event"), &json!("2026-04-02T11:05:00.000Z"))
        );
        let read = document_of(r#"{"RecordType":41,"Url":"x","UrlClickAction":9,"UserIp":""}"#);
        assert_eq!((read.get("source"), read.get("url"), read["event"].get("reason")), (None, None, None));
    }

    #[test]
    fn a_file_has_a_path_with_its_name_once() {
        let file = |path: &str| {
            let data = json!({"FileName":"a.exe","FilePath":path,"FileSize":"2E1","FileVerdict":1,"MalwareFamily":"T"});
            document_of(&json!({"RecordType":47,"FileData":data}).to_string())
        };
        let read = file("https://x.example/d/");
        assert_eq!(
            read["file"],
            json!({"directory":"https://x.example/d/","extension":"exe","name":"a.exe","path":"https://x.example/d/a.exe","size":20})
        );
        assert_eq!((&read["rule"]["name"], &read["threat"]["indicator"]["name"]), (&json!("T"), &json!("a.exe")));
        assert_eq!(file("/d/a.exe")["file"], json!({"extension":"exe","name":"a.exe","path":"/d/a.exe","size":20}));
    }
}
