//! `drop_fields`, `hash_fields`, `add_fields` and `rate_limit` of a sink as written → as meant. Comes in: the
//! sections, the sink's format and its templates. Goes out: what the sink is shown, or faults: a field that
//! names the record cannot be taken away, one that a template still shows is no secret, and a name of the
//! other format would take nothing away while it looks as if it did.

use std::time::Duration;

use super::check::warn_of_literal;
use super::check_kafka::Pairs;
use super::faults::{Place, Reader};
use super::file::{HashFile, RateLimitFile};
use super::section::{Field, Section, nearest};
use super::templates;
use super::values::{At, Secret, Size};
use crate::config::{EditConfig, Format, HashConfig, RateLimitConfig};
use crate::edit::{FieldPath, KEY_BYTES, ROOTS, WRITTEN, can_be_written, holds_addresses, is_object, reaches};
use crate::secret::SecretSource;

/// What says which record it is and when: without it nothing could be found again or told apart.
const KEPT: [(Format, &[&str]); 2] = [
    (Format::Ecs, &["@timestamp", "event", "event.id", "auditferry", "auditferry.key"]),
    (Format::Raw, &["Id", "CreationTime"]),
];
/// The fields whose values templates show, by format.
const SHOWN: [(Format, &str, &str); 7] = [
    (Format::Ecs, "tenant", "organization.name"),
    (Format::Ecs, "tenant_id", "organization.id"),
    (Format::Ecs, "workload", "event.provider"),
    (Format::Ecs, "operation", "event.action"),
    (Format::Raw, "tenant_id", "OrganizationId"),
    (Format::Raw, "workload", "Workload"),
    (Format::Raw, "operation", "Operation"),
];
/// What of [`KEPT`] are objects: below them lies more than what is kept.
const CONTAINERS: [&str; 2] = ["event", "auditferry"];
/// Fields of one sink; far above what is reasonable, so that the cost of a record stays bounded.
const MOST_FIELDS: usize = 256;

/// The sections of one sink, and what surrounds them.
pub(super) struct Written {
    pub drop: Field<Vec<At<FieldPath>>>,
    pub hash: Field<HashFile>,
    pub add: Field<Pairs>,
    pub format: Format,
    /// The sink's own templates.
    pub templates: Vec<At<String>>,
}

pub(super) fn edit(written: Written, reader: &mut Reader<'_>) -> EditConfig {
    let Written { drop, hash, add, format, templates } = written;
    let drop = drop.value().unwrap_or_default();
    let (key, hashed) = hash.given().map(|at| self::hash(at, reader)).unwrap_or_default();
    let add = add.value().unwrap_or_default().0;
    let add: Vec<(At<FieldPath>, At<String>)> =
        add.into_iter().filter_map(|(name, place, text)| added(&name, place, text, reader)).collect();

    let away: Vec<(&At<FieldPath>, &str)> =
        drop.iter().map(|at| (at, "dropped")).chain(hashed.iter().map(|at| (at, "hashed"))).collect();
    let all: Vec<(&At<FieldPath>, &str)> =
        away.iter().copied().chain(add.iter().map(|(at, _)| (at, "added"))).collect();
    if let Some((beyond, _)) = all.get(MOST_FIELDS) {
        reader.fault(
            &beyond.place,
            format!("more than {MOST_FIELDS} fields are edited"),
            "name the objects they lie in",
        );
    }
    for (index, (at, what)) in all.iter().enumerate() {
        check_name(at, what, format, reader);
        let earlier = all[..index]
            .iter()
            .find(|(other, _)| other.value.covers(at.value.as_str()) || at.value.covers(other.value.as_str()));
        if let Some((other, done)) = earlier {
            let (name, earlier) = (shown(at, reader), shown(other, reader));
            let text = format!("{name} cannot be {what}: {earlier} is {done} at {}", other.place);
            reader.fault(&at.place, text, "name each field once, and none that lies in another");
        }
    }
    for (at, what) in &away {
        check_templates(at, what, format, &templates, reader);
    }
    let texts: Vec<At<String>> = add.iter().map(|(_, text)| text.clone()).collect();
    for at in &hashed {
        // What is dropped may be put in elsewhere on purpose; what is hashed beside its own text is no pseudonym.
        check_templates(at, "hashed", format, &texts, reader);
        if format == Format::Ecs {
            warn_of_mappings(at, reader);
        }
    }
    EditConfig {
        drop: drop.into_iter().map(|at| at.value).collect(),
        hash: key.map(|key| HashConfig { key, fields: hashed.into_iter().map(|at| at.value).collect() }),
        add: add.into_iter().map(|(path, text)| (path.value, text.value)).collect(),
    }
}

