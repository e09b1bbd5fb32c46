//! What gRPC asks of a proxy besides HTTP/2: its deadline.

use std::time::Duration;

use super::head::{Known, RequestHead};

/// The status of a call whose time was over.
pub const DEADLINE_EXCEEDED: u16 = 4;

/// The shorter of a route's timeout and of what the caller still waits for. An answer after that is for nobody.
#[must_use]
pub fn shorter(route: Option<Duration>, request: &RequestHead) -> Option<Duration> {
    let Some(said) = request.fields.known(Known::GrpcTimeout) else { return route };
    match (route, timeout(said)) {
        (Some(route), Some(caller)) => Some(route.min(caller)),
        (route, caller) => caller.or(route),
    }
}

/// `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2, "Requests"). None for what is none: it is the
/// application's to refuse.
#[must_use]
pub fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The HTTP status that means the same as a gRPC status, as Envoy counts it.
pub(crate) fn http_status(grpc_status: &[u8]) -> Option<u16> {
    let status: u16 = std::str::from_utf8(grpc_status).ok()?.parse().ok()?;
    Some(match status {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts() {
        for (value, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("5m", Some(Duration::from_millis(5))),
            ("5u", Some(Duration::from_micros(5))),
            ("0n", Some(Duration::ZERO)),
            ("", None),
            ("S", None),
            ("5", None),
            ("-5S", None),
            ("5s", None),
            ("123456789S", None),
        ] {
            assert_eq!(timeout(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn the_shorter_counts() {
        let second = Duration::from_secs(1);
        let mut head = RequestHead::default();
        assert_eq!((shorter(None, &head), shorter(Some(second), &head)), (None, Some(second)));
        head.fields.add(b"grpc-timeout", b"20S");
        assert_eq!((shorter(None, &head), shorter(Some(second), &head)), (Some(second * 20), Some(second)));
        head.fields.set(b"grpc-timeout", b"x");
        assert_eq!(shorter(Some(second), &head), Some(second));
    }
}
