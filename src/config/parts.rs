//! The parts of a file that `normalize` needs: the tenants' names, `normalize` and `enrich`. Comes in: a path. Goes out: the
//! parts and their warnings, or all their faults at once, each with its place.
//!
//! They are read as strictly as [`super::load()`] reads them. Of the rest nothing needs to be there, or right, and no reference in
//! it is followed: the secrets of a tenant lie on another machine, mostly.

use std::path::{Path, PathBuf};

use super::check::Seen;
use super::check_auth;
use super::check_enrich::enrich;
use super::faults::{ConfigFaults, Fault, Place, Reader};
use super::file::{AuthFile, EnrichFile, NormalizeFile, TenantFile, WorkloadIdentityFile};
use super::load::{read_file, tenants_from};
use super::section::{Field, Section, entries, field, nearest, refuse_unknown};
use super::tree::{Entry, Node, Value};
use super::values::{At, FromNode};
use crate::config::EnrichConfig;
use crate::normalize::Profile;

/// What is read of the top level.
const PARTS: &[&str] = &["tenants", "tenants_from", "normalize", "enrich"];

/// See the module's head.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parts {
    /// In the order of the files.
    pub tenants: Vec<NamedTenant>,
    /// Whose habits ECS documents follow.
    pub profile: Profile,
    /// Whether ECS documents hold the record once more, as a text.
    pub keep_original: bool,
    pub enrich: EnrichConfig,
}

/// What a tenant is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedTenant {
    pub name: String,
    /// The directory id, in lower case.
    pub id: String,
}

/// Reads the parts of the file at `path`, with their warnings.
///
/// # Errors
/// Every fault of these parts, and what makes a file unreadable as a whole.
pub fn load_parts(path: &Path) -> Result<(Parts, Vec<Fault>), ConfigFaults> {
    let variables = |name: &str| std::env::var(name).ok();
    let mut reader = Reader::new(&variables);
    let root = read_file(0, path, &mut reader);
    let parts = root.and_then(|root| parts(&root, &mut reader)).unwrap_or_default();
    Ok((parts, reader.finish()?))
}

fn parts(root: &Node, reader: &mut Reader<'_>) -> Option<Parts> {
    if matches!(root.value, Value::Null) {
        return None;
    }
    let all = entries(root, "the configuration", PARTS, reader)?;
    forget_faults_of_the_rest(all, reader);
    warn_of_near_names(all, reader);
    let mut tenants: Vec<Named> = field(all, "tenants", reader).value().unwrap_or_default();
    if let Some(dir) = field::<PathBuf>(all, "tenants_from", reader).given() {
        tenants.extend(tenants_from::<Named>(&dir.value, &dir.place, reader));
    }
    let defaults = all.iter().find(|entry| entry.key == "tenant_defaults");
    let auth = match defaults.map(|entry| &entry.node.value) {
        Some(Value::Map(entries)) if !tenants.is_empty() => workload(entries, reader),
        _ => Field::Absent,
    };
    let tenants = named(tenants, &auth, reader);
    let normalize: NormalizeFile = field(all, "normalize", reader).value().unwrap_or_default();
    let written: EnrichFile = field(all, "enrich", reader).value().unwrap_or_default();
    Some(Parts {
        tenants,
        profile: normalize.ecs_profile.value().unwrap_or_default(),
        keep_original: normalize.original.value().unwrap_or_default(),
        enrich: enrich(written, reader),
    })
}

/// Faults of the syntax are found in the whole file; those of other blocks do not matter here.
fn forget_faults_of_the_rest(all: &[Entry], reader: &mut Reader<'_>) {
    let is_part = |entry: &Entry| PARTS.contains(&entry.key.as_str());
    let block_of = |at: &Place| {
        all.iter()
            .filter(|entry| (entry.place.line, entry.place.column) <= (at.line, at.column))
            .max_by_key(|entry| (entry.place.line, entry.place.column))
    };
    let is_ours = |fault: &Fault| block_of(&fault.place).is_none_or(is_part);
    let is_broken = all.iter().any(|entry| is_part(entry) && matches!(entry.node.value, Value::Broken));
    let mut said = std::mem::take(&mut reader.faults);
    let others = said.split_off(reader.of_syntax.min(said.len()));
    if is_broken {
        // Where a quote is not closed the parser stops in a later block than the one that has the fault.
        let is_placed = said.iter().any(is_ours);
        reader.faults.extend(said.into_iter().filter(|fault| !is_placed || is_ours(fault)));
    }
    reader.faults.extend(others.into_iter().filter(is_ours));
}

