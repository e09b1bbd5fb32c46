//! `Share`: a part of requests, exact to one in a million.

use std::fmt;

/// A part of requests or connections: 0 is none, 1,000,000 is all. Istio's percentages (`0.0001` steps) fit exactly.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Share(u32);

impl Share {
    /// All of them.
    pub const ALL: Self = Self(1_000_000);

    /// So many of a million; more than all is all.
    pub fn per_million(parts: u32) -> Self {
        Self(parts.min(Self::ALL.0))
    }

    /// As parts of a million.
    pub fn parts(self) -> u32 {
        self.0
    }

    /// Whether a random number falls into this share.
    pub fn includes(self, random: u64) -> bool {
        (u128::from(random) * 1_000_000) >> 64 < u128::from(self.0)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", f64::from(self.0) / 10_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_random_numbers() {
        assert!(Share::ALL.includes(u64::MAX) && Share::ALL.includes(0));
        assert!(!Share::per_million(0).includes(0));
        assert!(Share::per_million(500_000).includes(u64::MAX / 2 - 1_000_000_000_000_000));
        assert!(!Share::per_million(500_000).includes(u64::MAX / 2 + 1_000_000_000_000_000));
        assert_eq!(Share::per_million(125_000).to_string(), "12.5 %");
    }
}
