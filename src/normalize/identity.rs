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

/// Name and domain of an address: it has exactly one `@` with something on both sides; an escape might hide
/// another, and is then taken for none.
pub fn address(text: &str) -> Option<(&str, &str)> {
    text.split_once('@').filter(|(name, domain)| {
        !name.is_empty() && !domain.is_empty() && !domain.contains('@') && !text.contains('\\')
    })
}

/// Sets the id, and its parts where it is an address.
pub fn set<'a>(draft: &mut Draft<'a>, place: Place, id: &'a str) {
    draft.set(place.id, Value::Text(id));
    set_address(draft, place, id);
}

/// Sets name, domain and email, where the text is an address.
pub fn set_address<'a>(draft: &mut Draft<'a>, place: Place, text: &'a str) {
    if let Some((name, domain)) = address(text) {
        draft.set(place.name, Value::Text(name));
        draft.set(place.domain, Value::Text(domain));
        draft.set(place.email, Value::Text(text));
    }
}

/// `smtp:a@b` and the like without the scheme.
pub fn without_scheme(text: &str) -> &str {
    match text.split_once(':') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("smtp") => rest,
        _ => text,
    }
}