/// Other keys are no fault here, but one that was meant for a part would be passed over in silence.
fn warn_of_near_names(all: &[Entry], reader: &mut Reader<'_>) {
    for entry in all.iter().filter(|entry| !super::file::File::KEYS.contains(&entry.key.as_str())) {
        if let Some(name) = nearest(&entry.key, PARTS.iter().copied()) {
            let text = format!("unknown key `{}` in the configuration: nothing of it is read", entry.key);
            reader.warning(&entry.place, text, format!("did you mean `{name}`?"));
        }
    }
}

/// A tenant of which only its name and what may hold its id were read.
struct Named(TenantFile);

impl FromNode for Named {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Named> {
        let all = entries(node, TenantFile::TITLE, TenantFile::KEYS, reader)?;
        refuse_unknown(all, &[TenantFile::KEYS], &[TenantFile::LATER], TenantFile::TITLE, reader);
        Some(Named(TenantFile {
            place: node.place.clone(),
            name: field(all, "name", reader),
            tenant_id: field(all, "tenant_id", reader),
            auth: workload(all, reader),
            ..TenantFile::default()
        }))
    }
}

/// `auth.workload_identity.tenant_id` of a tenant, and nothing else of `auth`.
fn workload(tenant: &[Entry], reader: &mut Reader<'_>) -> Field<AuthFile> {
    let Some((auth, inside)) = mapping(tenant, "auth") else { return Field::Absent };
    let Some((place, inside)) = mapping(inside, "workload_identity") else {
        return given(AuthFile::default(), auth);
    };
    let tenant_id = field(inside, "tenant_id", reader);
    let identity = given(WorkloadIdentityFile { tenant_id, ..WorkloadIdentityFile::default() }, place);
    given(AuthFile { workload_identity: identity, ..AuthFile::default() }, auth)
}

fn mapping<'a>(entries: &'a [Entry], key: &str) -> Option<(&'a Place, &'a [Entry])> {
    let node = &entries.iter().find(|entry| entry.key == key)?.node;
    match &node.value {
        Value::Map(inside) => Some((&node.place, inside)),
        _ => None,
    }
}

fn given<T>(value: T, place: &Place) -> Field<T> {
    Field::Given(At { value, place: place.clone() })
}

