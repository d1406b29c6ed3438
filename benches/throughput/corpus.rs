//! Invented records in the shapes and the mix of a real tenant (performance, "Data"): 40 % SharePoint
//! files, 25 % sign-ins, 15 % mailbox items, 10 % mail items accessed, 7 % Exchange administration,
//! 3 % DLP; about 2 KB each. Same seed, same bytes. A stand-in until the simulator makes them.

use fastrand::Rng;
use serde_json::{Value, json};

pub const TENANT: &str = "5a1e0000-0000-4000-8000-00000000c0de";

/// A blob: a JSON array of `records` records.
pub fn blob(seed: u64, records: usize) -> String {
    let mut rng = Rng::with_seed(seed);
    let records: Vec<Value> = (0..records).map(|_| record(&mut rng)).collect();
    serde_json::to_string(&records).unwrap()
}

fn record(rng: &mut Rng) -> Value {
    let mut record = match rng.u32(0..100) {
        0..40 => file(rng),
        40..65 => sign_in(rng),
        65..80 => mail_item(rng),
        80..90 => mail_items_accessed(rng),
        90..97 => exchange_admin(rng),
        _ => dlp(rng),
    };
    let user = rng.u32(0..400);
    let common = json!({
        "Id": guid(rng),
        "CreationTime": format!("2026-03-{:02}T{:02}:{:02}:{:02}", rng.u32(1..29), rng.u32(0..24), rng.u32(0..60), rng.u32(0..60)),
        "OrganizationId": TENANT,
        "UserType": rng.u32(0..3),
        "UserKey": format!("i:0h.f|membership|10032000{user:08x}@live.example"),
        "UserId": format!("first.last{user}@northwind.example"),
        "Version": 1,
        "AppAccessContext": {
            "AADSessionId": guid(rng), "CorrelationId": guid(rng), "UniqueTokenId": token(rng, 22),
            "ClientAppId": guid(rng), "IssuedAtTime": "2026-03-01T10:00:00", "APIId": guid(rng),
        },
    });
    let fields = record.as_object_mut().unwrap();
    for (name, value) in common.as_object().unwrap() {
        fields.entry(name.clone()).or_insert_with(|| value.clone());
    }
    record
}

fn file(rng: &mut Rng) -> Value {
    let operation = *rng.choice(&["FileAccessed", "FileDownloaded", "FileModified", "FileUploaded"]).unwrap();
    let name = format!("Quarterly report {} (draft).xlsx", rng.u32(0..5000));
    let site = format!("https://northwind.sharepoint.example/sites/team{}", rng.u32(0..60));
    json!({
        "RecordType": 6, "Operation": operation, "Workload": if rng.bool() { "SharePoint" } else { "OneDrive" },
        "ClientIP": ip(rng), "ObjectId": format!("{site}/Shared Documents/General/{name}"),
        "AuthenticationType": "OAuth", "BrowserName": "Edge", "BrowserVersion": "122.0.0.0", "CorrelationId": guid(rng),
        "EventSource": "SharePoint", "GeoLocation": "EUR", "IsManagedDevice": rng.bool(), "ItemType": "File",
        "ListId": guid(rng), "ListItemUniqueId": guid(rng), "Platform": "WinDesktop", "Site": guid(rng),
        "UserAgent": agent(rng), "WebId": guid(rng), "DeviceDisplayName": ip(rng), "MachineId": guid(rng),
        "HighPriorityMediaProcessing": false, "ListBaseType": 1, "ListServerTemplate": 101,
        "SourceFileExtension": "xlsx", "SiteUrl": format!("{site}/"), "SourceFileName": name,
        "SourceRelativeUrl": "Shared Documents/General", "ApplicationId": guid(rng),
        "ApplicationDisplayName": "Office 365 SharePoint Online", "FileSizeBytes": rng.u32(1000..90_000_000),
        "SensitivityLabelId": guid(rng), "SiteSensitivityLabelId": guid(rng), "MachineDomainInfo": "northwind.example",
    })
}

