//! `simulate`: the simulated Management Activity API as a server. Prints one JSON line when it is
//! ready, with everything a client needs and the path of a configuration that `run -c` takes.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use serde_json::json;
use tokio::net::TcpListener;

use super::demo::scratch::Scratch;
use super::run::stop_signal;
use super::{Exit, SimulateArgs};
use crate::simulator::{SCENARIOS, Scenario, SimulatorHandle, WorldConfig, serve};

/// Serves until told to stop.
pub(super) async fn simulate(args: SimulateArgs) -> anyhow::Result<Exit> {
    let mut scenarios = Vec::new();
    for name in &args.scenario {
        match Scenario::parse(name) {
            Some(found) => scenarios.extend(found),
            None => {
                eprintln!("auditferry: there is no scenario `{name}`; there are none, all, and");
                for (name, what) in SCENARIOS {
                    eprintln!("  {name:22} {what}");
                }
                return Ok(Exit::Usage);
            }
        }
    }
    let world = WorldConfig::new()
        .seed(args.seed)
        .tenants(args.tenants)
        .records(args.records)
        .speed(args.speed)
        .live_rate(args.live_rate)
        .scenarios(&scenarios);
    let stop = stop_signal()?;
    let listener = TcpListener::bind(args.listen).await;
    let listener =
        listener.with_context(|| format!("cannot listen on `{}`; give `--listen` a free address", args.listen))?;
    let simulator = serve(world, listener).await?;
    let scratch =
        Scratch::new("simulate").context("cannot make a temporary directory; set TMPDIR to one that can be written")?;
    let path = scratch.path().join("auditferry.yaml");
    // It holds the simulated secret; nobody else needs it.
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    file.and_then(|mut file| file.write_all(configuration(&simulator, scratch.path()).as_bytes()))?;
    announce(&simulator, &path)?;
    stop.await;
    simulator.shutdown().await;
    Ok(Exit::Good)
}

fn announce(simulator: &SimulatorHandle, config: &Path) -> anyhow::Result<()> {
    let tenants = simulator.tenants();
    let first = tenants.first();
    let line = json!({
        "api": simulator.api_url(),
        "login": simulator.login_url(),
        "client_id": first.map(|tenant| &tenant.client_id),
        "client_secret": first.map(|tenant| &tenant.client_secret),
        "tenants": tenants.iter().map(|tenant| json!({"name": tenant.name, "tenant_id": tenant.tenant_id})).collect::<Vec<_>>(),
        "config": config,
    });
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// A configuration for `run -c`. Strings are written as JSON, which is YAML.
fn configuration(simulator: &SimulatorHandle, dir: &Path) -> String {
    let mut out = String::new();
    let quoted = |text: &str| json!(text.replace("${", "$${")).to_string();
    // Writing to a string does not fail.
    let _ = writeln!(out, "state: {{ dir: {} }}", quoted(&dir.join("state").to_string_lossy()));
    let _ = writeln!(out, "admin: {{ listen: 127.0.0.1:0 }}");
    if let Some((origin_ms, anchor_ms, speed)) = simulator.clock_setting() {
        let _ = writeln!(out, "clock: {{ origin_ms: {origin_ms}, anchor_ms: {anchor_ms}, speed: {speed} }}");
    }
    let _ = writeln!(out, "tenant_defaults:");
    let _ = writeln!(
        out,
        "  endpoints: {{ api: {}, login: {} }}",
        quoted(&simulator.api_url()),
        quoted(&simulator.login_url())
    );
    let _ = writeln!(out, "tenants:");
    for tenant in simulator.tenants() {
        let _ = writeln!(
            out,
            "  - {{ name: {}, tenant_id: {}, client_id: {}, auth: {{ client_secret: {} }}, domains: [{}] }}",
            quoted(&tenant.name),
            quoted(&tenant.tenant_id),
            quoted(&tenant.client_id),
            quoted(&tenant.client_secret),
            quoted(&tenant.domain)
        );
    }
    let _ = writeln!(out, "sinks:\n  - {{ name: out, type: stdout }}");
    out
}
