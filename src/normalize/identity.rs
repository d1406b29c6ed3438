//! Who is meant by a text: the parts of an account's name, into the fields of a user.
//!
//! Comes in: a text, still escaped. Goes out: id, name, domain and email of one of the users of a document.

use super::draft::{Draft, Value};
use super::ecs::Ecs;

/// The fields of one user of the document.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub id: Ecs,
    pub name: Ecs,
    pub domain: Ecs,
    pub email: Ecs,
}

/// Who did it.
pub const USER: Place = Place { id: Ecs::UserId, name: Ecs::UserName, domain: Ecs::UserDomain, email: Ecs::UserEmail };
/// Whom it was done to.
pub const TARGET: Place = Place {
    id: Ecs::UserTargetId,
    name: Ecs::UserTargetName,
    domain: Ecs::UserTargetDomain,
    email: Ecs::UserTargetEmail,
};

/// Texts with which the service says that it does not know.
const UNKNOWN: [&str; 3] = ["Not Available", "Unknown", "NotAvailable"];

/// Whether the text names somebody or something.
pub fn is_known(text: &str) -> bool {
    !text.is_empty() && !UNKNOWN.contains(&text)
}

/// Accounts of the service itself, in `UserId` where nobody did it.
const SERVICES: [&str; 12] = [
    "AirInvestigation",
    "Application",
    "DlpAgent",
    "DlpPolicy",
    "HygieneTenantEvents",
    "Insider risk",
    "SecurityComplianceAlerts",
    "SecurityComplianceInsights",
    "SupervisionAgent",
    "ThreatIntel",
    "anonymous",
    "app@sharepoint",
];

/// Whether the text is somebody whom one would search for.
pub fn is_somebody(text: &str) -> bool {
    is_known(text) && !SERVICES.contains(&text) && !text.starts_with("Application_")
}

/// Name and domain of an address: it has exactly one `@` with something on both sides. `text` is escaped in the usual
/// way ([`Draft::canonical`]), so that no `@` hides in it.
pub fn address(text: &str) -> Option<(&str, &str)> {
    let at = memchr::memchr(b'@', text.as_bytes())?;
    let (name, domain) = (&text[..at], &text[at + 1..]);
    let is_address = !name.is_empty() && !domain.is_empty() && memchr::memchr(b'@', domain.as_bytes()).is_none();
    is_address.then_some((name, domain))
}

/// Adds an address to the related users; other texts are passed over. `smtp:a@b` and `"A" [SMTP:a@b]` are read.
pub fn add_related<'a>(draft: &mut Draft<'a>, text: &'a str) {
    let text = without_scheme(draft.canonical(text).trim());
    // A folder of a mailbox, a path or a sentence with an `@` in it is nobody.
    let odd = |part: &str| part.contains([' ', '/', ':', '\\']);
    if address(text).is_some_and(|(name, domain)| !odd(name) && !odd(domain)) {
        draft.add_text(Ecs::RelatedUser, text);
    }
}

/// Sets the id, and its parts where it is an address.
pub fn set<'a>(draft: &mut Draft<'a>, place: Place, id: &'a str) {
    let id = draft.canonical(id);
    // Of whoever was said to be there before nothing is left.
    [place.name, place.domain, place.email].into_iter().for_each(|field| draft.clear(field));
    draft.set(place.id, Value::Text(id));
    set_address(draft, place, id);
}

/// Sets name, domain and email, where the text is an address.
pub fn set_address<'a>(draft: &mut Draft<'a>, place: Place, text: &'a str) {
    let text = draft.canonical(text);
    if let Some((name, domain)) = address(text) {
        draft.set(place.name, Value::Text(name));
        draft.set(place.domain, Value::Text(domain));
        draft.set(place.email, Value::Text(text));
    }
}

/// `smtp:a@b` and `"A" [SMTP:a@b]` as `a@b`.
pub fn without_scheme(text: &str) -> &str {
    let text = match text.rsplit_once('[') {
        Some((_, inside)) => inside.trim_end_matches(']'),
        None => text,
    };
    match text.split_once(':') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("smtp") => rest,
        _ => text,
    }
}