fn sign_in(rng: &mut Rng) -> Value {
    let failed = rng.u32(0..10) == 0;
    let address = ip(rng);
    json!({
        "RecordType": 15, "Operation": if failed { "UserLoginFailed" } else { "UserLoggedIn" }, "Workload": "AzureActiveDirectory",
        "ResultStatus": "Success", "ClientIP": address, "ActorIpAddress": address, "ObjectId": guid(rng),
        "AzureActiveDirectoryEventType": 1,
        "ExtendedProperties": [
            {"Name": "ResultStatusDetail", "Value": if failed { "UserError" } else { "Redirect" }},
            {"Name": "UserAgent", "Value": agent(rng)},
            {"Name": "UserAuthenticationMethod", "Value": "16457"}, {"Name": "RequestType", "Value": "OAuth2:Authorize"},
        ],
        "ModifiedProperties": [],
        "Actor": [{"ID": guid(rng), "Type": 0}, {"ID": format!("first.last{}@northwind.example", rng.u32(0..400)), "Type": 5}],
        "ActorContextId": TENANT, "InterSystemsId": guid(rng), "IntraSystemId": guid(rng), "SupportTicketId": "",
        "Target": [{"ID": guid(rng), "Type": 0}], "TargetContextId": TENANT, "ApplicationId": guid(rng),
        "DeviceProperties": [
            {"Name": "Id", "Value": guid(rng)}, {"Name": "DisplayName", "Value": format!("LAPTOP-{}", token(rng, 8))},
            {"Name": "OS", "Value": "Windows10"}, {"Name": "BrowserType", "Value": "Edge"},
            {"Name": "TrustType", "Value": "1"}, {"Name": "SessionId", "Value": guid(rng)},
        ],
        "ErrorNumber": if failed { "50126" } else { "0" },
    })
}

fn mailbox(rng: &mut Rng) -> Value {
    json!({
        "Workload": "Exchange", "ResultStatus": "Succeeded", "ClientIPAddress": ip(rng), "ClientIP": format!("{}:{}", ip(rng), rng.u16(1024..)),
        "LogonType": 0, "InternalLogonType": 0, "MailboxGuid": guid(rng), "MailboxOwnerUPN": "first.last1@northwind.example",
        "MailboxOwnerSid": format!("S-1-5-21-{}-{}-{}", rng.u32(..), rng.u32(..), rng.u32(..)),
        "LogonUserSid": format!("S-1-5-21-{}-{}-{}", rng.u32(..), rng.u32(..), rng.u32(..)),
        "ClientInfoString": "Client=REST;Client=RESTSystem;;", "ClientProcessName": "OUTLOOK.EXE", "ClientVersion": "16.0.17328.20124",
        "ExternalAccess": false, "OriginatingServer": "AB1PR02MB0001 (15.20.4200.000)\r\n",
        "OrganizationName": "northwind.onmicrosoft.example", "SessionId": guid(rng), "AppId": guid(rng), "ClientAppId": guid(rng),
        "ClientRequestId": guid(rng), "TokenTenantId": TENANT,
    })
}

fn mail_item(rng: &mut Rng) -> Value {
    let mut record = mailbox(rng);
    record["RecordType"] = 2.into();
    record["Operation"] = (*rng.choice(&["Send", "Update", "Create"]).unwrap()).into();
    record["Item"] = json!({
        "Id": token(rng, 152), "Subject": "RE: \"Numbers\" for März", "InternetMessageId": format!("<{}@mail.example>", token(rng, 40)),
        "Attachments": "a.docx (73728b); b.pdf (1024b)", "SizeInBytes": rng.u32(1000..900_000),
        "ParentFolder": {"Id": token(rng, 120), "Path": "\\Sent Items"},
    });
    record
}

