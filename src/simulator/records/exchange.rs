//! Audit.Exchange: mailbox items (2, 3), accessed items (50), cmdlets (1), and the story's mailbox
//! takeover (activity-api 5, 21–34).

use super::people::ATTACKER;
use super::sharepoint::access_context;
use super::{Actor, Maker};

pub(super) fn write(m: &mut Maker<'_>) {
    match m.story {
        Some(at @ 0..6) => return cmdlet(m, Some(at)),
        Some(_) => return accessed(m, true),
        None => {}
    }
    match m.chance.below(100) {
        0..48 => item(m),
        48..78 => accessed(m, false),
        _ => cmdlet(m, None),
    }
}

const CLIENTS: [&str; 4] = [
    "Client=OWA;Action=ViaProxy",
    "Client=MSExchangeRPC",
    "Client=REST;Client=RESTSystem;;",
    "Client=ActiveSync;Microsoft-Server-ActiveSync/default.eas",
];

/// What all mailbox records carry.
fn mailbox(m: &mut Maker<'_>, record_type: i64, operation: &'static str, attacker: bool) {
    if attacker {
        m.user = &m.tenant.users[3];
    }
    let user = m.user;
    let ip = if attacker { ATTACKER.to_owned() } else { m.client_ip() };
    m.head(
        record_type,
        operation,
        "Exchange",
        &Actor { user_id: &user.upn, user_key: &user.puid, user_type: 0, client_ip: Some(&ip) },
    );
    let client = m.chance.pick(&CLIENTS);
    let server = format!(
        "{}PR10MB{} (15.20.{}.{:03})\r\n",
        m.chance.pick(&["CH3", "AM0", "DB9"]),
        m.chance.between(1000, 9999),
        m.chance.between(6000, 9999),
        m.chance.below(60)
    );
    let json = &mut m.json;
    json.text("ResultStatus", "Succeeded");
    json.text("ClientIPAddress", &ip);
    json.text("ClientInfoString", client);
    json.flag("ExternalAccess", false);
    json.number("InternalLogonType", 0);
    json.number("LogonType", 0);
    json.text("LogonUserSid", &user.sid);
    json.text("MailboxGuid", &user.mailbox);
    json.text("MailboxOwnerSid", &user.sid);
    json.text("MailboxOwnerUPN", &user.upn);
    json.text("OrganizationName", &format!("{}.onmicrosoft.example", m.tenant.name));
    json.text("OriginatingServer", &server);
    m.guid("SessionId");
    if attacker {
        m.json.text("AppId", "6b2d5c3a-0bad-4e11-9c0d-5eed0ff1ce66");
        m.json.text("ClientAppId", "6b2d5c3a-0bad-4e11-9c0d-5eed0ff1ce66");
    } else {
        m.json.text("AppId", "00000002-0000-0ff1-ce00-000000000000");
        m.json.text("ClientAppId", "");
    }
}

fn item(m: &mut Maker<'_>) {
    let operation = m.chance.pick(&[
        "Send",
        "Send",
        "SoftDelete",
        "MoveToDeletedItems",
        "HardDelete",
        "Update",
        "Create",
        "SendAs",
    ]);
    let many = matches!(operation, "SoftDelete" | "MoveToDeletedItems" | "HardDelete");
    mailbox(m, if many { 3 } else { 2 }, operation, false);
    if many {
        m.json.flag("CrossMailboxOperation", false);
        let count = m.chance.between(1, 6);
        m.json.open("AffectedItems", b'[');
        for _ in 0..count {
            m.json.begin(b'{');
            one_item(m);
            m.json.close(b'}');
        }
        m.json.close(b']');
        folder(m, "Folder", "\\Inbox");
        folder(m, "DestFolder", "\\Deleted Items");
    } else {
        m.json.open("Item", b'{');
        one_item(m);
        m.json.close(b'}');
        if m.chance.percent(10) {
            // Plain strings where others have objects (activity-api 5, MP).
            m.json.open("ModifiedProperties", b'[');
            m.json.item("RecipientCollection");
            m.json.item("AllAttachmentsHidden");
            m.json.close(b']');
        }
        m.json.flag("SaveToSentItems", true);
    }
}

