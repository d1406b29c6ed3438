//! A picture of the board's panels as SVG, drawn from Prometheus' answers: our own rendering, not Grafana's. Comes in: the
//! answers, panel by panel. Goes out: the text of the picture, of a size that depends on the board alone.

use std::fmt::Write as _;

use crate::board::{Look, Panel, ROWS};

/// What Prometheus said to one expression of a panel.
pub struct Answer {
    pub panel: &'static Panel,
    /// Legend and points (seconds, value).
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
}

const COLUMN: f64 = 50.0;
const WIDTH: f64 = 24.0 * COLUMN + 20.0;
const LOW: f64 = 84.0;
const HIGH: f64 = 170.0;
const COLOURS: [&str; 10] =
    ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#c0d8ff", "#fade2a", "#ffa6b0"];
/// Lines of a legend that are shown.
const LEGEND: usize = 4;

/// Draws everything.
pub fn picture(answers: &[Answer]) -> String {
    let (mut body, mut y) = (String::new(), 40.0);
    for row in ROWS {
        writeln!(body, "<text x=\"10\" y=\"{}\" class=\"row\">{}</text>", y + 16.0, row.title).unwrap();
        y += 24.0;
        let (mut x, mut height) = (0, 0.0);
        for panel in row.panels {
            let own = if panel.look == Look::Lines || panel.width > 3 { HIGH } else { LOW };
            if x + panel.width > 24 {
                (x, y) = (0, y + height + 6.0);
            }
            height = own;
            let of = answers.iter().filter(|answer| std::ptr::eq(answer.panel, panel));
            let lines: Vec<_> = of.flat_map(|answer| &answer.lines).collect();
            assert!(!lines.is_empty(), "{}: nothing to draw", panel.title);
            draw(
                &mut body,
                panel,
                &lines,
                (10.0 + f64::from(x) * COLUMN, y),
                (f64::from(panel.width) * COLUMN - 6.0, own),
            );
            x += panel.width;
        }
        y += height + 8.0;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{h}\" viewBox=\"0 0 {WIDTH} {h}\">\n\
         <style>text{{font-family:DejaVu Sans,Verdana,sans-serif;fill:#ccccdc;font-size:10px}}.row{{font-size:13px;font-weight:bold}}.head{{font-size:16px}}.name{{font-size:11px;font-weight:bold}}.big{{font-size:26px}}.axis{{fill:#8e8e99;font-size:9px}}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{h}\" fill=\"#111217\"/>\n<text x=\"10\" y=\"26\" class=\"head\">auditferry / Operations</text>\n{body}</svg>\n",
        h = y + 6.0
    )
}

fn draw(out: &mut String, panel: &Panel, lines: &[&(String, Vec<(f64, f64)>)], (x, y): (f64, f64), (w, h): (f64, f64)) {
    writeln!(out, "<g><title>{}</title><rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" fill=\"#181b1f\" stroke=\"#2c3235\"/>", escape(panel.what)).unwrap();
    writeln!(out, "<text x=\"{}\" y=\"{}\" class=\"name\">{}</text>", x + 8.0, y + 16.0, escape(panel.title)).unwrap();
    let finite = || lines.iter().flat_map(|(_, points)| points).filter(|(_, value)| value.is_finite());
    if panel.look != Look::Lines {
        let value = finite().next_back().map_or(f64::NAN, |(_, value)| *value);
        let colour = if panel.look == Look::Bad && value >= 1.0 { "#f2495c" } else { "#73bf69" };
        let middle = y + h / 2.0 + 18.0;
        writeln!(
            out,
            "<text x=\"{}\" y=\"{middle}\" class=\"big\" text-anchor=\"middle\" style=\"fill:{colour}\">{}</text></g>",
            x + w / 2.0,
            amount(value, panel.unit)
        )
        .unwrap();
        return;
    }
    let (left, top, width, height) = (x + 54.0, y + 26.0, w - 62.0, h - 46.0 - 12.0 * LEGEND as f64 / 2.0);
    let (mut from, mut to) = (f64::MAX, f64::MIN);
    let (mut low, mut high) = (0.0_f64, 0.0_f64);
    for (at, value) in finite() {
        (from, to) = (from.min(*at), to.max(*at));
        (low, high) = (low.min(*value), high.max(*value));
    }
    if high - low <= 0.0 {
        high = low + 1.0;
    }
    for step in 0..=2 {
        let share = f64::from(step) / 2.0;
        let at = top + height * (1.0 - share);
        writeln!(out, "<path d=\"M{left} {at:.1}h{width:.1}\" stroke=\"#2c3235\"/><text x=\"{}\" y=\"{:.1}\" class=\"axis\" text-anchor=\"end\">{}</text>", left - 4.0, at + 3.0, amount(low + (high - low) * share, panel.unit)).unwrap();
    }
    for (number, (name, points)) in lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let (mut path, mut pen) = (String::new(), 'M');
        for (at, value) in points {
            if !value.is_finite() {
                pen = 'M';
                continue;
            }
            let px = left + width * (at - from) / (to - from).max(1.0);
            let py = top + height * (1.0 - (value - low) / (high - low));
            write!(path, "{pen}{px:.1} {py:.1}").unwrap();
            pen = 'L';
        }
        writeln!(out, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.3\"/>").unwrap();
        if number < LEGEND {
            let (column, line) = ((number % 2) as f64, (number / 2) as f64);
            let (lx, ly) = (x + 10.0 + column * (w / 2.0 - 6.0), y + h - 20.0 + line * 13.0);
            let more = if number + 1 == LEGEND && lines.len() > LEGEND {
                format!(" and {} more", lines.len() - LEGEND)
            } else {
                String::new()
            };
            let room = ((w / 2.0 - 30.0) / 6.0) as usize;
            let text: String = format!("{name}{more}").chars().take(room).collect();
            writeln!(out, "<rect x=\"{lx}\" y=\"{}\" width=\"9\" height=\"3\" fill=\"{colour}\"/><text x=\"{}\" y=\"{}\">{}</text>", ly - 5.0, lx + 13.0, ly, escape(&text)).unwrap();
        }
    }
    out.push_str("</g>\n");
}

/// A value as a person reads it.
fn amount(value: f64, unit: &str) -> String {
    let scaled = |steps: &[(f64, &str)]| {
        let step = steps.iter().find(|(size, _)| value.abs() >= *size);
        step.map(|(size, name)| format!("{} {name}", short(value / size)))
    };
    match unit {
        "s" => {
            scaled(&[(86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (0.001, "ms")]).unwrap_or("0 s".into())
        }
        "bytes" | "Bps" => {
            let per = if unit == "Bps" { "/s" } else { "" };
            scaled(&[(1048576.0, "MiB"), (1024.0, "KiB"), (1.0, "B")]).unwrap_or("0 B".into()) + per
        }
        "cps" | "reqps" => format!("{} /s", short(value)),
        _ => scaled(&[(1e6, "M"), (1e3, "k")]).unwrap_or_else(|| short(value)),
    }
}

fn short(value: f64) -> String {
    let text = if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
