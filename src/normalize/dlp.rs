//! Data loss prevention: record types 11 and 33 (SharePoint, OneDrive), 13 and 107 (Exchange), 63, 99 and 100
//! (endpoints and file shares).
//!
//! Comes in: a record. Goes out: facts in a draft. One record may name several policies with several rules each
//! (activity-api, section 5, items 52 to 54; ecs-mapping, section 5). The record does not say whether anything
//! failed, so no outcome is written.

use crate::record::Field;
use crate::record::address::Address;
use crate::record::view::scalar;

use super::draft::{Draft, Value};
use super::ecs::Ecs;
use super::family::{Family, Rule, copied, made};
use super::{base, identity, nested, sharepoint};

pub static FAMILY: Family =
    Family { name: "Data loss prevention", record_types: &[11, 13, 33, 63, 99, 100, 107], rules: RULES, describe };

const RULES: &[Rule] = &[
    made(Ecs::EventKind, "Operation", "`alert` for DlpRuleMatch"),
    made(Ecs::EventCategory, "RecordType", "`email` for Exchange, `web` for a chat of Teams, else `file`"),
    made(Ecs::EventType, "RecordType", "`info` for Exchange, else `access`"),
    made(Ecs::EventSeverity, "PolicyDetails[].Rules[].Severity", "the highest: low 2, medium 3, high 4"),
    made(Ecs::RuleId, "PolicyDetails[].Rules[].RuleId", "of all rules of all policies"),
    made(Ecs::RuleName, "PolicyDetails[].Rules[].RuleName", "of all rules of all policies"),
    made(Ecs::RuleRuleset, "PolicyDetails[].PolicyName", "of all policies"),
    made(Ecs::EventReason, "ExceptionInfo", "as text, or its Reason: why the user was let through"),
    made(Ecs::EmailFrom, "ExchangeMetaData.From", "as sent"),
    made(Ecs::EmailTo, "ExchangeMetaData.To", "all"),
    made(Ecs::EmailCc, "ExchangeMetaData.CC", "all"),
    made(Ecs::EmailBcc, "ExchangeMetaData.BCC", "all"),
    made(Ecs::EmailSubject, "ExchangeMetaData.Subject", "as sent"),
    made(Ecs::EmailMessageId, "ExchangeMetaData.MessageID", "as sent"),
    made(Ecs::EmailOriginationTimestamp, "ExchangeMetaData.Sent", "where it is a time"),
    made(Ecs::UserId, "SharePointMetaData.From", "where there is no UserId"),
    made(
        Ecs::FileName,
        "SharePointMetaData.FileName; ObjectId of an endpoint",
        "as sent; what stands behind the last separator",
    ),
    made(Ecs::FilePath, "ObjectId", "of an endpoint"),
    made(Ecs::FileOwner, "SharePointMetaData.FileOwner", "as sent"),
    made(Ecs::FileMtime, "SharePointMetaData.LastModifiedTime", "where it is a time"),
    made(Ecs::FileCreated, "SharePointMetaData.itemCreationTime", "where it is a time"),
    made(Ecs::FileSize, "SharePointMetaData.FileSize; EndpointMetaData.FileSize", "a whole number"),
    made(Ecs::FileExtension, "EndpointMetaData.FileExtension", "as sent"),
    made(Ecs::FileHashSha256, "EndpointMetaData.Sha256", "as sent"),
    made(Ecs::FileHashSha1, "EndpointMetaData.Sha1", "as sent"),
    made(Ecs::UrlOriginal, "SharePointMetaData.FilePathUrl", "as sent"),
    made(Ecs::UrlDomain, "SharePointMetaData.FilePathUrl", "its host"),
    made(Ecs::HostName, "EndpointMetaData.DeviceName; DeviceName", "the device that saw it"),
    copied(Ecs::ProcessName, Field::Application),
    made(Ecs::HostOsPlatform, "Platform; EndpointMetaData.Platform", "the name of the number"),
    made(Ecs::HostOsType, "Platform; EndpointMetaData.Platform", "where it is an operating system"),
    made(Ecs::SourceIp, "EndpointMetaData.ClientIP", "where there is no other"),
    made(Ecs::UrlDomain, "EndpointMetaData.OriginatingDomain", "where it came from"),
    made(Ecs::FileTargetPath, "EndpointMetaData.TargetFilePath; TargetFilePath", "where it was copied to"),
    made(Ecs::DestinationDomain, "EndpointMetaData.TargetDomain; TargetDomain", "the site it was sent to"),
    made(Ecs::DeviceId, "EndpointMetaData.MDATPDeviceId; MDATPDeviceId", "as sent"),
    made(
        Ecs::RelatedUser,
        "SharePointMetaData From, FileOwner; ExchangeMetaData From, To, CC, BCC",
        "every address, of a chat message too",
    ),
];

