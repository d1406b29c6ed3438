//! Image: what can be known of it without a Docker engine. The binary asks for no library and no glibc that the base
//! lacks; the Dockerfile is clean for hadolint, its layers fit the manifest, and it says what the chart relies on; the
//! compose file is one by the specification's schema, and its parts fit together. That the image starts with nothing but
//! those libraries is shown by `bars::pod`.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::real::kubernetes::{documents, hadolint, validate_compose};
use crate::real::pod::{BINARY, LIBRARIES};
use crate::support::figure;

/// Debian 12's, of `gcr.io/distroless/cc-debian12`.
const BASE_GLIBC: (u32, u32) = (2, 36);

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn readelf(arguments: &[&str]) -> String {
    let mut readelf = Command::new("readelf");
    readelf.args(arguments).arg(env!("CARGO_BIN_EXE_auditferry"));
    let output = readelf.output().expect("`readelf` of binutils is needed: sudo apt-get install -y binutils");
    String::from_utf8(output.stdout).unwrap()
}

/// `GLIBC_2.34` → (2, 34).
fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}

#[test]
fn image_the_base_has_every_library_that_the_binary_asks_for() {
    let dynamic = readelf(&["--dynamic", "--wide"]);
    let needed: Vec<&str> = dynamic
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .map(|line| line.split(['[', ']']).nth(1).unwrap())
        .collect();
    assert!(needed.contains(&"libc.so.6"), "{dynamic}");
    let missing: Vec<&&str> = needed.iter().filter(|library| !LIBRARIES.contains(library)).collect();
    assert!(missing.is_empty(), "the base has no {missing:?}: link them statically (Cargo.toml)");

    let symbols = readelf(&["--dyn-syms", "--wide"]);
    let asked = symbols
        .split("@GLIBC_")
        .skip(1)
        .filter_map(|text| version(&text.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect::<String>()));
    let newest = asked.max().unwrap();
    let built = Command::new("getconf").arg("GNU_LIBC_VERSION").output().unwrap().stdout;
    let built = version(String::from_utf8(built).unwrap().trim().trim_start_matches("glibc ")).unwrap();
    figure(
        "image",
        format_args!(
            "the binary asks for {needed:?} and glibc {newest:?}; the base has {BASE_GLIBC:?}, this machine {built:?}"
        ),
    );
    // On a newer system the linker takes newer symbols; the image is built on the base's own.
    assert!(newest <= BASE_GLIBC.max(built), "{newest:?}");
}

