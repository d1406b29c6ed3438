//! Files, pages, lists and sharing in SharePoint and OneDrive: record types 4, 6, 7, 14, 36, 37, 54, 55, 56 and 102.
//!
//! Comes in: a record. Goes out: facts in a draft (activity-api, section 5, items 35 to 39; ecs-mapping, section 5).

use crate::record::Field;

use super::draft::{Draft, Value};
use super::ecs::Ecs;
use super::family::{Family, Rule, copied, made, moved};
use super::identity;

pub static FAMILY: Family = Family {
    name: "SharePoint and OneDrive",
    record_types: &[4, 6, 7, 14, 36, 37, 54, 55, 56, 102],
    rules: RULES,
    describe,
};

const RULES: &[Rule] = &[
    made(Ecs::UrlOriginal, "ObjectId", "where it is an address of the web"),
    made(Ecs::UrlDomain, "ObjectId", "of the same"),
    moved(Ecs::FileDirectory, Field::SourceRelativeUrl),
    moved(Ecs::FileName, Field::SourceFileName),
    moved(Ecs::FileExtension, Field::SourceFileExtension),
    made(Ecs::FilePath, "SourceRelativeUrl, SourceFileName", "joined with `/`"),
    made(
        Ecs::FileTargetPath,
        "DestinationRelativeUrl, DestinationFileName",
        "joined with `/`: where it was copied, moved or renamed to",
    ),
    copied(Ecs::EventReason, Field::SensitivityLabelJustificationText),
    made(Ecs::FileType, "ItemType", "File: file; Folder: dir; of a named file or of sharing"),
    made(Ecs::UserTargetId, "TargetUserOrGroupName", "where TargetUserOrGroupType is Member or Guest"),
    made(Ecs::UserTargetEmail, "TargetUserOrGroupName", "of the same, where it is an address"),
    made(Ecs::UserTargetName, "TargetUserOrGroupName", "of the same"),
    made(Ecs::UserTargetDomain, "TargetUserOrGroupName", "of the same"),
    made(
        Ecs::GroupName,
        "EventData <Group>; TargetUserOrGroupName",
        "the group that was changed; else the target where TargetUserOrGroupType is a group",
    ),
];

/// `SharePointSharingOperation`.
const SHARING: i64 = 14;

fn describe(draft: &mut Draft<'_>) {
    if let Some(url) = draft.said(Field::ObjectId) {
        set_url(draft, url);
    }
    let path = joined(draft, draft.said(Field::SourceRelativeUrl), draft.said(Field::SourceFileName));
    draft.set_text(Ecs::FilePath, path);
    let path = joined(draft, draft.said(Field::DestinationRelativeUrl), draft.said(Field::DestinationFileName));
    draft.set_text(Ecs::FileTargetPath, path);
    // Of a search or a block the item is said to be a file though it is a site.
    let has_item = draft.has(Ecs::FileName) || draft.record_type == Some(SHARING);
    let kind = draft.said(Field::ItemType).filter(|_| has_item).and_then(|kind| match kind {
        "File" => Some("file"),
        "Folder" => Some("dir"),
        _ => None,
    });
    draft.set_text(Ecs::FileType, kind);
    describe_target(draft);
}

/// The address of something on the web, and its host. Other texts are left alone.
pub fn set_url<'a>(draft: &mut Draft<'a>, url: &'a str) {
    if let Some(host) = host_of(url) {
        draft.set(Ecs::UrlOriginal, Value::Text(url));
        draft.set_text(Ecs::UrlDomain, Some(host));
    }
}

/// The host of an address of the web (escaped), perhaps empty; `None` for any other text.
pub fn host_of(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    if !["https", "http"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return None;
    }
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    // A colon in brackets is one of an IPv6 address.
    let in_brackets = host.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(host, _)| host);
    Some(in_brackets.unwrap_or_else(|| host.split_once(':').map_or(host, |(host, _)| host)))
}

fn joined<'a>(draft: &Draft<'a>, directory: Option<&'a str>, name: Option<&'a str>) -> Option<&'a str> {
    let name = name?;
    let directory = directory.unwrap_or_default().trim_end_matches('/');
    Some(if directory.is_empty() { name } else { draft.keep(&[directory, "/", name].concat()) })
}

/// What stands behind the last dot of a file's name.
pub fn extension(name: &str) -> Option<&str> {
    let (_, extension) = name.rsplit_once('.')?;
    (!extension.is_empty()).then_some(extension)
}

/// With whom something was shared, or who was added.
fn describe_target(draft: &mut Draft<'_>) {
    // The group that was changed stands in the event's data; the target is who came or went.
    if let Some((_, rest)) = draft.said(Field::EventData).and_then(|data| data.split_once("<Group>"))
        && let Some((group, _)) = rest.split_once("</Group>")
    {
        draft.set_text(Ecs::GroupName, Some(group));
    }
    let Some(name) = draft.said(Field::TargetUserOrGroupName) else { return };
    match draft.said(Field::TargetUserOrGroupType).unwrap_or_default() {
        "Member" | "Guest" | "Partner" | "" => identity::set(draft, identity::TARGET, name),
        "SecurityGroup" | "SharePointGroup" => draft.fill_text(Ecs::GroupName, Some(name)),
        _ => {}
    }
}
