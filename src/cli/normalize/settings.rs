//! What `normalize` takes from a configuration; the rest of it may be missing, or wrong.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use clap::ValueEnum as _;
use serde::Deserialize;

use crate::config::{self, EnrichConfig};
use crate::enrich::Enricher;
use crate::metrics::Metrics;
use crate::normalize::Profile;

/// See the module's head.
#[derive(Debug, Default)]
pub struct Settings {
    /// Names of the tenants by directory id, in lower case.
    pub names: HashMap<String, String>,
    /// Whose habits ECS documents follow.
    pub profile: Profile,
    /// Whether ECS documents hold the record once more.
    pub original: bool,
    /// Where places and parts of user agents are looked up.
    pub enricher: Option<Arc<Enricher>>,
}

/// The parts that are read.
#[derive(Deserialize)]
struct Parts {
    #[serde(default)]
    tenants: Vec<NamedTenant>,
    #[serde(default)]
    normalize: NormalizePart,
}

#[derive(Default, Deserialize)]
struct NormalizePart {
    ecs_profile: Option<String>,
    #[serde(default)]
    original: bool,
}

#[derive(Deserialize)]
struct NamedTenant {
    name: Option<String>,
    tenant_id: Option<String>,
}

impl Settings {
    /// Those of a process without a configuration: what is done by default.
    pub fn usual() -> Settings {
        Settings { enricher: opened(&EnrichConfig::default()), ..Settings::default() }
    }

    /// Reads them from the configuration at `path`.
    ///
    /// # Errors
    /// The file cannot be read or is no YAML, or one of the parts is not what it should be.
    pub fn read(path: &Path) -> anyhow::Result<Settings> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let parts: Parts = serde_saphyr::from_str(&text)
            .with_context(|| format!("cannot take `tenants` and `normalize` from `{}`", path.display()))?;
        let named = parts.tenants.into_iter().filter_map(|t| Some((t.tenant_id?.to_ascii_lowercase(), t.name?)));
        let profile = match parts.normalize.ecs_profile {
            Some(name) => Profile::from_str(&name, false)
                .map_err(|_| anyhow!("`normalize.ecs_profile` in `{}` is `auditferry` or `elastic`", path.display()))?,
            None => Profile::default(),
        };
        let enricher = enricher(path)?;
        Ok(Settings { names: named.collect(), profile, original: parts.normalize.original, enricher })
    }
}

/// What `enrich` asks for. Databases are copied below the directory for temporary files, and the copies are gone
/// with the process.
fn enricher(path: &Path) -> anyhow::Result<Option<Arc<Enricher>>> {
    let (config, warnings) = config::load_enrich(path).map_err(|faults| anyhow!("{faults}"))?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    Ok(opened(&config))
}

fn opened(config: &EnrichConfig) -> Option<Arc<Enricher>> {
    Some(Enricher::open(config, &std::env::temp_dir(), &Metrics::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_needs_only_the_tenants() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.yaml");
        std::fs::write(
            &path,
            "tenants:\n  - { name: contoso, tenant_id: AA00, other: [1] }\n  - { name: x }\nsinks: 5\n",
        )
        .unwrap();
        assert_eq!(Settings::read(&path).unwrap().names, HashMap::from([("aa00".to_owned(), "contoso".to_owned())]));
        assert_eq!(Settings::read(&path).unwrap().profile, Profile::Auditferry);
        assert!(Settings::read(&directory.path().join("none")).is_err());
        std::fs::write(&path, "normalize: { ecs_profile: elastic, other: 1 }").unwrap();
        assert_eq!(Settings::read(&path).unwrap().profile, Profile::Elastic);
        std::fs::write(&path, "normalize: { ecs_profile: elastik }").unwrap();
        assert!(Settings::read(&path).unwrap_err().to_string().contains("`auditferry` or `elastic`"));
    }
}
