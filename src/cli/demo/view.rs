//! What the reader sees. On a terminal: one aligned line an event at a pace that can be read, notes
//! between them, and a status line that is rewritten in place. Piped: stdout belongs to the events, so
//! only words go to stderr. Colours where they are wanted (`NO_COLOR`), never wider than the terminal.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::gauges::Gauges;
use super::watcher::Line;
use crate::cli::logging::colours;

/// Lines kept to choose from; what does not fit is counted.
const CHOICE: usize = 64;
/// How often "+n more" is said.
const MORE_EVERY: Duration = Duration::from_millis(1600);
/// The stretch over which rates and the median are taken.
const WINDOW: Duration = Duration::from_secs(3);
/// A median above this many seconds is the age of a backlog, not a delay.
const BACKLOG: f64 = 30.0;
/// When the terminal does not say how wide it is.
const DEFAULT_WIDTH: usize = 100;

const CLEAR_LINE: &str = "\r\x1b[2K";

pub(super) struct View {
    piped: bool,
    speed: f64,
    colour: bool,
    began: Instant,
    waiting: VecDeque<Line>,
    /// How often each operation was shown: the rarest comes first.
    shown: HashMap<String, u32>,
    /// Events passed and not shown since the last "+n more".
    more: u64,
    more_said: Instant,
    past: VecDeque<(Instant, Gauges)>,
    status_open: bool,
}

impl View {
    /// `speed`: how many seconds of the simulated clock pass in one of ours.
    pub fn new(piped: bool, speed: f64) -> View {
        let terminal = if piped { std::io::stderr().is_terminal() } else { true };
        View {
            piped,
            speed,
            colour: colours(terminal),
            began: Instant::now(),
            waiting: VecDeque::new(),
            shown: HashMap::new(),
            more: 0,
            more_said: Instant::now(),
            past: VecDeque::new(),
            status_open: false,
        }
    }

    /// Takes a line that may be shown.
    pub fn offer(&mut self, line: Line) {
        if self.piped {
            return;
        }
        if self.waiting.len() == CHOICE {
            self.waiting.pop_front();
            self.more += 1;
        }
        self.waiting.push_back(line);
    }

    /// Something to be read once.
    pub fn say(&mut self, text: &str) {
        let text = text.to_owned() + "\n";
        self.print(&text);
    }

    /// The names of the columns, where there are columns.
    pub fn head(&mut self) {
        if !self.piped {
            let names = ["time UTC", "tenant", "workload", "operation", "user", "source", "outcome"].map(str::to_owned);
            let [time, tenant, workload, operation, user, source, outcome] = names;
            let line = Line { time, tenant, workload, operation, user, source, outcome };
            let line = render(&line, self.width(), false);
            let line = paint(self.colour, "2", &line);
            self.say(&line);
        }
    }

    /// What is happening and why.
    pub fn note(&mut self, text: &str) {
        let text = format!("  · {text}");
        let text = if self.piped { text } else { cut(&text, self.width()) };
        let note = paint(self.colour, "33", &text) + "\n";
        self.print(&note);
    }

    /// One step: the next event, and the status line.
    pub fn draw(&mut self, gauges: &Gauges, skipped: u64, faults: u64) {
        let now = Instant::now();
        self.past.push_back((now, gauges.clone()));
        while self.past.front().is_some_and(|(at, _)| now - *at > WINDOW) && self.past.len() > 2 {
            self.past.pop_front();
        }
        if self.piped {
            return;
        }
        self.more += skipped;
        let width = self.width();
        let mut out = String::new();
        if let Some(line) = self.choose() {
            let _ = writeln!(out, "{}", render(&line, width, self.colour));
        }
        if self.more > 0 && now - self.more_said >= MORE_EVERY {
            let _ = writeln!(out, "{}", paint(self.colour, "2", &format!("          +{} more", thousands(self.more))));
            (self.more, self.more_said) = (0, now);
        }
        let status = cut(&self.status(gauges, faults), width.saturating_sub(1));
        let _ = write!(out, "{}", paint(self.colour, "1", &status));
        self.print(&out);
        self.status_open = true;
    }

    /// Leaves the status line behind and shows no more events.
    pub fn finish(&mut self) {
        if self.status_open {
            self.print("");
        }
        self.waiting.clear();
    }

    /// The waiting line whose operation was shown least, the oldest of them.
    fn choose(&mut self) -> Option<Line> {
        let seen = |line: &Line| self.shown.get(&line.operation).copied().unwrap_or(0);
        let (index, _) = self.waiting.iter().enumerate().min_by_key(|(index, line)| (seen(line), *index))?;
        let line = self.waiting.remove(index)?;
        *self.shown.entry(line.operation.clone()).or_default() += 1;
        Some(line)
    }