fn folder(m: &mut Maker<'_>, key: &str, path: &str) {
    let id = m.opaque(120);
    m.json.open(key, b'{');
    m.json.text("Id", &id);
    m.json.text("Path", path);
    m.json.close(b'}');
}

const SUBJECTS: [&str; 6] = [
    "RE: Angebot für München",
    "Weekly numbers",
    "FW: \"urgent\" invoice",
    "会議の件",
    "Ré: déjeuner ?",
    "Ticket 🎫 4711",
];

fn one_item(m: &mut Maker<'_>) {
    let (id, message) = (m.opaque(152), m.opaque(40));
    let subject = m.chance.pick(&SUBJECTS);
    let size = m.chance.between(2000, 900_000);
    m.json.text("Id", &id);
    m.json.text("InternetMessageId", &format!("<{message}@prod.outlook.example>"));
    m.json.text("Subject", subject);
    m.json.number("SizeInBytes", size as i64);
    if m.chance.percent(25) {
        m.json.text("Attachments", "Vertrag.docx (73728b); image001.png (5120b)");
    }
    folder(m, "ParentFolder", "\\Inbox");
}

/// `MailItemsAccessed`; item counts have a long tail up to some hundred kilobytes.
fn accessed(m: &mut Maker<'_>, attacker: bool) {
    mailbox(m, 50, "MailItemsAccessed", attacker);
    let bind = attacker || m.chance.percent(85);
    m.json.name_values(
        "OperationProperties",
        &[
            ("MailAccessType", if bind { "Bind" } else { "Sync" }),
            ("IsThrottled", if m.index.is_multiple_of(97) { "True" } else { "False" }),
        ],
    );
    access_context(m);
    let items = if !bind {
        0
    } else {
        match m.chance.below(1000) {
            _ if attacker => 60,
            0..700 => m.chance.between(1, 5),
            700..950 => m.chance.between(5, 20),
            950..998 => m.chance.between(20, 120),
            _ => m.chance.between(300, 1500),
        }
    };
    m.json.number("OperationCount", items.max(1) as i64);
    m.json.open("Folders", b'[');
    m.json.begin(b'{');
    let id = m.opaque(60);
    m.json.text("Id", &id);
    m.json.text("Path", "\\Inbox");
    m.json.open("FolderItems", b'[');
    for _ in 0..items {
        let (id, message) = (m.opaque(56), m.opaque(40));
        let size = m.chance.between(2000, 900_000);
        m.json.begin(b'{');
        m.json.text("Id", &id);
        m.json.text("InternetMessageId", &format!("<{message}@prod.outlook.example>"));
        m.json.number("SizeInBytes", size as i64);
        m.json.close(b'}');
    }
    m.json.close(b']');
    m.json.close(b'}');
    m.json.close(b']');
}

