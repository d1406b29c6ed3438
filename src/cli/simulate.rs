//! The verb `simulate`: the Management Activity API on this machine, with scenarios. Prints one JSON
//! line when it is ready, writes a configuration that `run` can be pointed at, serves until stopped.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::net::TcpListener;

use crate::clock::world_ms;
use crate::simulator::{Identity, SCENARIOS, Scenario, SimulatorHandle, WORLDS, WorldConfig, serve};

/// Serve the Management Activity API from a seed, with the faults of the real one.
#[derive(Clone, Debug, clap::Args)]
pub struct SimulateArgs {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,

    /// A ready-made world, which the options below change; `list` prints all of them.
    #[arg(long, value_name = "NAME")]
    pub world: Option<String>,

    /// What goes wrong: names separated by commas, `all`, `chaos`, or `none`; `list` prints them.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub scenario: Vec<String>,

    /// The same seed gives the same world and the same faults.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Number of tenants; 1 when not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub tenants: Option<u32>,

    /// Records of the history, over all tenants; 10,000 when not given.
    #[arg(long, value_name = "N")]
    pub records: Option<u64>,

    /// Virtual seconds in a second; 1 when not given.
    #[arg(long, value_name = "N", value_parser = speed)]
    pub speed: Option<f64>,

    /// Days of history; 7 when not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=30))]
    pub days: Option<u32>,

    /// What a content id names: a fixed blob (`stable`), or what the query cuts out of one (`windowed`).
    #[arg(long, value_name = "MODE", value_parser = identity)]
    pub identity: Option<Identity>,

    /// Further records a minute (virtual) and content type of a tenant, as time passes.
    #[arg(long, value_name = "N")]
    pub live_rate: Option<f64>,

    /// Records of a blob on average; about 40 blobs a content type when not given.
    #[arg(long, value_name = "N")]
    pub records_per_blob: Option<u32>,

    /// Blobs on a page of a listing.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub page_size: u32,

    /// Seconds (virtual) that a token lasts; an hour when not given.
    #[arg(long, value_name = "SECONDS")]
    pub token_lifetime: Option<i64>,

    /// Bring the members of a record in another order at each fetch.
    #[arg(long)]
    pub shuffle_fields: bool,

    /// Root that clients call, where it is not the address listened on.
    #[arg(long, value_name = "URL")]
    pub advertise: Option<String>,

    /// Where to write the configuration; a fresh temporary directory when not given.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Records of a world that has no name.
const DEFAULT_RECORDS: u64 = 10_000;

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if (0.001..=1e6).contains(&speed) => Ok(speed),
        _ => Err("a number from 0.001 to 1000000 is expected".into()),
    }
}

fn identity(text: &str) -> Result<Identity, String> {
    match text {
        "stable" => Ok(Identity::Stable),
        "windowed" => Ok(Identity::Windowed),
        _ => Err("`stable` or `windowed` is expected".into()),
    }
}

impl SimulateArgs {
    /// The world that the arguments describe.
    ///
    /// # Errors
    /// A world or a scenario has no such name.
    pub fn world(&self) -> anyhow::Result<WorldConfig> {
        let world = match self.world.as_deref() {
            None => WorldConfig::new().records(DEFAULT_RECORDS),
            Some(name) => WorldConfig::named(name)
                .with_context(|| format!("there is no world `{name}`; `--world list` prints all of them"))?,
        };
        let mut config = world.seed(self.seed).tune(|protocol| {
            protocol.page_size = self.page_size as usize;
            protocol.shuffle_fields = self.shuffle_fields;
            protocol.token_lifetime_s = self.token_lifetime;
        });
        config.tenants = self.tenants.map_or(config.tenants, |tenants| tenants as usize);
        config.records = self.records.unwrap_or(config.records);
        config.speed = self.speed.unwrap_or(config.speed);
        config.days = self.days.unwrap_or(config.days);
        config.identity = self.identity.unwrap_or(config.identity);
        config.live_rate = self.live_rate.unwrap_or(config.live_rate);
        config.records_per_blob = self.records_per_blob;
        config.public_url = self.advertise.as_ref().map(|url| url.trim_end_matches('/').to_owned());
        for name in &self.scenario {
            let scenarios = Scenario::parse(name)
                .with_context(|| format!("there is no scenario `{name}`; `--scenario list` prints all of them"))?;
            config = config.scenarios(&scenarios);
        }
        Ok(config)
    }
}

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// A scenario has no such name, the address cannot be had, or the configuration cannot be written.
#[allow(clippy::print_stdout)] // the line and the list are what this verb is asked for
pub async fn run(args: SimulateArgs) -> anyhow::Result<()> {
    let scenarios = args.scenario.iter().any(|name| name == "list").then_some(SCENARIOS);
    if let Some(list) = scenarios.or((args.world.as_deref() == Some("list")).then_some(WORLDS)) {
        for (name, what) in list {
            println!("{name:24} {what}");
        }
        return Ok(());
    }
    let config = args.world()?;
    let listener =
        TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen on `{}`", args.listen))?;
    let simulator = serve(config, listener).await.context("cannot start the simulator")?;
    let directory = match &args.dir {
        Some(directory) => directory.clone(),
        None => std::env::temp_dir().join(format!("auditferry-simulate-{}-{}", std::process::id(), world_ms())),
    };
    let path = write_configuration(&simulator, &directory)?;
    println!("{}", ready_line(&simulator, &path));
    terminated().await;
    simulator.shutdown().await;
    Ok(())
}

