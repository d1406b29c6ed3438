//! Audit.General: Teams, alerts, Defender, investigations, Copilot, Power BI, Viva Engage and types
//! that nobody documented (activity-api 5, 40–51).

use super::{Actor, Maker};
use crate::simulator::stamp;

pub(super) fn write(m: &mut Maker<'_>) {
    match m.chance.below(100) {
        0..40 => teams(m),
        40..52 => alert(m),
        52..60 => threat_mail(m),
        60..64 => investigation(m),
        64..78 => copilot(m),
        78..88 => power_bi(m),
        88..94 => yammer(m),
        _ => unknown(m),
    }
}

fn teams(m: &mut Maker<'_>) {
    let operation = m.chance.pick(&[
        "MessageSent",
        "MemberAdded",
        "TeamsSessionStarted",
        "ChatCreated",
        "TeamCreated",
        "TeamSettingChanged",
    ]);
    let user = m.user;
    let created = operation == "TeamCreated";
    m.head(
        25,
        operation,
        "MicrosoftTeams",
        &Actor {
            user_id: if created { "Application" } else { &user.upn },
            user_key: if created { "" } else { &user.object_id },
            user_type: if created { 5 } else { 0 },
            client_ip: None,
        },
    );
    let thread = format!("19:{}@thread.tacv2", m.opaque(32).to_lowercase());
    let other = &m.tenant.users[m.chance.below(m.tenant.users.len() as u64) as usize];
    let message = m.meta.creation_ms;
    let json = &mut m.json;
    match operation {
        "MemberAdded" => {
            json.text("TeamName", "Projekt Übergabe");
            json.text("TeamGuid", &thread);
            json.open("Members", b'[');
            json.begin(b'{');
            json.text("UPN", &other.upn);
            json.text("DisplayName", &other.display);
            json.number("Role", 1);
            json.close(b'}');
            json.close(b']');
            json.text("ItemName", "Projekt Übergabe");
        }
        "TeamsSessionStarted" => json.text("ObjectId", "Unknown (Unknown)"),
        "TeamSettingChanged" => {
            json.text("TeamGuid", &thread);
            json.text("Name", "Team Access Type");
            json.text("OldValue", "Private");
            json.text("NewValue", "Public");
        }
        "TeamCreated" => {
            json.text("TeamGuid", &thread);
            json.text("TeamName", "Vertrieb — Nord & Süd");
        }
        _ => {
            json.text("ChatThreadId", &thread);
            json.text("MessageId", &message.to_string());
            json.text("CommunicationType", "GroupChat");
            json.open("ExtraProperties", b'[');
            for (key, value) in [("TimeZone", "Europe/Berlin"), ("OsName", "windows"), ("Country", "de")] {
                json.begin(b'{');
                json.text("Key", key);
                json.text("Value", value);
                json.close(b'}');
            }
            json.close(b']');
        }
    }
}

fn alert(m: &mut Maker<'_>) {
    let operation = m.chance.pick(&["AlertTriggered", "AlertEntityGenerated", "AlertUpdated"]);
    m.head(
        40,
        operation,
        "SecurityComplianceCenter",
        &Actor {
            user_id: "SecurityComplianceAlerts",
            user_key: "SecurityComplianceAlerts",
            user_type: 4,
            client_ip: None,
        },
    );
    let severity = m.chance.pick(&["Low", "Medium", "High", "Informational"]);
    let (alert, policy) = (m.any_guid(), m.any_guid());
    let user = m.user;
    // A JSON string with a key twice (activity-api 1.8).
    let data = format!(
        "{{\"etype\":\"User\",\"eid\":\"{0}\",\"tid\":\"{1}\",\"ts\":\"{2}Z\",\"querytime\":\"a\",\"querytime\":\"b\",\"lon\":\"MailRedirect\"}}",
        user.upn,
        m.tenant.id,
        stamp::seconds(m.meta.creation_ms)
    );
    let json = &mut m.json;
    json.text("ResultStatus", "Succeeded");
    json.text("ObjectId", &alert);
    json.text("AlertId", &alert);
    json.text("AlertType", "System");
    json.text("Name", "Creation of forwarding/redirect rule");
    json.text("PolicyId", &policy);
    json.text("Status", "Active");
    json.text("Severity", severity);
    json.text("Category", "ThreatManagement");
    json.text("Source", "Office 365 Security & Compliance");
    json.text("Comments", "New alert");
    json.text("Data", &data);
    json.text("AlertEntityId", &user.upn);
    json.text("EntityType", "User");
    json.open("AlertLinks", b'[');
    json.begin(b'{');
    json.text("AlertLinkHref", "");
    json.close(b'}');
    json.close(b']');
}

