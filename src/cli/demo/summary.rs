//! The end of the demo: what the simulator's books say could be had against what lies in the file
//! that the sink wrote, record by record. Neither count knows of the other.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::gauges::Gauges;
use super::view::thousands;

pub(super) struct Summary {
    pub gauges: Gauges,
    pub faults: BTreeMap<String, u64>,
    /// Records that could be had when time was up.
    pub owed: u64,
    /// Of these, not in the file.
    pub missing: u64,
    /// Lines of the file, what came after that moment included.
    pub lines: u64,
    pub doubled: u64,
    pub elapsed: Duration,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |number: u64, words: &str| writeln!(f, "  {:>10}  {words}", thousands(number));
        line(self.owed, "records could be had from the simulator when time was up")?;
        let seconds = self.elapsed.as_secs_f64();
        line(self.lines, &format!("events lie in the sink's file after {seconds:.1} s (new ones kept coming)"))?;
        if self.missing > 0 && self.gauges.blobs_pending > 0 {
            line(self.missing, "records not here yet: their blobs are unsettled and would be fetched again")?;
        } else {
            line(self.missing, "lost, compared record by record")?;
        }
        line(self.doubled, "doubled")?;
        line(self.gauges.duplicate, "copies recognised by their key and not sent again")?;
        line(self.gauges.blobs_retried, "downloads repeated until they were whole")?;
        if self.gauges.blobs_lost > 0 {
            line(self.gauges.blobs_lost, "blobs that the service itself no longer had, each named in the ledger")?;
        }
        if !self.faults.is_empty() {
            let faults: Vec<String> = self.faults.iter().map(|(name, count)| format!("{name} {count}")).collect();
            writeln!(f, "\n  faults survived: {}", faults.join(", "))?;
        }
        // As it was called: after `make demo` it is on no path.
        let program = std::env::args().next().unwrap_or_else(|| "auditferry".into());
        writeln!(f, "\nNext: {program} config example > auditferry.yaml    # put your tenant in")?;
        write!(f, "      {program} validate -c auditferry.yaml && {program} run -c auditferry.yaml")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_doubled_is_said() {
        let mut summary = Summary {
            gauges: Gauges::default(),
            faults: [("throttle_429".to_owned(), 3)].into(),
            owed: 2000,
            missing: 1,
            lines: 2100,
            doubled: 2,
            elapsed: Duration::from_secs(20),
        };
        let said = summary.to_string();
        for part in ["2,000  records", "2,100  events", "    1  lost", "    2  doubled", "throttle_429 3"] {
            assert!(said.contains(part), "{part}\n{said}");
        }
        summary.gauges.blobs_pending = 1;
        assert!(summary.to_string().contains("1  records not here yet"));
    }
}
