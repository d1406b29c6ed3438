//! Holds the papers against the code: the pages of metrics and errors are exactly their catalogues, the tests that
//! ARCHITECTURE.md names exist, links within the papers lead somewhere, and the README's first
//! configuration is one. Reads files; runs nothing but the configuration's own parser.
//!
//! After a change of the catalogue: `UPDATE_DOCS=1 cargo test --test it papers`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use auditferry::advice::{CHAPTERS, page_of};
use auditferry::metrics::CATALOGUE;
use auditferry::normalize::{Form, keys};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every file below `dir` whose name ends with `end`, relative to the package.
fn files(dir: &str, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root().join(dir)).unwrap() {
        let path = entry.unwrap().path();
        let inside = path.strip_prefix(root()).unwrap().to_owned();
        if path.is_dir() {
            found.extend(files(inside.to_str().unwrap(), end));
        } else if path.to_string_lossy().ends_with(end) {
            found.push(inside);
        }
    }
    found.sort();
    found
}

fn papers() -> Vec<PathBuf> {
    let mut papers: Vec<PathBuf> =
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"].map(PathBuf::from).into();
    papers.extend(files("docs", ".md"));
    papers
}

/// The page of metrics, as the catalogue has it.
fn metrics_page() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Served as Prometheus text at `/metrics` of `admin.listen`. Every name is declared in `src/metrics.rs`, and this\n\
         page is written from there (`UPDATE_DOCS=1 cargo test --test it papers`). Times are seconds since 1970 UTC,\n\
         sizes are bytes. Label values come from the configuration or from fixed lists, never from records. On Linux\n\
         the usual `process_*` metrics stand beside these.\n\n\
         | name | type | labels | what |\n|---|---|---|---|\n",
    );
    for (name, kind, help, labels) in CATALOGUE {
        let kind = kind.trim_start_matches("float_").trim_end_matches('s');
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(page, "| `{name}` | {kind} | {} | {help} |", labels.join(" ")).unwrap();
    }
    page
}

