//! The end of the demo: what the simulator handed out against what arrived. Two counts that know
//! nothing of each other: the simulator's books, and the lines of the file that the sink wrote (or,
//! piped, the sink's acknowledgements).

use std::fmt;
use std::time::Duration;

use super::gauges::Gauges;
use super::view::thousands;
use super::world::Served;

pub(super) struct Summary {
    pub gauges: Gauges,
    pub served: Served,
    /// Lines of the sink's file; `None` when the events went to stdout.
    pub lines: Option<u64>,
    pub elapsed: Duration,
}

impl Summary {
    fn arrived(&self) -> u64 {
        self.lines.unwrap_or(self.gauges.delivered)
    }

    /// Records that the simulator handed out whole and that did not arrive.
    pub fn missing(&self) -> u64 {
        self.served.records.saturating_sub(self.arrived())
    }

    /// Records that arrived more often than the simulator has them.
    fn doubled(&self) -> u64 {
        self.arrived().saturating_sub(self.served.records)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (gauges, served) = (&self.gauges, &self.served);
        let counted = if self.lines.is_some() { "lines in the sink's file" } else { "acknowledged by stdout" };
        writeln!(f)?;
        writeln!(f, "  {:>12}  different records handed out by the simulator", thousands(served.records))?;
        writeln!(f, "  {:>12}  {counted}, in {:.1} s", thousands(self.arrived()), self.elapsed.as_secs_f64())?;
        writeln!(f, "  {:>12}  lost", thousands(self.missing()))?;
        writeln!(f, "  {:>12}  doubled", thousands(self.doubled()))?;
        writeln!(f, "  {:>12}  copies recognised and not sent again", thousands(gauges.duplicate))?;
        writeln!(f, "  {:>12}  downloads repeated until whole", thousands(gauges.blobs_retried))?;
        if gauges.blobs_lost > 0 {
            writeln!(
                f,
                "  {:>12}  blobs that the service itself no longer had, each named in the ledger",
                thousands(gauges.blobs_lost)
            )?;
        }
        let faults: Vec<String> = served
            .faults
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        if !faults.is_empty() {
            writeln!(f, "\n  faults thrown: {}", faults.join(", "))?;
        }
        writeln!(f, "\nNext: auditferry config example > auditferry.yaml, put your tenant in,")?;
        write!(f, "      auditferry validate -c auditferry.yaml && auditferry run -c auditferry.yaml")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(served: u64, lines: u64) -> Summary {
        let faults = [("throttle_429".to_owned(), 3), ("late".to_owned(), 0)].into();
        let served = Served { records: served, faults };
        Summary { gauges: Gauges::default(), served, lines: Some(lines), elapsed: Duration::from_secs(20) }
    }

    #[test]
    fn what_is_missing_or_doubled_is_said_and_not_rounded_away() {
        assert_eq!((summary(10, 10).missing(), summary(10, 10).doubled()), (0, 0));
        assert_eq!((summary(10, 9).missing(), summary(10, 9).doubled()), (1, 0));
        assert_eq!((summary(10, 12).missing(), summary(10, 12).doubled()), (0, 2));
        let said = summary(10, 9).to_string();
        assert!(said.contains("           1  lost"), "{said}");
        assert!(said.contains("throttle_429 3") && !said.contains("late"), "{said}");
    }
}
