//! DLP.All: matches in mail and files; every sixteenth match is undone by the next record, under the
//! same Id (activity-api 5, 52–54).

use super::{Actor, Maker};
use crate::simulator::stamp;

/// The record after a match that is undone.
pub(super) fn is_undo(index: u64) -> bool {
    index % 16 == 1
}

pub(super) fn write(m: &mut Maker<'_>) {
    let undo = is_undo(m.index);
    let operation = match m.index % 16 {
        0 => "DlpRuleMatch",
        1 => "DlpRuleUndo",
        _ if m.chance.percent(80) => "DlpRuleMatch",
        _ => "DlpInfo",
    };
    let mail = undo || m.index.is_multiple_of(16) || m.chance.percent(50);
    m.head(
        if mail { 13 } else { 11 },
        operation,
        if mail { "Exchange" } else { "SharePoint" },
        &Actor { user_id: "DlpAgent", user_key: "1153801120316310045", user_type: 4, client_ip: None },
    );
    let user = m.user;
    let other = &m.tenant.users[m.chance.below(m.tenant.users.len() as u64) as usize];
    let time = m.meta.creation_ms;
    let size = m.chance.between(10_000, 3_000_000);
    m.guid("IncidentId");
    if mail {
        let message = m.opaque(40);
        m.json.open("ExchangeMetaData", b'{');
        m.json.text("MessageID", &format!("<{message}@prod.outlook.example>"));
        m.json.text("From", &user.upn);
        m.json.open("To", b'[');
        m.json.item(&other.upn);
        m.json.item("partner@woodbank.example");
        m.json.close(b']');
        for key in ["CC", "BCC"] {
            m.json.open(key, b'[');
            m.json.close(b']');
        }
        m.json.text("Subject", "Kundenliste");
        m.json.text("Sent", &format!("{}Z", stamp::seconds(time - 30_000)));
        m.json.number("RecipientCount", 2);
        m.json.raw("FileSize", &format!("{size}.00"));
        m.guid("UniqueID");
    } else {
        m.json.open("SharePointMetaData", b'{');
        m.json.text("From", &user.upn);
        m.json.time("itemCreationTime", time - 86_400_000);
        m.guid("SiteCollectionGuid");
        m.json.text("SiteCollectionUrl", &format!("https://{}.sharepoint.example/sites/HR", m.tenant.name));
        m.json.text("FileName", "Gehälter.xlsx");
        m.json.text("FileOwner", &user.display);
        m.json.text("DocumentLastModifier", &other.display);
        m.guid("UniqueId");
        m.json.flag("IsViewableByExternalUsers", false);
    }
    m.json.close(b'}');
    m.json.open("PolicyDetails", b'[');
    m.json.begin(b'{');
    m.guid("PolicyId");
    m.json.text("PolicyName", "Zahlungsdaten");
    m.json.open("Rules", b'[');
    m.json.begin(b'{');
    m.guid("RuleId");
    m.json.text("RuleName", "Low volume of content detected");
    m.json.open("Actions", b'[');
    m.json.item("BlockAccess");
    m.json.item("NotifyUser");
    m.json.close(b']');
    m.json.text("Severity", if m.index.is_multiple_of(5) { "High" } else { "Low" });
    m.json.text("RuleMode", "Enable");
    m.json.open("ConditionsMatched", b'{');
    m.json.open("SensitiveInformation", b'[');
    m.json.begin(b'{');
    let count = m.chance.between(1, 40);
    m.json.number("Confidence", 85);
    m.json.number("Count", count as i64);
    m.json.text("Location", "Message Body");
    m.json.text("SensitiveType", "50842eb7-edc8-4019-85dd-5a5c1f2bb085");
    m.json.number("UniqueCount", 1);
    m.json.close(b'}');
    m.json.close(b']');
    m.json.name_values("OtherConditions", &[("AccessScope", "External")]);
    m.json.close(b'}');
    m.json.close(b'}');
    m.json.close(b']');
    m.json.close(b'}');
    m.json.close(b']');
    m.json.flag("SensitiveInfoDetectionIsIncluded", count.is_multiple_of(2));
}
