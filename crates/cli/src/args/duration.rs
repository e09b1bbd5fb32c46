//! Times as people write them: `250ms`, `10s`, `1m30s`.

use std::time::Duration;

/// Why a text is not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time; write 250ms, 10s, 1.5s, 2m, 1m30s or 1h")]
pub struct InvalidDuration(String);

/// The longest time that is taken: ten years, so that adding it to a clock never overflows.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Parses one or more `<number><unit>` (us, ms, s, m, h), added; a bare `0` needs no unit.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    let invalid = || InvalidDuration(text.to_owned());
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, after) = split_while(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, after) = split_while(after, |c| c.is_ascii_alphabetic());
        let seconds = number.parse::<f64>().map_err(|_| invalid())? * seconds_of(unit).ok_or_else(invalid)?;
        let part = Duration::try_from_secs_f64(seconds).map_err(|_| invalid())?;
        total = total.checked_add(part).filter(|total| *total <= LONGEST).ok_or_else(invalid)?;
        rest = after;
    }
    if text.is_empty() { Err(invalid()) } else { Ok(total) }
}

fn split_while(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

fn seconds_of(unit: &str) -> Option<f64> {
    match unit {
        "us" => Some(1e-6),
        "ms" => Some(1e-3),
        "s" => Some(1.0),
        "m" => Some(60.0),
        "h" => Some(3600.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, milliseconds) in
            [("0", 0), ("250ms", 250), ("10s", 10_000), ("1.5s", 1_500), ("1m30s", 90_000), ("1h", 3_600_000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in ["", "10", "s", "-1s", "1.2.3s", "10 s", "1d", "99999999h", "1e400s", "ms5"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