fn threat_mail(m: &mut Maker<'_>) {
    m.head(
        28,
        "TIMailData",
        "ThreatIntelligence",
        &Actor { user_id: "ThreatIntel", user_key: "ThreatIntel", user_type: 4, client_ip: None },
    );
    let (user, message) = (m.user, m.opaque(36));
    let sender = format!("198.51.100.{}", m.chance.between(1, 255));
    let time = m.meta.creation_ms - 60_000;
    m.guid("NetworkMessageId");
    let json = &mut m.json;
    json.open("AttachmentData", b'[');
    json.begin(b'{');
    json.text("FileName", "Rechnung_2026.html");
    json.text("FileType", "html;;");
    json.number("FileVerdict", 1);
    json.text("SHA256", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08");
    json.close(b'}');
    json.close(b']');
    json.text("DetectionType", "Inline");
    json.text("DetectionMethod", "URL malicious reputation");
    json.text("InternetMessageId", &format!("<{message}@mail.evil.example>"));
    json.time("MessageTime", time);
    json.text("P1Sender", "bounce@evil.example");
    json.text("P2Sender", "ceo@evil.example");
    json.text("Policy", "Phish");
    json.text("PolicyAction", "Quarantine");
    json.open("Recipients", b'[');
    json.item(&user.upn);
    json.close(b']');
    json.text("SenderIp", &sender);
    json.text("Subject", "Dringend: Überweisung");
    json.text("Verdict", "Phish");
    json.text("DeliveryAction", "Blocked");
    json.text("Directionality", "Inbound");
    json.open("AuthDetails", b'[');
    json.begin(b'{');
    json.text("Name", "SPF");
    json.text("Value", "Fail");
    json.close(b'}');
    json.close(b']');
}

/// The large one: 10–20 KB of JSON in strings.
fn investigation(m: &mut Maker<'_>) {
    m.head(
        64,
        "AirInvestigationData",
        "AirInvestigation",
        &Actor { user_id: "AirInvestigation", user_key: "AirInvestigation", user_type: 4, client_ip: None },
    );
    let id = m.opaque(32).to_lowercase();
    let actions = m.chance.between(4, 16);
    let time = m.meta.creation_ms;
    m.json.text("InvestigationId", &format!("urn:ZappedUrlInvestigation:{id}"));
    m.json.text("InvestigationType", "ZappedUrlInvestigation");
    m.json.text("InvestigationName", "Clicked URL verdict changed to malicious - urn");
    m.json.text("Status", "Pending action");
    m.json.time("StartTimeUtc", time - 900_000);
    m.json.time("EndTimeUtc", time);
    m.json.time("LastUpdateTimeUtc", time);
    m.json.text("DeepLinkUrl", &format!("https://security.example/airinvestigation?id=urn:{id}"));
    m.json.open("Actions", b'[');
    for number in 0..actions {
        let (one, two) = (m.opaque(64), m.opaque(300));
        let text = format!(
            "{{\"$id\":\"{number}\",\"ActionId\":\"{one}\",\"ActionStatus\":\"Pending\",\"Entities\":[{{\"$id\":\"2\",\"Type\":\"mailMessage\",\"Size\":1156492.00,\"Text\":\"{two}\"}}]}}"
        );
        m.json.item(&text);
    }
    m.json.close(b']');
    let data = m.opaque(6000);
    m.json.text(
        "Data",
        &format!("{{\"Version\":\"3.0\",\"VendorName\":\"Microsoft\",\"Size\":1156492.00,\"Payload\":\"{data}\"}}"),
    );
}

fn copilot(m: &mut Maker<'_>) {
    let user = m.user;
    let ip = m.client_ip();
    m.head(
        261,
        "CopilotInteraction",
        "Copilot",
        &Actor { user_id: &user.upn, user_key: &user.object_id, user_type: 0, client_ip: Some(&ip) },
    );
    let host = m.chance.pick(&["Word", "Teams", "Bing", "Office", "Excel"]);
    let resources = m.chance.below(5);
    let thread = m.opaque(40);
    m.json.text("ClientRegion", "de");
    m.json.text("CopilotLogVersion", "1.0.0.0");
    m.json.open("CopilotEventData", b'{');
    m.json.text("AppHost", host);
    m.json.text("ThreadId", &format!("19:{thread}@thread.v2"));
    m.json.open("Messages", b'[');
    for prompt in [true, false] {
        let id = m.chance.between(1_700_000_000_000, 1_800_000_000_000);
        m.json.begin(b'{');
        m.json.text("Id", &id.to_string());
        m.json.flag("isPrompt", prompt);
        m.json.close(b'}');
    }
    m.json.close(b']');
    m.json.open("AccessedResources", b'[');
    for _ in 0..resources {
        m.json.begin(b'{');
        m.guid("Id");
        m.json.text("SiteUrl", &format!("https://{}.sharepoint.example/sites/Finance/plan.docx", m.tenant.name));
        m.json.text("Name", "Plan für 2027.docx");
        m.json.text("Type", "docx");
        m.json.text("Action", "Read");
        m.json.close(b'}');
    }
    m.json.close(b']');
    m.json.open("AISystemPlugin", b'[');
    m.json.close(b']');
    m.json.open("Contexts", b'[');
    m.json.close(b']');
    m.json.close(b'}');
}

fn power_bi(m: &mut Maker<'_>) {
    let user = m.user;
    let ip = m.client_ip();
    m.head(
        20,
        "ViewReport",
        "PowerBI",
        &Actor { user_id: &user.upn, user_key: &user.puid, user_type: 0, client_ip: Some(&ip) },
    );
    m.guid("RequestId");
    m.json.text("Activity", "ViewReport");
    m.json.text("ItemName", "Umsätze");
    m.json.text("WorkspaceName", "Vertrieb");
    m.json.text("ObjectDisplayName", "Umsätze je Region");
    // JSON in a string where others have an array (activity-api 5, 49).
    m.json.text(
        "OperationProperties",
        "[{\"Name\":\"ExportFormat\",\"Value\":\"PDF\"},{\"Name\":\"ExportFormat\",\"Value\":\"PNG\"}]",
    );
    m.json.flag("IsSuccess", true);
}

fn yammer(m: &mut Maker<'_>) {
    let user = m.user;
    let ip = format!("[2001:db8::{:x}]:{}", m.chance.below(0xffff), m.chance.between(1024, 65_536));
    m.head(
        22,
        "GroupCreation",
        "Yammer",
        &Actor { user_id: &user.upn, user_key: &user.upn, user_type: 0, client_ip: Some(&ip) },
    );
    let (network, actor) =
        (m.chance.between(5_000_000_000, 9_000_000_000), m.chance.between(5_000_000_000, 999_000_000_000));
    m.json.text("ResultStatus", "TRUE");
    m.json.text("ObjectId", "Zoë & Freunde");
    m.json.text("ActorUserId", &user.upn);
    m.json.number("ActorYammerUserId", actor as i64);
    m.json.number("YammerNetworkId", network as i64);
    m.json.text("GroupName", "Zoë & Freunde");
    m.json.flag("IsSoftDelete", false);
}

/// A record type that no list has (activity-api 1.8: 27 % of one tenant's types).
fn unknown(m: &mut Maker<'_>) {
    let user = m.user;
    let record_type = m.chance.between(400, 460) as i64;
    m.head(
        record_type,
        "WidgetFrobnicated",
        "NewWorkload",
        &Actor { user_id: &user.upn, user_key: &user.object_id, user_type: 0, client_ip: None },
    );
    m.json.open("Details", b'{');
    m.json.raw("Score", "0.30000000000000004");
    m.json.raw("Counter", "18446744073709551615");
    m.json.open("Tags", b'[');
    m.json.item("α");
    m.json.item("line\u{2028}separator");
    m.json.close(b']');
    m.json.close(b'}');
}