/// A name as a fault may show it: not where a variable holds it.
fn shown(at: &At<FieldPath>, reader: &Reader<'_>) -> String {
    if reader.is_literal(&at.place) { format!("`{}`", at.value) } else { "what is named here".to_owned() }
}

/// What an index mapping of ECS would refuse once it is a pseudonym.
fn warn_of_mappings(at: &At<FieldPath>, reader: &mut Reader<'_>) {
    let name = shown(at, reader);
    // An index mapping of ECS takes nothing but addresses there.
    if holds_addresses(&at.value) {
        reader.warning(
            &at.place,
            format!("a pseudonym is no address, and index mappings take nothing else for {name}"),
            "drop it, or hash it where the receiver has no mapping of ECS's",
        );
    } else if is_object(&at.value) {
        let below = WRITTEN.iter().find(|field| at.value.covers(field)).unwrap_or(&"o365.audit.ClientIP");
        reader.warning(
            &at.place,
            format!("hashing makes one text of the object {name}, and index mappings refuse a text there"),
            format!("name the fields in it, as `{below}`, or drop it"),
        );
    }
}

/// The key and the fields, as far as they are there: the names are looked at whatever the key is.
fn hash(at: At<HashFile>, reader: &mut Reader<'_>) -> (Option<SecretSource>, Vec<At<FieldPath>>) {
    let (place, title) = (at.place, HashFile::TITLE);
    let hint =
        "a secret of at least 16 bytes, best as \"${file:/run/secrets/…}\": without it anybody could try all names";
    let key = at.value.key.required("key", title, &place, hint, reader);
    let hint = "a list of names, as `[user.name, o365.audit.MailboxOwnerUPN]`";
    let fields = at.value.fields.required("fields", title, &place, hint, reader);
    if let Some(fields) = fields.as_ref().filter(|fields| fields.value.is_empty()) {
        reader.fault(&fields.place, "no field is named", hint);
    }
    if let Some(key) = &key {
        check_key(key, reader);
    }
    (key.map(|key| key.value.source), fields.map(|fields| fields.value).unwrap_or_default())
}

fn check_key(key: &At<Secret>, reader: &mut Reader<'_>) {
    if key.value.literal {
        warn_of_literal(&key.place, "key of the pseudonyms", reader);
    }
    // A file that is not here yet was warned of.
    if key.value.source.read().is_ok_and(|secret| secrecy::ExposeSecret::expose_secret(&secret).len() < KEY_BYTES) {
        reader.fault(
            &key.place,
            format!("the key has fewer than {KEY_BYTES} bytes, so that all keys could be tried"),
            "make one with `openssl rand -base64 32`",
        );
    }
}

fn added(name: &str, place: Place, text: At<String>, reader: &mut Reader<'_>) -> Option<(At<FieldPath>, At<String>)> {
    templates::check(&text, reader);
    match FieldPath::parse(name) {
        Ok(value) => Some((At { value, place }, text)),
        Err(error) => {
            reader.fault(&place, format!("`{name}` names no field: {error}"), "as `labels.site: north`");
            None
        }
    }
}