fn mail_items_accessed(rng: &mut Rng) -> Value {
    let mut record = mailbox(rng);
    let items: Vec<Value> = (0..rng.u32(1..12))
        .map(|_| json!({"Id": token(rng, 60), "InternetMessageId": format!("<{}@mail.example>", token(rng, 40)), "SizeInBytes": rng.u32(1000..90_000)}))
        .collect();
    record["RecordType"] = 50.into();
    record["Operation"] = "MailItemsAccessed".into();
    record["OperationCount"] = items.len().into();
    record["OperationProperties"] =
        json!([{"Name": "MailAccessType", "Value": "Bind"}, {"Name": "IsThrottled", "Value": "False"}]);
    record["Folders"] = json!([{"Id": token(rng, 120), "Path": "\\Inbox", "FolderItems": items}]);
    record
}

fn exchange_admin(rng: &mut Rng) -> Value {
    json!({
        "RecordType": 1, "Operation": "Set-Mailbox", "Workload": "Exchange", "ResultStatus": "True",
        "ClientIP": format!("[2001:db8:{:x}::{:x}]:{}", rng.u16(..), rng.u16(..), rng.u16(1024..)),
        "ObjectId": "EURPR02A001.PROD.OUTLOOK.EXAMPLE/Microsoft Exchange Hosted Organizations/northwind/first.last",
        "ExternalAccess": false, "OrganizationName": "northwind.onmicrosoft.example",
        "OriginatingServer": "AB1PR02MB0001 (15.20.4200.000)", "AppId": guid(rng), "ClientAppId": guid(rng), "SessionId": guid(rng),
        "Parameters": [
            {"Name": "Identity", "Value": guid(rng)}, {"Name": "ProhibitSendQuota", "Value": "49.5 GB (53,150,220,288 bytes)"},
            {"Name": "ForwardingSmtpAddress", "Value": "smtp:x@fabrikam.example"}, {"Name": "DeliverToMailboxAndForward", "Value": "True"},
        ],
    })
}

fn dlp(rng: &mut Rng) -> Value {
    json!({
        "RecordType": 13, "Operation": "DlpRuleMatch", "Workload": "Exchange", "UserId": "DlpAgent", "UserKey": "1153977025279",
        "IncidentId": guid(rng), "SensitiveInfoDetectionIsIncluded": true, "ObjectId": token(rng, 40),
        "ExchangeMetaData": {
            "MessageID": format!("<{}@mail.example>", token(rng, 40)), "From": "first.last2@northwind.example",
            "To": ["x@fabrikam.example"], "CC": [], "BCC": [], "Subject": "numbers", "RecipientCount": 1, "FileSize": rng.u32(1000..90_000),
        },
        "PolicyDetails": [{"PolicyId": guid(rng), "PolicyName": "Cards", "Rules": [{
            "RuleId": guid(rng), "RuleName": "High volume", "Severity": "High", "Actions": ["BlockAccess"], "RuleMode": "Enable",
            "ConditionsMatched": {"SensitiveInformation": [{"Confidence": 85, "Count": 12, "SensitiveType": guid(rng), "UniqueCount": 9}]},
        }]}],
    })
}

fn guid(rng: &mut Rng) -> String {
    let bits = rng.u128(..);
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        bits as u32,
        (bits >> 32) as u16,
        bits >> 48 & 0xfff,
        bits >> 60 & 0xfff,
        bits >> 80
    )
}

fn token(rng: &mut Rng, length: usize) -> String {
    (0..length).map(|_| rng.alphanumeric()).collect()
}

fn ip(rng: &mut Rng) -> String {
    match rng.u32(0..9) {
        0 | 1 => format!("2001:db8:{:x}:{:x}::{:x}", rng.u16(..), rng.u16(..), rng.u16(..)),
        _ => format!("203.{}.{}.{}", rng.u8(..), rng.u8(..), rng.u8(..)),
    }
}

fn agent(rng: &mut Rng) -> String {
    format!(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.0.0 Safari/537.36 Edg/122.0.0.0",
        rng.u32(90..125)
    )
}