fn named(tenants: Vec<Named>, auth: &Field<AuthFile>, reader: &mut Reader<'_>) -> Vec<NamedTenant> {
    let (mut names, mut ids) = (Seen::new("tenant name"), Seen::new("tenant_id"));
    let mut all = Vec::with_capacity(tenants.len());
    for Named(file) in tenants {
        let id = check_auth::tenant_id(&file, auth, reader);
        let hint = "a short label: it stands in events as `organization.name`";
        let name = file.name.required("name", TenantFile::TITLE, &file.place, hint, reader);
        let (Some(name), Some(id)) = (name, id) else { continue };
        names.check(name.value.clone(), &name.place, reader);
        ids.check(id.value.0.clone(), &id.place, reader);
        all.push(NamedTenant { name: name.value, id: id.value.0 });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "6F1C2D3E-0000-4000-8000-00000000000A";

    struct Files(tempfile::TempDir);

    impl Files {
        fn new() -> Files {
            Files(tempfile::tempdir().unwrap())
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path
        }

        fn load(&self, text: &str) -> Result<(Parts, Vec<Fault>), String> {
            load_parts(&self.write("c.yaml", text)).map_err(|faults| faults.to_string())
        }
    }

    fn named(name: &str) -> NamedTenant {
        NamedTenant { name: name.into(), id: ID.to_ascii_lowercase() }
    }

    #[test]
    fn the_rest_may_be_missing_wrong_or_secret() {
        let files = Files::new();
        assert_eq!(files.load("").unwrap(), (Parts::default(), vec![]));
        let text = format!(
            "sinks: [5, {{ a: 1, a: 2 }}]\nunknown: \"${{NO_SUCH_VARIABLE}}\"\ncollect: [ }}\n\
             tenant_defaults: {{ auth: nonsense }}\n\
             tenants:\n- name: contoso\n  tenant_id: {ID}\n  cloud: nowhere\n  auth: {{ client_secret: \"${{file:/no/such}}\" }}\n\
             normalize: {{ ecs_profile: elastic, original: true }}\n"
        );
        let (parts, warnings) = files.load(&text).unwrap();
        assert_eq!(
            (parts.tenants, parts.profile, parts.keep_original),
            (vec![named("contoso")], Profile::Elastic, true)
        );
        assert_eq!(warnings, vec![]);
    }

    #[test]
    fn references_in_the_parts_are_followed_and_tenants_from_is_read() {
        let files = Files::new();
        files.write("name", "contoso\n");
        files.write(
            "t/a.yaml",
            &format!("{{ name: \"${{file:{}/name}}\", tenant_id: {ID} }}", files.0.path().display()),
        );
        let text = format!(
            "tenants_from: {}/t\nnormalize: {{ ecs_profile: \"${{NO_SUCH_VARIABLE:-elastic}}\" }}",
            files.0.path().display()
        );
        let (parts, _) = files.load(&text).unwrap();
        assert_eq!((parts.tenants, parts.profile), (vec![named("contoso")], Profile::Elastic));
    }

    #[test]
    fn faults_of_the_parts_come_all_at_once_with_their_places() {
        let files = Files::new();
        let said = files
            .load(
                "tenants:\n- { nmae: a, tenant_id: 1 }\n- { name: \"${NO_SUCH_VARIABLE}\" }\n\
                 normalize: { ecs_profile: elastik, origin: true }\nenrich: { goe: {} }\n",
            )
            .unwrap_err();
        for fault in [
            "c.yaml:2:5: error: unknown key `nmae`",
            "c.yaml:2:3: error: `name` is missing",
            "c.yaml:2:25: error: `1` is not a GUID",
            "c.yaml:3:11: error: the environment variable `NO_SUCH_VARIABLE` is not set",
            "c.yaml:3:3: error: `tenant_id` is missing",
            "c.yaml:4:27: error",
            "did you mean `original`?",
            "did you mean `geo`?",
        ] {
            assert!(said.contains(fault), "{fault}\n{said}");
        }
        assert!(files.load("[1, 2]").unwrap_err().contains("here stands a list"));
        assert!(files.load("normalize: { original: [\ntenants: []\n").is_err(), "a broken block of ours");
        let twice = format!("tenants: [{{ name: a, tenant_id: {ID} }}, {{ name: a, tenant_id: {ID} }}]");
        assert!(files.load(&twice).unwrap_err().contains("already used"));
        assert!(load_parts(&files.0.path().join("none")).is_err());
    }

    #[test]
    fn a_workload_identity_may_hold_the_id() {
        let files = Files::new();
        let auth =
            format!("auth: {{ workload_identity: {{ tenant_id: {ID}, token_file: \"${{NO_SUCH_VARIABLE}}\" }} }}");
        let own = files.load(&format!("tenants: [{{ name: a, {auth} }}]")).unwrap().0;
        let common = files.load(&format!("tenant_defaults: {{ {auth} }}\ntenants: [{{ name: a }}]")).unwrap().0;
        assert_eq!((own.tenants, common.tenants), (vec![named("a")], vec![named("a")]));
    }

    #[test]
    fn a_key_that_was_meant_for_a_part_is_worth_a_word() {
        let (_, warnings) = Files::new().load("normalise: { original: true }\nsinks: 5\nother: 6\n").unwrap();
        assert_eq!((warnings.len(), warnings[0].hint.as_str()), (1, "did you mean `normalize`?"));
    }
}
