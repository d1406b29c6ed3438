//! The Grafana board *Operations*, as a table: rows of panels, each with its expressions. `dashboards/operations.json`
//! is written from here (`UPDATE_DOCS=1 cargo test --test it dashboard_is`), and a test holds it up to date. Comes in:
//! nothing. Goes out: the board, and its panels for whoever checks or draws them.
//!
//! In expressions `%J` stands for the matchers of job and instance, `%T` for those and the tenant, `%F` for those
//! and the content type, `%C` for job, instance and content type, `%S` for job, instance and sink.

use serde_json::{Value, json};

/// What a panel looks like.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// The newest value, large; red from 1 on where it counts what must not be.
    Stat,
    Bad,
    Lines,
}

pub struct Panel {
    pub title: &'static str,
    pub what: &'static str,
    pub unit: &'static str,
    pub look: Look,
    /// Of 24.
    pub width: u32,
    /// Expression and legend.
    pub targets: &'static [(&'static str, &'static str)],
    /// The page of `docs/runbooks` that says what to do.
    pub runbook: &'static str,
}

pub struct Row {
    pub title: &'static str,
    pub panels: &'static [Panel],
}

const fn panel(
    title: &'static str,
    what: &'static str,
    unit: &'static str,
    look: Look,
    width: u32,
    targets: &'static [(&'static str, &'static str)],
    runbook: &'static str,
) -> Panel {
    Panel { title, what, unit, look, width, targets, runbook }
}

use Look::{Bad, Lines, Stat};

