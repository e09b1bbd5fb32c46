//! The machine that was measured on, and how much of it was stolen.

use std::fs;

use anyhow::Context as _;
use lateen_cli::output::Output;
use serde::Serialize;

/// A load average above which a machine does not measure, it only works.
const BUSY: f64 = 0.5;

/// Where figures come from.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    /// When, in UTC.
    pub(crate) taken: String,
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    /// Of the minute before the run; the run itself adds two.
    pub(crate) load_average: f64,
}

impl Machine {
    pub(crate) fn here() -> Self {
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        Machine {
            taken: stamp(),
            processor: name.map(|(_, name)| name.to_owned()).unwrap_or_default(),
            cores: processors.lines().filter(|line| line.starts_with("processor")).count(),
            kernel,
            load_average: fs::read_to_string("/proc/loadavg").ok().and_then(first_number).unwrap_or_default(),
        }
    }
}

impl Machine {
    pub(crate) fn must_have_two_cores(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.cores >= 2, "two cores are needed: one for what is measured, one for the load");
        Ok(())
    }

    pub(crate) fn warn_when_busy(&self, output: &mut Output) -> anyhow::Result<()> {
        if self.load_average > BUSY {
            let load = self.load_average;
            output.note(format_args!("this machine is busy (load {load}): what follows will be noisy"))?;
        }
        Ok(())
    }
}

fn first_number(text: String) -> Option<f64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// The counters of all cores at one moment.
pub(crate) struct Cores {
    total: u64,
    stolen: u64,
}

impl Cores {
    pub(crate) fn now() -> anyhow::Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let line = stat.lines().next().context("/proc/stat is empty")?;
        let counters: Vec<u64> =
            line.split_ascii_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal; guest time is part of user time (proc(5)).
        let stolen = counters.get(7).copied().context("/proc/stat tells no steal time")?;
        Ok(Cores { total: counters.iter().take(8).sum(), stolen })
    }

    /// The share of all cores' time since then that the hypervisor gave to others, in percent.
    pub(crate) fn stolen_since(&self) -> anyhow::Result<f64> {
        let now = Cores::now()?;
        let total = now.total.saturating_sub(self.total).max(1);
        Ok(100.0 * now.stolen.saturating_sub(self.stolen) as f64 / total as f64)
    }
}

/// `2026-11-23 19:14`, in UTC.
fn stamp() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let (days, minutes) = (now.as_secs() / 86_400, now.as_secs() % 86_400 / 60);
    let (year, month, day) = civil(days);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}", minutes / 60, minutes % 60)
}

/// Year, month and day of a day counted from 1970-01-01.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let is_leap =
        |year: u64| (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    for (month, length) in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31].into_iter().enumerate() {
        if days < length {
            return (year, month as u64 + 1, days + 1);
        }
        days -= length;
    }
    (year + 1, 1, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_dates() {
        for (day, date) in
            [(0, (1970, 1, 1)), (59, (1970, 3, 1)), (11_016, (2000, 2, 29)), (20_780, (2026, 11, 23))]
        {
            assert_eq!(civil(day), date, "{day}");
        }
    }
}
