//! Copilot: what people ask it and what it reads (261, 328, 334), and how it is set up.
//!
//! Comes in: a record. Goes out: facts in a draft. What was asked where stands in `CopilotEventData`, an object or the
//! same as text; what was said is in no record (activity-api, section 5, item 48).

use crate::record::Field;

use super::draft::{Draft, Value};
use super::ecs::Ecs;
use super::family::{Family, Rule, made};
use super::{nested, sharepoint, verb};

pub static FAMILY: Family = Family {
    name: "Copilot",
    record_types: &[
        261, 310, 311, 312, 313, 314, 315, 316, 317, 318, 319, 320, 321, 322, 323, 324, 325, 328, 334, 362, 363, 370,
        373, 379, 380, 383, 384, 454,
    ],
    rules: RULES,
    describe,
};

/// Records of what was asked; all others are about how Copilot is set up.
const INTERACTIONS: [i64; 8] = [261, 328, 334, 362, 363, 379, 380, 383];

const RULES: &[Rule] = &[
    made(
        Ecs::EventCategory,
        "Operation, RecordType",
        "where the table of operations says nothing: `web` for what was asked; else `configuration`, where the name has a verb",
    ),
    made(Ecs::EventType, "Operation, RecordType", "of the same: access; by the verb"),
    made(
        Ecs::EventReason,
        "CopilotEventData Messages[].JailbreakDetected, AccessedResources[].XPIADetected",
        "the name of what was detected",
    ),
    made(Ecs::OurApplicationName, "CopilotEventData.AppHost", "where the record names no application"),
    made(Ecs::FileName, "CopilotEventData.AccessedResources[].Name", "of the one file that was read"),
    made(Ecs::FileExtension, "CopilotEventData.AccessedResources[].Name", "of the same"),
    made(Ecs::UrlOriginal, "CopilotEventData.AccessedResources[].SiteUrl", "of the same"),
    made(Ecs::UrlDomain, "CopilotEventData.AccessedResources[].SiteUrl", "of the same"),
];

fn describe(draft: &mut Draft<'_>) {
    if draft.record_type.is_some_and(|number| INTERACTIONS.contains(&number)) {
        if !draft.has(Ecs::EventCategory) {
            draft.add(Ecs::EventCategory, Value::Text("web"));
            draft.add(Ecs::EventType, Value::Text("access"));
        }
    } else {
        verb::describe(draft, "configuration");
    }
    let Some(data) = draft.raw(Field::CopilotEventData) else { return };
    let data = match data.starts_with('"') {
        true => draft.said(Field::CopilotEventData).and_then(|data| draft.embedded(data)),
        false => Some(data),
    };
    for (name, value) in nested::members(data.unwrap_or_default()) {
        match name {
            "AppHost" => draft.fill_text(Ecs::OurApplicationName, nested::texts(value).next()),
            "AccessedResources" => describe_resources(draft, value),
            "Messages" => detected(draft, value, "JailbreakDetected"),
            _ => {}
        }
    }
}

/// What Copilot read. Files have an address of the web; searches and the like have none.
fn describe_resources<'a>(draft: &mut Draft<'a>, resources: &'a str) {
    detected(draft, resources, "XPIADetected");
    let file = |resource| {
        let url = nested::text_member(resource, "SiteUrl").filter(|url| sharepoint::host_of(url).is_some())?;
        Some((url, nested::text_member(resource, "Name")))
    };
    let mut files = nested::elements(resources).filter_map(file);
    if let (Some((url, name)), None) = (files.next(), files.next()) {
        sharepoint::set_url(draft, url);
        draft.set_text(Ecs::FileName, name);
    }
}

/// Says by its name what is true of one of the elements.
fn detected<'a>(draft: &mut Draft<'a>, list: &'a str, name: &'static str) {
    if nested::elements(list).any(|element| nested::member(element, name) == Some("true")) {
        draft.add_text(Ecs::EventReason, name);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::normalize::tests::document_of;

    #[test]
    fn only_the_one_file_that_was_read_is_named() {
        let resource =
            |name: &str| json!({"Name":name,"SiteUrl":format!("https://x.example/{name}"),"XPIADetected":false});
        let read = |resources: serde_json::Value| {
            document_of(&json!({"RecordType":261,"CopilotEventData":{"AccessedResources":resources}}).to_string())
        };
        let one = read(json!([resource("a.b.docx"), {"Type":"WebSearchQuery","Name":"q"}, 7]));
        assert_eq!(one["file"], json!({"extension":"docx","name":"a.b.docx"}));
        assert_eq!(one["url"], json!({"domain":"x.example","original":"https://x.example/a.b.docx"}));
        assert_eq!(one["event"].get("reason"), None);
        let two = read(json!([resource("a"), resource("b")]));
        assert_eq!((two.get("file"), two.get("url")), (None, None));
    }

    #[test]
    fn the_data_may_be_text_and_what_was_detected_is_said() {
        let data = json!({"AppHost":"Teams","Messages":[{"isPrompt":true,"JailbreakDetected":true}]}).to_string();
        let read = document_of(&json!({"RecordType":261,"CopilotEventData":data}).to_string());
        assert_eq!(read["auditferry"]["application"]["name"], "Teams");
        assert_eq!(
            (&read["event"]["reason"], &read["event"]["category"]),
            (&json!("JailbreakDetected"), &json!(["web"]))
        );
        let read = document_of(r#"{"RecordType":325,"Operation":"SetSomething","CopilotEventData":"{"}"#);
        assert_eq!(read["event"]["category"], json!(["configuration"]));
    }
}