/// What a chat message has not.
const MAIL: [Ecs; 7] = [
    Ecs::EmailFrom,
    Ecs::EmailTo,
    Ecs::EmailCc,
    Ecs::EmailBcc,
    Ecs::EmailSubject,
    Ecs::EmailMessageId,
    Ecs::EmailOriginationTimestamp,
];

/// Record types of rules that matched a mail.
const EXCHANGE: [i64; 2] = [13, 107];

fn describe(draft: &mut Draft<'_>) {
    if draft.operation() == "DlpRuleMatch" {
        draft.kind = "alert";
    }
    let is_mail = draft.record_type.is_some_and(|number| EXCHANGE.contains(&number));
    // A chat message is matched by the same rules, and described as a mail.
    let is_chat = is_mail && draft.text(Ecs::EventProvider) == Some("MicrosoftTeams");
    let (category, kind) = match (is_chat, is_mail) {
        (true, _) => ("web", "info"),
        (false, true) => ("email", "info"),
        (false, false) => ("file", "access"),
    };
    // The table of operations cannot know where the rule matched.
    draft.clear(Ecs::EventCategory);
    draft.clear(Ecs::EventType);
    draft.add(Ecs::EventCategory, Value::Text(category));
    draft.add(Ecs::EventType, Value::Text(kind));
    policies(draft);
    if let Some(exception) = draft.raw(Field::ExceptionInfo) {
        let reason = scalar(exception).or_else(|| nested::text_member(exception, "Reason"));
        draft.set_text(Ecs::EventReason, reason);
    }
    if let Some(mail) = draft.raw(Field::ExchangeMetaData) {
        describe_mail(draft, mail);
        if is_chat {
            base::add_people_of_mail(draft);
            MAIL.iter().for_each(|field| draft.clear(*field));
        }
    }
    if let Some(file) = draft.raw(Field::SharePointMetaData) {
        describe_file(draft, file);
    }
    if draft.record_type == Some(63) || draft.raw(Field::EndpointMetaData).is_some() {
        describe_endpoint(draft);
    }
}

fn policies(draft: &mut Draft<'_>) {
    let mut highest = None;
    for policy in nested::elements(draft.raw(Field::PolicyDetails).unwrap_or_default()) {
        for (name, value) in nested::members(policy) {
            match name {
                "PolicyName" => scalar(value).into_iter().for_each(|name| draft.add_text(Ecs::RuleRuleset, name)),
                "Rules" => {
                    for rule in nested::elements(value) {
                        for (to, name) in [(Ecs::RuleId, "RuleId"), (Ecs::RuleName, "RuleName")] {
                            draft.add_text(to, nested::text_member(rule, name).unwrap_or_default());
                        }
                        highest = highest.max(nested::text_member(rule, "Severity").and_then(base::severity));
                    }
                }
                _ => {}
            }
        }
    }
    if let Some(severity) = highest {
        draft.set(Ecs::EventSeverity, Value::Number(severity));
    }
}

fn describe_mail<'a>(draft: &mut Draft<'a>, mail: &'a str) {
    for (name, value) in nested::members(mail) {
        match name {
            "From" => {
                for address in nested::texts(value) {
                    draft.add_text(Ecs::EmailFrom, address);
                }
            }
            "To" | "CC" | "BCC" => {
                let to = match name {
                    "To" => Ecs::EmailTo,
                    "CC" => Ecs::EmailCc,
                    _ => Ecs::EmailBcc,
                };
                nested::texts(value).for_each(|address| draft.add_text(to, address));
            }
            "Subject" => draft.set_text(Ecs::EmailSubject, scalar(value)),
            "MessageID" => draft.set_text(Ecs::EmailMessageId, scalar(value)),
            "Sent" => draft.set_raw(Ecs::EmailOriginationTimestamp, value),
            _ => {}
        }
    }
}