/// A cmdlet. `story`: the victim's account grants itself a mailbox, forwards, hides.
fn cmdlet(m: &mut Maker<'_>, story: Option<u64>) {
    if story.is_some() {
        m.user = &m.tenant.users[3];
    }
    let user = m.user;
    let target = &m.tenant.users[m.chance.below(m.tenant.users.len() as u64) as usize];
    let operation = match story {
        Some(0) => "Add-MailboxPermission",
        Some(1) => "New-InboxRule",
        Some(2) => "Set-Mailbox",
        Some(3) => "New-TransportRule",
        Some(4) => "Set-AdminAuditLogConfig",
        Some(_) => "Add-RoleGroupMember",
        None => m.chance.pick(&[
            "Set-Mailbox",
            "Set-Mailbox",
            "Set-User",
            "Add-MailboxPermission",
            "New-InboxRule",
            "Set-InboxRule",
            "Remove-MailboxPermission",
            "Set-CASMailbox",
        ]),
    };
    // Cmdlets carry the port with the address, or nothing.
    let ip = match story {
        Some(_) => Some(format!("{ATTACKER}:{}", m.chance.between(1024, 65_536))),
        None if m.chance.percent(50) => Some(m.client_ip()),
        None => None,
    };
    m.head(
        1,
        operation,
        "Exchange",
        &Actor { user_id: &user.upn, user_key: &user.puid, user_type: 2, client_ip: ip.as_deref() },
    );
    let server = format!("CH3PR10MB{} (15.20.6813.027)", m.chance.between(1000, 9999));
    let (app, rule) = (m.any_guid(), m.chance.below(1 << 40));
    let json = &mut m.json;
    json.text("ResultStatus", "True");
    json.text(
        "ObjectId",
        &if operation.ends_with("InboxRule") { format!("{}\\{rule}", user.mailbox) } else { target.upn.clone() },
    );
    json.text("AppId", &app);
    json.text("ClientAppId", "");
    json.flag("ExternalAccess", false);
    json.text("OrganizationName", &format!("{}.onmicrosoft.example", m.tenant.name));
    json.text("OriginatingServer", &server);
    let evil = "collector@evil.example";
    let evil_smtp = format!("smtp:{evil}");
    let pairs: &[(&str, &str)] = match operation {
        "Add-MailboxPermission" => &[
            ("Identity", &target.upn),
            ("User", if story.is_some() { &user.upn } else { "svc-backup" }),
            ("AccessRights", "FullAccess"),
            ("InheritanceType", "All"),
        ],
        "Remove-MailboxPermission" => {
            &[("Identity", &target.upn), ("User", "svc-backup"), ("AccessRights", "FullAccess")]
        }
        "New-InboxRule" if story.is_some() => &[
            ("AlwaysDeleteOutlookRulesBlob", "False"),
            ("Force", "False"),
            ("SubjectOrBodyContainsWords", "invoice;payment;Rechnung"),
            ("ForwardTo", evil),
            ("MarkAsRead", "True"),
            ("DeleteMessage", "True"),
            ("Name", "."),
            ("StopProcessingRules", "True"),
        ],
        "New-InboxRule" => {
            &[("From", "newsletter@news.example"), ("MoveToFolder", "News"), ("Name", "Newsletter"), ("Force", "False")]
        }
        "Set-InboxRule" => &[("Identity", "Newsletter"), ("MarkAsRead", "True")],
        "Set-Mailbox" if story.is_some() => {
            &[("Identity", &user.upn), ("ForwardingSmtpAddress", &evil_smtp), ("DeliverToMailboxAndForward", "True")]
        }
        "New-TransportRule" => &[("Name", "archive copy"), ("BlindCopyTo", evil), ("FromScope", "InOrganization")],
        "Set-AdminAuditLogConfig" => &[("UnifiedAuditLogIngestionEnabled", "False")],
        "Add-RoleGroupMember" => &[("Identity", "Organization Management"), ("Member", &user.upn)],
        _ => {
            &[("Identity", &target.upn), ("ProhibitSendQuota", "49.5 GB (53,150,220,288 bytes)"), ("Confirm", "False")]
        }
    };
    match m.chance.below(100) {
        // A string or null instead of the array (activity-api 5, admin base).
        0 if story.is_none() => json.text("Parameters", "-Identity \"x\" -Confirm:$false"),
        1 if story.is_none() => json.raw("Parameters", "null"),
        _ => json.name_values("Parameters", pairs),
    }
    m.guid("SessionId");
    m.guid("TokenObjectId");
    m.json.text("TokenTenantId", &m.tenant.id);
    if story.is_some() || m.chance.percent(60) {
        access_context(m);
    }
}