pub static ROWS: &[Row] = &[
    Row {
        title: "All well?",
        panels: &[
            panel(
                "Processes",
                "Processes that answer. More than one on the same tenant is a mistake.",
                "none",
                Stat,
                3,
                &[("count(auditferry_build_info{%J})", "processes")],
                "AuditferryDown",
            ),
            panel(
                "Worst lag",
                "How far back the feed is that is furthest behind. Ours alone: moves on empty listings, and Microsoft's delay is not in it.",
                "s",
                Stat,
                3,
                &[("max(time() - (auditferry_feed_watermark_timestamp_seconds{%F} > 0))", "lag")],
                "AuditferryFeedLagHigh",
            ),
            panel(
                "Blobs waiting",
                "Listed and not done, over all feeds.",
                "short",
                Stat,
                3,
                &[("sum(auditferry_blobs_pending{%F})", "blobs")],
                "AuditferryContentExpiryImminent",
            ),
            panel(
                "Blobs lost",
                "Since the process started: expired, gone or unreadable. `state show` names each.",
                "short",
                Bad,
                3,
                &[("sum(auditferry_blobs_lost_total{%F})", "blobs")],
                "AuditferryContentLost",
            ),
            panel(
                "Not listed in time",
                "Content that Microsoft refused to list as older than 7 days, since the process started.",
                "s",
                Bad,
                3,
                &[("sum(auditferry_refused_seconds_total{%F})", "refused")],
                "AuditferryContentExpired",
            ),
            panel(
                "Need a person",
                "Feeds refused for want of a permission or a subscription, or because of the wrong cloud.",
                "short",
                Bad,
                3,
                &[("sum(auditferry_feed_trouble{%F})", "feeds")],
                "AuditferryFeedNeedsAttention",
            ),
            panel(
                "Sinks held",
                "Sinks that take nothing and are probed: their circuit is open.",
                "short",
                Bad,
                3,
                &[("sum(auditferry_sink_circuit_open{%S})", "sinks")],
                "AuditferrySinkFailing",
            ),
            panel(
                "Dead letters",
                "Records refused for good since the process started.",
                "short",
                Bad,
                3,
                &[("sum(auditferry_dead_letters_total{%S})", "records")],
                "AuditferryDeadLetters",
            ),
        ],
    },
    Row {
        title: "Feeds: tenant and content type",
        panels: &[
            panel(
                "Lag",
                "Since when each feed is not known complete. An idle tenant stays near zero.",
                "s",
                Lines,
                12,
                &[(
                    "max by (tenant, content_type) (time() - (auditferry_feed_watermark_timestamp_seconds{%F} > 0))",
                    "{{tenant}} {{content_type}}",
                )],
                "AuditferryFeedLagHigh",
            ),
            panel(
                "Blobs waiting",
                "Listed and not done, by feed.",
                "short",
                Lines,
                12,
                &[("sum by (tenant, content_type) (auditferry_blobs_pending{%F})", "{{tenant}} {{content_type}}")],
                "AuditferryFeedLagHigh",
            ),
            panel(
                "Records",
                "What became of records, a second.",
                "cps",
                Lines,
                8,
                &[("sum by (outcome) (rate(auditferry_events_total{%F}[$__rate_interval]))", "{{outcome}}")],
                "AuditferryTenantQuiet",
            ),
            panel(
                "Records by tenant",
                "Records done, a second, by tenant.",
                "cps",
                Lines,
                8,
                &[(
                    "sum by (tenant) (rate(auditferry_events_total{%F, outcome!=\"lost\"}[$__rate_interval]))",
                    "{{tenant}}",
                )],
                "AuditferryTenantQuiet",
            ),
            panel(
                "Blobs",
                "Listed, done, and attempts to be repeated, a second.",
                "cps",
                Lines,
                8,
                &[
                    ("sum(rate(auditferry_blobs_listed_total{%F}[$__rate_interval]))", "listed"),
                    ("sum(rate(auditferry_blobs_settled_total{%F}[$__rate_interval]))", "done"),
                    ("sum(rate(auditferry_blobs_retried_total{%F}[$__rate_interval]))", "repeated"),
                ],
                "AuditferryFeedLagHigh",
            ),
            panel(
                "Microsoft's delay",
                "From the event to its being offered by Microsoft, half and nineteen of twenty. Nothing here can change it.",
                "s",
                Lines,
                8,
                &[
                    (
                        "histogram_quantile(0.5, sum by (le, content_type) (rate(auditferry_source_latency_seconds_bucket{%C}[$__rate_interval])))",
                        "half {{content_type}}",
                    ),
                    (
                        "histogram_quantile(0.95, sum by (le) (rate(auditferry_source_latency_seconds_bucket{%C}[$__rate_interval])))",
                        "19 of 20",
                    ),
                ],
                "AuditferryMicrosoftLate",
            ),
            panel(
                "Our delay",
                "From being offered to being acknowledged by all required sinks: poll interval, fetch, delivery. High while a backlog is read.",
                "s",
                Lines,
                8,
                &[
                    (
                        "histogram_quantile(0.5, sum by (le, content_type) (rate(auditferry_pipeline_latency_seconds_bucket{%C}[$__rate_interval])))",
                        "half {{content_type}}",
                    ),
                    (
                        "histogram_quantile(0.99, sum by (le) (rate(auditferry_pipeline_latency_seconds_bucket{%C}[$__rate_interval])))",
                        "99 of 100",
                    ),
                ],
                "AuditferryFeedLagHigh",
            ),
            panel(
                "Subscriptions",
                "1: the subscription was last seen enabled.",
                "none",
                Lines,
                8,
                &[(
                    "min by (tenant, content_type) (auditferry_subscription_enabled{%F})",
                    "{{tenant}} {{content_type}}",
                )],
                "AuditferrySubscriptionDisabled",
            ),
        ],
    },
    Row {
        title: "Management Activity API",
        panels: &[
            panel(
                "Requests by answer",
                "Requests a second by class of the answer; `transport` is none at all.",
                "reqps",
                Lines,
                8,
                &[("sum by (code) (rate(auditferry_api_requests_total{%J}[$__rate_interval]))", "{{code}}")],
                "AuditferryApiUnreachable",
            ),
            panel(
                "Requests by tenant",
                "Requests a minute; Microsoft allows each tenant 2,000 at least, shared with whoever else reads it.",
                "short",
                Lines,
                8,
                &[(
                    "sum by (tenant) (rate(auditferry_api_tenant_requests_total{%T}[$__rate_interval])) * 60",
                    "{{tenant}}",
                )],
                "AuditferryThrottled",
            ),
            panel(
                "Throttled",
                "Answers that said too many requests, a second.",
                "cps",
                Lines,
                8,
                &[("sum by (tenant) (rate(auditferry_api_throttled_total{%T}[$__rate_interval]))", "{{tenant}}")],
                "AuditferryThrottled",
            ),
            panel(
                "Duration of a request",
                "To the head of the answer, 19 of 20.",
                "s",
                Lines,
                8,
                &[(
                    "histogram_quantile(0.95, sum by (le, operation) (rate(auditferry_api_request_duration_seconds_bucket{%J}[$__rate_interval])))",
                    "{{operation}}",
                )],
                "AuditferryApiUnreachable",
            ),
            panel(
                "Bodies",
                "Bytes of content as received and as decoded.",
                "Bps",
                Lines,
                8,
                &[("sum by (encoding) (rate(auditferry_api_bytes_total{%J}[$__rate_interval]))", "{{encoding}}")],
                "AuditferryFeedLagHigh",
            ),
            panel(
                "Token requests",
                "By tenant and result.",
                "cps",
                Lines,
                8,
                &[(
                    "sum by (tenant, result) (rate(auditferry_token_refreshes_total{%T}[$__rate_interval]))",
                    "{{tenant}} {{result}}",
                )],
                "AuditferryAuthFailing",
            ),
            panel(
                "Pauses asked for",
                "Seconds of pause that the service named when it said too many requests, on average over all so far.",
                "s",
                Stat,
                8,
                &[(
                    "sum(auditferry_api_retry_after_seconds_sum{%J}) / clamp_min(sum(auditferry_api_retry_after_seconds_count{%J}), 1)",
                    "pause",
                )],
                "AuditferryThrottled",
            ),
            panel(
                "Clock skew",
                "The service's clock minus ours.",
                "s",
                Lines,
                8,
                &[("max by (tenant) (auditferry_clock_skew_seconds{%T})", "{{tenant}}")],
                "AuditferryClockSkew",
            ),
            panel(
                "Token ends in",
                "The current token of each tenant; renewed at three quarters of its life.",
                "s",
                Lines,
                8,
                &[("min by (tenant) (auditferry_token_expiry_timestamp_seconds{%T} > 0) - time()", "{{tenant}}")],
                "AuditferryAuthFailing",
            ),
            panel(
                "Credentials end in",
                "Until certificates and secrets with a configured end expire; an end that is not known is not drawn.",
                "s",
                Lines,
                12,
                &[(
                    "min by (tenant, kind) ((auditferry_credential_expiry_timestamp_seconds{%T} > 0) - time())",
                    "{{tenant}} {{kind}}",
                )],
                "AuditferryCredentialExpiring",
            ),
            panel(
                "Configuration",
                "1: the last reload was taken; 0: it was refused, and the configuration before runs on.",
                "none",
                Lines,
                12,
                &[("min by (instance) (auditferry_config_last_reload_successful{%J})", "{{instance}}")],
                "AuditferryConfigReloadFailed",
            ),
        ],
    },
    Row {
        title: "Sinks",
        panels: &[
            panel(
                "Events delivered",
                "Acknowledged by the receiver, a second.",
                "cps",
                Lines,
                8,
                &[(
                    "sum by (sink) (rate(auditferry_sink_events_total{%S, result=\"delivered\"}[$__rate_interval]))",
                    "{{sink}}",
                )],
                "AuditferrySinkStalled",
            ),
            panel(
                "Events not delivered",
                "Refused for good, lost (fetched again), dropped, filtered by `when`.",
                "cps",
                Lines,
                8,
                &[(
                    "sum by (sink, result) (rate(auditferry_sink_events_total{%S, result!=\"delivered\"}[$__rate_interval]))",
                    "{{sink}} {{result}}",
                )],
                "AuditferryDeadLetters",
            ),
            panel(
                "Sends repeated",
                "By why; `slow` is no failure.",
                "cps",
                Lines,
                8,
                &[(
                    "sum by (sink, reason) (rate(auditferry_sink_retries_total{%S}[$__rate_interval]))",
                    "{{sink}} {{reason}}",
                )],
                "AuditferrySinkErrorsHigh",
            ),
            panel(
                "Duration of a send",
                "To the receiver's word, half and 99 of 100.",
                "s",
                Lines,
                8,
                &[
                    (
                        "histogram_quantile(0.5, sum by (le, sink) (rate(auditferry_sink_send_duration_seconds_bucket{%S}[$__rate_interval])))",
                        "half {{sink}}",
                    ),
                    (
                        "histogram_quantile(0.99, sum by (le, sink) (rate(auditferry_sink_send_duration_seconds_bucket{%S}[$__rate_interval])))",
                        "99 of 100 {{sink}}",
                    ),
                ],
                "AuditferrySinkStalled",
            ),
            panel(
                "Waiting and in flight",
                "Events that wait for the sink, and batches sent and not yet answered.",
                "short",
                Lines,
                8,
                &[
                    ("sum by (sink) (auditferry_sink_queued_events{%S})", "{{sink}} events waiting"),
                    ("sum by (sink) (auditferry_sink_in_flight_batches{%S})", "{{sink}} batches in flight"),
                ],
                "AuditferrySinkStalled",
            ),
            panel(
                "Last acknowledgement",
                "Time since the sink last took something. A quiet feed makes it grow too.",
                "s",
                Lines,
                8,
                &[("time() - max by (sink) (auditferry_sink_last_ack_timestamp_seconds{%S} > 0)", "{{sink}}")],
                "AuditferrySinkStalled",
            ),
            panel(
                "Bytes sent",
                "Before and after compression.",
                "Bps",
                Lines,
                12,
                &[(
                    "sum by (sink, encoding) (rate(auditferry_sink_bytes_total{%S}[$__rate_interval]))",
                    "{{sink}} {{encoding}}",
                )],
                "AuditferrySinkStalled",
            ),
            panel(
                "Circuit",
                "1: the sink takes nothing and is probed.",
                "none",
                Lines,
                12,
                &[("max by (sink) (auditferry_sink_circuit_open{%S})", "{{sink}}")],
                "AuditferrySinkFailing",
            ),
        ],
    },
    Row {
        title: "State",
        panels: &[
            panel(
                "Last checkpoint",
                "Time since the journal was last written; 30 seconds at most in good order.",
                "s",
                Lines,
                8,
                &[(
                    "time() - min by (instance) (auditferry_checkpoint_last_success_timestamp_seconds{%J} > 0)",
                    "{{instance}}",
                )],
                "AuditferryCheckpointStale",
            ),
            panel(
                "Duration of a commit",
                "Write and fsync of a group, 99 of 100.",
                "s",
                Lines,
                8,
                &[(
                    "histogram_quantile(0.99, sum by (le) (rate(auditferry_journal_commit_duration_seconds_bucket{%J}[$__rate_interval])))",
                    "commit",
                )],
                "AuditferryCheckpointStale",
            ),
            panel(
                "Size of the state",
                "By what it is; the dead letters are not in it.",
                "bytes",
                Lines,
                8,
                &[
                    ("sum by (part) (auditferry_state_size_bytes{%J})", "{{part}}"),
                    ("sum(auditferry_journal_bytes{%J})", "current journal"),
                ],
                "AuditferryJournalStalled",
            ),
            panel(
                "Record keys",
                "Keys known, in memory and on disk.",
                "short",
                Lines,
                8,
                &[("sum by (tier) (auditferry_delivered_keys{%J})", "{{tier}}")],
                "AuditferryKeysEvicted",
            ),
            panel(
                "Journal stalled",
                "1: no room on the disk of the state.",
                "none",
                Lines,
                8,
                &[("max by (instance) (auditferry_journal_stalled{%J})", "{{instance}}")],
                "AuditferryJournalStalled",
            ),
            panel(
                "Recoveries",
                "Damage found at the start, by what was damaged.",
                "short",
                Lines,
                8,
                &[("sum by (reason) (auditferry_state_recoveries_total{%J})", "{{reason}}")],
                "AuditferryStateRecovered",
            ),
        ],
    },
    Row {
        title: "Resources",
        panels: &[
            panel(
                "Memory",
                "Memory without mapped files, which the kernel takes back at need, and the limit of the cgroup where there is one.",
                "bytes",
                Lines,
                8,
                &[
                    ("sum by (instance) (auditferry_memory_anonymous_bytes{%J})", "{{instance}}"),
                    ("max(auditferry_memory_limit_bytes{%J})", "limit (0: none)"),
                ],
                "AuditferryMemoryNearLimit",
            ),
            panel(
                "Bytes in flight",
                "Fetched and not yet done, and its bound `collect.in_flight`.",
                "bytes",
                Lines,
                8,
                &[
                    ("sum by (instance) (auditferry_in_flight_bytes{%J})", "{{instance}}"),
                    ("max(auditferry_in_flight_limit_bytes{%J})", "limit"),
                ],
                "AuditferryFeedLagHigh",
            ),
            panel(
                "Backpressure",
                "Time spent waiting in each second, over all that wait: budget and pipeline hold up fetches, journal holds up sinks.",
                "none",
                Lines,
                8,
                &[("sum by (stage) (rate(auditferry_backpressure_seconds_total{%J}[$__rate_interval]))", "{{stage}}")],
                "AuditferryFeedLagHigh",
            ),
            panel(
                "CPU",
                "Cores in use by the process.",
                "none",
                Lines,
                8,
                &[("sum by (instance) (rate(process_cpu_seconds_total{%J}[$__rate_interval]))", "{{instance}}")],
                "AuditferryFeedLagHigh",
            ),
            panel(
                "Tasks and fetches",
                "Tasks alive, tasks that wait for a thread, blobs being fetched.",
                "short",
                Lines,
                8,
                &[
                    ("sum(auditferry_runtime_tasks{%J})", "tasks"),
                    ("sum(auditferry_runtime_queued_tasks{%J})", "queued"),
                    ("sum(auditferry_blobs_in_flight{%J})", "fetches"),
                ],
                "AuditferryFeedLagHigh",
            ),
            panel(
                "Open files",
                "File descriptors, connections included.",
                "short",
                Lines,
                8,
                &[("sum by (instance) (process_open_fds{%J})", "{{instance}}")],
                "AuditferryCrashLooping",
            ),
        ],
    },
];

