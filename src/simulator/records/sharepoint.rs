//! Audit.SharePoint: files, pages, sharing, in SharePoint and OneDrive (activity-api 5, 35–39).

use super::people::USER_AGENTS;
use super::{Actor, Maker};

const SITES: [&str; 7] = ["Finance", "Projekte", "HR", "Marketing", "R&D", "Vertrieb Süd", "経理"];
const FOLDERS: [&str; 5] =
    ["Shared Documents/2026", "Shared Documents/Q3", "Documents/Verträge", "Shared Documents", "SiteAssets"];
const FILES: [&str; 8] = [
    "budget forecast",
    "Übersicht Kunden",
    "minutes",
    "roadmap \"final\"",
    "見積書",
    "payroll",
    "contract draft",
    "team photo",
];
const EXTENSIONS: [&str; 6] = ["docx", "xlsx", "pdf", "pptx", "png", "one"];

pub(super) fn write(m: &mut Maker<'_>) {
    let (operation, record_type) = match m.chance.below(100) {
        0..42 => ("FileAccessed", 6),
        42..52 => ("FileModified", 6),
        52..60 => ("FileDownloaded", 6),
        60..66 => ("FileUploaded", 6),
        66..72 => ("FileSyncDownloadedFull", 6),
        72..76 => ("FileDeleted", 6),
        76..79 => ("FileRenamed", 6),
        79..81 => ("FileMoved", 6),
        81..90 => ("PageViewed", 4),
        90..93 => ("SharingSet", 14),
        93..95 => ("AnonymousLinkCreated", 14),
        95..97 => ("AddedToSecureLink", 14),
        97..98 => ("AccessRequestCreated", 14),
        98..99 => ("SiteCollectionAdminAdded", 14),
        _ => ("SharingInvitationBlocked", 14),
    };
    let user = m.user;
    let one_drive = m.chance.percent(30);
    let ip = m.client_ip();
    let key = format!("i:0h.f|membership|{}@live.com", user.puid.to_lowercase());
    m.head(
        record_type,
        operation,
        if one_drive { "OneDrive" } else { "SharePoint" },
        &Actor { user_id: &user.upn, user_key: &key, user_type: 0, client_ip: Some(&ip) },
    );
    let name = m.tenant.name.as_str();
    let site = m.chance.pick(&SITES);
    let root = if one_drive {
        let person = user.upn.replace(['.', '@'], "_");
        format!("https://{name}-my.sharepoint.example/personal/{person}/")
    } else {
        format!("https://{name}.sharepoint.example/sites/{site}/")
    };
    let folder = m.chance.pick(&FOLDERS);
    let extension = m.chance.pick(&EXTENSIONS);
    let file = format!("{} {}.{extension}", m.chance.pick(&FILES), m.chance.below(1000));
    let agent = m.chance.pick(&USER_AGENTS);
    m.json.text("ObjectId", &format!("{root}{folder}/{file}"));
    m.guid("CorrelationId");
    m.json.text("EventSource", "SharePoint");
    m.json.text("ItemType", if record_type == 4 { "Page" } else { "File" });
    m.guid("ListId");
    m.guid("ListItemUniqueId");
    m.guid("Site");
    m.guid("WebId");
    m.json.text("UserAgent", agent);
    m.json.flag("CustomUniqueId", false);
    m.guid("ApplicationId");
    m.json.text("ApplicationDisplayName", if m.index.is_multiple_of(4) { "Microsoft Office" } else { "SharePoint" });
    if m.chance.percent(85) {
        access_context(m);
    }
    let os = if agent.contains("Mac") { "MacOS" } else { "WinDesktop" };
    let json = &mut m.json;
    json.text("AuthenticationType", "OAuth");
    json.text("BrowserName", if agent.contains("Edg/") { "Edge" } else { "" });
    json.text("BrowserVersion", "141.0.0.0");
    json.text("Platform", os);
    json.text("GeoLocation", "EUR");
    json.flag("IsManagedDevice", m.index.is_multiple_of(2));
    json.text("ListBaseType", "DocumentLibrary");
    json.text("ListServerTemplate", if one_drive { "MySiteDocumentLibrary" } else { "DocumentLibrary" });
    json.text("ListTitle", folder);
    json.text("ListUrl", &format!("{root}{folder}"));
    json.text("SiteTitle", site);
    json.text("TemplateTypeId", "");
    if record_type == 6 {
        let size = m.chance.between(1000, 40_000_000);
        let label = m.chance.percent(20);
        let json = &mut m.json;
        json.text("SiteUrl", &root);
        json.text("SourceRelativeUrl", folder);
        json.text("SourceFileName", &file);
        json.text("SourceFileExtension", extension);
        // Sizes come as integers and as floats with zeros behind the point (activity-api 1.8).
        if m.index.is_multiple_of(50) {
            json.raw("FileSizeBytes", &format!("{size}.00"));
        } else {
            json.number("FileSizeBytes", size as i64);
        }
        if matches!(operation, "FileRenamed" | "FileMoved") {
            json.text("DestinationRelativeUrl", "Shared Documents/Archive");
            json.text("DestinationFileName", &format!("old {file}"));
            json.text("DestinationFileExtension", extension);
        }
        json.text("HighPriorityMediaProcessing", "False");
        if label {
            m.guid("SensitivityLabelId");
        }
        m.json.text("DeviceDisplayName", if m.index.is_multiple_of(2) { &user.address } else { "" });
        m.guid("MachineId");
    }
    if record_type == 14 {
        let target = &m.tenant.users[m.chance.below(m.tenant.users.len() as u64) as usize];
        let guest = m.chance.percent(30);
        let json = &mut m.json;
        json.text("SiteUrl", &root);
        json.text("SourceRelativeUrl", folder);
        json.text("SourceFileName", &file);
        json.text("SourceFileExtension", extension);
        json.text("TargetUserOrGroupType", if guest { "Guest" } else { "Member" });
        json.text("TargetUserOrGroupName", if guest { "partner@woodbank.example" } else { &target.upn });
        json.text("EventData", "<Permissions granted>Contribute</Permissions granted><MembersCanShareApplied>False</MembersCanShareApplied>");
        m.guid("UniqueSharingId");
        if operation == "SiteCollectionAdminAdded" {
            m.json.changes("ModifiedProperties", &[("SiteAdmin", &target.upn, "")]);
        }
    }
}

/// `AppAccessContext`, optional everywhere.
pub(super) fn access_context(m: &mut Maker<'_>) {
    let token = m.opaque(22);
    let issued = m.meta.creation_ms - 600_000;
    m.json.open("AppAccessContext", b'{');
    m.guid("AADSessionId");
    m.guid("CorrelationId");
    m.json.text("ClientAppName", "Microsoft Office");
    m.json.text("UniqueTokenId", &token);
    m.json.time("IssuedAtTime", issued);
    m.json.close(b'}');
}
