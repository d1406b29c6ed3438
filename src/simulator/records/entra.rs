//! Audit.AzureActiveDirectory: sign-ins (record type 15) and directory changes (8), and the story's
//! password spray (activity-api 5, 1–20).

use super::people::{ATTACKER, USER_AGENTS};
use super::sharepoint::access_context;
use super::{Actor, Maker};

pub(super) fn write(m: &mut Maker<'_>) {
    match m.story {
        Some(at @ 0..30) => return sign_in(m, Some((at, at == 29))),
        Some(at @ 30..32) => return directory(m, Some(at - 30)),
        _ => {}
    }
    if m.chance.percent(80) { sign_in(m, None) } else { directory(m, None) }
}

const APPLICATIONS: [&str; 6] = [
    "1fec8e78-bce4-4aaf-ab1b-5451cc387264",
    "4765445b-32c6-49b0-83e6-1d93765276ca",
    "00000002-0000-0ff1-ce00-000000000000",
    "d3590ed6-52b3-4102-aeff-aad2292ab01c",
    "ab9b8c07-8f02-4f72-87fa-80105867a763",
    "c44b4083-3bb0-49c1-b47d-974e53cbdf3c",
];

/// A sign-in. `spray`: position in the spray, and whether this one gets in.
fn sign_in(m: &mut Maker<'_>, spray: Option<(u64, bool)>) {
    if let Some((at, success)) = spray {
        let victims = m.tenant.users.len() as u64;
        m.user = &m.tenant.users[(if success { 3 } else { at } % victims) as usize];
    }
    let roll = m.chance.below(100);
    let (operation, code, error) = match (spray, roll) {
        (Some((_, true)), _) => ("UserLoggedIn", "0", None),
        (Some(_), _) => ("UserLoginFailed", "50126", Some("InvalidUserNameOrPassword")),
        (None, 0..84) => ("UserLoggedIn", "0", None),
        (None, 84..87) => ("UserLoggedIn", "50074", Some("UserStrongAuthClientAuthNRequiredInterrupt")),
        (None, 87..89) => ("UserLoggedIn", "53003", Some("BlockedByConditionalAccess")),
        (None, 89..91) => ("UserLoginFailed", "50053", Some("IdsLocked")),
        (None, 91..93) => ("UserLoginFailed", "50034", Some("UserAccountNotFound")),
        _ => ("UserLoginFailed", "50126", Some("InvalidUserNameOrPassword")),
    };
    let ip = if spray.is_some() { ATTACKER.to_owned() } else { m.client_ip() };
    let user = m.user;
    // An unknown account has no name (activity-api 5, 1).
    let user_id = if code == "50034" { "Not Available" } else { user.upn.as_str() };
    m.head(
        15,
        operation,
        "AzureActiveDirectory",
        &Actor { user_id, user_key: &user.object_id, user_type: 0, client_ip: Some(&ip) },
    );
    let application = if spray.is_some() { APPLICATIONS[1] } else { m.chance.pick(&APPLICATIONS) };
    let agent = if spray.is_some() { "python-requests/2.32.3" } else { m.chance.pick(&USER_AGENTS) };
    let session = m.any_guid();
    let method = if error.is_some() { "1" } else { m.chance.pick(&["1", "4", "9", "16457", "22"]) };
    let detail = if code == "0" { m.chance.pick(&["Success", "Redirect", "Success"]) } else { "UserError" };
    let json = &mut m.json;
    json.text("ResultStatus", "Success");
    json.text("ObjectId", "00000003-0000-0000-c000-000000000000");
    json.number("AzureActiveDirectoryEventType", 1);
    json.name_values(
        "ExtendedProperties",
        &[
            ("ResultStatusDetail", detail),
            ("UserAgent", agent),
            ("UserAuthenticationMethod", method),
            ("RequestType", if m.index.is_multiple_of(3) { "Login:login" } else { "OAuth2:Authorize" }),
        ],
    );
    json.open("ModifiedProperties", b'[');
    json.close(b']');
    json.identities("Actor", &[(&user.object_id, 0), (user_id, 5)]);
    json.text("ActorContextId", &m.tenant.id);
    json.text("ActorIpAddress", &ip);
    m.guid("InterSystemsId");
    m.json.guid("IntraSystemId", m.id.0, m.id.1 ^ 0x00ff_ff00);
    let json = &mut m.json;
    json.text("SupportTicketId", "");
    json.identities("Target", &[("00000003-0000-0000-c000-000000000000", 0)]);
    json.text("TargetContextId", &m.tenant.id);
    json.text("ApplicationId", application);
    let os = if agent.contains("Macintosh") {
        "MacOs"
    } else if agent.contains("Windows") {
        "Windows10"
    } else {
        "Other"
    };
    json.name_values(
        "DeviceProperties",
        &[
            ("OS", os),
            ("BrowserType", if agent.contains("Edg/") { "Edge" } else { "Other" }),
            ("IsCompliantAndManaged", if m.index.is_multiple_of(2) { "True" } else { "False" }),
            ("SessionId", &session),
        ],
    );
    json.text("ErrorNumber", code);
    if spray.is_none() {
        access_context(m);
    }
    let json = &mut m.json;
    json.text("ErrorCode", code);
    if let Some(error) = error {
        json.text("LogonError", error);
    }
}

