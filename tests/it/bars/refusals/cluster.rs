//! What OpenSearch with its security plugin refuses us for; and the rights that are enough, for `setup` and for `run`.

use auditferry::simulator::WorldConfig;

use super::super::elasticsearch::set_up;
use super::{CANARY, Case, LIMIT, Mend, TARGET, tls};
use crate::real::opensearch::OpenSearch;
use crate::support::{Place, figure, served, size, world};

pub(super) fn cases(engine: &OpenSearch) -> Vec<Case> {
    let to = |url: &str, settings: &str| format!("type: elasticsearch, url: {url:?}, index: {TARGET:?}, {settings}");
    let url = engine.url();
    let right = |settings: &str| Mend::Sink(to(&url, settings));
    let (ca, other_ca) = (tls(&engine.file("ca.pem")), tls(&engine.file("other-ca.pem")));
    let login = |user: &str, password: &str, tls: &str| {
        format!("auth: {{ basic: {{ username: {user}, password: {password} }} }}, {tls}")
    };
    let with_certificate = |name: &str| {
        let [ca, cert, key] = ["ca.pem", &format!("{name}.pem"), &format!("{name}.key")].map(|name| engine.file(name));
        format!("tls: {{ ca_file: {ca:?}, cert_file: {cert:?}, key_file: {key:?} }}")
    };
    let ferry = login("ferry", "ferry-secret", &ca);
    let stranger = login("stranger", "stranger-secret", &ca);
    vec![
        Case {
            name: "password",
            named: &["the cluster answered 401", "check `auth`"],
            target: "refused-password",
            wrong: to(&url, &login("ferry", CANARY, &ca)),
            mend: right(&ferry),
        },
        Case {
            name: "authority",
            named: &["cannot reach", "UnknownIssuer"],
            target: "refused-authority",
            wrong: to(&url, &login("ferry", "ferry-secret", &other_ca)),
            mend: right(&ferry),
        },
        Case {
            name: "host",
            named: &["cannot reach", "not valid for name", "localhost"],
            target: "refused-host",
            wrong: to(&engine.url_by_address(), &ferry),
            mend: right(&ferry),
        },
        Case {
            name: "forbidden index",
            named: &["`refused-index` takes nothing from us", "no permissions for", "stranger", "`create_index`"],
            target: "refused-index",
            wrong: to(&url, &stranger),
            mend: right(&with_certificate("client")),
        },
        Case {
            name: "forbidden indices by day",
            named: &["no permissions for", "stranger", "`create_index`"],
            target: "refused-daily-{day}",
            wrong: to(&url, &stranger),
            mend: right(&ferry),
        },
        Case {
            name: "no right to write at all",
            named: &["no permissions for [indices:data/write/bulk]", "reader", "cluster `indices:data/write/bulk`"],
            target: "refused-all",
            wrong: to(&url, &login("reader", "reader-secret", &ca)),
            mend: right(&ferry),
        },
        Case {
            name: "certificate of another authority",
            named: &["cannot reach", "received fatal alert", "`cert_file` and `key_file`"],
            target: "refused-certificate",
            wrong: to(&url, &with_certificate("forged")),
            mend: right(&with_certificate("client")),
        },
    ]
}

/// `setup` by somebody who may not, by somebody with the rights that the documentation names, and what `run` writes with those of
/// its own.
pub(super) async fn set_up_and_run(engine: &OpenSearch) {
    let world = world(WorldConfig::new().records(size(300, 3000)).days(1)).await;
    let place = Place::new();
    let write = |user: &str| {
        let login = format!("auth: {{ basic: {{ username: {user}, password: {user}-secret }} }}");
        let ca = tls(&engine.file("ca.pem"));
        let url = engine.url();
        let sink = format!("  - {{ name: out, type: elasticsearch, url: {url:?}, {login}, {ca} }}\n");
        place.write_config(&world, &sink, "");
    };
    let run = || tokio::task::block_in_place(|| set_up(&place, &[]));
    write("stranger");
    let (code, said) = run();
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("may not set the cluster up") && said.contains("`cluster_manage_index_templates`"), "{said}");
    assert!(said.contains("no permissions for [indices:admin/index_template/get]"), "{said}");
    write("installer");
    let (code, said) = run();
    assert!(code == 0 && said.contains("data stream `logs-o365.audit-default` made"), "{said}");
    write("ferry");
    assert_eq!(place.run_once(LIMIT).await.code(), Some(0), "{}", place.log_tail());
    assert!(!place.log().contains("\"level\":\"WARN\""), "{}", place.log_tail());
    let written = engine.count("logs-o365.audit-default").await as usize;
    assert_eq!(written, served(&world).reachable.len());
    figure(
        "refusals",
        format_args!("opensearch, setup and run with the rights of the documentation: {written} records"),
    );
}
