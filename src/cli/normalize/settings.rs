//! What `normalize` takes from a configuration; the rest of it may be missing, or wrong.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::{EnrichConfig, Parts};
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

impl Settings {
    /// Those of a configuration; of an empty one, what is done by default. Databases are copied below the directory for
    /// temporary files, and the copies are gone with the process.
    pub fn of(parts: Parts) -> Settings {
        let names = parts.tenants.into_iter().map(|tenant| (tenant.id, tenant.name)).collect();
        let enricher = Some(opened(&parts.enrich));
        Settings { names, profile: parts.profile, original: parts.keep_original, enricher }
    }
}

fn opened(config: &EnrichConfig) -> Arc<Enricher> {
    Enricher::open(config, &std::env::temp_dir(), &Metrics::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NamedTenant;

    #[test]
    fn a_configuration_becomes_settings() {
        let tenants = vec![NamedTenant { name: "contoso".into(), id: "aa00".into() }];
        let parts = Parts { tenants, profile: Profile::Elastic, keep_original: true, ..Parts::default() };
        let settings = Settings::of(parts);
        assert_eq!(settings.names, HashMap::from([("aa00".to_owned(), "contoso".to_owned())]));
        assert_eq!((settings.profile, settings.original, settings.enricher.is_some()), (Profile::Elastic, true, true));
    }
}