    fn status(&self, gauges: &Gauges, faults: u64) -> String {
        let mut parts =
            vec![format!("{:>3} s", self.began.elapsed().as_secs()), format!("{} events", thousands(gauges.delivered))];
        if let Some((at, earlier)) = self.past.front() {
            let seconds = at.elapsed().as_secs_f64().max(0.1);
            parts.push(format!("{:.0}/s", gauges.delivered.saturating_sub(earlier.delivered) as f64 / seconds));
            parts.push(format!("{} blobs", thousands(gauges.blobs_settled)));
            parts.push(format!("{faults} faults, {} lost", gauges.blobs_lost));
            match gauges.median_latency_since(earlier).map(|median| median / self.speed) {
                Some(median) if median > BACKLOG => parts.push("catching up".to_owned()),
                Some(median) => parts.push(format!("delay ≤ {}", seconds_in_words(median))),
                None => {}
            }
        }
        if let Some(bytes) = gauges.memory {
            parts.push(format!("{:.0} MiB", bytes as f64 / 1_048_576.0));
        }
        parts.join("  ")
    }

    fn width(&self) -> usize {
        rustix::termios::tcgetwinsize(std::io::stdout())
            .ok()
            .map(|size| usize::from(size.ws_col))
            .filter(|columns| *columns > 0)
            .unwrap_or(DEFAULT_WIDTH)
    }

    /// Writes below what is there; a status line in the way is wiped first. A reader who went away is
    /// noticed by the pipeline's own sink, not here.
    fn print(&mut self, text: &str) {
        let wipe = if std::mem::take(&mut self.status_open) { CLEAR_LINE } else { "" };
        let _ = if self.piped {
            let mut out = std::io::stderr().lock();
            write!(out, "{wipe}{text}").and_then(|()| out.flush())
        } else {
            let mut out = std::io::stdout().lock();
            write!(out, "{wipe}{text}").and_then(|()| out.flush())
        };
    }
}

/// Widths of time, tenant, workload, operation, user and source; the outcome takes what is left.
const COLUMNS: [usize; 6] = [8, 12, 20, 30, 34, 15];
/// On a narrower terminal the columns shrink together, but for the clock and the address: half of one is none.
const FULL_WIDTH: usize = 134;
const KEPT: usize = 8 + 15 + 6 + 8;

/// One event as one line.
fn render(line: &Line, width: usize, colour: bool) -> String {
    let mut columns = COLUMNS;
    if width < FULL_WIDTH {
        for column in &mut columns[1..5] {
            *column = (*column * width.saturating_sub(KEPT) / (FULL_WIDTH - KEPT)).max(6);
        }
    }
    let fields = [&line.time, &line.tenant, &line.workload, &line.operation, &line.user, &line.source];
    let colours = ["2", "36", "34", "1", "0", "2"];
    let mut out = String::new();
    let mut left = width;
    for ((text, column), code) in fields.into_iter().zip(columns).zip(colours) {
        if left <= column {
            return out;
        }
        out.push_str(&paint(colour, code, &padded(text, column)));
        out.push(' ');
        left -= column + 1;
    }
    let outcome_colour = if line.outcome == "failure" { "31" } else { "32" };
    out.push_str(&paint(colour, outcome_colour, &cut(&line.outcome, left)));
    out
}

fn padded(text: &str, columns: usize) -> String {
    let text = cut(text, columns);
    let gap = columns.saturating_sub(text.chars().count());
    text + &" ".repeat(gap)
}

/// At most `columns` characters, the last an ellipsis where something was cut.
fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    text.chars().take(columns.saturating_sub(1)).chain(std::iter::once('…')).take(columns).collect()
}

fn paint(colour: bool, code: &str, text: &str) -> String {
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// `12345678` as `12,345,678`.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn seconds_in_words(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1000.0) } else { format!("{seconds:.0} s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(operation: &str) -> Line {
        Line {
            time: "12:34:56".into(),
            tenant: "contoso".into(),
            workload: "AzureActiveDirectory".into(),
            operation: operation.into(),
            user: "somebody.with.a.very.long.name@contoso.example".into(),
            source: "203.0.113.77".into(),
            outcome: "failure".into(),
        }
    }

    #[test]
    fn a_line_is_never_wider_than_the_terminal() {
        for width in [0, 1, 20, 40, 80, 100, 134, 200] {
            let plain = render(&line("New-InboxRule"), width, false);
            assert!(plain.chars().count() <= width, "{width}: {plain}");
        }
        assert!(render(&line("New-InboxRule"), 140, false).ends_with("failure"));
        assert!(!render(&line("x"), 140, false).contains('\x1b'), "no colour, no escapes");
        assert!(render(&line("x"), 140, true).contains("\x1b[31mfailure"));
    }

    #[test]
    fn the_operation_that_was_shown_least_comes_next_and_the_rest_is_counted() {
        let mut view = View::new(false, 1.0);
        for operation in ["FileAccessed", "FileAccessed", "Add member to role.", "FileAccessed"] {
            view.offer(line(operation));
        }
        let order: Vec<String> = std::iter::from_fn(|| view.choose()).map(|line| line.operation).collect();
        assert_eq!(order, ["FileAccessed", "Add member to role.", "FileAccessed", "FileAccessed"]);
        (0..CHOICE + 3).for_each(|_| view.offer(line("x")));
        assert_eq!((view.waiting.len(), view.more), (CHOICE, 3));
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!([0, 999, 1000, 12_345_678].map(thousands), ["0", "999", "1,000", "12,345,678"]);
        assert_eq!([0.25, 5.0].map(seconds_in_words), ["250 ms", "5 s"]);
    }
}