/// Where the runbooks are kept; the same place as in the rules.
const DOCS: &str = "https://auditferry.example/docs";

/// The expression with its matchers.
pub fn expression(short: &str) -> String {
    let job = r#"job=~"$job", instance=~"$instance""#;
    let full = short
        .replace("%F", r#"%T, content_type=~"$content_type""#)
        .replace("%C", r#"%J, content_type=~"$content_type""#);
    let full = full.replace("%T", r#"%J, tenant=~"$tenant""#).replace("%S", r#"%J, sink=~"$sink""#);
    full.replace("%J", job)
}

fn datasource() -> Value {
    json!({ "type": "prometheus", "uid": "$datasource" })
}

fn variable(name: &str, label: &str, query: &str) -> Value {
    json!({
        "name": name, "label": label, "type": "query", "datasource": datasource(),
        "query": { "query": query, "refId": name }, "definition": query,
        "refresh": 2, "sort": 1, "multi": true, "includeAll": true, "allValue": ".+",
        "current": { "selected": true, "text": ["All"], "value": ["$__all"] }
    })
}

/// The board as Grafana reads it.
pub fn board() -> Value {
    let (mut panels, mut y, mut id) = (Vec::new(), 0, 0);
    for row in ROWS {
        id += 1;
        panels.push(json!({ "id": id, "type": "row", "title": row.title, "collapsed": false, "panels": [], "gridPos": { "h": 1, "w": 24, "x": 0, "y": y } }));
        y += 1;
        let mut x = 0;
        for panel in row.panels {
            id += 1;
            let height = if panel.look == Look::Lines || panel.width > 3 { 8 } else { 4 };
            if x + panel.width > 24 {
                (x, y) = (0, y + height);
            }
            panels.push(draw(panel, id, json!({ "h": height, "w": panel.width, "x": x, "y": y })));
            x += panel.width;
        }
        y += if row.panels[0].look == Look::Lines { 8 } else { 4 };
    }
    let of = |label: &str, metric: &str, matchers: &str| format!("label_values({metric}{{{matchers}}}, {label})");
    let pods = r#"job=~"$job", instance=~"$instance""#;
    let feeds = "auditferry_feed_watermark_timestamp_seconds";
    json!({
        "id": null, "uid": "auditferry-operations", "title": "auditferry / Operations",
        "description": "Is everything well, how far is each feed, what do the API and the sinks answer. Written from a table; see docs/monitoring.md.",
        "tags": ["auditferry"], "schemaVersion": 39, "version": 1, "editable": false, "timezone": "utc", "refresh": "30s",
        "time": { "from": "now-6h", "to": "now" }, "timepicker": {}, "graphTooltip": 1, "fiscalYearStartMonth": 0, "weekStart": "",
        "links": [{ "type": "link", "title": "Runbooks", "url": format!("{DOCS}/monitoring.md"), "icon": "doc", "targetBlank": true, "tags": [], "asDropdown": false, "includeVars": false, "keepTime": false, "tooltip": "" }],
        "annotations": { "list": [
            { "name": "Starts", "datasource": datasource(), "enable": true, "hide": false, "iconColor": "blue",
              "expr": format!("process_start_time_seconds{{{pods}}} * 1000"), "useValueForTime": "on", "titleFormat": "started", "textFormat": "{{instance}}", "step": "60s" },
            { "name": "Alerts", "datasource": datasource(), "enable": true, "hide": false, "iconColor": "red",
              "expr": "ALERTS{alertname=~\"Auditferry.*\", alertstate=\"firing\"}", "titleFormat": "{{alertname}}", "textFormat": "{{tenant}} {{content_type}} {{sink}}", "step": "60s" }
        ] },
        "templating": { "list": [
            { "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1, "regex": "", "multi": false, "includeAll": false, "current": {} },
            variable("job", "job", "label_values(auditferry_build_info, job)"),
            variable("instance", "instance", &of("instance", "auditferry_build_info", r#"job=~"$job""#)),
            variable("tenant", "Tenant", &of("tenant", feeds, pods)),
            variable("content_type", "Content type", &of("content_type", feeds, &format!(r#"{pods}, tenant=~"$tenant""#))),
            variable("sink", "Sink", &of("sink", "auditferry_sink_info", pods))
        ] },
        "panels": panels
    })
}

fn draw(panel: &Panel, id: u32, place: Value) -> Value {
    let targets: Vec<Value> = panel.targets.iter().enumerate().map(|(number, (short, legend))| {
        let letter = char::from(b'A' + u8::try_from(number).unwrap());
        json!({ "refId": letter.to_string(), "datasource": datasource(), "expr": expression(short), "legendFormat": legend, "instant": false, "range": true, "editorMode": "code" })
    }).collect();
    let steps = match panel.look {
        Look::Bad => json!([{ "color": "green", "value": null }, { "color": "red", "value": 1 }]),
        _ => json!([{ "color": "green", "value": null }]),
    };
    let (kind, options) = match panel.look {
        Look::Lines => (
            "timeseries",
            json!({ "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": [] }, "tooltip": { "mode": "multi", "sort": "desc" } }),
        ),
        _ => (
            "stat",
            json!({ "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false }, "colorMode": "value", "graphMode": "area", "justifyMode": "auto", "textMode": "auto", "orientation": "auto" }),
        ),
    };
    json!({
        "id": id, "type": kind, "title": panel.title, "description": panel.what, "datasource": datasource(), "gridPos": place,
        "links": [{ "title": panel.runbook, "url": format!("{DOCS}/runbooks/{}.md", panel.runbook), "targetBlank": true }],
        "fieldConfig": { "defaults": { "unit": panel.unit, "min": if panel.title == "Clock skew" { Value::Null } else { json!(0) }, "color": { "mode": if kind == "stat" { "thresholds" } else { "palette-classic" } }, "thresholds": { "mode": "absolute", "steps": steps }, "custom": if kind == "stat" { json!({}) } else { json!({ "lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": false }) } }, "overrides": [] },
        "options": options, "targets": targets
    })
}