const DIRECTORY: [&str; 12] = [
    "Update user.",
    "Update device.",
    "Add member to group.",
    "Add user.",
    "Reset user password.",
    "Update application.",
    "Update application \u{2013} Certificates and secrets management ",
    "Consent to application.",
    "Add member to role.",
    "Disable account.",
    "Delete user.",
    "Add app role assignment to service principal.",
];

/// A directory change. `story`: the attacker gives himself a role, then a secret.
fn directory(m: &mut Maker<'_>, story: Option<u64>) {
    if story.is_some() {
        m.user = &m.tenant.users[3];
    }
    let user = m.user;
    let target = &m.tenant.users[m.chance.below(m.tenant.users.len() as u64) as usize];
    let operation = match story {
        Some(0) => "Add member to role.",
        Some(_) => DIRECTORY[6],
        None if m.chance.percent(45) => DIRECTORY[m.chance.below(2) as usize],
        None => m.chance.pick(&DIRECTORY),
    };
    let device = operation == "Update device.";
    let (user_id, user_type) = if device { ("Device Registration Service", 5) } else { (user.upn.as_str(), 0) };
    m.head(
        8,
        operation,
        "AzureActiveDirectory",
        &Actor { user_id, user_key: if device { "Not Available" } else { &user.puid }, user_type, client_ip: None },
    );
    let device_id = format!("Device_{}", m.any_guid());
    let role = if story.is_some() { "Global Administrator" } else { "Reports Reader" };
    let json = &mut m.json;
    json.text("ResultStatus", "Success");
    json.text("ObjectId", if device { "Not Available" } else { &target.upn });
    json.number("AzureActiveDirectoryEventType", 1);
    json.name_values(
        "ExtendedProperties",
        &[
            ("additionalDetails", "{\"UserType\":\"Member\",\"User-Agent\":\"EvoSTS\",\"User-Agent\":\"again\"}"),
            ("extendedAuditEventCategory", if device { "Device" } else { "User" }),
        ],
    );
    let quoted = format!("\"{}\"", target.display.replace('"', "\\\""));
    let role = format!("\"{role}\"");
    let changes: &[(&str, &str, &str)] = match operation {
        "Add member to role." => &[
            ("Role.ObjectID", "\"2b9c1a5e-5a4e-4b2c-8d0f-0c6c5d1c7a11\"", ""),
            ("Role.DisplayName", &role, ""),
            ("Role.TemplateId", "\"62e90394-69f5-4237-9190-012177145e10\"", ""),
            ("Role.WellKnownObjectName", "\"TenantAdmins\"", ""),
        ],
        "Update application." => &[(
            "RequiredResourceAccess",
            "[\r\n  {\r\n    \"ResourceAppId\": \"00000003-0000-0000-c000-000000000000\",\r\n    \"RequiredAppPermissions\": []\r\n  }\r\n]",
            "[]",
        )],
        "Consent to application." => &[
            ("ConsentContext.IsAdminConsent", "\"True\"", ""),
            ("ConsentAction.Permissions", "\"[] => [[Id: x, Scope: Mail.Read offline_access]];\"", ""),
        ],
        "Disable account." => &[("AccountEnabled", "[\r\n  false\r\n]", "[\r\n  true\r\n]")],
        "Update device." => &[
            ("IsCompliant", "[\r\n  true\r\n]", "[\r\n  false\r\n]"),
            ("DeviceOSVersion", "[\r\n  \"10.0.26100.4061\"\r\n]", "[\r\n  \"10.0.26100.3915\"\r\n]"),
            ("Included Updated Properties", "\"IsCompliant, DeviceOSVersion\"", ""),
        ],
        _ => &[
            ("DisplayName", &quoted, "[]"),
            ("AccountEnabled", "[\r\n  true\r\n]", "[]"),
            ("Included Updated Properties", "\"AccountEnabled, DisplayName\"", ""),
        ],
    };
    json.changes("ModifiedProperties", changes);
    json.identities("Actor", &[(user_id, 5), (&user.puid, 3), (&user.object_id, 2), ("User", 2)]);
    json.text("ActorContextId", &m.tenant.id);
    m.guid("InterSystemsId");
    m.guid("IntraSystemId");
    let json = &mut m.json;
    json.text("SupportTicketId", "");
    if device {
        json.identities("Target", &[(&device_id, 2), ("Device", 2)]);
    } else {
        json.identities("Target", &[(&target.upn, 5), (&target.puid, 3), (&target.object_id, 2), ("User", 2)]);
    }
    json.text("TargetContextId", &m.tenant.id);
}