#[test]
fn the_page_of_metrics_is_the_catalogue() {
    let path = root().join("docs/metrics.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, metrics_page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, metrics_page(), "write it anew: UPDATE_DOCS=1 cargo test --test it papers");
}

/// The page of errors, as the catalogue has it.
fn errors_page() -> String {
    let mut page = String::from(
        "# Errors\n\n\
         What Microsoft's refusals and the network's failures mean. Written from `src/advice`\n\
         (`UPDATE_DOCS=1 cargo test --test it papers`); `auditferry explain CODE` prints an entry, and takes a line of the log too.\n\n\
         The log and `/status` show what the service said, in its own words and with its ids (trace id, correlation id,\n\
         `request-id`, `client-request-id`): give those to Microsoft's support. The advice behind is ours. Numbers are hints; what\n\
         the program does goes by status and `error`.\n",
    );
    for (chapter, entries) in CHAPTERS {
        let links: Vec<String> =
            entries.iter().map(|entry| format!("[{0}](#{1})", entry.code, anchor(entry.code))).collect();
        writeln!(page, "\n## {chapter}\n\n{}", links.join(" ")).unwrap();
        for entry in entries {
            let is_number = entry.code.starts_with("AADSTS");
            let link =
                if is_number { format!(" ([Microsoft's page]({}))", page_of(entry.code)) } else { String::new() };
            writeln!(
                page,
                "\n### {}\n\n{}{link}.\n\n* **What to do:** {}.\n* **Passes by itself:** {}.",
                entry.code,
                capital(entry.meaning),
                entry.action,
                entry.passes.as_str()
            )
            .unwrap();
        }
    }
    page
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// What a heading is linked by.
fn anchor(heading: &str) -> String {
    heading
        .to_ascii_lowercase()
        .replace(' ', "-")
        .replace(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_', "")
}

#[test]
fn the_page_of_errors_is_the_catalogue() {
    let path = root().join("docs/errors.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, errors_page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, errors_page(), "write it anew: UPDATE_DOCS=1 cargo test --test it papers");
}

#[test]
fn links_to_an_error_lead_to_its_heading() {
    let page = read("docs/errors.md");
    let headings: Vec<String> =
        page.lines().filter_map(|line| line.strip_prefix('#')).map(|h| anchor(h.trim_matches(['#', ' ']))).collect();
    let mut followed = 0;
    for paper in papers() {
        let text = read(paper.to_str().unwrap());
        let own = if paper.ends_with("errors.md") { "](#" } else { "errors.md#" };
        for rest in text.split(own).skip(1) {
            let target = rest.split([')', ' ', '`']).next().unwrap();
            followed += 1;
            assert!(headings.iter().any(|heading| heading == target), "{}: there is no `#{target}`", paper.display());
        }
    }
    assert!(followed > 50, "only {followed} links");
}

/// Whoever opens a firewall goes by this page.
#[test]
fn the_page_of_the_network_names_every_host() {
    let page = read("docs/network.md");
    for cloud in ["enterprise", "gcc", "gcc_high", "dod"] {
        let id = "00000000-0000-4000-8000-00000000000a";
        let text = format!(
            "tenants: [{{name: a, tenant_id: {id}, client_id: {id}, cloud: {cloud}, auth: {{client_secret: x}}}}]\nsinks: [{{name: out, type: stdout}}]"
        );
        let config = auditferry::config::load_str("c.yaml", &text).unwrap_or_else(|faults| panic!("{faults}"));
        for url in [&config.tenants[0].api, &config.tenants[0].login] {
            let host = format!("`{}`", url.host_str().unwrap());
            let row = page.lines().find(|line| line.starts_with('|') && line.contains(&host)).unwrap_or_default();
            assert!(
                row.contains(&format!("`{cloud}`")) || row.contains(&format!("`cloud: {cloud}`")),
                "{cloud}: {host}"
            );
        }
    }
}

/// Every word of `text` that begins like a metric and is none, and no recording rule of ours (`level:name:operation`).
pub fn unknown_metrics(text: &str) -> Vec<String> {
    let suffixes = ["", "_bucket", "_count", "_sum"];
    // What begins like a metric and is none: the field that carries the record key.
    let other = ["auditferry_key"];
    let exists = |name: &str| {
        CATALOGUE.iter().any(|(metric, ..)| suffixes.iter().any(|suffix| name == format!("{metric}{suffix}")))
            || other.contains(&name)
    };
    let of_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let recorded = std::fs::read_to_string(root().join("deploy/prometheus/rules.yaml")).unwrap();
    let mut unknown = Vec::new();
    for (at, _) in text.match_indices("auditferry_") {
        let word: String = text[at..].chars().take_while(|c| of_name(*c)).collect();
        if text[..at].ends_with(':') {
            let is_of_rule = |c: &char| of_name(*c) || c.is_ascii_digit() || *c == ':';
            let whole: String = text[at..].chars().take_while(is_of_rule).collect();
            let level: String = text[..at].chars().rev().take_while(is_of_rule).collect();
            let name: String = level.chars().rev().chain(whole.chars()).collect();
            if !recorded.contains(&format!("- record: {name}\n")) {
                unknown.push(name);
            }
        } else if !exists(&word) {
            unknown.push(word);
        }
    }
    unknown
}

#[test]
fn every_metric_that_a_paper_names_exists() {
    for paper in papers() {
        let unknown = unknown_metrics(&read(paper.to_str().unwrap()));
        assert!(unknown.is_empty(), "{}: there is no {unknown:?}", paper.display());
    }
}

#[test]
fn every_test_that_the_architecture_names_exists() {
    let sources: Vec<String> =
        ["src", "tests"].iter().flat_map(|dir| files(dir, ".rs")).map(|path| read(path.to_str().unwrap())).collect();
    let text = read("ARCHITECTURE.md");
    let mut named = 0;
    for word in text.split('`').skip(1).step_by(2).filter(|word| word.contains("::")) {
        let test = word.rsplit("::").next().unwrap();
        let is_test_name =
            test.len() > 12 && test.contains('_') && test.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        if is_test_name {
            named += 1;
            let definition = format!("fn {test}(");
            assert!(sources.iter().any(|source| source.contains(&definition)), "there is no test `{word}`");
        }
    }
    assert!(named > 20, "only {named} tests are named: the search is broken");
}

#[test]
fn links_between_the_papers_lead_somewhere() {
    for paper in papers() {
        let text = read(paper.to_str().unwrap());
        let dir = paper.parent().unwrap();
        for rest in text.split("](").skip(1) {
            let target = rest.split([')', '#']).next().unwrap();
            if !target.is_empty() && !target.contains("://") {
                assert!(root().join(dir).join(target).exists(), "{}: `{target}` leads nowhere", paper.display());
            }
        }
    }
}

/// Every configuration of the page on identities, with a sink.
#[test]
fn the_configurations_of_the_page_on_identities_are_ones() {
    let text = read("docs/identities.md");
    let blocks: Vec<&str> = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 4, "one for each kind");
    for block in blocks {
        let whole = format!("{block}sinks: [{{ name: out, type: stdout }}]\n");
        if let Err(faults) = auditferry::config::load_str("docs/identities.md", &whole) {
            panic!("{faults}");
        }
    }
}

/// Every example of the page on HTTP receivers, with a tenant.
#[test]
fn the_configurations_of_the_page_on_http_are_ones() {
    let text = read("docs/http.md");
    let blocks: Vec<&str> = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 6, "any, OAuth2, and one for each preset");
    let id = "00000000-0000-4000-8000-0000000000c1";
    for block in blocks {
        let tenant = format!("tenants: [{{name: a, tenant_id: {id}, client_id: {id}, auth: {{client_secret: x}}}}]\n");
        if let Err(faults) = auditferry::config::load_str("docs/http.md", &format!("{tenant}{block}")) {
            panic!("{faults}");
        }
    }
    for preset in auditferry::config::HttpPreset::ALL {
        assert!(text.contains(&format!("preset: {}\n", preset.defaults().name)), "{preset:?}");
    }
}

/// The first YAML block of the README is what a newcomer copies.
#[test]
fn the_readmes_configuration_is_one() {
    let text = read("README.md");
    let yaml = text.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a yaml block");
    if let Err(faults) = auditferry::config::load_str("README.md", yaml) {
        panic!("{faults}");
    }
}

/// The page of formats, as the tables of the code have it.
fn formats_page() -> String {
    let mut page = String::from(
        "# CEF and LEEF\n\n\
         What stands in a message, key by key. Written from `src/normalize/cef.rs` and `leef.rs`\n\
         (`UPDATE_DOCS=1 cargo test --test it papers`). Names like `user.id` are those of the ECS document of the same record: see\n\
         `auditferry normalize`, which writes all formats without a network.\n\n\
         A record has many more fields than a message. Where everything is needed, take `ecs` or `raw`.\n\n\
         ## What holds for both\n\n\
         * One record, one line. Keys stand in the order of the tables; one without a value is left out.\n\
         * Values are plain text: what JSON has escaped is undone. Half a surrogate pair is U+FFFD.\n\
         * No value can pass for a key or for another message. Characters that end a line, hide or turn text around (controls,\n\
           NUL, U+0085, U+2028, U+2029, marks of direction and of byte order) are written as `\\u` and their number, as `\\u202e`.\n\
         * Values over 1,023 characters (custom strings of CEF: 4,000; header fields: 512) are cut and say by how many:\n\
           `…(+120 characters)`. Receivers may cut earlier: ArcSight has 63 characters for `act`.\n\
         * Several values of one field are joined by `, `.\n\
         * What is no readable record is a message of vendor and product `auditferry`, event `pipeline_error`, with the reason and\n\
           the beginning of what it was. All of it goes with `ecs` and `raw`.\n\
         * `drop_fields`, `hash_fields` and `add_fields` do not go with these formats: one key is made of several fields.\n\n\
         The severity is from 0 to 10; LEEF has at least 1:\n\n\
         | the record | severity |\n|---|---|\n\
         | `event.severity` 1 informational, 2 low, 3 medium, 4 high | 1, 3, 6, 8 |\n\
         | else `event.kind: alert` | 7 |\n\
         | else `event.outcome: failure` | 4 |\n\
         | else | 2 |\n",
    );
    let forms = [
        (
            Form::Cef,
            "CEF",
            "`CEF:0|Microsoft|Office 365|VERSION|NAME OF THE RECORD TYPE|OPERATION|SEVERITY|`, then keys with blanks between them. In the\n\
             header `\\` and `|` are escaped by `\\`, and a backslash at the end of a field has a blank behind it, since some readers\n\
             would take the delimiter for escaped; in a value `\\` and `=` are, and line breaks are `\\n` and `\\r`.",
        ),
        (
            Form::Leef,
            "LEEF 2.0",
            "`LEEF:2.0|Microsoft|Office 365|VERSION|OPERATION|x09|`, then keys with tabs between them. LEEF has no escaping: a tab or line break\n\
             in a value, and a `|` in the header, are written as `\\u` and their number too.",
        ),
    ];
    for (form, title, words) in forms {
        writeln!(page, "\n## {title}\n\n{words}\n\n| key | label | value |\n|---|---|---|").unwrap();
        for key in keys(form) {
            let label = key.label.map(|label| format!("`{label}`")).unwrap_or_default();
            writeln!(page, "| `{}` | {label} | {} |", key.name, key.from.words()).unwrap();
        }
    }
    page
}

#[test]
fn the_page_of_formats_is_the_tables() {
    let path = root().join("docs/formats.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, formats_page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, formats_page(), "write it anew: UPDATE_DOCS=1 cargo test --test it papers");
}
