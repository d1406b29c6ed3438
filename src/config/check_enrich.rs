//! `enrich` as written → as meant. Comes in: the section. Goes out: which databases there are to be. A file that is not there is
//! said, and no fault: it may come later, and events go on without it.

use std::path::PathBuf;

use super::check::Seen;
use super::faults::Reader;
use super::file::EnrichFile;
use super::section::Field;
use super::values::At;
use crate::config::EnrichConfig;

pub(super) fn enrich(file: EnrichFile, reader: &mut Reader<'_>) -> EnrichConfig {
    let geo = file.geo.value().unwrap_or_default();
    EnrichConfig {
        city: databases(geo.city, reader),
        asn: databases(geo.asn, reader),
        user_agent: file.user_agent.value().unwrap_or(EnrichConfig::default().user_agent),
    }
}

fn databases(written: Field<Vec<At<PathBuf>>>, reader: &mut Reader<'_>) -> Vec<PathBuf> {
    let mut seen = Seen::new("database");
    let written = written.value().unwrap_or_default();
    for at in &written {
        seen.check(at.value.clone(), &at.place, reader);
        match std::fs::metadata(&at.value) {
            Ok(about) if about.is_file() => {}
            Ok(_) => reader.warning(
                &at.place,
                "here is no file: events will go without what it would tell",
                "give the path of the `.mmdb` file itself",
            ),
            Err(error) => reader.warning(
                &at.place,
                format!(
                    "the file cannot be read now ({error}): until it is there, events go without what it would tell"
                ),
                "put it there at any time, it is looked for every few seconds; `make geo` fetches a free one",
            ),
        }
    }
    written.into_iter().map(|at| at.value).collect()
}

#[cfg(test)]
mod tests {
    use crate::config::{EnrichConfig, load_str, load_with_warnings};

    const REST: &str = "
state: { dir: /tmp/s }
tenants: [{ name: a, tenant_id: 6f1c2d3e-0000-4000-8000-00000000000a, client_id: 6f1c2d3e-0000-4000-8000-0000000000ff, auth: { client_secret: one } }]
sinks: [{ name: out, type: stdout }]
";

    fn read(enrich: &str) -> EnrichConfig {
        load_str("c.yaml", &format!("{enrich}\n{REST}")).unwrap_or_else(|faults| panic!("{faults}")).enrich
    }

    #[test]
    fn one_path_or_several_and_user_agents_unless_switched_off() {
        let of = |city: &[&str], asn: &[&str], user_agent| EnrichConfig {
            city: city.iter().map(Into::into).collect(),
            asn: asn.iter().map(Into::into).collect(),
            user_agent,
        };
        assert_eq!(read(""), of(&[], &[], true));
        assert_eq!(read(""), EnrichConfig::default());
        assert_eq!(read("enrich: { user_agent: false }"), of(&[], &[], false));
        assert_eq!(read("enrich: { geo: { city: /geo/c.mmdb } }"), of(&["/geo/c.mmdb"], &[], true));
        assert_eq!(read("enrich: { geo: { city: [/4, /6], asn: [/a] } }"), of(&["/4", "/6"], &["/a"], true));
    }

    #[test]
    fn a_file_that_is_not_there_is_a_warning_at_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.yaml");
        let there = dir.path().join("there.mmdb");
        std::fs::write(&there, "").unwrap();
        let text = format!("enrich: {{ geo: {{ city: [{}, /no/such.mmdb], asn: /tmp }} }}\n{REST}", there.display());
        std::fs::write(&path, text).unwrap();
        let loaded = load_with_warnings(&path).unwrap_or_else(|faults| panic!("{faults}"));
        let said: Vec<&str> = loaded.warnings.iter().map(|warning| warning.text.as_str()).collect();
        let of_enrich: Vec<_> = said.iter().filter(|text| text.contains("events")).collect();
        assert_eq!(of_enrich.len(), 2, "{said:?}");
        assert!(of_enrich[0].contains("No such file") && of_enrich[1].contains("no file"), "{said:?}");
    }

    #[test]
    fn a_file_given_twice_is_a_fault() {
        let text = format!("enrich: {{ geo: {{ city: [/a, /a] }} }}\n{REST}");
        let faults = load_str("c.yaml", &text).unwrap_err().to_string();
        assert!(faults.contains("the database is already used at"), "{faults}");
    }
}
