//! The text that scrapers read: the Prometheus format 0.0.4, or OpenMetrics 1.0.

use std::fmt::{self, Display, Write};

use super::{Family, Kind, Labels};

/// Which text a scraper asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Prometheus,
    OpenMetrics,
}

impl Format {
    /// By the scraper's `Accept` header: OpenMetrics only when it is named.
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }

    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

pub(super) fn render(families: &[Family], overflowed: u64, format: Format) -> String {
    let mut text = String::with_capacity(4_096);
    write_all(&mut text, families, overflowed, format).expect("writing to a string cannot fail");
    text
}

fn write_all(text: &mut String, families: &[Family], overflowed: u64, format: Format) -> fmt::Result {
    for family in families.iter().filter(|family| !family.series.is_empty() || !family.asked.is_empty()) {
        head(text, family.name, family.help, family.kind, format)?;
        write_family(text, family)?;
    }
    let name = "lateen_metrics_overflow_total";
    head(text, name, "Label sets refused because their family was full.", Kind::Counter, format)?;
    sample(text, name, "", &Labels::none(), None, overflowed)?;
    if format == Format::OpenMetrics {
        text.push_str("# EOF\n");
    }
    Ok(())
}

fn head(text: &mut String, name: &str, help: &str, kind: Kind, format: Format) -> fmt::Result {
    // OpenMetrics names the family without the suffix of its samples.
    let name = match (format, kind) {
        (Format::OpenMetrics, Kind::Counter) => name.strip_suffix("_total").unwrap_or(name),
        _ => name,
    };
    let kind = match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    write!(text, "# HELP {name} ")?;
    escape(text, help, format == Format::OpenMetrics);
    write!(text, "\n# TYPE {name} {kind}\n")
}

fn write_family(text: &mut String, family: &Family) -> fmt::Result {
    for (labels, slots) in &family.series {
        // Workers' cells are summed position by position; the sum of a histogram is a float in its bits.
        let sum_at = |at: usize| -> u64 {
            slots.iter().filter_map(|slot| slot.values().nth(at)).fold(0, u64::wrapping_add)
        };
        match family.kind {
            Kind::Counter => sample(text, family.name, "", labels, None, sum_at(0))?,
            Kind::Gauge => sample(text, family.name, "", labels, None, sum_at(0).cast_signed())?,
            Kind::Histogram => {
                let mut count = 0u64;
                for (at, bound) in family.bounds.iter().enumerate() {
                    count = count.wrapping_add(sum_at(at));
                    sample(text, family.name, "_bucket", labels, Some(&Number(*bound)), count)?;
                }
                count = count.wrapping_add(sum_at(family.bounds.len()));
                sample(text, family.name, "_bucket", labels, Some(&"+Inf"), count)?;
                let sums = slots.iter().filter_map(|slot| slot.values().nth(family.bounds.len() + 1));
                let sum = sums.map(f64::from_bits).sum::<f64>();
                sample(text, family.name, "_sum", labels, None, Number(sum))?;
                sample(text, family.name, "_count", labels, None, count)?;
            }
        }
    }
    for (labels, question) in &family.asked {
        sample(text, family.name, "", labels, None, Number(question()))?;
    }
    Ok(())
}

fn sample(
    text: &mut String,
    name: &str,
    suffix: &str,
    labels: &Labels,
    bound: Option<&dyn Display>,
    value: impl Display,
) -> fmt::Result {
    write!(text, "{name}{suffix}")?;
    let mut opening = '{';
    for (label, value) in labels.iter() {
        write!(text, "{opening}{label}=\"")?;
        escape(text, value, true);
        text.push('"');
        opening = ',';
    }
    if let Some(bound) = bound {
        write!(text, "{opening}le=\"{bound}\"")?;
        opening = ',';
    }
    if opening == ',' {
        text.push('}');
    }
    writeln!(text, " {value}")
}

/// Backslash and line feed are escaped, and the quote where the text stands in quotes (or in OpenMetrics).
fn escape(text: &mut String, value: &str, quotes: bool) {
    for letter in value.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if quotes => text.push_str("\\\""),
            other => text.push(other),
        }
    }
}

/// A float the way the formats write it: infinities have names.
struct Number(f64);

impl Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            value if value.is_nan() => f.write_str("NaN"),
            f64::INFINITY => f.write_str("+Inf"),
            f64::NEG_INFINITY => f.write_str("-Inf"),
            value => write!(f, "{value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a scraper does to the text between two quotes.
    fn unescape(quoted: &str) -> Option<String> {
        let mut letters = quoted.chars();
        let mut value = String::new();
        while let Some(letter) = letters.next() {
            value.push(match letter {
                '\\' => match letters.next()? {
                    'n' => '\n',
                    '\\' => '\\',
                    '"' => '"',
                    _ => return None,
                },
                '"' | '\n' => return None,
                other => other,
            });
        }
        Some(value)
    }

    proptest! {
        #[test]
        fn any_label_value_survives(value in any::<String>()) {
            let mut line = String::new();
            sample(&mut line, "m", "", &Labels::new([("l", value.as_str())]), None, 1).expect("writes");
            prop_assert_eq!(line.matches('\n').count(), 1, "one line a sample");
            let quoted = line.strip_prefix("m{l=\"").and_then(|rest| rest.strip_suffix("\"} 1\n"));
            prop_assert_eq!(quoted.and_then(unescape), Some(value));
        }

        #[test]
        fn hostile_label_values_survive(value in "[\\\\\"\n{},= a]{0,20}") {
            let mut text = String::new();
            escape(&mut text, &value, true);
            prop_assert_eq!(unescape(&text), Some(value));
        }
    }
}
