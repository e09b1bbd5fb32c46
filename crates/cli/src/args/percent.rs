//! A share in percent, 0 to 100.

/// Parses a number from 0 to 100, with or without a percent sign.
pub fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    match number.parse::<f64>() {
        Ok(share) if (0.0..=100.0).contains(&share) => Ok(share),
        _ => Err(format!("`{text}` is not a share in percent, 0 to 100")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_between_none_and_all() {
        assert_eq!(parse_percent("12.5"), Ok(12.5));
        assert_eq!(parse_percent("100%"), Ok(100.0));
        for text in ["", "-1", "101", "NaN", "inf", "many"] {
            assert!(parse_percent(text).is_err(), "{text}");
        }
    }
}