/// The line that says where everything is.
pub fn ready_line(simulator: &SimulatorHandle, configuration: &Path) -> String {
    let tenants = simulator.tenants();
    let first = tenants.first();
    serde_json::json!({
        "api": simulator.api_url(),
        "login": simulator.login_url(),
        "client_id": first.map(|t| &t.client_id),
        "client_secret": first.map(|t| &t.client_secret),
        "tenants": tenants
            .iter()
            .map(|t| serde_json::json!({"name": t.name, "tenant_id": t.tenant_id}))
            .collect::<Vec<_>>(),
        "config": configuration,
    })
    .to_string()
}

/// Writes `auditferry.yaml` and an empty state directory below `directory`, readable by us alone.
///
/// # Errors
/// A directory or the file cannot be written.
pub fn write_configuration(simulator: &SimulatorHandle, directory: &Path) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    let state = directory.join("state");
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&state)
        .with_context(|| format!("cannot create `{}`", state.display()))?;
    let path = directory.join("auditferry.yaml");
    let text = configuration(simulator, &state);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
        .open(&path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok(path)
}

/// A configuration that forwards this simulator to stdout.
fn configuration(simulator: &SimulatorHandle, state: &Path) -> String {
    let quote = |text: &str| serde_json::Value::from(text).to_string();
    let mut text = format!(
        "state: {{ dir: {} }}\nadmin: {{ listen: 127.0.0.1:0 }}\n",
        quote(&std::path::absolute(state).unwrap_or_else(|_| state.to_owned()).to_string_lossy())
    );
    if let Some((origin_ms, anchor_ms, speed)) = simulator.clock_setting() {
        // Both processes then agree on virtual time (src/clock.rs).
        text += &format!("clock: {{ origin_ms: {origin_ms}, anchor_ms: {anchor_ms}, speed: {speed} }}\n");
    }
    text += "tenants:\n";
    for tenant in simulator.tenants() {
        text += &format!(
            "  - name: {}\n    tenant_id: {}\n    client_id: {}\n    auth: {{ client_secret: {} }}\n    endpoints: {{ api: {}, login: {} }}\n    domains: [{}]\n",
            quote(&tenant.name),
            quote(&tenant.tenant_id),
            quote(&tenant.client_id),
            quote(&tenant.client_secret),
            quote(&simulator.api_url()),
            quote(&simulator.login_url()),
            quote(&tenant.domain),
        );
    }
    text += "sinks:\n  - { name: out, type: stdout }\n";
    text
}

/// Waits for SIGINT or SIGTERM.
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: SimulateArgs,
    }

    fn parse(words: &[&str]) -> SimulateArgs {
        let words = std::iter::once("simulate").chain(words.iter().copied());
        <Cli as clap::Parser>::parse_from(words).args
    }

    #[tokio::test]
    async fn the_ready_line_leads_to_a_configuration() {
        let args = parse(&["--scenario", "late,half_json", "--tenants", "2", "--records", "100", "--speed", "60"]);
        let world = args.world().unwrap();
        assert_eq!(world.scenarios, [Scenario::Late, Scenario::HalfJson]);
        let listener = TcpListener::bind(args.listen).await.unwrap();
        let simulator = serve(world, listener).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = write_configuration(&simulator, directory.path()).unwrap();
        let line: serde_json::Value = serde_json::from_str(&ready_line(&simulator, &path)).unwrap();
        assert_eq!(line["tenants"].as_array().unwrap().len(), 2);
        assert_eq!(line["api"].as_str().unwrap(), simulator.api_url());
        let text = std::fs::read_to_string(line["config"].as_str().unwrap()).unwrap();
        for part in ["clock: {", "speed: 60", line["tenants"][1]["tenant_id"].as_str().unwrap(), "type: stdout"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        simulator.shutdown().await;
    }

    #[test]
    fn a_ready_made_world_is_changed_by_what_is_given() {
        let world = parse(&["--world", "chaos", "--tenants", "5"]).world().unwrap();
        assert_eq!((world.tenants, world.speed, world.records), (5, 60.0, 20_000));
        assert_eq!(world.scenarios, Scenario::chaos());
        assert_eq!(parse(&[]).world().unwrap().records, DEFAULT_RECORDS);
        let error = parse(&["--world", "choas"]).world().unwrap_err();
        assert!(error.to_string().contains("choas"), "{error}");
    }

    #[test]
    fn an_unknown_scenario_is_named() {
        let error = parse(&["--scenario", "half_jason"]).world().unwrap_err();
        assert!(error.to_string().contains("half_jason"), "{error}");
    }
}