fn check_name(at: &At<FieldPath>, what: &str, format: Format, reader: &mut Reader<'_>) {
    let name = &at.value;
    let kept = KEPT.iter().filter(|(of, _)| *of == format).flat_map(|(_, names)| names.iter());
    let is_kept = |kept: &&str| name.is(kept) || (!CONTAINERS.contains(kept) && name.lies_in(kept));
    if kept.clone().any(is_kept) {
        let kept: Vec<String> = kept.map(|name| format!("`{name}`")).collect();
        let shown = shown(at, reader);
        reader.fault(
            &at.place,
            format!("{shown} cannot be {what}: it says which record this is"),
            format!("{} stay as they are", kept.join(", ")),
        );
        return;
    }
    if what == "added" {
        return;
    }
    let first = name.segments().next().unwrap_or_default();
    let shown = shown(at, reader);
    match format {
        Format::Ecs if first.starts_with(|c: char| c.is_ascii_uppercase()) => reader.fault(
            &at.place,
            format!("an ECS document has no {shown}"),
            match reader.is_literal(&at.place) {
                true => format!("a record's own fields lie below `o365.audit`: `o365.audit.{name}`"),
                false => "a record's own fields lie below `o365.audit`".to_owned(),
            },
        ),
        Format::Ecs if !can_be_written(name) => {
            let hint = match nearest(name.as_str(), WRITTEN.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!(
                    "its fields begin with {}; a record's own fields lie below `o365.audit`",
                    ROOTS.iter().map(|root| format!("`{root}`")).collect::<Vec<_>>().join(", ")
                ),
            };
            reader.warning(&at.place, format!("an ECS document has no {shown}, so nothing is {what}"), hint);
        }
        // Microsoft's names begin with a capital letter, all but a few that no document has.
        Format::Raw if ROOTS.contains(&first) => reader.fault(
            &at.place,
            format!("a record as Microsoft sends it has no {shown}"),
            "with `format: raw` fields have Microsoft's names, as `ClientIP` or `UserId`",
        ),
        _ => {}
    }
}

fn check_templates(at: &At<FieldPath>, what: &str, format: Format, texts: &[At<String>], reader: &mut Reader<'_>) {
    for (_, place, field) in
        SHOWN.iter().filter(|(of, ..)| *of == format).filter(|(.., field)| reaches(&at.value, field))
    {
        for text in texts.iter().filter(|text| templates::places(&text.value).is_ok_and(|all| all.contains(place))) {
            reader.fault(
                &at.place,
                format!(
                    "{} is {what}, and the template at {} would still show it as `{{{place}}}`",
                    shown(at, reader),
                    text.place
                ),
                format!("take `{{{place}}}` out of the template, or keep `{field}`"),
            );
        }
    }
}

/// `burst` of one second: what a quota in events a second means at its receiver.
pub(super) fn rate_limit(at: At<RateLimitFile>, reader: &mut Reader<'_>) -> Option<RateLimitConfig> {
    let RateLimitFile { events_per_second, bytes_per_second, burst, .. } = at.value;
    if matches!((&events_per_second, &bytes_per_second), (Field::Absent, Field::Absent)) {
        let hint = "give `events_per_second`, `bytes_per_second` (as `5MiB`), or both";
        reader.fault(&at.place, "`rate_limit` limits nothing", hint);
        return None;
    }
    let events_per_second = match events_per_second {
        Field::Absent => None,
        written => Some(written.within(reader, (1, 10_000_000), "between 1 and 10000000", 1, |n: &usize| *n as u64)),
    };
    let bytes_per_second = match bytes_per_second {
        Field::Absent => None,
        written => {
            let (ends, least) = ("between 1KiB and 1TiB", 1 << 10);
            Some(written.within(reader, (least, 1 << 40), ends, least, |size: &Size| size.0))
        }
    };
    let second = Duration::from_secs(1);
    let longest = Duration::from_secs(3600);
    Some(RateLimitConfig {
        events_per_second,
        bytes_per_second,
        burst: burst.within(reader, (Duration::from_millis(100), longest), "between 100ms and 1h", second, |d| *d),
    })
}