fn describe_file<'a>(draft: &mut Draft<'a>, file: &'a str) {
    for (name, value) in nested::members(file) {
        match name {
            "FileName" => draft.set_text(Ecs::FileName, scalar(value)),
            "FileOwner" => {
                draft.set_text(Ecs::FileOwner, scalar(value));
                identity::add_related(draft, scalar(value).unwrap_or_default());
            }
            "FilePathUrl" => {
                draft.set_text(Ecs::UrlOriginal, scalar(value));
                sharepoint::set_url(draft, scalar(value).unwrap_or_default());
            }
            "LastModifiedTime" => draft.set_raw(Ecs::FileMtime, value),
            "itemCreationTime" | "ItemCreationTime" => draft.set_raw(Ecs::FileCreated, value),
            "FileSize" => draft.set_raw(Ecs::FileSize, value),
            "From" => {
                let from = scalar(value).filter(|from| identity::is_known(from)).unwrap_or_default();
                if !draft.has(Ecs::UserId) && !from.is_empty() {
                    identity::set(draft, identity::USER, from);
                }
                identity::add_related(draft, from);
            }
            _ => {}
        }
    }
}

fn describe_endpoint(draft: &mut Draft<'_>) {
    platform(draft, draft.said(Field::Platform));
    draft.set_text(Ecs::HostName, draft.said(Field::DeviceName));
    draft.set_text(Ecs::FileTargetPath, draft.said(Field::TargetFilePath));
    draft.set_text(Ecs::DeviceId, draft.said(Field::MDATPDeviceId));
    draft.set_text(Ecs::DestinationDomain, draft.said(Field::TargetDomain));
    for (name, value) in nested::members(draft.raw(Field::EndpointMetaData).unwrap_or_default()) {
        match name {
            "DeviceName" => draft.set_raw(Ecs::HostName, value),
            "FileExtension" => draft.set_raw(Ecs::FileExtension, value),
            "FileSize" => draft.set_raw(Ecs::FileSize, value),
            "Sha256" => draft.set_raw(Ecs::FileHashSha256, value),
            "Sha1" => draft.set_raw(Ecs::FileHashSha1, value),
            "Application" => draft.set_raw(Ecs::ProcessName, value),
            "TargetFilePath" => draft.set_raw(Ecs::FileTargetPath, value),
            "TargetDomain" => draft.set_raw(Ecs::DestinationDomain, value),
            "MDATPDeviceId" => draft.set_raw(Ecs::DeviceId, value),
            "Platform" => platform(draft, scalar(value)),
            "OriginatingDomain" => draft.set_raw(Ecs::UrlDomain, value),
            "ClientIP" if !draft.has(Ecs::SourceIp) => {
                if let Some(address) = scalar(value).and_then(Address::parse).filter(|address| address.ip.is_some()) {
                    base::set_source(draft, address);
                }
            }
            _ => {}
        }
    }
    if let Some(path) = draft.said(Field::ObjectId) {
        draft.set_text(Ecs::FilePath, Some(path));
        // Unescaped, because a cut behind a backslash would leave half an escape.
        let name = draft.plain(path).rsplit(['\\', '/']).next().map(|name| draft.escaped(name));
        draft.set_text(Ecs::FileName, name);
    }
}

/// `Platform` of an endpoint: the system's name, and its kind where it is one (ecs-mapping, section 1).
pub fn platform<'a>(draft: &mut Draft<'a>, platform: Option<&'a str>) {
    let Some(platform) = platform else { return };
    let (name, kind) = match platform {
        "0" => ("Unknown", None),
        "1" => ("Windows", Some("windows")),
        "2" => ("MacOS", Some("macos")),
        "3" => ("iOS", Some("ios")),
        "4" => ("Android", Some("android")),
        "5" => ("Web Browser", None),
        other => (other, None),
    };
    // A name begins with its kind: `MacOSX`, `Win`.
    const KINDS: [(&str, &str); 6] = [
        ("win", "windows"),
        ("mac", "macos"),
        ("linux", "linux"),
        ("ios", "ios"),
        ("android", "android"),
        ("unix", "unix"),
    ];
    let lower = name.to_ascii_lowercase();
    let kind = kind.or_else(|| KINDS.iter().find(|(start, _)| lower.starts_with(start)).map(|(_, kind)| *kind));
    draft.set_text(Ecs::HostOsPlatform, Some(name));
    draft.set_text(Ecs::HostOsType, kind);
}