#[test]
fn image_the_dockerfile_is_clean_and_says_what_the_chart_relies_on() {
    hadolint(&path("deploy/docker/Dockerfile")).unwrap_or_else(|said| panic!("{said}"));
    let text = read("deploy/docker/Dockerfile");
    for part in [
        "gcr.io/distroless/cc-debian12:nonroot",
        "slim-bookworm",
        "USER 65532:65532",
        "EXPOSE 9464",
        "--locked",
        "org.opencontainers.image.revision",
        r#"AUDITFERRY_REVISION="${REVISION}" cargo build"#,
        r#"CMD ["run", "-c", "/etc/auditferry/auditferry.yaml"]"#,
        &format!(r#"ENTRYPOINT ["{BINARY}"]"#),
    ] {
        assert!(text.contains(part), "no `{part}`");
    }
    let manifest = read("Cargo.toml");
    let value = |key: &str| {
        manifest.lines().find_map(|line| line.strip_prefix(key)?.trim().strip_prefix("= \"")?.strip_suffix('"'))
    };
    assert!(text.contains(&format!("rust:{}-", value("rust-version").unwrap())), "the compiler of Cargo.toml");
    let version = value("version").unwrap();
    assert!(text.contains(&format!("ARG VERSION={version}")));
    let chart = read("deploy/helm/auditferry/Chart.yaml");
    assert!(chart.contains(&format!("appVersion: \"{version}\"")), "the chart is for another version");
    let (build, last) = text.rsplit_once("\nFROM ").unwrap();
    assert!(build.contains("ARG REVISION="), "`build_info`");
    assert!(!last.contains("RUN "), "the base has no shell to run anything with");
}

/// The layer of dependencies is built from a stub; cargo must take it for this package.
#[test]
fn image_the_stub_of_its_first_layer_fits_the_manifest() {
    let text = read("deploy/docker/Dockerfile").replace("\\\n", " ");
    let stub = text.lines().find(|line| line.contains("touch src/lib.rs")).unwrap();
    let stub = stub.trim_start_matches("RUN ").split("&& cargo build").next().unwrap();
    let dir = tempfile::tempdir().unwrap();
    for name in ["Cargo.toml", "Cargo.lock"] {
        std::fs::copy(path(name), dir.path().join(name)).unwrap();
    }
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(dir.path()).output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    run("bash", &["-ec", stub]);
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let told = run(&cargo, &["metadata", "--locked", "--offline", "--no-deps", "--format-version", "1"]);
    let told: Value = serde_json::from_slice(&told).unwrap();
    let targets: BTreeSet<&str> =
        told["packages"][0]["targets"].as_array().unwrap().iter().map(|t| t["kind"][0].as_str().unwrap()).collect();
    assert_eq!(targets, BTreeSet::from(["bench", "bin", "lib"]));
    // What the build reads must pass .dockerignore.
    let passed: Vec<String> =
        read(".dockerignore").lines().filter_map(|line| Some(line.strip_prefix('!')?.to_owned())).collect();
    let mut read_by_the_build = vec!["Cargo.toml".to_owned(), "Cargo.lock".into(), "src".into(), "benches".into()];
    included(&path("src"), &mut read_by_the_build);
    for name in read_by_the_build {
        assert!(passed.iter().any(|top| name == *top || name.starts_with(&format!("{top}/"))), "{name} is kept out");
        let top = name.split('/').next().unwrap();
        let mut copies = text.lines().filter(|line| line.starts_with("COPY "));
        assert!(copies.any(|line| line.split(' ').any(|word| word == top)), "{name} is not copied");
    }
}

/// Files that the source includes, relative to the package.
fn included(dir: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let file = entry.unwrap().path();
        if file.is_dir() {
            included(&file, found);
            continue;
        }
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        for include in ["include_str!(\"", "include_bytes!(\""] {
            for (at, _) in text.match_indices(include) {
                let name = text[at + include.len()..].split('"').next().unwrap();
                let Ok(whole) = file.parent().unwrap().join(name).canonicalize() else { continue };
                found.push(whole.strip_prefix(path("").canonicalize().unwrap()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
}

#[test]
fn image_compose_is_valid_and_its_parts_fit() {
    let faults = validate_compose(&path("deploy/compose.yaml"));
    assert_eq!(faults, Vec::<String>::new());
    let compose = documents(&read("deploy/compose.yaml")).remove(0);
    let services = compose["services"].as_object().unwrap();
    for (name, service) in services {
        let image = service["image"].as_str().unwrap();
        assert!(image.split_once(':').is_some_and(|(_, tag)| tag != "latest"), "{name}: {image} has no fixed tag");
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            let is_named = compose["volumes"].as_object().unwrap().contains_key(source);
            assert!(is_named || path("deploy").join(source).exists(), "{name}: there is no {source}");
        }
    }
    for name in [
        "deploy/compose/prometheus.yml",
        "deploy/compose/grafana/datasource.yaml",
        "deploy/compose/grafana/boards.yaml",
    ] {
        assert_eq!(documents(&read(name)).len(), 1, "{name}");
    }
    let mut validate = Command::new(env!("CARGO_BIN_EXE_auditferry"));
    let output = validate.arg("validate").arg("-c").arg(path("deploy/compose/auditferry.yaml")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    // The simulator of the command line has the tenants of the configuration.
    let dir = tempfile::tempdir().unwrap();
    let command: Vec<String> =
        services["simulator"]["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().into()).collect();
    let replaced = command.iter().map(|word| match word.as_str() {
        "127.0.0.1:8080" => "127.0.0.1:0",
        "/tmp/simulator" => dir.path().to_str().unwrap(),
        other => other,
    });
    let mut simulate = Command::new(env!("CARGO_BIN_EXE_auditferry"));
    let mut child = simulate.args(replaced).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let told: Value = serde_json::from_str(&line).unwrap();
    let config = read("deploy/compose/auditferry.yaml");
    let config = documents(&config).remove(0);
    assert_eq!(config["tenant_defaults"]["client_id"], told["client_id"]);
    assert_eq!(config["tenant_defaults"]["auth"]["client_secret"], told["client_secret"]);
    for (configured, simulated) in config["tenants"].as_array().unwrap().iter().zip(told["tenants"].as_array().unwrap())
    {
        assert_eq!((&configured["name"], &configured["tenant_id"]), (&simulated["name"], &simulated["tenant_id"]));
    }
}
